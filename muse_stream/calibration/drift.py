"""Has a tenant's stream left the distribution that it was promised? Asked as often as anybody likes, for ever.

Takes counts of one tenant and predictor since its quantile map serves (events and alerts in quarters of an hour, and by
groups of entities) and how far the last days' scores are from the reference (population stability index,
Kolmogorov-Smirnov distance). Gives the alert rate at each threshold with an interval, and whether anything has drifted.

An alert rate has drifted if it lies outside its band: `tolerance` of the promise to either side, or LIMIT standard
errors of the sample that the map was fitted to, where that is more. What the fit itself cannot know is no drift. It is
decided by likelihood ratios, mixed over odds ratios (RATIOS, PRIOR in `drift_evidence.py`), against the edge of the
band. A drift may begin at any time, so one is begun with each quarter of an hour, and they are added up. While the rate
is inside, the sum of all that begin within `window` days, with 1 for each that has not begun, is a supermartingale that
starts at their number. So it ever reaches that number / alpha with probability alpha at most (Ville, 1939): looking
again costs nothing, and small counts need no approximation. Afterwards a false alarm comes once in `window` / alpha
days on average, at most (Shiryaev, 1963; Roberts, 1966; Pollak, 1987). Where events of one entity come in groups,
counts are divided by the design effect: a burst of one card is no drift, and a sample in which they came so is worth as
much less.

Half of the evidence about a threshold is of its alert rate, the other half of the shares that it has with the
thresholds next to it. Of the alerts at a threshold, the number that reach the next rarer one is binomial as well. While
both rates are inside their bands, the share is at least the lowest rate of the rarer over the highest of the more
frequent, and at most the highest over the lowest: the same ratios, against these edges. A weighted mean of
supermartingales is one. Where one rate moves and its neighbours do not, shares tell it after fewer events. A share that
is outside says that one of two rates has drifted; it counts for the one whose own evidence is larger, in the direction
that explains the share.

The interval of a rate is that of the one window that says most, from this rate alone, by the same bound. So it is wider
than what decides: where a share decides, it may reach into the band (`RateDrift.beside`).

Stability index and distance have drifted if they are above their limits by more than chance explains: for the distance
Dvoretzky, Kiefer, Wolfowitz and Massart's inequality (1990), for the index, which is chi-squared in the limit, the tail
bound of Laurent and Massart (2000), at each look its share of alpha, for the events and for the fit.

Everything is pure: no clock, no random number. docs/drift.md has the figures.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muse_stream.calibration.alert_rates import LIMIT
from muse_stream.calibration.day_counts import CELLS, GROUPS, MapCounts
from muse_stream.calibration.drift_evidence import ABOVE, BELOW, DriftEvidence, design_effect, evidence, shared_effects
from muse_stream.calibration.measures import PSI_BINS
from muse_stream.calibration.piecewise_linear import Floats
from muse_stream.calibration.quantile_map import QuantileMap
from muse_stream.calibration.score_sketch import ScoreSketch

SKETCH_ERROR: Final = 0.01
"""How far a distribution function that is read from a sketch may be off."""
SHARES: Final = (0.9, 0.05, 0.05)
"""Of alpha: for alert rates, stability index and distance."""
RARE: Final = 0.02
"""Up to this alert rate thresholds have equal shares of alpha, above it less in proportion: their drifts are called
after few events all the same."""


class DriftLimits(Struct, frozen=True):
    """What is allowed."""

    tolerance: float = 0.2
    """Share of a promised alert rate."""
    psi: float = 0.2
    """Population stability index."""
    ks: float = 0.1
    """Kolmogorov-Smirnov distance of the distribution functions."""


class Recent(Struct, frozen=True):
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


class RateDrift(Struct, frozen=True):
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
    beside: float | None = None
    """The threshold next to it whose share established the drift, before its own rate does; None in any other case."""

    @property
    def error(self) -> float:
        """How far the rate is from the promise, relative to it, with its sign."""
        return self.rate / self.promised - 1.0


class Drift(Struct, frozen=True):
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
    events that the map was fitted to; `promised`: alert rate at each threshold, in ascending order of thresholds;
    `alpha`: how probable a false alarm is for this tenant and predictor within `window` days, those of `days`.
    """
    known = [one for one in days if one.thresholds == tuple(promised)]
    cells = np.concatenate([one.cells for one in known]) if known else np.zeros((0, 1 + len(promised)), np.int64)
    cells = cells[cells[:, 0] > 0]
    groups = sum((one.groups for one in known), np.zeros((GROUPS, 1 + len(promised)), np.int64))
    effects = np.array([design_effect(groups[:, 0], groups[:, 1 + at]) for at in range(len(promised))])
    samples = max(samples, 1)
    bands = _bands(list(promised.values()), effects, samples, limits.tolerance)
    looks = CELLS * window
    rates = _rates(cells, groups, promised, effects, bands, SHARES[0] * alpha / looks)
    events, psi, ks = int(cells[:, 0].sum()), recent.psi, recent.ks
    if not recent.events:
        return Drift(events, rates, psi, ks, psi_drifted=False, ks_drifted=False)
    worth, fitted = (size / max(float(effects.max(initial=1.0)), 1.0) for size in (recent.events, samples))
    steadily, far = (np.log(looks / (share * alpha)) for share in SHARES[1:])
    chance = (PSI_BINS - 1 + 2.0 * np.sqrt((PSI_BINS - 1) * steadily) + 2.0 * steadily) * (1.0 / worth + 1.0 / fitted)
    margin = sum(float(np.sqrt((far + np.log(4.0)) / (2.0 * n))) for n in (worth, fitted)) + SKETCH_ERROR
    psi_drifted = bool(np.sqrt(psi) - np.sqrt(chance) > np.sqrt(limits.psi))
    return Drift(events, rates, psi, ks, psi_drifted, ks_drifted=ks - margin > limits.ks)


