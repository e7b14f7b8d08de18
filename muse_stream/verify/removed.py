"""What is gone: answers that an output topic no longer has, and events that were removed before they were answered.

Pure counting over offsets and times. Three things look alike from the topics alone, and are told apart here:

    an event without an answer            a broken promise, `missing`
    an event whose answer may be gone     nobody can tell: not judged, and counted as such
    an offset below the log's start       `not_answerable`: its event was removed before anybody answered it
      that nobody has answered

An answer may be gone where its output partition has lost records, all kept answers to that source partition are to
later events, and the answer could have been written before what is kept there begins.

Offsets are no events: the marker of a transaction takes one, aborted records take theirs. Below the log's start nobody
can look. Where what is left of the topic shows such gaps, single offsets are taken for markers, and what is counted is
an upper bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.int64]
NEVER = np.iinfo(np.int64).max
LONG_AGO = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Lost:
    """A partition of an output topic that no longer has all its records."""

    output: int
    """Which output topic, as a code."""
    partition: int
    before_ms: int
    """What is gone was written at this moment at the latest."""
    anywhere: bool
    """Answers to any source partition may stand here; else only those of the partition with the same number."""
    compacted: bool = False
    """Any answer but the last may be gone."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """The answers to one source partition that are still there; all arrays are `[m]`, by source offset."""

    offset: Offsets
    output: NDArray[np.int32]
    partition: NDArray[np.int32]
    """Output partition."""
    written: Offsets
    """When, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Removed:
    """Offsets below the log's start that nobody has answered."""

    runs: tuple[tuple[int, int], ...]
    """First and last offset of each."""
    at_most: bool
    """Some of them may be markers or aborted records, and no events."""

    @property
    def count(self) -> int:
        """How many offsets."""
        return sum(last - first + 1 for first, last in self.runs)


def horizons(source: int, kept: Kept, lost: Sequence[Lost]) -> list[tuple[int, int]]:
    """Return pairs: answers to events below this offset, written before this moment, may be gone."""
    found = []
    for one in lost:
        here = kept.output == one.output
        elsewhere = bool((here & (kept.partition != source)).any())
        if one.anywhere or one.partition == source or elsewhere:
            offsets = kept.offset[here & (kept.partition == one.partition)]
            least = (offsets.max() if one.compacted else offsets.min()) if len(offsets) else NEVER
            found.append((int(least), one.before_ms))
    return found


def may_be_gone(
    offsets: Offsets, stamps: Offsets, kept: Kept, horizon: Sequence[tuple[int, int]], now_ms: int
) -> NDArray[np.bool_]:
    """Return which of these events may have had an answer that is gone; `stamps` are their Kafka timestamps.

    An answer is written after its event, and after answers to earlier events of its partition. A timestamp in the
    future is some clock's mistake and tells nothing.
    """
    after = np.where(stamps > now_ms, LONG_AGO, stamps)
    after = np.maximum(after, _written_before(offsets, kept))
    gone = np.zeros(len(offsets), dtype=bool)
    for below, before_ms in horizon:
        gone |= (offsets < below) & (after <= before_ms)
    return gone


def removed_unanswered(
    first: int, low: int, kept: Kept, horizon: Sequence[tuple[int, int]], *, dense: bool | None
) -> Removed:
    """Return the offsets from `first` to the log's start `low` that have no answer, where one could not be gone.

    `dense` says whether every offset of what is left of the log holds an event; None where nothing is left.
    """
    answered = np.unique(kept.offset[(kept.offset >= first) & (kept.offset < low)])
    edges = np.concatenate([[first - 1], answered, [low]]).astype(np.int64)
    begins, ends = edges[:-1] + 1, edges[1:]
    open_ones = np.flatnonzero(ends > begins)
    written = _written_before(begins[open_ones], kept)
    runs: list[tuple[int, int]] = []
    for row, before in zip(open_ones.tolist(), written.tolist(), strict=True):
        begin, end = int(begins[row]), int(ends[row])
        begin = max([begin, *(min(below, end) for below, before_ms in horizon if before <= before_ms)])
        if begin < end:
            runs.append((begin, end - 1))
    single = sum(begin == end for begin, end in runs)
    gaps = dense is False or single > 1
    return Removed(tuple(run for run in runs if not gaps or run[0] < run[1]), gaps)


def _written_before(offsets: Offsets, kept: Kept) -> Offsets:
    """Return for each offset when the last answer to an earlier event was written."""
    order = np.argsort(kept.offset, kind="stable")
    latest = np.maximum.accumulate(np.concatenate([[LONG_AGO], kept.written[order]]))
    found: Offsets = latest[np.searchsorted(kept.offset[order], offsets)]
    return found
