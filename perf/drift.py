"""How often is drift called where there is none, and how soon where there is?

    python -m perf.drift [--tenants 60] [--days 30] [--runs 20] [--jobs 1]

Stationary: the events of each tenant are counted as the role `calibrate` counts them, and after every hour somebody
looks at all thresholds, the stability index and the distance. Each tenant's map is fitted to a sample, whose error it
serves for ever. Events of every third tenant come from its own cards, of which some are risky: no independent events.

Doubled: after quiet days the alert rate that a map serves for the promise of 1 % doubles, at some quarter of an hour;
somebody looks every quarter of an hour, as the role does, until it is called at that threshold. In the last situation
the odds of an alert double at every threshold: shares between thresholds hardly move then. Prints false alarms, and
events until the call: of each situation, and how many runs needed more than 20,000.
"""

import argparse
import resource
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from scipy.special import ndtr

from muse_stream.calibration import (
    CELLS,
    GROUPS,
    Arrivals,
    DayCounts,
    DriftLimits,
    MapCounts,
    QuantileMap,
    Recent,
    Reference,
    ScoreSketch,
    drift,
)

RATES = {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05, 0.85: 0.02, 0.9: 0.01, 0.95: 0.005, 0.99: 0.001}
PROMISE = Reference.from_alert_rates(RATES)
SIZES = ((1_000, 20_000), (5_000, 50_000), (20_000, 100_000))
"""Events a day, and the map's sample."""
TOP = 0.9
"""The threshold of 1 %."""
WITHIN = 20_000
"""Events within which its doubling is to be called."""
HOUR = 4
"""Quarters of an hour between two looks."""
DAYS, RECENT = 30, 7
"""Of alert rates, and of the stability index and the distance."""
CARDS, ALIKE = 2_000, 0.2
"""Of a tenant whose events depend on each other, and how much of a score is its card's."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tenants", type=int, default=60)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    asked = parser.parse_args()
    with ProcessPoolExecutor(asked.jobs) as pool:
        _measure(pool, asked.tenants, asked.days, asked.runs)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{used.ru_utime + used.ru_stime:.0f} s of CPU")


def _measure(pool: ProcessPoolExecutor, tenants: int, days: int, runs: int) -> None:
    alpha = 0.01 / tenants
    each = list(pool.map(partial(_stationary, days=days, alpha=alpha), range(tenants)))
    alarms, looks = sum(found for found, _ in each), sum(looked for _, looked in each)
    print(f"stationary: {tenants} tenants, {days} days, {looks:,} looks: {alarms} false alarms", flush=True)
    for events, samples, quiet, every in (
        (5_000, 100_000, 29, False),
        (20_000, 50_000, 29, False),
        (20_000, 200_000, 10, False),
        (100_000, 200_000, 5, False),
        (20_000, 200_000, 10, True),
    ):
        one = partial(_doubled, events=events, samples=samples, quiet=quiet, alpha=alpha, every=every)
        called = list(pool.map(one, range(runs)))
        late = sum(one > WITHIN for one in called)
        what = "all odds" if every else "1 %"
        print(
            f"{what} doubled after {quiet} days of {events:,}, map of {samples:,}: called after "
            f"{int(np.median(called)):,} events in the median, {max(called):,} at most of {runs} runs, {late} after "
            f"more than {WITHIN:,}",
            flush=True,
        )


class _Stream:
    """One tenant's events: scores and the group of each one's card."""

    def __init__(self, tenant: int) -> None:
        self.random = np.random.default_rng(tenant)
        # every third tenant, of each size once in nine
        self._cards = self.random.normal(size=CARDS) if tenant // 3 % 3 == 0 else None

    def draw(self, events: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores before the map, and groups."""
        if self._cards is None:
            return self.random.random(events), self.random.integers(GROUPS, size=events)
        card = self.random.integers(CARDS, size=events)
        noise = self.random.normal(size=events)
        return ndtr(ALIKE**0.5 * self._cards[card] + (1 - ALIKE) ** 0.5 * noise), card % GROUPS


def _stationary(tenant: int, days: int, alpha: float) -> tuple[int, int]:
    (events, samples), stream = SIZES[tenant % 3], _Stream(tenant)
    served = QuantileMap.fit(stream.draw(samples)[0], PROMISE)
    counted: list[MapCounts] = []
    sketches: list[ScoreSketch] = []
    looks = offset = 0
    for number in range(days):
        today = DayCounts("tenant", "content", str(number))
        counted = counted[1 - DAYS :]
        before = ScoreSketch()
        for one in sketches[1 - RECENT :]:
            before.merge(one)
        stored = before.to_bytes()
        for cell in range(0, CELLS, HOUR):
            size = int(stream.random.poisson(events * HOUR / CELLS))
            scores, groups = stream.draw(size)
            rows = np.arange(offset, offset + size)
            cells = cell + np.arange(size) * HOUR // max(size, 1)
            today.add([Arrivals("t/0", rows, scores, served.apply(scores), cells, groups, "map", tuple(RATES))])
            offset += size
            recent = ScoreSketch.from_bytes(stored)
            recent.merge(today.sketch)
            looks += 1
            days_so_far, last = [*counted, *today.maps.values()], Recent.of(recent, served)
            found = drift(days_so_far, last, samples, RATES, DriftLimits(), alpha, DAYS)
            if found.drifted:
                return 1, looks
        counted.extend(today.maps.values())
        sketches.append(today.sketch)
    return 0, looks


def _doubled(seed: int, events: int, samples: int, quiet: int, alpha: float, every: bool) -> int:
    """Return the events after the shift until it was called."""
    random = np.random.default_rng(seed)
    served = QuantileMap.fit(random.random(samples), PROMISE)
    before, after = served.knots
    alerts = 1.0 - float(np.interp(TOP, after, before))  # what this map serves for the promise of 1 %
    shift = quiet * CELLS + int(random.integers(CELLS))
    days: list[MapCounts] = []
    seen = 0
    for cell in range(shift + 100 * CELLS):
        if cell % CELLS == 0:
            days = [*days[1 - DAYS :], MapCounts.empty(tuple(RATES))]
        share = 1.0 - random.random(max(events // CELLS, 1))  # of events that score higher
        if cell >= shift:
            seen += len(share)
            moved = (share > alerts / 2) & (share <= 2 * alerts)
            to = share / (2.0 - share) if every else alerts / 2 + (share - alerts / 2) / 3.0
            share = np.where(moved | every, to, share)
        scores = 1.0 - share
        rows, where = np.arange(len(scores)), np.full(len(scores), cell % CELLS)
        days[-1].add(Arrivals("t/0", rows, scores, served.apply(scores), where, rows % GROUPS, "", tuple(RATES)))
        if cell >= shift:
            found = drift(days, Recent(0), samples, RATES, DriftLimits(), alpha, DAYS)
            if any(one.threshold == TOP and one.drifted for one in found.rates):
                return seen
    return seen


if __name__ == "__main__":
    main()
