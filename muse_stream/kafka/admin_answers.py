"""Answers of an AdminClient: waited for longer than its requests last, so that these say themselves what was wrong."""

from typing import Any

from confluent_kafka import KafkaError, KafkaException

from muse_stream.kafka.deadline import Deadline

LATE_S = 5.0
"""How long a client may be late with an answer: of a busy machine it is, by more than a request's own time."""


def answers_within(timeout_s: float) -> Deadline:
    """Return until when the answers to requests of so many seconds are waited for, all together."""
    return Deadline(timeout_s + LATE_S)


def told(answer: Any, deadline: Deadline) -> Any:
    """Return an answer; raises KafkaException, also where none comes in time."""
    try:
        return answer.result(timeout=deadline.left_s)
    except TimeoutError:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None
