"""R25: a consumer that reads nothing of what another client reads is opened anew, and only such a one."""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from muse_stream.kafka.partition import Position, Standing
from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker import stalled
from muse_stream.worker.backlog import Backlog
from muse_stream.worker.stalled import AGAIN_S, EMPTY_S, STALLED_S, Stalled
from tests.worker.doubles import Clock, Echo, Route, await_true
from tests.worker.rig import expected, ledger, produce, running
from tests.worker.test_backlog import Looked

Unique = Callable[[str], str]
Tenant = Callable[..., tuple[str, Route]]
A, B = ("events.a", 0), ("events.b", 0)


def test_only_what_waits_long_while_nothing_fetched_is_left() -> None:
    clock = Clock()
    watch, began = Stalled(clock), clock.now
    clock.now += STALLED_S - 1
    assert watch.found({A: began}, clock.now) == [], "it may come yet"
    clock.now += 1
    assert watch.found({A: began}, began + EMPTY_S - 1) == [], "it may be among what was fetched"
    assert watch.found({A: began, B: clock.now}, clock.now) == [A]


def test_should_it_not_help_it_is_done_less_and_less_often() -> None:
    clock = Clock()
    watch, began = Stalled(clock), clock.now
    done = []
    for _ in range(400):
        clock.now += 1
        if watch.found({A: began}, clock.now):
            done.append(clock.now - began)
    assert done == [STALLED_S, STALLED_S + AGAIN_S, STALLED_S + 3 * AGAIN_S]


@pytest.mark.parametrize(
    "differs",
    [
        {"flows": False},
        {"since_ms": None},
        {"nothing": True, "since_ms": None},
        {"stable": 10},
        {"at_s": 0.0},
        {"taken": True},
        {"answered": 11},
    ],
    ids=[
        "paused or held",
        "nobody else reads it",
        "no event is there",
        "an open transaction",
        "looked at long ago",
        "it is in hand",
        "it goes on",
    ],
)
def test_what_is_a_reason(differs: dict[str, Any]) -> None:
    clock, looker = Clock(), Looked()
    backlog = Backlog(looker, clock, clock)
    now: dict[str, Any] = {"flows": True, "since_ms": 5, "nothing": False, "stable": 20, "at_s": 1e6, "answered": 10}

    def measure(**over: Any) -> dict[tuple[str, int], float]:
        clock.now += 1
        one = now | over
        flows, answered = one.pop("flows"), one["answered"]
        looker.answers[A] = Standing(low=0, high=20, **one)
        backlog.measure({A: Position(answered, 0, 20, flows)}, ())
        return backlog.unread()

    measure()
    assert measure() == {A: clock.now}
    assert measure() == {A: clock.now - 1}
    if differs.pop("taken", False):
        backlog.took({A: (10, 5, 5)})
    assert measure(**differs) == {}


def test_a_consumer_that_reads_nothing_is_opened_anew(
    kafka: Broker, unique: Unique, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its partition is paused in librdkafka, and nobody has told the worker so."""
    events, route = tenant(1)
    with (
        running(kafka.bootstrap, unique("lane"), Echo({events: route})) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
    ):
        produce(kafka.bootstrap, events, [b"x"] * 10)
        found.until(10)
        await_true(lambda: ours.meter.committed_events == 10, "told of its commit")
        deaf = ours.worker._group_consumer
        deaf._consumer.pause([TopicPartition(events, 0)])
        monkeypatch.setattr(stalled, "STALLED_S", 1.0)  # before, a busy machine would look like it
        monkeypatch.setattr(stalled, "EMPTY_S", 0.5)
        produce(kafka.bootstrap, events, [b"x"] * 10)
        found.until(20)
        assert ours.worker._group_consumer is not deaf
        ours.stop()
        assert [one["partitions"] for one in ours.log.said("reading_stalled")] == [[f"{events}[0]"]]
        assert found.to_end().answers() == expected(events, 20)
