"""The desk of the tests about dead letters."""

from collections.abc import Callable
from pathlib import Path

import pytest

from muse_stream.testing.kafka_broker import Broker
from tests.commands.letters import Desk, made_desk


@pytest.fixture
def desk(
    kafka: Broker,
    tmp_path: Path,
    unique: Callable[[str], str],
    make_topic: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Desk:
    """With the topics of acme."""
    made = made_desk(kafka, tmp_path, unique, make_topic, monkeypatch, capsys)
    made.make("acme")
    return made
