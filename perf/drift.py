"""How often is drift called where there is none, and how soon where there is?

    python -m perf.drift [--tenants 60] [--days 30]

Stationary: each tenant's map is fitted to a sample, whose error it serves for ever; every hour of every day somebody
looks at all thresholds. Then an alert rate of 1 % doubles, at some quarter of an hour after quiet days, and looks are
counted until it is called. Prints false alarms, and events until the call.
"""

import argparse
import time

import numpy as np

from muse_stream.calibration import CELLS, DriftLimits, MapCounts, QuantileMap, Reference, ScoreSketch, drift
from muse_stream.calibration.day_counts import GROUPS

RATES = {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05, 0.85: 0.02, 0.9: 0.01, 0.95: 0.005, 0.99: 0.001}
PROMISE = Reference.from_alert_rates(RATES)
SIZES = ((1_000, 20_000), (5_000, 50_000), (20_000, 100_000))
"""Events a day, and the map's sample."""
TOP = 5
"""The threshold of 1 %."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tenants", type=int, default=60)
    parser.add_argument("--days", type=int, default=30)
    asked = parser.parse_args()
    alpha, began, alarms, looks = 0.01 / asked.tenants, time.monotonic(), 0, 0
    for tenant in range(asked.tenants):
        found, looked = _stationary(tenant, asked.days, alpha)
        alarms, looks = alarms + found, looks + looked
    print(f"stationary: {asked.tenants} tenants, {asked.days} days, {looks:,} looks: {alarms} false alarms")
    for events, samples, quiet in (
        (5_000, 100_000, 29),
        (20_000, 50_000, 29),
        (20_000, 200_000, 10),
        (100_000, 200_000, 5),
    ):
        called = [_doubled(seed, events, samples, quiet, alpha) for seed in range(20)]
        print(
            f"1 % doubled after {quiet} days of {events:,}, map of {samples:,}: called after "
            f"{int(np.median(called)):,} events in the median, {max(called):,} at most"
        )
    print(f"{time.monotonic() - began:.0f} s")


def _map(samples: int) -> QuantileMap:
    return QuantileMap.fit(np.random.default_rng(1).random(samples), PROMISE)


def _add(counts: MapCounts, random: np.random.Generator, cell: int, events: int, rates: np.ndarray) -> None:
    columns, left = [events], events
    for at, rate in enumerate(rates):
        left = int(random.binomial(left, min(rate / (rates[at - 1] if at else 1.0), 1.0)))
        columns.append(left)
    counts.cells[cell] += columns
    for at, total in enumerate(columns):
        counts.groups[:, at] += random.multinomial(total, np.full(GROUPS, 1 / GROUPS))


def _stationary(tenant: int, days: int, alpha: float) -> tuple[int, int]:
    random, (events, samples) = np.random.default_rng(tenant), SIZES[tenant % 3]
    fitted, rates = _map(samples), np.sort(random.binomial(samples, list(RATES.values())) / samples)[::-1] + 1e-9
    so_far: list[MapCounts] = []
    looks = 0
    for _ in range(days):
        so_far.append(MapCounts.empty(tuple(RATES)))
        for cell in range(CELLS):
            _add(so_far[-1], random, cell, int(random.poisson(events / CELLS)), rates)
            if cell % 4 == 3:
                looks += 1
                if drift(so_far, ScoreSketch(), fitted, RATES, DriftLimits(), alpha, 30).drifted:
                    return 1, looks
    return 0, looks


def _doubled(seed: int, events: int, samples: int, quiet: int, alpha: float) -> int:
    random, fitted, each = np.random.default_rng(seed), _map(samples), max(events // CELLS, 1)
    rates = np.array(list(RATES.values()))
    doubled = rates.copy()
    doubled[TOP] = 2 * rates[TOP]
    so_far, seen = [MapCounts.empty(tuple(RATES))], 0
    for number in range(quiet * CELLS + int(random.integers(CELLS)) + 100 * CELLS):
        if number % CELLS == 0 and number:
            so_far = [*so_far[-30:], MapCounts.empty(tuple(RATES))]
        shifted = number >= quiet * CELLS + seed * 4
        _add(so_far[-1], random, number % CELLS, each, doubled if shifted else rates)
        if shifted:
            seen += each
            found = drift(so_far, ScoreSketch(), fitted, RATES, DriftLimits(), alpha, 30)
            if found.rates[TOP].drifted:
                return seen
    return seen


if __name__ == "__main__":
    main()
