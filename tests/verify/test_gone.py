"""What is no longer there: events removed unread, answers removed, topics deleted and created again, tenants moved."""

import time
from collections.abc import Callable

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.cimpl import NewPartitions

from muse_stream.kafka import client
from muse_stream.verify.span import Span
from tests.patience import until
from tests.verify.world import World, found

DAY_MS = 86_400_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def next_ms() -> int:
    """Return a moment that all that was sent lies before, and nothing that is sent from now on."""
    before = now_ms()
    until(lambda: now_ms() > before + 1, 1)
    return now_ms()


def wide_apart(world: World) -> int:
    """Wait until all that was sent is acknowledged and its moment is over."""
    assert world.producer.flush(60) == 0
    return next_ms()


def unanswered(world: World, count: int, partition: int = 0) -> None:
    for number in range(count):
        world.event(f"u{number}", partition)


def test_events_removed_unread_are_counted(world: World) -> None:
    """500 are removed, 200 of them had been answered."""
    world.answered(200)
    unanswered(world, 300)
    world.remove(world.events, 500)
    report = world.verify()
    assert found(report) == {"not_answerable": 300}
    assert report.findings[0].examples == (f"{world.events}[0]@200-499",)
    assert any("300 events were removed before they were answered" in note for note in report.notes)
    first = world.event("after")
    world.score("after", first)
    assert found(world.verify()) == {"not_answerable": 300}, "what goes on behind it is well"
    assert world.verify(span=Span(from_offset=500)).ok
    assert world.verify(span=Span(from_offset={0: 500})).ok
    assert found(world.verify(span=Span(from_offset={0: 400}))) == {"not_answerable": 100}


def test_events_removed_unread_are_counted_in_each_partition_though_nobody_answered_any(world: World) -> None:
    unanswered(world, 20)
    unanswered(world, 7, partition=1)
    world.remove(world.events, -1)
    world.remove(world.events, 5, partition=1)
    assert found(world.verify()) == {"missing": 2, "not_answerable": 25}


def test_events_removed_unread_are_counted_while_workers_run(world: World, unique: Callable[[str], str]) -> None:
    """The group stands at 20, the log begins at 50: what is between is lost whatever is committed."""
    group = unique("group")
    world.answered(20)
    unanswered(world, 40)
    world.remove(world.events, 50)
    member = client.consumer(world.settings, **{"group.id": group})
    member.commit(offsets=[TopicPartition(world.events, 0, 20)], asynchronous=False)
    member.close()
    assert found(world.verify(group=group)) == {"not_answerable": 30}


def test_answered_events_may_be_removed(world: World) -> None:
    world.answered(50)
    world.answered(30, partition=1)
    world.remove(world.events, 40)
    world.remove(world.events, -1, partition=1)
    report = world.verify()
    assert report.ok, report
    assert report.events == 10


def transactional_events(world: World, sizes: list[int], answered: int) -> None:
    """Send events in transactions, each with a marker behind it; the first of them are answered."""
    transactional, offset = world.make_transactional(), 0
    for size in sizes:
        transactional.begin_transaction()
        for number in range(offset, offset + size):
            transactional.produce(world.events, f"e{number}".encode(), partition=0)
        assert transactional.flush(60) == 0
        transactional.commit_transaction(60)
        for number in range(offset, min(offset + size, answered)):
            world.score(f"e{number}", number)
        offset += size + 1
    world.marker_written(end=offset)


@pytest.mark.parametrize("left", [0, 1], ids=["nothing left", "a transaction left"])
def test_markers_that_were_removed_are_no_events(world: World, left: int) -> None:
    transactional_events(world, [3, 4, 5], answered=99)
    world.remove(world.events, 15 - 6 * left)
    report = world.verify()
    assert report.ok, report


def test_what_was_removed_among_markers_is_an_upper_bound(world: World) -> None:
    transactional_events(world, [3, 4, 5, 2], answered=9)
    world.remove(world.events, 15)
    report = world.verify()
    assert found(report) == {"missing": 2, "not_answerable": 7}, "the events 9 to 13 and two markers"
    assert any("at most 7 events" in note for note in report.notes)


def test_answers_that_were_removed_are_not_asked_for(world: World) -> None:
    """Output topics may be kept for a shorter time than events."""
    world.answered(50)
    world.remove(world.scores, 30)
    report = world.verify()
    assert report.ok, report
    assert (report.unjudged, report.scores) == (30, 20)
    assert any("30 events without an answer are not judged" in note for note in report.notes)
    unanswered(world, 2)
    world.answered(5, partition=1)
    unanswered(world, 1, partition=1)
    assert found(world.verify()) == {"missing": 3}, "those behind the answers that are left, and in other partitions"


