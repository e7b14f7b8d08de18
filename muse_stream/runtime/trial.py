"""One predictor's values before its quantile map, for events as bytes, by the code that scores the stream.

A configuration in which the predictor is live for everybody, and nothing else runs, is compiled as workers compile it;
its maps are left out, so that they may belong to another content. What is fitted is fitted on what this answers.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from muse_stream.calibration import Floats
from muse_stream.config import Document, Loaded, RouteSpec
from muse_stream.errors import Rejected
from muse_stream.runtime.compile import compile_generation
from muse_stream.runtime.event_reader import EventReader
from muse_stream.worker import Batch


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """A predictor's values for some events of one tenant."""

    rows: NDArray[np.int64]
    """Which of the events have one, ascending."""
    aggregate: Floats
    """The value before the quantile map."""
    raw: Mapping[str, Floats]
    """Model -> its own answers."""
    times: NDArray[np.int64]
    """Milliseconds since 1970."""
    rejected: tuple[Rejected, ...]
    """Events that would be dead letters."""


class PredictorTrial:
    """Made once for a predictor; raises ConfigError with what keeps it from running."""

    def __init__(self, loaded: Loaded, predictor: str) -> None:
        document = _alone(loaded.document, predictor)
        compiled = compile_generation(replace(loaded, document=document), 0, "live")
        self._snapshot = compiled.snapshot
        needed = {name: self._snapshot.needs(name).fields for name in document.events}
        self._readers = {
            lane: EventReader(document, lane, compiled.schemas, needed, self._snapshot.texts)
            for lane in document.lanes()
        }
        self._document = document

    def score(self, tenant: str, values: Sequence[bytes | None]) -> Tried:
        """Score framed events of a tenant; never raises for what is in them."""
        topic = self._document.tenant_topics(tenant).events
        now = time.time_ns() // 1_000_000
        count = len(values)
        batch = Batch(
            [topic] * count,
            [0] * count,
            list(range(count)),
            [None] * count,
            list(values),
            lambda: [now] * count,
            lambda: [[]] * count,
        )
        events = self._readers[self._document.tenants[tenant].lane].read(batch, ids=False)
        scored = self._snapshot.execute(events)
        rejected = [
            *events.rejected,
            *(dataclasses.replace(one, row=int(events.rows[one.row])) for one in scored.rejected),
        ]
        if not scored.live:
            nothing = np.empty(0)
            return Tried(np.empty(0, dtype=np.int64), nothing, {}, np.empty(0, dtype=np.int64), tuple(rejected))
        (live,) = scored.live
        raw = {one.name.partition("#")[0]: one.raw for one in live.experts}
        return Tried(events.rows[live.rows], live.aggregate, raw, events.times[live.rows], tuple(rejected))


def _alone(document: Document, predictor: str) -> Document:
    """Return the document with this predictor live for everybody and without maps in it."""
    spec = document.predictors[predictor]
    graph = spec.graph()
    pre = graph.pre_map_node()
    # an event of a tenant without a map would be rejected: so the graph ends before it
    if "nodes" in type(spec).model_fields:
        before = graph.upstream(pre)
        nodes = {name: entry for name, entry in getattr(spec, "nodes", {}).items() if name in before}
        given: dict[str, Any] = {"nodes": nodes, "output": pre}
    else:
        given = {"quantile_map": None}
    parts = {name: getattr(spec, name) for name in type(spec).model_fields}
    predictors = {**document.predictors, predictor: type(spec)(**(parts | given))}  # made anew: a copy keeps its graph
    return document.model_copy(update={"predictors": predictors, "routes": (RouteSpec(live=predictor),)})
