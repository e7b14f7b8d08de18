"""What a person is told of Kafka's errors: each line says what it means and what would be right."""

import pytest
from confluent_kafka import KafkaError

from muse_stream.errors import StreamError
from muse_stream.kafka.errors import TABLE, About, asked, delivered, typed
from muse_stream.kafka.explain import WORDS, said

NO_ERRORS = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._PARTITION_EOF}
"""Effects and events that nobody is told."""
ALIKE = {KafkaError.INVALID_MSG, KafkaError.INVALID_MSG_SIZE, KafkaError._BAD_MSG}
"""Kafka's own words are plain enough."""


@pytest.mark.parametrize("code", WORDS, ids=lambda code: KafkaError(code).name())
def test_every_line_says_what_it_means_and_what_would_be_right(code: int) -> None:
    text = said(KafkaError(code), "scores[3]")
    assert text.startswith(f"scores[3]: {WORDS[code].meaning} ({KafkaError(code).name()})")
    assert text.endswith(f"; {WORDS[code].cure}")
    assert len(WORDS[code].cure) > 10
    assert "Broker: " not in text and "Local: " not in text


def test_every_error_that_is_acted_upon_has_words() -> None:
    assert {one.code for one in TABLE} - WORDS.keys() - NO_ERRORS - ALIKE == set()


def test_what_kafka_adds_is_kept() -> None:
    text = said(KafkaError(KafkaError._TIMED_OUT, "Failed to get committed offsets: Local: Timed out"), "group g")
    assert text.startswith("group g: no answer came in time (_TIMED_OUT: Failed to get committed offsets")


def test_an_error_without_a_line_keeps_kafkas_words() -> None:
    assert said(KafkaError(KafkaError.INVALID_REQUEST), "t") == "t: Invalid request (INVALID_REQUEST)"


@pytest.mark.parametrize("make", [typed, asked, lambda error: delivered(error, "t")])
def test_no_error_is_empty(make: object) -> None:
    """An error without a text was printed as `Error: ` and nothing else."""
    for code in (KafkaError._FAIL, KafkaError.UNKNOWN, KafkaError._APPLICATION):
        found = make(KafkaError(code, ""))  # type: ignore[operator]
        assert isinstance(found, StreamError)
        assert len(str(found)) > 10
    assert {About.FENCED, About.TOPIC} <= set(About)
