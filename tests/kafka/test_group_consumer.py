"""The intake: whose group a batch belongs to (R2), where partitions start, and what a paused or lost one does."""

import json
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Abortable, Fatal
from muse_stream.kafka import client, starting_offsets
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.errors import TABLE, About
from muse_stream.kafka.first_offsets import Unknown
from muse_stream.kafka.group_consumer import GroupConsumer, joined
from muse_stream.kafka.partition import Position
from muse_stream.kafka.signature import PAUSED, RELEASED, SET, Signature
from muse_stream.kafka.starting_offsets import StartingOffsets, Starts
from muse_stream.kafka.transactional_producer import open_producer
from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker.slot import MEMBER
from tests.worker.doubles import ListLog, await_true
from tests.worker.mock_cluster import HEARTBEAT, SYNC_GROUP, mock_cluster
from tests.worker.rig import open_group_consumer, produce

MARKS = (RELEASED, PAUSED, SET)

Unique = Callable[[str], str]
MakeTopic = Callable[..., str]


def metadata(generation: int, member: str) -> bytes:
    return b"CGMDv2:" + struct.pack("=i", generation) + b"group\0" + member.encode() + b"\0instance\0"


@pytest.mark.parametrize(
    ("generation", "member", "is_member"),
    [(0, "m", True), (12, "consumer-1", True), (-1, "", False), (-1, "m", False), (5, "", False)],
)
def test_joined_reads_generation_and_member(generation: int, member: str, is_member: bool) -> None:
    assert joined(metadata(generation, member)) == is_member


def test_joined_refuses_a_form_it_does_not_know() -> None:
    with pytest.raises(Fatal, match="unknown form"):
        joined(b"CGMDv3:...")


class Member:
    """A member of a group without an `GroupConsumer`, polled by hand."""

    def __init__(self, bootstrap: str, topic: str, group: str) -> None:
        self.lost = False
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": 6_000,
                "heartbeat.interval.ms": 200,
                "max.poll.interval.ms": 6_000,
                "log_level": 0,
            }
        )
        self.consumer.subscribe([topic], on_lost=self._on_lost)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.lost = True
        consumer.incremental_unassign(partitions)

    def is_one(self) -> bool:
        return joined(self.consumer.consumer_group_metadata())

    def poll_until(self, condition: Callable[[], bool], what: str) -> None:
        await_true(lambda: condition() or (self.consumer.poll(0.05), False)[1], what, 30.0)


def test_before_the_first_join_and_after_a_lost_session_nobody_is_a_member(
    kafka: Broker, unique: Unique, make_topic: MakeTopic
) -> None:
    """Exactly the case of R14: commits under such metadata are not checked."""
    member = Member(kafka.bootstrap, make_topic("member"), unique("member"))
    assert not member.is_one()
    assert not member.consumer.memberid()
    member.poll_until(lambda: len(member.consumer.assignment()) == 1, "joined")
    assert member.is_one()
    assert member.consumer.memberid()
    await_true(lambda: not member.is_one(), "not polled for longer than max.poll.interval.ms", 30.0)
    assert not member.consumer.memberid()
    assert len(member.consumer.assignment()) == 1, "it does not know yet, and may hold records"
    member.poll_until(lambda: member.lost and len(member.consumer.assignment()) == 1, "joined again")
    assert member.is_one()
    member.consumer.close()


@pytest.mark.parametrize(
    ("api", "error", "keeps_id"),
    [
        (HEARTBEAT, KafkaError.UNKNOWN_MEMBER_ID, False),  # the session ended: the coordinator has forgotten it
        (SYNC_GROUP, KafkaError.ILLEGAL_GENERATION, True),
    ],
)
def test_a_member_that_the_group_refuses_is_none_though_it_may_keep_its_id(
    api: int, error: int, keeps_id: bool
) -> None:
    """Why `Consumer.memberid()` cannot replace the look at the metadata."""
    with mock_cluster() as mock:
        AdminClient({"bootstrap.servers": mock.bootstrap, "log_level": 0}).list_topics(
            "t", timeout=60
        )  # made by asking
        member = Member(mock.bootstrap, "t", "g")
        member.poll_until(lambda: len(member.consumer.assignment()) > 0, "joined")
        assert member.is_one()
        if api == SYNC_GROUP:
            mock.fail(HEARTBEAT, KafkaError.REBALANCE_IN_PROGRESS)  # so that it joins again, and syncs
        # of a refused sync again and again: it joins again at once, and would be a member when it is looked at
        mock.fail(api, *[error] * (1 if api == HEARTBEAT else 100))
        if api == HEARTBEAT:
            await_true(lambda: not member.is_one(), "expelled")
        else:
            member.poll_until(lambda: not member.is_one(), "refused")
        assert bool(member.consumer.memberid()) is keeps_id
        member.consumer.close()


