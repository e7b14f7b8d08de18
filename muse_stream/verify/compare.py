"""Did every event get exactly one answer, in order, and its own? Pure counting.

Takes, per source partition, the offsets of the events that are really there, and all answers that name this event topic
as their source, with their own positions. Returns findings, each with a count and examples. Numbers, ids and
positions only; no clock, no socket, no assumption that offsets are dense (transactions and compaction leave gaps), no
assumption about the worker but its promise:

    missing       an event with neither a score nor a dead letter
    duplicated    more scores, or more dead letters, than one for an event (the surplus is counted)
    both          a score and a dead letter for one event
    out_of_order  an answer that stands, in its output partition, behind one to a later event of its source partition
    orphaned      an answer to an offset that holds no event
    mismatched    a score that names another event id than the event at its source offset
    foreign       a record of another tenant, or from another tenant's events, in a topic
    ahead         an answer that is visible although its event's offset is not committed
    absent        the event topic does not exist (`verify` adds it)
    hanging       a partition, or the group's offset of one, stands still behind an open transaction (`verify` adds it)
    disagreeing   an audit record with another live score than the published one of the same generation (from `audit`)
    undecodable   a record in an output topic that cannot be read as what belongs there
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

EXAMPLES = 10
Offsets = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise: how often, and where to look."""

    kind: str
    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class SeenEvents:
    """The events of one source partition."""

    low: int
    """First offset the broker still has; answers to older events prove nothing and are not judged."""
    end: int
    """SeenEvents at or beyond this offset are not judged."""
    offsets: Offsets
    """Ascending; `[n]`."""
    ids: NDArray[np.bytes_] | None = None
    """`[n]`, empty where the event cannot be decoded; None when ids were not asked for."""
    tenants: NDArray[np.int32] | None = None
    """`[n]` codes, -1 where unknown; None on a topic of one tenant."""


@dataclass(frozen=True, slots=True, eq=False)
class SeenAnswers:
    """Scores and dead letters of one event topic, in any order; all arrays are `[m]`."""

    partition: NDArray[np.int32]
    """Source partition."""
    offset: Offsets
    """Source offset."""
    dead: NDArray[np.bool_]
    output: NDArray[np.int32]
    """Which output topic it stands in, as a code."""
    out_partition: NDArray[np.int32]
    out_offset: Offsets
    ids: NDArray[np.bytes_]
    """Event id of a score; not looked at for dead letters."""
    tenants: NDArray[np.int32]
    """Tenant of a score as a code of the same table as the events'; not looked at for dead letters."""

    def rows(self, rows: NDArray[np.intp]) -> "SeenAnswers":
        """Return some of them."""
        return SeenAnswers(*(getattr(self, name)[rows] for name in self.__slots__))


@dataclass(slots=True)
class Tally:
    """Findings under way: counts, and the first examples of each kind."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, places: Iterator[str], count: int) -> None:
        """Count `count` more of a kind; takes as many examples as there is room for."""
        if count == 0:
            return
        self.counts[kind] = self.counts.get(kind, 0) + count
        kept = self.examples.setdefault(kind, [])
        kept.extend(place for place, _ in zip(places, range(EXAMPLES - len(kept)), strict=False))

    def merge(self, other: "Tally") -> None:
        """Add what another tally found."""
        for kind, count in other.counts.items():
            self.add(kind, iter(other.examples[kind]), count)

    def findings(self) -> tuple[Finding, ...]:
        """Return what was found, worst kinds first as they were met."""
        return tuple(Finding(kind, count, tuple(self.examples[kind])) for kind, count in self.counts.items())


def judge(
    topic: str,
    events: Mapping[int, SeenEvents],
    answers: SeenAnswers,
    *,
    compacted: bool = False,
    tally: Tally | None = None,
) -> Tally:
    """Compare the answers of one event topic with its events.

    `compacted`: the topic may have lost events that were answered, so answers without an event are no finding.
    """
    tally = tally or Tally()
    order = np.lexsort((answers.out_offset, answers.out_partition, answers.output, answers.partition))
    sorted_answers = answers.rows(order)
    partitions = sorted_answers.partition
    for partition in sorted(set(events) | set(np.unique(partitions).tolist())):
        first, last = np.searchsorted(partitions, [partition, partition + 1])
        part = sorted_answers.rows(np.arange(first, last))
        held = events.get(partition, SeenEvents(0, np.iinfo(np.int64).max, np.empty(0, np.int64)))
        _partition(f"{topic}[{partition}]", held, part, compacted, tally)
    return tally


def _partition(place: str, events: SeenEvents, answers: SeenAnswers, compacted: bool, tally: Tally) -> None:
    def add(kind: str, offsets: Offsets, count: int | None = None) -> None:
        tally.add(kind, (f"{place}@{offset}" for offset in offsets), len(offsets) if count is None else count)

    judged = (answers.offset >= events.low) & (answers.offset < events.end)
    scores, score_counts = np.unique(answers.offset[judged & ~answers.dead], return_counts=True)
    dead, dead_counts = np.unique(answers.offset[judged & answers.dead], return_counts=True)
    answered = np.union1d(scores, dead)
    present = events.offsets[events.offsets < events.end]
    add("missing", np.setdiff1d(present, answered, assume_unique=True))
    add("duplicated", scores[score_counts > 1], int((score_counts - 1).sum()))
    add("duplicated", dead[dead_counts > 1], int((dead_counts - 1).sum()))
    add("both", np.intersect1d(scores, dead, assume_unique=True))
    if not compacted:
        add("orphaned", np.setdiff1d(answered, present, assume_unique=True))
    for offsets in _streams(answers):
        add("out_of_order", _late(offsets))
    _compare(events, answers.rows(np.flatnonzero(judged & ~answers.dead)), add)


def _streams(answers: SeenAnswers) -> Iterator[Offsets]:
    """Yield the source offsets of each output partition, in the order they stand there; input is sorted already."""
    if not len(answers.offset):
        return
    moved = (np.diff(answers.output) != 0) | (np.diff(answers.out_partition) != 0)
    yield from np.split(answers.offset, np.flatnonzero(moved) + 1)


def _late(offsets: Offsets) -> Offsets:
    """Return the offsets that come after a greater one; a repetition is a duplicate, not a disorder."""
    _, first = np.unique(offsets, return_index=True)
    once = offsets[np.sort(first)]
    late: Offsets = once[1:][once[1:] < np.maximum.accumulate(once)[:-1]]
    return late


def _compare(events: SeenEvents, scores: SeenAnswers, add: Callable[[str, Offsets], None]) -> None:
    """Check each score's event id and tenant against the event at its source offset."""
    if not len(events.offsets) or not len(scores.offset):
        return
    at = np.minimum(np.searchsorted(events.offsets, scores.offset), len(events.offsets) - 1)
    found = events.offsets[at] == scores.offset
    if events.ids is not None:
        add("mismatched", scores.offset[found & (events.ids[at] != scores.ids)])
    if events.tenants is not None:
        add("foreign", scores.offset[found & (events.tenants[at] != scores.tenants)])
