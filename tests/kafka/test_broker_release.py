"""Which release of Kafka answers: told by what librdkafka says of a real broker, and silent where it says nothing."""

import logging
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.kafka import client
from muse_stream.kafka.broker_release import FORGETFUL_SINCE, Listening
from muse_stream.testing.kafka_broker import PLACES, Broker, Cluster
from muse_stream.testing.kafka_jars import version

LINE = "[thrd:127.0.0.1:9092/bootstrap]: 127.0.0.1:9092/bootstrap:   ApiKey DescribeLogDirs (35) Versions 1..{}"


def told(listening: Listening, level: int, text: str) -> None:
    listening.log(level, "%s", text)


@pytest.mark.parametrize(("newest", "forgetful"), [(4, False), (5, True), (6, True), (10, True)])
def test_the_newest_request_tells(newest: int, forgetful: bool, caplog: pytest.LogCaptureFixture) -> None:
    listening = Listening(logging.getLogger("muse_stream.kafka"))
    told(listening, logging.DEBUG, LINE.format(newest))
    told(listening, logging.DEBUG, LINE.format(4))  # another broker of the same cluster
    listening.report("here:9092")
    said = [record for record in caplog.records if record.getMessage() == "broker_forgets_markers"]
    assert bool(said) == forgetful == listening.forgetful
    assert len(caplog.records) == forgetful, "debugging is not passed on"


@pytest.mark.parametrize("text", ["", "ApiKey DescribeLogDirs", "ApiKey Produce (0) Versions 0..99", "Versions 1..5"])
def test_other_words_tell_nothing(text: str, caplog: pytest.LogCaptureFixture) -> None:
    listening = Listening(logging.getLogger("muse_stream.kafka"))
    told(listening, logging.DEBUG, text)
    listening.report("here:9092")
    assert caplog.records == []


def test_what_is_no_debugging_is_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    listening = Listening(logging.getLogger("muse_stream.kafka"))
    told(listening, logging.ERROR, "Connection refused")
    assert [record.getMessage() for record in caplog.records] == ["Connection refused"]
    logging.getLogger("muse_stream.kafka").setLevel(logging.CRITICAL)
    try:
        told(listening, logging.ERROR, "Connection refused again")
    finally:
        logging.getLogger("muse_stream.kafka").setLevel(logging.NOTSET)
    assert len(caplog.records) == 1


def test_the_pinned_release_is_heard_and_nothing_said(kafka: Broker, caplog: pytest.LogCaptureFixture) -> None:
    if isinstance(kafka, Cluster):
        pytest.skip("somebody's own cluster may be of any release")
    assert version(PLACES).startswith("4.2."), "is the next one known to be mended?"
    client.reach(KafkaSettings(bootstrap=kafka.bootstrap))
    assert "broker_forgets_markers" not in caplog.text
    listening = Heard(logging.getLogger("muse_stream.kafka"))
    settings: dict[str, Any] = {"debug": "feature", "logger": listening}
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap} | settings)
    admin.list_topics(timeout=60)
    admin.poll(0)
    newest = [line.rpartition("..")[2] for line in listening.lines if "DescribeLogDirs (35)" in line]
    assert newest and {int(one) for one in newest} == {FORGETFUL_SINCE - 1}


class Heard(Listening):
    """Keeps what it hears."""

    def __init__(self, onward: logging.Logger) -> None:
        super().__init__(onward)
        self.lines: list[str] = []

    def handle(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        super().handle(record)
