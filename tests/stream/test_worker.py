"""A worker on the real broker: exactly one answer an event, whatever becomes of topics, records and generations."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from muse_stream.demo.broker import Broker
from muse_stream.errors import Abortable, Fatal
from muse_stream.stream import gate
from muse_stream.stream.committer import Pending
from muse_stream.stream.intake import Collected, Intake
from muse_stream.stream.records import RawBatch
from muse_stream.stream.worker import Limits, Worker
from tests.stream.doubles import Echo, Route, await_true
from tests.stream.rig import expected, headers_of, ledger, open_echo, produce, running, source

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
        assert len(ours.meter.aborts) <= 14, "log2(2000) and a little"


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
        assert ours.log.await_said("tenant-paused")[0]["topic"] == events
        produce(kafka.bootstrap, others, [b"ok"] * 50)
        found.until(50)
        ours.stop()
        assert found.answers() == expected(others, 50)


@pytest.mark.parametrize("step", ["after-flush", "after-send-offsets", "before-commit", "after-commit"])
def test_a_transaction_that_fails_at_any_step_is_done_again_or_was_done(
    kafka: Broker, unique: Unique, tenant: Tenant, step: str
) -> None:
    events, route = tenant(2)
    produce(kafka.bootstrap, events, [b"bad" if i % 7 == 0 else b"x" for i in range(600)], partitions=2)
    strike = fails_at(step, {2, 5, 6})
    echo = Echo({events: route}, refuse=lambda value: value == b"bad")
    with (
        running(kafka.bootstrap, unique("lane"), echo, limits=Limits(batch_events=50), failpoint=strike) as ours,
        ledger(kafka.bootstrap, **{route.scores: 2, route.dlq: 2}) as found,
    ):
        found.until(600)
        ours.stop()
        assert found.to_end().answers() == expected(events, 600, 2)
        assert found.disorder() == []
        assert len(ours.meter.aborts) == 3


def fails_at(step: str, times: set[int]) -> Callable[[str], None]:
    """A fail point that loses the connection, so to speak, at some of the passes through a step."""
    passes = itertools.count(1)

    def strike(name: str) -> None:
        if name == step and next(passes) in times:
            raise Abortable("struck by the test", code="_TIMED_OUT")

    return strike


def no_rewind(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Intake, "rewind", lambda self: setattr(self, "_rebalanced", False))


def off_by_one(patch: pytest.MonkeyPatch) -> None:
    right = Worker._pending

    def wrong(self: Worker, collected: Collected, batch: RawBatch) -> Pending:
        pending = right(self, collected, batch)
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
        running(kafka.bootstrap, unique("lane"), Echo({events: route}), limits=Limits(50), failpoint=strike) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
    ):
        ours.log.await_said("aborted")
        produce(kafka.bootstrap, events, [b"x"])
        await_true(lambda: found.to_end().answers()[events, 0, 300], "the last record is answered")
        ours.stop()
        assert found.to_end().answers() != expected(events, 301)


def test_workers_join_and_leave_under_load(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(4)
    lane, echo, limits = unique("lane"), Echo({events: route}), Limits(batch_events=200)
    with ledger(kafka.bootstrap, **{route.scores: 4}) as found, feeding(kafka.bootstrap, events, 4) as fed:
        first = open_echo(kafka.bootstrap, lane, echo, number=0, limits=limits).start()
        found.until(200)
        second = open_echo(kafka.bootstrap, lane, echo, number=1, limits=limits).start()
        await_true(lambda: second.meter.committed_events > 100, "the second works too")
        first.stop()
        before = len(found.to_end().messages)
        found.until(before + 1_000)
        third = open_echo(kafka.bootstrap, lane, echo, number=0, limits=limits).start()
        await_true(lambda: third.meter.committed_events > 100, "the third works too")
        total = fed()
        found.until(total)
        third.stop()
        second.stop()
        assert found.to_end().answers() == expected(events, total, 4)
        assert found.disorder() == []


@contextmanager
def feeding(bootstrap: str, topic: str, partitions: int) -> Iterator[Callable[[], int]]:
    """Write records without a pause; calling what is yielded ends it and says how many they were."""
    enough, written = threading.Event(), itertools.count()
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1})

    def feed() -> None:
        while not enough.is_set():
            for i in itertools.islice(written, 4):
                producer.produce(topic, b"x", b"k%d" % i, i % partitions)
            producer.flush()  # paces it: about a thousand records a second

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()

    def end() -> int:
        enough.set()
        thread.join(10)
        return next(written)

    try:
        yield end
    finally:
        enough.set()


def test_a_stopped_slot_drains_and_its_successor_goes_on(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(2)
    produce(kafka.bootstrap, events, [b"x"] * 3_000, partitions=2)
    lane, echo = unique("lane"), Echo({events: route}, before=lambda _batch: time.sleep(0.02))
    with ledger(kafka.bootstrap, **{route.scores: 2}) as found:
        first = open_echo(kafka.bootstrap, lane, echo, limits=Limits(100))
        first.leave = False  # a restart: the slot keeps its place
        first.start()
        found.until(500)
        began = time.monotonic()
        first.stop()
        assert time.monotonic() - began < 10
        assert first.log.said("stopped") == [{"drained": True, "leave": False}]
        began = time.monotonic()
        with running(kafka.bootstrap, lane, Echo({events: route})) as second:
            found.until(3_000)
            assert time.monotonic() - began < 3, "a successor in the slot waits for no session"
            second.stop()
        assert found.to_end().answers() == expected(events, 3_000, 2)


def test_generations_change_between_batches(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(1)
    produce(kafka.bootstrap, events, [b"x"] * 500)
    scorers = [Echo({events: route}, number=number) for number in range(1, 5)]
    with (
        running(kafka.bootstrap, unique("lane"), scorers[0], limits=Limits(50)) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
    ):
        found.until(50)
        for done, scorer in enumerate(scorers[1:], start=1):
            ours.scorers.put(scorer)
            await_true(lambda n=scorer.number: ours.meter.generations[-1:] == [n], "the swap")  # type: ignore[misc]
            produce(kafka.bootstrap, events, [b"x"] * 100)
            found.until(500 + done * 100)
        ours.stop()
        assert found.answers() == expected(events, 800)
        generations: dict[bytes, set[bytes]] = {}
        for message in found.messages:
            _topic, _partition, _offset, attempt, generation, _rest = (message.value() or b"").split(b"|")
            generations.setdefault(attempt, set()).add(generation)
        assert all(len(numbers) == 1 for numbers in generations.values()), "one generation a transaction"
        assert set().union(*generations.values()) == {b"1", b"2", b"3", b"4"}
        assert ours.meter.aborts == [], "a swap disturbs nothing"


def test_topics_come_and_go_with_the_generation(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    (old, old_route), (new, new_route) = tenant(2), tenant(2)
    with (
        running(kafka.bootstrap, unique("lane"), Echo({old: old_route})) as ours,
        ledger(kafka.bootstrap, **{old_route.scores: 2, new_route.scores: 2}) as found,
    ):
        produce(kafka.bootstrap, old, [b"x"] * 100, partitions=2)
        found.until(100)
        ours.scorers.put(Echo({old: old_route, new: new_route}, number=2))
        produce(kafka.bootstrap, new, [b"x"] * 100, partitions=2)
        found.until(200)
        ours.scorers.put(Echo({new: new_route}, number=3))
        produce(kafka.bootstrap, old, [b"x"] * 500, partitions=2)
        await_true(lambda: ours.meter.generations[-1:] == [3], "the swap")
        produce(kafka.bootstrap, new, [b"x"] * 50, partitions=2)
        await_true(lambda: found.to_end().answers().keys() >= expected(new, 150, 2).keys() - {0}, "the new one's")
        ours.stop()
        assert set(found.answers().values()) == {1}


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
        (said,) = ours.log.said("tenant-paused")
        assert (said["topic"], absent.scores in said["why"]) == (events, True)
        make_topic(name=absent.scores)
        with ledger(kafka.bootstrap, **{absent.scores: 1}) as late:
            late.until(30)
            ours.stop()
            assert late.answers() == expected(events, 30)
        assert ours.log.said("tenant-resumed") == [{"topic": events}]
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
        assert ours.log.await_said("tenant-paused")[0]["topic"] == events
        produce(kafka.bootstrap, others, [b"x"] * 40)
        found.until(50)
        ours.stop()
        assert found.to_end().answers() == expected(others, 50)


def test_an_event_topic_deleted_in_mid_run_disturbs_no_other(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    (events, route), (others, other) = tenant(1), tenant(1)
    with (
        running(kafka.bootstrap, unique("lane"), Echo({events: route, others: other})) as ours,
        ledger(kafka.bootstrap, **{other.scores: 1}) as found,
    ):
        produce(kafka.bootstrap, events, [b"x"] * 10)
        produce(kafka.bootstrap, others, [b"x"] * 10)
        await_true(lambda: ours.meter.committed_events == 20, "all are answered")
        delete(kafka, events)
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
    [future.result(10) for future in admin.delete_records([TopicPartition(events, 0, 20)]).values()]
    with (
        running(kafka.bootstrap, lane, Echo({events: route, others: other})) as ours,
        ledger(kafka.bootstrap, **{other.scores: 1, route.scores: 1}) as found,
    ):
        assert ours.log.await_said("offsets-lost")[0]["topic"] == events
        assert ours.log.await_said("tenant-paused")[0]["topic"] == events
        found.until(30)
        produce(kafka.bootstrap, others, [b"x"] * 30)
        found.until(60)
        ours.stop()
        assert found.to_end().answers() == expected(others, 60), "nothing of the lost one is skipped or replayed"


def test_tombstones_null_keys_and_unlike_partition_counts(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(4, outputs=3)
    values = [None if i % 3 == 0 else b"x" for i in range(400)]
    produce(kafka.bootstrap, events, values, partitions=4, keyed=False)
    produce(kafka.bootstrap, events, values, partitions=4, keyed=True)
    echo = Echo({events: route}, refuse=lambda value: value is None)
    with (
        running(kafka.bootstrap, unique("lane"), echo, limits=Limits(64)) as ours,
        ledger(kafka.bootstrap, **{route.scores: 3, route.dlq: 3}) as found,
    ):
        found.until(800)
        ours.stop()
        assert found.answers() == expected(events, 800, 4)
        assert found.disorder() == []
        assert all(message.value() is None for message in found.on(route.dlq))
        keyless = [message for message in found.messages if message.key() is None]
        assert len(keyless) == 400
        assert all(message.partition() == source(message)[1] % 3 for message in keyless)


@pytest.mark.parametrize(("times", "survives"), [(2, True), (3, False)])
def test_r8_being_fenced_again_and_again_ends_the_worker(
    kafka: Broker, unique: Unique, tenant: Tenant, times: int, survives: bool
) -> None:
    events, route = tenant(1)
    produce(kafka.bootstrap, events, [b"x"] * 50)
    passes = itertools.count(1)

    def fenced(name: str) -> None:
        if name == "before-commit" and next(passes) <= times:
            raise Fatal("a twin has the id", code="_FENCED")

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


def delete(kafka: Broker, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_topics([topic])[topic].result(10)


@pytest.fixture
def quick_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "RETRY_S", 0.3)