class Record:
    """What the intake asks of a message."""

    def __init__(self, offset: int, error: KafkaError | None = None) -> None:
        self._offset, self._error = offset, error

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error


class ScriptedConsumer:
    """Gives out records; a rebalance can be put between any two polls; the group's generation moves with it."""

    def __init__(self, polls: list[Any]) -> None:
        self.polls, self.generation, self.callbacks = polls, 1, dict[str, Any]()
        self.assigned: list[TopicPartition] = []
        self.paused: set[str] = set()
        self.committed_offset, self.refreshed = 0, 0
        self.low: int | None = 0
        self.signed: list[Any] = []
        self.waiting: list[Callable[[ScriptedConsumer], None]] = []
        """Rebalances that come to light with the next `consume`."""
        self.changes: list[str] = []
        self.signature = ""
        self.refusal: int | None = None
        self.looked_up = 0
        self.polled: list[float] = []
        """How long each poll was to wait."""

    def subscribe(self, _topics: list[str], **callbacks: Any) -> None:
        self.callbacks = callbacks

    def unsubscribe(self) -> None:
        self.polls.append(partitions_come)

    def poll(self, timeout: float) -> Any:
        self.polled.append(timeout)
        step = self.polls.pop(0) if self.polls else None
        if callable(step):
            step(self)
            return None
        return step

    def consume(self, _most: int, _timeout: float) -> list[Any]:
        if self.waiting:
            self.waiting.pop(0)(self)
        return []

    def consumer_group_metadata(self) -> bytes:
        return metadata(self.generation, "member" if self.generation >= 0 else "")

    def assignment(self) -> list[TopicPartition]:
        return list(self.assigned)

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self.looked_up += 1
        return [TopicPartition(p.topic, p.partition, self.committed_offset, self.signature) for p in partitions]

    def get_watermark_offsets(self, _place: TopicPartition, **_how: Any) -> tuple[int, int]:
        return self.low or 0, 50

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert {p.offset for p in partitions} == {OFFSET_BEGINNING}
        if self.low is None:
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
        return [TopicPartition(p.topic, p.partition, self.low) for p in partitions]

    def list_topics(self, _topic: str, timeout: float) -> None:
        self.refreshed += 1

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert not asynchronous
        if self.refusal is not None:
            raise KafkaException(KafkaError(self.refusal))
        self.signed += [(p.topic, p.partition, p.offset, p.metadata) for p in offsets]

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned += partitions
        self.changes.append("assign")

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        self.changes.append("unassign")
        gone = {(p.topic, p.partition) for p in partitions}
        self.assigned = [p for p in self.assigned if (p.topic, p.partition) not in gone]

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused |= {p.topic for p in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused -= {p.topic for p in partitions}


def scripted(*polls: Any) -> tuple[GroupConsumer, ScriptedConsumer, list[bool]]:
    settled: list[bool] = []
    consumer = ScriptedConsumer(list(polls))
    log = ListLog()
    intake = GroupConsumer(consumer, StartingOffsets(consumer, log), settled.append, log, "me")  # type: ignore[arg-type]
    intake.subscribe(["t"])
    return intake, consumer, settled


def moves_on(consumer: ScriptedConsumer) -> None:
    consumer.generation += 1
    consumer.callbacks["on_assign"](consumer, [])


def partitions_come(consumer: ScriptedConsumer) -> None:
    consumer.callbacks["on_assign"](consumer, [TopicPartition("t", 0)])


@pytest.mark.parametrize("again", [False, True], ids=["leaves", "leaves and joins again"])
def test_what_is_assigned_while_it_leaves_is_not_looked_up(again: bool) -> None:
    """Looking up may take 20 s, and a worker has 10 to end."""
    intake, consumer, _settled = scripted(Record(0))
    (intake.rejoin if again else intake.leave)()
    assert consumer.looked_up == 0
    partitions_come(consumer)
    assert consumer.looked_up == int(again)


def test_r2_metadata_is_that_of_the_first_poll() -> None:
    def quietly(consumer: ScriptedConsumer) -> None:
        consumer.generation += 1

    intake, _consumer, _settled = scripted(Record(0), quietly, Record(1))
    collected = intake.collect(2, 60.0)
    assert collected is not None
    assert len(collected[0]) == 2
    assert collected[1] == metadata(1, "member")


def test_what_was_collected_before_a_rebalance_is_dropped_and_read_again() -> None:
    intake, consumer, settled = scripted(Record(0), moves_on, Record(0))
    consumer.assigned = [TopicPartition("t", 0)]
    assert intake.collect(10, 60.0) is None
    assert settled == [False]
    assert [p.offset for p in consumer.assigned] == [0], "assigned again, at the committed offset"
    collected = intake.collect(10, 0)
    assert collected is not None
    assert collected[1] == metadata(2, "member")


def test_a_batch_polled_outside_the_group_is_never_handed_out() -> None:
    intake, consumer, _settled = scripted(Record(0))
    consumer.generation = -1  # the broker does not check such transactional commits
    assert intake.collect(10, 0) is None


def test_revocation_settles_before_the_partitions_go() -> None:
    order: list[str] = []
    consumer = ScriptedConsumer([])
    log = ListLog()
    starting = StartingOffsets(consumer, log)  # type: ignore[arg-type]
    intake = GroupConsumer(consumer, starting, lambda lost: order.append(f"settle lost={lost}"), log)  # type: ignore[arg-type]
    intake.subscribe(["t"])
    consumer.incremental_unassign = lambda partitions: order.append("unassign")  # type: ignore[method-assign]
    consumer.callbacks["on_revoke"](consumer, [TopicPartition("t", 0)])
    consumer.callbacks["on_lost"](consumer, [TopicPartition("t", 0)])
    assert order == ["settle lost=False", "unassign", "settle lost=True", "unassign"]


def test_never_goes_below_what_it_saw_committed() -> None:
    intake, consumer, _settled = scripted()
    consumer.assigned = [TopicPartition("t", 0)]
    intake.committed({("t", 0): 40})
    consumer.committed_offset = 40
    intake.rewind()
    consumer.committed_offset = 39
    with pytest.raises(Fatal, match="below the committed"):
        intake.rewind()


def test_a_partition_without_a_commit_starts_at_an_offset_by_its_number() -> None:
    """Not at OFFSET_BEGINNING: librdkafka's own look-up of it may be answered late (test_starting_offsets.py)."""
    intake, consumer, _settled = scripted()
    consumer.committed_offset, consumer.low = OFFSET_INVALID, 7
    consumer.callbacks["on_assign"](consumer, [TopicPartition("t", 0)])
    assert [p.offset for p in consumer.assigned] == [7]
    assert intake.positions() == {("t", 0): Position(7, 7, 50)}
    assert consumer.signed == [("t", 0, 7, str(Signature.of("me", ["t"])))], "who comes after us must find our name"
    intake.committed({("t", 0): 9})
    consumer.committed_offset, consumer.signature = 9, str(Signature.of("me", ["t"]))
    intake.rewind()
    assert len(consumer.signed) == 1, "it bears our name already"
    consumer.signature = "other"
    intake.rewind()
    assert consumer.signed[1:] == [("t", 0, 9, str(Signature.of("me", ["t"])))]


@pytest.mark.parametrize(
    ("found", "outdated"),
    [
        (str(Signature.of("me", ["t", "gone"])), True),
        (str(Signature.of("me", ["t"])), False),
        (str(Signature.of("other", ["t", "gone"])), False),
        ("me", False),
        ("", False),
    ],
    ids=["other topics", "the same topics", "another slot", "an older version", "never committed"],
)
def test_r21_a_slot_that_read_other_topics_before_is_told_so(found: str, outdated: bool) -> None:
    intake, consumer, _settled = scripted()
    intake.subscribe(["t"])
    consumer.committed_offset, consumer.signature = 9, found
    consumer.callbacks["on_assign"](consumer, [TopicPartition("t", 0)])
    assert intake.outdated == outdated


def test_r21_a_topic_that_is_not_subscribed_is_not_read_though_the_group_assigns_it() -> None:
    intake, consumer, _settled = scripted()
    intake.subscribe(["t"])
    consumer.committed_offset = 9
    consumer.callbacks["on_assign"](consumer, [TopicPartition("t", 0), TopicPartition("gone", 0)])
    assert consumer.paused == {"gone"}
    assert intake.positions().keys() == {("t", 0)}


@given(st.text(min_size=1), st.lists(st.text()), st.none() | st.integers(0, 10**17), st.sampled_from(["", *MARKS]))
def test_a_signature_is_read_as_it_was_written(
    owner: str, topics: list[str], generation: int | None, mark: str
) -> None:
    ours = Signature.of(owner, topics, generation).marked(mark)
    assert Signature.parse(str(ours)) == ours
    assert Signature.parse("") is None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("blue-0", Signature("blue-0")),
        ("blue-0 1a2b3c4d", Signature("blue-0", "1a2b3c4d")),
        ("blue-0 1a2b3c4d released", Signature("blue-0", "1a2b3c4d", RELEASED)),
        ("offsets set", Signature("offsets", mark=SET)),
    ],
)
def test_a_signature_of_an_older_release_names_no_generation(written: str, read: Signature) -> None:
    assert Signature.parse(written) == read
    assert (str(read), read.generation) == (written, None)


