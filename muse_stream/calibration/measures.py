"""How good scores are: whether they keep a promised distribution, how well they rank, how true they are.

All measures are read from histograms (`ScoreHistogram`), so they stream, merge, and need no event twice. What that
costs in accuracy is said with each; CELL is the largest share of events in one cell (0.8 % of a score wide).

against a reference   alert rates and their errors, population stability index, Kolmogorov-Smirnov distance
against labels        recall at false-positive rates, average precision: as if scores in one cell were equal
                      expected calibration error, Brier score: from sums, exact

Intervals hold the measure with 95 % confidence if events are independent; where events of one customer come in groups
they are too narrow. Those of rates are Wilson's; those of the others come from `intervals`, a bootstrap of the cells.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from muse_stream.calibration.piecewise_linear import Floats
from muse_stream.calibration.reference import Reference
from muse_stream.calibration.score_histogram import Counts, ScoreHistogram, lower_edges

Z_95: Final = 1.959963984540054
FALSE_POSITIVE_RATES: Final = (0.001, 0.01, 0.05)
ECE_BINS: Final = 15
PSI_BINS: Final = 10
DRAWS: Final = 100
SMALLEST_SHARE: Final = 1e-6
"""Stands for an empty bin in a population stability index, whose logarithm would be infinite."""


class Rate(Struct, frozen=True):
    """A share of events, and the interval that holds it with 95 % confidence (Wilson)."""

    count: int
    events: int

    @property
    def value(self) -> float:
        """The share; NaN without events."""
        return self.count / self.events if self.events else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound; 0 and 1 without events."""
        if not self.events:
            return 0.0, 1.0
        n, p = self.events, self.count / self.events
        middle = p + Z_95**2 / (2 * n)
        margin = Z_95 * (p * (1 - p) / n + Z_95**2 / (4 * n * n)) ** 0.5
        scale = 1 + Z_95**2 / n
        return max(0.0, (middle - margin) / scale), min(1.0, (middle + margin) / scale)


class AlertRate(Struct, frozen=True):
    """What was promised at a threshold, and what came."""

    threshold: float
    promised: float
    rate: Rate

    @property
    def error(self) -> float:
        """How far the rate is from the promise, relative to the promise."""
        return abs(self.rate.value / self.promised - 1.0)

    @property
    def interval(self) -> tuple[float, float]:
        """Bounds of the error at 95 % confidence."""
        low, high = (bound / self.promised - 1.0 for bound in self.rate.interval)
        return (0.0 if low <= 0.0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))

    @property
    def noise(self) -> float:
        """The error that chance alone gives in the median, if the promise is kept: what no map can be below."""
        return 0.6745 * float(np.sqrt((1.0 - self.promised) / (self.promised * self.rate.events)))


def population_stability(expected: ArrayLike, actual: ArrayLike) -> float:
    """Return the population stability index of two histograms (counts or shares) over the same bins.

    Raises ValueError when they differ in length, hold a negative number, or have no events.
    """
    shares = []
    for counts in (np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)):
        if counts.ndim != 1 or not np.all(counts >= 0.0) or not counts.sum() > 0.0:
            raise ValueError("a population stability index compares two lists of counts, at least one above 0 in each")
        shares.append(np.maximum(counts / counts.sum(), SMALLEST_SHARE))
    if len(shares[0]) != len(shares[1]):
        raise ValueError(f"{len(shares[0])} bins against {len(shares[1])}: the bins must be the same")
    return float(np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0])))


def stability_edges(reference: Reference) -> Floats:
    """Return the inner edges of the bins in which a reference has equal shares: those of its stability index."""
    return np.unique(reference.quantile(np.linspace(0.0, 1.0, PSI_BINS + 1)[1:-1]))


def kolmogorov_smirnov(one: ScoreHistogram, other: ScoreHistogram | Reference) -> float:
    """Return the largest distance of two distribution functions, within CELL. Raises ValueError without events."""
    first = _below(one)
    if isinstance(other, Reference):
        return float(np.max(np.abs(first - (1.0 - other.alert_rate(np.append(lower_edges()[1:], 1.0)))[:-1])))
    return float(np.max(np.abs(first - _below(other))))


def _below(histogram: ScoreHistogram) -> Floats:
    """Return the share of events below each edge between two cells."""
    counts = histogram.counts.sum(axis=(0, 1))
    if not counts.any():
        raise ValueError("a histogram without events has no distribution")
    return np.asarray(np.cumsum(counts)[:-1] / counts.sum())


def recall_at(histogram: ScoreHistogram, rates: Sequence[float] = FALSE_POSITIVE_RATES) -> dict[float, float]:
    """Return the share of positives caught where a given share of negatives is alerted on.

    Between two thresholds the straight line, as a threshold with a coin would do. Within CELL of the positives.
    Raises ValueError without both classes.
    """
    true, false = _caught(_labelled(histogram))
    return {rate: float(np.interp(rate, false, true)) for rate in rates}


