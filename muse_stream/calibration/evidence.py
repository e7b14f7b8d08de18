"""How far a fitted map can be trusted: for each threshold, within what its true alert rate lies.

Takes the sample that a map was fitted on, the thresholds of the reference, and (where they are known) the entities that
the events belong to. Returns one `Trust` for each threshold.

A map puts its threshold at an order statistic of its sample. Whatever the distribution, the share of later events at or
above the k-th largest of n independent scores has the Beta(k, n - k + 1) distribution (Wilks, "Determination of Sample
Sizes for Setting Tolerance Limits", 1941; David and Nagaraja, "Order Statistics", 2003, section 2.5): its quantiles are
the interval. Events of one entity are no independent ones: then n is divided by the design effect, the variance of the
alert rate between entities (`alert_rates`) over that of independent events. What changes after the sample was taken is
in no interval.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from muse_stream.calibration.alert_rates import Term, move
from muse_stream.calibration.cold_start import Posterior
from muse_stream.calibration.piecewise_linear import Floats
from muse_stream.calibration.quantile_map import FittedMap, QuantileMap, sound_scores
from muse_stream.calibration.reference import Reference

ENOUGH = 0.5
"""A threshold is known well enough if its interval is no wider than this share of its alert rate to either side."""
TIED = 0.02
"""Ties make a threshold unreachable where the sample itself misses its alert rate by this share of it."""
MOST_EVENTS = 10**12


class Trust(Struct, frozen=True):
    """One threshold of a fitted map."""

    threshold: float
    promised: float
    """The alert rate that the reference promises there."""
    low: float
    high: float
    """The true alert rate lies within these, with 95 % confidence."""
    reached: float | None
    """The alert rate on the sample itself, which ties keep from the promise; None without a sample."""
    needed: int
    """Events of the tenant, in all, with which the interval would be half as wide."""

    @property
    def enough(self) -> bool:
        """Whether the interval is narrow enough to rely on."""
        return max(self.high - self.promised, self.promised - self.low) <= ENOUGH * self.promised

    @property
    def tied(self) -> bool:
        """Whether ties keep the map from what is promised, however many events there are."""
        return self.reached is not None and abs(self.reached - self.promised) > TIED * self.promised


def trust(
    scores: ArrayLike, fitted: FittedMap, reference: Reference, thresholds: Sequence[float], entities: ArrayLike = ()
) -> tuple[Trust, ...]:
    """Return what a map that was fitted on these scores can be trusted in; `entities`: of each event, as a code.

    Raises ValueError for thresholds that do not rise in (0, 1), and for scores that are none.
    """
    sample = sound_scores(scores)
    groups = np.asarray(entities, dtype=np.int64)
    if groups.size not in (0, sample.size):
        raise ValueError(f"{groups.size:,} entities of {sample.size:,} events")
    rates = checked_rates(reference, thresholds)
    served = QuantileMap(fitted, reference).apply(sample)
    found = []
    for threshold, rate in zip(thresholds, rates, strict=True):
        size = sample.size / design_effect(served >= threshold, groups)
        low, high = interval(rate, size)
        reached = float(np.mean(served >= threshold))
        # on its own sample a map is exact to half an event: only what is beyond is a tie
        miss = max(abs(reached - rate) - 1.0 / sample.size, 0.0)
        reached = rate if miss == 0.0 else reached
        needed = round(_halving(rate, size, high - low) * sample.size / size)
        found.append(Trust(threshold, rate, low, high, reached, needed))
    return tuple(found)


def trust_in_cold_start(
    known: Posterior, events: int, reference: Reference, thresholds: Sequence[float]
) -> tuple[Trust, ...]:
    """Return the same for a map between the pool's and the tenant's own, from what is known of the tenant."""
    found = []
    for threshold, rate in zip(thresholds, checked_rates(reference, thresholds), strict=True):
        low, high = known.interval(rate)
        # an error falls with the root of the events, counted with those that the pool stands for
        worth = events / max(known.share(rate), 0.01) if events else _independent(rate, high - low)
        found.append(Trust(threshold, rate, low, high, None, round(4.0 * worth)))
    return tuple(found)


def trust_in_counts(
    events: int,
    effects: Sequence[float],
    reached: Sequence[float],
    reference: Reference,
    thresholds: Sequence[float],
    error: float,
) -> tuple[Trust, ...]:
    """Return the same for a map that was fitted to counts: of each threshold the design effect and the rate reached.

    `error`: how far a rate that was read from them may be off, as a share of it.
    """
    found = []
    rates = checked_rates(reference, thresholds)
    for threshold, rate, effect, got in zip(thresholds, rates, effects, reached, strict=True):
        size = events / effect
        low, high = interval(rate, size)
        needed = round(_halving(rate, size, high - low) * effect)
        bounds = low * (1.0 - error), min(high * (1.0 + error), 1.0)
        miss = max(abs(got - rate) - 1.0 / events - error * rate, 0.0)
        found.append(Trust(threshold, rate, *bounds, got if miss else rate, needed))
    return tuple(found)


def checked_rates(reference: Reference, thresholds: Sequence[float]) -> list[float]:
    """Return the promised alert rate of each threshold; ValueError unless the thresholds rise strictly in (0, 1)."""
    rising = np.asarray(thresholds, dtype=np.float64)
    if not rising.size:
        raise ValueError("there is no threshold to say anything of")
    if not np.all((rising > 0.0) & (rising < 1.0)) or not np.all(np.diff(rising) > 0.0):
        raise ValueError(f"thresholds rise strictly between 0 and 1, not {', '.join(f'{one:g}' for one in thresholds)}")
    return [round(float(rate), 12) for rate in reference.alert_rate(rising)]


def design_effect(alerts: ArrayLike, entities: ArrayLike) -> float:
    """Return how much larger the variance of an alert rate is than that of independent events; at least 1."""
    values = np.asarray(alerts, dtype=np.float64)
    groups = np.asarray(entities, dtype=np.int64)
    rate = float(values.mean())
    if not groups.size or rate in (0.0, 1.0):
        return 1.0
    error = move([Term(np.arange(len(values), dtype=np.int64), values)], [groups]).error
    return max(error**2 * len(values) / (rate * (1.0 - rate)), 1.0)


def interval(rate: float, size: float) -> tuple[float, float]:
    """Return the 95 % interval of the true alert rate, where a sample of `size` independent events put it at `rate`."""
    from scipy.special import betaincinv  # noqa: PLC0415 - 0.5 s to import

    beyond = rate * size
    low, high = betaincinv(beyond, size - beyond + 1.0, 0.025), betaincinv(beyond + 1.0, size - beyond, 0.975)
    return float(min(low, rate)), float(max(high, rate))


def _halving(rate: float, size: float, width: float) -> float:
    """Return the size of a sample whose interval is half as wide."""
    low, high = size, size * 4.0
    while _width(rate, high) > width / 2.0 and high < MOST_EVENTS:
        high *= 2.0
    while high > low * 1.005:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _width(rate, middle) > width / 2.0 else (low, middle)
    return high


def _width(rate: float, size: float) -> float:
    low, high = interval(rate, size)
    return high - low


def _independent(rate: float, width: float) -> float:
    """Return how many independent events give an interval of this width."""
    return rate * (1.0 - rate) * (3.92 / max(width, 1e-12)) ** 2


Flags = NDArray[np.bool_]


class EstimatedBeta(Struct, frozen=True):
    """The share of negatives that an expert was trained with, as labelled events tell it."""

    beta: float
    low: float
    high: float
    """With 95 % confidence."""
    events: int
    positives: int


def estimate_beta(scores: ArrayLike, labels: ArrayLike) -> EstimatedBeta:
    """Estimate the beta of a posterior correction from an expert's raw scores and the labels of the full stream.

    The correction multiplies the odds by beta, so log(beta) is the constant of a logistic regression with the logit of
    the score as offset (King and Zeng, "Logistic Regression in Rare Events Data", 2001): the maximum of the likelihood,
    and its standard error. Scores of exactly 0 and 1 stay what they are under any beta and do not count.
    ValueError for labels that are not 0 or 1, or of one class only, and for scores that are none.
    """
    sample = sound_scores(scores)
    positive = checked_labels(labels, sample.size)
    inside = (sample > 0.0) & (sample < 1.0)
    sample, positive = sample[inside], positive[inside]
    if not positive.any() or positive.all():
        raise ValueError("of the events whose score lies between 0 and 1, all have the same label: beta is unknown")
    offset = np.log(sample) - np.log1p(-sample)
    low, high = -40.0, 40.0
    for _ in range(100):  # the share of positives that is expected rises with the constant
        middle = 0.5 * (low + high)
        short = float((positive - _logistic(offset + middle)).sum()) > 0.0
        low, high = (middle, high) if short else (low, middle)
    constant = 0.5 * (low + high)
    chance = _logistic(offset + constant)
    error = 1.0 / np.sqrt(float((chance * (1.0 - chance)).sum()))
    low, high = (float(np.exp(np.clip(constant + side * 1.96 * error, -300.0, 300.0))) for side in (-1.0, 1.0))
    return EstimatedBeta(float(np.exp(constant)), low, high, len(positive), int(positive.sum()))


def checked_labels(labels: ArrayLike, events: int) -> Flags:
    """Return labels as flags; ValueError unless they are 0 and 1, both there, one for each event."""
    given = np.asarray(labels)
    try:
        numbers = given.astype(np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise ValueError("labels are 0 (genuine) and 1 (fraud), not text or nothing") from None
    if numbers.size != events:
        raise ValueError(f"{numbers.size:,} labels of {events:,} events")
    wrong = numbers[~np.isin(numbers, (0.0, 1.0))]
    if wrong.size:
        raise ValueError(f"labels are 0 (genuine) and 1 (fraud): {wrong.size:,} are others, as {wrong[0]:g}")
    flags: Flags = numbers == 1.0
    if flags.all() or not flags.any():
        raise ValueError(f"all {events:,} labels are {int(bool(flags.any()))}: both classes are needed")
    return flags


def _logistic(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -700.0, 700.0))), dtype=np.float64)
