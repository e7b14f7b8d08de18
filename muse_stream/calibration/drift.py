"""Has a tenant's stream left the distribution that it was promised? Asked as often as anybody likes, for ever.

Takes counts of one tenant and predictor since its quantile map serves (events and alerts in quarters of an hour, and by
groups of entities) and how far the last days' scores are from the reference (population stability index,
Kolmogorov-Smirnov distance). Gives the alert rate at each threshold with an interval, and whether anything has drifted.

An alert rate has drifted if it lies outside its band: `tolerance` of the promise to either side, or LIMIT standard
errors of the sample that the map was fitted to, where that is more. What the fit itself cannot know is no drift. It is
decided by likelihood ratios, mixed over odds ratios of RATIOS with the weights PRIOR, against the edge of the band. A
drift may begin at any time, so one is begun with each quarter of an hour, and they are added up. While the rate is
inside, the sum of all that begin within `window` days, with 1 for each that has not begun, is a supermartingale that
starts at their number. So it ever reaches that number / alpha with probability alpha at most (Ville, 1939): looking
again costs nothing, and small counts need no approximation. Afterwards a false alarm comes once in `window` / alpha
days on average, at most (Shiryaev, 1963; Roberts, 1966; Pollak, 1987). Where events of one entity come in groups,
counts are divided by the design effect: a burst of one card is no drift, and a sample in which they came so is worth as
much less.

The interval of a rate is that of the one window that says most, by the same bound, so it is a little wider than what
decides.

Stability index and distance have drifted if they are above their limits by more than chance explains: for the distance
Dvoretzky, Kiefer, Wolfowitz and Massart's inequality (1990), for the index, which is chi-squared in the limit, the tail
bound of Laurent and Massart (2000), at each look its share of alpha, for the events and for the fit.

Everything is pure: no clock, no random number. docs/drift.md has the figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from muse_stream.calibration.alert_rates import LIMIT
from muse_stream.calibration.day_counts import CELLS, MapCounts
from muse_stream.calibration.measures import PSI_BINS
from muse_stream.calibration.piecewise_linear import Floats
from muse_stream.calibration.quantile_map import QuantileMap
from muse_stream.calibration.score_sketch import ScoreSketch

SKETCH_ERROR: Final = 0.01
"""How far a distribution function that is read from a sketch may be off."""
RATIOS: Final = np.array([0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 4.0, 8.0]) + 1.0
"""Of the odds of an alert to those at the edge of the band, or the reverse."""
PRIOR: Final = np.array([0.01, 0.02, 0.05, 0.15, 0.3, 0.25, 0.11, 0.06, 0.03, 0.02])
"""Weights of RATIOS: most near 1.7, a doubled rate to the edge of the default band: it is to be called soon."""
SHARES: Final = (0.9, 0.05, 0.05)
"""Of alpha: for alert rates, stability index and distance."""
RARE: Final = 0.02
"""Up to this alert rate thresholds have equal shares of alpha, above it less in proportion: their drifts are called
after few events all the same."""


@dataclass(frozen=True, slots=True)
class DriftLimits:
    """What is allowed."""

    tolerance: float = 0.2
    """Share of a promised alert rate."""
    psi: float = 0.2
    """Population stability index."""
    ks: float = 0.1
    """Kolmogorov-Smirnov distance of the distribution functions."""


@dataclass(frozen=True, slots=True)
class Recent:
    """How far the scores of the last days are from their reference."""

    events: int
    psi: float = float("nan")
    """Population stability index; NaN without events."""
    ks: float = float("nan")
    """Kolmogorov-Smirnov distance; NaN without events."""

    @classmethod
    def of(cls, sketch: ScoreSketch, served: QuantileMap) -> "Recent":
        """Return that of scores which a sketch has taken, under a map."""
        return cls(sketch.events, *sketch.against(served)) if sketch.events else cls(0)


@dataclass(frozen=True, slots=True)
class RateDrift:
    """One threshold, over the window that says most."""

    threshold: float
    promised: float
    events: int
    """In the window."""
    rate: float
    low: float
    high: float
    """The true alert rate lies within these; they hold for all looks at once."""
    drifted: bool

    @property
    def error(self) -> float:
        """How far the rate is from the promise, relative to it, with its sign."""
        return self.rate / self.promised - 1.0


@dataclass(frozen=True, slots=True)
class Drift:
    """What is known of one tenant and predictor."""

    events: int
    """Since the map serves, as far as days are kept."""
    rates: tuple[RateDrift, ...]
    psi: float
    """Population stability index of the last days; NaN without events."""
    ks: float
    """Kolmogorov-Smirnov distance of the last days; NaN without events."""
    psi_drifted: bool
    ks_drifted: bool

    @property
    def drifted(self) -> bool:
        """Whether anything has left its limits."""
        return self.psi_drifted or self.ks_drifted or any(one.drifted for one in self.rates)


def drift(
    days: Sequence[MapCounts],
    recent: Recent,
    samples: int,
    promised: Mapping[float, float],
    limits: DriftLimits,
    alpha: float,
    window: int,
) -> Drift:
    """Say whether a stream has drifted.

    `days`: what the map that serves has served, in order, from the first day on; `recent`: of the last days; `samples`:
    events that the map was fitted to; `alpha`: how probable a false alarm is for this tenant and predictor within
    `window` days, those of `days`.
    """
    known = [one for one in days if one.thresholds == tuple(promised)]
    cells = np.concatenate([one.cells for one in known]) if known else np.zeros((0, 1 + len(promised)), np.int64)
    cells = cells[cells[:, 0] > 0]
    groups = sum((one.groups for one in known), np.zeros((1, 1 + len(promised)), np.int64))
    effects = np.array([design_effect(groups[:, 0], groups[:, 1 + at]) for at in range(len(promised))])
    samples = max(samples, 1)
    looks = CELLS * window
    rates = _rates(cells, effects, promised, samples, limits.tolerance, SHARES[0] * alpha / looks)
    events, psi, ks = int(cells[:, 0].sum()), recent.psi, recent.ks
    if not recent.events:
        return Drift(events, rates, psi, ks, psi_drifted=False, ks_drifted=False)
    worth, fitted = (size / max(float(effects.max(initial=1.0)), 1.0) for size in (recent.events, samples))
    steadily, far = (np.log(looks / (share * alpha)) for share in SHARES[1:])
    chance = (PSI_BINS - 1 + 2.0 * np.sqrt((PSI_BINS - 1) * steadily) + 2.0 * steadily) * (1.0 / worth + 1.0 / fitted)
    margin = sum(float(np.sqrt((far + np.log(4.0)) / (2.0 * n))) for n in (worth, fitted)) + SKETCH_ERROR
    psi_drifted = bool(np.sqrt(psi) - np.sqrt(chance) > np.sqrt(limits.psi))
    return Drift(events, rates, psi, ks, psi_drifted, ks_drifted=ks - margin > limits.ks)


def design_effect(events: NDArray[np.int64], alerts: NDArray[np.int64]) -> float:
    """Return how much larger the variance of a count of alerts is than that of independent events; at least 1.

    Both are [groups of entities]: the events of an entity are in one group.
    """
    total, count = float(events.sum()), float(alerts.sum())
    if not total or count in (0.0, total):
        return 1.0
    rate = count / total
    return max(float(np.square(alerts - rate * events).sum()) / (total * rate * (1.0 - rate)), 1.0)


def spent(promised: Sequence[float]) -> Floats:
    """Return the share of alpha that each threshold has, given its promised alert rate; they add up to 1."""
    weights = RARE / np.maximum(promised, RARE)
    return np.asarray(weights / weights.sum())


def _rates(
    cells: NDArray[np.int64],
    effects: Floats,
    promised: Mapping[float, float],
    samples: int,
    tolerance: float,
    alpha: float,
) -> tuple[RateDrift, ...]:
    """Return the loudest window of each threshold; windows end now and begin with each cell."""
    if not len(cells):
        return tuple(RateDrift(one, rate, 0, float("nan"), 0.0, 1.0, False) for one, rate in promised.items())
    sums = np.cumsum(cells[::-1], axis=0)[::-1].astype(np.float64)  # [starts, 1 + thresholds]
    needed = np.log(2.0 / (alpha * spent(list(promised.values()))))  # [thresholds], either side
    loudest = np.zeros(len(promised), dtype=np.int64)
    strongest = np.zeros(len(promised))
    for at, rate in enumerate(promised.values()):
        band = max(tolerance * rate, LIMIT * float(np.sqrt(rate * (1.0 - rate) * effects[at] / samples)))
        low, high = max(rate - band, 0.0), min(rate + band, 1.0)
        events, alerts = sums[:, 0] / effects[at], sums[:, 1 + at] / effects[at]
        sides = _added(events, alerts, high), _added(events, events - alerts, 1.0 - low)
        strongest[at], loudest[at] = max(sides)
    n = sums[loudest, 0] / effects
    count = sums[loudest, 1 + np.arange(len(promised))] / effects
    below, above = np.split(_lowest(np.tile(n, 2), np.concatenate([count, n - count]), np.tile(needed, 2)), 2)
    above = 1.0 - above
    return tuple(
        RateDrift(
            threshold, rate, round(float(sums[loudest[at], 0])), float(count[at] / n[at]), float(below[at]),
            float(above[at]), bool(strongest[at] >= needed[at]),
        )
        for at, (threshold, rate) in enumerate(promised.items())
    )  # fmt: skip


def evidence(events: Floats, alerts: Floats, edge: float | Floats) -> Floats:
    """Return the logarithm of the likelihood ratio of rates above `edge` to the edge itself; 0 where it is 0 or 1."""
    return _mixed(_ratios(events, alerts, np.asarray(edge, dtype=np.float64)))


def _ratios(events: Floats, alerts: Floats, edge: Floats) -> Floats:
    """Return [events, RATIOS] logarithms of likelihood ratios; 0 where the edge is 0 or 1."""
    inside = (edge > 0.0) & (edge < 1.0)
    sound = np.where(inside, edge, 0.5)
    # with odds r times those at the edge: (1 - p) / (1 - e) = 1 / (1 - e + e r), and p / e is r times that
    of_event = -np.log1p(sound[..., None] * (RATIOS - 1.0)) * inside[..., None]
    return np.asarray(alerts[:, None] * (np.log(RATIOS) * inside[..., None]) + events[:, None] * of_event)


def _mixed(ratios: Floats) -> Floats:
    top = ratios.max(axis=1)
    return np.asarray(top + np.log(np.exp(ratios - top[:, None]) @ PRIOR))


def _added(events: Floats, alerts: Floats, edge: float) -> tuple[float, int]:
    """Return the logarithm of the sum of the likelihood ratios of all starts, and which start says most."""
    ratios = _ratios(events, alerts, np.array(edge))
    top = float(ratios.max())
    each = np.exp(ratios - top) @ PRIOR
    return top + float(np.log(each.sum())), int(np.argmax(each))


def _lowest(events: Floats, alerts: Floats, needed: Floats) -> Floats:
    """Return the rates that these alerts just do not exclude from below."""
    low, high = np.zeros(len(events)), alerts / events
    for _ in range(30):
        middle = 0.5 * (low + high)
        excluded = evidence(events, alerts, middle) >= needed
        low, high = np.where(excluded, middle, low), np.where(excluded, high, middle)
    return low