@pytest.mark.parametrize("refusal", [one.code for one in TABLE if About.REFUSED_COMMIT in one.about])
def test_a_signature_that_the_group_refuses_is_written_at_the_next_assignment(refusal: int) -> None:
    intake, consumer, settled = scripted()
    consumer.committed_offset, consumer.refusal = OFFSET_INVALID, refusal
    consumer.callbacks["on_assign"](consumer, [TopicPartition("t", 0)])
    assert intake.collect(10, 0) is None
    assert settled == [False], "read again from the committed offsets"


def test_a_signature_whose_outcome_is_unknown_ends_the_process() -> None:
    """It could be carried out later, and take the offset back."""
    _intake, consumer, _settled = scripted()
    consumer.committed_offset, consumer.refusal = OFFSET_INVALID, KafkaError._TIMED_OUT
    with pytest.raises(Fatal, match="could not be signed"):
        consumer.callbacks["on_assign"](consumer, [TopicPartition("t", 0)])


def test_a_partition_whose_beginning_nobody_tells_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting_offsets, "BEGINNING_S", 0.3)
    intake, consumer, _settled = scripted()
    consumer.committed_offset, consumer.low = OFFSET_INVALID, None
    consumer.callbacks["on_assign"](consumer, [TopicPartition("t", 0)])
    assert [p.offset for p in consumer.assigned] == [0], "where it is too low the broker says so"
    assert consumer.signed == [], "what was guessed must not become what is committed"
    assert consumer.refreshed > 0
    consumer.low = 7
    intake.rewind()
    assert [p.offset for p in consumer.assigned] == [7]


