"""R1: a partition never starts again at offset 0 because a rebalance met a pending look-up of its offsets.

The scene: a dead worker's transaction with sent offsets is open; one member joins and has to wait for its committed
offsets; a second one joins meanwhile. `planted` leaves the offsets to librdkafka, as a consumer without our `on_assign`
does, and must be seen to read from the beginning again.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupState, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from muse_stream.kafka.group_consumer import GroupConsumer
from muse_stream.testing.kafka_broker import Broker
from tests.patience import PATIENCE
from tests.worker.doubles import ListLog, await_true
from tests.worker.rig import open_group_consumer, produce

PARTITIONS, RECORDS, COMMITTED = 4, 25, 15


class Naive(GroupConsumer):
    """An intake that trusts librdkafka with the starting offsets."""

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._log.info("assigned", partitions=len(partitions))
        self._consumer.incremental_assign(partitions)

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._log.info("revoked", partitions=len(partitions))
        self._consumer.incremental_unassign(partitions)


class Member:
    """An intake in a thread, and every offset it was given."""

    def __init__(self, bootstrap: str, group: str, topic: str, kind: type[GroupConsumer], reset: str) -> None:
        self.log, self.seen = ListLog(), set[tuple[int, int]]()
        self._intake = open_group_consumer(
            bootstrap, group, lambda _lost: None, self.log, kind=kind, overrides={"auto.offset.reset": reset}
        )
        self._topic, self._ending = topic, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "Member":
        self._thread.start()
        return self

    def _run(self) -> None:
        self._intake.subscribe([self._topic])
        while not self._ending.is_set():
            collected = self._intake.collect(1_000, 0)
            if collected:
                self.seen |= {(m.partition() or 0, m.offset() or 0) for m in collected[0]}
        self._intake.close()

    def end(self) -> None:
        self._ending.set()
        self._thread.join(15 * PATIENCE)
        assert not self._thread.is_alive(), self.log.tail()


@contextmanager
def open_transaction(bootstrap: str, group: str, topic: str) -> Iterator[Callable[[], None]]:
    """Offsets beyond the committed ones, sent and not committed; yields what ends the transaction."""
    own = {"transactional.id": f"dead-{group}", "transaction.timeout.ms": 600_000}
    producer = Producer({"bootstrap.servers": bootstrap, **own})
    producer.init_transactions(60)
    producer.begin_transaction()
    nobody = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    beyond = [TopicPartition(topic, p, COMMITTED + 3) for p in range(PARTITIONS)]
    producer.send_offsets_to_transaction(beyond, nobody.consumer_group_metadata(), 60)
    nobody.close()
    yield lambda: producer.abort_transaction(60)


def commit(bootstrap: str, group: str, topic: str) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    offsets: Any = [TopicPartition(topic, p, COMMITTED) for p in range(PARTITIONS)]
    consumer.commit(offsets=offsets, asynchronous=False)
    consumer.close()


def rebalancing(bootstrap: str, group: str) -> bool:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    described = admin.describe_consumer_groups([group])[group].result(60)
    return bool(described.state == ConsumerGroupState.PREPARING_REBALANCING)


@pytest.mark.parametrize("planted", [False, True], ids=["explicit-offsets", "planted"])
def test_second_member_joins_while_first_waits_for_offsets(
    kafka: Broker, unique: Callable[[str], str], make_topic: Callable[..., str], planted: bool
) -> None:
    topic, group = make_topic("r1", partitions=PARTITIONS), unique("r1")
    produce(kafka.bootstrap, topic, [b"x"] * (PARTITIONS * RECORDS), partitions=PARTITIONS)
    commit(kafka.bootstrap, group, topic)
    kind, reset = (Naive, "earliest") if planted else (GroupConsumer, "error")
    members: list[Member] = []
    with open_transaction(kafka.bootstrap, group, topic) as end_transaction:
        members.append(Member(kafka.bootstrap, group, topic, kind, reset).start())
        members[0].log.await_said("assigned")
        members.append(Member(kafka.bootstrap, group, topic, kind, reset).start())
        if planted:
            await_true(lambda: any(o == 0 for _p, o in members[0].seen | members[1].seen), "offset 0 once more")
        else:  # the first is inside on_assign: the group waits for it
            await_true(lambda: rebalancing(kafka.bootstrap, group), "the second member has joined")
        end_transaction()
    wanted = {(p, o) for p in range(PARTITIONS) for o in range(COMMITTED, RECORDS)}
    await_true(lambda: wanted <= members[0].seen | members[1].seen, "every record after the committed ones")
    again = sorted((members[0].seen | members[1].seen) - wanted)
    for member in members:
        member.end()
    assert (again != []) == planted
