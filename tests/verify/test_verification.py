"""The independent reader counts right on real topics, and finds every fault that is planted."""

import time
from collections.abc import Callable
from contextlib import closing

import numpy as np
import pytest
from confluent_kafka import TopicPartition

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Retriable
from muse_stream.kafka import client, topic_reader
from muse_stream.kafka.topic_reader import bounds, reader
from muse_stream.verify.compare import SeenAnswers, SeenEvents, judge
from tests.verify.world import World, found


def test_every_event_answered_once_is_no_finding(world: World) -> None:
    world.answered(300)
    world.answered(200, partition=1)
    world.letter(world.event("!broken", 1), 1)
    report = world.verify()
    assert report.ok, report
    assert (report.events, report.scores, report.dead_letters) == (501, 500, 1)
    assert report.notes == ()


def test_topics_without_records_are_no_finding(world: World) -> None:
    report = world.verify()
    assert report.ok
    assert report.events == 0


def test_missing_answer(world: World) -> None:
    world.answered(5)
    world.event("e5")
    world.event("e6", 1)
    report = world.verify()
    assert found(report) == {"missing": 2}
    assert set(report.findings[0].examples) == {f"{world.events}[0]@5", f"{world.events}[1]@0"}


def test_duplicated_score_and_dead_letter(world: World) -> None:
    world.answered(5)
    world.score("e2", 2)
    world.score("e2", 2)
    bad = world.event("!")
    world.letter(bad)
    world.letter(bad)
    assert found(world.verify()) == {"duplicated": 3}


def test_duplicate_in_another_output_partition_is_seen(world: World) -> None:
    world.answered(3)
    world.producer.produce(world.scores, f"e1|acme|{world.events}|0|1".encode(), partition=1)
    assert found(world.verify()) == {"duplicated": 1}


def test_score_and_dead_letter_for_one_event(world: World) -> None:
    world.answered(4)
    world.letter(3)
    report = world.verify()
    assert found(report) == {"both": 1}
    assert report.findings[0].examples == (f"{world.events}[0]@3",)


def test_out_of_order_within_an_output_partition(world: World) -> None:
    for number in range(6):
        world.event(f"e{number}")
    for number in (0, 1, 4, 2, 3, 5):
        world.score(f"e{number}", number)
    report = world.verify()
    assert found(report) == {"out_of_order": 2}
    assert report.findings[0].examples == (f"{world.events}[0]@2", f"{world.events}[0]@3")


def test_order_is_not_asked_between_source_partitions_or_scores_and_letters(world: World) -> None:
    for number in range(4):
        world.event(f"e{number}", 0)
        world.event(f"f{number}", 1)
    for number in range(3):
        world.producer.produce(world.scores, f"f{number}|acme|{world.events}|1|{number}".encode(), partition=0)
    for number in range(1, 4):
        world.producer.produce(world.scores, f"e{number}|acme|{world.events}|0|{number}".encode(), partition=0)
    world.letter(0)
    world.letter(3, 1)
    assert world.verify().ok


def test_foreign_tenant_and_foreign_source(world: World) -> None:
    world.answered(3)
    world.score("x", 0, tenant="globex", topic="events-of-globex")
    world.score("x", 0, tenant="acme", topic="events-of-globex")
    world.letter(0, topic="events-of-globex")
    assert found(world.verify()) == {"foreign": 3}


def test_tenants_of_a_shared_topic_are_told_apart(world: World) -> None:
    for number, tenant in enumerate(("acme", "initech", "acme")):
        world.event(f"e{number}|{tenant}")
    world.score("e0", 0, tenant="acme")
    world.score("e1", 1, tenant="acme")
    world.score("e2", 2, tenant="acme")
    assert found(world.verify(tenants=("acme", "initech"))) == {"foreign": 1}


def test_answer_to_another_event_and_to_none(world: World) -> None:
    world.answered(3)
    world.event("e3")
    world.score("e1", 3)
    world.score("e9", 9)
    report = world.verify()
    assert found(report) == {"mismatched": 1}, "an offset beyond the end may have been written since"
    world.producer.produce(world.events, b"e4", partition=1)
    world.score("e4", 0, 1)
    world.score("ghost", 5, 1)
    assert found(world.verify()) == {"mismatched": 1}


def test_undecodable_records_of_outputs(world: World) -> None:
    world.answered(2)
    world.producer.produce(world.scores, b"!", partition=0)
    world.producer.produce(world.dead, b"letter without provenance")
    assert found(world.verify()) == {"undecodable": 2}


