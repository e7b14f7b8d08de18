"""How many events wait for their answer, and how old the oldest of them is, by topic.

An event waits until its answer is committed. Its age is counted from its Kafka timestamp; nothing is asked of Kafka for
that in this thread. Where the oldest event that waits
  - is in a batch whose outcome is not known, its timestamp is known;
  - was not read yet, but others of its partition were within the last second, it is as old as the last of them or
    younger, and that is what is said (too old by the distance of two neighbouring records at most);
  - stands in a partition that does not move (paused, or nothing can be read), `LagReader` looks its timestamp
    up; until it has, the age is counted from when the event was first seen to wait (too young).
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from muse_stream.kafka import Position, Standing, TopicPartitionKey

Stamps = Mapping[TopicPartitionKey, tuple[int, int, int]]
"""Partition -> offset and timestamp of the first record of a batch, timestamp of the last; milliseconds."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in one topic, as far as this worker has its partitions."""

    events: int = 0
    since_s: float | None = None
    """When the oldest was written, in seconds since 1970; None when none waits."""


class Looker(Protocol):
    """Looks at partitions in its own time."""

    def ask(self, places: Mapping[TopicPartitionKey, int | None]) -> None:
        """Look at these, from these offsets, from now on, and at no others."""

    def found(self) -> Mapping[TopicPartitionKey, Standing]:
        """Return what was seen last."""

    def close(self) -> None:
        """End."""


@dataclass(slots=True)
class _Partition:
    """What is known of one partition."""

    taken: deque[tuple[int, int]] = field(default_factory=deque)
    """Offset and timestamp of the first record of each batch that is not known to be committed."""
    last_ms: int = 0
    """Timestamp of the last record that was taken."""
    stood_at: int | None = None
    """Where it stood at the last look."""
    seen_at_s: float = 0.0
    """When an event was first seen to wait there."""


class Backlog:
    """Keeps the books of one worker; not for several threads."""

    def __init__(self, looker: Looker, clock: Callable[[], float] = time.time) -> None:
        self._looker, self._clock = looker, clock
        self._partitions: defaultdict[TopicPartitionKey, _Partition] = defaultdict(_Partition)

    def took(self, stamps: Stamps) -> None:
        """Note the records of a batch."""
        for place, (offset, first_ms, last_ms) in stamps.items():
            known = self._partitions[place]
            known.taken.append((offset, first_ms))
            known.last_ms = last_ms

    def measure(self, positions: Mapping[TopicPartitionKey, Position], paused: Collection[str]) -> dict[str, Waiting]:
        """Return what waits by topic; `positions` are those of the assigned partitions."""
        for gone in self._partitions.keys() - positions.keys():
            del self._partitions[gone]
        now_s, found = self._clock(), self._looker.found()
        waiting: dict[str, Waiting] = {}
        asked: dict[TopicPartitionKey, int | None] = {}
        for place, position in positions.items():
            known, seen = self._partitions[place], _fitting(position, found.get(place))
            one, stands = _waiting(known, position, seen, now_s)
            if stands or place[0] in paused:
                asked[place] = position.answered
            waiting[place[0]] = _sum(waiting.get(place[0], Waiting()), one)
        self._looker.ask(asked)
        return waiting

    def close(self) -> None:
        """Stop looking."""
        self._looker.close()


def _fitting(position: Position, seen: Standing | None) -> Standing | None:
    return seen if seen is not None and position.answered in (None, seen.answered) else None


def _waiting(known: _Partition, position: Position, seen: Standing | None, now_s: float) -> tuple[Waiting, bool]:
    """Return what waits in one partition, and whether the same event waited there at the last look already."""
    answered = position.answered if position.answered is not None else seen.answered if seen else max(position.low, 0)
    high = max(position.high, seen.high if seen else -1)
    while known.taken and known.taken[0][0] < answered:
        known.taken.popleft()
    moved, known.stood_at = known.stood_at != answered, answered
    events = max(0, high - answered)
    if not events or (seen is not None and seen.empty and seen.high == high):
        known.seen_at_s = 0.0
        return Waiting(), False
    stands = known.seen_at_s > 0.0 and not moved
    if not stands:
        known.seen_at_s = now_s
    return Waiting(events, _since_s(known, seen, moved=moved)), stands


def _since_s(known: _Partition, seen: Standing | None, *, moved: bool) -> float:
    if known.taken and known.taken[0][1] > 0:
        return known.taken[0][1] / 1000
    if seen is not None and seen.since_ms is not None:
        return seen.since_ms / 1000
    if moved and known.last_ms > 0:
        return known.last_ms / 1000
    return known.seen_at_s


def _sum(one: Waiting, other: Waiting) -> Waiting:
    since = [part.since_s for part in (one, other) if part.since_s is not None]
    return Waiting(one.events + other.events, min(since, default=None))
