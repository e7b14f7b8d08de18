"""What stands in for the rooms above and beside `muse_stream.worker` in its tests.

An echo `Scorer` whose answers say which record they answer, a log that is a list, a counting meter, and a clock that
moves by hand. An answer names its source (`topic|partition|offset|attempt|generation`), so that a reader can count it
without trusting the worker.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from muse_stream.errors import Reason, Rejected, Stage
from muse_stream.worker.backlog import Waiting
from muse_stream.worker.batch import Batch, BatchLimits, DeadLetter, Origin, Records, Scorer, Tally, Topology
from muse_stream.worker.latency import Sample
from tests.failure_report import LAST
from tests.patience import PATIENCE, until


@dataclass
class ListLog:
    """Implements `intake.Log`."""

    events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def _take(self, level: str, event: str, facts: dict[str, Any]) -> None:
        with self.changed:
            self.events.append((level, event, facts))
            self.changed.notify_all()

    def debug(self, event: str, **facts: Any) -> None:
        self._take("debug", event, facts)

    def info(self, event: str, **facts: Any) -> None:
        self._take("info", event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        self._take("warning", event, facts)

    def error(self, event: str, **facts: Any) -> None:
        self._take("error", event, facts)

    def said(self, event: str) -> list[dict[str, Any]]:
        return [facts for _, name, facts in list(self.events) if name == event]

    def tail(self) -> str:
        """Return what was said last, a line each."""
        return "\n".join(f"{level} {event} {facts}" for level, event, facts in self.events[-LAST:])

    def await_said(self, event: str, times: int = 1, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        with self.changed:
            enough = self.changed.wait_for(lambda: len(self.said(event)) >= times, PATIENCE * timeout_s)
        assert enough, f"{event} not said {times} times within {PATIENCE * timeout_s} s; said: {self.events}"
        return self.said(event)


class CountingMeter:
    """Implements `worker.Meter`."""

    def __init__(self) -> None:
        self.events = 0
        self.committed_events = 0
        self.aborts: list[str] = []
        self.letters: Counter[str] = Counter()
        self.generations: list[int] = []
        self.lags: list[int] = []
        self.batches: list[int] = []
        self.waits: Mapping[str, Waiting] = {}
        self.first_waits: Mapping[str, Waiting] | None = None
        self.paused_topics: frozenset[str] = frozenset()
        self.hangs: list[int] = []
        self.ended: list[tuple[int, int]] = []
        self.stage_names: set[str] = set()
        self.samples: list[tuple[Sample, int, float]] = []
        self.swaps = 0
        self.rebalances: Counter[str] = Counter()

    def serving(self, scorer: Scorer) -> None:
        self.generations.append(scorer.number)

    def scored(self, events: int, seconds: float) -> None:
        self.events += events
        self.batches.append(events)

    def committed(self, events: int, tally: Tally | None, seconds: float | None) -> None:
        self.committed_events += events
        for (_tenant, reason), count in tally.letters.items() if tally else ():
            self.letters[reason] += count

    def stages(self, seconds: Mapping[str, float]) -> None:
        self.stage_names |= seconds.keys()

    def latency(self, sample: Sample, events: int, at_s: float) -> None:
        self.samples.append((sample, events, at_s))

    def swapped(self, seconds: float) -> None:
        self.swaps += 1

    def rebalanced(self, events: Mapping[str, int]) -> None:
        self.rebalances.update(events)

    def aborted(self, code: str) -> None:
        self.aborts.append(code)

    def waiting(self, waiting: Mapping[str, Waiting]) -> None:
        self.waits = waiting
        self.first_waits = waiting if self.first_waits is None else self.first_waits
        self.lags.append(sum(one.events for one in waiting.values()))

    def paused(self, event_topics: Mapping[str, str]) -> None:
        self.paused_topics = frozenset(event_topics)

    def hanging(self, partitions: int) -> None:
        self.hangs.append(partitions)

    def hanging_ended(self, records: int, copied: int) -> None:
        self.ended.append((records, copied))


@dataclass(frozen=True)
class Route:
    """Where an event topic's answers and dead letters go."""

    scores: str
    dlq: str


class Echo:
    """Implements `records.Scorer`: one answer an event, or a dead letter where `refuse(value)`."""

    def __init__(
        self,
        routes: dict[str, Route],
        *,
        number: int = 1,
        refuse: Callable[[bytes | None], bool] = lambda _value: False,
        padding: Callable[[bytes | None], int] = lambda _value: 0,
        before: Callable[[Batch], None] = lambda _batch: None,
        limits: BatchLimits | None = None,
        elsewhere: Mapping[str, str] | None = None,
        groups: Iterable[str] = (),
    ) -> None:
        self.number, self._routes, self._refuse, self._padding, self._before = number, routes, refuse, padding, before
        self.limits = limits or BatchLimits()
        self.topology = Topology(
            {event: frozenset({route.scores, route.dlq}) for event, route in routes.items()},
            {event: route.dlq for event, route in routes.items()},
            {event: (event,) for event in routes},
            elsewhere=elsewhere or {},
            groups=frozenset(groups),
        )
        self.book = None
        self.attempts: list[int] = []

    def score(self, batch: Batch, attempt: int) -> Records:
        self._before(batch)
        self.attempts.append(attempt)
        outgoing, dead = Records(), []
        for row, value in enumerate(batch.values):
            route = self._routes[batch.topics[row]]
            if self._refuse(value):
                rejected = Rejected(row, Reason.UNDECODABLE, Stage.DECODE, "refused by the test")
                dead.append(DeadLetter(rejected, route.dlq))
                continue
            source = f"{batch.topics[row]}|{batch.partitions[row]}|{batch.offsets[row]}|{attempt}|{self.number}|"
            outgoing.rows.append(row)
            outgoing.topics.append(route.scores)
            outgoing.values.append(source.encode() + random.Random(row).randbytes(self._padding(value)))
        return replace(outgoing, dead=dead)

    def answers(self, topic: str, event: bytes | None, answer: bytes | None) -> bool:
        """An answer names no id; the keys tell whether it is about the event."""
        return True

    def origins(self, values: Sequence[bytes | None]) -> list[Origin | None]:
        return [_origin(value) for value in values]


def _origin(value: bytes | None) -> Origin | None:
    parts = (value or b"").split(b"|")
    if len(parts) < 5:
        return None
    return Origin(parts[0].decode(), int(parts[1]), int(parts[2]), int(parts[3]))


@dataclass
class Clock:
    """A monotonic clock moved by hand."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


def raw(
    values: Iterable[bytes | None], *, topic: str = "events", partitions: list[int] | None = None, **given: Any
) -> Batch:
    """Return a batch of records of one topic, offsets counted from 100."""
    rows = list(values)
    return Batch(
        topics=given.get("topics", [topic] * len(rows)),
        partitions=partitions or [0] * len(rows),
        offsets=list(range(100, 100 + len(rows))),
        keys=given.get("keys", [None] * len(rows)),
        values=rows,
        timestamps=lambda: [1_700_000_000_000 + row for row in range(len(rows))],
        headers=lambda: given.get("headers", [[] for _ in rows]),
    )


def await_true(condition: Callable[[], Any], what: str | Callable[[], str], timeout_s: float = 20.0) -> None:
    """Poll a condition that nothing announces; `what` may be asked when it did not come."""
    until(condition, timeout_s, what if callable(what) else lambda: what)


def threads(name: str) -> list[threading.Thread]:
    """The living threads of this name."""
    return [one for one in threading.enumerate() if one.name == name]
