"""A broker that forgets transaction markers, on purpose and at a known moment: Kafka 4.3.1, two brokers, one replica.

`Forgetful` is a cluster on which `outage(*ends)` ends transactions while the second broker is away, so that their
markers for its partitions are dropped; `Predecessor` leaves such transactions under a slot's ids. On any other version
the markers are written when the broker is back, and nothing hangs: who uses this checks `dropped()` first.
"""

import ctypes
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.local_cluster import LocalCluster
from muse_stream.worker import attempts
from muse_stream.worker.hanging_transactions import COPIED_BY
from muse_stream.worker.slot import SlotName
from tests.worker.doubles import Route, await_true

DROPPED = "likely deleted already"
SEND_S = 60.0
KEPT, LOST = 1, 2
"""The broker that stays, and the one that goes away."""
INTERNAL_TOPICS = {"__transaction_state": [KEPT], "__consumer_offsets": [KEPT, LOST]}
INTERNAL = {
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "offsets.topic.num.partitions": "2",
    "offsets.topic.replication.factor": "1",
    "min.insync.replicas": "1",
}


class Forgetful:
    """Two brokers; `bootstrap` is the one that stays."""

    def __init__(self, release: str) -> None:
        self._cluster = LocalCluster(
            PLACES, lambda _line: None, nodes=2, controllers=1, release=release, properties=INTERNAL
        )

    def start(self) -> None:
        self._cluster.start()
        self.bootstrap = self._cluster.nodes[0].bootstrap
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        for name, brokers in INTERNAL_TOPICS.items():
            self.topic(name, brokers, **{"cleanup.policy": "compact"})
        transactional(self.bootstrap, "first")
        with consumer(self.bootstrap, "first") as client:
            await_true(lambda: offsets(client, [("none", 0)]) is not None, "the group's coordinator")

    def close(self) -> None:
        self._cluster.close()

    def dropped(self) -> int:
        """How often markers were dropped."""
        return self._cluster.said(DROPPED)

    def topic(self, name: str, brokers: list[int], **config: str) -> str:
        """Make a topic with one partition on each of these brokers."""
        homes = [[one] for one in brokers]
        wanted = NewTopic(name, num_partitions=len(brokers), replica_assignment=homes, config=config)
        self._admin.create_topics([wanted])[name].result(60)
        return name

    def outage(self, *ends: Callable[[], None], then: Callable[[], None] = lambda: None) -> None:
        """End transactions while the second broker is away; `then` is called before it comes back."""
        before = self.dropped()
        self._cluster.kill([1])
        lost = "__consumer_offsets", INTERNAL_TOPICS["__consumer_offsets"].index(LOST)
        await_true(lambda: self.leader(*lost) == -1, "the broker is missed", 40)
        try:
            for end in ends:
                end()
            # one at least for each of them: what is not dropped by then is written when the broker is back
            await_true(
                lambda: self.dropped() >= before + len(ends),
                lambda: f"{len(ends)} markers, {self.dropped() - before} dropped",
            )
            then()
        finally:  # or the tests that come after a failed one fail as well
            self._cluster.restart([1])
        await_true(lambda: self.leader(*lost) == LOST, "the broker is back", 40)

    def kill(self) -> None:
        """Have the second broker away until `bring_back`."""
        self._cluster.kill([1])

    def bring_back(self) -> None:
        """Have the second broker there again, if it is away."""
        if not self._cluster.nodes[1].running():
            self._cluster.restart([1])

    def leader(self, topic: str, partition: int) -> int:
        return int(self._admin.list_topics(topic, timeout=60).topics[topic].partitions[partition].leader)

    def lane(self, *, offsets_on: int) -> str:
        """A lane whose group is coordinated by this broker."""
        homes = INTERNAL_TOPICS["__consumer_offsets"]
        names = (f"lane-{uuid4().hex[:8]}" for _ in itertools.count())
        return next(n for n in names if homes[abs(java_hash(SlotName("live", n, "", 0).group)) % 2] == offsets_on)


def _sent(producer: Producer, offsets: list[TopicPartition], metadata: Any) -> bool:
    """Send offsets; False where the client's call has outlived its timeout: it never returns then (R20)."""
    over = threading.Event()
    failed: list[BaseException] = []

    def send() -> None:
        try:
            producer.send_offsets_to_transaction(offsets, metadata, SEND_S)
        except BaseException as error:  # noqa: BLE001  # raised below
            failed.append(error)
        over.set()

    threading.Thread(target=send, daemon=True).start()
    if not over.wait(1.5 * SEND_S):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(producer))  # to close it would wait for the call
        return False
    if failed:
        raise failed[0]
    return True


