"""A topic read to its end, with a transaction open at it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition

from muse_stream.config import KafkaSettings
from muse_stream.kafka.topic_reader import Bounds, Reading, bounds, reader
from muse_stream.testing import ToSend, produce
from muse_stream.testing.kafka_broker import Broker

Unique = Callable[[str], str]
MakeTopic = Callable[..., str]


class Scripted:
    """A consumer whose polls answer what the test says; the rest of them nothing."""

    def __init__(self, *polls: Sequence[Any]) -> None:
        self._polls = [list(poll) for poll in polls]
        self._rest: list[Any] = []

    def assign(self, _partitions: Sequence[TopicPartition]) -> None:
        """Nothing is read here."""

    def unassign(self) -> None:
        """Nothing is read here."""

    def pause(self, _partitions: Sequence[TopicPartition]) -> None:
        """Nothing is read here."""

    def resume(self, _partitions: Sequence[TopicPartition]) -> None:
        """Nothing is read here."""

    def poll(self, _timeout_s: float) -> Any:
        first, *self._rest = self._polls.pop(0) if self._polls else [None]
        return first

    def consume(self, _most: int, _timeout_s: float) -> list[Any]:
        return self._rest


class Said:
    """A record, or an end of its partition."""

    def __init__(self, offset: int, code: int | None = None) -> None:
        self._offset, self._code = offset, code

    def error(self) -> KafkaError | None:
        return None if self._code is None else KafkaError(self._code)

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset


def end(offset: int) -> Said:
    return Said(offset, KafkaError._PARTITION_EOF)


@pytest.mark.parametrize(
    ("polls", "unstable"),
    [
        ([[Said(0), Said(1), end(2)]], {0: 2}),
        ([[Said(0), end(1), Said(1)], [end(2)]], {0: 2}),
        ([[Said(0), end(1), Said(1), end(2)]], {0: 2}),
        ([[Said(0)], [Said(1)], [end(2)]], {0: 2}),
        ([[Said(0), Said(1), Said(4)]], {}),
        ([[Said(0), Said(1), end(5)]], {}),
    ],
    ids=["in one poll", "an old end", "an old end and a new one", "apart", "all", "all but markers"],
)
def test_the_end_before_an_open_transaction_is_noted_wherever_it_comes(
    polls: list[list[Said]], unstable: dict[int, int]
) -> None:
    reading = Reading(Scripted(*polls), "t", {0: Bounds(0, 5)}, 0.0)  # type: ignore[arg-type]
    blocks = list(reading)
    assert sum(len(block.messages) for block in blocks) >= 2
    assert reading.unstable == unstable


@pytest.mark.broker
def test_an_open_transaction_is_told_on_a_broker(kafka: Broker, unique: Unique, make_topic: MakeTopic) -> None:
    topic = make_topic()
    settings = KafkaSettings(bootstrap=kafka.bootstrap)
    for held in open_transaction(kafka.bootstrap, unique("open"), topic):
        with closing(reader(settings, **{"isolation.level": "read_uncommitted"})) as all_records:
            ends = bounds(all_records, topic)
        with closing(reader(settings)) as client:
            reading = Reading(client, topic, ends, 0.5)
            assert sum(len(block.messages) for block in reading) == held
            assert reading.unstable == {0: held + 1}


@pytest.mark.broker
def test_a_client_reads_on_where_one_partition_ended_before_another(kafka: Broker, make_topic: MakeTopic) -> None:
    """A partition that has ended is paused, and stays so for the client's next assignment: `watch` read no more."""
    topic = make_topic(partitions=2)
    settings = KafkaSettings(bootstrap=kafka.bootstrap)
    with closing(reader(settings)) as client:
        for offset in (0, 1):
            records = [ToSend(topic, partition, b"x") for partition in (0, 1)]
            produce(kafka.bootstrap, records)
            reading = Reading(client, topic, {0: Bounds(offset, offset + 1), 1: Bounds(offset, offset + 9)}, 0.2)
            found = [place for block in reading for place in zip(block.partitions, block.offsets, strict=True)]
            assert sorted(found) == [(0, offset), (1, offset)]
            assert reading.unstable == {1: offset + 1}


def open_transaction(bootstrap: str, name: str, topic: str) -> Iterator[int]:
    """Commit five records and leave one more in a transaction; yields how many a reader sees before it."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": name})
    producer.init_transactions(60)
    for count, committed in ((5, True), (1, False)):
        producer.begin_transaction()
        for number in range(count):
            producer.produce(topic, str(number).encode(), partition=0)
        producer.flush()
        if committed:
            producer.commit_transaction(60)
    yield 5
    producer.abort_transaction(60)
