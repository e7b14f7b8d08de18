"""One transactional id: a producer that publishes a batch and its offsets, or nothing.

Records, consumed offsets and the group metadata they were polled under become a committed transaction, or a
`StreamError` whose type says what to do.

Invariant (docs/exactly-once.md, R11): a producer that met any error or timeout is thrown away, never used again, and
its successor's `init_transactions` ends whatever it left open; whether a doubtful commit took place is only ever
learned from `committed()`. librdkafka speaks the protocol before KIP-890 and retries EndTxn by itself, so a late retry
could end a later transaction of the same producer; a new epoch fences it.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from msgspec import Struct

from muse_stream.config import KafkaSettings
from muse_stream.errors import Abortable, Fatal, Retriable, StreamError
from muse_stream.kafka import client
from muse_stream.kafka.coordinators import TRANSACTIONS, leaderless
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.deliveries import Deliveries
from muse_stream.kafka.errors import About, concerns, typed
from muse_stream.kafka.partition import TopicPartitionKey
from muse_stream.kafka.throttle import Throttle

FIRST_INIT_S, PATIENCE_GROWTH, LONGEST_INIT_S = (0.03, 0.1), 1.5, 5.0
"""After a crash `init_transactions` meets CONCURRENT_TRANSACTIONS and sleeps 0.5-1 s inside librdkafka; a fresh
producer that asks again is faster (R5). The first is given twice the time that it took to connect and ask once, which
are as many round trips; within these bounds."""
BLOCKED_S = 3.0
"""After a crash a transaction is ended within a second, on a busy machine."""
FLUSH_SLICE_S = ROOM_S = 0.05
OURS = ": larger than message.max.bytes of our own producer (MUSE_KAFKA_PROPERTIES_FILE sets it)"
COMMITTING = "the group's offsets cannot be committed"
TAKEN_BACK_S = 1.0
"""How long it may take to learn which records were not acknowledged."""

TIMEOUT_MS = 5_000
"""The broker aborts a silent transaction after this; below the session timeout always, so that a dead worker's
partitions are readable when they are handed over."""


Header = tuple[str, bytes | str | None]
NOT_QUEUED = (BufferError, KafkaException)
"""What `produce` raises: the local queue is full, or the record, its topic or the producer is refused."""


class Blocked(Retriable):
    """The last transaction of a transactional id is decided and cannot be ended now: a partition takes no marker."""


class TopicsSeen(Struct, frozen=True):
    """What the cluster tells of its topics."""

    counts: Mapping[str, int]
    """Topic -> number of partitions."""
    leaderless: frozenset[TopicPartitionKey] = frozenset()
    """Partitions that nobody leads now."""


class TransactionalProducer:
    """A producer that has been initialised under a transactional id. Made by `open_producer`."""

    def __init__(self, producer: Producer, deliveries: Deliveries) -> None:
        self._producer = producer
        self._deliveries = deliveries
        self.produce = producer.produce
        """librdkafka's own `produce(topic, value, key, partition, ...)`: called once a record, so no wrapper."""

    def begin(self) -> None:
        """Open a transaction on this side; the broker learns of it with the first record."""
        self._call(lambda _timeout: self._producer.begin_transaction(), Deadline(1.0))

    def make_room(self, timeout_s: float) -> None:
        """Let deliveries proceed when the local queue is full."""
        self._told(self._producer.poll, timeout_s)

    def flush(self, deadline: Deadline) -> None:
        """Wait until the broker has acknowledged every record; raises `Abortable` naming a refused topic."""
        # in slices: once a record is refused the rest is never sent, and one long flush would wait for nothing
        while left := self._told(self._producer.flush, min(deadline.left_s, FLUSH_SLICE_S)):
            self._deliveries.check()
            if deadline.over or self._deliveries.late:
                raise self._unacknowledged(left)
        self._deliveries.check()
        if self._deliveries.late:
            raise self._deliveries.unacknowledged(self._failure())

    def _unacknowledged(self, left: int) -> StreamError:
        """Take back what was not acknowledged, to learn which records those are."""
        cause = self._failure()  # first: a record that we take back may fail the transaction too
        expected, deadline = self._deliveries.late + left, Deadline(TAKEN_BACK_S)
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        while self._deliveries.late < expected and not deadline.over:
            self._told(self._producer.poll, FLUSH_SLICE_S)
        return self._deliveries.first() or self._deliveries.unacknowledged(cause)

    def _failure(self) -> KafkaError | None:
        """Return what failed the open transaction; None while nothing did, and where only an answer did not come.

        A topic is refused when it is added to the transaction, before any record is sent there. librdkafka then takes
        all records back, and their reports do not say why; nor does it say which topic it was.
        """
        try:
            self._producer.begin_transaction()  # changes nothing in an open transaction, and tells a failed one's error
        except KafkaException as error:
            failure: KafkaError = error.args[0]
            told = failure.fatal() or failure.txn_requires_abort()
            silent = concerns(failure, About.AWAY) or concerns(failure, About.UNACKNOWLEDGED)
            return failure if told and not silent else None
        return None

    def hear(self) -> None:
        """Take in what the client has to tell without being waited for: throttling, above all."""
        self._told(self._producer.poll, 0)

    def fault(self) -> StreamError | None:
        """Say why this producer takes no more records, if the broker has refused one of its transaction."""
        deadline = Deadline(TAKEN_BACK_S)
        while True:
            self.make_room(FLUSH_SLICE_S)
            if refused := self._deliveries.first():
                return refused
            failure = self._failure()
            if failure is None or self._deliveries.late or deadline.over:
                return typed(failure) if failure else None
            # librdkafka fails the transaction before it reports the record, and only the report names the topic

    def retry(
        self,
        error: Exception,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        headers: Sequence[Header] = (),
        timestamp: int = 0,
    ) -> None:
        """Produce a record again that `produce` met one of `NOT_QUEUED` with: wait for room in the local queue.

        Raises who is to blame: an earlier record of this transaction, the producer (`Fenced`), or `Abortable` naming
        the topic that this record was refused for.
        """
        while isinstance(error, BufferError):
            self.make_room(ROOM_S)
            try:
                self.produce(topic, value, key, partition, timestamp=timestamp, headers=list(headers))
                return
            except NOT_QUEUED as following:
                error = following
        assert isinstance(error, KafkaException)  # noqa: S101  # the loop above leaves nothing else
        if fault := self.fault():
            raise fault from error
        problem = typed(error, topic, lacks="WRITE")
        if error.args[0].fatal():
            raise problem from error  # the producer is done for: fenced, most likely
        ours = OURS if problem.code == "MSG_SIZE_TOO_LARGE" else ""
        raise Abortable(f"{problem}{ours}", topic=topic, code=problem.code) from error

    def send_offsets(
        self, offsets: Mapping[TopicPartitionKey, int], metadata: Any, deadline: Deadline, signature: str = ""
    ) -> None:
        """Make consumed offsets part of the transaction; the broker checks the group's generation here.

        `offsets` are the next to be read; `signature` is committed beside each.
        """
        sent = [TopicPartition(*place, offset, signature) for place, offset in offsets.items()]
        self._call(
            lambda timeout: self._producer.send_offsets_to_transaction(sent, metadata, timeout), deadline, COMMITTING
        )

    def commit(self, deadline: Deadline) -> None:
        """Commit; after an error the outcome is unknown and must be read from `committed()`."""
        self._call(self._producer.commit_transaction, deadline)
        self._deliveries.check()

    def abort(self, deadline: Deadline) -> None:
        """Abort; the producer may be used again."""
        self._call(self._producer.abort_transaction, deadline)

    def topics(self, timeout_s: float) -> TopicsSeen:
        """Return every topic that can be seen."""
        try:
            topics = self._producer.list_topics(timeout=timeout_s).topics
        except KafkaException as error:
            raise Retriable(f"cannot list topics: {typed(error)}") from error
        except AttributeError:  # the committing thread has just discarded it
            raise Retriable("cannot list topics: the producer is being replaced") from None
        seen = {name: topic.partitions for name, topic in topics.items() if topic.error is None}
        leaderless = {(name, n) for name, partitions in seen.items() for n, one in partitions.items() if one.leader < 0}
        return TopicsSeen({name: len(partitions) for name, partitions in seen.items()}, frozenset(leaderless))

    def discard(self) -> None:
        """Throw the producer away; off this thread, since closing waits for the broker."""
        producer = self.__dict__.pop("_producer", None)
        self.__dict__.pop("produce", None)
        if producer is not None:
            threading.Thread(target=_destroy, args=(producer,), name="discard-producer", daemon=True).start()

    def _told(self, serve: Callable[[float], int], timeout_s: float) -> int:
        """Serve delivery reports; both calls that do so raise once the producer has met a fatal error."""
        try:
            return serve(timeout_s)
        except KafkaException as error:
            raise typed(error) from error

    def _call(self, operation: Callable[[float], Any], deadline: Deadline, where: str = "") -> None:
        for last in deadline.tries():
            try:
                operation(deadline.left_s)
                return
            except KafkaException as error:
                problem = typed(error, where=where)
                if not isinstance(problem, Retriable) or last:
                    raise self._deliveries.first() or problem from error


