"""What `watch` counts, under the names that dashboards and alerts use; docs/metrics.md explains each."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge

from muse_stream.commands.watch import Look

SILENT_S = 120.0
"""Without a look for so long it is not ready: it stands by, or store or Kafka do not answer."""


class WatchMetrics:
    """Metrics on a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        labels = ("tenant", "predictor", "threshold")
        self._looked = Gauge(
            "muse_watch_last_look_timestamp_seconds", "When this process last looked", registry=registry
        )
        self._live = Gauge("muse_watch_alert_ratio", "Alert rate of the promoted predictor", labels, registry=registry)
        self._old = Gauge(
            "muse_watch_replaced_alert_ratio", "What the replaced predictor would give", labels, registry=registry
        )
        self._promised = Gauge("muse_watch_promised_alert_ratio", "What was promised", labels, registry=registry)
        self._moved = Gauge(
            "muse_watch_moved", "1 while the promoted predictor has moved the rate", labels, registry=registry
        )
        self._stream = Gauge(
            "muse_watch_moved_by_stream", "1 while the rate has moved and the stream did it", labels, registry=registry
        )
        self._rollbacks = Counter("muse_watch_rollbacks", "Generations that take a predictor back", registry=registry)
        self._gauges = (self._live, self._old, self._promised, self._moved, self._stream)
        self._at = 0.0

    def take(self, look: Look) -> None:
        """Show what one look has found."""
        for gauge in self._gauges:
            gauge.clear()
        for one in look.seen:
            found = one.verdict
            labels = one.tenant, one.promoted.predictor, f"{found.threshold:g}"
            values = found.new, found.old, found.promised, float(found.moved), float(found.stream)
            for gauge, value in zip(self._gauges, values, strict=True):
                gauge.labels(*labels).set(value)
        self._rollbacks.inc(len(look.rolled_back))
        self._at = time.time()
        self._looked.set(self._at)

    def ready(self) -> bool | str:
        """Say whether it has looked lately."""
        return time.time() - self._at < SILENT_S or "has not looked lately: standing by, or waiting for store or Kafka"
