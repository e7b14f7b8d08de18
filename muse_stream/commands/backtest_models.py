"""What a backtest scores with: a configuration's predictors without their maps, on the path of the workers.

Each predictor is taken twice: up to its quantile map (`aggregate`), and with its experts as they answer (`raw`, no
correction of any kind). Both are graphs of the same nodes, so every model runs once. Or no model runs at all, and the
scores stand in a column of the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from muse_stream.calibration import Floats
from muse_stream.config import (
    CORRECTIONS,
    Document,
    GraphPredictor,
    Loaded,
    NodeSpec,
    PredictorGraph,
    RouteSpec,
)
from muse_stream.models import ModelCache
from muse_stream.runtime.compile import WHOLE, load_models
from muse_stream.scoring import Snapshot, compile_snapshot

RAW, AGGREGATE = "raw", "aggregate"


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """One predictor's answers to some rows."""

    raw: Floats
    """NaN where there is none."""
    aggregate: Floats
    experts: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict)
    """Expert -> its raw and its corrected score."""


class Scorer(Protocol):
    """Gives scores before the quantile map."""

    @property
    def columns(self) -> Mapping[str, str]:
        """What it reads: name -> column of the file."""

    def score(self, columns: Mapping[str, Any], tenant: NDArray[Any], names: Sequence[str]) -> dict[str, Answers]:
        """Score rows with some predictors."""


class ModelScorer:
    """Runs the models of a configuration."""

    def __init__(self, loaded: Loaded, predictors: Sequence[str], renamed: Mapping[str, str]) -> None:
        """Compile; `renamed` has the file's column for a field where the names differ. Raises ConfigError."""
        self._loaded = loaded
        self._cache = ModelCache()
        self._snapshots: dict[tuple[str, ...], Snapshot] = {}
        self._renamed = renamed
        whole = self._snapshot(tuple(predictors))
        self._fields = sorted(whole.fields)

    @property
    def columns(self) -> Mapping[str, str]:
        """The feature fields."""
        return {name: self._renamed.get(name, name) for name in self._fields}

    def score(self, columns: Mapping[str, Any], tenant: NDArray[Any], names: Sequence[str]) -> dict[str, Answers]:
        """Score rows with some predictors."""
        snapshot = self._snapshot(tuple(names))
        given: dict[str, Any] = {name: columns[column] for name, column in self.columns.items()}
        table = snapshot.table({**given, "tenant": tenant})
        scored = snapshot.execute(table)
        found: dict[str, tuple[Floats, dict[str, tuple[Floats, Floats]]]] = {}
        for one in (*scored.live, *scored.shadow):
            score = _spread(one.score, one.rows, table.count)
            experts = {
                expert.name: (
                    _spread(expert.raw, one.rows, table.count),
                    _spread(expert.corrected, one.rows, table.count),
                )
                for expert in one.experts
            }
            found[one.predictor] = score, experts
        nothing: tuple[Floats, dict[str, tuple[Floats, Floats]]] = (np.full(table.count, np.nan), {})
        return {
            name: Answers(
                found.get(f"{name}:{RAW}", nothing)[0],
                found.get(f"{name}:{AGGREGATE}", nothing)[0],
                found.get(f"{name}:{AGGREGATE}", nothing)[1],
            )
            for name in names
        }

    def _snapshot(self, names: tuple[str, ...]) -> Snapshot:
        if names not in self._snapshots:
            document = unmapped(self._loaded.document, names)
            curves = self._loaded.fitted.recalibrations
            models = load_models(replace(self._loaded, document=document), WHOLE, self._cache)
            self._snapshots[names] = compile_snapshot(document, models, {}, curves, number=0, role=WHOLE)
        return self._snapshots[names]


def _spread(values: Floats, rows: NDArray[np.int64], count: int) -> Floats:
    if len(rows) == count:
        return values
    whole = np.full(count, np.nan)
    whole[rows] = values
    return whole


class ColumnScorer:
    """Takes scores from a column of the file."""

    def __init__(self, column: str) -> None:
        self._column = column

    @property
    def columns(self) -> Mapping[str, str]:
        """The column of scores."""
        return {self._column: self._column}

    def score(self, columns: Mapping[str, Any], tenant: NDArray[Any], names: Sequence[str]) -> dict[str, Answers]:
        """Return the column, as every predictor's."""
        scores = np.asarray(columns[self._column].to_numpy(zero_copy_only=False), dtype=np.float64)
        return {name: Answers(scores, scores) for name in names}


def unmapped(document: Document, names: Sequence[str]) -> Document:
    """Return a document whose one route runs some predictors up to their maps, with and without corrections."""
    predictors = {}
    for name in names:
        graph = document.predictors[name].graph()
        version = document.predictors[name].version
        predictors[f"{name}:{AGGREGATE}"] = _predictor(graph, graph.pre_map_node(), version, bare=False)
        predictors[f"{name}:{RAW}"] = _predictor(graph, graph.pre_map_node(), version, bare=True)
    first, *others = predictors
    route = RouteSpec.model_validate({"live": "x", "shadow": []}).model_copy(
        update={"live": first, "shadow": RouteSpec.model_validate({"live": "x", "shadow": ["y"] * len(others)}).shadow}
    )
    shadows = tuple(
        one.model_copy(update={"predictor": other}) for one, other in zip(route.shadow, others, strict=True)
    )
    routes = (route.model_copy(update={"shadow": shadows}),)
    return document.model_copy(update={"predictors": predictors, "routes": routes, "maps": {}})


@dataclass(frozen=True, slots=True)
class _Unmapped:
    """Stands for a predictor: its graph and version are all that is asked of it."""

    version: int
    nodes: PredictorGraph

    def graph(self) -> PredictorGraph:
        return self.nodes


def _predictor(graph: PredictorGraph, output: str, version: int, *, bare: bool) -> _Unmapped:
    """Return the part of a graph that leads to a node; `bare`: with every correction passed over."""

    def source(name: str) -> str:
        node = graph.nodes[name]
        return source(node.input) if bare and isinstance(node, CORRECTIONS) else name

    nodes: dict[str, NodeSpec] = {}
    for name in graph.order():
        node = graph.nodes[name]
        if bare and isinstance(node, CORRECTIONS):
            continue
        if hasattr(node, "input"):
            node = node.model_copy(update={"input": source(node.input)})
        elif hasattr(node, "inputs"):
            node = node.model_copy(update={"inputs": tuple(source(one) for one in node.inputs)})
        nodes[name] = node
    top = source(output)
    reached = PredictorGraph(nodes, top).upstream(top)
    return _Unmapped(version, PredictorGraph({name: node for name, node in nodes.items() if name in reached}, top))


__all__ = ["Answers", "ColumnScorer", "GraphPredictor", "ModelScorer", "Scorer", "unmapped"]