def open_producer(
    settings: KafkaSettings,
    transactional_id: str,
    deadline: Deadline,
    on_error: Callable[[KafkaError], Any] = lambda _error: None,
    throttle: Throttle | None = None,
    own: Mapping[str, Any] = MappingProxyType({}),
) -> TransactionalProducer:
    """Return a producer ready for transactions; ends what an earlier holder of the id left open.

    `on_error` is told when a broker goes away or refuses us, at the latest while records are being flushed; `throttle`
    when a quota holds this producer back. `own` are librdkafka settings that hold whatever the
    properties file says.
    Raises `Fatal` when the broker refuses the id, `Retriable` when the deadline passes, and `Blocked` when brokers say
    for `BLOCKED_S` that what the earlier holder left is still being ended.
    """
    patience, ending_since = 1.0, 0.0
    problem, away = StreamError("no time was left"), ""
    for last in deadline.tries():
        deliveries = Deliveries()
        told: dict[str, Any] = {"on_delivery": deliveries, "error_cb": on_error}
        if throttle is not None:
            told["throttle_cb"] = throttle
        producer = client.producer(settings, own, **_configuration(transactional_id), **told)
        try:
            # a connection first: without one librdkafka may look for the coordinator only every 0.5 s; of one topic,
            # since a cluster may have thousands
            began = time.monotonic()
            producer.list_topics(TRANSACTIONS, timeout=min(LONGEST_INIT_S, max(deadline.left_s, 0.05)))
            least_s, most_s = FIRST_INIT_S
            patience_s = patience * min(max(2 * (time.monotonic() - began), least_s), most_s)
            producer.init_transactions(min(patience_s, LONGEST_INIT_S, max(deadline.left_s, 0.05)))
            return TransactionalProducer(producer, deliveries)
        except KafkaException as error:
            problem = typed(error)
            away = leaderless(producer, TRANSACTIONS, transactional_id) if last else ""
            threading.Thread(target=_destroy, args=(producer,), name="discard-producer", daemon=True).start()
            if not (error.args[0].retriable() or concerns(error, About.STARTING)):
                raise Fatal(f"transactional id {transactional_id}: {problem}") from error
            if not concerns(error, About.ENDING):
                ending_since = 0.0
            elif not ending_since:
                ending_since = time.monotonic()
            elif time.monotonic() - ending_since > BLOCKED_S:
                text = f"transactional id {transactional_id}: its last transaction cannot be ended now"
                raise Blocked(text, code=problem.code) from error
        patience *= PATIENCE_GROWTH
    raise Retriable(f"transactional id {transactional_id} not initialised in time: {away or problem}") from problem


def _configuration(transactional_id: str) -> dict[str, Any]:
    return {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": TIMEOUT_MS,
        "message.max.bytes": 16_777_216,  # a dead letter carries the event and headers; the topic's own limit decides
        "delivery.report.only.error": True,  # a callback a record would cost as much as scoring it
        "queue.buffering.max.messages": 500_000,
        "linger.ms": 5,
        **client.CONNECTED,
        "topic.metadata.propagation.max.ms": 3_000,  # how long an unknown topic may hold up its batch
    }


def _destroy(producer: Producer) -> None:
    try:
        producer.purge(in_queue=True, in_flight=True, blocking=False)
    except (KafkaException, StreamError):
        return
    del producer
