"""Counters, gauges and histograms of one process, and the Prometheus text of them all.

A metric's name is a constant beside the code that reports it, never here; its kind is the method that is called, its
labels those of the first call. A metric reported wrongly is a bug that must not stop scoring: logged once, dropped.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from typing import Literal, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, that nobody reads

LOG = logging.getLogger("muse_stream.metrics")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bucket bounds that show a 30 ms promise and a 5 s transaction timeout."""
M = TypeVar("M", Counter, Gauge, Histogram)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric as it stands: all its series at once."""

    kind: Literal["counter", "gauge"]
    name: str
    labels: tuple[str, ...]
    series: Sequence[tuple[tuple[str, ...], float]]
    """Values of the labels, in their order, and the number."""


class _Source(Collector):
    """Gives prometheus_client what a source of families says."""

    def __init__(self, source: Callable[[], Iterable[Family]], describe: Mapping[str, str], wrong: set[str]) -> None:
        self._source, self._describe, self._wrong = source, describe, wrong

    def describe(self) -> list[Metric]:
        """Say nothing before it is asked: registering would otherwise call the source."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Return the families of this moment."""
        try:
            families = list(self._source())
        except Exception as error:  # noqa: BLE001  # a page without them is better than none
            if "families" not in self._wrong:
                self._wrong.add("families")
                LOG.warning("metrics_unavailable", extra={"error": repr(error)})
            return
        for family in families:
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            made = kind(family.name, self._describe.get(family.name, family.name), labels=family.labels)
            for values, number in family.series:
                made.add_metric(values, number)
            yield made


class Metrics:
    """The metrics of one process; offers what rooms ask for by their own small protocols.

    `describe` gives the help text of a name; `buckets` the bounds of a histogram whose unit is not seconds.
    """

    def __init__(
        self,
        *,
        describe: Mapping[str, str] | None = None,
        buckets: Mapping[str, Sequence[float]] | None = None,
        version: str | None = None,
    ) -> None:
        self._describe = describe or {}
        self._buckets = buckets or {}
        self._registry = CollectorRegistry()
        self._known: dict[str, Counter | Gauge | Histogram] = {}
        self._wrong: set[str] = set()
        self._lock = threading.Lock()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        Info("muse_build", "What runs here", registry=self._registry).info(
            {"version": version or installed("muse-stream")}
        )

    def count(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Add `amount` (not negative) to a counter."""
        self._report(name, lambda: self._one(Counter, name, labels).inc(amount))

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        self._report(name, lambda: self._one(Gauge, name, labels).set(value))

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Add one observation to a histogram; in seconds unless `buckets` says otherwise."""
        self._report(name, lambda: self._one(Histogram, name, labels).observe(value))

    def show(self, source: Callable[[], Iterable[Family]]) -> None:
        """Show families whose series come and go, as `source` gives them at the moment somebody asks.

        It is called in the thread of whoever asks. What it raises is logged once; the other metrics are shown.
        """
        self._registry.register(_Source(source, self._describe, self._wrong))

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _report(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except (ValueError, TypeError) as error:
            if name not in self._wrong:
                self._wrong.add(name)
                LOG.warning("metric_refused", extra={"metric": name, "error": str(error)})

    def _one(self, kind: type[M], name: str, labels: Mapping[str, str]) -> M:
        metric = self._known.get(name)
        if metric is None:
            with self._lock:  # two threads may report a metric for the first time at once
                metric = self._known.get(name) or self._make(kind, name, labels)
                self._known[name] = metric
        if not isinstance(metric, kind):
            raise TypeError(f"it is a {type(metric).__name__}, not a {kind.__name__}")
        return metric.labels(**labels) if labels else metric

    def _make(self, kind: type[M], name: str, labels: Mapping[str, str]) -> Counter | Gauge | Histogram:
        text = self._describe.get(name, name.replace("_", " "))
        if issubclass(kind, Histogram):
            bounds = self._buckets.get(name, SECONDS)
            return Histogram(name, text, tuple(labels), registry=self._registry, buckets=bounds)
        made: Counter | Gauge = (Counter if issubclass(kind, Counter) else Gauge)(
            name, text, tuple(labels), registry=self._registry
        )
        return made
