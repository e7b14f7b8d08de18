"""What the tests of whole runs share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from muse_stream.testing.kafka_broker import Broker
from tests.integration.bank import PARTITIONS, Bank


@pytest.fixture
def bank(kafka: Broker, tmp_path: Path, unique: Callable[[str], str], make_topic: Callable[..., str]) -> Bank:
    """Two tenants with their topics."""
    made = Bank(tmp_path / "bank", unique("bank"))
    for topic in made.topics():
        make_topic(name=topic, partitions=PARTITIONS)
    return made
