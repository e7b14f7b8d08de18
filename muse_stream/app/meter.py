"""What a worker counts, under the names that dashboards and alerts use.

In: the calls of `stream.meter.Meter`. Out: Prometheus text.
Law: the names below are the contract with whoever watches; units stand in
them; a label never carries an event, an id or a tenant's data.
"""

from muse_stream.observe import Metrics

EVENTS = "muse_events"
ANSWERS = "muse_answers"
DEAD_LETTERS = "muse_dead_letters"
SCORING_SECONDS = "muse_scoring_seconds"
TRANSACTION_SECONDS = "muse_transaction_seconds"
COMMITTED = "muse_events_committed"
ABORTS = "muse_aborts"
LAG = "muse_lag_events"
GENERATION = "muse_generation"
HANGING = "muse_transactions_hanging"
HANGING_ENDED = "muse_hanging_records_ended"

HELP = {
    EVENTS: "Events taken from Kafka and scored, before their transaction's outcome is known",
    ANSWERS: "Scores or audit records published, before their transaction's outcome is known",
    DEAD_LETTERS: "Events refused, by reason",
    SCORING_SECONDS: "Time to decode, score and encode one batch",
    TRANSACTION_SECONDS: "Time from a batch's first flush to its commit",
    COMMITTED: "Events whose answers are committed",
    ABORTS: "Transactions given up and done again",
    LAG: "Events known to wait in this worker's partitions",
    GENERATION: "Generation that answers now",
    HANGING: "Output partitions whose last stable offset stands still behind a transaction that nobody ends",
    HANGING_ENDED: "Records of hanging transactions that this worker has ended, by what became of them",
}


class WorkerMeter:
    """Implements `stream.meter.Meter` on a registry of its own."""

    def __init__(self) -> None:
        self._metrics = Metrics(describe=HELP)
        self.text = self._metrics.text

    def scored(self, events: int, answers: int, seconds: float) -> None:
        """Count a scored batch."""
        self._metrics.count(EVENTS, events)
        self._metrics.count(ANSWERS, answers)
        self._metrics.observe(SCORING_SECONDS, seconds)

    def dead_letter(self, reason: str) -> None:
        """Count one refused event."""
        self._metrics.count(DEAD_LETTERS, reason=reason)

    def committed(self, events: int, seconds: float) -> None:
        """Count a committed transaction."""
        self._metrics.count(COMMITTED, events)
        self._metrics.observe(TRANSACTION_SECONDS, seconds)

    def aborted(self, code: str) -> None:
        """Count a transaction given up, by Kafka's code."""
        self._metrics.count(ABORTS, code=code)

    def lag(self, records: int) -> None:
        """Set the lag."""
        self._metrics.gauge(LAG, records)

    def generation(self, number: int) -> None:
        """Set the generation."""
        self._metrics.gauge(GENERATION, number)

    def hanging(self, partitions: int) -> None:
        """Set how many output partitions stand still."""
        self._metrics.gauge(HANGING, partitions)

    def hanging_ended(self, records: int, copied: int) -> None:
        """Count the records of a hanging transaction: dropped, or written again because they were committed."""
        self._metrics.count(HANGING_ENDED, records - copied, outcome="dropped")
        self._metrics.count(HANGING_ENDED, copied, outcome="copied")
