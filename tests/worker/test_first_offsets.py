"""R23: what was answered is never scored again because a group has no offsets for it.

Offsets expire, groups change with lanes and namespaces, topics are made anew. Each test lets a worker answer, takes the
offsets away in one of these ways, and counts the answers that a reader of committed records finds.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from muse_stream.kafka import First, GroupConsumer, Source, Unknown, first_offsets, other_groups, starting_offsets
from muse_stream.kafka.signature import Signature
from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker import last_answers
from tests.patience import PATIENCE
from tests.worker.doubles import Echo, Route, await_true
from tests.worker.rig import Ledger, Running, expected, ledger, produce, running

Unique = Callable[[str], str]
MakeTopic = Callable[..., str]
Tenant = Callable[..., tuple[str, Route]]


@pytest.fixture(autouse=True)
def quick_handover(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else reads the topics of these tests, but where one says so."""
    monkeypatch.setattr(first_offsets, "HANDOVER_S", 0.5)
    monkeypatch.setattr(first_offsets, "AGAIN_S", 0.1)


def forget_offsets(kafka: Broker, lane: str, namespace: str = "muse") -> None:
    """Take a group's offsets away, as their retention does; its members must have left."""
    group = f"{namespace}.{lane}.live"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def gone() -> bool:
        try:
            admin.delete_consumer_groups([group])[group].result(60)
        except Exception as error:  # noqa: BLE001  # the member's end may not have been heard yet
            return "NOT_FOUND" in str(error)
        return True

    await_true(gone, f"{group} is deleted")


def answer(kafka: Broker, lane: str, echo: Echo, found: Ledger, count: int, **options: str) -> None:
    """Let a worker answer all there is, and leave."""
    with running(kafka.bootstrap, lane, echo, **options) as ours:
        found.until(count)
        ours.stop()


SCORE, LETTER = b"x", b"bad"
EXPIRED = [(2, SCORE, 0), (1, LETTER, 1), (3, SCORE, 1), (2, LETTER, 0)]
"""Partitions of the outputs, what is the last answer, and the slot that goes on: each is met in the short form."""
EXPIRED_ALL = itertools.product((2, 1, 3), (SCORE, LETTER), (0, 1))


@pytest.mark.parametrize(
    ("outputs", "last", "slot"),
    [pytest.param(*one, marks=() if one in EXPIRED else pytest.mark.slow) for one in EXPIRED_ALL],
)
def test_expired_offsets_start_behind_the_last_answer(
    kafka: Broker, unique: Unique, make_topic: MakeTopic, outputs: int, last: bytes, slot: int
) -> None:
    events, lane = make_topic("events", partitions=2), unique("lane")
    route = Route(make_topic("scores", partitions=outputs), make_topic("dlq", partitions=outputs))
    produce(kafka.bootstrap, events, [b"x"] * 58 + [last] * 2, partitions=2)

    def echo() -> Echo:
        return Echo({events: route}, refuse=lambda value: value == b"bad")

    with ledger(kafka.bootstrap, **{route.scores: outputs, route.dlq: outputs}) as found:
        answer(kafka, lane, echo(), found, 60)
        forget_offsets(kafka, lane)
        produce(kafka.bootstrap, events, [b"x"] * 20, partitions=2)
        with running(kafka.bootstrap, lane, echo(), number=slot) as ours:
            found.until(80)
            ours.stop()
            chosen = ours.log.said("starting_offsets")
        assert found.to_end().answers() == expected(events, 80, partitions=2)
        assert [(one["chosen"], one["offsets"]) for one in chosen] == [("answers", {"0": 30, "1": 30})]


def test_tenants_that_share_an_output_topic_each_start_behind_their_own(
    kafka: Broker, unique: Unique, make_topic: MakeTopic
) -> None:
    """One has answered long ago, one last, and one never."""
    route, lane = Route(make_topic("scores", partitions=2), make_topic("dlq")), unique("lane")
    old, new, never = (make_topic("events") for _ in range(3))
    with ledger(kafka.bootstrap, **{route.scores: 2, route.dlq: 1}) as found:
        produce(kafka.bootstrap, old, [b"x"] * 10)
        answer(kafka, lane, Echo({old: route}), found, 10)
        produce(kafka.bootstrap, new, [b"x"] * 3_000)
        answer(kafka, lane, Echo({old: route, new: route}), found, 3_010)
        forget_offsets(kafka, lane)
        for topic in (old, new, never):
            produce(kafka.bootstrap, topic, [b"x"] * 5)
        answer(kafka, lane, Echo({old: route, new: route, never: route}), found, 3_025)
        assert found.to_end().answers() == expected(old, 15) | expected(new, 3_005) | expected(never, 5)