def average_precision(histogram: ScoreHistogram) -> float:
    """Return the area under precision over recall, in steps. Raises ValueError without both classes."""
    counts = _labelled(histogram)
    positive = np.cumsum(counts[1, ::-1])
    everything = np.cumsum(counts.sum(axis=0)[::-1])
    there = everything > 0
    return float(np.sum(counts[1, ::-1][there] * positive[there] / everything[there]) / positive[-1])


def expected_calibration_error(histogram: ScoreHistogram, bins: int = ECE_BINS) -> float:
    """Return the mean distance of score and share of positives, over bins of equally many events.

    Bins of equal width would put nearly all events of a rare class into the first. A bin ends at the end of a cell, so
    its mean score and its share of positives are exact. Raises ValueError without both classes.
    """
    return _calibration_error(_labelled(histogram), histogram.sums.sum(axis=0), bins)


def _calibration_error(counts: Floats | Counts, sums: Floats, bins: int) -> float:
    events = counts.sum(axis=0)
    before = np.cumsum(events) - events
    place = np.minimum(((before + 0.5 * events) * bins / events.sum()).astype(np.int64), bins - 1)
    gap = np.bincount(place, weights=sums - counts[1], minlength=bins)
    return float(np.abs(gap).sum() / events.sum())


class CalibrationBin(Struct, frozen=True):
    """One point of a calibration curve."""

    events: int
    score: float
    """Mean score."""
    positives: Rate


def calibration_curve(histogram: ScoreHistogram, bins: int = ECE_BINS) -> list[CalibrationBin]:
    """Return mean score and share of positives in bins of equally many events. Raises ValueError without labels."""
    counts, sums = _labelled(histogram), histogram.sums.sum(axis=0)
    events = counts.sum(axis=0)
    before = np.cumsum(events) - events
    place = np.minimum(((before + 0.5 * events) * bins / events.sum()).astype(np.int64), bins - 1)
    size, hits = (np.bincount(place, weights=one, minlength=bins) for one in (events, counts[1]))
    mean = np.bincount(place, weights=sums, minlength=bins)
    return [
        CalibrationBin(int(n), float(total / n), Rate(int(hit), int(n)))
        for n, total, hit in zip(size.tolist(), mean.tolist(), hits.tolist(), strict=True)
        if n
    ]


def brier_score(squares: float, events: int) -> float:
    """Return the mean squared distance of score and label, of its sum. Raises ValueError without events."""
    if events < 1:
        raise ValueError("no events: there is no Brier score")
    return squares / events


Measure = Callable[[ScoreHistogram], float]


def labelled_measures(bins: int = ECE_BINS) -> dict[str, Measure]:
    """Return the measures that need labels, by name, as functions of a histogram."""
    at: dict[str, Measure] = {
        f"recall at {100 * rate:g} % false positives": lambda one, rate=rate: recall_at(one, (rate,))[rate]  # type: ignore[misc]
        for rate in FALSE_POSITIVE_RATES
    }
    return {
        **at,
        "average precision": average_precision,
        "expected calibration error": lambda one: expected_calibration_error(one, bins),
    }


def intervals(
    histogram: ScoreHistogram, measures: Mapping[str, Measure], *, draws: int = DRAWS, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return bounds at 95 % confidence: each cell's counts are drawn anew (Poisson), the mean score of a cell stays.

    The same histogram gives the same bounds. A draw without both classes is left out.
    """
    random = np.random.default_rng(seed)
    counts = histogram.counts.sum(axis=0)
    there = np.flatnonzero(counts.sum(axis=0))
    mean = histogram.sums.sum(axis=0)[there] / counts[:, there].sum(axis=0)
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(draws):
        some = random.poisson(counts[:, there])
        if not some.any(axis=1).all():
            continue
        drawn = ScoreHistogram(some[None], (mean * some.sum(axis=0))[None])  # of the cells that hold something
        for name, measure in measures.items():
            found[name].append(measure(drawn))
    return {name: _bounds(measures[name](histogram), values) for name, values in found.items()}


def _bounds(value: float, drawn: list[float]) -> tuple[float, float]:
    if len(drawn) < 2:
        return value, value
    margin = Z_95 * float(np.std(drawn))
    return max(0.0, value - margin), min(1.0, value + margin)


def _labelled(histogram: ScoreHistogram) -> Counts:
    """Return [2, CELLS] counts of all groups. Raises ValueError unless both classes are there."""
    counts: NDArray[np.int64] = histogram.counts.sum(axis=0)
    for label in (0, 1):
        if not counts[label].any():
            events = int(counts.sum())
            raise ValueError(f"of {events} events none has the label {label}: this measure needs both classes")
    return counts


def _caught(counts: Counts) -> tuple[Floats, Floats]:
    """Return the shares of positives and negatives above each threshold, from the highest, beginning with 0."""
    above = np.cumsum(counts[:, ::-1], axis=1)
    share = np.concatenate([np.zeros((2, 1)), above / above[:, -1:]], axis=1)
    return share[1], share[0]
