"""What a worker says of itself and of what waits, on the real broker, when all is not well."""

from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from muse_stream.errors import Abortable
from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker import backlog, readiness, unread
from muse_stream.worker.backlog import Waiting
from muse_stream.worker.batch import BatchLimits
from tests.worker.doubles import Echo, Route, await_true
from tests.worker.rig import Running, ledger, produce, running
from tests.worker.test_loop_faults import fails_at

Unique = Callable[[str], str]
Tenant = Callable[..., tuple[str, Route]]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules in less time. A busy machine may break them for a moment: what is awaited comes all the same."""
    monkeypatch.setattr(backlog, "UNKNOWN_S", 4.0)
    monkeypatch.setattr(readiness, "UNREADY_S", 4.0)


def why(ours: Running, text: str) -> None:
    await_true(lambda: text in ours.worker.why_unready(), lambda: f"{text!r}, not {ours.worker.why_unready()!r}")


def well(ours: Running) -> None:
    await_true(lambda: ours.worker.why_unready() == "", lambda: f"ready, not {ours.worker.why_unready()!r}")


def waits(ours: Running, topic: str, **wanted: object) -> None:
    def fits() -> bool:
        one = ours.meter.waits.get(topic, Waiting())
        return all(getattr(one, name) == value for name, value in wanted.items())

    await_true(fits, lambda: f"{topic}: {wanted}, not {ours.meter.waits}")


def test_a_slot_without_partitions_is_ready_and_knows_that_nothing_waits_there(
    kafka: Broker, unique: Unique, tenant: Tenant
) -> None:
    events, route = tenant(1)
    lane, echo = unique("lane"), Echo({events: route})
    with running(kafka.bootstrap, lane, echo) as one, running(kafka.bootstrap, lane, echo, number=1) as two:
        held = [worker.worker._group_consumer for worker in (one, two)]
        await_true(lambda: sorted(len(each.held or ()) for each in held) == [0, 1], "one of them has the partition")
        for worker in (one, two):
            well(worker)
            waits(worker, events, events=0, unknown=False)


@pytest.mark.usefixtures("impatient")
def test_a_slot_that_cannot_commit_is_not_ready(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(1)
    failing = [True]

    def strike(step: str) -> None:
        if step == "before-commit" and failing:
            raise Abortable("struck by the test", code="_TIMED_OUT")

    with running(kafka.bootstrap, unique("lane"), Echo({events: route}), failpoint=strike) as ours:
        well(ours)
        produce(kafka.bootstrap, events, [b"x"] * 3)
        why(ours, "3 events wait, and none was committed")
        waits(ours, events, events=3, unknown=False)
        failing.clear()
        well(ours)
        waits(ours, events, events=0)


@pytest.mark.usefixtures("impatient")
def test_events_behind_an_open_upstream_transaction_are_told(
    kafka: Broker, unique: Unique, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "OPEN_S", 1e9)
    events, route = tenant(1)
    produce(kafka.bootstrap, events, [b"x"] * 4)
    own = {"transactional.id": unique("upstream"), "transaction.timeout.ms": 600_000}
    upstream = Producer({"bootstrap.servers": kafka.bootstrap, **own})
    upstream.init_transactions(60)
    upstream.begin_transaction()
    for _ in range(2):
        upstream.produce(events, b"y", partition=0, timestamp=1_700_000_000_000)
    assert upstream.flush(60) == 0
    produce(kafka.bootstrap, events, [b"x"] * 3)
    with running(kafka.bootstrap, unique("lane"), Echo({events: route})) as ours:
        waits(ours, events, events=5, held=5, readable=0, since_s=1_700_000_000.0, unknown=False)
        monkeypatch.setattr(unread, "OPEN_S", 0.0)  # how old the first of them is, is known by now
        (said,) = ours.log.await_said("upstream_transaction_open")
        assert said.pop("hint")
        assert said == {
            "tenants": [events],
            "topic": events,
            "partition": 0,
            "offset": 4,
            "since": "2023-11-14T22:13:20+00:00",
            "events": 5,
        }
        well(ours)  # it answers what can be read
        upstream.commit_transaction(60)
        ours.log.await_said("upstream_transaction_ended")
        waits(ours, events, events=0, held=0)
        assert ours.meter.committed_events == 9
        assert len(ours.log.said("upstream_transaction_open")) == 1


def test_events_that_retention_removed_are_counted_and_told(
    kafka: Broker, unique: Unique, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "REMOVED_S", 2.0)
    events, route = tenant(1)
    lane = unique("lane")
    produce(kafka.bootstrap, events, [b"x"] * 30)
    group = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": f"muse.{lane}.live"})
    group.commit(offsets=[TopicPartition(events, 0, 10)], asynchronous=False)
    group.close()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_records([TopicPartition(events, 0, 25)])[TopicPartition(events, 0, 25)].result(60)
    with running(kafka.bootstrap, lane, Echo({events: route})) as ours:
        (said,) = ours.log.await_said("events_removed_unread")
        assert said.pop("hint")
        where = {"tenants": [events], "topic": events, "partition": 0}
        assert said == {**where, "events": 15, "first_offset": 10, "last_offset": 24}
        waits(ours, events, removed=15, events=5, unknown=False)
        why(ours, f"every event topic of this lane is paused: {events}")


def test_a_topic_that_is_not_there_is_not_known_to_be_caught_up(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    (events, route), gone = tenant(1), unique("gone")
    with running(kafka.bootstrap, unique("lane"), Echo({events: route, gone: route})) as ours:
        waits(ours, events, events=0, unknown=False)
        waits(ours, gone, unknown=True)
        well(ours)


@pytest.mark.parametrize("step", ["before-commit", "after-commit"])
def test_a_dead_letter_is_logged_and_counted_once_however_often_it_is_tried(
    kafka: Broker, unique: Unique, tenant: Tenant, step: str
) -> None:
    events, route = tenant(1)
    produce(kafka.bootstrap, events, [b"bad"] * 4 + [b"x"] * 4)
    echo = Echo({events: route}, refuse=lambda value: value == b"bad")
    limits, strike = BatchLimits(batch_events=100), fails_at(step, {1, 2, 3})
    with (
        ledger(kafka.bootstrap, **{route.dlq: 1, route.scores: 1}) as found,
        running(kafka.bootstrap, unique("lane"), echo, failpoint=strike, limits=limits) as ours,
    ):
        found.until(8)
        await_true(lambda: ours.meter.committed_events == 8, "all is counted")
        ours.stop()
        assert ours.meter.letters == {"undecodable": 4}
        said = ours.log.said("dead_letters")
        assert sum(one["events"] for one in said) <= 4, "a line a minute tells of the first"
        assert len(said) == 1
        assert said[0]["offset"] == 0
