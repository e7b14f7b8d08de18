"""What a worker counts, under the names that dashboards and alerts use; docs/metrics.md explains each.

The names, help texts and labels below are the contract with dashboards and alerts. Units stand in the names; a label
never carries an event, an id or a tenant's data. Everything is counted once per batch, and what is counted per tenant
when it is committed. A tenant that leaves the lane takes its series with it.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from msgspec.structs import replace
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
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from muse_stream.config import Role
from muse_stream.control import TenantBeat
from muse_stream.runtime.latency_histogram import LatencyHistogram
from muse_stream.runtime.score_counts import ScoreCounters, ScoreGroups
from muse_stream.worker import UNKNOWN_S, Sample, Scorer, Tally, Topology, Waiting

if TYPE_CHECKING:
    from muse_stream.models import Backend
    from muse_stream.schema_registry import Registry

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, that nobody reads

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bucket bounds that show a 30 ms promise and a 5 s transaction timeout."""
UNKNOWN = "(unknown)"
"""The tenant of a dead letter that nobody can tell the tenant of; no name has brackets."""
Clock = Callable[[], float]
TENANT_GAUGES = {
    "muse_tenant_paused": "1 while the tenant's events are not read, or only on trial",
    "muse_tenant_lag_events": (
        "Events of the tenant's event topic that wait in this worker's partitions; NaN when that is not known"
    ),
    "muse_tenant_lag_unknown": "1 while nobody can tell how many events of the tenant wait",
    "muse_tenant_oldest_unscored_age_seconds": (
        "Age of the oldest event of the tenant that waits, by its Kafka timestamp; 0 for none, NaN when not known"
    ),
    "muse_tenant_undecided_events": "Those at or behind the start of a transaction that their producer has not ended",
    "muse_tenant_removed_unread_events": "Events that retention has removed before they were answered",
}
"""In the order of the values in `_tenants`."""