def test_an_offset_of_an_earlier_topic_is_not_committed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is searched where the new topic starts, nobody may find that the old one's offset is committed."""
    intake, consumer, _settled = scripted()
    partitions_come(consumer)
    intake.committed({("t", 0): 20})
    held = Starts([TopicPartition("t", 0, 0)], {}, frozenset(), held={("t", 0): Unknown("its last answer is sought")})
    monkeypatch.setattr(StartingOffsets, "starts", lambda *_given: held)
    intake.rewind()
    before = list(consumer.signed)
    intake.let_go(["t"], released=False)
    assert consumer.signed == before
    assert intake.positions()["t", 0].answered is None


def test_an_expired_commit_is_no_reason_to_begin_again() -> None:
    intake, consumer, _settled = scripted()
    consumer.assigned = [TopicPartition("t", 0)]
    intake.committed({("t", 0): 40})
    consumer.committed_offset = OFFSET_INVALID
    with pytest.raises(Fatal, match="below the committed"):
        intake.rewind()


def test_a_revocation_that_waits_is_heard_before_an_assignment_is_changed() -> None:
    """Changed under it, the assignment counts as the answer, and librdkafka never joins again."""
    intake, consumer, settled = scripted()
    place = TopicPartition("t", 0)
    consumer.callbacks["on_assign"](consumer, [place])
    assert intake.taken_since is None
    consumer.changes.clear()
    consumer.waiting.append(lambda one: one.callbacks["on_revoke"](one, [place]))
    intake.rewind()
    assert consumer.changes == ["unassign"], "the answer to the revocation, and nothing else"
    assert settled == [False]
    assert (intake.held, consumer.assigned) == (None, [])
    assert intake.taken_since is not None
    consumer.callbacks["on_assign"](consumer, [])
    assert intake.taken_since is None, "assigned nothing is an assignment"


