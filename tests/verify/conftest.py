"""One tenant's topics on the session's broker."""

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.kafka import client
from muse_stream.testing.kafka_broker import Broker
from tests.verify.world import PLAIN, World


@pytest.fixture
def world(kafka: Broker, make_topic: Callable[..., str], unique: Callable[[str], str]) -> Iterator[World]:
    settings = KafkaSettings(bootstrap=kafka.bootstrap)

    def transactional() -> Producer:
        made = client.producer(settings, **{"transactional.id": unique("verify"), "transaction.timeout.ms": 600_000})
        made.init_transactions(60)
        return made

    topics = make_topic("events", partitions=2), make_topic("scores", partitions=2), make_topic("dlq")
    yield World(settings, *topics, client.producer(settings, **PLAIN), transactional)
