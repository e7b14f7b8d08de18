"""A broker that is frozen, or whose coordinator cannot write, and that goes on later; this module's own."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import OFFSET_BEGINNING, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public names that the stubs forget to export
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Retriable
from muse_stream.kafka import client, lag_reader
from muse_stream.kafka.lag_reader import Readers
from muse_stream.kafka.starting_offsets import StartingOffsets
from muse_stream.testing.kafka_broker import Broker, Cluster
from muse_stream.worker.backlog import Waiting
from tests.kafka.test_lag_reader import reader_of
from tests.kafka.test_starting_offsets import COMMITTED, RECORDS
from tests.patience import PATIENCE
from tests.worker.doubles import Echo, ListLog, Route, await_true
from tests.worker.rig import expected, ledger, produce, running
from tests.worker.test_truth import impatient, waits, well, why

pytestmark = pytest.mark.own_broker
Unique = Callable[[str], str]
MakeTopic = Callable[..., str]
Tenant = Callable[..., tuple[str, Route]]
LATE_S = 1.5
"""Longer than librdkafka waits before it asks for a logical offset again (0.5 s)."""
__all__ = ["impatient"]  # a fixture


@contextmanager
def frozen(kafka: Broker) -> Iterator[None]:
    """What is asked meanwhile is answered afterwards."""
    if isinstance(kafka, Cluster):
        pytest.skip("somebody's own cluster is never frozen")
    kafka.pause()
    try:
        yield
    finally:
        kafka.resume()


@pytest.mark.usefixtures("impatient")
def test_a_silent_broker_is_told_and_so_is_its_return(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    """Not ready, and nobody knows what waits; nor does a worker to which nothing is assigned yet."""
    events, route = tenant(2)
    produce(kafka.bootstrap, events, [b"x"] * 10, partitions=2)
    lane, echo = unique("lane"), Echo({events: route})
    with (
        ledger(kafka.bootstrap, **{route.scores: 2}) as found,
        running(kafka.bootstrap, lane, echo) as ours,
    ):
        found.until(10)
        assert ours.meter.first_waits == {events: Waiting(unknown=True)}, "nothing was assigned yet"
        well(ours)
        waits(ours, events, events=0, unknown=False)
        with frozen(kafka):
            why(ours, "Kafka has not answered")
            waits(ours, events, unknown=True)
        produce(kafka.bootstrap, events, [b"x"] * 10, partitions=2)
        found.until(20)
        well(ours)
        waits(ours, events, events=0, unknown=False)
        ours.stop()
        assert ours.worker.why_unready() == "draining"


def test_a_silent_broker_is_no_answer(
    kafka: Broker, make_topic: MakeTopic, unique: Unique, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANSWER_S", "READ_S"):
        monkeypatch.setattr(lag_reader, name, 5.0 * PATIENCE)
    topic = make_topic("events")
    readers = Readers(reader_of(kafka, unique("group")))
    try:
        assert readers.look({(topic, 0): 0})
        monkeypatch.setattr(lag_reader, "ANSWER_S", 1.0)
        with frozen(kafka), pytest.raises(Retriable):
            readers.look({(topic, 0): 0})
    finally:
        readers.close()


@pytest.mark.parametrize("planted", [False, True], ids=["explicit-offsets", "planted"])
def test_a_late_answer_about_the_beginning_moves_no_partition_back(
    kafka: Broker, unique: Callable[[str], str], make_topic: Callable[..., str], planted: bool
) -> None:
    """A partition without a commit is assigned, and assigned again after one, while librdkafka still asks for its
    beginning: with OFFSET_BEGINNING (`planted`) the outdated answer starts a timer that seeks back half a second later.

    The broker is frozen meanwhile: so the answer always comes after the second assignment.
    """
    topic, group = make_topic("r1-late", partitions=1), unique("r1-late")
    produce(kafka.bootstrap, topic, [b"x"] * RECORDS)
    consumer = client.consumer(KafkaSettings(bootstrap=kafka.bootstrap), **{"group.id": group})
    place = TopicPartition(topic, 0)
    first = TopicPartition(topic, 0, OFFSET_BEGINNING)
    if not planted:
        (first,) = StartingOffsets(consumer, ListLog()).starts([place]).offsets
    consumer.assign([])
    consumer.list_topics(topic, timeout=60)  # the leader is known: it is asked at once
    seen: list[int] = []

    def read() -> bool:
        seen.extend(message.offset() or 0 for message in consumer.consume(100, 0.1) if message.error() is None)
        return bool(seen)

    with frozen(kafka):
        consumer.incremental_assign([first])
        consumer.incremental_unassign([place])
        consumer.incremental_assign([TopicPartition(topic, 0, COMMITTED)])
    if planted:
        await_true(lambda: read() and min(seen) < COMMITTED, "the records before the committed ones")
    else:
        end = time.monotonic() + LATE_S
        await_true(lambda: read() and time.monotonic() > end, "the moment of a late answer is over")
        assert min(seen) == COMMITTED
    consumer.close()


@contextmanager
def small_offsets(kafka: Broker) -> Iterator[None]:
    """A coordinator that can write no offsets of a group."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def alter(operation: AlterConfigOpType) -> None:
        entry = ConfigEntry("max.message.bytes", "100", incremental_operation=operation)
        topic = ConfigResource(ResourceType.TOPIC, "__consumer_offsets", incremental_configs=[entry])
        admin.incremental_alter_configs([topic])[topic].result(60)

    alter(AlterConfigOpType.SET)
    try:
        yield
    finally:
        alter(AlterConfigOpType.DELETE)


def test_offsets_that_cannot_be_committed_are_tried_less_and_less_often(
    kafka: Broker, unique: Unique, tenant: Tenant
) -> None:
    (events, route), sent = tenant(1), 10
    with (
        running(kafka.bootstrap, unique("lane"), Echo({events: route})) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
    ):
        produce(kafka.bootstrap, events, [b"x"] * sent)
        found.until(sent)
        with small_offsets(kafka):

            def backs_off() -> bool:
                nonlocal sent
                produce(kafka.bootstrap, events, [b"x"])  # the broker takes a moment to heed the setting
                sent += 1
                return len(ours.log.said("backing_off")) > 1

            await_true(backs_off, "it backs off", 60.0)
        said = ours.log.said("backing_off")
        assert [one["seconds"] for one in said[:2]] == [0.5, 1.0]
        assert "the group's offsets cannot be committed" in said[0]["error"]
        assert "max.message.bytes of __consumer_offsets" in said[0]["error"]
        found.until(sent)
        ours.stop()
        assert found.to_end().answers() == expected(events, sent)