def test_what_waits_is_heard_without_reading_a_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpaused, a backlog is fetched as fast as it is dropped; paused until it is placed, a partition may stall."""
    intake, consumer, _settled = scripted()
    consumer.callbacks["on_assign"](consumer, [TopicPartition("t", 0)])
    paused: list[set[str]] = []
    consumer.waiting.append(lambda one: paused.append(set(one.paused)))
    unassign = consumer.incremental_unassign

    def watched(gone: list[TopicPartition]) -> None:
        paused.append(set(consumer.paused))
        unassign(gone)

    monkeypatch.setattr(consumer, "incremental_unassign", watched)
    intake.rewind()
    assert paused == [{"t"}, set()]
    assert consumer.paused == set()


def test_a_revoked_partition_may_come_back_lower() -> None:
    intake, consumer, _settled = scripted()
    intake.committed({("t", 0): 40})
    consumer.callbacks["on_revoke"](consumer, [TopicPartition("t", 0)])
    consumer.committed_offset = 3  # an operator has set it back
    consumer.callbacks["on_assign"](consumer, [TopicPartition("t", 0)])
    assert [p.offset for p in consumer.assigned] == [3]


def test_a_topic_that_was_unsubscribed_is_paused_until_the_group_has_taken_it() -> None:
    """While a dead member is waited for its partitions stay, and a generation without the tenant cannot answer them."""
    intake, consumer, _ = scripted()
    intake.subscribe(["t", "u"])
    consumer.callbacks["on_assign"](consumer, [TopicPartition("t", 0), TopicPartition("u", 0)])
    assert consumer.paused == set()
    intake.subscribe(["t"])
    assert consumer.paused == {"u"}
    intake.pause(frozenset({"u"}))
    intake.pause(frozenset())
    assert consumer.paused == {"u"}, "to free a topic does not make it wanted"
    intake.rewind()
    assert consumer.paused == {"u"}
    intake.subscribe(["t", "u"])
    assert consumer.paused == set()


# ---- on the real broker


class Group:
    """Members of one group, driven by hand in one thread."""

    def __init__(self, bootstrap: str, group: str, topic: str) -> None:
        self._bootstrap, self._group, self._topic = bootstrap, group, topic
        self.settled: list[bool] = []
        self.members: list[GroupConsumer] = []

    def member(self, instance: str, log: ListLog) -> GroupConsumer:
        intake = open_group_consumer(
            self._bootstrap, self._group, self.settled.append, log, overrides={"group.instance.id": instance}
        )
        intake.subscribe([self._topic])
        self.members.append(intake)
        return intake


@pytest.fixture
def group(kafka: Broker, unique: Unique, make_topic: MakeTopic) -> Any:
    topic = make_topic("intake", partitions=2)
    ours = Group(kafka.bootstrap, unique("intake"), topic)
    ours.topic = topic  # type: ignore[attr-defined]
    yield ours
    for member in ours.members:
        member.close()


def held(intake: GroupConsumer) -> set[int]:
    return {partition for _topic, partition in intake.held or ()}


def drive(*intakes: GroupConsumer) -> list[Any]:
    found: list[Any] = []
    for intake in intakes:
        collected = intake.collect(1_000, 0)
        found += collected[0] if collected else []
    return found


def test_a_partition_that_left_while_paused_comes_back_flowing(kafka: Broker, group: Any) -> None:
    one, two_log = group.member("one", ListLog()), ListLog()
    await_true(lambda: drive(one) is None or held(one) == {0, 1}, "the first member holds both")
    one.pause(frozenset({group.topic}))
    two = group.member("two", two_log)
    await_true(lambda: drive(one, two) is None or len(held(two)) == len(held(one)) == 1, "they share")
    one.pause(frozenset())  # freed while one partition is with the other member
    two.leave()
    await_true(lambda: drive(one) is None or held(one) == {0, 1}, "the first member holds both again")
    produce(kafka.bootstrap, group.topic, [b"x"] * 10, partitions=2)
    seen: set[tuple[int, int]] = set()

    def all_seen() -> bool:
        nonlocal seen
        seen |= {(m.partition(), m.offset()) for m in drive(one)}
        return len(seen) == 10

    await_true(all_seen, "records of both partitions")


def test_r8_a_static_twin_ends_the_older_one(group: Any) -> None:
    log = ListLog()
    old = group.member("same", log)
    await_true(lambda: drive(old) is None or held(old) == {0, 1}, "the first holds all")
    young = group.member("same", ListLog())

    def fenced() -> bool:
        drive(young)
        try:
            drive(old)
        except Fatal as error:
            return "fenced" in str(error)
        return False

    await_true(fenced, "the older one is told")


def test_a_lost_offset_blocks_and_is_said_again_after_the_block(kafka: Broker, group: Any) -> None:
    topic = group.topic
    produce(kafka.bootstrap, topic, [b"x"] * 40, partitions=2)
    helper = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group._group, "enable.auto.commit": False})
    offsets: Any = [TopicPartition(topic, 0, 5), TopicPartition(topic, 1, 5)]
    helper.commit(offsets=offsets, asynchronous=False)
    helper.close()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    deleted = admin.delete_records([TopicPartition(topic, 0, 12)])
    [future.result(60) for future in deleted.values()]
    log = ListLog()
    intake = group.member("one", log)
    seen: list[tuple[int, int]] = []

    def told(times: int) -> bool:
        seen.extend((m.partition(), m.offset()) for m in drive(intake))
        return len(log.said("offsets_lost")) >= times

    await_true(lambda: told(1), "the loss is said")
    assert intake.lost_offsets == {topic}
    intake.pause(frozenset({topic}))
    intake.pause(frozenset())
    await_true(lambda: told(2), "the loss is said again when the topic is tried again")
    assert {partition for partition, _offset in seen} <= {1}, "nothing of the lost partition is read or skipped"
    assert not {offset for _partition, offset in seen if offset < 5}


@pytest.mark.parametrize("planted", [False, True], ids=["captured", "planted"])
def test_r2_the_broker_refuses_offsets_of_an_older_group(
    kafka: Broker, group: Any, unique: Unique, planted: bool
) -> None:
    """`planted` asks for the metadata at commit, after the partition went: the broker takes it, and both answered."""
    settings = KafkaSettings(bootstrap=kafka.bootstrap)
    produce(kafka.bootstrap, group.topic, [b"x"] * 10, partitions=2)
    one = group.member("one", ListLog())
    batch: list[Any] = []

    def collected() -> bool:
        found = one.collect(1_000, 0.1)
        if found:
            batch.append(found)
        return bool(found)

    await_true(collected, "a batch")
    two = group.member("two", ListLog())
    await_true(lambda: drive(one, two) is None or len(held(two)) == 1 == len(held(one)), "a partition moved")
    (moved,) = held(two)
    late = one._consumer.consumer_group_metadata() if planted else batch[0][1]
    producer = open_producer(settings, unique("r2"), Deadline(60))
    producer.begin()
    offsets = {(group.topic, moved): 5}
    if planted:
        producer.send_offsets(offsets, late, Deadline(60))
        producer.commit(Deadline(60))
    else:
        with pytest.raises(Abortable, match="ILLEGAL_GENERATION"):
            producer.send_offsets(offsets, late, Deadline(60))
    producer.discard()
    assert group.settled, "the intake had asked for it to be settled before the partition went"


def test_a_long_linger_ends_when_the_worker_is_to_stop() -> None:
    """A document may ask for 10 s, and that is all the time a supervisor gives."""
    stop = threading.Event()

    def told_to(_consumer: ScriptedConsumer) -> None:
        stop.set()

    intake, _consumer, _settled = scripted(Record(0), None, Record(1), told_to, Record(2))
    collected = intake.collect(10, 60.0, stop.is_set)
    assert collected is not None
    assert len(collected[0]) == 2


def test_a_record_that_comes_long_after_the_last_batch_waits_for_no_others() -> None:
    intake, _consumer, _settled = scripted(Record(0), None, Record(1), None, Record(2))
    assert intake.collect(10, 0) is not None
    passed = Deadline(0.01)
    while not passed.over:
        pass
    collected = intake.collect(10, 0.01)
    assert collected is not None
    assert [message.offset() for message in collected[0]] == [1]


def test_the_rest_of_a_wait_is_slept_and_not_polled_away() -> None:
    """A wait of less than the client's millisecond returns at once: asked again and again it takes a whole core."""
    intake, consumer, _settled = scripted(Record(0))
    assert intake.collect(10, 0.05) is not None
    assert len(consumer.polled) < 10


