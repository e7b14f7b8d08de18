"""A worker on the real broker: exactly one answer an event, whatever becomes of topics, records and generations."""

import time
from collections.abc import Callable

import pytest

from muse_stream.demo.broker import Broker
from muse_stream.stream.worker import Limits
from tests.stream.doubles import Echo, Route
from tests.stream.rig import expected, headers_of, ledger, produce, running

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


def test_every_event_one_answer_keys_and_partitions_kept(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(3)
    values = [b"bad" if i % 10 == 3 else b"good" for i in range(900)]
    produce(kafka.bootstrap, events, values, partitions=3)
    echo = Echo({events: route}, refuse=lambda value: value == b"bad")
    with (
        running(kafka.bootstrap, unique("lane"), echo, limits=Limits(batch_events=100)) as ours,
        ledger(kafka.bootstrap, **{route.scores: 3, route.dlq: 3}) as found,
    ):
        found.until(900)
        ours.stop()
        assert found.answers() == expected(events, 900, 3)
        assert found.disorder() == []
        for message in found.messages:
            i = int((message.key() or b"k-1")[1:])
            assert message.partition() == i % 3
        for letter in found.on(route.dlq):
            headers = headers_of(letter)
            assert letter.value() == b"bad"
            assert headers["n"] == (letter.key() or b"")[1:]
            assert (headers["muse.reason"], headers["muse.stage"]) == (b"undecodable", b"decode")
            assert headers["muse.generation"] == b"1"
            assert headers["muse.worker"] == b"test-0"
        assert ours.meter.letters == {"undecodable": 90}
        assert ours.meter.committed_events == 900


def test_oversize_answer_is_cornered_to_one_dead_letter(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(1, **{"max.message.bytes": "200000"})
    values = [b"huge" if i == 777 else b"fine" for i in range(3000)]
    produce(kafka.bootstrap, events, values)
    # random bytes do not compress; the answer of one record is larger than its topic takes
    echo = Echo({events: route}, padding=lambda value: 3_000_000 if value == b"huge" else 0)
    with (
        running(kafka.bootstrap, unique("lane"), echo) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1, route.dlq: 1}) as found,
    ):
        began = time.monotonic()
        found.until(3000, 60)
        print("took", time.monotonic() - began, ours.meter.batches, ours.meter.aborts)
        ours.stop()
        assert found.answers() == expected(events, 3000)
