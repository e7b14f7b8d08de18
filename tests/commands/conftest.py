"""The desk of the tests about dead letters, and the bank of those about score and audit records."""

from collections.abc import Callable
from pathlib import Path

import pytest

from muse_stream.testing.kafka_broker import Broker
from tests.commands.letters import Desk, made_desk
from tests.commands.records import Bank, fill


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


@pytest.fixture
def bank(
    kafka: Broker,
    tmp_path: Path,
    unique: Callable[[str], str],
    make_topic: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> Bank:
    """With empty topics of scores and audit records."""
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    return Bank(kafka, tmp_path, unique("records"), make_topic)


@pytest.fixture
def filled(bank: Bank, unique: Callable[[str], str]) -> Bank:
    """With five events of acme and what two predictors say; others' records, aborted ones, and what is no record."""
    fill(bank, unique("filled"))
    return bank
