"""How strongly counts say that alert rates have left their bands: likelihood ratios, from every start until now.

One binomial count against the edge of a band: `Ratios.of`. Of every threshold, with its neighbours: `DriftEvidence`.
`calibration/drift.py` says what is decided by it, and docs/drift.md why that bounds false alarms.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muse_stream.calibration.piecewise_linear import Floats

RATIOS: Final = np.array([0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 4.0, 8.0]) + 1.0
"""Of the odds of an alert to those at the edge of the band, or the reverse."""
PRIOR: Final = np.array([0.01, 0.02, 0.05, 0.15, 0.3, 0.25, 0.11, 0.06, 0.03, 0.02])
"""Weights of RATIOS: most near 1.7, a doubled rate to the edge of the default band: it is to be called soon."""
OWN: Final = 0.5
"""Weight of a threshold's own alert rate; the rest is of its shares with one or two neighbours, equally."""
NOTHING: Final = -40.0
"""Logarithm of a likelihood ratio, to the largest, that counts as 0: most are less, and exponentials take the time."""
ABOVE: Final = 0
BELOW: Final = 1


class Ratios(Struct, frozen=True, eq=False):
    """A likelihood ratio for each start: `each`, times e to the power of `top`."""

    top: float
    each: Floats

    @classmethod
    def of(cls, events: Floats, alerts: Floats, edge: float) -> "Ratios":
        """Return those of rates above `edge` to the edge itself; 1 where it is 0 or 1."""
        if not 0.0 < edge < 1.0:
            return cls(0.0, np.ones(len(events)))
        ratios = np.stack(_terms(np.asarray(edge)), axis=1) @ np.stack([alerts, events])  # [RATIOS, starts]
        top = float(ratios.max())
        ratios -= top
        likely = np.exp(ratios, out=np.zeros_like(ratios), where=ratios > NOTHING)
        return cls(top, np.asarray(PRIOR @ likely))

    @classmethod
    def mean(cls, parts: "Sequence[tuple[float, Ratios]]") -> "Ratios":
        """Return the weighted mean; weights that are missing to 1 are of 0."""
        top = max(one.top for _, one in parts)
        return cls(top, np.sum([weight * np.exp(one.top - top) * one.each for weight, one in parts], axis=0))

    @property
    def total(self) -> float:
        """Logarithm of the sum of all starts."""
        return self.top + float(np.log(self.each.sum()))

    @property
    def loudest(self) -> int:
        """Which start says most."""
        return int(np.argmax(self.each))


class DriftEvidence(Struct, frozen=True, eq=False):
    """Of every threshold, in ascending order: that its alert rate is above its band, and that it is below."""

    rates: Sequence[tuple[Ratios, Ratios]]
    """Of the alert rates alone: above, below."""
    shares: Sequence[tuple[Ratios, Ratios]]
    """Of the share of the alerts at a threshold that reach the next, from the first threshold on."""

    @classmethod
    def of(cls, sums: Floats, effects: Floats, shared: Floats, bands: Floats) -> "DriftEvidence":
        """Return that of counts.

        `sums`: [starts, 1 + thresholds] events and alerts from each start until now; `effects`: [thresholds] design
        effects; `shared`: [thresholds - 1] those of the shares; `bands`: [thresholds, 2] lowest and highest rate.
        """
        columns, pairs = np.ascontiguousarray(sums.T), range(len(shared))
        rates = [_sides(columns[0], columns[1 + at], effects[at], *bands[at]) for at in range(len(effects))]
        shares = [
            _sides(columns[1 + at], columns[2 + at], shared[at], *share_band(bands[at], bands[at + 1])) for at in pairs
        ]
        return cls(rates, shares)

    def about(self, at: int, side: int) -> Ratios:
        """Return the evidence that the rate at a threshold is on this side of its band."""
        shares = self._shares(at, side)
        told = [(OWN, self.rates[at][side])] if shares else [(1.0, self.rates[at][side])]
        for step, share in shares.items():
            other = self.rates[at + step][1 - side]
            if self.rates[at][side].total >= other.total:  # of the two rates that may explain the share
                told.append(((1.0 - OWN) / len(shares), share))
        return Ratios.mean(told)

    def own(self, at: int, side: int) -> float:
        """Return the logarithm of what a threshold's own rate contributes."""
        return self.rates[at][side].total + self.own_weight

    @property
    def own_weight(self) -> float:
        """Logarithm of the weight of a threshold's own rate: a threshold without neighbours has nothing else."""
        return float(np.log(OWN)) if self.shares else 0.0

    def neighbour(self, at: int, side: int) -> int:
        """Return the neighbour whose share says most."""
        return at + max((share.total, step) for step, share in self._shares(at, side).items())[1]

    def _shares(self, at: int, side: int) -> dict[int, Ratios]:
        """Return -1 and 1, as far as there are neighbours -> what the share is if the rate is on this side.

        A rate that is higher is a larger share of its more frequent neighbour, and has a smaller one of the rarer.
        """
        found = {-1: self.shares[at - 1][side]} if at > 0 else {}
        return found | ({1: self.shares[at][1 - side]} if at < len(self.shares) else {})


