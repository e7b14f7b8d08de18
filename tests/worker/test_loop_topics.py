"""One tenant's trouble is its own: missing and deleted topics, lost offsets, records that Kafka refuses."""

from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public names that the stubs forget to export
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewPartitions

from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker import loop, slot
from tests.worker.doubles import Echo, Route, await_true
from tests.worker.rig import Running, expected, headers_of, ledger, produce, running
from tests.worker.serving import SESSION_S

Unique = Callable[[str], str]
MakeTopic = Callable[..., str]
Tenant = Callable[..., tuple[str, Route]]


def test_oversize_answer_is_cornered_to_one_dead_letter(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(1, **{"max.message.bytes": "200000"})
    values = [b"huge" if i == 777 else b"fine" for i in range(2000)]
    produce(kafka.bootstrap, events, values)
    echo = Echo({events: route}, padding=lambda value: 300_000 if value == b"huge" else 0)
    with (
        running(kafka.bootstrap, unique("lane"), echo) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1, route.dlq: 1}) as found,
    ):
        found.until(2000)
        ours.stop()
        assert found.answers() == expected(events, 2000)
        assert found.disorder() == []
        (letter,) = found.on(route.dlq)
        headers = headers_of(letter)
        assert (letter.value(), letter.key(), headers["n"]) == (b"huge", b"k777", b"777")
        assert (headers["muse.reason"], headers["muse.stage"]) == (b"oversize", b"publish")
        assert len(refused(ours)) <= 14, "log2(2000) and a little"


def test_a_dead_letter_that_is_too_large_makes_its_topic_wait_and_no_other(
    kafka: Broker, unique: Unique, tenant: Tenant, make_topic: MakeTopic
) -> None:
    (events, _route), (others, other) = tenant(1), tenant(1)
    tight = Route(
        make_topic("scores", **{"max.message.bytes": "1000"}), make_topic("dlq", **{"max.message.bytes": "300"})
    )
    produce(kafka.bootstrap, events, [b"ok", b"x" * 400, b"ok"])
    echo = Echo({events: tight, others: other}, padding=lambda value: 5_000 if value and len(value) > 99 else 0)
    with running(kafka.bootstrap, unique("lane"), echo) as ours, ledger(kafka.bootstrap, **{other.scores: 1}) as found:
        assert ours.log.await_said("tenant_paused")[0]["topic"] == events
        produce(kafka.bootstrap, others, [b"ok"] * 50)
        found.until(50)
        ours.stop()
        assert found.answers() == expected(others, 50)


def test_an_output_topic_that_takes_hardly_anything_makes_its_tenant_wait_and_no_other(
    kafka: Broker, unique: Unique, tenant: Tenant, quick_refusal: None
) -> None:
    """Dead letters of all that a tenant has would help nobody: its topic is wrong, and says what would be right."""
    (events, route), (others, other) = tenant(1, **{"max.message.bytes": "250"}), tenant(1)
    produce(kafka.bootstrap, events, [b"x"] * 400)
    produce(kafka.bootstrap, others, [b"x"] * 400)
    echo = Echo({events: route, others: other}, padding=lambda _value: 300)
    with (
        running(kafka.bootstrap, unique("lane"), echo) as ours,
        ledger(kafka.bootstrap, **{other.scores: 1}) as found,
        ledger(kafka.bootstrap, **{route.scores: 1, route.dlq: 1}) as late,
    ):
        found.until(400)
        said = ours.log.await_said("tenant_paused")[0]
        assert (said["topic"], route.scores in said["error"]) == (events, True)
        assert "max.message.bytes" in said["error"]
        assert len(refused(ours, before="tenant_paused")) <= 12
        alter(kafka, route.scores, "max.message.bytes", "100000")
        late.until(400)
        ours.stop()
        assert found.to_end().answers() == expected(others, 400)
        assert late.to_end().answers() == expected(events, 400)
        assert len(late.on(route.dlq)) <= 10
        assert found.disorder() + late.disorder() == []


def test_a_topic_whose_limit_is_below_a_record_batch_gets_smaller_ones(
    kafka: Broker, unique: Unique, tenant: Tenant
) -> None:
    events, route = tenant(1, **{"max.message.bytes": "3000"})
    produce(kafka.bootstrap, events, [b"x"] * 2_000)
    with (
        running(kafka.bootstrap, unique("lane"), Echo({events: route}, padding=lambda _value: 500)) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1, route.dlq: 1}) as found,
    ):
        found.until(2_000)
        ours.stop()
        assert found.to_end().answers() == expected(events, 2_000)
        assert (found.disorder(), found.on(route.dlq)) == ([], [])
        assert len(refused(ours)) <= 4, "record batches of an eighth each time"


