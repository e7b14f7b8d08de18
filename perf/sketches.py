"""How exact are alert rates of sketches and of maps fitted to them, how large are stored counts, and how fast is it?

    python -m perf.sketches [--events 1000000] [--trials 20]

Each trial draws scores as an undersampled, corrected expert gives them, counts them as the role `calibrate` does
(stored and read again between), and compares with the exact counts: the alert rate of the exact map read from the
sketch, and the exact alert rate of the sketch's map. Prints the largest relative error at each rate, of all trials.
The scores are drawn again to be compared, not kept: any number of events takes the same memory.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np

from muse_stream.calibration import Arrivals, DayCounts, FittedMap, QuantileMap, Reference

RATES = {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05, 0.85: 0.02, 0.9: 0.01, 0.95: 0.005, 0.99: 0.001}
FLUSHES = 20
MOST_ROWS = 500_000
"""The role stores as soon as so many wait."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--trials", type=int, default=20)
    asked = parser.parse_args()
    promise = Reference.from_alert_rates(RATES)
    wanted = np.array(list(RATES.values()))
    read, fitted, sizes, seconds = [], [], [], 0.0
    for trial in range(asked.trials):
        exact = QuantileMap(_exact(trial, asked.events, promise), promise)
        counts = DayCounts("tenant", "content", "2026-11-26")
        alerts = np.zeros(len(RATES))
        for first, scores in _parts(trial, asked.events):
            rows = np.arange(first, first + len(scores))
            served = exact.apply(scores)
            alerts += [np.count_nonzero(served >= one) for one in RATES]
            cells, groups = rows * 96 // asked.events, rows % 128
            began = time.process_time()
            counts.add([Arrivals("topic/0", rows, scores, served, cells, groups, "map", tuple(RATES))])
            data = counts.to_bytes()
            counts = DayCounts.from_bytes(data)
            seconds += time.process_time() - began
        sizes.append(len(data))
        read.append(np.abs(counts.sketch.alert_rates(exact, list(RATES)) / (alerts / asked.events) - 1))
        own = QuantileMap(counts.sketch.fit(promise), promise)
        found = np.zeros(len(RATES))
        for _first, scores in _parts(trial, asked.events):
            mapped = own.apply(scores)
            found += [np.count_nonzero(mapped >= one) for one in RATES]
        fitted.append(np.abs(found / asked.events / wanted - 1))
    print("alert rate          ", *(f"{100 * rate:8.3g} %" for rate in wanted))
    for name, errors in (("read from the sketch", read), ("of the sketch's map ", fitted)):
        print(name, *(f"{100 * one:8.2f} %" for one in np.max(errors, axis=0)))
    print(f"stored: {max(sizes):,} bytes; {asked.trials * asked.events / seconds:,.0f} scores/s of one core")


def _parts(trial: int, events: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the scores of a trial, as many at once as the role stores: the same each time."""
    random = np.random.default_rng(trial)
    size = min(-(-events // FLUSHES), MOST_ROWS)
    for first in range(0, events, size):
        yield first, random.beta(0.3, 30, min(size, events - first))


def _exact(trial: int, events: int, promise: Reference) -> FittedMap:
    """Return a map that keeps the promise of a sample of the trial's scores; exact where that is all of them."""
    sample = np.concatenate([scores for first, scores in _parts(trial, events) if first < 2_000_000])
    return FittedMap.fit(sample, promise)


if __name__ == "__main__":
    main()
