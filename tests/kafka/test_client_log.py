"""The log of Kafka's clients: an outage is said, not shouted."""

import logging

from muse_stream.kafka import client
from muse_stream.kafka.client import KEPT, Repeats
from tests.worker.doubles import Clock

REFUSED = (
    "FAIL [muse-stream#consumer-{}] [thrd:b:9092/1]: b:{}/1: Connect failed: refused (after {}ms in state CONNECT)"
)


def record(text: str) -> logging.LogRecord:
    """As confluent_kafka writes it: the text is an argument."""
    return logging.LogRecord("muse_stream.kafka", logging.ERROR, "", 0, "%s", (text,), None)


def test_an_outage_is_said_once_in_a_while_and_counted() -> None:
    clock = Clock()
    repeats = Repeats(30.0, clock)
    passed = []
    for second in range(70):
        clock.now = float(second)
        for client_number in (7, 11):
            one = record(REFUSED.format(client_number, 9092, second % 3))
            if repeats.filter(one):
                passed.append(one.getMessage())
    first = REFUSED.format(7, 9092, 0)
    assert passed == [first, f"{first} (and 59 like it since)", f"{first} (and 59 like it since)"]


def test_another_broker_is_another_message() -> None:
    repeats = Repeats()
    assert all(repeats.filter(record(REFUSED.format(7, port, 0))) for port in (9092, 9093, 9094))


def test_what_it_remembers_is_bounded() -> None:
    repeats = Repeats()
    assert all(repeats.filter(record(f"broker b{number}: gone")) for number in range(3 * KEPT))
    assert len(repeats._passed) <= KEPT


def test_it_stands_before_the_clients_log() -> None:
    assert any(isinstance(one, Repeats) for one in client.LOG.filters)
