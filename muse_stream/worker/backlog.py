"""How many events wait for their answer, and how old the oldest of them is, by topic.

An event waits until its answer is committed. What waits is counted up to the high watermark, as `LagReader` looks it up
beside the worker: what the worker's consumer last heard would stay as it was when the broker is silent. Where nothing
was heard for `UNKNOWN_S`, the answer is "not known", never a number. Events that retention has removed do not wait;
they are counted by themselves.

The age is counted from an event's Kafka timestamp. Where the oldest event that waits
  - is in a batch whose outcome is not known, its timestamp is known;
  - was not read yet, but others of its partition were within the last second, it is as old as the last of them or
    younger, and that is what is said (too old by the distance of two neighbouring records at most);
  - stands in a partition that does not move (paused, behind an open transaction, or nothing can be read), `LagReader`
    looks its timestamp up; until it has, the age is counted from when the event was first seen to wait (too young).
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from msgspec import Struct, field

from muse_stream.kafka import Position, Standing, TopicPartitionKey

Stamps = Mapping[TopicPartitionKey, tuple[int, int, int]]
"""Partition -> offset and timestamp of the first record of a batch, timestamp of the last; milliseconds."""
UNKNOWN_S = 10.0
"""What was heard of a partition's end longer ago than this is no longer said."""
REMOVED_S = 5.0
"""So long a position must have stood below the partition's beginning: a batch in hand may still be answered."""


class Waiting(Struct, frozen=True):
    """What waits in one topic, as far as this worker has its partitions."""

    events: int = 0
    since_s: float | None = None
    """When the oldest was written, in seconds since 1970; None when none waits, or none is known to."""
    unknown: bool = False
    """Whether nobody knows how much waits: Kafka has not told lately where some partition ends."""
    readable: int = 0
    """Those that can be read now."""
    held: int = 0
    """Those at or behind the first record of a transaction that their producer has not ended."""
    removed: int = 0
    """Events that retention has removed before they were answered; they are in no other number."""


class Looker(Protocol):
    """Looks at partitions in its own time."""

    def ask(self, places: Mapping[TopicPartitionKey, int | None], standing: Collection[TopicPartitionKey] = ()) -> None:
        """Look at these, from these offsets, from now on, and at no others; at the first record of those that stand."""

    def found(self) -> Mapping[TopicPartitionKey, Standing]:
        """Return what was seen last."""

    @property
    def heard_s(self) -> float | None:
        """When Kafka answered last (monotonic seconds)."""

    def close(self) -> None:
        """End."""


class _Partition(Struct):
    """What is known of one partition."""

    taken: deque[tuple[int, int]] = field(default_factory=deque)
    """Offset and timestamp of the first record of each batch that is not known to be committed."""
    last_ms: int = 0
    """Timestamp of the last record that was taken."""
    stood_at: int | None = None
    """Where it stood at the last look."""
    stood_since_s: float = 0.0
    """Since when it has stood there."""
    seen_at_s: float = 0.0
    """When an event was first seen to wait there."""
    unread_since_s: float | None = None
    """Since when `Looker` has read the event that waits first, and the worker has not (monotonic seconds)."""


class Backlog:
    """Keeps the books of one worker; not for several threads."""

    def __init__(
        self,
        looker: Looker,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._looker, self._clock, self._ticks = looker, clock, ticks
        self._partitions: defaultdict[TopicPartitionKey, _Partition] = defaultdict(_Partition)
        self.partitions: Mapping[TopicPartitionKey, Waiting] = {}
        """What waits in each assigned partition, as measured last."""

    def took(self, stamps: Stamps) -> None:
        """Note the records of a batch."""
        for place, (offset, first_ms, last_ms) in stamps.items():
            known = self._partitions[place]
            known.taken.append((offset, first_ms))
            known.last_ms = last_ms

    def measure(
        self, positions: Mapping[TopicPartitionKey, Position], paused: Collection[str], probe: str | None = None
    ) -> dict[str, Waiting]:
        """Return what waits by topic; `positions` are those of the assigned partitions.

        Where none is assigned, `probe` is a topic to ask about: whether Kafka answers is of interest all the same.
        """
        for gone in self._partitions.keys() - positions.keys():
            del self._partitions[gone]
        now_s, ticks, found = self._clock(), self._ticks(), self._looker.found()
        each: dict[TopicPartitionKey, Waiting] = {}
        standing: set[TopicPartitionKey] = set()
        for place, position in positions.items():
            each[place], stands = _waiting(self._partitions[place], position, found.get(place), now_s, ticks)
            if stands or place[0] in paused:
                standing.add(place)
        asked: dict[TopicPartitionKey, int | None] = {place: one.answered for place, one in positions.items()}
        self._looker.ask(asked or ({(probe, 0): None} if probe else {}), standing)
        self.partitions = each
        waiting: dict[str, Waiting] = {}
        for (topic, _partition), one in each.items():
            waiting[topic] = _sum(waiting.get(topic, Waiting()), one)
        return waiting

    def unread(self) -> dict[TopicPartitionKey, float]:
        """Return since when (monotonic seconds) `Looker` reads what waits first in a partition, and we do not.

        As measured last; partitions of which something is in hand are left out.
        """
        since = {place: one.unread_since_s for place, one in self._partitions.items() if not one.taken}
        return {place: at_s for place, at_s in since.items() if at_s is not None}

    def found(self) -> Mapping[TopicPartitionKey, Standing]:
        """Return what was looked up last."""
        return self._looker.found()

    @property
    def heard_s(self) -> float | None:
        """When Kafka answered last (monotonic seconds); None: never."""
        return self._looker.heard_s

    def close(self) -> None:
        """Stop looking."""
        self._looker.close()


def _waiting(
    known: _Partition, position: Position, seen: Standing | None, now_s: float, ticks: float
) -> tuple[Waiting, bool]:
    """Return what waits in one partition, and whether the same event waited there at the last look already."""
    answered = position.answered if position.answered is not None else seen.answered if seen else max(position.low, 0)
    while known.taken and known.taken[0][0] < answered:
        known.taken.popleft()
    moved = known.stood_at != answered
    if moved:
        known.stood_at, known.stood_since_s = answered, ticks
    first = answered
    fits = seen is not None and position.answered in (None, seen.answered)
    if seen is not None:
        first = max(first, seen.low, seen.stable if fits and seen.nothing else 0)
    high = max(position.high, seen.high if seen else -1)
    events = max(0, high - first)
    # an offset behind the end: the topic was made again, or its leader has lost records; nobody knows what waits
    unknown = seen is None or ticks - seen.at_s > UNKNOWN_S or seen.answered > seen.high
    held = max(0, seen.high - max(seen.stable, first)) if seen else 0
    removed = max(0, seen.low - answered) if seen and ticks - known.stood_since_s >= REMOVED_S else 0
    told = fits and not unknown and seen is not None and seen.since_ms is not None
    readable = told and position.flows and not moved and not known.taken and events > held
    known.unread_since_s = (ticks if known.unread_since_s is None else known.unread_since_s) if readable else None
    if not events:
        known.seen_at_s = 0.0
        return Waiting(unknown=unknown, removed=removed), False
    stands = known.seen_at_s > 0.0 and not moved
    if not stands:
        known.seen_at_s = now_s
    since_s = _since_s(known, seen if fits else None, moved=moved)
    return Waiting(events, since_s, unknown, max(0, events - held), held, removed), stands


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
    return Waiting(
        one.events + other.events,
        min(since, default=None),
        one.unknown or other.unknown,
        one.readable + other.readable,
        one.held + other.held,
        one.removed + other.removed,
    )