def test_dead_letters_that_were_removed_hide_no_later_loss(world: World) -> None:
    """All dead letters are gone; events that came after that are still asked for."""
    for _ in range(3):
        world.letter(world.event("!"))
    world.answered(4)
    world.remove(world.dead, -1)
    report = world.verify()
    assert (report.ok, report.unjudged) == (True, 3), report
    world.remove(world.events, 3)
    report = world.verify()
    assert report.ok, "an offset below the log's start may have had a letter that is gone"


def test_a_letter_that_is_left_tells_what_those_before_it_may_have_been(world: World) -> None:
    world.letter(world.event("!"))
    unanswered(world, 2)
    world.letter(world.event("!"))
    wide_apart(world)
    world.answered(2)
    unanswered(world, 1)
    world.remove(world.dead, 1)
    report = world.verify()
    assert (found(report), report.unjudged) == ({"missing": 1}, 3)


def test_a_compacted_scores_topic_is_not_asked_for_what_it_may_have_dropped(
    world: World, make_topic: Callable[..., str]
) -> None:
    world.scores = make_topic("compacted", partitions=2, **{"cleanup.policy": "compact"})
    for number in range(4):
        place = world.event(f"e{number}")
        if number in (1, 3):
            value = f"e{number}|acme|{world.events}|0|{place}".encode()
            world.producer.produce(world.scores, value, b"key", partition=0)
    unanswered(world, 1)
    report = world.verify()
    assert (found(report), report.unjudged) == ({"missing": 1}, 2)


def test_offsets_removed_from_a_compacted_event_topic_are_nobodys(world: World, make_topic: Callable[..., str]) -> None:
    world.events = make_topic("compacted", partitions=2, **{"cleanup.policy": "compact,delete"})
    for number in range(6):
        world.producer.produce(world.events, f"e{number}".encode(), b"key", partition=0)
    world.sent[0] = 6
    for number in (4, 5):
        world.score(f"e{number}", number)
    world.remove(world.events, 4)
    assert world.verify().ok


def test_a_topic_created_again_is_judged_by_itself(world: World) -> None:
    world.answered(30, prefix="old")
    world.answered(10, partition=1, prefix="old")
    world.letter(world.event("!"))
    wide_apart(world)
    world.recreate(world.events)
    world.answered(20, prefix="new")
    unanswered(world, 1)
    report = world.verify()
    assert found(report) == {"missing": 1}
    assert (report.scores, report.dead_letters, report.older_answers) == (20, 0, 41)
    assert any("deleted and created again" in note and str(report.topic_id) in note for note in report.notes)
    world.score("u0", 20)
    assert world.verify().ok


def test_a_topic_created_again_with_the_same_events_is_judged_by_itself(world: World) -> None:
    world.answered(30)
    wide_apart(world)
    world.recreate(world.events)
    world.answered(20)
    report = world.verify()
    assert report.ok, report
    assert (report.scores, report.older_answers) == (20, 30)


def test_a_topic_created_again_and_not_answered_yet(world: World) -> None:
    world.answered(30, prefix="old")
    wide_apart(world)
    world.recreate(world.events, partitions=1)
    unanswered(world, 5)
    report = world.verify()
    assert found(report) == {"missing": 5}
    assert report.older_answers == 30


def test_a_topic_created_twice_again(world: World) -> None:
    for prefix, count in (("a", 10), ("b", 12), ("c", 6)):
        world.answered(count, prefix=prefix)
        wide_apart(world)
        if prefix != "c":
            world.recreate(world.events)
    report = world.verify()
    assert (report.ok, report.scores, report.older_answers) == (True, 6, 22), report


def test_events_stamped_with_old_times_are_told_apart_by_their_ids_or_by_since(world: World) -> None:
    """Where producers stamp events with the time of the transaction, no stamp says when an event was sent."""
    old = now_ms() - 30 * DAY_MS
    world.answered(10, prefix="old", timestamp=old)
    world.recreate(world.events)
    world.answered(10, prefix="new", timestamp=old)
    report = world.verify()
    assert (report.ok, report.older_answers) == (True, 10), report
    moment = wide_apart(world)
    world.recreate(world.events)
    world.answered(10, prefix="new", timestamp=old)
    report = world.verify()
    assert found(report) == {"duplicated": 10}, "the same events with the same stamps: nothing tells them apart"
    assert any("--since TIME" in note for note in report.notes)
    assert world.verify(span=Span(since_ms=moment, from_offset=0)).ok
    report = world.verify(span=Span(since_ms=moment))
    assert any("--from-offset" in note for note in report.notes)


