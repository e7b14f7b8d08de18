"""How fast a worker may write, and what it says when that is slower than it could.

It is told of transactions that were committed and of those that were not, and hears from the clients when a quota holds
them back. It says how many events the next batch may hold, and whether nothing should be read for now: what would be
written while a broker reads nothing from us could not be committed in time, and what fails again and again for no
record's sake would only be written in vain.
"""

import time
from collections.abc import Callable

from muse_stream.errors import StreamError
from muse_stream.kafka import Throttle, Undelivered
from muse_stream.telemetry import BoundedLog, Log
from muse_stream.worker.batch_size import TARGET_S, BatchSize
from muse_stream.worker.commit import BUDGET_S, Committed, Pending

RECENTLY_S = 15.0
"""A quota that held us back so lately may be why records are late."""
FREE, REST_S, LONGEST_REST_S = 3, 0.5, 10.0
"""So many transactions may fail in a row for a reason that passes (a coordinator moves, a broker restarts); then
nothing is read for a moment, and for twice as long each time."""
RESTS = "nothing is read for so long; it goes on by itself once a transaction is committed"
RAISE = "of our user or client.id; raise it with kafka-configs.sh --alter --entity-type users (or clients)"
WRITING = f"a quota holds back what we write: producer_byte_rate or request_percentage {RAISE}"
READING = f"a quota holds back what we read: consumer_byte_rate or request_percentage {RAISE}"


class Pace:
    """One slot's; `writing` and `reading` hear from its producers and its consumer."""

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._failed, self._rest_until = clock, 0, 0.0
        self.writing, self.reading = Throttle(), Throttle()
        self._log, self._throttled = log, BoundedLog(log.warning)
        self._size = BatchSize(1)
        self.held_back = False
        """Whether nothing should be read for now."""

    @property
    def most(self) -> int:
        """How many events the next batch may hold."""
        return self._size.most

    @property
    def throttled(self) -> bool:
        """Whether a quota has held back what is written a short while ago."""
        return self.writing.since_s < RECENTLY_S

    def limit(self, events: int) -> None:
        """Take what a batch may hold at most."""
        self._size.limit(events)

    def committed(self, committed: Committed) -> None:
        """Take in what a transaction cost."""
        self._failed = 0
        self._size.committed(committed.pending.events, committed.cost_s, self.writing.since_s)

    def failed(self, error: StreamError) -> None:
        """Take in that a transaction failed for a reason that is no record's and no topic's."""
        self._failed += 1
        if self._failed > FREE:
            seconds = min(REST_S * 2 ** (self._failed - FREE - 1), LONGEST_REST_S)
            self._rest_until = self._clock() + seconds
            facts = {"aborts": self._failed, "seconds": seconds, "error": str(error)}
            self._log.warning("backing_off", **facts, hint=RESTS)

    def late(self, error: StreamError, failed: Pending) -> None:
        """Make batches smaller when this one was not committed in time for its size."""
        if error.code != "_TIMED_OUT" or not failed.records:
            return
        unacknowledged = len(error.records) if isinstance(error, Undelivered) else 0
        held_back_s = self.writing.left_s
        if not unacknowledged and not held_back_s:
            return  # every record is written: what did not answer is a coordinator, which no size of a batch helps
        took_s, acknowledged = BUDGET_S + held_back_s, 1 - unacknowledged / failed.records
        self._size.late(failed.events, acknowledged, took_s)
        self._log.warning(
            "batch_too_slow",
            events=failed.events,
            bytes=failed.size,
            acknowledged=failed.records - unacknowledged,
            records=failed.records,
            throttled_s=round(held_back_s, 1),
            bytes_per_s=round(failed.size * acknowledged / took_s),
            next_batch=self.most,
        )

    def review(self) -> bool:
        """Look whether to read for now; True when that has changed.

        Not while a quota holds us back for longer than a transaction, or after too many that failed in a row.
        """
        writing_s, reading_s = self.writing.left_s, self.reading.left_s
        if writing_s:
            self._throttled.note("throttled", "writing", client="producer", seconds=round(writing_s, 1), hint=WRITING)
        if reading_s:
            self._throttled.note("throttled", "reading", client="consumer", seconds=round(reading_s, 1), hint=READING)
        resting = self._clock() < self._rest_until
        before, self.held_back = self.held_back, writing_s > TARGET_S or resting
        return before != self.held_back
