"""Where partitions begin and end on the real broker, and the timestamp of what waits first."""

import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.kafka import client, lag_reader
from muse_stream.kafka.lag_reader import READER, LagReader, OpenReader, Readers
from muse_stream.kafka.partition import Standing, TopicPartitionKey
from muse_stream.testing.kafka_broker import Broker
from tests.patience import PATIENCE
from tests.worker.doubles import ListLog, await_true

Unique = Callable[[str], str]
MakeTopic = Callable[..., str]
STAMP = 1_700_000_000_000


def reader_of(kafka: Broker, group: str) -> OpenReader:
    settings = KafkaSettings(bootstrap=kafka.bootstrap)
    return lambda own: client.consumer(settings, **{"group.id": group, **READER, **own})


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker looks again two seconds later; a test looks once, at a broker that may be busy."""
    for name in ("ANSWER_S", "READ_S"):
        monkeypatch.setattr(lag_reader, name, 5.0 * PATIENCE)


@pytest.fixture
def readers(kafka: Broker, unique: Unique) -> Iterator[Readers]:
    made = Readers(reader_of(kafka, unique("group")))
    yield made
    made.close()


def write(kafka: Broker, topic: str, count: int, *, transaction: str | None = None, commit: bool = True) -> Producer:
    """Write records a second apart; in a transaction that stays open unless it is to be committed."""
    named = {"transactional.id": transaction} if transaction else {}
    producer = Producer({"bootstrap.servers": kafka.bootstrap, **named})
    if transaction:
        producer.init_transactions(60)
        producer.begin_transaction()
    for number in range(count):
        producer.produce(topic, b"x", partition=0, timestamp=STAMP + 1_000 * number)
    assert producer.flush(60) == 0
    if transaction and commit:
        producer.commit_transaction(60)
    return producer


def remove(kafka: Broker, topic: str, before: int) -> None:
    """What retention does, at once."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for done in admin.delete_records([TopicPartition(topic, 0, before)]).values():
        done.result(60)


@pytest.mark.parametrize(("asked", "at"), [(None, 0), (0, 0), (2, 2)])
def test_the_first_record_from_an_offset_on(
    kafka: Broker, readers: Readers, make_topic: MakeTopic, asked: int | None, at: int
) -> None:
    topic = make_topic("events")
    write(kafka, topic, 5)
    place = (topic, 0)
    assert readers.look({place: asked}, {place}) == {place: Standing(at, 0, 5, 5, STAMP + 1_000 * at)}
    assert readers.look({place: asked}, {place}) == {place: Standing(at, 0, 5, 5, STAMP + 1_000 * at)}, "and again"
    assert readers.look({place: asked}) == {place: Standing(at, 0, 5, 5)}, "it does not stand: its end alone"


def test_nothing_behind_the_last_record_or_the_last_marker(
    kafka: Broker, readers: Readers, make_topic: MakeTopic, unique: Unique
) -> None:
    topic, marked, bare = make_topic("events"), make_topic("events"), make_topic("events")
    write(kafka, topic, 2)
    write(kafka, marked, 2, transaction=unique("writer"))
    places: dict[TopicPartitionKey, int | None] = {(topic, 0): 2, (marked, 0): 2, (bare, 0): None}
    nothing = {
        (topic, 0): Standing(2, 0, 2, 2, nothing=True),
        (marked, 0): Standing(2, 0, 3, 3, nothing=True),
        (bare, 0): Standing(0, 0, 0, 0, nothing=True),
    }
    await_true(lambda: readers.look(places, places) == nothing, "the marker is written after the commit is answered")


def test_records_of_an_open_transaction_wait_and_have_their_age(
    kafka: Broker, readers: Readers, make_topic: MakeTopic, unique: Unique
) -> None:
    topic, behind = make_topic("events"), make_topic("events")
    held = write(kafka, topic, 3, transaction=unique("writer"), commit=False)
    write(kafka, behind, 2)
    also = write(kafka, behind, 3, transaction=unique("writer"), commit=False)
    places: dict[TopicPartitionKey, int | None] = {(topic, 0): 0, (behind, 0): 1}
    assert readers.look(places, places) == {
        (topic, 0): Standing(0, 0, 0, 3, STAMP, nothing=True),
        (behind, 0): Standing(1, 0, 2, 5, STAMP + 1_000),
    }
    held.abort_transaction(60)
    also.abort_transaction(60)


def test_what_retention_removed_is_told_by_the_beginning(
    kafka: Broker, readers: Readers, make_topic: MakeTopic
) -> None:
    topic = make_topic("events")
    write(kafka, topic, 5)
    remove(kafka, topic, 3)
    place = (topic, 0)
    assert readers.look({place: 1}, {place}) == {place: Standing(1, 3, 5, 5, STAMP + 3_000)}


def test_what_is_not_there_has_no_answer_and_holds_nobody_up(
    kafka: Broker, readers: Readers, make_topic: MakeTopic, unique: Unique
) -> None:
    topic = make_topic("events")
    write(kafka, topic, 1)
    places: dict[TopicPartitionKey, int | None] = {(topic, 0): 0, (unique("gone"), 0): 0, (topic, 7): 0}
    assert readers.look(places, places) == {(topic, 0): Standing(0, 0, 1, 1, STAMP)}


def test_the_thread_answers_later_and_for_what_is_asked_last(
    kafka: Broker, make_topic: MakeTopic, unique: Unique
) -> None:
    first, second = make_topic("events"), make_topic("events")
    write(kafka, first, 2)
    write(kafka, second, 1)
    opened: list[Consumer] = []

    def open_reader(own: dict[str, str]) -> Consumer:
        opened.append(reader_of(kafka, unique("group"))(own))
        return opened[-1]

    reader = LagReader(open_reader, ListLog())
    reader.ask({})
    assert (reader.found(), opened, reader.heard_s) == ({}, [], None), "nothing is opened before something is asked"
    began_s = time.monotonic()
    reader.ask({(first, 0): 1})
    await_true(lambda: reader.found() == {(first, 0): Standing(1, 0, 2, 2)}, "the first answer")
    reader.ask({(first, 0): 1}, {(first, 0)})
    await_true(lambda: reader.found() == {(first, 0): Standing(1, 0, 2, 2, STAMP + 1_000)}, "its first record")
    reader.ask({(first, 0): 1, (second, 0): 0}, {(first, 0)})
    await_true(lambda: reader.found().keys() == {(first, 0), (second, 0)}, "both")
    at_s = reader.found()[second, 0].at_s
    await_true(lambda: reader.found()[second, 0].at_s > at_s, "it is looked again and again, without being asked")
    assert reader.heard_s is not None
    assert reader.heard_s > began_s
    assert len(opened) == 2, "one for committed records, one for all"
    reader.close()
    await_true(lambda: reader._thread is not None and not reader._thread.is_alive(), "the thread ends")


def test_a_first_record_is_read_once(
    kafka: Broker, readers: Readers, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = make_topic("events")
    write(kafka, topic, 2)
    place = (topic, 0)
    before = readers.look({place: 1}, {place})
    monkeypatch.setattr("muse_stream.kafka.lag_reader.read_first", lambda _reader, places, *_: dict.fromkeys(places))
    assert readers.look({place: 1}, {place}, before) == before
    write(kafka, topic, 1)
    assert readers.look({place: 1}, {place}, before) == {place: Standing(1, 0, 3, 3, nothing=True)}, "looked again"
