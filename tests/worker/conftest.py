"""Fixtures of the worker's tests: a tenant's topics, and paused topics that are looked at again soon."""

from collections.abc import Callable

import pytest

from muse_stream.kafka import transactional_producer
from muse_stream.worker import commit, loop, paused_topics
from tests.worker.doubles import Route

Unique = Callable[[str], str]
MakeTopic = Callable[..., str]
Tenant = Callable[..., tuple[str, Route]]


@pytest.fixture
def tenant(make_topic: MakeTopic) -> Tenant:
    def make(partitions: int = 1, outputs: int | None = None, **scores: str) -> tuple[str, Route]:
        out = outputs or partitions
        route = Route(make_topic("scores", partitions=out, **scores), make_topic("dlq", partitions=out))
        return make_topic("events", partitions=partitions), route

    return make


@pytest.fixture
def quick_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paused_topics, "RETRY_S", 0.3)


@pytest.fixture
def patient_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """For who asserts that nothing is aborted: a transaction of 5 s may be late on a busy machine by itself."""
    monkeypatch.setattr(commit, "BUDGET_S", 60.0)
    monkeypatch.setattr(commit, "OVERDUE_S", 90.0)
    monkeypatch.setattr(loop, "SETTLE_S", 90.0)
    monkeypatch.setattr(transactional_producer, "TIMEOUT_MS", 120_000)
