"""Reaching Kafka: the first answer is worth nothing where the address that it advertises is not reachable."""

import socket
from collections.abc import Iterator

import pytest

from muse_stream.errors import Retriable
from muse_stream.kafka.client import _reach_advertised
from muse_stream.testing.local_kafka import free_ports


@pytest.fixture
def taking() -> Iterator[int]:
    """A port that takes connections."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield int(listening.getsockname()[1])


def test_one_address_that_takes_connections_is_enough(taking: int) -> None:
    (closed,) = free_ports(1)
    _reach_advertised("b:9092", [("127.0.0.1", closed), ("127.0.0.1", taking)])
    _reach_advertised("b:9092", [])


def test_every_address_is_named_with_the_reason() -> None:
    (closed,) = free_ports(1)
    with pytest.raises(Retriable) as caught:
        _reach_advertised("b:9092", [("127.0.0.1", closed), ("kafka.invalid", 9092)])
    said = str(caught.value)
    assert said.startswith("Kafka answers at b:9092, but the address that it advertises cannot be reached from here: ")
    assert f"127.0.0.1:{closed} (connection refused), kafka.invalid:9092 (" in said
    assert "advertised.listeners" in said
