"""How often `watch` is wrong, and how soon it is right: `python -m perf.watch [--tenants 60] [--days 30]`.

No broker: events are made (`tests/calibration/alert_stream.py`), the test is that of the product. Cards are risky for
good or for a day, and a few of them have most events. Every look at every tenant counts as a chance of a false alarm.

A drift lets one tenant's alert rates double within 20,000 events. It is *significant* as soon as an interval that
somebody begins with the drift, knowing of it, shows a rate outside of its tolerance: the one of `promote`, at 95 %
(`once`), and with the same care for 60 tenants of 4 thresholds (`corrected`).
"""

import argparse
from multiprocessing import Pool

import numpy as np

from muse_stream.calibration import AlertWatch, expected
from tests.calibration.alert_stream import PROMISED, Stream, drifting, stream

STEP = 500
"""Events between two looks at a tenant."""
TOLERANCE, FALSE_ALARM = 0.2, 0.05
CORRECTION = 3.71 / 1.96
"""Normal quantiles of 0.05 over 240 questions, and of one."""
RAMP, FACTOR = 20_000, 2.0


def _walked(watch: AlertWatch, given: Stream) -> tuple[int, int, float]:
    """Return after how many events a predictor was found to have moved a rate, and the stream (0: never)."""
    stream_at, loudest = 0, 0.0
    for end in range(STEP, len(given) + 1, STEP):
        part = slice(end - STEP, end)
        watch.add(given.new[part], given.old[part], given.cards[part])
        found = watch.verdicts()
        loudest = max(loudest, *(abs(one.new - one.old) / one.margin for one in found))
        stream_at = stream_at or end * any(one.stream for one in found)
        if any(one.moved for one in found):
            return end, stream_at, loudest
    return 0, stream_at, loudest


def _stationary(asked: tuple[int, int, int, int]) -> tuple[int, int, float]:
    seed, tenants, days, per_day = asked
    cards = int(np.random.default_rng(seed).integers(100, 4_000))
    return _walked(AlertWatch(PROMISED, TOLERANCE, FALSE_ALARM / tenants), stream(seed, days * per_day, per_day, cards))


def _drift(asked: tuple[int, int]) -> tuple[int, int, int]:
    seed, tenants = asked
    rng = np.random.default_rng(seed)
    at = int(rng.integers(2_000, 40_000))
    given = drifting(stream(seed, at + 40_000, 2_000, int(rng.integers(500, 5_000))), at, RAMP, FACTOR)
    found, _, _ = _walked(AlertWatch(PROMISED, TOLERANCE, FALSE_ALARM / tenants), given)
    return found - at, _significant(given, at, 1.0) - at, _significant(given, at, CORRECTION) - at


def _significant(given: Stream, at: int, wider: float) -> int:
    for end in range(at + STEP, len(given), STEP):
        for threshold, rate in PROMISED.items():
            one = expected(given.old[at:end], given.new[at:end], threshold, given.cards[at:end])
            if one.change - wider * one.margin > TOLERANCE * rate:
                return end
    return len(given)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m perf.watch", description=__doc__)
    parser.add_argument("--tenants", type=int, default=60)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--events", type=int, default=1_000, help="of each tenant and day")
    parser.add_argument("--drifts", type=int, default=40)
    asked = parser.parse_args()
    with Pool(2) as pool:
        quiet = pool.map(_stationary, [(n, asked.tenants, asked.days, asked.events) for n in range(asked.tenants)])
        drifts = pool.map(_drift, [(1_000 + n, asked.tenants) for n in range(asked.drifts)])
    looks = asked.tenants * asked.days * asked.events // STEP
    print(f"{asked.tenants} tenants, {asked.days} days, {asked.tenants * asked.days * asked.events:,} events, "
          f"{looks:,} looks at {len(PROMISED)} thresholds each")  # fmt: skip
    back, moved = (sum(one[kind] > 0 for one in quiet) for kind in (0, 1))
    loudest = max(one[2] for one in quiet)
    print(f"rolled back: {back} tenants; stream said to move: {moved}; largest difference: {loudest:.2f} margins")
    found, once, corrected = (np.array(column) for column in zip(*drifts, strict=True))
    early = int((found < 0).sum())
    print(f"{len(found)} drifts, x {FACTOR:g} within {RAMP:,} events; found after (median, worst) "
          f"{np.median(found):,.0f}, {found.max():,} events of drift, before it began: {early}")  # fmt: skip
    for name, significant in (("once", once), ("corrected", corrected)):
        late = found - significant
        print(f"after it was significant ({name}): median {np.median(late):,.0f}, 90 % {np.quantile(late, 0.9):,.0f}, "
              f"worst {late.max():,} events; more than 5,000: {int((late > 5_000).sum())}")  # fmt: skip


if __name__ == "__main__":
    main()
