"""The table of Kafka's errors: one line a code, each with a reason, and what the lines make of an error."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from muse_stream.errors import Abortable, Fatal, Fenced, Retriable
from muse_stream.kafka.errors import TABLE, About, asked, concerns, delivered, lacks_leader, names, typed


def test_every_code_has_one_line_and_a_reason() -> None:
    codes = [one.code for one in TABLE]
    assert len(codes) == len(set(codes))
    assert all(one.about and one.reason for one in TABLE)
    assert {about for one in TABLE for about in one.about} == set(About), "a kind that no error is of"


def test_a_name_leads_back_to_its_line() -> None:
    assert "MSG_SIZE_TOO_LARGE" in names(About.RECORD)
    assert names(About.RECORD).isdisjoint(names(About.TOPIC)), "a topic's fault must not be blamed on a record"


@pytest.mark.parametrize("one", TABLE, ids=lambda one: KafkaError(one.code).name())
def test_what_an_error_is_about(one: object) -> None:
    meaning = next(line for line in TABLE if line is one)
    for given in (KafkaError(meaning.code), KafkaException(KafkaError(meaning.code))):
        assert {about for about in About if concerns(given, about)} == set(meaning.about)
    assert not concerns(KafkaException("no error inside"), meaning.about[0])


def test_a_record_that_was_not_taken_costs_its_transaction_or_the_producer() -> None:
    lost = delivered(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), "scores")
    assert (type(lost), lost.topic, lost.code) == (Abortable, "scores", "MSG_SIZE_TOO_LARGE")
    fenced = delivered(KafkaError(KafkaError.INVALID_PRODUCER_EPOCH), "scores")
    assert (type(fenced), fenced.code) == (Fenced, "_FENCED")


def test_what_was_not_answered_may_be_asked_again_but_not_written_again() -> None:
    silent = KafkaError(KafkaError._TIMED_OUT)
    assert type(asked(silent)) is Retriable
    assert type(typed(silent)) is Fatal, "without a flag nobody knows whether it was carried out"


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        (KafkaError.NOT_LEADER_FOR_PARTITION, True),
        (KafkaError.LEADER_NOT_AVAILABLE, True),
        (KafkaError.FENCED_LEADER_EPOCH, True),
        (KafkaError.UNKNOWN_LEADER_EPOCH, True),
        (KafkaError.OFFSET_NOT_AVAILABLE, True),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, False),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, False),
    ],
)
def test_a_partition_whose_leader_moves_may_be_asked_again(code: int, passes: bool) -> None:
    error = KafkaException(KafkaError(code))
    assert lacks_leader(error) is passes
    assert (type(asked(error, "t[0]")) is Retriable) is passes
