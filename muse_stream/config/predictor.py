"""Predictors, in the short form (experts, corrections, aggregation, map) and the general one (a graph of nodes).

`.graph()` gives the one form of both. The short form implies the graph that a person would write for it: no correction
node where beta is 1, no aggregation over a single expert, no map node without a `quantile_map`.
"""

from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from muse_stream.config.fields import Beta, Integer, Name, SpecModel, Weight, fault
from muse_stream.config.graph import (
    WEIGHTED,
    AggregateNode,
    ClipNode,
    CorrectionNode,
    How,
    MapNode,
    MapRefs,
    ModelNode,
    NodeSpec,
    PredictorGraph,
    PriorCorrectionNode,
    RecalibrationNode,
)

Version = Annotated[Integer, Field(ge=1)]


class ExpertSpec(SpecModel):
    """One expert of a short predictor."""

    model: Name
    """A model of this document."""
    beta: Beta = 1.0
    """Share of the negatives that were kept in training; 1 means no correction. Above 1 where positives are more
    frequent than in training: the odds of a positive now, over the odds in training."""
    weight: Weight = 1.0
    """Weight in `mean` and `logit_mean`, at least 0."""


class MetaModel(SpecModel):
    """Aggregation by a model over the experts' corrected scores."""

    model: Name
    """A model of this document with one feature per expert, in their order."""


def _aggregate_form(value: Any) -> str:
    return "form:how" if isinstance(value, str) else "form:model"


Aggregate = Annotated[
    Annotated[How, Tag("form:how")] | Annotated[MetaModel, Tag("form:model")], Discriminator(_aggregate_form)
]
"""A built-in aggregation by its name, or a meta-model."""


class ShortPredictor(SpecModel):
    """A predictor in the short form: experts, each corrected, then combined, then mapped."""

    version: Version
    """Version of this predictor, from 1; written into every record of it."""
    experts: Annotated[tuple[ExpertSpec, ...], Field(min_length=1)]
    """The models that score an event."""
    aggregate: Aggregate = "mean"
    """mean, logit_mean, max, min, median, or `{model: NAME}` for a meta-model."""
    quantile_map: MapRefs | None = None
    """Level 2; without it the score is the aggregate."""

    @model_validator(mode="after")
    def _weights_mean_something(self) -> Self:
        weights = [expert.weight for expert in self.experts]
        if not any(weights):
            raise fault("all weights are zero", "at least one weight is above 0")
        if self.aggregate not in WEIGHTED and any(weight != 1.0 for weight in weights):
            raise fault(
                "weights mean nothing in this aggregation", "weights belong to mean and logit_mean: remove them"
            )
        return self

    def graph(self) -> PredictorGraph:
        """Return the predictor as a graph; node names are the YAML paths of what they stand for."""
        return self._graph

    @cached_property
    def _graph(self) -> PredictorGraph:
        nodes: dict[str, NodeSpec] = {}
        corrected: list[str] = []
        for position, expert in enumerate(self.experts):
            name = f"experts[{position}]"
            nodes[name] = ModelNode(model=expert.model)
            if expert.beta != 1.0:
                nodes[f"{name}.beta"] = CorrectionNode(input=name, beta=expert.beta)
                name = f"{name}.beta"
            corrected.append(name)
        output = corrected[0]
        if isinstance(self.aggregate, MetaModel):
            output = "aggregate"
            nodes[output] = AggregateNode(model=self.aggregate.model, inputs=tuple(corrected))
        elif len(corrected) > 1:
            output = "aggregate"
            weights = tuple(expert.weight for expert in self.experts) if self.aggregate in WEIGHTED else None
            nodes[output] = AggregateNode(how=self.aggregate, inputs=tuple(corrected), weights=weights)
        if self.quantile_map is not None:
            refs = self.quantile_map
            nodes["quantile_map"] = MapNode(
                input=output, reference=refs.reference, default=refs.default, tenants=refs.tenants
            )
            output = "quantile_map"
        return PredictorGraph(nodes, output)

    def where(self, node: str) -> tuple[str | int, ...]:
        """Return the YAML path of a node of `graph()`, below the predictor."""
        if not node.startswith("experts["):
            return (node,)
        position, _, rest = node.removeprefix("experts[").partition("]")
        return ("experts", int(position), "beta") if rest else ("experts", int(position))


class NodeEntry(SpecModel):
    """One node of a graph: exactly one kind."""

    model: Name | None = None
    """The raw probability of a model."""
    posterior_correction: CorrectionNode | None = None
    """Level 1: undoes the undersampling of negatives."""
    prior_correction: PriorCorrectionNode | None = None
    """Corrects for another share of positives than the one in training."""
    recalibration: RecalibrationNode | None = None
    """A curve fitted to labelled events, for an expert whose distortion is more than undersampling."""
    aggregate: AggregateNode | None = None
    """Combines several nodes."""
    quantile_map: MapNode | None = None
    """Level 2: maps to a reference distribution."""
    clip: ClipNode | None = None
    """Bounds a score."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        kinds = list(type(self).model_fields)
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise fault(
                f"{' and '.join(given) if given else 'no kind'} given", f"give exactly one of {', '.join(kinds)}"
            )
        return self

    def node(self) -> NodeSpec:
        """Return the node that is given."""
        if self.model is not None:
            return ModelNode(model=self.model)
        if self.aggregate is not None:
            return self.aggregate.explicit()
        given = (
            self.posterior_correction or self.prior_correction or self.recalibration or self.quantile_map or self.clip
        )
        assert given is not None  # noqa: S101  # _exactly_one has seen to it
        return given


class GraphPredictor(SpecModel):
    """A predictor in the general form: named nodes and the name of the one that is the score."""

    version: Version
    """Version of this predictor, from 1; written into every record of it."""
    nodes: Annotated[dict[Name, NodeEntry], Field(min_length=1)]
    """The nodes by name."""
    output: str
    """The node whose value is the score."""

    def graph(self) -> PredictorGraph:
        """Return the predictor as a graph with the names that were given."""
        return self._graph

    @cached_property
    def _graph(self) -> PredictorGraph:
        return PredictorGraph({name: entry.node() for name, entry in self.nodes.items()}, self.output)

    def where(self, node: str) -> tuple[str | int, ...]:
        """Return the YAML path of a node of `graph()`, below the predictor."""
        entry = self.nodes[node]
        kind = next(kind for kind in NodeEntry.model_fields if getattr(entry, kind) is not None)
        return ("nodes", node) if kind == "model" else ("nodes", node, kind)


def _form(value: Any) -> str:
    given = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return "form:graph" if "nodes" in given or "output" in given else "form:short"


PredictorSpec = Annotated[
    Annotated[ShortPredictor, Tag("form:short")] | Annotated[GraphPredictor, Tag("form:graph")], Discriminator(_form)
]
"""A predictor in either form."""
