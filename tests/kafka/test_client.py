"""Settings of clients that must do what they are there for, whatever a later librdkafka makes of them."""

import logging

import pytest
from confluent_kafka import Producer

from muse_stream.kafka import client
from tests.worker.doubles import await_true


def test_r5_the_library_takes_the_hidden_property_that_connects_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """It is in no list of the library's, and tells only its settings that are not the default."""
    caplog.set_level(logging.DEBUG, logger="r5")
    producer = Producer({"debug": "conf", **client.CONNECTED}, logger=logging.getLogger("r5"))
    (wanted,) = client.CONNECTED

    def told() -> bool:
        producer.poll(0.1)
        return f"{wanted} = false" in caplog.text

    await_true(told, lambda: f"{wanted} is off: {caplog.text}")
