"""Fixtures of the worker's tests: a tenant's topics, and paused topics that are looked at again soon."""

from collections.abc import Callable

import pytest

from muse_stream.worker import paused_topics
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
