"""Level 2: quantile mapping, which gives a predictor's scores the distribution promised to a tenant.

A sample of pre-mapping aggregates, or the stored knots of a fit, and a `Reference` give score = Q_ref(F(x)), level 2 of
MUSE (arXiv 2602.11776). It is piecewise linear on knots, so it costs one binary search per event.

Invariant: monotone, bounded to [0, 1]. On its own sample the share of `score >= threshold` is the reference's alert
rate to within half a sample, or half of the tie that straddles the threshold.

Conventions. F is the *mid-rank* distribution function: a value's level is the share below it plus half the share equal
to it, so a tie goes wholly to the side that errs least, and a constant sample maps to the reference's median. Between
sample values F is linear; below the smallest it runs to level 0 at x=0, above the largest to level 1 at x=1. Knots
stand at every sample value when there are few; otherwise around a grid of levels that is geometric in both tails, and
at each of the highest values (1-in-1000 alert rates live there). The composed map also has a knot wherever the
reference has one, so promised thresholds are met exactly and not by interpolation across a kink.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike

from muse_stream.calibration.piecewise_linear import Floats, Segments, interpolate, strictly_rising, tail_levels
from muse_stream.calibration.reference import Reference, check_format

KEEP_ALL = 512
"""Up to so many distinct sample values all become knots."""

KEEP_TOP = 128
"""Of a larger sample, so many of the highest do: the rarest alert rates are then exact, not interpolated."""


class FittedMap(Struct, frozen=True, weakref=True, eq=False):
    """What a fit learned: the distribution of the aggregate, by its quantiles. JSON-ready; the reference is apart."""

    levels: Floats
    """[K] cumulative probabilities in [0, 1], strictly rising."""
    values: Floats
    """[K] aggregates in [0, 1] at these levels, not falling; equal neighbours are a tie."""
    samples: int
    """How many events it was fitted on: the tenant's own, or the pool's where it had none."""
    fitted_for: str = ""
    """Content hash of the predictor up to the map's input."""
    fitted_on: tuple[str, ...] = ()
    """Tenants whose scores the sample was, where that is known."""
    own_share: float | None = None
    """Of a cold start: how much of it the tenant's own events have decided, from 0 (the pool's map) to 1."""

    FORMAT: ClassVar[int] = 1
    """Of the stored form. A reader takes what has its own number, or none, and refuses a greater one."""

    def __post_init__(self) -> None:
        if self.levels.ndim != 1 or self.levels.shape != self.values.shape or len(self.levels) < 2:
            raise ValueError("a fitted map needs as many values as levels, at least two")
        if not strictly_rising(self.levels) or not (self.levels[0] >= 0.0 and self.levels[-1] <= 1.0):
            raise ValueError("a fitted map's levels rise strictly in [0, 1]")
        if not (np.all(np.diff(self.values) >= 0.0) and self.values[0] >= 0.0 and self.values[-1] <= 1.0):
            raise ValueError("a fitted map's values do not fall and lie in [0, 1]")
        if self.own_share is not None and not 0.0 <= self.own_share <= 1.0:
            raise ValueError("a fitted map's own_share lies in [0, 1]")
        if self.samples < 1:
            raise ValueError("a fitted map was fitted on at least one event")

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "FittedMap":
        """Read `{"fitted_for", "levels", "values", "samples"}`; raises ValueError when a part is missing or wrong."""
        check_format(stored, "a fitted map", cls.FORMAT)
        try:
            levels = np.array(stored["levels"], dtype=np.float64)
            values = np.array(stored["values"], dtype=np.float64)
            tenants = tuple(str(name) for name in stored.get("fitted_on", ()))
            share = stored.get("own_share")
            own_share = None if share is None else float(share)
            return cls(levels, values, int(stored["samples"]), str(stored["fitted_for"]), tenants, own_share)
        except (KeyError, TypeError) as missing:
            raise ValueError(f"a fitted map has fitted_for, levels, values and samples ({missing})") from missing

    def to_json(self) -> dict[str, Any]:
        """Return the stored form; `from_json` gives back the same bits."""
        return {
            "format": self.FORMAT,
            "fitted_for": self.fitted_for,
            "levels": self.levels.tolist(),
            "values": self.values.tolist(),
            "samples": self.samples,
            **({"fitted_on": list(self.fitted_on)} if self.fitted_on else {}),
            **({} if self.own_share is None else {"own_share": self.own_share}),
        }

    @classmethod
    def fit(
        cls, scores: ArrayLike, reference: Reference, fitted_for: str = "", fitted_on: Sequence[str] = ()
    ) -> "FittedMap":
        """Learn the distribution of `scores` (any shape, in [0, 1]); ValueError when empty, NaN or outside.

        `reference` decides only where knots must stand; another reference of other kinks costs accuracy, not validity.
        `fitted_on` names the tenants whose scores they are.
        """
        sample = sound_scores(scores)
        values, counts = np.unique(sample, return_counts=True)
        mid_ranks = (np.cumsum(counts) - 0.5 * counts) / sample.size
        levels, values = knots_of(values, mid_ranks, int(sample.size), reference)
        return cls(levels, values, int(sample.size), fitted_for, tuple(fitted_on))