def test_a_long_linger_ends_with_a_rebalance() -> None:
    intake, consumer, settled = scripted(Record(0), moves_on)
    consumer.assigned = [TopicPartition("t", 0)]
    assert intake.collect(10, 60.0) is None
    assert settled == [False]


def test_an_assignment_that_comes_while_it_closes_ends_it_well(
    kafka: Broker, unique: Unique, make_topic: MakeTopic
) -> None:
    """A worker that is told to stop while the group assigns: a closing consumer raises `_DESTROY` then."""
    group, topic = unique("closing"), make_topic("closing", partitions=2)
    settings, log = KafkaSettings(bootstrap=kafka.bootstrap), ListLog()
    member = client.consumer(settings, **{"group.id": group, "group.instance.id": "test-0", **MEMBER})
    lookup = StartingOffsets(client.consumer(settings, **{"group.id": group}), log)
    intake = GroupConsumer(member, lookup, lambda _lost: None, log, "test-0")
    intake.subscribe([topic])
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def stable() -> bool:
        with suppress(KafkaException):  # the broker has not found the group's place yet
            return bool(admin.describe_consumer_groups([group])[group].result(60).state == ConsumerGroupState.STABLE)
        return False

    await_true(stable, "the group has assigned, which nobody has polled for", 30.0)
    intake.close()
    committed = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    found = committed.committed([TopicPartition(topic, n) for n in range(2)], timeout=60)
    committed.close()
    assert [one.offset for one in found] == [OFFSET_INVALID] * 2


