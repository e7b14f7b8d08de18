"""When positives become more or less frequent: the correction for a new prior, its estimate, and a test of it.

Calibrated probabilities under one share of positives (the prior that they were trained or recalibrated on) become
probabilities under another by multiplying their odds by the ratio of the two priors' odds (`prior_beta`, for
`posterior_correction`). The new share may be known, or it is estimated from scores alone, without labels, by
expectation maximisation (Saerens, Latinne, Decaestecker 2002).

The estimate assumes that only the share of positives has moved, and positives and negatives still look as they did
("label shift"). `estimate_prior` tests that, where scores from before are given: under label shift the new scores are a
mixture of the two old classes, which the calibrated scores of before tell apart without labels. Expected and counted
events are compared in bins; a small `p_value` says that something else has moved, and the estimate means nothing.
"""

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike

from muse_stream.calibration.piecewise_linear import Floats
from muse_stream.calibration.posterior_correction import corrected
from muse_stream.calibration.score_histogram import ScoreHistogram, scores_of

STEPS: Final = 20_000
CLOSE: Final = 1e-12
BINS: Final = 20
CONFIDENCE_95: Final = 1.96


def prior_beta(trained: float, prior: float) -> float:
    """Return the ratio of odds that takes probabilities from one share of positives to another.

    Raises ValueError unless both lie strictly between 0 and 1.
    """
    for share in (trained, prior):
        if not 0.0 < share < 1.0:
            raise ValueError(f"a prior is a share of positives strictly between 0 and 1, not {share!r}")
    return (prior / (1.0 - prior)) / (trained / (1.0 - trained))


class PriorEstimate(Struct, frozen=True):
    """An estimated share of positives."""

    prior: float
    low: float
    high: float
    """Bounds at 95 % confidence, as far as the assumption holds."""
    p_value: float | None
    """How often chance alone makes scores fit label shift so badly or worse; None where nothing was compared."""

    def assumption_holds(self, level: float = 0.01) -> bool:
        """Say whether the scores are compatible with label shift. Raises ValueError where that was not tested."""
        if self.p_value is None:
            raise ValueError("give `before`, scores under the old prior: without them nothing is tested")
        return self.p_value >= level


def estimate_prior(scores: ArrayLike, trained: float, before: ArrayLike | None = None) -> PriorEstimate:
    """Estimate the share of positives among events of which only scores are known.

    `scores` are probabilities as calibrated under a share `trained` of positives; `before` are scores of events from
    when that share held, and are what the assumption is tested with. Raises ValueError when there are none, they are
    no probabilities, all the same, or `trained` is no share.
    """
    prior_beta(trained, 0.5)
    values, counts = _compressed(scores, "scores")
    of_positives, of_negatives = values / trained, (1.0 - values) / (1.0 - trained)
    weight = counts / counts.sum()
    prior = trained
    for _ in range(STEPS):
        following = float(np.sum(weight * corrected(values, prior_beta(trained, prior))))
        following = min(max(following, CLOSE), 1.0 - CLOSE)
        moved, prior = abs(following - prior), following
        if moved <= CLOSE * prior:
            break
    density = prior * of_positives + (1.0 - prior) * of_negatives
    information = float(np.sum(counts * np.square((of_positives - of_negatives) / density)))
    margin = CONFIDENCE_95 / float(np.sqrt(information))
    p_value = None if before is None else _fit(scores, before, trained, prior)
    return PriorEstimate(prior, max(0.0, prior - margin), min(1.0, prior + margin), p_value)


def _compressed(scores: ArrayLike, what: str) -> tuple[Floats, Floats]:
    given = scores_of(scores, what)
    if given.min() == given.max():
        raise ValueError(f"{what}: all {given.size} are {given[0]:g}; they tell nothing of the share of positives")
    values, counts = ScoreHistogram.of(given).weighted()
    return values, counts.astype(np.float64)


def _fit(scores: ArrayLike, before: ArrayLike, trained: float, prior: float) -> float:
    """Return the p-value of the new scores under the mixture of the old classes."""
    from scipy.special import chdtrc  # noqa: PLC0415 - 0.5 s to import, and only fitting needs it

    new, old = scores_of(scores), scores_of(before, "before")
    edges = np.unique(np.quantile(old, np.linspace(0.0, 1.0, BINS + 1)[1:-1]))
    # positives crowd in the top bin of the old scores: it is cut where they are
    top = old[old >= edges[-1]]
    edges = np.union1d(edges, np.quantile(top, [0.5, 0.75, 0.9]))
    odds = prior * old / trained + (1.0 - prior) * (1.0 - old) / (1.0 - trained)
    bins = len(edges) + 1
    place = np.searchsorted(edges, old, side="right")
    share = np.bincount(place, weights=odds, minlength=bins) / old.size
    square = np.bincount(place, weights=odds * odds, minlength=bins) / old.size
    counted = np.bincount(np.searchsorted(edges, new, side="right"), minlength=bins)
    expected = new.size * share
    spread = expected + new.size**2 * np.maximum(square - share * share, 0.0) / old.size
    there = spread > 0.0
    statistic = float(np.sum(np.square(counted - expected)[there] / spread[there]))
    return float(chdtrc(int(there.sum()) - 1, statistic))
