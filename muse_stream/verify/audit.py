"""Published scores against the live scores that audit records computed.

A shadow worker computes the live score again, under the generation that it serves; the live worker may have answered
under another. Both are joined by source topic, partition and offset. Under equal generations they must be the same
number, to the last bit; under different ones they may differ, and the published score is what the tenant got.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.scoring import Categorical
from muse_stream.verify.compare import Tally


@dataclass(frozen=True, slots=True, eq=False)
class AuditKeys:
    """What audit records of a block say of live scores: all arrays are `[n]`, one entry a record that was decoded."""

    topics: Categorical
    """Source topic."""
    partitions: NDArray[np.int64]
    offsets: NDArray[np.int64]
    generations: NDArray[np.int64]
    """Under which the live score was computed."""
    scores: NDArray[np.float64]
    rows: NDArray[np.int64] | None = None
    """Which records of the block they are; None: all."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """How the audit records of one event topic agree with its published scores."""

    records: int = 0
    unscored: int = 0
    """Audit records of events that have no published score: a dead letter, or not answered yet."""
    other_generation: int = 0
    """Computed under another generation than the published score's..."""
    different: int = 0
    """...and of those, how many live scores differ from the published one."""
    broken: int = 0
    """Of the same generation, and different: a finding."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveScores:
    """Live scores of one event topic's events, published or computed; all arrays are `[n]`."""

    partitions: NDArray[np.int64]
    offsets: NDArray[np.int64]
    generations: NDArray[np.int64]
    scores: NDArray[np.float64]
    written: NDArray[np.int64]
    """When, in milliseconds."""

    def after(self, moments: Mapping[int, int]) -> "LiveScores":
        """Return those that were written after the moment that is given for their partition, if one is."""
        keep = np.ones(len(self.offsets), dtype=bool)
        for partition, moment in moments.items():
            keep &= (self.partitions != partition) | (self.written > moment)
        return LiveScores(*(getattr(self, name)[keep] for name in self.__slots__))


@dataclass(slots=True)
class LiveScoreLog:
    """Live scores under way, by event topic."""

    _kept: dict[str, list[LiveScores]] = field(default_factory=dict)

    def add(self, keys: AuditKeys, written: NDArray[np.int64]) -> None:
        """Keep what some records say; `written` is when each record of the block was."""
        stamps = written if keys.rows is None else written[keys.rows]
        for code, topic in enumerate(keys.topics.values):
            rows = np.flatnonzero(keys.topics.codes == code)
            if topic is not None and len(rows):
                part = LiveScores(
                    keys.partitions[rows].astype(np.int64),
                    keys.offsets[rows],
                    keys.generations[rows],
                    keys.scores[rows],
                    stamps[rows],
                )
                self._kept.setdefault(topic, []).append(part)

    def of(self, topic: str) -> LiveScores:
        """Return all of one event topic."""
        kept = self._kept.get(topic, [])
        empty = np.empty(0, np.int64)
        return LiveScores(
            np.concatenate([empty, *(part.partitions for part in kept)]),
            np.concatenate([empty, *(part.offsets for part in kept)]),
            np.concatenate([empty, *(part.generations for part in kept)]),
            np.concatenate([np.empty(0), *(part.scores for part in kept)]),
            np.concatenate([empty, *(part.written for part in kept)]),
        )


def compare_audit(topic: str, published: LiveScores, computed: LiveScores, tally: Tally) -> AuditReport:
    """Join the audit records of an event topic with its scores; what must not be is added to `tally`."""
    match = _matching(published, computed)
    found = match >= 0
    equal = found & (_at(published.generations, match) == computed.generations)
    other = found & ~equal
    same = _at(published.scores, match) == computed.scores
    broken = np.flatnonzero(equal & ~same)
    examples = (f"{topic}[{computed.partitions[row]}]@{computed.offsets[row]}" for row in broken.tolist())
    tally.add("disagreeing", examples, len(broken))
    return AuditReport(
        records=len(found),
        unscored=int((~found).sum()),
        other_generation=int(other.sum()),
        different=int((other & ~same).sum()),
        broken=len(broken),
    )


def _matching(published: LiveScores, computed: LiveScores) -> NDArray[np.int64]:
    """Return, for each computed score, where the published one of the same event is; -1 if there is none."""
    match = np.full(len(computed.offsets), -1, dtype=np.int64)
    for partition in np.unique(computed.partitions).tolist():
        rows = np.flatnonzero(computed.partitions == partition)
        there = np.flatnonzero(published.partitions == partition)
        there = there[np.argsort(published.offsets[there], kind="stable")]
        if len(there):
            offsets = published.offsets[there]
            at = np.minimum(np.searchsorted(offsets, computed.offsets[rows]), len(there) - 1)
            match[rows] = np.where(offsets[at] == computed.offsets[rows], there[at], -1)
    return match


def _at(values: NDArray[Any], match: NDArray[np.int64]) -> NDArray[Any]:
    """Return the values at these places; anything where there is none."""
    return values[np.maximum(match, 0)] if len(values) else np.zeros(len(match), dtype=values.dtype)
