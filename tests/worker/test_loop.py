"""A worker on the real broker: one answer an event, over joins, leaves, restarts and changes of generation."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import KafkaError, KafkaException

from muse_stream import testing
from muse_stream.kafka import starting_offsets
from muse_stream.testing import Broker, ToSend
from muse_stream.worker import slot
from muse_stream.worker.batch import BatchLimits
from tests.patience import PATIENCE
from tests.worker.doubles import Echo, Route, await_true
from tests.worker.rig import expected, headers_of, ledger, open_echo, produce, running, source
from tests.worker.serving import SESSION_S

Unique = Callable[[str], str]
MakeTopic = Callable[..., str]
Tenant = Callable[..., tuple[str, Route]]


def test_every_event_one_answer_keys_and_partitions_kept(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(3)
    values = [b"bad" if i % 10 == 3 else b"good" for i in range(900)]
    produce(kafka.bootstrap, events, values, partitions=3)
    echo = Echo({events: route}, refuse=lambda value: value == b"bad")
    with (
        running(kafka.bootstrap, unique("lane"), echo, limits=BatchLimits(batch_events=100)) as ours,
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


def test_workers_join_and_leave_under_load(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(4)
    lane, echo, limits = unique("lane"), Echo({events: route}), BatchLimits(batch_events=200)
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

    def paced() -> Iterator[ToSend]:
        while not enough.wait(0.004):  # about a thousand records a second
            yield from (ToSend(topic, i % partitions, b"x", b"k%d" % i) for i in itertools.islice(written, 4))

    thread = threading.Thread(target=testing.produce, args=(bootstrap, paced(), {"linger.ms": 1}), daemon=True)
    thread.start()

    def end() -> int:
        enough.set()
        thread.join(60 * PATIENCE)
        assert not thread.is_alive(), "not all records are taken"
        return next(written)

    try:
        yield end
    finally:
        enough.set()


def test_a_stop_ends_a_look_up_of_offsets_that_nobody_tells(
    kafka: Broker, unique: Unique, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would ask for 20 s, and a worker has 10 to end."""
    (events, route), asked = tenant(1), threading.Event()

    def hidden(_lookup: object, _places: object, _timeout_s: float) -> None:
        asked.set()
        raise KafkaException(KafkaError(KafkaError.UNSTABLE_OFFSET_COMMIT))

    monkeypatch.setattr(starting_offsets, "committed_offsets", hidden)
    monkeypatch.setattr(starting_offsets, "COMMITTED_S", 600.0)
    with running(kafka.bootstrap, unique("lane"), Echo({events: route})) as ours:
        assert asked.wait(30 * PATIENCE)
        ours.stop(60)
        assert ours.log.said("stopped") == [{"drained": True, "leave": True}]


def test_a_stopped_slot_drains_and_its_successor_goes_on(
    kafka: Broker, unique: Unique, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(slot.MEMBER, "session.timeout.ms", SESSION_S * 1_000)
    events, route = tenant(2)
    produce(kafka.bootstrap, events, [b"x"] * 3_000, partitions=2)
    lane, echo = unique("lane"), Echo({events: route}, before=lambda _batch: time.sleep(0.02))
    with ledger(kafka.bootstrap, **{route.scores: 2}) as found:
        first = open_echo(kafka.bootstrap, lane, echo, limits=BatchLimits(100))
        first.leave = False  # a restart: the slot keeps its place
        first.start()
        found.until(500)
        first.stop()
        assert first.log.said("stopped") == [{"drained": True, "leave": False}]
        began = time.monotonic()
        with running(kafka.bootstrap, lane, Echo({events: route})) as second:
            found.until(3_000)
            assert time.monotonic() - began < SESSION_S - 10, "a successor in the slot waits for no session"
            second.stop()
        assert found.to_end().answers() == expected(events, 3_000, 2)


@pytest.mark.usefixtures("patient_commits")
def test_generations_change_between_batches(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(1)
    produce(kafka.bootstrap, events, [b"x"] * 500)
    scorers = [Echo({events: route}, number=number) for number in range(1, 5)]
    with (
        running(kafka.bootstrap, unique("lane"), scorers[0], limits=BatchLimits(50)) as ours,
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
        assert [one for one, times in found.answers().items() if times > 1] == []


def test_tombstones_null_keys_and_unlike_partition_counts(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    events, route = tenant(4, outputs=3)
    values = [None if i % 3 == 0 else b"x" for i in range(400)]
    produce(kafka.bootstrap, events, values, partitions=4, keyed=False)
    produce(kafka.bootstrap, events, values, partitions=4, keyed=True)
    echo = Echo({events: route}, refuse=lambda value: value is None)
    with (
        running(kafka.bootstrap, unique("lane"), echo, limits=BatchLimits(64)) as ours,
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


def test_the_limits_of_a_new_generation_hold_from_the_next_batch(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    """Smaller, larger, and the linger with them: a swap changes them as a restart would."""
    events, route = tenant(1)
    given = [
        BatchLimits(100, 0.2),
        BatchLimits(20, 0.0),
        BatchLimits(400, 0.3),
    ]  # a linger above the ceiling of its growth, too
    scorers = [Echo({events: route}, number=number, limits=limits) for number, limits in enumerate(given, start=1)]
    with (
        running(kafka.bootstrap, unique("lane"), scorers[0]) as ours,
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
    ):
        for done, scorer in enumerate(scorers):
            if scorer.number > 1:
                ours.scorers.put(scorer)
                await_true(lambda n=scorer.number: ours.meter.generations[-1:] == [n], "the swap")  # type: ignore[misc]
            before = len(ours.meter.batches)
            produce(kafka.bootstrap, events, [b"x"] * 800)
            found.until(800 * (done + 1))
            sizes = ours.meter.batches[before:]
            assert max(sizes) <= scorer.limits.batch_events
            assert max(sizes) > given[1].batch_events or scorer.number == 2, sizes
            assert ours.worker._linger.seconds >= scorer.limits.linger_s
        ours.stop()
        assert found.answers() == expected(events, 2_400)
