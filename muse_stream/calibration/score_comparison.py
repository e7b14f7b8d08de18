"""Two predictors' scores of the same events side by side: rank agreement, quantiles, rates with grouped intervals.

Events of one entity (card, customer) are correlated. An interval here is Wilson's for as many independent events as the
sample is worth: its size over the design effect, the variance of the rate between entities over that of independent
events.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from muse_stream.calibration.evidence import design_effect
from muse_stream.calibration.measures import Z_95
from muse_stream.calibration.piecewise_linear import Floats
from muse_stream.calibration.reference import Reference

TAIL = 1e-4
"""Quantiles are compared up to this share of the highest scores."""


class GroupedRate(Struct, frozen=True):
    """A share of events, and the interval that holds it with 95 % confidence."""

    value: float
    low: float
    high: float


def grouped_rate(alerts: ArrayLike, groups: ArrayLike) -> GroupedRate:
    """Return the share of alerts; `groups`: the entity of each event, as a code. Raises ValueError without events."""
    flags = np.asarray(alerts, dtype=bool)
    if not flags.size:
        raise ValueError("a rate needs events")
    return wilson(float(flags.mean()), flags.size / design_effect(flags, groups))


def wilson(rate: float, size: float) -> GroupedRate:
    """Return Wilson's interval of a rate that as many independent events have shown."""
    middle = rate + Z_95**2 / (2.0 * size)
    margin = Z_95 * float(np.sqrt(rate * (1.0 - rate) / size + Z_95**2 / (4.0 * size * size)))
    scale = 1.0 + Z_95**2 / size
    low, high = (middle - margin) / scale, (middle + margin) / scale
    return GroupedRate(rate, min(max(0.0, low), rate), max(min(1.0, high), rate))  # rounding may cross 0 and 1


def rank_agreement(one: ArrayLike, other: ArrayLike) -> float | None:
    """Return Spearman's rank correlation, ties with their mean rank; None where one side is constant."""
    first, second = (_ranks(np.asarray(side, dtype=np.float64)) for side in (one, other))
    if len(first) != len(second):
        raise ValueError(f"{len(first)} scores against {len(second)}: both are of the same events")
    first, second = first - first.mean(), second - second.mean()
    spread = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / spread if spread > 0.0 else None


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2.0)[place.reshape(-1)])


def quantile_pairs(one: ArrayLike, other: ArrayLike, points: int = 120) -> tuple[Floats, Floats]:
    """Return quantiles of both at the same levels, half of them in the upper tail. Raises ValueError without events."""
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    last = 1.0 - max(TAIL, 1.0 / min(first.size, second.size)) if first.size and second.size else 0.0
    body = np.linspace(0.0, 0.9, points // 2)
    tail = 1.0 - np.geomspace(0.1, max(1.0 - last, 1e-9), points // 2) if last > 0.9 else np.linspace(0.9, 1.0, 2)
    levels = np.unique(np.concatenate([body, tail]))
    return np.quantile(first, levels), np.quantile(second, levels)


def distance_from(reference: Reference, scores: NDArray[np.float64]) -> float:
    """Return the Kolmogorov-Smirnov distance of a sample from a reference. Raises ValueError without events."""
    if not scores.size:
        raise ValueError("a sample without events has no distribution")
    values, counts = np.unique(scores, return_counts=True)
    beyond = np.cumsum(counts[::-1])[::-1] / scores.size  # share at or above each value
    promised = reference.alert_rate(values)
    behind = np.append(beyond[1:], 0.0)  # above each value
    above = reference.alert_rate(np.minimum(np.nextafter(values, 2.0), 1.0))
    return float(max(np.abs(beyond - promised).max(), np.abs(behind - above).max()))
