"""How exact are alert rates of sketches and of maps fitted to them, how large are stored counts, and how fast is it?

    python -m perf.sketches [--events 1000000] [--trials 20]

Each trial draws scores as an undersampled, corrected expert gives them, counts them as the role `calibrate` does
(stored and read again between), and compares with the sorted scores: the alert rate of the exact map read from the
sketch, and the exact alert rate of the sketch's map. Prints the largest relative error at each rate, of all trials.
"""

import argparse
import time

import numpy as np

from muse_stream.calibration import Arrivals, DayCounts, QuantileMap, Reference

RATES = {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05, 0.85: 0.02, 0.9: 0.01, 0.95: 0.005, 0.99: 0.001}
FLUSHES = 20


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
        random = np.random.default_rng(trial)
        scores = random.beta(0.3, 30, asked.events)
        exact = QuantileMap.fit(scores, promise)
        counts = DayCounts("tenant", "content", "2026-11-26")
        began = time.process_time()
        for part in np.array_split(np.arange(asked.events), FLUSHES):
            served = exact.apply(scores[part])
            cells, groups = part * 96 // asked.events, part % 128
            counts.add([Arrivals("topic/0", part, scores[part], served, cells, groups, "map", tuple(RATES))])
            data = counts.to_bytes()
            counts = DayCounts.from_bytes(data)
        seconds += time.process_time() - began
        sizes.append(len(data))
        read.append(np.abs(counts.sketch.alert_rates(exact, list(RATES)) / wanted - 1))
        own = QuantileMap(counts.sketch.fit(promise), promise).apply(scores)
        fitted.append(np.abs(np.array([np.mean(own >= one) for one in RATES]) / wanted - 1))
    print("alert rate          ", *(f"{100 * rate:8.3g} %" for rate in wanted))
    for name, errors in (("read from the sketch", read), ("of the sketch's map ", fitted)):
        print(name, *(f"{100 * one:8.2f} %" for one in np.max(errors, axis=0)))
    print(f"stored: {max(sizes):,} bytes; {asked.trials * asked.events / seconds:,.0f} scores/s of one core")


if __name__ == "__main__":
    main()
