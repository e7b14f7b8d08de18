"""Compiles a document into a plan: every graph of every predictor, merged into one list of distinct operators.

A document, its loaded models and fitted maps, and a role give a plan, or a ConfigError with every problem found.
Operators are keyed by *content* (model hash and binding, beta, weights, curves), so the same computation under two
names is one operator, and it runs once per batch. The live role plans live predictors only; what they compute is the
same.
"""

from collections.abc import Hashable, Mapping, Sequence
from graphlib import CycleError

from msgspec import Struct, field

from muse_stream.calibration import FittedMap, Recalibration
from muse_stream.config import CORRECTIONS, AggregateNode, Document, ModelNode, PredictorGraph, Role
from muse_stream.errors import ConfigError
from muse_stream.scoring.model import Model
from muse_stream.scoring.node_compiler import NodeCompiler
from muse_stream.scoring.operators import Operator
from muse_stream.scoring.plan import Plan, PlannedExpert, PlannedOperator, PlannedPredictor
from muse_stream.scoring.routing import Router, Split
from muse_stream.scoring.selection import Shares


def predictors_needed(document: Document, role: Role) -> tuple[str, ...]:
    """Return the predictors that a role runs, in order of first use by the routes."""
    live = [name for route in document.routes for name in route.live_shares]
    shadow = [one.predictor for route in document.routes for one in route.shadow] if role == "shadow" else []
    return tuple(dict.fromkeys(live + shadow))


def models_needed(document: Document, role: Role) -> set[str]:
    """Return the models that a role runs: the live role loads no model that only shadows use."""
    names = predictors_needed(document, role)
    return {model for name in names for model in document.predictors[name].graph().models()}


def plan(
    document: Document,
    models: Mapping[str, Model],
    maps: Mapping[str, FittedMap],
    role: Role,
    recalibrations: Mapping[str, Recalibration] | None = None,
) -> Plan:
    """Compile the plan of one role. Raises ConfigError with all problems."""
    planner = _Planner(document, NodeCompiler(document, models, maps, recalibrations))
    for name in predictors_needed(document, role):
        planner.add(name)
    if planner.nodes.problems:
        raise ConfigError(planner.nodes.problems)
    return planner.program(role)


class _Merged(Struct):
    """A predictor whose nodes have become operators."""

    graph: PredictorGraph
    numbers: dict[str, int]
    reached: frozenset[int]


class _Demand(Struct):
    """Which share of each part's events somebody wants."""

    shares: dict[int, float] = field(default_factory=dict)

    def add(self, part: int, share: float) -> None:
        self.shares[part] = max(share, self.shares.get(part, 0.0))  # samples are nested: the largest holds all

    def key(self) -> tuple[tuple[int, float], ...]:
        return tuple(sorted(self.shares.items()))


