"""Events as banks have them, for tests of alert rates over time: cards that are risky for good, or for a day.

Two predictors score the same events, each true to the promise over all cards; what they have in common makes them agree
on most alerts. `drifting` lets the new one's alert rates grow by a factor.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

PROMISED = {0.8: 0.10, 0.9: 0.05, 0.95: 0.01, 0.99: 0.005}
LASTING, OF_A_DAY, SHARED = 0.36, 0.25, 0.64
"""Parts of the variance: of a card, of a card on one day, and what both predictors see of the rest."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stream:
    """A tenant's events in order."""

    new: Floats
    old: Floats
    cards: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.new)


def stream(seed: int, events: int, per_day: int, cards: int) -> Stream:
    """Return a stationary stream; a few cards have most events."""
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(0.0, 1.0, cards)
    who = rng.choice(cards, size=events, p=activity / activity.sum())
    day = np.arange(events) // per_day
    of_card = rng.standard_normal(cards) * np.sqrt(LASTING)
    of_day = rng.standard_normal((int(day[-1]) + 1, cards)) * np.sqrt(OF_A_DAY)
    rest = np.sqrt(1 - LASTING - OF_A_DAY)
    common = of_card[who] + of_day[day, who] + rng.standard_normal(events) * rest * np.sqrt(SHARED)
    new, old = (common + rng.standard_normal(events) * rest * np.sqrt(1 - SHARED) for _ in range(2))
    return Stream(_score(ndtr(-new)), _score(ndtr(-old)), who)


def drifting(given: Stream, at: int, over: int, factor: float) -> Stream:
    """Let the new predictor's alert rates grow from event `at` on, to `factor` within `over` events."""
    grown = 1 + (factor - 1) * np.clip((np.arange(len(given)) - at) / over, 0, 1)
    return Stream(_score(_rate(given.new) / grown), given.old, given.cards)


def _score(rate: Floats) -> Floats:
    """Return the score at or above which this share of all events lies."""
    rates = [1.0, *PROMISED.values(), 0.0]
    return np.interp(-rate, [-one for one in rates], [0.0, *PROMISED, 1.0])


def _rate(score: Floats) -> Floats:
    rates = [1.0, *PROMISED.values(), 0.0]
    return np.interp(score, [0.0, *PROMISED, 1.0], rates)
