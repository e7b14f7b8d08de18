"""A worker whose transactions fail at any step, or whose names a twin holds; and planted bugs that must be seen."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from muse_stream.errors import Abortable, Fatal, Fenced
from muse_stream.kafka.group_consumer import GroupConsumer
from muse_stream.runtime.tracing import EventTracer
from muse_stream.telemetry import Spans
from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker.batch import BatchLimits
from muse_stream.worker.commit import Pending
from muse_stream.worker.loop import UNASSIGNED_S, Worker
from tests.otlp_receiver import Collector, attributes
from tests.worker.doubles import Echo, ListLog, Route, await_true
from tests.worker.rig import expected, ledger, open_echo, produce, running


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def spans(collector: Collector) -> Iterator[Spans]:
    made = Spans({}, ListLog())
    yield made
    made.close()


Unique = Callable[[str], str]
MakeTopic = Callable[..., str]
Tenant = Callable[..., tuple[str, Route]]


@pytest.mark.parametrize("step", ["after-flush", "after-send-offsets", "before-commit", "after-commit"])
def test_a_transaction_that_fails_at_any_step_is_done_again_or_was_done(
    kafka: Broker, unique: Unique, tenant: Tenant, step: str, collector: Collector, spans: Spans
) -> None:
    """And each event has one span, however often it was scored."""
    events, route = tenant(2)
    produce(kafka.bootstrap, events, [b"bad" if i % 7 == 0 else b"x" for i in range(600)], partitions=2)
    strike = fails_at(step, {2, 5, 6})
    echo = Echo({events: route}, refuse=lambda value: value == b"bad")
    tracer = EventTracer(spans, "group", 1.0, clock=itertools.count().__next__)
    more: dict[str, Any] = {"limits": BatchLimits(batch_events=50), "failpoint": strike, "tracer": tracer}
    with (
        running(kafka.bootstrap, unique("lane"), echo, **more) as ours,
        ledger(kafka.bootstrap, **{route.scores: 2, route.dlq: 2}) as found,
    ):
        found.until(600)
        ours.stop()
        assert found.to_end().answers() == expected(events, 600, 2)
        assert found.disorder() == []
        assert len(ours.meter.aborts) >= 3, "a busy machine may be late by itself"
        await_true(lambda: ours.meter.committed_events == 600, "each is counted once, whatever its commit's answer")
    traced = [attributes(one) for one in collector.wait_for("score ", 600)]
    places = Counter((one["messaging.destination.partition.id"], one["messaging.kafka.offset"]) for one in traced)
    assert places == Counter({(str(partition), offset): 1 for partition in (0, 1) for offset in range(300)})


def fails_at(step: str, times: set[int]) -> Callable[[str], None]:
    """A fail point that loses the connection, so to speak, at some of the passes through a step."""
    passes = itertools.count(1)

    def strike(name: str) -> None:
        if name == step and next(passes) in times:
            raise Abortable("struck by the test", code="_TIMED_OUT")

    return strike


def no_rewind(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GroupConsumer, "rewind", lambda self: setattr(self, "_rebalanced", False))


def off_by_one(patch: pytest.MonkeyPatch) -> None:
    right = Worker._pending

    def wrong(self: Worker, *given: Any) -> Pending:
        pending = right(self, *given)
        return replace(pending, following={place: offset - 1 for place, offset in pending.following.items()})

    patch.setattr(Worker, "_pending", wrong)


@pytest.mark.parametrize("planted", [no_rewind, off_by_one])
def test_the_ledger_catches(
    kafka: Broker,
    unique: Unique,
    tenant: Tenant,
    planted: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The checks of this file, checked: planted bugs must not pass them."""
    planted(monkeypatch)
    events, route = tenant(1)
    produce(kafka.bootstrap, events, [b"x"] * 300)
    strike = fails_at("after-send-offsets", {3})
    with (
        running(
            kafka.bootstrap, unique("lane"), Echo({events: route}), limits=BatchLimits(50), failpoint=strike
        ) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
    ):
        ours.log.await_said("aborted")
        produce(kafka.bootstrap, events, [b"x"])
        await_true(lambda: found.to_end().answers()[events, 0, 300], "the last record is answered")
        ours.stop()
        assert found.to_end().answers() != expected(events, 301)


@pytest.mark.parametrize(("times", "survives"), [(2, True), (3, False)])
def test_r8_being_fenced_again_and_again_ends_the_worker(
    kafka: Broker, unique: Unique, tenant: Tenant, times: int, survives: bool
) -> None:
    events, route = tenant(1)
    produce(kafka.bootstrap, events, [b"x"] * 50)
    passes = itertools.count(1)

    def fenced(name: str) -> None:
        if name == "before-commit" and next(passes) <= times:
            raise Fenced("a twin has the id", code="_FENCED")

    ours = open_echo(kafka.bootstrap, unique("lane"), Echo({events: route}), failpoint=fenced).start()
    if survives:
        with ledger(kafka.bootstrap, **{route.scores: 1}) as found:
            found.until(50)
            ours.stop()
            assert found.answers() == expected(events, 50)
    else:
        ours.join()
        assert isinstance(ours.failure, Fatal)
        ours.abandon()


def test_r8_two_in_one_slot_do_not_fence_each_other_for_ever(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(2)
    lane, echo = unique("lane"), Echo({events: route})
    orphan = open_echo(kafka.bootstrap, lane, echo).start()
    with ledger(kafka.bootstrap, **{route.scores: 2}) as found:
        produce(kafka.bootstrap, events, [b"x"] * 100, partitions=2)
        found.until(100)
        twins = [open_echo(kafka.bootstrap, lane, echo).start()]

        def answered(count: int) -> bool:
            if not twins[-1].alive:  # the supervisor's part: a twin that left is started again
                twins.append(open_echo(kafka.bootstrap, lane, echo).start())
            return found.take(0.05) >= count

        for round_ in range(2, 6):
            produce(kafka.bootstrap, events, [b"x"] * 100, partitions=2)
            await_true(lambda n=round_: answered(100 * n), "the slot answers")  # type: ignore[misc]
        orphan.join()
        assert isinstance(orphan.failure, Fatal)
        assert sum(one.meter.aborts.count("_FENCED") for one in [orphan, *twins]) <= 6
        twins[-1].stop()
        assert found.to_end().answers() == expected(events, 500, 2)
        assert len(twins) <= 2
    for one in [orphan, *twins[:-1]]:
        one.abandon()


def test_a_member_that_the_group_assigns_nothing_again_makes_room_for_another(
    kafka: Broker, unique: Unique, tenant: Tenant
) -> None:
    """Seen once brokers were back (librdkafka 2.16): its session ended, and it never joined again."""
    events, route = tenant(1)
    with (
        running(kafka.bootstrap, unique("lane"), Echo({events: route})) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
    ):
        produce(kafka.bootstrap, events, [b"x"])
        found.until(1)
        ours.worker._group_consumer.taken_since = time.monotonic() - UNASSIGNED_S - 1
        await_true(lambda: ours.failure is not None, "the worker ends")
        assert isinstance(ours.failure, Fatal)
        assert "assigned nothing since" in str(ours.failure)
    ours.abandon()
