"""What a worker counts, under the names that dashboards and alerts use; docs/metrics.md explains each.

Implements `worker.meter.Meter` and gives Prometheus text. The names below are the contract with whoever watches; units
stand in them; a label never carries an event, an id or a tenant's data. What is counted per tenant is counted when it
is committed. A tenant that leaves the lane takes its series with it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from muse_stream.runtime.score_counts import Label, ScoreCounters, ScoreGroups
from muse_stream.telemetry import Family, Metrics
from muse_stream.worker import Role, Scorer, Tally, Topology, Waiting

EVENTS = "muse_events"
SCORING_SECONDS = "muse_scoring_seconds"
TRANSACTION_SECONDS = "muse_transaction_seconds"
COMMITTED = "muse_events_committed"
ABORTS = "muse_aborts"
LAG = "muse_lag_events"
GENERATION = "muse_generation"
WORKER = "muse_worker_info"
PAUSED = "muse_tenant_paused"
TENANT_LAG = "muse_tenant_lag_events"
TENANT_AGE = "muse_tenant_oldest_unscored_age_seconds"
DEAD_LETTERS = "muse_dead_letters"
PROMISED = "muse_promised_alert_ratio"
SCORES: Mapping[Role, str] = {"live": "muse_scores", "shadow": "muse_shadow_scores"}
REACHING: Mapping[Role, str] = {"live": "muse_scores_at_or_above", "shadow": "muse_shadow_scores_at_or_above"}
HANGING = "muse_transactions_hanging"
HANGING_ENDED = "muse_hanging_records_ended"

HELP = {
    EVENTS: "Events decoded, scored and encoded, before their transaction's outcome is known",
    SCORING_SECONDS: "Time to decode, score and encode one batch",
    TRANSACTION_SECONDS: "Time from a batch's first flush to its commit",
    COMMITTED: "Events whose answers are committed",
    ABORTS: "Transactions given up and done again, by Kafka's reason",
    LAG: "Events without a committed answer in this worker's partitions",
    GENERATION: "Generation that answers now",
    WORKER: "Which worker this is; always 1",
    PAUSED: "1 while the tenant's events are not read, or only on trial",
    TENANT_LAG: "Events of the tenant's event topic that wait in this worker's partitions",
    TENANT_AGE: "Age of the oldest event of the tenant that waits, by its Kafka timestamp; 0 when none waits",
    DEAD_LETTERS: "Events refused, committed, by tenant and reason",
    PROMISED: "Share of scores at or above the threshold that the predictor's reference promises",
    SCORES["live"]: "Live scores, committed, by tenant and predictor",
    REACHING["live"]: "Live scores at or above a threshold of the predictor's reference, committed",
    SCORES["shadow"]: "Scores of shadow predictors, committed, by tenant and predictor",
    REACHING["shadow"]: "Scores of shadow predictors at or above a threshold of their reference, committed",
    HANGING: "Output partitions whose last stable offset stands still behind a transaction that nobody ends",
    HANGING_ENDED: "Records of hanging transactions that this worker has ended, by what became of them",
}
UNKNOWN = "(unknown)"
"""The tenant of a dead letter that nobody can tell the tenant of; no name has brackets."""
Clock = Callable[[], float]


class WorkerMeter:
    """Implements `worker.meter.Meter` on a registry of its own; `text` may be asked for by another thread."""

    def __init__(self, role: Role, lane: str, slot: int, clock: Clock = time.time) -> None:
        self._role, self._clock = role, clock
        self._metrics = Metrics(describe=HELP)
        self._metrics.show(self._families)
        self._metrics.gauge(WORKER, 1, role=role, lane=lane, slot=str(slot))
        self.text = self._metrics.text
        self._topology = Topology({}, {})
        self._groups: ScoreGroups | None = None
        self._scores = ScoreCounters()
        self._letters: Mapping[tuple[str, str], int] = {}
        self._waiting: Mapping[str, Waiting] = {}
        self._paused: frozenset[str] = frozenset()

    def serving(self, scorer: Scorer) -> None:
        """Take over a generation: its tenants are those that have series."""
        self._metrics.gauge(GENERATION, scorer.number)
        self._topology = scorer.topology
        known = {UNKNOWN, *(tenant for tenants in scorer.topology.tenants.values() for tenant in tenants)}
        self._letters = {label: count for label, count in self._letters.items() if label[0] in known}
        if isinstance(scorer.book, ScoreGroups):
            self._groups = scorer.book
            self._scores.serve(scorer.book)

    def scored(self, events: int, seconds: float) -> None:
        """Count a scored batch."""
        self._metrics.count(EVENTS, events)
        self._metrics.observe(SCORING_SECONDS, seconds)

    def committed(self, events: int, tally: Tally | None, seconds: float | None) -> None:
        """Count a committed transaction and what it held."""
        self._metrics.count(COMMITTED, events)
        if seconds is not None:
            self._metrics.observe(TRANSACTION_SECONDS, seconds)
        if tally is None:
            return
        if isinstance(tally.book, ScoreGroups):
            self._scores.add(tally.book, tally.groups)
        if tally.letters:
            letters = Counter(self._letters)  # replaced whole: another thread may be reading
            for (tenant, reason), count in tally.letters.items():
                letters[tenant or UNKNOWN, reason] += count
            self._letters = letters

    def aborted(self, code: str) -> None:
        """Count a transaction given up, by Kafka's code."""
        self._metrics.count(ABORTS, code=code)

    def waiting(self, waiting: Mapping[str, Waiting]) -> None:
        """Take in what waits by event topic."""
        self._waiting = waiting
        self._metrics.gauge(LAG, sum(one.events for one in waiting.values()))

    def hanging(self, partitions: int) -> None:
        """Set how many output partitions stand still."""
        self._metrics.gauge(HANGING, partitions)

    def hanging_ended(self, records: int, copied: int) -> None:
        """Count the records of a hanging transaction: dropped, or written again because they were committed."""
        self._metrics.count(HANGING_ENDED, records - copied, outcome="dropped")
        self._metrics.count(HANGING_ENDED, copied, outcome="copied")

    def paused(self, event_topics: frozenset[str]) -> None:
        """Take in which event topics are paused."""
        self._paused = event_topics

    def _families(self) -> Iterator[Family]:
        """Yield the series that come and go with tenants, as they are at this moment."""
        waiting, paused, now_s = self._waiting, self._paused, self._clock()
        places = [(name, topic) for topic, tenants in self._topology.tenants.items() for name in tenants]
        of_topic = {name: waiting.get(topic, Waiting()) for name, topic in places}
        tenant = ("tenant",)
        yield Family("gauge", PAUSED, tenant, [((name,), float(topic in paused)) for name, topic in places])
        yield Family("gauge", TENANT_LAG, tenant, [((name,), one.events) for name, one in of_topic.items()])
        ages = {name: 0.0 if one.since_s is None else max(0.0, now_s - one.since_s) for name, one in of_topic.items()}
        yield Family("gauge", TENANT_AGE, tenant, [((name,), age) for name, age in ages.items()])
        letters = self._letters
        yield Family("counter", DEAD_LETTERS, ("tenant", "reason"), list(letters.items()))
        yield from _score_families(self._role, self._scores.series())
        if self._groups is not None:
            promised = self._groups.promised
            samples = [((name, _text(at)), rate) for name, rates in promised.items() for at, rate in rates.items()]
            yield Family("gauge", PROMISED, ("predictor", "threshold"), samples)


def _score_families(role: Role, series: Mapping[Label, int]) -> Iterator[Family]:
    whole = [((tenant, name), n) for (tenant, name, threshold), n in series.items() if threshold is None]
    yield Family("counter", SCORES[role], ("tenant", "predictor"), whole)
    reaching = [((tenant, name, _text(at)), n) for (tenant, name, at), n in series.items() if at is not None]
    yield Family("counter", REACHING[role], ("tenant", "predictor", "threshold"), reaching)


def _text(threshold: float) -> str:
    return repr(threshold)
