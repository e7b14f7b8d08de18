"""How long events wait for their answers: from their Kafka timestamp to the commit."""

from collections.abc import Iterator

import numpy as np
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from muse_stream.config import Role
from muse_stream.worker import Sample

BOUNDS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""From the 30 ms of a worker that keeps up to half an hour of a backlog. 1 s is the objective of docs/runbooks.md."""
_BOUNDS = np.array(BOUNDS_S)
AHEAD_S = 1.0
NAMES = {
    "live": ("muse_answer_latency_seconds", "Time from an event's Kafka timestamp to the commit of its answer"),
    "shadow": (
        "muse_shadow_latency_seconds",
        "Time from an event's Kafka timestamp to the commit of its audit records",
    ),
}
"""Two names: who sums over all workers must not take the audit for an answer."""


class LatencyHistogram(Collector):
    """One thread adds whole batches, another may collect: what it reads is replaced whole."""

    def __init__(self, role: Role) -> None:
        self._name, self._text = NAMES[role]
        self._found = np.zeros(len(BOUNDS_S) + 1), 0.0

    def add(self, sample: Sample, events: int, at_s: float) -> float:
        """Count a batch that was committed at this time; returns how many events came from the future.

        A timestamp that is ahead of the clock counts as no time; records without one are not counted.
        """
        stamps = np.frombuffer(sample, dtype=np.int64)
        ages = at_s - stamps[stamps > 0] / 1000.0
        if not len(ages):
            return 0.0
        each = events / len(stamps)
        ahead = each * float(np.count_nonzero(ages < -AHEAD_S))
        ages = np.maximum(ages, 0.0)
        counts, total = self._found
        places = np.searchsorted(_BOUNDS, ages)
        self._found = counts + each * np.bincount(places, minlength=len(counts)), total + each * float(ages.sum())
        return ahead

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram as it is at this moment."""
        counts, total = self._found
        bounds = [*map(floatToGoString, BOUNDS_S), "+Inf"]
        yield HistogramMetricFamily(
            self._name, self._text, buckets=list(zip(bounds, counts.cumsum().tolist(), strict=True)), sum_value=total
        )
