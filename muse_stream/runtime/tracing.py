"""Spans of sampled events: which events get one, and what it says. docs/tracing.md has it for operators.

An event's span is a child of the one that its `traceparent` names, and lasts from the moment its batch was read until
its answer is committed. Each traced batch has a trace of its own with its stages; the spans of its events link to
it.

Invariant: events without a span cost no Python each. Which are drawn is decided by columns, from partition and offset:
the same events in every worker, of either role, and in every attempt. Where headers are read for all of a topic's
events anyway, because its format passes `traceparent` on, what the producer has decided is honoured for each of them.
"""

import time
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from muse_stream import telemetry
from muse_stream.kafka import Message
from muse_stream.telemetry import OpenSpan, Parent, Spans, spans_wanted
from muse_stream.worker import TRACEPARENT, Batch, Header, Records, SlotName

MOST_A_SECOND = 250
"""Spans that a worker makes; one costs some 0.2 ms of CPU, with its export. What is sampled beyond gets none."""
CARRIED = (TRACEPARENT, "tracestate")
SAMPLED = frozenset(bytes([digit]) for digit in b"13579bdf")
"""The last digit of a `traceparent` whose lowest flag is set."""
UNSAMPLED = frozenset("02468ace")
FLAGS_END = 54
IN_TURN = ("decode", "score", "encode", "wait", "send")
"""Stages as they follow each other; `commit` ends with the batch."""
SEMANTIC: Mapping[str, str] = {"messaging.system": "kafka", "messaging.operation.type": "process"}
Rows = NDArray[np.int64]


