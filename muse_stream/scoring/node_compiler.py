"""One node of a predictor's graph as an operator, and the content that makes two nodes the same operator.

Compiling a node gives `(content, make)`, or None for a node that changes nothing. Content holds values, never names. A
map that was fitted for another predictor content is a problem. Problems are collected, so an operator sees all of them
at once.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from muse_stream.calibration import Curves, FittedMap, QuantileMap, Recalibration, Reference, Segments, prior_beta
from muse_stream.config import (
    AggregateNode,
    ClipNode,
    CorrectionNode,
    Document,
    FeatureSpec,
    MapNode,
    ModelNode,
    NodeSpec,
    PriorCorrectionNode,
    RecalibrationNode,
    ReferenceSpec,
    pre_map_hash,
)
from muse_stream.errors import Problem
from muse_stream.scoring.aggregation import combiner
from muse_stream.scoring.features import Binding, Feature, Tensor, fits
from muse_stream.scoring.model import Model
from muse_stream.scoring.operators import (
    AggregateOperator,
    ClipOperator,
    CorrectionOperator,
    MapOperator,
    MetaModelOperator,
    ModelOperator,
    Operator,
    PriorCorrectionOperator,
    RecalibrationOperator,
)

Compiled = tuple[Hashable, Callable[[], Operator]]


def reference_from(spec: ReferenceSpec) -> Reference:
    """Build the distribution a document promises. Raises ValueError."""
    if spec.alert_rates is not None:
        return Reference.from_alert_rates(spec.alert_rates)
    if spec.quantiles is not None:
        return Reference.from_quantiles(spec.quantiles.levels, spec.quantiles.values)
    return Reference.beta_mixture([(one.weight, one.a, one.b) for one in spec.beta_mixture or ()])


class NodeCompiler:
    """Compiles nodes of all predictors of one document; `problems` holds what was wrong."""

    def __init__(
        self,
        document: Document,
        models: Mapping[str, Model],
        maps: Mapping[str, FittedMap],
        recalibrations: Mapping[str, Recalibration] | None = None,
    ) -> None:
        self.problems: list[Problem] = []
        self.tenants = _tenants(document)
        self._document = document
        self._models = models
        self._maps = maps
        self._recalibrations = recalibrations or {}
        self._bindings: dict[tuple[Tensor, ...], Binding] = {}
        self._references: dict[str, Reference] = {}
        self._curves = Curves()
        """Of all quantile maps: many predictors are mapped at once."""

    def problem(self, path: str, message: str, hint: str) -> None:
        """Note a problem, once."""
        found = Problem(path, message, hint)
        if found not in self.problems:
            self.problems.append(found)

    def compile(self, predictor: str, name: str, node: NodeSpec) -> Compiled | None:
        """Return what a node is and how to make its operator; None when it changes nothing or was a problem."""
        compiled: Compiled | None = None
        match node:
            case ModelNode():
                compiled = self._expert(node.model)
            case CorrectionNode(beta=beta):
                compiled = None if beta == 1.0 else (("correction", beta), lambda: CorrectionOperator(beta))
            case PriorCorrectionNode():
                compiled = self._prior_correction(node)
            case RecalibrationNode():
                compiled = self._recalibration(predictor, name, node)
            case AggregateNode():
                compiled = self._aggregate(node)
            case ClipNode(low=low, high=high):
                compiled = ("clip", low, high), lambda: ClipOperator(low, high)
            case MapNode():
                compiled = self._map(predictor, name, node)
        return compiled

    def tensors(self, name: str, model: Model) -> tuple[Tensor, ...] | None:
        """Bind a model's inputs to features by name; None when they do not fit (noted as problems)."""
        path = f"models.{name}.inputs"
        declared = self._document.models[name].inputs
        offered = {one.name: one for one in model.inputs}
        for extra in sorted(set(declared) - set(offered)):
            self.problem(f"{path}.{extra}", "the model has no such input", f"its inputs: {', '.join(sorted(offered))}")
        for absent in sorted(set(offered) - set(declared)):
            self.problem(path, f"input {absent} of the model is not bound", f"add `{absent}:` with its features")
        if set(declared) != set(offered):
            return None
        bound = []
        for one in model.inputs:
            features = declared[one.name]
            if len(features) != one.width:
                hint = f"list {one.width}, in the order of training"
                self.problem(f"{path}.{one.name}", f"{len(features)} features for an input of width {one.width}", hint)
            for place, feature in enumerate(features):
                for message, hint in self._misfits(feature, one.dtype):
                    self.problem(f"{path}.{one.name}[{place}]", message, hint)
            bound.append(Tensor(tuple(self._feature(feature) for feature in features), one.dtype))
        return tuple(bound)

    def _misfits(self, feature: FeatureSpec, dtype: np.dtype[Any]) -> Iterator[tuple[str, str]]:
        """Yield what a feature says that its tensor's type cannot hold."""
        named = "strings" if dtype.kind == "O" else str(dtype)
        if dtype.kind in "iubO" and feature.default is None and not feature.required:
            value = 'a text, `default: "missing"`,' if dtype.kind == "O" else "`default`"
            yield f"a missing value cannot be fed: the model takes {named}", f"give {value} or `required: true`"
        if dtype.kind == "O":
            if feature.categories is not None:
                yield "the model takes strings, and a category table makes numbers", "leave `categories` out"
            if isinstance(feature.default, float):
                yield f"default {feature.default:g} is a number, and the model takes strings", "put it in quotes"
            return
        if isinstance(feature.default, str):
            yield f"default '{feature.default}' is a text, and the model takes {named}", "give a number"
        elif feature.default is not None and not fits(feature.default, dtype):
            yield f"default {feature.default:g} cannot be {named}", f"give a number that {named} holds exactly"
        table = {} if feature.categories is None else self._document.categories.get(feature.categories, {})
        wrong = [f"{text}: {number:g}" for text, number in table.items() if not fits(number, dtype)]
        if wrong:
            message = f"category table {feature.categories} has what cannot be {named}: {', '.join(wrong[:3])}"
            yield message, f"give numbers that {named} holds exactly"

    def _feature(self, spec: FeatureSpec) -> Feature:
        table = None if spec.categories is None else self._document.categories[spec.categories]
        return Feature(spec.field, spec.default, spec.required, None if table is None else tuple(sorted(table.items())))

    def _loaded(self, name: str) -> Model | None:
        if name not in self._document.models:
            self.problem(f"models.{name}", "a predictor uses this model, and it does not exist", "define it")
            return None
        if name not in self._models:
            self.problem(f"models.{name}", "the model was not loaded", "load all of models_needed()")
            return None
        return self._models[name]

    def _expert(self, name: str) -> Compiled | None:
        model = self._loaded(name)
        tensors = None if model is None else self.tensors(name, model)
        if model is None or tensors is None:
            return None
        binding = self._bindings.setdefault(tensors, Binding(tensors))
        return ("model", self._artifact(name), tensors), lambda: ModelOperator(name, model, binding)

    def _artifact(self, name: str) -> Hashable:
        spec = self._document.models[name]
        data = None if spec.data is None else spec.data.sha256
        output = spec.output
        return self._models[name].sha256, data, output.name, output.positive, output.link, output.scale

    def _aggregate(self, node: AggregateNode) -> Compiled | None:
        if node.model is not None:
            return self._meta(node.model, len(node.inputs))
        if len(node.inputs) == 1 or node.how is None:
            return None  # the mean, median, highest of one score is that score, to the bit
        how, weights, arity = node.how, node.weights, len(node.inputs)
        return ("aggregate", how, weights), lambda: AggregateOperator(combiner(how, weights, arity))

    def _meta(self, name: str, arity: int) -> Compiled | None:
        model = self._loaded(name)
        if model is None:
            return None
        width = sum(one.width for one in model.inputs)
        if width != arity:
            self.problem(f"models.{name}", f"a meta-model of {width} scores aggregates {arity} experts", "match them")
            return None
        for one in model.inputs:
            if one.dtype.kind != "f":
                named = "strings" if one.dtype.kind == "O" else str(one.dtype)
                message = f"a meta-model reads scores, and its input {one.name} takes {named}"
                self.problem(f"models.{name}.inputs.{one.name}", message, "export it with float inputs")
                return None
        starts = self._experts_of(name, model)
        return (
            None
            if starts is None
            else (("meta", self._artifact(name), starts), lambda: MetaModelOperator(name, model, starts))
        )

    def _experts_of(self, name: str, model: Model) -> tuple[int, ...] | None:
        """Return the first expert of each input of a meta-model: the document lists inputs in the experts' order."""
        declared = self._document.models[name].inputs
        widths = {one.name: one.width for one in model.inputs}
        if {key: len(features) for key, features in declared.items()} != widths:
            hint = ", ".join(f"{key}: {width} scores" for key, width in widths.items())
            self.problem(f"models.{name}.inputs", "the meta-model's inputs are others", hint)
            return None
        starts = dict(zip(declared, accumulate((widths[key] for key in declared), initial=0), strict=False))
        return tuple(starts[one.name] for one in model.inputs)

    def _prior_correction(self, node: PriorCorrectionNode) -> Compiled | None:
        priors = [*(node.prior_of(tenant) for tenant in self.tenants), node.prior]  # the last: unknown tenants
        betas = tuple(1.0 if prior is None else prior_beta(node.trained, prior) for prior in priors)
        if set(betas) == {1.0}:
            return None
        return ("prior_correction", betas), lambda: PriorCorrectionOperator(np.array(betas, dtype=np.float64))

    def _recalibration(self, predictor: str, name: str, node: RecalibrationNode) -> Compiled | None:
        of_tenant = [*(node.curve_of(tenant) for tenant in self.tenants), node.default]
        names = sorted({one for one in of_tenant if one is not None})
        wanted = pre_map_hash(self._document, predictor, name)
        curves = [self._stored_curve(f"predictors.{predictor}", one, wanted) for one in names]
        knots = [(curve.scores, curve.probabilities) for curve in curves if curve is not None]
        if len(knots) < len(names):
            return None
        which = tuple(-1 if one is None else names.index(one) for one in of_tenant)
        content = ("recalibration", which, tuple((x.tobytes(), y.tobytes()) for x, y in knots))
        return content, lambda: RecalibrationOperator(Segments(knots), np.array(which, dtype=np.intp))

    def _stored_curve(self, user: str, name: str, wanted: str) -> Recalibration | None:
        stored = self._recalibrations.get(name)
        if stored is None:
            message = f"{user} uses this recalibration, and it was not loaded"
            self.problem(f"recalibrations.{name}", message, "define it under `recalibrations`")
        elif stored.fitted_for != wanted:
            message = f"fitted for content {stored.fitted_for[:12]}, and {user} is another"
            self.problem(f"recalibrations.{name}", message, "fit it again, on the scores before this node")
            return None
        return stored

    def _map(self, predictor: str, name: str, node: MapNode) -> Compiled | None:
        of_tenant = [*(node.map_of(tenant) for tenant in self.tenants), node.default]  # the last: unknown tenants
        names = sorted({one for one in of_tenant if one is not None})
        wanted = pre_map_hash(self._document, predictor, name)
        curves = [self._curve(f"predictors.{predictor}", one, node.reference, wanted) for one in names]
        fitted = [curve for curve in curves if curve is not None]
        if len(fitted) < len(names):
            return None
        number = {curve: self._curves.add(*one.knots) for curve, one in zip(names, fitted, strict=True)}
        which = tuple(-1 if one is None else number[one] for one in of_tenant)
        # equal curves have one number
        return ("map", which), lambda: MapOperator(self._curves, np.array(which, dtype=np.intp), self.tenants)

    def _curve(self, user: str, name: str, reference: str, wanted: str) -> QuantileMap | None:
        stored = self._maps.get(name)
        if stored is None:
            self.problem(f"maps.{name}", f"{user} uses this map, and it was not loaded", "define it under `maps`")
            return None
        if stored.fitted_for != wanted:
            message = f"fitted for content {stored.fitted_for[:12]}, and {user} is another"
            self.problem(f"maps.{name}", message, "fit it again, on the scores before this map")
            return None
        try:
            return QuantileMap(stored, self._reference(reference))
        except ValueError as error:
            self.problem(f"maps.{name}", str(error), f"a map like that cannot lead to references.{reference}")
            return None

    def _reference(self, name: str) -> Reference:
        if name not in self._references:
            self._references[name] = reference_from(self._document.references[name])
        return self._references[name]


def _tenants(document: Document) -> Sequence[str]:
    """Return every tenant that a node may treat as its own: those of the document and those that nodes name."""
    named = sorted({tenant for predictor in document.predictors.values() for tenant in predictor.graph().tenants()})
    return tuple(dict.fromkeys((*document.tenants, *named)))
