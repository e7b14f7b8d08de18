"""A look at partitions that do not move, on the real broker: their end, and the timestamp of what waits there."""

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, Producer

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.kafka import client
from muse_stream.kafka.lag_reader import READER, LagReader, look
from muse_stream.kafka.partition import Standing
from muse_stream.testing.kafka_broker import Broker
from tests.worker.doubles import ListLog, await_true, threads

Unique = Callable[[str], str]
MakeTopic = Callable[..., str]
STAMP = 1_700_000_000_000


def reader_of(kafka: Broker, group: str) -> Consumer:
    return client.consumer(KafkaSettings(bootstrap=kafka.bootstrap), **{"group.id": group, **READER})


@pytest.fixture
def reader(kafka: Broker, unique: Unique) -> Iterator[Consumer]:
    made = reader_of(kafka, unique("group"))
    yield made
    made.close()


def write(kafka: Broker, topic: str, count: int, *, transaction: str | None = None, commit: bool = True) -> Producer:
    """Write records a second apart; in a transaction that stays open unless it is to be committed."""
    named = {"transactional.id": transaction} if transaction else {}
    producer = Producer({"bootstrap.servers": kafka.bootstrap, **named})
    if transaction:
        producer.init_transactions(20)
        producer.begin_transaction()
    for number in range(count):
        producer.produce(topic, b"x", partition=0, timestamp=STAMP + 1_000 * number)
    assert producer.flush(20) == 0
    if transaction and commit:
        producer.commit_transaction(20)
    return producer


@pytest.mark.parametrize(("asked", "at"), [(None, 0), (0, 0), (2, 2)])
def test_the_first_record_from_an_offset_on(
    kafka: Broker, reader: Consumer, make_topic: MakeTopic, asked: int | None, at: int
) -> None:
    topic = make_topic("events")
    write(kafka, topic, 5)
    assert look(reader, {(topic, 0): asked}, 10) == {(topic, 0): Standing(at, 5, STAMP + 1_000 * at)}
    assert look(reader, {(topic, 0): asked}, 10) == {(topic, 0): Standing(at, 5, STAMP + 1_000 * at)}, "and again"


def test_nothing_behind_the_last_record_or_the_last_marker(
    kafka: Broker, reader: Consumer, make_topic: MakeTopic, unique: Unique
) -> None:
    topic, marked, bare = make_topic("events"), make_topic("events"), make_topic("events")
    write(kafka, topic, 2)
    write(kafka, marked, 2, transaction=unique("writer"))
    found = look(reader, {(topic, 0): 2, (marked, 0): 2, (bare, 0): None}, 10)
    assert found == {
        (topic, 0): Standing(2, 2, None, empty=True),
        (marked, 0): Standing(2, 3, None, empty=True),
        (bare, 0): Standing(0, 0, None, empty=True),
    }


def test_records_of_an_open_transaction_wait_though_none_can_be_read(
    kafka: Broker, reader: Consumer, make_topic: MakeTopic, unique: Unique
) -> None:
    topic = make_topic("events")
    held = write(kafka, topic, 3, transaction=unique("writer"), commit=False)
    assert look(reader, {(topic, 0): 0}, 10) == {(topic, 0): Standing(0, 3, None)}
    held.abort_transaction(20)


def test_what_is_not_there_has_no_answer_and_holds_nobody_up(
    kafka: Broker, reader: Consumer, make_topic: MakeTopic, unique: Unique
) -> None:
    topic = make_topic("events")
    write(kafka, topic, 1)
    assert look(reader, {(topic, 0): 0, (topic, 7): 0, (unique("gone"), 0): 4}, 3) == {
        (topic, 0): Standing(0, 1, STAMP)
    }


def test_the_thread_answers_what_is_asked_now_and_ends(kafka: Broker, make_topic: MakeTopic, unique: Unique) -> None:
    first, second = make_topic("events"), make_topic("events")
    for topic in (first, second):
        write(kafka, topic, 2)
    opened: list[Consumer] = []

    def open_reader() -> Consumer:
        opened.append(reader_of(kafka, unique("group")))
        return opened[-1]

    standing = LagReader(open_reader, ListLog())
    standing.ask({})
    assert (standing.found(), opened) == ({}, []), "nothing is opened before something stands still"
    standing.ask({(first, 0): 1})
    await_true(lambda: standing.found() == {(first, 0): Standing(1, 2, STAMP + 1_000)}, "the first answer")
    standing.ask({(first, 0): 1, (second, 0): 0})
    await_true(lambda: standing.found().keys() == {(first, 0), (second, 0)}, "both")
    assert len(opened) == 1
    standing.close()
    await_true(lambda: not threads("standing-partitions"), "the thread ends")