def spent(promised: Sequence[float]) -> Floats:
    """Return the share of alpha that each threshold has, given its promised alert rate; they add up to 1."""
    weights = RARE / np.maximum(promised, RARE)
    return np.asarray(weights / weights.sum())


def _bands(promised: Sequence[float], effects: Floats, samples: int, tolerance: float) -> Floats:
    """Return [thresholds, 2] the lowest and the highest alert rate that is no drift."""
    rates = np.asarray(promised, dtype=np.float64)
    band = np.maximum(tolerance * rates, LIMIT * np.sqrt(rates * (1.0 - rates) * effects / samples))
    return np.stack([np.maximum(rates - band, 0.0), np.minimum(rates + band, 1.0)], axis=1)


def _rates(
    cells: NDArray[np.int64],
    groups: NDArray[np.int64],
    promised: Mapping[float, float],
    effects: Floats,
    bands: Floats,
    alpha: float,
) -> tuple[RateDrift, ...]:
    """Return the loudest window of each threshold; windows end now and begin with each cell."""
    if not len(cells):
        return tuple(RateDrift(one, rate, 0, float("nan"), 0.0, 1.0, False) for one, rate in promised.items())
    sums = np.cumsum(cells[::-1], axis=0)[::-1].astype(np.float64)  # [starts, 1 + thresholds]
    needed = np.log(2.0 / (alpha * spent(list(promised.values()))))  # [thresholds], either side
    known = DriftEvidence.of(sums, effects, shared_effects(groups, effects), bands)
    both = [[known.about(at, side) for side in (ABOVE, BELOW)] for at in range(len(promised))]
    sides = [ABOVE if above.total >= below.total else BELOW for above, below in both]
    loudest = [both[at][side].loudest for at, side in enumerate(sides)]
    drifted = [both[at][side].total >= needed[at] for at, side in enumerate(sides)]
    n = sums[loudest, 0] / effects
    count = sums[loudest, 1 + np.arange(len(promised))] / effects
    alone = np.tile(needed - known.own_weight, 2)  # an interval never excludes the band before it has drifted
    below, above = np.split(_lowest(np.tile(n, 2), np.concatenate([count, n - count]), alone), 2)
    thresholds = list(promised)
    beside = [
        thresholds[known.neighbour(at, side)] if drifted[at] and known.own(at, side) < needed[at] else None
        for at, side in enumerate(sides)
    ]
    return tuple(
        RateDrift(
            threshold, rate, round(float(sums[loudest[at], 0])), float(count[at] / n[at]), float(below[at]),
            float(1.0 - above[at]), bool(drifted[at]), beside[at],
        )
        for at, (threshold, rate) in enumerate(promised.items())
    )  # fmt: skip


def _lowest(events: Floats, alerts: Floats, needed: Floats) -> Floats:
    """Return the rates that these alerts just do not exclude from below."""
    low, high = np.zeros(len(events)), alerts / events
    for _ in range(30):
        middle = 0.5 * (low + high)
        excluded = evidence(events, alerts, middle) >= needed
        low, high = np.where(excluded, middle, low), np.where(excluded, high, middle)
    return low