def has_partitions(admin: AdminClient, topic: str, count: int) -> bool:
    return len(admin.list_topics(topic).topics[topic].partitions) == count


def serves(one: Running, echo: Echo) -> bool:
    return one.worker.scorer is echo


def goes_on(one: Running, before: int) -> bool:
    return one.meter.committed_events > before


@pytest.mark.parametrize("grown", ["events", "outputs", "both"])
def test_topics_that_have_grown_since(kafka: Broker, unique: Unique, tenant: Tenant, grown: str) -> None:
    """Answers stand where the partitions of their time put them."""
    (events, route), lane = tenant(2), unique("lane")
    produce(kafka.bootstrap, events, [b"x"] * 40, partitions=2)
    with ledger(kafka.bootstrap, **{route.scores: 2, route.dlq: 2}) as found:
        answer(kafka, lane, Echo({events: route}), found, 40)
    forget_offsets(kafka, lane)
    topics = {"events": [events], "outputs": [route.scores, route.dlq], "both": [events, route.scores, route.dlq]}
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for topic, done in admin.create_partitions([NewPartitions(one, 3) for one in topics[grown]]).items():
        done.result(60)
        await_true(partial(has_partitions, admin, topic, 3), "it has grown")
    produce(kafka.bootstrap, events, [b"x"] * 4, partitions=2)
    outputs = 2 if grown == "events" else 3
    with ledger(kafka.bootstrap, **{route.scores: outputs, route.dlq: outputs}) as found:
        answer(kafka, lane, Echo({events: route}), found, 44)
        assert found.to_end().answers() == expected(events, 44, partitions=2)


@pytest.mark.parametrize(("start_at", "again"), [("earliest", 30), ("latest", 0)])
def test_the_operator_may_choose_otherwise(
    kafka: Broker, unique: Unique, tenant: Tenant, start_at: first_offsets.StartAt, again: int
) -> None:
    (events, route), lane = tenant(1), unique("lane")
    produce(kafka.bootstrap, events, [b"x"] * 30)
    with ledger(kafka.bootstrap, **{route.scores: 1}) as found:
        answer(kafka, lane, Echo({events: route}), found, 30)
        forget_offsets(kafka, lane)
        with running(kafka.bootstrap, lane, Echo({events: route}), start_at=start_at) as ours:
            (said,) = ours.log.await_said("starting_offsets")
            assert (said["chosen"], said["group"]) == (start_at, f"muse.{lane}.live")
            await_true(lambda: ours.worker._group_consumer.positions().get((events, 0)) is not None, "assigned")
            await_true(lambda: found.take(0.05) >= 30 + again, "what is answered again")
            produce(kafka.bootstrap, events, [b"y"] * 5)
            found.until(35 + again)
            ours.stop()
        assert sum(found.to_end().answers().values()) == 35 + again
        with running(kafka.bootstrap, lane, Echo({events: route}), start_at=start_at) as ours:
            (unused,) = ours.log.await_said("start_unused")
            assert (unused["topics"], f"--to {start_at}" in unused["hint"]) == ([events], True)
            ours.stop()
        assert sum(found.to_end().answers().values()) == 35 + again, "offsets that are there are kept"


