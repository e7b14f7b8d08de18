"""Two producers used alternately, and the one thread that commits.

A batch's records, its offsets and its group metadata become one committed transaction, in the order of the
batches; the next batch is scored and sent while the last one commits.

Invariants (docs/exactly-once.md, R3, R9 to R11):
  - offsets are sent and transactions committed by one thread, one batch after the other;
  - no record of batch k+1 is produced before every record of batch k is acknowledged, or output order could differ;
  - when batch k fails, nothing after it is sent or committed: a failed `Committer` is abandoned whole, and its
    successor, with new producers under the same ids, ends what it left open;
  - one condition over three counters (submitted >= flushed >= committed) says who waits for what;
  - every step has an end by our own clock: a call of librdkafka may outlive its timeout for ever (R20).
"""

import threading
import time
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from msgspec import Struct, field

from muse_stream.errors import Abortable, Fatal, StreamError
from muse_stream.kafka import Deadline, TopicPartitionKey, TopicsSeen, TransactionalProducer
from muse_stream.worker.backlog import Stamps
from muse_stream.worker.batch import Tally
from muse_stream.worker.failpoints import Failpoint
from muse_stream.worker.latency import Sample
from muse_stream.worker.tracer import Traced

BUDGET_S = 4.5
"""For flush, offsets and commit together: below the broker's transaction timeout."""
SLOW_COMMIT_S = 1.0
"""After a slower commit librdkafka may have retried EndTxn: the producer is replaced before its next use."""
OVERDUE_S = 6.5
"""A transaction that is not committed by then has failed: the broker ends it after its timeout of 5 s, whatever the
call under way says."""
RENEW_S = 15.0
"""A new producer takes at most 10 s; the rest is for a busy machine."""
LOOK_S = 0.25
"""How often who waits looks at the clock."""

OpenProducer = Callable[[int], TransactionalProducer]
"""Open the producer of slot 0 or 1."""


class Pending(Struct, frozen=True, eq=False):
    """A batch that was sent and waits to be committed."""

    first: dict[TopicPartitionKey, int]
    """Partition -> the batch's first offset."""
    following: dict[TopicPartitionKey, int]
    """Partition -> the offset after the batch's last."""
    metadata: Any
    """The group as it was when the batch was polled; the broker compares it (R2)."""
    attempt: int
    events: int
    signature: str = ""
    """Committed beside every offset: who comes after learns whose transactions may hang."""
    stamps: Stamps = field(default_factory=dict)
    """Partition -> offset and timestamp of its first record, timestamp of its last."""
    tally: Tally | None = None
    """What is counted once it is committed; None before it is scored."""
    records: int = 0
    """Answers and dead letters that were handed to the producer."""
    size: int = 0
    """Bytes of the answers."""
    written: frozenset[TopicPartitionKey] = frozenset()
    """Partitions that its records go to; empty where nobody needs to know."""
    sample: Sample = field(default_factory=lambda: array("q"))
    """Timestamps of its events, or of some of them that stand for all."""
    traced: Traced | None = None
    """The spans of its sampled events; None where it has none."""


class Committed(Struct, frozen=True):
    """What one commit cost."""

    pending: Pending
    cost_s: float
    at_s: float = field(default_factory=time.time)
    """When it was committed."""


