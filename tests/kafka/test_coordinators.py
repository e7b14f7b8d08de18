"""Which partition keeps a group or an id, asked of a real broker: the one that grows."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.kafka.coordinators import OFFSETS, TRANSACTIONS, kept_in, leaderless
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.transactional_producer import open_producer
from muse_stream.testing.kafka_broker import Broker

Unique = Callable[[str], str]


@pytest.mark.broker
def test_the_partition_is_the_one_that_the_broker_writes_to(kafka: Broker, unique: Unique) -> None:
    for name in (unique("id"), unique("id")):
        open_producer(KafkaSettings(bootstrap=kafka.bootstrap), name, Deadline(30)).discard()
        reader = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": name, "auto.offset.reset": "earliest"})
        partitions = len(reader.list_topics(TRANSACTIONS, timeout=30).topics[TRANSACTIONS].partitions)
        reader.assign([TopicPartition(TRANSACTIONS, kept_in(name, partitions), 0)])
        keys: list[bytes] = []
        while not any(name.encode() in key for key in keys):
            messages = reader.consume(1, 30)
            assert messages, f"{name} is not in the partition"
            keys.append(bytes(messages[0].key() or b""))
        reader.close()


@pytest.mark.parametrize(
    ("name", "code"),
    [("", 0), ("muse.main.live", 870_221_069), ("Aa", 2112), ("\U0001f600", 1_772_899), ("polygenelubricants", 0)],
)
def test_the_hash_is_javas(name: str, code: int) -> None:
    """The last one's hash is the smallest integer, which has no opposite: brokers take 0."""
    assert kept_in(name, 1_000_003) == code % 1_000_003


class Told:
    """A client that has been told this of a topic."""

    def __init__(self, leader: int | None) -> None:
        self.leader = leader

    def list_topics(self, topic: str, timeout: float) -> object:
        if self.leader is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        one = SimpleNamespace(error=None, partitions={0: SimpleNamespace(leader=self.leader)})
        return SimpleNamespace(topics={topic: one})


def test_what_is_said() -> None:
    said = leaderless(Told(-1), OFFSETS, "group")
    assert said.startswith("__consumer_offsets[0], which keeps it, has no leader: ")
    assert leaderless(Told(1), OFFSETS, "group") == ""
    assert leaderless(Told(None), OFFSETS, "group") == "", "nobody answers: something else is said"