def test_a_tenant_without_any_answer_starts_at_its_first_event(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    (events, route), lane = tenant(1), unique("lane")
    produce(kafka.bootstrap, events, [b"x"] * 30)
    with ledger(kafka.bootstrap, **{route.scores: 1}) as found:
        with running(kafka.bootstrap, lane, Echo({events: route})) as ours:
            found.until(30)
            ours.stop()
            (said,) = ours.log.said("starting_offsets")
        assert (said["chosen"], said["offsets"], "note" in said) == ("earliest", {"0": 0}, False)
        assert found.to_end().answers() == expected(events, 30)


@contextmanager
def left_open(kafka: Broker, unique: Unique, events: str, route: Route, offsets: range) -> Iterator[Producer]:
    """Answers of an earlier owner whose transaction is not over."""
    own = {"transactional.id": unique("open"), "transaction.timeout.ms": 600_000}
    producer = Producer({"bootstrap.servers": kafka.bootstrap, **own})
    producer.init_transactions(60)
    producer.begin_transaction()
    for offset in offsets:
        producer.produce(route.scores, f"{events}|0|{offset}|1|1|".encode(), f"k{offset}".encode(), 0)
    producer.flush(60)
    yield producer


@pytest.mark.parametrize("outcome", ["commit", "abort"])
def test_an_open_transaction_is_waited_for(kafka: Broker, unique: Unique, tenant: Tenant, outcome: str) -> None:
    """Whether its answers count is known only then."""
    (events, route), lane = tenant(1), unique("lane")
    produce(kafka.bootstrap, events, [b"x"] * 30)
    with (
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
        left_open(kafka, unique, events, route, range(20)) as producer,
        running(kafka.bootstrap, lane, Echo({events: route})) as ours,
    ):
        await_true(lambda: ours.log.said("starting_offsets_unknown"), "nothing is known yet")
        assert ours.meter.events == 0
        (producer.commit_transaction if outcome == "commit" else producer.abort_transaction)(60)
        found.until(30)
        ours.stop()
        assert found.to_end().answers() == expected(events, 30)
        assert ours.meter.committed_events == (10 if outcome == "commit" else 30)


def test_a_long_search_holds_up_nobody_else(
    kafka: Broker, unique: Unique, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    (events, route), (others, other), lane = tenant(1), tenant(1), unique("lane")
    found_out, search = threading.Event(), last_answers.LastAnswers.__call__

    def slow(
        self: last_answers.LastAnswers, sources: Mapping[tuple[str, int], Source]
    ) -> dict[tuple[str, int], First | Unknown]:
        found_out.wait(280)
        return search(self, sources)

    monkeypatch.setattr("muse_stream.kafka.starting_offsets.FIRST_S", 0.2)
    produce(kafka.bootstrap, others, [b"x"] * 10)
    with ledger(kafka.bootstrap, **{other.scores: 1, route.scores: 1}) as found:
        answer(kafka, lane, Echo({others: other}), found, 10)
        monkeypatch.setattr(last_answers.LastAnswers, "__call__", slow)
        produce(kafka.bootstrap, events, [b"x"] * 10)
        produce(kafka.bootstrap, others, [b"x"] * 10)
        with running(kafka.bootstrap, lane, Echo({events: route, others: other})) as ours:
            found.until(20)
            produce(kafka.bootstrap, others, [b"x"] * 10)
            found.until(30)
            assert found.answers() == expected(others, 30)
            found_out.set()
            found.until(40)
            ours.stop()
        assert found.to_end().answers() == expected(others, 30) | expected(events, 10)


def test_answers_that_retention_has_deleted_are_no_reason_to_score_again(
    kafka: Broker, unique: Unique, tenant: Tenant, quick_gate: None
) -> None:
    """Nobody can say what was answered: the tenant is paused, the cure is named, and it goes on once somebody has."""
    (events, route), lane = tenant(1), unique("lane")
    produce(kafka.bootstrap, events, [b"x"] * 30)
    with ledger(kafka.bootstrap, **{route.scores: 1}) as found:
        answer(kafka, lane, Echo({events: route}), found, 30)
        forget_offsets(kafka, lane)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.delete_records([TopicPartition(route.scores, 0, -1)])[TopicPartition(route.scores, 0)].result(60)
        with running(kafka.bootstrap, lane, Echo({events: route})) as ours:
            said = ours.log.await_said("tenant_paused")[0]
            assert (said["topic"], said["group"]) == (events, f"muse.{lane}.live")
            assert f"{route.scores}[0] no longer has all answers" in said["error"]
            assert "muse-stream offsets set" in said["hint"]
            assert ours.meter.events == 0
            ours.stop()


@pytest.mark.parametrize("strangers", [1, 45], ids=["one stranger", "more than are looked at in a round"])
@pytest.mark.parametrize("offset", [3, 29, 5_000], ids=["an older event", "the last event", "beyond the end"])
def test_what_somebody_else_has_written_into_an_output_topic_is_passed_over(
    kafka: Broker, unique: Unique, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, offset: int, strangers: int
) -> None:
    """Records of another cluster, say: the same event topic, and offsets at which another event stands here."""
    monkeypatch.setattr(last_answers, "KEPT", 20)
    (events, route), lane = tenant(1), unique("lane")
    produce(kafka.bootstrap, events, [b"x"] * 30)
    with ledger(kafka.bootstrap, **{route.scores: 1}) as found:
        answer(kafka, lane, Echo({events: route}), found, 30)
        forget_offsets(kafka, lane)
        stranger = Producer({"bootstrap.servers": kafka.bootstrap})
        for _ in range(strangers):
            headers = {"muse.copied-by": b"me", "muse.source.topic": b"x", "muse.source.offset": b"9" * 5_000}
            stranger.produce(route.scores, b"no answer", b"k", headers=dict(headers))
            stranger.produce(route.scores, f"{events}|0|{offset}|1|1|".encode(), b"other", headers=dict(headers))
        assert stranger.flush(60) == 0
        produce(kafka.bootstrap, events, [b"x"] * 10)
        with running(kafka.bootstrap, lane, Echo({events: route})) as ours:
            found.until(40 + 2 * strangers)
            ours.stop()
            (said,) = ours.log.said("starting_offsets")
        assert (said["chosen"], said["offsets"]) == ("answers", {"0": 30})
        ours_alone = [one for one in found.to_end().messages if one.key() not in (b"k", b"other")]
        assert len(ours_alone) == 40


def two_lanes(events: str, route: Route, lane: str, other: str, *, here: bool) -> tuple[Echo, Echo]:
    """The generation as the lane sees it, and as the other does: the tenant is in one of them."""
    groups = [f"muse.{one}.live" for one in (lane, other)]
    mine = Echo({events: route} if here else {}, elsewhere={} if here else {events: groups[1]}, groups=groups[1:])
    theirs = Echo({} if here else {events: route}, elsewhere={events: groups[0]} if here else {}, groups=groups[:1])
    return mine, theirs


def test_a_tenant_moves_to_another_lane_and_back_under_load(
    kafka: Broker, unique: Unique, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever lane takes the new generation first: what the old one has in hand is neither lost nor doubled."""
    monkeypatch.setattr(first_offsets, "HANDOVER_S", 60.0)  # so it is the old owner's word that counts
    (events, route), (stays, still), (other_stays, other_still) = tenant(2), tenant(1), tenant(1)
    lane, other = unique("lane"), unique("other")
    sent, ending = [0], threading.Event()

    def load() -> None:
        while not ending.is_set():
            produce(kafka.bootstrap, events, [b"x"] * 20, partitions=2)
            sent[0] += 10

    def put(first: Running, second: Running, *, here: bool, new_first: bool) -> None:
        mine, theirs = two_lanes(events, route, lane, other, here=here)
        mine._routes[stays], theirs._routes[other_stays] = still, other_still
        for one, extra in ((mine, (stays, still)), (theirs, (other_stays, other_still))):
            one.topology.outputs[extra[0]] = frozenset({extra[1].scores, extra[1].dlq})  # type: ignore[index]
        pairs = [(first, mine), (second, theirs)]
        for running_one, echo in reversed(pairs) if here == new_first else pairs:
            running_one.scorers.put(echo)
            await_true(partial(serves, running_one, echo), "the generation is taken")

    start = two_lanes(events, route, lane, other, here=True)
    start[1]._routes[other_stays] = other_still
    start[1].topology.outputs[other_stays] = frozenset({other_still.scores, other_still.dlq})  # type: ignore[index]
    with (
        ledger(kafka.bootstrap, **{route.scores: 2, route.dlq: 2}) as found,
        running(kafka.bootstrap, lane, start[0]) as first,
        running(kafka.bootstrap, other, start[1]) as second,
    ):
        thread = threading.Thread(target=load, daemon=True)
        thread.start()
        try:
            found.until(100)
            for here, new_first in ((False, True), (True, False), (False, False), (True, True)):
                owner = first if here else second
                before = owner.meter.committed_events
                put(first, second, here=here, new_first=new_first)
                await_true(partial(goes_on, owner, before), "the new lane answers", 30.0)
        finally:
            ending.set()
            thread.join(30 * PATIENCE)
        assert not thread.is_alive(), "not all records are taken"
        found.until(2 * sent[0])
        first.stop()
        second.stop()
        assert found.to_end().answers() == expected_each(events, sent[0])


def test_the_last_tenant_of_a_lane_moves_away_and_comes_back(
    kafka: Broker, unique: Unique, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers let the tenant go though nothing is left for them, and serve it again when it comes back."""
    monkeypatch.setattr(first_offsets, "HANDOVER_S", 60.0)  # so it is the old owner's word that counts
    (events, route), lane, other = tenant(1), unique("lane"), unique("other")
    start = two_lanes(events, route, lane, other, here=True)
    with (
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
        running(kafka.bootstrap, lane, start[0]) as first,
        running(kafka.bootstrap, other, start[1]) as second,
    ):
        for total, here in ((10, True), (20, False), (30, True)):
            for one, echo in zip((first, second), two_lanes(events, route, lane, other, here=here), strict=True):
                one.scorers.put(echo)
            produce(kafka.bootstrap, events, [b"x"] * 10)
            found.until(total)
        await_true(lambda: "no tenant belongs to this lane" in second.worker.why_unready(), second.worker.why_unready)
        assert first.log.said("no_tenants")
        first.stop()
        second.stop()
        assert found.to_end().answers() == expected(events, 30)


def expected_each(events: str, each: int) -> Mapping[tuple[str, int, int], int]:
    return {(events, partition, offset): 1 for partition in range(2) for offset in range(each)}


def test_a_lane_that_comes_back_does_not_go_on_where_it_once_was(kafka: Broker, unique: Unique, tenant: Tenant) -> None:
    """Its committed offset is of the time before the tenant was elsewhere: everything since would be answered twice."""
    (events, route), lane, other = tenant(1), unique("lane"), unique("other")
    with ledger(kafka.bootstrap, **{route.scores: 1}) as found:
        for total, here in ((10, True), (20, False), (30, True)):
            produce(kafka.bootstrap, events, [b"x"] * 10)
            mine, theirs = two_lanes(events, route, lane, other, here=here)
            answer(kafka, lane if here else other, mine if here else theirs, found, total)
        assert found.to_end().answers() == expected(events, 30)


def test_another_namespace_with_the_same_topics_starts_behind_the_answers(
    kafka: Broker, unique: Unique, tenant: Tenant
) -> None:
    (events, route), lane = tenant(1), unique("lane")
    produce(kafka.bootstrap, events, [b"x"] * 10)
    with ledger(kafka.bootstrap, **{route.scores: 1}) as found:
        answer(kafka, lane, Echo({events: route}), found, 10)
        produce(kafka.bootstrap, events, [b"x"] * 10)
        answer(kafka, lane, Echo({events: route}), found, 20, namespace="bank")
        assert found.to_end().answers() == expected(events, 20)


@pytest.mark.parametrize(
    ("new", "meanwhile"),
    [
        pytest.param(5, "stopped", id="shorter than the old, stopped"),
        pytest.param(20, "running", id="as long as the old, running"),
        pytest.param(40, "stopped", id="longer, stopped"),
        pytest.param(20, "stopped", id="as long as the old, stopped", marks=pytest.mark.slow),
        pytest.param(5, "running", id="shorter than the old, running", marks=pytest.mark.slow),
        pytest.param(40, "running", id="longer, running", marks=pytest.mark.slow),
    ],
)
def test_a_topic_that_was_made_anew_begins_again(
    kafka: Broker, unique: Unique, tenant: Tenant, make_topic: MakeTopic, new: int, meanwhile: str, quick_gate: None
) -> None:
    """Answers to the old topic's events are there, with greater offsets, or with those of other events."""
    (events, route), lane = tenant(1), unique("lane")
    produce(kafka.bootstrap, events, [b"x"] * 20)

    def make_anew(first: int) -> None:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.delete_topics([events])[events].result(60)
        await_true(lambda: events not in admin.list_topics().topics, "deleted")
        make_topic(name=events)
        produce(kafka.bootstrap, events, [b"y"] * first, keyed=False)

    with ledger(kafka.bootstrap, **{route.scores: 1}) as found:
        with running(kafka.bootstrap, lane, Echo({events: route})) as ours:
            found.until(20)
            if meanwhile == "running":
                make_anew(min(new, 20))
                found.until(20 + min(new, 20))
                produce(kafka.bootstrap, events, [b"y"] * max(0, new - 20), keyed=False)
                found.until(20 + new)
            ours.stop()
        if meanwhile == "stopped":
            make_anew(new)
            with running(kafka.bootstrap, lane, Echo({events: route})) as ours:
                found.until(20 + new)
                ours.stop()
        (*_, said) = ours.log.said("starting_offsets")
        assert said["chosen"] == "earliest"
        if meanwhile == "stopped":  # else it may be searched while the new topic is empty
            assert "earlier topic of this name" in said["note"]
        assert [message.key() for message in found.to_end().messages[20:]] == [None] * new


def test_an_offset_of_the_old_topic_is_not_noted_in_the_new_one(
    kafka: Broker, unique: Unique, tenant: Tenant, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is searched where the new topic starts it grows beyond that offset: its events would be passed over."""
    (events, route), stands = tenant(1), Gate(monkeypatch)
    produce(kafka.bootstrap, events, [b"x"] * 20)
    with (
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
        running(kafka.bootstrap, unique("lane"), Echo({events: route})) as ours,
    ):
        found.until(20)
        ours.log.await_said("committed")
        monkeypatch.setattr(starting_offsets, "FIRST_S", 0.0)  # a search takes long, as on a busy machine
        with stands:
            admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
            admin.delete_topics([events])[events].result(60)
            await_true(lambda: events not in admin.list_topics().topics, "deleted")
            make_topic(name=events)
        # on a busy machine the group's offset is gone before the broker is asked for a record at it
        begun_anew = lambda: ours.log.said("offsets_lost") or len(ours.log.said("starting_offsets")) > 1  # noqa: E731
        await_true(begun_anew, "the new topic is begun")
        produce(kafka.bootstrap, events, [b"y"] * 20, keyed=False)
        found.until(40)
        ours.stop()
        assert [message.key() for message in found.to_end().messages[20:]] == [None] * 20


class Gate:
    """Within it the worker stands still before it collects."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open, self._stands = threading.Event(), threading.Event()
        self._open.set()
        collect = GroupConsumer.collect

        def waits(consumer: GroupConsumer, *given: Any, **named: Any) -> Any:
            if not self._open.is_set():
                self._stands.set()
                assert self._open.wait(60 * PATIENCE)
            return collect(consumer, *given, **named)

        monkeypatch.setattr(GroupConsumer, "collect", waits)

    def __enter__(self) -> None:
        self._open.clear()
        assert self._stands.wait(60 * PATIENCE)

    def __exit__(self, *_error: object) -> None:
        self._open.set()


def looks(one: Running) -> None:
    """Have a worker look once at what the other group has committed."""
    others = one.worker._group_consumer._offsets._first.others  # type: ignore[union-attr]
    turn = 0

    def told() -> bool:
        nonlocal turn
        with others._lock:  # a look under way would say at its end when the next one is due
            if not others._looking:
                turn, others._due = others._turn, 0.0
            return not others._looking

    await_true(told, "the look under way ends")
    await_true(lambda: others._turn > turn and not others._looking, "it has looked")


@pytest.mark.parametrize(
    ("generations", "stops"),
    [
        pytest.param((1, 2), 0, id="the first serves an older generation"),
        pytest.param((2, 1), 1, id="the second does"),
        pytest.param((2, 2), 1, id="both serve one of the same number: the group that is named later stops"),
    ],
)
def test_r24_of_two_lanes_at_the_same_pace_one_stops(
    kafka: Broker,
    unique: Unique,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    generations: tuple[int, int],
    stops: int,
) -> None:
    """Neither is ever seen behind the other: both have answered everything whenever one of them looks."""
    monkeypatch.setattr(other_groups, "LOOK_EVERY_S", 1e6)
    (events, route), lanes = tenant(1), (unique("a-lane"), unique("b-lane"))
    both = [two_lanes(events, route, *pair, here=True)[0] for pair in (lanes, lanes[::-1])]
    for echo, number in zip(both, generations, strict=True):
        echo.number = number
    with (
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
        running(kafka.bootstrap, lanes[0], both[0]) as first,
    ):
        produce(kafka.bootstrap, events, [b"x"] * 10)
        found.until(10)
        with running(kafka.bootstrap, lanes[1], both[1]) as second:
            two = (first, second)
            await_true(lambda: second.log.said("starting_offsets"), "the new lane thinks that nobody reads it")
            monkeypatch.setattr(first_offsets, "HANDOVER_S", 600.0)
            for one in two:
                looks(one)
            before = [one.meter.committed_events for one in two]
            produce(kafka.bootstrap, events, [b"x"])
            for one, count in zip(two, before, strict=True):
                await_true(partial(goes_on, one, count), "both answer it")
            for one in two:
                looks(one)
            (said,) = two[stops].log.await_said("answered_elsewhere")
            assert said["by"] == [f"muse.{lanes[1 - stops]}.live"]
            await_true(lambda: two[stops].worker._group_consumer.unknown_starts, "it is held")
            before = [one.meter.committed_events for one in two]
            produce(kafka.bootstrap, events, [b"x"] * 50)
            await_true(lambda: two[1 - stops].meter.committed_events == before[1 - stops] + 50, "the other goes on")
            looks(two[1 - stops])
            second.stop()
        first.stop()
        assert two[stops].meter.committed_events == before[stops], "no event is answered by both any more"
        assert not two[1 - stops].log.said("answered_elsewhere")


def test_r24_who_is_overtaken_by_another_group_stops_reading(
    kafka: Broker, unique: Unique, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old lane never hears that the tenant has moved, and is of a release that does not say what it serves."""
    monkeypatch.setattr(other_groups, "LOOK_EVERY_S", 0.1)
    (events, route), (old, new) = tenant(1), (unique("old"), unique("new"))
    told, _ = two_lanes(events, route, old, new, here=True)
    _, moved = two_lanes(events, route, old, new, here=False)
    # who does not say what it serves is judged by its offsets: at the same pace it takes chance until one is behind
    monkeypatch.setattr(GroupConsumer, "_signature", property(lambda one: Signature.of(one._owner, one._subscribed)))
    monkeypatch.setattr(told, "_before", lambda _batch: threading.Event().wait(0.2))
    # two that ask at one moment may each find the other ahead; here the old lane asks alone
    judged, slow = other_groups.OtherGroups._theirs, f"muse.{old}.live"
    monkeypatch.setattr(
        other_groups.OtherGroups, "_theirs", lambda one, *given: one._group == slow and judged(one, *given)
    )
    with (
        ledger(kafka.bootstrap, **{route.scores: 1}) as found,
        running(kafka.bootstrap, old, told) as first,
    ):
        produce(kafka.bootstrap, events, [b"x"] * 10)
        found.until(10)
        with running(kafka.bootstrap, new, moved) as second:
            await_true(lambda: second.log.said("starting_offsets"), "the new lane thinks that nobody reads it")
            monkeypatch.setattr(first_offsets, "HANDOVER_S", 600.0)

            def slow_stops() -> bool:
                produce(kafka.bootstrap, events, [b"x"])
                return bool(first.log.said("answered_elsewhere"))

            await_true(slow_stops, "the old lane hears of the other", 60.0)
            (said,) = first.log.said("answered_elsewhere")
            assert (said["partitions"], said["by"]) == ([f"{events}[0]"], [f"muse.{new}.live"])
            await_true(lambda: first.worker._group_consumer.unknown_starts, "it is held")
            before, at = first.meter.committed_events, second.meter.committed_events
            produce(kafka.bootstrap, events, [b"x"] * 50)
            await_true(lambda: second.meter.committed_events >= at + 50, "the other goes on")
            second.stop()
        first.stop()
        assert first.meter.committed_events == before, "no event is answered by both any more"
