"""What fails again and again for no record's sake is tried less and less often."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public names that the stubs forget to export
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from muse_stream.errors import Abortable
from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker.pace import FREE, LONGEST_REST_S, Pace
from tests.worker.doubles import Clock, Echo, ListLog, Route, await_true
from tests.worker.rig import expected, ledger, produce, running

Unique = Callable[[str], str]
Tenant = Callable[..., tuple[str, Route]]


def test_the_first_failures_are_free_and_rests_grow() -> None:
    log, clock = ListLog(), Clock()
    pace = Pace(log, clock)
    for _ in range(FREE):
        pace.failed(Abortable("no coordinator"))
        assert (pace.review(), pace.held_back) == (False, False)
    pace.failed(Abortable("no coordinator"))
    assert (pace.review(), pace.held_back) == (True, True)
    clock.now += 0.5
    assert (pace.review(), pace.held_back) == (True, False)
    for _ in range(10):
        pace.failed(Abortable("no coordinator"))
    rests = [one["seconds"] for one in log.said("backing_off")]
    assert rests[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, LONGEST_REST_S] and rests[-1] == LONGEST_REST_S


@contextmanager
def small_offsets(kafka: Broker) -> Iterator[None]:
    """A coordinator that can write no offsets of a group."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def alter(operation: AlterConfigOpType) -> None:
        entry = ConfigEntry("max.message.bytes", "100", incremental_operation=operation)
        topic = ConfigResource(ResourceType.TOPIC, "__consumer_offsets", incremental_configs=[entry])
        admin.incremental_alter_configs([topic])[topic].result(60)

    alter(AlterConfigOpType.SET)
    try:
        yield
    finally:
        alter(AlterConfigOpType.DELETE)


@pytest.mark.broker
def test_offsets_that_cannot_be_committed_are_tried_less_and_less_often(
    kafka: Broker, unique: Unique, tenant: Tenant
) -> None:
    (events, route), sent = tenant(1), 10
    with (
        running(kafka.bootstrap, unique("lane"), Echo({events: route})) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
    ):
        produce(kafka.bootstrap, events, [b"x"] * sent)
        found.until(sent)
        with small_offsets(kafka):

            def backs_off() -> bool:
                nonlocal sent
                produce(kafka.bootstrap, events, [b"x"])  # the broker takes a moment to heed the setting
                sent += 1
                return len(ours.log.said("backing_off")) > 1

            await_true(backs_off, "it backs off", 60.0)
        said = ours.log.said("backing_off")
        assert [one["seconds"] for one in said[:2]] == [0.5, 1.0]
        assert "the group's offsets cannot be committed" in said[0]["error"]
        assert "max.message.bytes of __consumer_offsets" in said[0]["error"]
        found.until(sent)
        ours.stop()
        assert found.to_end().answers() == expected(events, sent)