def sound_scores(scores: ArrayLike) -> Floats:
    """Return scores as a flat array; ValueError where there is none, one is NaN, or one lies outside [0, 1]."""
    sample = np.asarray(scores, dtype=np.float64).reshape(-1)
    if not sample.size:
        raise ValueError("a quantile map cannot be fitted to an empty sample")
    missing = int(np.isnan(sample).sum())
    outside = int(((sample < 0.0) | (sample > 1.0)).sum())
    if missing or outside:
        found = [f"{missing:,} are NaN"] * bool(missing) + [f"{outside:,} lie outside"] * bool(outside)
        raise ValueError(
            f"a quantile map is fitted to scores in [0, 1] without NaN: of {sample.size:,} {' and '.join(found)}"
        )
    return sample


def knots_of(values: Floats, mid_ranks: Floats, samples: int, reference: Reference) -> tuple[Floats, Floats]:
    """Return levels and values of a fitted map: those of a distribution's distinct values that must be knots.

    `values` rise strictly, `mid_ranks` are their levels; `samples` says how far the tails are worth a dense grid.
    """
    if len(values) > KEEP_ALL:
        grid = tail_levels(per_decade=32, smallest=max(0.5 / samples, 1e-6))
        if len(reference.levels) < KEEP_ALL:  # promised thresholds; a finer reference is smooth, it has no kinks
            grid = np.union1d(grid, reference.levels)
        right = np.searchsorted(mid_ranks, grid)
        last = len(values) - 1
        kept = np.concatenate(([0], right - 1, right, np.arange(last - KEEP_TOP, last + 1)))
        kept = np.unique(np.clip(kept, 0, last))
        values, mid_ranks = values[kept], mid_ranks[kept]
    return _closed(mid_ranks, values)


class QuantileMap:
    """Maps aggregates to the reference distribution; immutable."""

    def __init__(self, fitted: FittedMap, reference: Reference) -> None:
        self.fitted = fitted
        self.reference = reference
        self._x, self._y = _composed(fitted, reference)
        self._segments = Segments([(self._x, self._y)])

    @classmethod
    def fit(cls, scores: ArrayLike, reference: Reference) -> "QuantileMap":
        """Fit to a sample of scores in [0, 1]; ValueError when it is empty or holds NaN or other values."""
        return cls(FittedMap.fit(scores, reference), reference)

    @classmethod
    def from_knots(cls, levels: ArrayLike, values: ArrayLike, reference: Reference) -> "QuantileMap":
        """Rebuild from stored quantiles of the aggregate (`values` at `levels`); ValueError when they are not that."""
        stored = FittedMap(np.array(levels, dtype=np.float64), np.array(values, dtype=np.float64), samples=1)
        return cls(stored, reference)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "QuantileMap":
        """Read `{"fitted", "reference"}`, as `to_json` gives it; raises ValueError when a part is missing or wrong."""
        check_format(stored, "a quantile map", FittedMap.FORMAT)
        try:
            fitted, reference = stored["fitted"], stored["reference"]
        except (KeyError, TypeError) as missing:
            raise ValueError(f"a quantile map has fitted and reference ({missing})") from missing
        return cls(FittedMap.from_json(fitted), Reference.from_json(reference))

    def to_json(self) -> dict[str, Any]:
        """Return the stored form, ready for `json.dumps`; `from_json` gives back a map of the same bits.

        `fitted` is what a file under `maps` of a configuration holds.
        """
        return {"format": FittedMap.FORMAT, "fitted": self.fitted.to_json(), "reference": self.reference.to_json()}

    @property
    def knots(self) -> tuple[Floats, Floats]:
        """Aggregates (strictly rising) and the scores they map to (not falling); straight in between, flat outside."""
        return self._x.copy(), self._y.copy()

    def apply(self, scores: ArrayLike) -> Floats:
        """Map scores of any shape; the result lies in [0, 1]; NaN stays NaN."""
        given = np.asarray(scores, dtype=np.float64)
        return self._segments.one(0, given.reshape(-1)).reshape(given.shape)


def _closed(levels: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Let F run to level 0 at x=0 and to level 1 at x=1, unless a tie stands there already."""
    if values[0] > 0.0 and levels[0] > 0.0:
        levels, values = np.insert(levels, 0, 0.0), np.insert(values, 0, 0.0)
    if values[-1] < 1.0 and levels[-1] < 1.0:
        levels, values = np.append(levels, 1.0), np.append(values, 1.0)
    return levels, values


def _composed(fitted: FittedMap, reference: Reference) -> tuple[Floats, Floats]:
    """Return the knots of Q_ref(F(x)): the fit's own values, and the places where F reaches a knot of the reference."""
    levels, values = _closed(fitted.levels, fitted.values)
    x, first = np.unique(values, return_index=True)
    last = len(values) - 1 - np.unique(values[::-1], return_index=True)[1]
    mid = 0.5 * (levels[first] + levels[last])
    kinks = reference.levels[(reference.levels > mid[0]) & (reference.levels < mid[-1])]
    at_kinks = interpolate(kinks, mid, x)
    all_x, kept = np.unique(np.concatenate((x, at_kinks)), return_index=True)  # a fitted value wins over a kink on it
    level = np.concatenate((mid, kinks))[kept]
    return all_x, np.maximum.accumulate(reference.quantile(np.minimum(level, 1.0)))
