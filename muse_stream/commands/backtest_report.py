"""What a backtest found, as plain data: for each policy, over all and tenant by tenant, measures with their intervals.

Alert-rate errors are relative to the promise. Each has the interval that its events allow, and beside the medians
stands the noise: the median error that chance alone would give at these numbers of events, which no map is below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from muse_stream.calibration import (
    AlertRate,
    Floats,
    Rate,
    Reference,
    ScoreHistogram,
    Served,
    brier_score,
    intervals,
    kolmogorov_smirnov,
    labelled_measures,
    population_stability,
    stability_edges,
)

DRAWS: Final = 60
Plain = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Promise:
    """What scores are compared with."""

    reference: Reference
    rates: Mapping[float, float]
    """Threshold -> promised alert rate, ascending."""

    def edges(self) -> Floats:
        """Return the scores that are counted exactly."""
        return np.union1d(np.array(list(self.rates)), stability_edges(self.reference))


@dataclass(frozen=True, slots=True)
class Period:
    """One step of the walk."""

    number: int
    begins: str
    ends: str
    predictor: str
    events: int
    positives: int
    judged: bool
    """False for the first: maps are fitted to it, and nothing was served before."""


@dataclass(slots=True)
class Backtest:
    """Everything that was found."""

    file: str
    events: int
    rejected: int
    """Rows that a predictor could not score: left out everywhere."""
    tenants: tuple[str, ...]
    thresholds: Mapping[float, float]
    periods: list[Period]
    policies: dict[str, Plain]
    """Policy -> `overall`, `tenants`, `periods`."""
    hindsight: Plain
    """`median_errors` and `periods` of maps that each period's own events would have given: what no policy is below."""
    experts: dict[str, Plain]
    """Expert, raw and corrected -> measures against labels, over all."""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> Plain:
        """Return it all as plain data."""
        found: Plain = {name: getattr(self, name) for name in Backtest.__slots__}
        found["thresholds"] = {f"{threshold:g}": rate for threshold, rate in self.thresholds.items()}
        slots = Period.__slots__
        found["periods"] = [{name: getattr(one, name) for name in slots} for one in self.periods]
        return found


def alert_rates(served: Served, tenant: int, promise: Promise) -> list[AlertRate]:
    """Return one tenant's alert rates."""
    events = int(served.counts[tenant].sum())
    return [
        AlertRate(threshold, promised, Rate(int(served.alerts(threshold)[tenant]), events))
        for threshold, promised in promise.rates.items()
    ]


def rates_of(rates: Sequence[AlertRate]) -> list[Plain]:
    """Return alert rates as plain data."""
    return [
        {
            "threshold": one.threshold,
            "promised": one.promised,
            "rate": one.rate.value,
            "interval": list(one.rate.interval),
            "error": one.error,
            "error_interval": list(one.interval),
            "noise": one.noise,
        }
        for one in rates
    ]


def measures(served: Served, promise: Promise) -> Plain:
    """Return the measures of some events: against the reference, and against labels where both classes are there."""
    edges = stability_edges(promise.reference)
    shares = np.diff(np.concatenate([[0.0], 1.0 - promise.reference.alert_rate(edges), [1.0]]))
    found: Plain = {
        "events": served.events,
        "positives": int(served.histogram.counts[:, 1].sum()),
        "population_stability_index": population_stability(shares, served.between(edges)),
        "kolmogorov_smirnov": kolmogorov_smirnov(served.histogram, promise.reference),
        "brier_score": brier_score(float(served.squares.sum()), served.events),
    }
    return {**found, **against_labels(served.histogram)}


def against_labels(histogram: ScoreHistogram) -> Plain:
    """Return the measures that need labels, with intervals; None where a class is missing."""
    functions = labelled_measures()
    keys = {name: name.replace(" ", "_").replace("_%", "") for name in functions}
    if not histogram.counts.sum(axis=(0, 2)).all():
        return {**dict.fromkeys(keys.values()), "intervals": {}}
    bounds = intervals(histogram, functions, draws=DRAWS)
    return {
        **{keys[name]: function(histogram) for name, function in functions.items()},
        "intervals": {keys[name]: list(both) for name, both in bounds.items()},
    }


def medians(cells: Sequence[Sequence[AlertRate]], promise: Promise) -> list[Plain]:
    """Return for each threshold the median error over tenants and periods, with its interval and its noise."""
    found: list[Plain] = []
    if not cells:
        return found
    random = np.random.default_rng(0)
    for place, (threshold, promised) in enumerate(promise.rates.items()):
        errors = np.array([cell[place].error for cell in cells])
        drawn = np.median(random.choice(errors, (DRAWS, len(errors))), axis=1)
        found.append(
            {
                "threshold": threshold,
                "promised": promised,
                "median_error": float(np.median(errors)),
                "interval": [float(bound) for bound in np.quantile(drawn, [0.025, 0.975])],
                "noise": float(np.median([cell[place].noise for cell in cells])),
                "cells": len(errors),
            }
        )
    return found
