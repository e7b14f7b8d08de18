"""Which answers are to events of an older incarnation of their topic: one that was deleted and created again.

Such answers name the same topic, partition and offset as answers to what stands there now. Kafka gives each incarnation
an id, but no record holds it. What tells them apart, in each partition of an output topic, is that answers to a source
partition are in order: the old ones come first, and where the new ones begin the offsets go back. A run of answers up
to such a place is of an older incarnation when one of these holds:

    - most of it cannot be about the events that are there: the offset lies beyond the end of the topic, or holds
      another event that was sent after the answer was written
    - all of it, at least three, names other events
    - all of it was written before the first event that is there was sent

Of the last run, which no other follows, only those answers are that cannot be about what is there.

A doubled answer is none of this: it was written after its event, and names it. What is told apart here by mistake
leaves events without an answer, which is found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

ALL_OTHERS = 3
"""A run so long in which every answer names another event."""
Offsets = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """The answers to one source partition that stand in one output partition, in the order they stand; all `[m]`."""

    offset: Offsets
    present: NDArray[np.bool_]
    """Whether its event is there."""
    other: NDArray[np.bool_]
    """Whether another event is at its offset than the one it answers."""
    early: NDArray[np.bool_]
    """Whether it was written before the event at its offset was sent."""
    written: Offsets


def older(stream: Stream, end: int, first_ms: int | None) -> NDArray[np.bool_]:
    """Return which answers are to an older incarnation.

    `end` is where the topic ends now, `first_ms` when the first event that is there was sent; None: there is none.
    """
    beyond = stream.offset >= end
    proof = beyond | (stream.present & stream.other & stream.early)
    found = np.zeros(len(stream.offset), dtype=bool)
    runs = list(_runs(stream.offset))
    for first, last in reversed(runs[:-1]):
        run = slice(first, last)
        judged = stream.present[run] | beyond[run]
        count, proven = int(judged.sum()), int(proof[run].sum())
        others = count >= ALL_OTHERS and bool((stream.other[run] | beyond[run])[judged].all())
        before = count > 0 and first_ms is not None and int(stream.written[run].max()) < first_ms
        if 2 * proven > count or others or before:
            found[:last] = True
            break
    return found | proof


def _runs(offsets: Offsets) -> Iterator[tuple[int, int]]:
    """Yield first and end of each run of ascending offsets."""
    if not len(offsets):
        return
    edges = [0, *(np.flatnonzero(np.diff(offsets) <= 0) + 1).tolist(), len(offsets)]
    yield from pairwise(edges)