def test_doubled_answers_are_no_older_incarnation(world: World) -> None:
    """A worker that begins again at offset 0 answers the same events twice."""
    world.answered(30)
    wide_apart(world)
    for number in range(30):
        world.score(f"e{number}", number)
    report = world.verify()
    assert (found(report), report.older_answers) == ({"duplicated": 30}, 0)


def test_doubled_answers_are_found_where_producers_clocks_are_ahead(world: World) -> None:
    """One event before them that a right clock has stamped is enough."""
    unanswered(world, 1)
    world.answered(10, timestamp=now_ms() + 3_600_000)
    for number in range(10):
        world.score(f"e{number}", 1 + number)
    report = world.verify()
    assert found(report) == {"duplicated": 10, "missing": 1}, report


def test_answers_to_other_events_are_no_older_incarnation(world: World) -> None:
    """A worker that mixes up two events writes after both of them were sent."""
    for number in range(4):
        world.event(f"e{number}")
    wide_apart(world)
    for offset, number in enumerate((1, 0, 2, 3)):
        world.score(f"e{number}", offset)
    assert found(world.verify()) == {"mismatched": 2}


def test_since_leaves_out_what_was_before(world: World) -> None:
    unanswered(world, 5)
    world.answered(3, partition=1)
    world.score("e0", 0, 1)
    moment = wide_apart(world)
    world.answered(4)
    assert found(world.verify()) == {"missing": 5, "duplicated": 1}
    report = world.verify(span=Span(since_ms=moment))
    assert report.ok, report
    assert (report.events, report.judged_from) == (4, {0: 5, 1: 3})
    assert any("judged from these offsets on" in note for note in report.notes)


def test_an_answer_that_a_slow_clock_stamped_earlier_counts(world: World) -> None:
    """The worker's clock is a second behind: its answer is stamped before the event."""
    moment = wide_apart(world)
    offset = world.event("e")
    value = f"e|acme|{world.events}|0|{offset}".encode()
    world.producer.produce(world.scores, value, partition=0, timestamp=moment - 1_000)
    assert world.verify(span=Span(since_ms=moment)).ok


def test_log_append_time_topics(world: World, make_topic: Callable[..., str]) -> None:
    world.events = make_topic("appended", partitions=2, **{"message.timestamp.type": "LogAppendTime"})
    old = now_ms() - 30 * DAY_MS
    world.answered(10, timestamp=old)
    wide_apart(world)
    world.recreate(world.events, config={"message.timestamp.type": "LogAppendTime"})
    world.answered(10, timestamp=old)
    report = world.verify()
    assert (report.ok, report.older_answers) == (True, 10), report


def test_answers_to_a_topic_that_the_tenant_has_left(world: World) -> None:
    before, letter = f"{world.events}-before", world.letter
    world.answered(5)
    world.score("x", 7, topic=before)
    letter(8, topic=before)
    report = world.verify()
    assert report.ok, report
    assert report.moved_answers == 2
    assert any(f"they answer {before}, which is no tenant's event topic now" in note for note in report.notes)


def test_scores_topic_created_again(world: World) -> None:
    world.answered(5)
    world.recreate(world.scores)
    for number in range(3):
        world.score(f"f{number}", world.event(f"f{number}"))
    report = world.verify()
    assert found(report) == {"missing": 5}
    assert any("the scores topic may have been created again" in note for note in report.notes)
    assert world.verify(span=Span(from_offset=5)).ok


def test_partitions_added_to_both_topics(world: World) -> None:
    world.answered(5)
    assert world.producer.flush(60) == 0  # it is replaced below, and would take along what is not sent yet
    for topic in (world.events, world.scores):
        (grown,) = world.admin.create_partitions([NewPartitions(topic, 3)]).values()
        grown.result(timeout=60)
    world.producer = client.producer(world.settings)
    until(lambda: len(world.producer.list_topics(world.events, 10).topics[world.events].partitions) == 3, 60)
    until(lambda: len(world.producer.list_topics(world.scores, 10).topics[world.scores].partitions) == 3, 60)
    world.answered(4, partition=2)
    unanswered(world, 1, partition=2)
    assert found(world.verify()) == {"missing": 1}


def test_events_behind_an_open_transaction_of_their_producer_are_said(world: World) -> None:
    world.answered(3)
    assert world.producer.flush(60) == 0
    transactional = world.make_transactional()
    transactional.begin_transaction()
    transactional.produce(world.events, b"open", partition=0)
    assert transactional.flush(60) == 0
    report = world.verify()
    assert report.ok, report
    assert any(f"{world.events}[0]: from offset 3 on, events are not judged" in note for note in report.notes)
    transactional.abort_transaction(60)