class _Planner:
    def __init__(self, document: Document, nodes: NodeCompiler) -> None:
        self.nodes = nodes
        self._document = document
        self._steps: list[tuple[Operator, tuple[int, ...]]] = []
        self._known: dict[Hashable, int] = {}
        self._merged: dict[str, _Merged] = {}
        self._selections: dict[tuple[tuple[int, float], ...], int] = {}

    def add(self, name: str) -> None:
        """Merge one predictor's nodes into the operators."""
        path = f"predictors.{name}"
        predictor = self._document.predictors.get(name)
        if predictor is None:
            self.nodes.problem(
                path, "a route names this predictor, and it does not exist", "define it, or change the route"
            )
            return
        graph = predictor.graph()
        missing = {source for node in graph.nodes.values() for source in node.sources} | {graph.output}
        missing -= set(graph.nodes)
        try:
            order = [node for node in graph.order() if node in graph.upstream(graph.output)]
        except CycleError as cycle:
            self.nodes.problem(path, f"nodes form a cycle: {' -> '.join(cycle.args[1])}", "a graph flows one way")
            return
        if missing:
            self.nodes.problem(path, f"no such nodes: {', '.join(sorted(missing))}", "name nodes of this predictor")
            return
        numbers: dict[str, int] = {}
        for node in order:
            inputs = tuple(numbers[source] for source in graph.nodes[node].sources)
            numbers[node] = self._interned(name, graph, node, inputs)
        self._merged[name] = _Merged(graph, numbers, frozenset(numbers.values()))

    def _interned(self, predictor: str, graph: PredictorGraph, node: str, inputs: tuple[int, ...]) -> int:
        compiled = self.nodes.compile(predictor, node, graph.nodes[node])
        if compiled is None:  # changes nothing (beta 1, an aggregate of one), or a problem that was noted
            return inputs[0] if inputs else 0
        content, make = compiled
        key = (content, inputs)
        if key not in self._known:
            self._known[key] = len(self._steps)
            self._steps.append((make(), inputs))
        return self._known[key]

    def program(self, role: Role) -> Plan:
        """Lay out what was merged."""
        demands = self._demands(role)
        per_step = [_Demand() for _ in self._steps]
        for (name, _), demand in demands.items():
            for number in self._merged[name].reached:
                for part, share in demand.shares.items():
                    per_step[number].add(part, share)
        steps = tuple(
            PlannedOperator(step, inputs, self._selection(demand))
            for (step, inputs), demand in zip(self._steps, per_step, strict=True)
        )
        planned: dict[Role, list[PlannedPredictor]] = {"live": [], "shadow": []}
        for (name, as_role), demand in demands.items():
            planned[as_role].append(self._planned(name, self._selection(demand)))
        split = Split([tuple(route.live_shares.values()) for route in self._document.routes])
        shares = Shares([dict(wanted) for wanted in self._selections], split.parts)  # numbered as they stand
        rules = [{name: frozenset(values) for name, values in route.when.items()} for route in self._document.routes]
        tenants = {name: number for number, name in enumerate(self.nodes.tenants)}
        return Plan(Router(rules), split, steps, tuple(planned["live"]), tuple(planned["shadow"]), shares, tenants)

    def _demands(self, role: Role) -> dict[tuple[str, Role], _Demand]:
        demands: dict[tuple[str, Role], _Demand] = {}
        parts = ((live, route) for route in self._document.routes for live in route.live_shares)
        for number, (live, route) in enumerate(parts):
            demands.setdefault((live, "live"), _Demand()).add(number, 1.0)
            for one in route.shadow if role == "shadow" else ():
                if one.predictor != live:
                    demands.setdefault((one.predictor, "shadow"), _Demand()).add(number, one.sample)
        return demands

    def _selection(self, demand: _Demand) -> int:
        return self._selections.setdefault(demand.key(), len(self._selections))

    def _planned(self, name: str, selection: int) -> PlannedPredictor:
        merged = self._merged[name]
        numbers, graph = merged.numbers, merged.graph
        return PlannedPredictor(
            name=name,
            version=self._document.predictors[name].version,
            selection=selection,
            output=numbers[graph.output],
            aggregate=numbers[graph.pre_map_node()],
            experts=tuple(
                PlannedExpert(label, numbers[raw], numbers[used]) for label, raw, used in _experts(graph, numbers)
            ),
        )


def _experts(graph: PredictorGraph, used: Mapping[str, int]) -> Sequence[tuple[str, str, str]]:
    """Return (name, node of the raw value, node of the corrected value) of each expert, in the order of the graph."""
    readers = {name: [other for other in used if name in graph.nodes[other].sources] for name in used}
    found: list[tuple[str, str, str]] = []
    for name, node in graph.nodes.items():
        if isinstance(node, ModelNode) and name in used:
            corrected = [last for other in readers[name] for last in _corrected(graph, readers, other)]
            read_raw = any(isinstance(graph.nodes[other], AggregateNode) for other in readers[name])
            found += [(node.model, name, last) for last in corrected]
            if read_raw or not corrected:
                found.append((node.model, name, name))
    names = [model for model, _, _ in found]
    return [(model if names.count(model) == 1 else f"{model}#{last}", raw, last) for model, raw, last in found]


def _corrected(graph: PredictorGraph, readers: Mapping[str, Sequence[str]], node: str) -> list[str]:
    """Return the last of the corrections, one after the other, that begin with a node; none where it is none."""
    if not isinstance(graph.nodes[node], CORRECTIONS):
        return []
    return [last for other in readers[node] for last in _corrected(graph, readers, other)] or [node]