class EventTracer:
    """Implements `worker.tracer.Tracer`; for the worker's own thread alone."""

    def __init__(self, spans: Spans, group: str, ratio: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`ratio`: share of the events to look at whose topic's headers are not read anyway."""
        self._spans, self._clock = spans, clock
        self._ratio = ratio
        self._fixed = {**SEMANTIC, "messaging.operation.name": "score", "messaging.consumer.group.name": group}
        self._second, self._left = 0, MOST_A_SECOND
        self._limited = 0

    def counts(self) -> dict[str, int]:
        """Return how many spans became what; `limited` are events that got none because too many were sampled."""
        return {**self._spans.counts(), "limited": self._limited}

    def begin(
        self,
        batch: Batch,
        messages: Sequence[Message],
        answer: Records,
        *,
        generation: int,
        attempt: int,
        began_ns: int,
    ) -> "TracedBatch | None":
        """Begin the spans of a batch's sampled events."""
        parents = self._sampled(batch, messages, answer.passed)
        if not parents:
            return None
        of_all = {"muse.generation": generation, "muse.attempt": attempt}
        whole = self._spans.start("batch", began_ns, {"muse.batch.events": len(batch), **of_all})
        about = answer.about(list(parents)) if answer.about is not None else {}
        refused = {one.rejected.row: one for one in answer.dead if one.rejected.row in parents}
        opened = {}
        for row, parent in parents.items():
            facts = {
                **self._fixed,
                "messaging.destination.name": batch.topics[row],
                "messaging.destination.partition.id": str(batch.partitions[row]),
                "messaging.kafka.offset": batch.offsets[row],
                **of_all,
                **about.get(row, {}),
            }
            one = self._spans.start(f"score {batch.topics[row]}", began_ns, facts, parent=parent, of=whole)
            if letter := refused.get(row):
                one.span.set_attribute("muse.tenant", letter.tenant or "")
                one.failed(f"dead letter: {letter.rejected.reason}, at {letter.rejected.stage}")
            opened[row] = one
        return TracedBatch(self._spans, whole, opened, began_ns)

    def _sampled(
        self, batch: Batch, messages: Sequence[Message], passed: Mapping[str, Collection[str]]
    ) -> dict[int, Parent]:
        """Return the rows that get a span, and what each is a part of."""
        drawn = drawn_rows(batch.partitions, batch.offsets, self._ratio)
        flagged = _flagged(batch, {topic for topic, names in passed.items() if TRACEPARENT in names})
        looked_at = sorted({*drawn, *flagged}) if flagged else drawn
        chance, found, left = set(drawn), dict[int, Parent](), self._allowed()
        for place, row in enumerate(looked_at):
            if left <= len(found):
                self._limited += len(looked_at) - place
                break
            carried = _carried(messages[row].headers() or [])  # type: ignore[arg-type]  # a list, as Kafka gave it
            if carried.get(TRACEPARENT, "")[FLAGS_END : FLAGS_END + 1] in UNSAMPLED:
                continue  # of a share of all events, most as a rule: not worth to be read as W3C says
            parent = Parent(carried)
            if parent.sampled or (parent.sampled is None and row in chance):
                found[row] = parent
        if found:
            self._left -= len(found) + len(IN_TURN) + 2
        return found

    def _allowed(self) -> int:
        """Return how many events may get a span now, beside their batch's own."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._left = second, MOST_A_SECOND
        return max(0, self._left - len(IN_TURN) - 2)


class TracedBatch:
    """Implements `worker.tracer.Traced`."""

    def __init__(self, spans: Spans, whole: OpenSpan, opened: Mapping[int, OpenSpan], began_ns: int) -> None:
        self._spans, self._whole, self._opened, self._began_ns = spans, whole, opened, began_ns
        self._stages: Mapping[str, float] = {}
        self.traceparents = {row: one.traceparent for row, one in opened.items()}

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Take in how long each stage took."""
        self._stages = seconds

    def committed(self, cost_s: float | None, at_s: float) -> None:
        """End all spans."""
        at_ns, began = int(at_s * 1e9), self._began_ns
        for one in self._opened.values():
            self._spans.end(one, at_ns)
        for name in IN_TURN:
            if name in self._stages:
                ended = began + int(self._stages[name] * 1e9)
                self._stage(name, began, ended)
                began = ended
        if cost_s is not None:
            self._stage("commit", at_ns - int(cost_s * 1e9), at_ns)
        self._spans.end(self._whole, at_ns)

    def _stage(self, name: str, began_ns: int, ended_ns: int) -> None:
        self._spans.end(self._spans.start(name, began_ns, {}, parent=self._whole), ended_ns)


@contextmanager
def tracing(ratio: float, name: SlotName) -> Iterator[EventTracer | None]:
    """Have a slot's events traced meanwhile; None where the variables of OpenTelemetry turn that off."""
    if not spans_wanted():
        yield None
        return
    facts = {
        "service.instance.id": name.instance,
        "service.version": version("muse-stream"),
        "muse.role": name.role,
        "muse.lane": name.lane,
    }
    spans = Spans(facts, telemetry.logger("spans"))
    try:
        yield EventTracer(spans, name.group, ratio)
    finally:
        spans.close()


def drawn_rows(partitions: Sequence[int], offsets: Sequence[int], ratio: float) -> list[int]:
    """Return the rows that a share of all events falls on: those whose partition and offset hash below it."""
    if ratio <= 0:
        return []
    if ratio >= 1:
        return list(range(len(offsets)))
    mixed = _unsigned(offsets) + _unsigned(partitions) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    rows: list[int] = np.flatnonzero(mixed < np.uint64(ratio * 2.0**64)).tolist()
    return rows


def _unsigned(numbers: Sequence[int]) -> NDArray[np.uint64]:
    return np.frombuffer(array("q", numbers), dtype=np.uint64)


def _flagged(batch: Batch, topics: Collection[str]) -> set[int]:
    """Return the rows of these topics whose producer has decided that their trace is kept."""
    if not topics:
        return set()
    found = {
        row
        for row, headers in enumerate(batch.headers())
        for name, value in headers
        if name == TRACEPARENT and value is not None and value[FLAGS_END : FLAGS_END + 1] in SAMPLED
    }
    return {row for row in found if batch.topics[row] in topics}


def _carried(headers: Sequence[Header]) -> dict[str, str]:
    """Return the headers of trace context, the last of each name."""
    return {name: _text(value) for name, value in headers if name in CARRIED}


def _text(value: bytes | str | None) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value or ""
