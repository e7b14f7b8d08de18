"""A broker that is frozen in the middle of something and goes on later. It is this module's own: nobody else waits."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

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
from tests.worker.rig import ledger, produce, running
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