def _sides(events: Floats, alerts: Floats, effect: float, low: float, high: float) -> tuple[Ratios, Ratios]:
    """Return the ratios of rates above `high`, and of rates below `low`."""
    n, count = events / effect, alerts / effect
    return Ratios.of(n, count, high), Ratios.of(n, n - count, 1.0 - low)


def share_band(frequent: Floats, rare: Floats) -> tuple[float, float]:
    """Return the lowest and the highest share of the alerts at a threshold that may reach a rarer one.

    Each has the lowest and the highest alert rate of a threshold.
    """
    low = rare[0] / frequent[1] if frequent[1] > 0.0 else 0.0
    high = rare[1] / frequent[0] if frequent[0] > 0.0 else 1.0
    return min(float(low), 1.0), min(float(high), 1.0)


def design_effect(events: NDArray[np.int64], alerts: NDArray[np.int64]) -> float:
    """Return how much larger the variance of a count of alerts is than that of independent events; at least 1.

    Both are [groups of entities]: the events of an entity are in one group.
    """
    total, count = float(events.sum()), float(alerts.sum())
    if not total or count in (0.0, total):
        return 1.0
    rate = count / total
    return max(float(np.square(alerts - rate * events).sum()) / (total * rate * (1.0 - rate)), 1.0)


def shared_effects(groups: NDArray[np.int64], effects: Floats) -> Floats:
    """Return [thresholds - 1] design effects of the shares, given those of the rates.

    The burst of one entity whose alerts all reach the next threshold has no variance within the share. So a share has
    no smaller effect than the two rates, which see the burst.
    """
    pairs = range(1, groups.shape[1] - 1)
    found = [max(design_effect(groups[:, at], groups[:, at + 1]), effects[at - 1], effects[at]) for at in pairs]
    return np.asarray(found, dtype=np.float64)


def evidence(events: Floats, alerts: Floats, edge: float | Floats) -> Floats:
    """Return the logarithm of the likelihood ratio of rates above `edge` to the edge itself; 0 where it is 0 or 1."""
    edge = np.asarray(edge, dtype=np.float64)
    inside = (edge > 0.0) & (edge < 1.0)
    of_alert, of_event = _terms(np.where(inside, edge, 0.5))
    ratios = (alerts * of_alert[:, None] + events * of_event.reshape(len(RATIOS), -1)) * inside
    top = ratios.max(axis=0)
    return np.asarray(top + np.log(PRIOR @ np.exp(ratios - top)))


def _terms(edge: Floats) -> tuple[Floats, Floats]:
    """Return what each alert, [RATIOS], and each event, [RATIOS] or [RATIOS, edges], adds to the logarithm of a ratio.

    With odds r times those at the edge: (1 - p) / (1 - e) = 1 / (1 - e + e r), and p / e is r times that.
    """
    return np.log(RATIOS), -np.log1p(np.multiply.outer(RATIOS - 1.0, edge))
