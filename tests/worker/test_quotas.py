"""A quota slows a worker down and never stops it: batches become as small as its transactions need."""

from collections.abc import Callable

import pytest

from muse_stream.testing.kafka_broker import Broker
from tests.quotas import quota
from tests.worker.doubles import Echo, Route
from tests.worker.rig import expected, ledger, produce, running

Unique = Callable[[str], str]
Tenant = Callable[..., tuple[str, Route]]

RATE = 150_000
"""Bytes a second. A quota is measured over 11 s, so that far more than 15 s' worth must be written before it bites."""
EVENTS, ANSWER = 1_600, 2_000


def test_a_producer_quota_makes_batches_smaller_until_they_are_committed(
    kafka: Broker, unique: Unique, tenant: Tenant
) -> None:
    events, route = tenant(1)
    client = unique("client")
    produce(kafka.bootstrap, events, [b"x"] * EVENTS)
    echo = Echo({events: route}, padding=lambda _value: ANSWER)
    with (
        quota(kafka.bootstrap, client, "producer_byte_rate", RATE),
        running(kafka.bootstrap, unique("lane"), echo, client_id=client) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
    ):
        found.until(EVENTS // 4, 120.0)
        ours.stop()
        found.to_end()
        answers = found.answers()
        assert answers <= expected(events, EVENTS)
        assert found.disorder() == []
        assert all(said["events"] > said["next_batch"] for said in ours.log.await_said("batch_too_slow"))
        throttled = ours.log.said("throttled")[0]  # by the time a batch is too slow a throttle may be over
        assert (throttled["client"], throttled["seconds"] > 0) == ("producer", True)
        assert "producer_byte_rate" in throttled["hint"]
        assert len(ours.meter.aborts) <= 6, "it is learned, not tried again and again"


@pytest.mark.slow  # for a minute; the situation `quotas` of `make operations` is its longer form
def test_a_consumer_quota_makes_batches_late_and_aborts_nothing(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(1)
    client = unique("client")
    for _ in range(26):  # one record batch must be smaller than what the quota allows in its 11 s
        produce(kafka.bootstrap, events, [bytes(1_000)] * 50)
    with (
        quota(kafka.bootstrap, client, "consumer_byte_rate", 100_000),
        running(kafka.bootstrap, unique("lane"), Echo({events: route}), client_id=client) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
    ):
        found.until(1_300, 60.0)
        ours.stop()
        assert found.to_end().answers() == expected(events, 1_300)
        assert ours.meter.aborts == []
        assert "consumer_byte_rate" in ours.log.said("throttled")[0]["hint"]