def test_records_that_a_topic_refuses_become_dead_letters_and_those_beside_them_do_not(
    kafka: Broker, unique: Unique, tenant: Tenant
) -> None:
    """A compacted topic refuses a record without a key, and with it the sound ones of its record batch."""
    events, route = tenant(1, **{"cleanup.policy": "compact"})
    for part in range(4):
        produce(kafka.bootstrap, events, [b"x"] * 50, keyed=part != 2)
    with (
        running(kafka.bootstrap, unique("lane"), Echo({events: route})) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1, route.dlq: 1}) as found,
    ):
        found.until(200)
        ours.stop()
        assert found.to_end().answers() == expected(events, 200)
        assert {headers_of(letter)["muse.reason"] for letter in found.on(route.dlq)} == {b"refused"}
        assert [headers_of(one)["muse.source.offset"] for one in found.on(route.dlq)] == [
            b"%d" % offset for offset in range(100, 150)
        ]
        assert len(refused(ours)) <= 4


def test_a_topic_that_refuses_our_timestamps_makes_its_tenant_wait_and_no_other(
    kafka: Broker, unique: Unique, tenant: Tenant
) -> None:
    (events, route), (others, other) = tenant(1, **{"message.timestamp.before.max.ms": "0"}), tenant(1)
    produce(kafka.bootstrap, events, [b"x"] * 30)
    produce(kafka.bootstrap, others, [b"x"] * 30)
    with (
        running(kafka.bootstrap, unique("lane"), Echo({events: route, others: other})) as ours,
        ledger(kafka.bootstrap, **{other.scores: 1}) as found,
    ):
        found.until(30)
        said = ours.log.await_said("tenant_paused")[0]
        assert said["topic"] == events
        assert "message.timestamp.before.max.ms" in said["error"]
        ours.stop()
        assert found.to_end().answers() == expected(others, 30)


@pytest.mark.usefixtures("patient_commits")
def test_a_missing_output_topic_makes_its_tenant_wait_and_no_other(
    kafka: Broker, unique: Unique, tenant: Tenant, make_topic: MakeTopic, quick_gate: None
) -> None:
    (events, route), (others, other) = tenant(1), tenant(1)
    absent = Route(unique("scores"), route.dlq)
    produce(kafka.bootstrap, events, [b"x"] * 30)
    produce(kafka.bootstrap, others, [b"x"] * 30)
    with (
        running(kafka.bootstrap, unique("lane"), Echo({events: absent, others: other})) as ours,
        ledger(kafka.bootstrap, **{other.scores: 1}) as found,
    ):
        found.until(30)
        (said,) = ours.log.said("tenant_paused")
        assert (said["topic"], absent.scores in said["error"]) == (events, True)
        make_topic(name=absent.scores)
        with ledger(kafka.bootstrap, **{absent.scores: 1}) as late:
            late.until(30)
            ours.stop()
            assert late.answers() == expected(events, 30)
        assert ours.log.said("tenant_resumed") == [{"topic": events}]
        assert ours.meter.aborts == []


def test_an_output_topic_deleted_in_mid_run_makes_its_tenant_wait(
    kafka: Broker, unique: Unique, tenant: Tenant, quick_gate: None
) -> None:
    (events, route), (others, other) = tenant(1), tenant(1)
    with (
        running(kafka.bootstrap, unique("lane"), Echo({events: route, others: other})) as ours,
        ledger(kafka.bootstrap, **{other.scores: 1}) as found,
    ):
        produce(kafka.bootstrap, events, [b"x"] * 10)
        produce(kafka.bootstrap, others, [b"x"] * 10)
        await_true(lambda: ours.meter.committed_events == 20, "all are answered")
        delete(kafka, route.scores)
        produce(kafka.bootstrap, events, [b"x"] * 10)
        assert ours.log.await_said("tenant_paused")[0]["topic"] == events
        produce(kafka.bootstrap, others, [b"x"] * 40)
        found.until(50)
        ours.stop()
        assert found.to_end().answers() == expected(others, 50)


@pytest.mark.usefixtures("patient_commits")
def test_more_partitions_of_an_event_topic_than_of_its_output_hold_nobody_up(
    kafka: Broker, unique: Unique, tenant: Tenant
) -> None:
    """The partitions were counted before the topic grew: an answer must not go to a partition that is not there."""
    events, route = tenant(1)
    produce(kafka.bootstrap, events, [b"x"] * 20)
    with (
        running(kafka.bootstrap, unique("lane"), Echo({events: route})) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
    ):
        found.until(20)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.create_partitions([NewPartitions(events, 2)])[events].result(60)
        await_true(lambda: len(ours.worker._group_consumer.held or ()) == 2, "the new partition")
        produce(kafka.bootstrap, events, [b"x"] * 20, partitions=2)
        found.until(40)
        ours.stop()
        assert (ours.log.said("tenant_paused"), ours.meter.aborts) == ([], [])


