"""The one form of a predictor that the rest of the program sees: a graph of named nodes that ends in one score.

Invariant: both forms of a predictor that mean the same are the same graph up to node names; `mean` and `logit_mean`
always carry explicit weights here. A graph from a checked document has no cycle, no missing and no unreachable node.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Annotated, Literal, Self

from msgspec import Struct
from pydantic import AfterValidator, Field, model_validator

from muse_stream.config.fields import Beta, Name, Prior, Probability, SpecModel, Weight, fault

How = Literal["mean", "logit_mean", "max", "min", "median"]
"""Built-in aggregations."""

WEIGHTED: frozenset[str] = frozenset({"mean", "logit_mean"})
"""Aggregations that weights mean something to."""


def _not_all_zero(weights: tuple[float, ...]) -> tuple[float, ...]:
    if not any(weights):
        raise fault("all weights are zero", "at least one weight is above 0")
    return weights


class ModelNode(SpecModel):
    """The raw probability of one expert."""

    model: Name
    """A model of this document."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the nodes this one reads: none."""
        return ()


class CorrectionNode(SpecModel):
    """Level 1: undoes the undersampling of negatives, `p' = b*p / (1 - (1-b)*p)`."""

    input: str
    """Node that is corrected."""
    beta: Beta
    """Share of the negatives that were kept in training; above 1 where positives are more frequent than in training."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the nodes this one reads."""
        return (self.input,)


class PriorCorrectionNode(SpecModel):
    """Corrects probabilities for a share of positives that is not the one they were calibrated under.

    It multiplies their odds by the ratio of the two shares' odds. A tenant that is not named in `tenants` has `prior`;
    without that, its probabilities stay as they are.
    """

    input: str
    """Node that is corrected."""
    trained: Prior
    """Share of positives that the input's probabilities stand for, after all corrections before this node."""
    prior: Prior | None = None
    """Share of positives among the events of every tenant that is not named in `tenants`."""
    tenants: dict[Name, Prior] = Field(default_factory=dict)
    """Tenant to the share of positives among its events."""

    @model_validator(mode="after")
    def _corrects_something(self) -> Self:
        if self.prior is None and not self.tenants:
            raise fault("no new share of positives is given", "give `prior`, or shares under `tenants`")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the nodes this one reads."""
        return (self.input,)

    def prior_of(self, tenant: str) -> float | None:
        """Return the share of positives among a tenant's events; None where it is not corrected."""
        return self.tenants.get(tenant, self.prior)


class RecalibrationNode(SpecModel):
    """Maps scores to probabilities by a curve that was fitted to labelled events.

    A tenant that is not named in `tenants` has the curve `default`; without that, its scores stay as they are.
    """

    input: str
    """Node that is recalibrated."""
    default: Name | None = None
    """Curve under `recalibrations` for every tenant that is not named in `tenants`."""
    tenants: dict[Name, Name] = Field(default_factory=dict)
    """Tenant to its own curve under `recalibrations`."""

    @model_validator(mode="after")
    def _recalibrates_something(self) -> Self:
        if self.default is None and not self.tenants:
            raise fault("no curve is given", "give `default`, or curves under `tenants`")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the nodes this one reads."""
        return (self.input,)

    def curve_of(self, tenant: str) -> str | None:
        """Return the name of the curve that `tenant` uses; None where its scores stay as they are."""
        return self.tenants.get(tenant, self.default)

    def curves(self) -> set[str]:
        """Return the names of all curves that are used."""
        return set(self.tenants.values()) | ({self.default} if self.default is not None else set())


class AggregateNode(SpecModel):
    """Combines several scores into one, by a formula (`how`) or by a meta-model (`model`)."""

    how: How | None = None
    """mean, logit_mean, max, min or median."""
    model: Name | None = None
    """A meta-model over the inputs, in their order; instead of `how`."""
    inputs: Annotated[tuple[str, ...], Field(min_length=1)]
    """Nodes that are combined; at least one, each once."""
    weights: Annotated[tuple[Weight, ...], AfterValidator(_not_all_zero)] | None = None
    """One weight per input, at least 0, not all 0; for mean and logit_mean only. Without it, all weigh the same."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.how is None) == (self.model is None):
            raise fault("give `how` or `model`, exactly one", "how: mean|logit_mean|max|min|median, or model: NAME")
        if len(set(self.inputs)) != len(self.inputs):
            raise fault("an input is named twice", "name each input once; use weights to count it more")
        if self.weights is None:
            return self
        if self.how not in WEIGHTED:
            raise fault("weights mean nothing here", "weights belong to mean and logit_mean: remove them")
        if len(self.weights) != len(self.inputs):
            raise fault(f"{len(self.weights)} weights for {len(self.inputs)} inputs", "give one weight per input")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the nodes this one reads, in order."""
        return self.inputs

    def explicit(self) -> "AggregateNode":
        """Return the same aggregation with its weights spelt out where weights mean something."""
        if self.weights is None and self.how in WEIGHTED:
            return self.model_copy(update={"weights": (1.0,) * len(self.inputs)})
        return self


class MapRefs(SpecModel):
    """Which reference a quantile map leads to, and which fitted map each tenant uses."""

    reference: Name
    """Distribution under `references` that the scores are mapped to."""
    default: Name | None = None
    """Map under `maps` for every tenant that is not named in `tenants`."""
    tenants: dict[Name, Name] = Field(default_factory=dict)
    """Tenant to its own map under `maps`."""

    def map_of(self, tenant: str) -> str | None:
        """Return the name of the map that `tenant` uses."""
        return self.tenants.get(tenant, self.default)

    def maps(self) -> set[str]:
        """Return the names of all maps that are used."""
        return set(self.tenants.values()) | ({self.default} if self.default is not None else set())


class MapNode(MapRefs):
    """Level 2: maps a score to the reference distribution of its tenant, by quantiles."""

    input: str
    """Node that is mapped."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the nodes this one reads."""
        return (self.input,)


