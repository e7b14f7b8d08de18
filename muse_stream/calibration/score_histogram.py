"""Counts of scores on a fixed grid: mergeable, of constant size, and exact about everything that is additive.

Scores in [0, 1] and labels of 0 and 1 (or none) give one histogram for each group (tenant), added to in any order and
in any pieces. The grid has 128 cells for each doubling of a score up to 0.5, and the mirror image of that above, so a
cell spans at most 0.8 % of a score below 0.5, or of its distance to 1 above: it is as fine in the tails as in the
middle. The cell of a score is taken from the bits of the double, so it is the same on every machine.
A score at an edge belongs to the cell above it where it is below 0.5, else to the cell below it.

Within a cell, scores keep their sums, not their order. So a rate at a threshold is off by at most the share of events
in one cell, and what is read from sums (means, calibration error, Brier score) not at all.
"""

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from muse_stream.calibration.piecewise_linear import Floats

DOUBLINGS: Final = 30
"""Below 2^-31 (and above 1 - 2^-31) everything is one cell."""
PER_DOUBLING: Final = 128
_HALF: Final = DOUBLINGS * PER_DOUBLING + 1
CELLS: Final = 2 * _HALF
_SHIFT: Final = np.uint64(52 - 7)  # 7 bits of the mantissa: 128 cells a doubling
_FIRST: Final = (1023 - 1 - DOUBLINGS) * PER_DOUBLING - 1  # cell 0 ends at 2^-(DOUBLINGS + 1)

Counts = NDArray[np.int64]


def cell_of(scores: Floats) -> NDArray[np.int64]:
    """Return the cell of each score in [0, 1]; cells rise with scores."""
    upper = scores >= 0.5
    small = np.where(upper, 1.0 - scores, scores)
    raw = (np.ascontiguousarray(small).view(np.uint64) >> _SHIFT).astype(np.int64) - _FIRST
    np.clip(raw, 0, _HALF - 1, out=raw)
    return np.where(upper, CELLS - 1 - raw, raw)


def lower_edges() -> Floats:
    """Return where each cell begins."""
    octave = np.power(2.0, -np.arange(DOUBLINGS + 1, 1, -1.0))
    below = np.concatenate([[0.0], (octave[:, None] * (1.0 + np.arange(PER_DOUBLING) / PER_DOUBLING)).reshape(-1)])
    above = 1.0 - np.append(below[1:], 0.5)[::-1]
    return np.concatenate([below, above])


class ScoreHistogram(Struct, eq=False):
    """Histograms of several groups, laid out as arrays."""

    counts: Counts
    """[groups, 2, CELLS] events by label (0: negatives, and events without a label)."""
    sums: Floats
    """[groups, CELLS] sum of the scores in a cell."""

    @classmethod
    def empty(cls, groups: int = 1) -> "ScoreHistogram":
        """Return histograms without events."""
        return cls(np.zeros((groups, 2, CELLS), dtype=np.int64), np.zeros((groups, CELLS)))

    @classmethod
    def of(cls, scores: ArrayLike, labels: ArrayLike | None = None) -> "ScoreHistogram":
        """Return the histogram of one sample. Raises ValueError for scores or labels that are none."""
        checked = scores_of(scores)
        made = cls.empty()
        made.add(checked, None if labels is None else labels_of(labels, checked))
        return made

    @property
    def groups(self) -> int:
        """How many histograms there are."""
        return len(self.counts)

    @property
    def events(self) -> Counts:
        """[groups] how many events each has."""
        return np.asarray(self.counts.sum(axis=(1, 2)))

    def add(
        self, scores: Floats, labels: NDArray[np.bool_] | None = None, group: NDArray[np.int64] | None = None
    ) -> None:
        """Add events: scores in [0, 1] without NaN, already checked (`scores_of`)."""
        cells = cell_of(scores)
        at = cells if group is None else group * CELLS + cells
        size = self.groups * CELLS
        self.sums += np.bincount(at, weights=scores, minlength=size).reshape(self.groups, CELLS)
        both = np.bincount(at, minlength=size).reshape(self.groups, CELLS)
        if labels is None:
            self.counts[:, 0] += both
            return
        positive = np.bincount(at[labels], minlength=size).reshape(self.groups, CELLS)
        self.counts[:, 1] += positive
        self.counts[:, 0] += both - positive

    def merge(self, other: "ScoreHistogram") -> None:
        """Add everything that another one of the same groups has."""
        self.counts += other.counts
        self.sums += other.sums

    def one(self, group: int) -> "ScoreHistogram":
        """Return the histogram of one group (a view)."""
        return ScoreHistogram(self.counts[group : group + 1], self.sums[group : group + 1])

    def pooled(self) -> "ScoreHistogram":
        """Return the histogram of all groups together."""
        return ScoreHistogram(self.counts.sum(axis=0, keepdims=True), self.sums.sum(axis=0, keepdims=True))

    def weighted(self) -> tuple[Floats, Counts]:
        """Return the pooled scores as distinct values (the mean of each cell) and how many events have each."""
        counts = self.counts.sum(axis=(0, 1))
        there = np.flatnonzero(counts)
        means = self.sums.sum(axis=0)[there] / counts[there]
        edges = np.append(lower_edges(), 1.0)
        return np.clip(means, edges[there], edges[there + 1]), counts[there]


def scores_of(scores: ArrayLike, what: str = "scores") -> Floats:
    """Return a flat array of scores. Raises ValueError where there is none, or one is NaN or outside [0, 1]."""
    checked = np.asarray(scores, dtype=np.float64).reshape(-1)
    if not checked.size:
        raise ValueError(f"{what}: there is none; at least one is needed")
    if not (checked.min() >= 0.0 and checked.max() <= 1.0):  # NaN fails too
        wrong = checked[~((checked >= 0.0) & (checked <= 1.0))]
        kind = "NaN" if np.isnan(wrong[0]) else f"{wrong[0]:g}"
        raise ValueError(f"{what}: {len(wrong)} of {checked.size} lie outside [0, 1], the first is {kind}")
    return checked


def labels_of(labels: ArrayLike, scores: Floats) -> NDArray[np.bool_]:
    """Return labels as booleans. Raises ValueError unless each is 0 or 1, and there are as many as scores."""
    given = np.asarray(labels).reshape(-1)
    if given.shape != scores.shape:
        raise ValueError(f"labels: {given.size} for {scores.size} scores")
    if given.dtype.kind not in "biuf" or not bool(np.all((given == 0) | (given == 1))):
        wrong = [value for value in given.tolist() if value not in (0, 1)]
        raise ValueError(f"labels: each is 0 or 1, not {wrong[0]!r}" if wrong else "labels: each is 0 or 1")
    return np.asarray(given == 1)


def both_classes(labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the labels. Raises ValueError unless both classes are there."""
    positives = int(labels.sum())
    if positives in (0, labels.size):
        raise ValueError(f"labels: all {labels.size} are {int(positives > 0)}; both classes, 0 and 1, are needed")
    return labels