def test_a_backlog_of_one_partition_is_answered_at_once() -> None:
    """A broker that is asked for more than it may send of a partition waits in vain for the rest."""
    assert MEMBER["fetch.min.bytes"] < MEMBER["max.partition.fetch.bytes"]


def test_events_that_come_one_by_one_are_fetched_in_rounds(
    kafka: Broker, unique: Unique, make_topic: MakeTopic
) -> None:
    """A request for each would take more of worker and broker than scoring does (docs/decisions/0067)."""
    topic, told = make_topic("rounds"), list[dict[str, Any]]()
    pace = {name: MEMBER[name] for name in ("fetch.min.bytes", "fetch.wait.max.ms")}
    looking = {"stats_cb": lambda text: told.append(json.loads(text)), "statistics.interval.ms": 100}
    settings = KafkaSettings(bootstrap=kafka.bootstrap)
    consumer = client.consumer(settings, **{"group.id": unique("rounds")}, **pace, **looking)

    def read(count: int) -> None:
        for _ in range(count):
            message = consumer.poll(20.0)
            assert message is not None and message.error() is None

    def fetches() -> int:
        """What was asked for until now, in the next report."""
        known = len(told)
        await_true(lambda: consumer.poll(0) is None and len(told) > known + 1, "statistics")
        return sum(one["req"].get("Fetch", 0) for one in told[-1]["brokers"].values())

    consumer.assign([TopicPartition(topic, 0, 0)])
    produce(kafka.bootstrap, topic, [b"first"])
    read(1)
    before, began = fetches(), time.monotonic()
    producer = client.producer(settings, {}, **{"linger.ms": 0})
    for number in range(1_000):
        producer.produce(topic, b"%d" % number, partition=0)
        producer.flush(20.0)
    read(1_000)
    after, took_s = fetches(), time.monotonic() - began
    consumer.close()
    assert after - before <= 20 + took_s * 1_000 / MEMBER["fetch.wait.max.ms"]
    assert after > before