class Committer:
    """Owns both producers and the committing thread. Disposable: after a failure make another."""

    def __init__(
        self,
        open_producer: OpenProducer,
        failpoint: Failpoint,
        on_committed: Callable[[Committed], None],
        on_acknowledged: Callable[[Pending], None] = lambda _pending: None,
    ) -> None:
        """Both are called by the committing thread: when a broker has every record, and when all is committed.

        Before `on_acknowledged` returns nothing of the next batch is sent; before `on_committed` returns its producer
        is not used again, and nothing more is committed. What they raise is a failure, though this batch is committed.
        """
        self._open_producer, self._failpoint = open_producer, failpoint
        self._on_committed, self._on_acknowledged = on_committed, on_acknowledged
        with ThreadPoolExecutor(2) as pool:  # both before the first poll, in parallel (R5)
            opening = [pool.submit(open_producer, half) for half in (0, 1)]
        if failed := [one for one in opening if one.exception()]:
            for one in opening:
                if one not in failed:
                    one.result().discard()
            failed[0].result()  # raises
        self._producers = [one.result() for one in opening]
        self._changed = threading.Condition()
        self._queue: list[Pending] = []
        self._submitted = self._flushed = self._committed = 0
        self._closing = False
        self._failure: tuple[StreamError, Pending] | None = None
        self._in_hand: tuple[Pending, float] | None = None
        """What the committing thread works on, and until when (monotonic seconds)."""
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    def begin(self) -> TransactionalProducer:
        """Return a producer with an open transaction, once the last batch is acknowledged; raises its failure."""
        with self._changed:
            self._wait(self._may_begin)
            self.raise_failure()
            producer = self._producers[self._submitted % 2]
        producer.begin()
        return producer

    def submit(self, pending: Pending) -> None:
        """Hand a batch that was sent over for committing."""
        with self._changed:
            self._queue.append(pending)
            self._submitted += 1
            self._changed.notify_all()

    def drain(self, deadline: Deadline) -> bool:
        """Wait until everything submitted is committed; False when it failed or the deadline passed."""
        with self._changed:
            return self._wait(lambda: self._failure is not None or self._idle(), deadline) and not self._failure

    def raise_failure(self) -> None:
        """Raise what the committing thread met, if anything; that it is late is a failure too."""
        with self._changed:
            self._expire()
        if self._failure is not None:
            raise self._failure[0]

    @property
    def failure(self) -> tuple[StreamError, Pending] | None:
        """What the committing thread met and with which batch, if it failed."""
        return self._failure

    @property
    def producers(self) -> tuple[TransactionalProducer, ...]:
        """Both producers; for others only while nothing is submitted."""
        return tuple(self._producers)

    @property
    def half(self) -> int:
        """Which producer the next batch will be given."""
        return self._submitted % 2

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be committed."""
        with self._changed:
            return self._idle()

    def topics(self, timeout_s: float) -> TopicsSeen:
        """Return every topic that can be seen, asked through a producer (no AdminClient in a worker: R7)."""
        return self._producers[0].topics(timeout_s)

    def close(self) -> None:
        """Abandon what is not committed and let both producers go. Does not wait for the committing thread's call."""
        with self._changed:
            self._closing = True
            self._queue.clear()
            self._changed.notify_all()
            for producer in self._producers:
                producer.discard()

    def _wait(self, met: Callable[[], bool], deadline: Deadline | None = None) -> bool:
        """Wait under the condition, and fail what is late; without a deadline the step under way has one."""
        while not met():
            if deadline is not None and deadline.over:
                return False
            self._changed.wait(min(LOOK_S, deadline.left_s) if deadline else LOOK_S)
            self._expire()
        return True

    def _expire(self) -> None:
        """Under the condition: give up what the committing thread should be done with by now."""
        if self._failure is None and self._in_hand is not None and time.monotonic() > self._in_hand[1]:
            late = "the transaction was not committed in time; a call of the client did not return"
            self._failure = Abortable(late, code="_TIMED_OUT"), self._in_hand[0]

    def _allow(self, pending: Pending, seconds: float) -> None:
        with self._changed:
            self._in_hand = pending, time.monotonic() + seconds

    def _may_begin(self) -> bool:
        return self._failure is not None or (
            self._flushed == self._submitted and self._committed >= self._submitted - 1
        )

    def _idle(self) -> bool:
        return self._committed == self._submitted

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                if self._closing or self._failure is not None:
                    return
                pending = self._queue.pop(0)
                slot = self._committed % 2
            try:
                self._allow(pending, OVERDUE_S)
                cost_s = self._finish(self._producers[slot], pending, slot)
                self._allow(pending, OVERDUE_S)
                self._on_committed(Committed(pending, cost_s))
            except StreamError as error:
                return self._fail(error, pending)
            except Exception as error:  # noqa: BLE001  # a thread that dies silently would stop the worker forever
                return self._fail(Fatal(f"committing thread: {error!r}"), pending)
            with self._changed:
                self._in_hand = None
                self._committed += 1
                self._changed.notify_all()

    def _finish(self, producer: TransactionalProducer, pending: Pending, slot: int) -> float:
        started = time.monotonic()
        deadline = Deadline(BUDGET_S)
        producer.flush(deadline)
        self._failpoint("after-flush")
        self._on_acknowledged(pending)
        with self._changed:
            self._flushed += 1
            self._changed.notify_all()
        producer.send_offsets(pending.following, pending.metadata, deadline, pending.signature)
        self._failpoint("after-send-offsets")
        self._failpoint("before-commit")
        began = time.monotonic()
        producer.commit(deadline)
        self._failpoint("after-commit")
        producer.hear()
        done = time.monotonic()
        if done - began > SLOW_COMMIT_S:
            self._allow(pending, RENEW_S)
            self._renew(slot)
        return done - started

    def _renew(self, slot: int) -> None:
        self._producers[slot].discard()
        if self._closing:
            return
        fresh = self._open_producer(slot)
        with self._changed:
            self._producers[slot] = fresh
            if self._closing:  # `close` has passed by while it was opened
                fresh.discard()

    def _fail(self, error: StreamError, pending: Pending) -> None:
        with self._changed:
            self._failure = self._failure or (error, pending)
            self._changed.notify_all()
