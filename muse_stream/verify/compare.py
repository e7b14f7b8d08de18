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
    not_answerable  events that retention, or somebody, removed before they were answered (from `removed`)
    absent        the event topic does not exist (`verify` adds it)
    hanging       a partition, or the group's offset of one, stands still behind an open transaction (`verify` adds it)
    disagreeing   an audit record with another live score than the published one of the same generation (from `audit`)
    undecodable   a record in an output topic that cannot be read as what belongs there
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from muse_stream.verify.incarnation import Stream, older
from muse_stream.verify.removed import Kept, Lost, horizons, may_be_gone, removed_unanswered

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
    """First offset that is judged, at least the first that the broker still has."""
    end: int
    """SeenEvents at or beyond this offset are not judged."""
    offsets: Offsets
    """Ascending; `[n]`."""
    ids: NDArray[np.bytes_] | None = None
    """`[n]`, empty where the event cannot be decoded; None when ids were not asked for."""
    tenants: NDArray[np.int32] | None = None
    """`[n]` codes, -1 where unknown; None on a topic of one tenant."""
    stamps: NDArray[np.int64] | None = None
    """`[n]` Kafka timestamps, in milliseconds; None when they were not asked for."""


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
    written: NDArray[np.int64]
    """Kafka timestamp of the answer, in milliseconds."""
    source_stamp: NDArray[np.int64]
    """Kafka timestamp of the event as a dead letter names it; -1 where it does not, and for scores."""

    def rows(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "SeenAnswers":
        """Return some of them."""
        return SeenAnswers(*(getattr(self, name)[rows] for name in self.__slots__))

    def kept(self) -> Kept:
        """Return what tells which other answers may be gone."""
        return Kept(self.offset, self.output, self.out_partition, self.written)


@dataclass(slots=True)
class Tally:
    """Findings under way: counts, and the first examples of each kind."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    unjudged: int = 0
    """Events without an answer whose answer may be gone."""

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
    lost: Sequence[Lost] = (),
    now_ms: int = 0,
) -> Tally:
    """Compare the answers of one event topic with its events.

    `compacted`: the topic may have lost events that were answered, so answers without an event are no finding. `lost`
    are the places where answers may be gone.
    """
    tally = Tally()
    for partition, part in by_partition(answers, events):
        held = events.get(partition, SeenEvents(0, np.iinfo(np.int64).max, np.empty(0, np.int64)))
        horizon = horizons(partition, part.kept(), lost)
        _partition(f"{topic}[{partition}]", held, part, compacted, tally, horizon, now_ms)
    return tally


def by_partition(answers: SeenAnswers, events: Mapping[int, SeenEvents]) -> Iterator[tuple[int, SeenAnswers]]:
    """Yield source partitions and the answers to them, as they stand in each output partition."""
    order = np.lexsort((answers.out_offset, answers.out_partition, answers.output, answers.partition))
    sorted_answers = answers.rows(order)
    partitions = sorted_answers.partition
    for partition in sorted(set(events) | set(np.unique(partitions).tolist())):
        first, last = np.searchsorted(partitions, [partition, partition + 1])
        yield partition, sorted_answers.rows(np.arange(first, last))


def current(
    events: Mapping[int, SeenEvents], answers: SeenAnswers, ends: Mapping[int, int]
) -> tuple[SeenAnswers, SeenAnswers]:
    """Return the answers to the topic that is there, and those to an older incarnation of it; see `incarnation`.

    `ends` is where its partitions end after everything was read.
    """
    now: list[SeenAnswers] = []
    old: list[SeenAnswers] = []
    for partition, part in by_partition(answers, events):
        held = events.get(partition, SeenEvents(0, 0, np.empty(0, np.int64)))
        at, present = _places(held, part.offset)
        other, early = np.zeros(len(at), dtype=bool), np.zeros(len(at), dtype=bool)
        first_ms = None
        if len(held.offsets):
            if held.ids is not None:
                other = present & ~part.dead & (held.ids[at] != part.ids)
            if held.stamps is not None:
                other |= present & part.dead & (part.source_stamp >= 0) & (held.stamps[at] != part.source_stamp)
                early = present & (part.written < held.stamps[at])
                first_ms = int(held.stamps.min())
        for first, last in _stream_edges(part):
            run = slice(first, last)
            stream = Stream(part.offset[run], present[run], other[run], early[run], part.written[run])
            ancient = older(stream, ends.get(partition, 0), first_ms)
            rows = np.arange(first, last)
            now.append(part.rows(rows[~ancient]))
            old.append(part.rows(rows[ancient]))
    return joined(now, answers), joined(old, answers)


def joined(parts: Sequence[SeenAnswers], like: SeenAnswers) -> SeenAnswers:
    """Return all of them in one."""
    none = like.rows(np.arange(0))
    return SeenAnswers(
        *(np.concatenate([getattr(part, name) for part in (none, *parts)]) for name in SeenAnswers.__slots__)
    )


def count_removed(
    topic: str,
    partition: int,
    span: tuple[int, int],
    answers: SeenAnswers,
    lost: Sequence[Lost],
    tally: Tally,
    *,
    dense: bool | None,
) -> bool:
    """Add the offsets of `span`, first and end, that were removed unanswered; whether some of them may be no events."""
    kept = answers.rows(np.flatnonzero(answers.partition == partition)).kept()
    found = removed_unanswered(*span, kept, horizons(partition, kept, lost), dense=dense)
    places = (f"{topic}[{partition}]@{first}-{last}" for first, last in found.runs)
    tally.add("not_answerable", places, found.count)
    return found.at_most and found.count > 0


def _partition(
    place: str,
    events: SeenEvents,
    answers: SeenAnswers,
    compacted: bool,
    tally: Tally,
    horizon: Sequence[tuple[int, int]],
    now_ms: int,
) -> None:
    def add(kind: str, offsets: Offsets, count: int | None = None) -> None:
        tally.add(kind, (f"{place}@{offset}" for offset in offsets), len(offsets) if count is None else count)

    judged = (answers.offset >= events.low) & (answers.offset < events.end)
    scores, score_counts = np.unique(answers.offset[judged & ~answers.dead], return_counts=True)
    dead, dead_counts = np.unique(answers.offset[judged & answers.dead], return_counts=True)
    answered = np.union1d(scores, dead)
    present = events.offsets[(events.offsets >= events.low) & (events.offsets < events.end)]
    absent = np.setdiff1d(present, answered, assume_unique=True)
    if horizon and len(absent):
        stamps = np.zeros(len(absent), np.int64)
        if events.stamps is not None:
            stamps = events.stamps[np.searchsorted(events.offsets, absent)]
        gone = may_be_gone(absent, stamps, answers.kept(), horizon, now_ms)
        tally.unjudged += int(gone.sum())
        absent = absent[~gone]
    add("missing", absent)
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
    for first, last in _stream_edges(answers):
        yield answers.offset[first:last]


def _stream_edges(answers: SeenAnswers) -> Iterator[tuple[int, int]]:
    """Yield first and end of the answers in each output partition; input is sorted already."""
    if not len(answers.offset):
        return
    moved = (np.diff(answers.output) != 0) | (np.diff(answers.out_partition) != 0)
    edges = [0, *(np.flatnonzero(moved) + 1).tolist(), len(answers.offset)]
    yield from pairwise(edges)


def _places(events: SeenEvents, offsets: Offsets) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where the events at these offsets are, and whether they are there."""
    if not len(events.offsets):
        return np.zeros(len(offsets), dtype=np.int64), np.zeros(len(offsets), dtype=bool)
    at = np.minimum(np.searchsorted(events.offsets, offsets), len(events.offsets) - 1)
    return at, events.offsets[at] == offsets


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
    at, found = _places(events, scores.offset)
    if events.ids is not None:
        add("mismatched", scores.offset[found & (events.ids[at] != scores.ids)])
    if events.tenants is not None:
        add("foreign", scores.offset[found & (events.tenants[at] != scores.tenants)])
