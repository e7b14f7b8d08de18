"""What the role `calibrate` counts, for Prometheus; docs/metrics.md explains each."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge

from muse_stream.runtime.score_counter import ScoreCounter
from muse_stream.runtime.score_reader import ScoreReader

RATE_S = 10.0


class CalibrateMetrics:
    """Metrics of one process, on a registry of their own."""

    def __init__(self, lane: str, slot: int) -> None:
        self.registry = registry = CollectorRegistry()
        of = {"lane": lane, "slot": str(slot)}
        self._counted = Counter(
            "muse_calibrate_scores_counted", "Scores that are counted and stored", of, registry=registry
        ).labels(**of)
        self._left_out = Counter(
            "muse_calibrate_records_left_out", "Records that are not counted", [*of, "reason"], registry=registry
        )
        self._waiting = Gauge(
            "muse_calibrate_rows_waiting", "Scores that were read and are not stored yet", of, registry=registry
        ).labels(**of)
        self._stored = Gauge(
            "muse_calibrate_stored_timestamp_seconds", "When all that was read was stored", of, registry=registry
        ).labels(**of)
        self._lag = Gauge("muse_calibrate_lag", "Offsets that wait to be read", of, registry=registry).labels(**of)
        self._of, self._told, self._reasons = of, 0, dict[str, int]()
        self._looked, self._before, self._rate = time.monotonic(), 0, 0.0
        self.lag: int | None = None

    def tell(self, counter: ScoreCounter, reader: ScoreReader, lag: int | None) -> None:
        """Show where the process stands."""
        self._counted.inc(counter.counted - self._told)
        self._told = counter.counted
        for reason, count in reader.left_out.items():
            self._left_out.labels(**self._of, reason=reason).inc(count - self._reasons.get(reason, 0))
            self._reasons[reason] = count
        self._waiting.set(counter.waiting)
        self._stored.set(counter.stored_at)
        self._lag.set(float("nan") if lag is None else lag)
        self.lag = lag
        now = time.monotonic()
        if now - self._looked >= RATE_S:
            self._rate = (counter.counted - self._before) / (now - self._looked)
            self._looked, self._before = now, counter.counted

    def rate(self) -> float:
        """Return the scores counted a second, lately."""
        return round(self._rate, 1)
