"""Questions about offsets while partitions have no leader for a moment: asked again, and never answered in part."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from muse_stream.errors import Fatal, Retriable, StreamError
from muse_stream.kafka import topic_reader
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.offsets import all_offsets_at, offsets_at, offsets_within, watermarks
from muse_stream.kafka.topic_reader import Bounds, between, bounds

MOVING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
"""What a broker answers of a partition that was made, or got another leader, a moment ago."""


class Cluster:
    """A consumer that is refused so many times before it is answered."""

    def __init__(self, code: int, refusals: int) -> None:
        self._code, self._left = code, refusals
        self.refreshed: list[str] = []
        self.allowed: list[float] = []
        self.asked: list[int] = []

    def _refused(self) -> bool:
        self._left -= 1
        return self._left >= 0

    def list_topics(self, topic: str, timeout: float) -> Any:
        self.refreshed.append(topic)
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=[0, 1])})

    def get_watermark_offsets(self, _place: TopicPartition, timeout: float) -> tuple[int, int]:
        if self._refused():
            raise KafkaException(KafkaError(self._code))
        return 3, 8

    def offsets_for_times(self, places: Sequence[TopicPartition], timeout: float) -> list[Any]:
        """Only the last partition is refused: librdkafka tells that by the partition."""
        refused = self._refused()
        self.allowed.append(timeout)
        self.asked.append(len(places))
        return [
            SimpleNamespace(
                topic=one.topic,
                partition=one.partition,
                offset=5,
                error=KafkaError(self._code) if refused and one.partition else None,
            )
            for one in places
        ]

    def assignment(self) -> list[TopicPartition]:
        return []

    def poll(self, _timeout: float) -> None:
        return None


class Spoilt(Cluster):
    """One whose refusals are of the whole request."""

    def offsets_for_times(self, places: Sequence[TopicPartition], timeout: float) -> list[Any]:
        if self._refused():
            raise KafkaException(KafkaError(self._code))
        return super().offsets_for_times(places, timeout)


@pytest.mark.parametrize("code", MOVING, ids=lambda code: KafkaError(code).name())
def test_a_partition_without_a_leader_for_a_moment_is_asked_again(code: int) -> None:
    client: Any = Cluster(code, 2)
    assert bounds(client, "t") == {0: Bounds(3, 8), 1: Bounds(3, 8)}
    assert client.refreshed == ["t", "t", "t"], "who leads it is asked anew before each further try"


@pytest.mark.parametrize(
    ("code", "kind"), [(KafkaError.NOT_LEADER_FOR_PARTITION, Retriable), (KafkaError.TOPIC_AUTHORIZATION_FAILED, Fatal)]
)
def test_a_partition_that_stays_without_a_leader_is_told_in_time(code: int, kind: type[Exception]) -> None:
    client: Any = Cluster(code, 10_000)
    with pytest.raises(kind, match=r"t\[0\]"):
        watermarks(client, ("t", 0), 0.3)
    if kind is Fatal:
        assert client.refreshed == [], "no time is lost where it does not pass"


def test_a_partition_that_nobody_answers_for_is_asked_again() -> None:
    client: Any = Cluster(KafkaError.LEADER_NOT_AVAILABLE, 0)
    answers = [None, (3, 8)]
    client.get_watermark_offsets = lambda _place, timeout: answers.pop(0)
    assert watermarks(client, ("t", 0), 5.0) == (3, 8)


def test_a_moment_is_looked_up_in_every_partition_or_in_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that had no leader counted as one without a bound: `--since` gave out all that it held."""
    held = {0: Bounds(0, 8), 1: Bounds(0, 8)}
    moving: Any = Cluster(KafkaError.NOT_LEADER_FOR_PARTITION, 2)
    assert between(moving, "t", held, 1_000, None) == {0: Bounds(5, 8), 1: Bounds(5, 8)}
    away: Any = Cluster(KafkaError.NOT_LEADER_FOR_PARTITION, 10_000)
    monkeypatch.setattr(topic_reader, "TIMEOUT_S", 0.3)
    with pytest.raises(Retriable, match=r"t\[1\]"):
        between(away, "t", held, 1_000, None)


def test_a_request_that_one_moved_partition_spoils_is_no_answer_for_the_others() -> None:
    """librdkafka says of the whole request what the first partition was refused for: nothing is known of the others."""
    client: Any = Spoilt(KafkaError.NOT_LEADER_FOR_PARTITION, 1)
    with pytest.raises(Retriable):
        offsets_at(client, [("t", 0), ("t", 1)], 1_000, 1.0)
    client = Spoilt(KafkaError.NOT_LEADER_FOR_PARTITION, 2)
    assert all_offsets_at(client, [("t", 0), ("t", 1)], 1_000, 5.0) == {("t", 0): 5, ("t", 1): 5}


def test_where_it_does_not_pass_the_cause_is_told_at_once() -> None:
    denied: Any = Spoilt(KafkaError.TOPIC_AUTHORIZATION_FAILED, 10_000)
    with pytest.raises(StreamError, match="may not use the topic"):
        all_offsets_at(denied, [("t", 0)], 1_000, 600.0)
    by_partition: Any = Cluster(KafkaError.TOPIC_AUTHORIZATION_FAILED, 10_000)
    with pytest.raises(Fatal, match=r"t\[1\]: this principal may not use the topic"):
        all_offsets_at(by_partition, [("t", 0), ("t", 1)], 1_000, 0.3)


def test_no_request_takes_longer_than_what_is_left() -> None:
    client: Any = Cluster(KafkaError.LEADER_NOT_AVAILABLE, 10_000)
    with pytest.raises(Retriable):
        all_offsets_at(client, [("t", 0), ("t", 1)], 1_000, 0.5)
    first, *others = client.allowed
    assert 0.4 < first <= 0.5
    assert others == sorted(others, reverse=True)
    assert others[-1] == 0.1
    assert len(client.refreshed) >= len(others)
    assert client.asked == [2] + [1] * (len(client.asked) - 1), "those that have answered are not asked again"


def test_who_can_do_with_some_partitions_gets_those_that_answer() -> None:
    client: Any = Cluster(KafkaError.LEADER_NOT_AVAILABLE, 10_000)
    assert offsets_within(client, [("t", 0), ("t", 1)], 1_000, Deadline(0.3), 1.0) == {("t", 0): 5}
    client.refreshed.clear()
    assert offsets_within(client, [("t", 0), ("t", 1)], 1_000, Deadline(0.0), 1.0) == {("t", 0): 5}
    assert client.refreshed == ["t"], "the next look must know of the new leader"