class WorkerMeter:
    """Implements `worker.meter.Meter` on a registry of its own, which another thread may collect."""

    def __init__(
        self,
        role: Role,
        lane: str,
        slot: int,
        clock: Clock = time.time,
        ticks: Clock = time.monotonic,
        *,
        memory_restarts: int = 0,
    ) -> None:
        self.registry = registry = _registry(role, lane, slot)
        self._events = Counter(
            "muse_events",
            "Events decoded, scored and encoded, before their transaction's outcome is known",
            registry=registry,
        )
        self._scoring, self._transaction = _scoring(registry), _transaction(registry)
        self._committed = Counter("muse_events_committed", "Events whose answers are committed", registry=registry)
        self._aborts = Counter(
            "muse_aborts", "Transactions given up and done again, by Kafka's reason", ("code",), registry=registry
        )
        self._generation = Gauge("muse_generation", "Generation that answers now", registry=registry)
        self._rebalances = _rebalances(registry)
        # each batch has all of them: to find a label's series costs more than to count in it
        self._stage, self._outcome = cache(_stages(registry).labels), cache(_outcomes(registry).labels)
        self._swap, self._load, self._ahead = _swap(registry), _load(registry), _ahead(registry)
        self._hanging = Gauge(
            "muse_transactions_hanging",
            "Output partitions whose last stable offset does not move, because a transaction stays open",
            registry=registry,
        )
        self._hanging_ended = _hanging_ended(registry)
        self._letters, self._skipped = _letters(registry), _skipped(registry)
        self._clipped, self._refused = _clipped(registry), _refused(registry)
        self._registry_away, self._schemas_waiting = _schema_registry(registry)
        _memory_restarts(registry).inc(memory_restarts)
        self.answered = 0  # for the heartbeat, which another thread makes
        self.generation: int | None = None
        self.backends: Mapping[str, Backend] = {}
        """What runs each model of it."""
        self._lane = _LaneCollector(role, clock, ticks)
        registry.register(self._lane)
        self._latency = LatencyHistogram(role)
        registry.register(self._latency)

    def expects(self, scorer: Scorer) -> None:
        """Show its tenants, of whom nothing is known yet: a worker that cannot open its clients must be seen."""
        self._lane.topology = scorer.topology

    def serving(self, scorer: Scorer) -> None:
        """Take over a generation: its tenants are those that have series; its number is shown when they are."""
        self._lane.topology = scorer.topology
        known = {UNKNOWN, *(tenant for tenants in scorer.topology.tenants.values() for tenant in tenants)}
        for labels in [sample.labels for metric in self._letters.collect() for sample in metric.samples]:
            if labels["tenant"] not in known:
                self._letters.remove(labels["tenant"], labels["reason"])
        if isinstance(scorer.book, ScoreGroups):
            self._lane.groups = scorer.book
            self._lane.scores.serve(scorer.book)
        self._load.set(getattr(scorer, "load_s", None) or 0.0)
        self._generation.set(scorer.number)
        self.generation = scorer.number
        self.backends = getattr(scorer, "backends", {})

    def traces(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """Show, from now on, what became of spans."""
        self.registry.register(_TraceCollector(counts))

    def refuses(self, question: Callable[[], object]) -> None:
        """Ask this, from now on, whether what is current is not served."""
        self._refused.set_function(lambda: float(bool(question())))

    def asks(self, registry: "Registry") -> None:
        """Show, from now on, how this Schema Registry answers; without one it counts as there."""
        self._registry_away.set_function(lambda: float(bool(registry.away)))
        self._schemas_waiting.set_function(lambda: float(registry.waiting))

    def scored(self, events: int, seconds: float) -> None:
        """Count a scored batch."""
        self._events.inc(events)
        self._scoring.observe(seconds)

    def committed(self, events: int, tally: Tally | None, seconds: float | None) -> None:
        """Count a committed transaction: what it held, and then its events, whose answers are counted by then."""
        self._outcome("committed").inc()
        if seconds is not None:
            self._transaction.observe(seconds)
            self._stage("commit").observe(seconds)
        if tally is not None:
            self._tally(tally)
        self._committed.inc(events)
        self.answered += events

    def _tally(self, tally: Tally) -> None:
        if isinstance(tally.book, ScoreGroups):
            self._lane.scores.add(tally.book, tally.groups)
        for (tenant, reason), count in tally.letters.items():
            self._letters.labels(tenant or UNKNOWN, reason).inc(count)
        for model, count in tally.clipped.items():
            self._clipped.labels(model).inc(count)

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Take in how long each stage of a batch took."""
        for stage, took in seconds.items():
            self._stage(stage).observe(took)

    def latency(self, sample: Sample, events: int, at_s: float) -> None:
        """Take in how long events have waited for their answer."""
        self._ahead.inc(self._latency.add(sample, events, at_s))

    def swapped(self, seconds: float) -> None:
        """Take in how long scoring stood still for another generation."""
        self._swap.observe(seconds)

    def rebalanced(self, events: Mapping[str, int]) -> None:
        """Count what the group has done."""
        for kind, count in events.items():
            self._rebalances.labels(kind).inc(count)

    def aborted(self, code: str) -> None:
        """Count a transaction given up, by Kafka's code."""
        self._outcome("aborted").inc()
        self._aborts.labels(code).inc()

    def waiting(self, waiting: Mapping[str, Waiting]) -> None:
        """Take in what waits by event topic."""
        self._lane.tell(waiting)

    def hanging(self, partitions: int) -> None:
        """Set how many output partitions stand still."""
        self._hanging.set(partitions)

    def hanging_ended(self, records: int, copied: int) -> None:
        """Count the records of a hanging transaction: dropped, or written again because they were committed."""
        self._hanging_ended.labels("dropped").inc(records - copied)
        self._hanging_ended.labels("copied").inc(copied)

    def paused(self, event_topics: Mapping[str, str]) -> None:
        """Take in which event topics are paused, and why."""
        self._lane.paused = event_topics

    def heartbeat_skipped(self) -> None:
        """Count a heartbeat that the store did not take."""
        self._skipped.inc()

    def tenants(self) -> dict[str, TenantBeat]:
        """Return what the heartbeat tells of each tenant; another thread may ask."""
        letters = defaultdict[str, dict[str, int]](dict)
        for sample in (sample for metric in self._letters.collect() for sample in metric.samples):
            letters[sample.labels["tenant"]][sample.labels["reason"]] = int(sample.value)
        found = self._lane.tenants(letters)
        unknown = letters.get(UNKNOWN)
        return found | ({UNKNOWN: TenantBeat(dead_letters=unknown)} if unknown else {})


def _hanging_ended(registry: CollectorRegistry) -> Counter:
    text = "Records of hanging transactions that this worker has ended, by what became of them"
    return Counter("muse_hanging_records_ended", text, ("outcome",), registry=registry)


def _letters(registry: CollectorRegistry) -> Counter:
    return Counter(
        "muse_dead_letters", "Events refused, committed, by tenant and reason", ("tenant", "reason"), registry=registry
    )


def _skipped(registry: CollectorRegistry) -> Counter:
    return Counter("muse_heartbeats_skipped", "Heartbeats that the generation store did not take", registry=registry)


def _memory_restarts(registry: CollectorRegistry) -> Counter:
    text = "Processes of this slot that were replaced because of their memory, since the run started"
    return Counter("muse_memory_restarts", text, registry=registry)


def _clipped(registry: CollectorRegistry) -> Counter:
    return Counter(
        "muse_clipped_probabilities",
        "Answers of a model that lay outside [0, 1] by float error alone and were bounded, committed, by model",
        ("model",),
        registry=registry,
    )


def _scoring(registry: CollectorRegistry) -> Histogram:
    text = "Time to decode, score and encode one batch"
    return Histogram("muse_scoring_seconds", text, buckets=SECONDS, registry=registry)


def _transaction(registry: CollectorRegistry) -> Histogram:
    text = "Time from a batch's first flush to its commit"
    return Histogram("muse_transaction_seconds", text, buckets=SECONDS, registry=registry)


def _outcomes(registry: CollectorRegistry) -> Counter:
    found = Counter("muse_transactions", "Transactions, by what became of them", ("outcome",), registry=registry)
    for outcome in ("committed", "aborted"):
        found.labels(outcome)
    return found


def _stages(registry: CollectorRegistry) -> Histogram:
    return Histogram(
        "muse_stage_seconds", "Time of one batch in each stage", ("stage",), buckets=SECONDS, registry=registry
    )


def _swap(registry: CollectorRegistry) -> Histogram:
    text = "Time in which nothing is scored while another generation is taken up"
    return Histogram("muse_generation_swap_seconds", text, buckets=SECONDS, registry=registry)


def _load(registry: CollectorRegistry) -> Gauge:
    text = "Time to load, compile and warm up the generation that answers now"
    return Gauge("muse_generation_load_seconds", text, registry=registry)


def _rebalances(registry: CollectorRegistry) -> Counter:
    found = Counter("muse_rebalances", "What the group has done with partitions", ("kind",), registry=registry)
    for kind in ("assigned", "revoked", "lost"):
        found.labels(kind)
    return found


def _ahead(registry: CollectorRegistry) -> Counter:
    text = "Events whose Kafka timestamp was more than a second ahead of this machine's clock when they were answered"
    return Counter("muse_events_ahead_of_clock", text, registry=registry)


def _schema_registry(registry: CollectorRegistry) -> tuple[Gauge, Gauge]:
    away = "1 while the Schema Registry does not answer what this worker asks"
    waiting = "Schemas that this worker has asked the Schema Registry for and not been told yet"
    return (
        Gauge("muse_schema_registry_away", away, registry=registry),
        Gauge("muse_schema_registry_schemas_waiting", waiting, registry=registry),
    )


def _refused(registry: CollectorRegistry) -> Gauge:
    return Gauge(
        "muse_generation_refused",
        "1 while the store's current generation is not served: refused, or it cannot be read",
        registry=registry,
    )


def _registry(role: Role, lane: str, slot: int) -> CollectorRegistry:
    """Return a registry with what never changes in a process, and what the client library knows of it."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    Info("muse_build", "What runs here", registry=registry).info({"version": version("muse-stream")})
    names = ("role", "lane", "slot")
    worker = Gauge("muse_worker_info", "Which worker this is; always 1", names, registry=registry)
    worker.labels(role, lane, str(slot)).set(1)
    return registry


class _TraceCollector(Collector):
    """What another part of the process has counted."""

    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Yield one counter."""
        text = "Spans of sampled events, by what became of them"
        found = CounterMetricFamily("muse_trace_spans", text, labels=["outcome"])
        for outcome, count in self._counts().items():
            found.add_metric([outcome], count)
        yield found


class _LaneCollector(Collector):
    """The series that come and go with tenants and predictors, made when somebody asks.

    What it reads is replaced whole by the worker's thread, never changed in place.
    """

    def __init__(self, role: Role, clock: Clock, ticks: Clock) -> None:
        self._role, self._clock, self._ticks = role, clock, ticks
        self.topology = Topology({}, {})
        self.groups: ScoreGroups | None = None
        self.scores = ScoreCounters()
        self.paused: Mapping[str, str] = {}
        self._told: tuple[Mapping[str, Waiting], float] | None = None
        """What waits by event topic, and when that was told."""

    def tell(self, waiting: Mapping[str, Waiting]) -> None:
        """Take in what waits by event topic."""
        self._told = waiting, self._ticks()

    def collect(self) -> Iterator[Metric]:
        """Yield every tenant's and predictor's metrics as they are at this moment."""
        yield from self._tenants(self._known())
        yield from self._scores()
        if self._role == "shadow":
            yield _agreements(self.scores)
        if self.groups is not None:
            yield _promised(self.groups)

    def _known(self) -> dict[str, Waiting]:
        """Return what waits by event topic; not known where the worker has told nothing lately."""
        waiting, at_s = self._told or ({}, 0.0)
        late = self._told is None or self._ticks() - at_s > UNKNOWN_S
        topics = {*self.topology.tenants, *waiting}
        each = {topic: waiting.get(topic, Waiting()) for topic in topics}
        return {topic: replace(one, unknown=True) for topic, one in each.items()} if late else each

    def tenants(self, letters: Mapping[str, Mapping[str, int]]) -> dict[str, TenantBeat]:
        """Return every tenant as it is at this moment, with these dead letters."""
        waiting, now_s, topology, paused = self._known(), self._clock(), self.topology, self.paused
        found: dict[str, TenantBeat] = {}
        for topic, tenants in topology.tenants.items():
            one = waiting.get(topic, Waiting(unknown=True))
            age = _age(one, now_s)
            beat = TenantBeat(
                lag=None if one.unknown else one.events,
                age_s=None if math.isnan(age) else round(age, 3),
                paused=paused.get(topic, ""),
                asked=topic in topology.paused,
                removed=one.removed,
            )
            found |= {tenant: replace(beat, dead_letters=letters.get(tenant, {})) for tenant in tenants}
        return found

    def _tenants(self, waiting: Mapping[str, Waiting]) -> list[GaugeMetricFamily]:
        now_s = self._clock()
        lag_of_all = GaugeMetricFamily(
            "muse_lag_events",
            "Events without a committed answer in this worker's partitions; NaN when that is not known",
            value=sum(map(_lag, waiting.values())) if self._told else math.nan,
        )
        families = {name: GaugeMetricFamily(name, text, labels=["tenant"]) for name, text in TENANT_GAUGES.items()}
        for topic, tenants in self.topology.tenants.items():
            one = waiting[topic]
            values = (float(topic in self.paused), _lag(one), one.unknown, _age(one, now_s), one.held, one.removed)
            for tenant in tenants:
                for family, value in zip(families.values(), values, strict=True):
                    family.add_metric([tenant], float(value))
        return [lag_of_all, *families.values()]

    def _scores(self) -> tuple[CounterMetricFamily, CounterMetricFamily]:
        # two names, not a label: summed over live and shadow workers, an event's answer would count twice
        if self._role == "live":
            every = "muse_scores", "Live scores, committed, by tenant and predictor"
            some = (
                "muse_scores_at_or_above",
                "Live scores at or above a threshold of the predictor's reference, committed",
            )
        else:
            every = "muse_shadow_scores", "Scores of shadow predictors, committed, by tenant and predictor"
            some = (
                "muse_shadow_scores_at_or_above",
                "Scores of shadow predictors at or above a threshold of their reference, committed",
            )
        scores = CounterMetricFamily(*every, labels=["tenant", "predictor"])
        reaching = CounterMetricFamily(*some, labels=["tenant", "predictor", "threshold"])
        for (tenant, predictor, threshold), count in self.scores.series().items():
            if threshold is None:
                scores.add_metric([tenant, predictor], count)
            else:
                reaching.add_metric([tenant, predictor, repr(threshold)], count)
        return scores, reaching


def _agreements(scores: ScoreCounters) -> CounterMetricFamily:
    family = CounterMetricFamily(
        "muse_shadow_agreements",
        "Scores of shadow predictors on the same side of a threshold as the live score of their event, committed",
        labels=["tenant", "predictor", "threshold"],
    )
    for (tenant, predictor, threshold), count in scores.series("agreed").items():
        family.add_metric([tenant, predictor, repr(threshold)], count)
    return family


def _lag(one: Waiting) -> float:
    return math.nan if one.unknown else one.events


def _age(one: Waiting, now_s: float) -> float:
    """An event that is known to wait grows older, whatever else is not known."""
    if one.since_s is not None:
        return max(0.0, now_s - one.since_s)
    return math.nan if one.unknown else 0.0


def _promised(groups: ScoreGroups) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "muse_promised_alert_ratio",
        "Share of scores at or above the threshold that the predictor's reference promises",
        labels=["predictor", "threshold"],
    )
    for predictor, rates in groups.promised.items():
        for threshold, rate in rates.items():
            family.add_metric([predictor, repr(threshold)], rate)
    return family
