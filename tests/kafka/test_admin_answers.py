"""Answers of an AdminClient that do not come: an error of Kafka, never one of a Future (whose text is empty)."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from muse_stream.errors import Retriable
from muse_stream.kafka import admin_answers
from muse_stream.kafka.admin import survey, topic_ids, topic_settings
from muse_stream.kafka.admin_answers import answers_within, told


class Silent:
    """Stands for an AdminClient whose answers are late by more than anybody waits for."""

    def list_topics(self, **_: float) -> Any:
        class Listed:
            topics: dict[str, Any] = {}  # noqa: RUF012

        return Listed()

    def describe_topics(self, wanted: Any, **_: float) -> dict[Any, Future[Any]]:
        return {name: Future() for name in ("a", "b")}

    def describe_configs(self, wanted: Any, **_: float) -> dict[Any, Future[Any]]:
        return {one: Future() for one in wanted}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_answers, "LATE_S", 0.0)


def test_an_answer_that_does_not_come_is_a_timeout_of_kafka() -> None:
    with pytest.raises(KafkaException) as caught:
        told(Future(), answers_within(0.01))
    assert caught.value.args[0].code() == KafkaError._TIMED_OUT


@pytest.mark.parametrize("ask", [topic_ids, topic_settings])
def test_what_is_not_told_is_left_out(ask: Callable[..., Any]) -> None:
    assert ask(Silent(), ["a", "b"], 0.01) == {}


def test_a_survey_says_that_nobody_answers() -> None:
    with pytest.raises(Retriable, match="a"):
        survey(Silent(), ["a", "b"], 0.01)  # type: ignore[arg-type]
