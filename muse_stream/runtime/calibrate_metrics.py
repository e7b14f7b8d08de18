"""What the role `calibrate` counts, for Prometheus; docs/metrics.md explains each."""

import time
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from muse_stream.runtime.drift_looks import TenantDrift
from muse_stream.runtime.refreshing import Refresher
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
        drift = ("tenant", "predictor")
        self._drifted = Gauge("muse_drifted", "1 while the scores have drifted", drift, registry=registry)
        self._stability = Gauge("muse_drift_stability_index", "Against the reference", drift, registry=registry)
        self._distance = Gauge("muse_drift_distance", "Against the reference", drift, registry=registry)
        drift_at = (*drift, "threshold")
        self._rate_at = Gauge(
            "muse_drift_alert_ratio", "Alert rate over the window that says most", drift_at, registry=registry
        )
        self._low = Gauge("muse_drift_alert_ratio_low", "It is not less", drift_at, registry=registry)
        self._high = Gauge("muse_drift_alert_ratio_high", "It is not more", drift_at, registry=registry)
        self._promised = Gauge("muse_drift_promised_alert_ratio", "What was promised", drift_at, registry=registry)
        self._last_look = Gauge(
            "muse_drift_last_look_timestamp_seconds", "When this process last looked for drift", registry=registry
        )
        self._refreshes = _RefreshMetrics(registry, of)
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

    def show(self, found: Sequence[TenantDrift]) -> None:
        """Show what a look for drift has found."""
        for gauge in (
            *(self._drifted, self._stability, self._distance),
            *(self._rate_at, self._low, self._high, self._promised),
        ):
            gauge.clear()
        for one in found:
            of = one.tenant, one.predictor
            self._drifted.labels(*of).set(one.drift.drifted)
            self._stability.labels(*of).set(one.drift.stability)
            self._distance.labels(*of).set(one.drift.distance)
            for at in one.drift.rates:
                values = at.rate, at.low, at.high, at.promised
                gauges = self._rate_at, self._low, self._high, self._promised
                for gauge, value in zip(gauges, values, strict=True):
                    gauge.labels(*of, f"{at.threshold:g}").set(value)
        self._last_look.set(time.time())

    def show_refreshes(self, refresher: Refresher) -> None:
        """Show how refreshes stand."""
        self._refreshes.show(refresher)

    def rate(self) -> float:
        """Return the scores counted a second, lately."""
        return round(self._rate, 1)


class _RefreshMetrics:
    """How the refresh of maps stands."""

    def __init__(self, registry: CollectorRegistry, of: Mapping[str, str]) -> None:
        whose = ("tenant", "predictor")
        self._state = Gauge(
            "muse_refresh", "1 for the state of each tenant's refresh", [*whose, "state"], registry=registry
        )
        self._reason = Gauge(
            "muse_refresh_reason", "1 for what keeps a map from being fitted or applied", [*whose, "kind"],
            registry=registry,
        )  # fmt: skip
        self._move = Gauge(
            "muse_refresh_largest_move_ratio", "Of an alert rate, by the proposed map", whose, registry=registry
        )
        self._applied = Counter(
            "muse_refreshes_applied", "Maps that this process has made current", of, registry=registry
        ).labels(**of)
        self._told = 0

    def show(self, refresher: Refresher) -> None:
        for gauge in (self._state, self._reason, self._move):
            gauge.clear()
        for one in refresher.states():
            whose = one.tenant, one.predictor
            self._state.labels(*whose, one.state).set(1)
            for kind in one.reasons:
                self._reason.labels(*whose, kind).set(1)
            if one.largest_move is not None:
                self._move.labels(*whose).set(one.largest_move)
        self._applied.inc(refresher.applied - self._told)
        self._told = refresher.applied
