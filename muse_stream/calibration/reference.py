"""The reference distribution: the score distribution promised to a tenant, for as long as it has thresholds.

Made of alert rates at thresholds, of quantiles, or of a Beta mixture; gives a quantile function and the alert rate of a
threshold. An alert is `score >= threshold`, so the alert rate is P(S >= t).

Invariant: bounded to [0, 1] and monotone. The quantile function is piecewise linear on stored knots, so `quantile` and
`alert_rate` are exact inverses of each other, and a quantile map can put its own knots at these kinks. For a Beta
mixture, knots stand on a grid of levels dense in both tails, and wherever the straight line between two of them would
miss: between the thresholds 1e-12 and 1 - 1e-10 the alert rate is within 0.3 % of the mixture's where that is 1e-6 or
more, and within 1e-8 of it where it is less.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from muse_stream.calibration.piecewise_linear import Floats, interpolate, strictly_rising, tail_levels


class Reference(Struct, frozen=True, eq=False):
    """A distribution of scores on [0, 1], by the knots of its quantile function."""

    levels: Floats
    """[K] probabilities, strictly rising from 0 to 1."""
    values: Floats
    """[K] scores in [0, 1], not falling; equal neighbours are an atom (a share of events with one score)."""

    FORMAT: ClassVar[int] = 1
    """Of the stored form."""
    BISECTIONS: ClassVar[int] = 60  # halves [0, 1] to the last bit of a double
    REFINEMENTS: ClassVar[int] = 60  # likewise: halves a segment of scores at most so often
    PRECISION: ClassVar[float] = 2e-3  # of a Beta mixture's alert rates between knots, with room to what is documented
    FLOOR: ClassVar[float] = 2e-9  # alert rates that differ by less are the same

    def __post_init__(self) -> None:
        if len(self.levels) != len(self.values) or len(self.levels) < 2:
            raise ValueError("a reference needs as many values as levels, at least two")
        if not (np.all(np.isfinite(self.levels)) and np.all(np.isfinite(self.values))):
            raise ValueError("a reference's levels and values are finite numbers")
        if self.levels[0] != 0.0 or self.levels[-1] != 1.0 or not strictly_rising(self.levels):
            raise ValueError("a reference's levels rise strictly from 0 to 1")
        if self.values[0] < 0.0 or self.values[-1] > 1.0 or np.any(np.diff(self.values) < 0.0):
            raise ValueError("a reference's values do not fall and lie in [0, 1]")

    @classmethod
    def from_alert_rates(cls, rates: Mapping[float, float]) -> "Reference":
        """Promise `{threshold: alert rate}`, e.g. `{0.2: 0.70, 0.5: 0.35}`; in between, scores spread evenly.

        Thresholds lie strictly between 0 and 1, and so do the rates, which fall strictly as thresholds rise.
        """
        pairs = sorted((float(threshold), float(rate)) for threshold, rate in rates.items())
        if not pairs:
            raise ValueError("alert rates need at least one threshold")
        thresholds = np.array([threshold for threshold, _ in pairs])
        promised = np.array([rate for _, rate in pairs])
        if not np.all((thresholds > 0.0) & (thresholds < 1.0)):
            raise ValueError("thresholds lie strictly between 0 and 1")
        if not np.all((promised > 0.0) & (promised < 1.0)) or not strictly_rising(-promised):
            raise ValueError("alert rates lie strictly between 0 and 1 and fall strictly as thresholds rise")
        return cls(np.concatenate(([0.0], 1.0 - promised, [1.0])), np.concatenate(([0.0], thresholds, [1.0])))

    @classmethod
    def from_quantiles(cls, levels: ArrayLike, values: ArrayLike) -> "Reference":
        """Give the quantile function by its knots: `levels` strictly rising in [0, 1], `values` not falling in [0, 1].

        Where the levels stop short of 0 or 1, the function goes on in a straight line to score 0 or 1.
        """
        return cls(*whole_range(_vector(levels), _vector(values)))

    @classmethod
    def beta_mixture(cls, components: Sequence[tuple[float, float, float]]) -> "Reference":
        """Mix Beta distributions, each `(weight, a, b)`: weights >= 0 summing to 1, a and b > 0."""
        table = np.array([tuple(component) for component in components], dtype=np.float64)
        if table.ndim != 2 or table.shape[1] != 3 or not np.all(np.isfinite(table)):
            raise ValueError("a Beta mixture needs at least one component (weight, a, b), all finite numbers")
        weights, a, b = table.T
        if np.any(weights < 0.0) or np.any(a <= 0.0) or np.any(b <= 0.0):
            raise ValueError("a Beta mixture's weights are at least 0, its a and b above 0")
        if abs(weights.sum() - 1.0) > 1e-6:
            raise ValueError(f"the weights of a Beta mixture sum to 1, not {weights.sum():g}")
        return _beta_mixture(tuple(map(tuple, table.tolist())))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Reference":
        """Read `{"levels", "values"}`, as `to_json` gives it; raises ValueError when a part is missing or wrong."""
        check_format(stored, "a reference", cls.FORMAT)
        try:
            return cls(_vector(stored["levels"]), _vector(stored["values"]))
        except (KeyError, TypeError) as missing:
            raise ValueError(f"a reference has levels and values ({missing})") from missing

    def to_json(self) -> dict[str, Any]:
        """Return the stored form, ready for `json.dumps`; `from_json` gives back the same bits."""
        return {"format": self.FORMAT, "levels": self.levels.tolist(), "values": self.values.tolist()}

    def quantile(self, levels: ArrayLike) -> Floats:
        """Return the score below which a share `levels` of events lies; any shape, ValueError outside [0, 1]."""
        asked = np.asarray(levels, dtype=np.float64)
        if not np.all((asked >= 0.0) & (asked <= 1.0)):
            raise ValueError("levels are probabilities in [0, 1]")
        return interpolate(asked, self.levels, self.values)

    def alert_rate(self, threshold: ArrayLike) -> Floats:
        """Return P(score >= threshold), any shape; an atom at the threshold counts as alerts."""
        asked = np.asarray(threshold, dtype=np.float64)
        above = np.clip(np.searchsorted(self.values, asked, side="left"), 1, len(self.values) - 1)
        start, end = self.values[above - 1], self.values[above]  # start < asked <= end, inside the range
        with np.errstate(invalid="ignore", divide="ignore"):  # an atom at the very start has no width
            share = np.where(end > start, np.clip((asked - start) / (end - start), 0.0, 1.0), 0.0)
        below = self.levels[above - 1] + share * (self.levels[above] - self.levels[above - 1])
        return np.where(asked > self.values[-1], 0.0, np.where(np.isnan(asked), np.nan, 1.0 - below))


def check_format(stored: Mapping[str, Any], what: str, known: int) -> None:
    """Raise ValueError for a stored form that a newer muse_stream wrote; one without a number is the first."""
    number = stored.get("format", 1) if isinstance(stored, Mapping) else 1
    if type(number) is not int or number < 1:
        raise ValueError(f"{what} has a format that is a number from 1, not {number!r}")
    if number > known:
        raise ValueError(f"{what} has format {number}; this muse_stream reads formats up to {known}: use a newer one")


def whole_range(levels: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Add the knots (0, 0) and (1, 1) where `levels` stop short of an end."""
    if len(levels) and levels[0] > 0.0:
        levels, values = np.insert(levels, 0, 0.0), np.insert(values, 0, 0.0)
    if len(levels) and levels[-1] < 1.0:
        levels, values = np.append(levels, 1.0), np.append(values, 1.0)
    return levels, values