def test_aborted_records_count_for_nothing_and_gaps_are_no_loss(world: World) -> None:
    transactional = world.make_transactional()
    offset = 0
    for abort in (True, False, True, False, True):
        transactional.begin_transaction()
        for number in range(3):
            transactional.produce(world.events, f"e{offset + number}".encode(), partition=0)
        assert transactional.flush(60) == 0
        if abort:
            transactional.abort_transaction(60)
        else:
            transactional.commit_transaction(60)
            for number in range(3):
                world.score(f"e{offset + number}", offset + number)
        offset += 4  # three records and a marker
    transactional.begin_transaction()
    transactional.produce(world.scores, f"e4|acme|{world.events}|0|4".encode(), partition=0)
    assert transactional.flush(60) == 0
    transactional.abort_transaction(60)
    report = world.verify()
    assert report.ok, report
    assert report.events == 6


def test_answer_to_an_aborted_event_is_orphaned(world: World) -> None:
    transactional = world.make_transactional()
    transactional.begin_transaction()
    transactional.produce(world.events, b"never", partition=0)
    assert transactional.flush(60) == 0
    transactional.abort_transaction(60)
    world.marker_written(end=2)
    world.sent[0] = 2
    world.score("never", 0)
    world.answered(1)
    assert found(world.verify()) == {"orphaned": 1}


def test_open_transaction_is_waited_for_and_then_said(world: World) -> None:
    world.answered(3)
    last = world.event("late")
    assert world.producer.flush(60) == 0
    transactional = world.make_transactional()
    transactional.begin_transaction()
    transactional.produce(world.scores, f"late|acme|{world.events}|0|{last}".encode(), partition=0)
    assert transactional.flush(60) == 0
    report = world.verify(settle_s=0.3)
    assert found(report) == {"missing": 1, "hanging": 1}
    (note,) = [note for note in report.notes if "a transaction is still open" in note]
    assert f"abort --topic {world.scores} --partition 0 --start-offset" in note
    transactional.commit_transaction(60)
    assert world.verify().ok


def test_offsets_hidden_by_an_open_transaction_are_a_finding(
    world: World, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is judged below the offset that was committed before; what lies beyond is no finding."""
    monkeypatch.setattr(topic_reader, "SINGLE_S", 2.0)  # an answer that comes later counts as hidden
    group = unique("group")
    world.answered(10)
    member = client.consumer(world.settings, **{"group.id": group})
    member.commit(offsets=[TopicPartition(world.events, 0, 6)], asynchronous=False)
    transactional = world.make_transactional()
    transactional.begin_transaction()
    metadata = member.consumer_group_metadata()
    transactional.send_offsets_to_transaction([TopicPartition(world.events, 0, 10)], metadata, 60)
    report = world.verify(group=group, settle_s=0.3)
    assert found(report) == {"hanging": 1}
    assert report.findings[0].examples == (f"group {group}, offset of {world.events}[0]",)
    assert report.events == 6
    transactional.commit_transaction(60)
    member.close()
    assert world.verify(group=group).ok


def test_only_committed_events_are_judged_while_workers_run(world: World, unique: Callable[[str], str]) -> None:
    group = unique("group")
    world.answered(10)
    world.event("e10")
    world.event("f0", 1)
    assert world.producer.flush(60) == 0
    member = client.consumer(world.settings, **{"group.id": group})
    member.commit(offsets=[TopicPartition(world.events, 0, 10)], asynchronous=False)
    report = world.verify(group=group)
    assert report.ok, report
    assert report.events == 10
    member.commit(offsets=[TopicPartition(world.events, 0, 9)], asynchronous=False)
    member.close()
    assert found(world.verify(group=group)) == {"ahead": 1}


def test_topic_that_does_not_exist_is_said(world: World) -> None:
    world.dead = world.dead + "-absent"
    world.answered(1)
    assert f"{world.dead} does not exist" in world.verify().notes


@pytest.mark.long  # the tests above judge a few
def test_million_events_take_seconds_not_minutes_to_judge() -> None:
    """The counting alone, without Kafka: 1.2 M events in 6 partitions."""
    size, partitions = 200_000, 6
    ids = np.char.add(b"transaction-", np.arange(size).astype("S12"))
    events = {p: SeenEvents(0, size, np.arange(size, dtype=np.int64), ids) for p in range(partitions)}
    each = np.arange(size, dtype=np.int64)
    answers = SeenAnswers(
        np.repeat(np.arange(partitions, dtype=np.int32), size),
        np.tile(each, partitions),
        np.zeros(size * partitions, dtype=bool),
        np.zeros(size * partitions, dtype=np.int32),
        np.repeat(np.arange(partitions, dtype=np.int32), size),
        np.tile(each, partitions),
        np.tile(ids, partitions),
        np.zeros(size * partitions, dtype=np.int32),
        np.zeros(size * partitions, dtype=np.int64),
        np.full(size * partitions, -1, dtype=np.int64),
    )
    before = time.process_time()
    tally = judge("events", events, answers)
    assert tally.findings() == ()
    assert time.process_time() - before < 10


def test_broker_that_does_not_answer_may_be_asked_again() -> None:
    lone = reader(KafkaSettings(bootstrap="localhost:1"))
    with closing(lone), pytest.raises(Retriable, match="Kafka does not answer"):
        bounds(lone, "any", timeout_s=0.3)