class ClipNode(SpecModel):
    """Bounds a score to [low, high]."""

    input: str
    """Node that is bounded."""
    low: Probability = 0.0
    """Lower bound, in [0, 1] and below `high`."""
    high: Probability = 1.0
    """Upper bound, in [0, 1] and above `low`."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise fault(f"low {self.low} is not below high {self.high}", "low is below high")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the nodes this one reads."""
        return (self.input,)


NodeSpec = ModelNode | CorrectionNode | PriorCorrectionNode | RecalibrationNode | AggregateNode | MapNode | ClipNode

CORRECTIONS = (CorrectionNode, PriorCorrectionNode, RecalibrationNode)
"""Kinds of nodes that turn one score into a truer one."""


class PredictorGraph(Struct, frozen=True, dict=True):
    """A predictor as named nodes and the name of the node that is its score."""

    nodes: Mapping[str, NodeSpec]
    output: str

    def order(self) -> tuple[str, ...]:
        """Return the node names, each after all it reads. Raises graphlib.CycleError."""
        return self._order

    @cached_property
    def _order(self) -> tuple[str, ...]:
        return tuple(TopologicalSorter({name: node.sources for name, node in self.nodes.items()}).static_order())

    def upstream(self, name: str) -> frozenset[str]:
        """Return `name` and every node it depends on; names of missing nodes are left out."""
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            node = waiting.pop()
            if node not in seen and node in self.nodes:
                seen.add(node)
                waiting.extend(self.nodes[node].sources)
        return frozenset(seen)

    def models(self) -> frozenset[str]:
        """Return the names of all models the graph runs, meta-models included."""
        return self.experts() | self.meta_models()

    def experts(self) -> frozenset[str]:
        """Return the names of the models that score events."""
        return frozenset(node.model for node in self.nodes.values() if isinstance(node, ModelNode))

    def meta_models(self) -> frozenset[str]:
        """Return the names of the models that aggregate scores."""
        return frozenset(
            node.model for node in self.nodes.values() if isinstance(node, AggregateNode) and node.model is not None
        )

    def map_nodes(self) -> dict[str, MapNode]:
        """Return the quantile maps by node name."""
        return {name: node for name, node in self.nodes.items() if isinstance(node, MapNode)}

    def recalibration_nodes(self) -> dict[str, RecalibrationNode]:
        """Return the recalibrations by node name."""
        return {name: node for name, node in self.nodes.items() if isinstance(node, RecalibrationNode)}

    def tenants(self) -> set[str]:
        """Return the tenants that a node names."""
        kinds = (MapNode, PriorCorrectionNode, RecalibrationNode)
        return {tenant for node in self.nodes.values() if isinstance(node, kinds) for tenant in node.tenants}

    def promise(self) -> str | None:
        """Return the reference whose distribution the score has; None where none is promised.

        That is the reference of a quantile map at the output, or with nothing but clips after it.
        """
        node = self.nodes.get(self.output)
        while isinstance(node, ClipNode):
            node = self.nodes.get(node.input)
        return node.reference if isinstance(node, MapNode) else None

    def nearest_map(self) -> MapNode | None:
        """Return the quantile map nearest the output; None where no map leads to it."""
        waiting: Iterable[str] = (self.output,)
        seen: set[str] = set()
        while waiting := [name for name in waiting if name in self.nodes and name not in seen]:
            seen.update(waiting)
            for name in waiting:
                node = self.nodes[name]
                if isinstance(node, MapNode):
                    return node
            waiting = [source for name in waiting for source in self.nodes[name].sources]
        return None

    def pre_map_node(self) -> str:
        """Return the node whose value is the pre-mapping aggregate.

        That is the input of the quantile map nearest the output, or the output itself where no map leads to it.
        """
        nearest = self.nearest_map()
        return self.output if nearest is None else nearest.input