def _vector(numbers: ArrayLike) -> Floats:
    vector: NDArray[np.float64] = np.array(numbers, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError("levels and values are flat lists of numbers")
    return vector


def _refined(values: Floats, weights: Floats, a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return levels and values of a mixture's knots: `values`, and more where the line between two misses the mixture.

    Between two levels of a grid lie few events, but where the density is low they may lie in a corner of a wide range
    of scores: there the line is wrong by up to the distance of the levels.
    """
    knots = np.unique(values)
    above = _survival(knots, weights, a, b)
    parts = [(knots, above)]
    start, end, over, under = knots[:-1], knots[1:], above[:-1], above[1:]
    for _ in range(Reference.REFINEMENTS):
        missed = np.zeros(len(start), dtype=bool)
        inside = [start + part * (end - start) for part in (0.25, 0.5, 0.75)]
        for middle in (*inside, _between(start, end, 0.25), _between(start, end, 0.5)):
            exact = _survival(middle, weights, a, b)
            line = over + (middle - start) / (end - start) * (under - over)
            missed |= np.abs(line - exact) > np.maximum(Reference.PRECISION * exact, Reference.FLOOR)
        missed &= (middle > start) & (middle < end)
        if not missed.any():
            break
        middle, exact = middle[missed], exact[missed]
        parts.append((middle, exact))
        start, end = np.concatenate((start[missed], middle)), np.concatenate((middle, end[missed]))
        over, under = np.concatenate((over[missed], exact)), np.concatenate((exact, under[missed]))
    whole, first = np.unique(np.concatenate([x for x, _ in parts]), return_index=True)
    levels = 1.0 - np.concatenate([y for _, y in parts])[first]
    levels[0], levels[-1] = 0.0, 1.0
    return _strictly(np.maximum.accumulate(levels), whole)


def _between(start: Floats, end: Floats, part: float) -> Floats:
    """Return scores that lie a part of the way from start to end, in orders of magnitude where these are several."""
    wide = (start > 0.0) & (end > 4.0 * start)
    low = np.where(wide, start, 1.0)
    return np.where(wide, low * (end / low) ** part, start + part * (end - start))


def _strictly(levels: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Make levels that do not fall rise: of knots at one level, the first and the last stay, one bit apart."""
    rises = np.diff(levels) > 0.0
    kept = np.concatenate(([True], rises)) | np.concatenate((rises, [True]))
    levels, values = levels[kept], values[kept]
    twice = np.flatnonzero(np.diff(levels) == 0.0)
    top = twice[levels[twice] == 1.0]
    levels[top] = np.nextafter(1.0, 0.0)
    rest = np.setdiff1d(twice, top) + 1
    levels[rest] = np.nextafter(levels[rest], 2.0)
    sound = np.concatenate(([True], np.diff(levels) > 0.0))
    sound[-1] = True
    return levels[sound], values[sound]


@lru_cache(maxsize=64)
def _beta_mixture(components: tuple[tuple[float, float, float], ...]) -> Reference:
    """Compute the knots; kept, as they take 0.1 s and a command compiles its configuration several times."""
    weights, a, b = np.array(components).T
    levels = tail_levels(uniform=512, per_decade=32, smallest=1e-7)
    weights = weights / weights.sum()
    knots = _refined(_mixture_quantiles(levels, weights, a, b), weights, a, b)
    for values in knots:
        values.setflags(write=False)
    return Reference(*knots)


def _survival(values: Floats, weights: Floats, a: Floats, b: Floats) -> Floats:
    """Return the share of events above each score."""
    from scipy.special import betaincc  # noqa: PLC0415 - as below

    return np.asarray((weights * betaincc(a, b, values[:, None])).sum(axis=1), dtype=np.float64)


def _mixture_quantiles(levels: Floats, weights: Floats, a: Floats, b: Floats) -> Floats:
    from scipy.special import betainc, betaincc  # noqa: PLC0415 - 0.5 s to import, and only this form needs it

    low, high = np.zeros_like(levels), np.ones_like(levels)
    half = int(np.searchsorted(levels, 0.5, side="right"))  # above it survival is compared: it keeps its digits there
    for _ in range(Reference.BISECTIONS):
        middle = 0.5 * (low + high)
        lower = (weights * betainc(a, b, middle[:half, None])).sum(axis=1) < levels[:half]
        upper = (weights * betaincc(a, b, middle[half:, None])).sum(axis=1) > 1.0 - levels[half:]
        below = np.concatenate((lower, upper))
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    values = np.maximum.accumulate(0.5 * (low + high))
    values[0], values[-1] = 0.0, 1.0
    return np.asarray(values, dtype=np.float64)