@dataclass
class Predecessor:
    """Leaves transactions open under the ids of slot 0 of a lane, as a worker with an `Echo` scorer would."""

    kafka: Forgetful
    lane: str
    events: str
    route: Route
    producers: dict[int, Producer] = field(default_factory=dict)

    number: int = 0
    after: list[Callable[[], None]] = field(default_factory=list)
    """What happens between the outage and the successor's start."""

    def __post_init__(self) -> None:
        self.name = SlotName("live", self.lane, "test", self.number)
        self._attempts = attempts.Attempts(self.name.group, self.name.instance)

    def answer(self, half: int, answered: Mapping[int, range], *, dead: bool = False) -> int:
        """Answer the events of some partitions in an open transaction, offsets and all; returns the attempt."""
        number = self._attempts.next(half)
        producer = self.producer(half)
        producer.begin_transaction()
        for partition, rows in answered.items():
            for row in rows:
                self._produce(producer, partition, row, number, dead=dead)
        assert producer.flush(60) == 0
        instance = self.name.instance
        sent = [TopicPartition(self.events, partition, rows.stop, instance) for partition, rows in answered.items()]
        with consumer(self.kafka.bootstrap, self.name.group) as client:
            if not _sent(producer, sent, client.consumer_group_metadata()):
                del self.producers[half]  # as a worker does (R20): another producer under the id, and all of it anew
                return self.answer(half, answered, dead=dead)
        return number

    def sign(self, partitions: list[int]) -> None:
        """Commit where partitions begin, as a worker does before its first transaction."""
        signed = [TopicPartition(self.events, n, 0, self.name.instance) for n in partitions]
        with consumer(self.kafka.bootstrap, self.name.group) as client:
            client.commit(offsets=signed, asynchronous=False)

    def copy(self, attempt: int, partition: int, rows: range, end: str = "commit") -> None:
        """Write answers again, as a recovery does before it aborts the old ones; `end`: commit, abort or open."""
        producer = self.producer(2)
        producer.begin_transaction()
        for row in rows:
            self._produce(producer, partition, row, attempt, copied=True)
        assert producer.flush(60) == 0
        if end == "commit":
            producer.commit_transaction(60)
        elif end == "abort":
            producer.abort_transaction(60)

    def _produce(
        self, producer: Producer, partition: int, row: int, attempt: int, *, dead: bool = False, copied: bool = False
    ) -> None:
        headers: list[tuple[str, bytes | str | None]] = [(COPIED_BY, b"2")] if copied else []
        value = f"{self.events}|{partition}|{row}|{attempt}|1|".encode()
        if dead:
            parts = {"source.topic": self.events, "source.partition": partition, "source.offset": row}
            headers += [(f"muse.{name}", str(part).encode()) for name, part in {**parts, "attempt": attempt}.items()]
        producer.produce(self.route.dlq if dead else self.route.scores, value, None, partition, headers=headers)

    def answer_and_commit(self, answered: Mapping[int, range], *, dead: bool = False) -> None:
        self.answer(0, answered, dead=dead)
        self.commit(0)()

    def other(self, number: int) -> "Predecessor":
        """Another slot of the lane."""
        return Predecessor(self.kafka, self.lane, self.events, self.route, number=number)

    def producer(self, half: int) -> Producer:
        if half not in self.producers:
            self.producers[half] = transactional(self.kafka.bootstrap, self.name.transactional_id(half))
        return self.producers[half]

    def commit(self, half: int) -> Callable[[], None]:
        return lambda: self.producers[half].commit_transaction(60)

    def abort(self, half: int) -> Callable[[], None]:
        return lambda: self.producers[half].abort_transaction(60)


def transactional(bootstrap: str, name: str) -> Producer:
    made = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": name,
            "transaction.timeout.ms": 600_000,
            "linger.ms": 1,
            "log_level": 0,
        }
    )
    made.init_transactions(60)
    return made


@contextmanager
def consumer(bootstrap: str, group: str, **settings: Any) -> Iterator[Consumer]:
    made = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0, **settings})
    try:
        yield made
    finally:
        made.close()


def offsets(client: Consumer, places: list[tuple[str, int]], timeout_s: float = 1.0) -> list[int] | None:
    """What the group has committed; None when it does not say."""
    try:
        return [one.offset for one in client.committed([TopicPartition(*place) for place in places], timeout=timeout_s)]
    except KafkaException:
        return None


def java_hash(text: str) -> int:
    """What `String.hashCode` says: it decides who coordinates an id."""
    value = 0
    for letter in text:
        value = (31 * value + ord(letter)) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value