def test_an_event_topic_deleted_in_mid_run_disturbs_no_other(
    kafka: Broker, unique: Unique, tenant: Tenant, quick_gate: None
) -> None:
    """Nor when its tenant is paused for it: there is nothing left that could be marked as paused."""
    (events, route), (others, other) = tenant(1), tenant(1)
    with (
        running(kafka.bootstrap, unique("lane"), Echo({events: route, others: other})) as ours,
        ledger(kafka.bootstrap, **{other.scores: 1}) as found,
    ):
        produce(kafka.bootstrap, events, [b"x"] * 10)
        produce(kafka.bootstrap, others, [b"x"] * 10)
        await_true(lambda: ours.meter.committed_events == 20, "all are answered")
        delete(kafka, events)
        ours.log.await_said("tenant_paused")
        for round_ in range(1, 5):
            produce(kafka.bootstrap, others, [b"x"] * 10)
            found.until(10 + 10 * round_)
        ours.stop()
        assert found.to_end().answers() == expected(others, 50)


def test_lost_offsets_pause_that_topic_alone_and_say_so(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    (events, route), (others, other) = tenant(1), tenant(1)
    lane = unique("lane")
    produce(kafka.bootstrap, events, [b"x"] * 30)
    produce(kafka.bootstrap, others, [b"x"] * 30)
    helper = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": f"muse.{lane}.live"})
    helper.commit(offsets=[TopicPartition(events, 0, 3)], asynchronous=False)
    helper.close()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    [future.result(60) for future in admin.delete_records([TopicPartition(events, 0, 20)]).values()]
    with (
        running(kafka.bootstrap, lane, Echo({events: route, others: other})) as ours,
        ledger(kafka.bootstrap, **{other.scores: 1, route.scores: 1}) as found,
    ):
        assert ours.log.await_said("offsets_lost")[0]["topic"] == events
        assert ours.log.await_said("tenant_paused")[0]["topic"] == events
        found.until(30)
        produce(kafka.bootstrap, others, [b"x"] * 30)
        found.until(60)
        ours.stop()
        assert found.to_end().answers() == expected(others, 60), "nothing of the lost one is skipped or replayed"


def refused(ours: Running, before: str = "") -> list[str]:
    """The aborts that Kafka's refusal of a record is the reason of, up to an event of the log.

    A busy machine may be late by itself, and a paused topic is tried again as long as the test goes on.
    """
    events = [(name, facts) for _, name, facts in ours.log.events]
    end = next((row for row, (name, _) in enumerate(events) if name == before), len(events))
    return [facts["code"] for name, facts in events[:end] if name == "aborted" and facts["code"] != "_TIMED_OUT"]


@pytest.fixture
def quick_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "REFUSED_RETRY_S", 0.5)


def alter(kafka: Broker, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(60)


def delete(kafka: Broker, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_topics([topic])[topic].result(60)


@pytest.mark.usefixtures("patient_commits")
def test_r21_a_quick_restart_with_other_tenants_reads_theirs_and_no_others(
    kafka: Broker, unique: Unique, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group gives a static member what its last process had, whatever the new one subscribes to."""
    monkeypatch.setitem(slot.MEMBER, "session.timeout.ms", SESSION_S * 1_000)  # it must not end between the two
    (kept, kept_route), (gone, gone_route), (new, new_route) = tenant(1), tenant(1), tenant(1)
    lane = unique("lane")
    topics = {route.scores: 1 for route in (kept_route, gone_route, new_route)}
    with ledger(kafka.bootstrap, **topics) as found:
        produce(kafka.bootstrap, kept, [b"x"] * 20)
        produce(kafka.bootstrap, gone, [b"x"] * 20)
        with running(kafka.bootstrap, lane, Echo({kept: kept_route, gone: gone_route})) as before:
            found.until(40)
            before.leave = False  # as an operator restarts it: the slot stays a member
            before.stop()
        with running(kafka.bootstrap, lane, Echo({kept: kept_route, new: new_route})) as ours:
            for topic in (kept, gone, new):
                produce(kafka.bootstrap, topic, [b"y"] * 20)
            found.until(80)
            assert ours.log.await_said("topics_changed")
            ours.stop()
        assert found.to_end().answers() == expected(kept, 40) | expected(gone, 20) | expected(new, 20)
        assert ours.meter.aborts == []
