"""Isolation: whatever record Kafka refuses is found alone, in few aborts, and the batch grows again."""

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.errors import Abortable, Reason, Rejected, Stage
from muse_stream.worker.batch import DeadLetter, Records, Topology
from muse_stream.worker.commit import Pending
from muse_stream.worker.isolate import Isolation, Refusing
from tests.worker.doubles import raw

LIVE = Topology({"events": frozenset({"scores", "dlq"})}, {"events": "dlq"})
SHADOW = Topology({"events": frozenset({"audit"})}, {"events": "dlq"})
TOO_LARGE = Abortable("scores: too large", topic="scores", code="MSG_SIZE_TOO_LARGE")


def pending(start: int, end: int) -> Pending:
    return Pending({("events", 0): start}, {("events", 0): end}, None, 1, end - start)


def hunt(records: int, culprits: set[int], limit: int) -> tuple[int, list[int]]:
    """Play a partition through; returns the aborts, and the records given up."""
    corner, position, aborts, given_up = Isolation(limit), 0, 0, list[int]()
    while position < records:
        end = min(position + corner.most, records)
        batch = raw([b"x"] * (end - position))
        batch.offsets[:] = range(position, end)
        answer = Records(list(range(end - position)), ["scores"] * (end - position), [b"a"] * (end - position))
        answered = corner.reject(batch, answer, LIVE)
        if any(batch.offsets[row] in culprits for row in answered.rows):
            aborts += 1
            assert aborts < 2_000, "no progress"
            assert corner.suspect(TOO_LARGE, pending(position, end), LIVE) == frozenset()
            continue
        assert len(answered.rows) + len(answered.dead) == len(batch)
        given_up += [batch.offsets[letter.rejected.row] for letter in answered.dead]
        corner.committed(pending(position, end))
        position = end
    assert not corner._rejected
    return aborts, given_up


@given(st.integers(1, 3_000), st.data())
def test_one_culprit_costs_about_log2_aborts(records: int, data: st.DataObject) -> None:
    culprit = data.draw(st.integers(0, records - 1))
    aborts, given_up = hunt(records, {culprit}, 1_000)
    assert given_up == [culprit]
    assert aborts <= ceil(log2(1_000)) + 2


@given(st.sets(st.integers(0, 299), max_size=12))
def test_several_are_all_found_and_nobody_else(culprits: set[int]) -> None:
    assert hunt(300, culprits, 256)[1] == sorted(culprits)


def test_grows_back_to_the_limit() -> None:
    corner = Isolation(64)
    corner.suspect(TOO_LARGE, pending(0, 64), LIVE)
    assert corner.most == 32
    corner.committed(pending(0, 32))
    assert corner.most == 32, "the other half is still suspect"
    corner.committed(pending(32, 64))
    assert corner.most == 64


def test_a_hunt_whose_partition_left_does_not_keep_batches_small() -> None:
    corner = Isolation(64)
    corner.suspect(TOO_LARGE, pending(0, 64), LIVE)
    corner.release()
    corner.committed(Pending({("events", 1): 0}, {("events", 1): 5}, None, 2, 5))
    assert corner.most == 64


def test_a_dead_letter_that_is_refused_too_makes_its_topic_wait() -> None:
    corner = Isolation(64)
    assert corner.suspect(TOO_LARGE, pending(5, 6), LIVE) == frozenset()
    assert corner.suspect(TOO_LARGE, pending(5, 6), LIVE) == {"events"}


def test_who_waits_for_a_larger_dead_letter_topic_does_not_keep_the_others_small() -> None:
    """Rejected, found again in a larger batch, alone once more: what is left of that search ends with it."""
    corner = Isolation(64)
    corner.suspect(TOO_LARGE, pending(0, 1), LIVE)
    corner.committed(Pending({("other", 0): 0}, {("other", 0): 1}, None, 2, 1))
    corner.suspect(TOO_LARGE, pending(0, 2), LIVE)
    assert corner.most == 1
    assert corner.suspect(TOO_LARGE, pending(0, 1), LIVE) == {"events"}
    for position in range(1, 7):
        corner.committed(Pending({("other", 0): position}, {("other", 0): position + 1}, None, 2, 1))
    assert corner.most == 64


def test_a_condemned_record_is_blamed_at_once_when_its_dead_letter_is_refused_again() -> None:
    """Its topic is tried again from time to time: that must not cost a search, which is many aborts, each time."""
    corner = Isolation(64)
    refused = Abortable("dlq: too large", topic="dlq", code="MSG_SIZE_TOO_LARGE")
    corner.suspect(refused, pending(5, 6), LIVE)
    corner.committed(Pending({("other", 0): 0}, {("other", 0): 9}, None, 2, 9))
    assert corner.suspect(refused, pending(0, 64), LIVE) == {"events"}
    assert corner.most == 64
    assert corner.suspect(refused, pending(6, 64), LIVE) == frozenset(), "the rejected record is not in this batch"


def test_a_topic_that_is_not_read_does_not_keep_batches_small() -> None:
    corner = Isolation(64)
    corner.suspect(TOO_LARGE, pending(0, 64), LIVE)
    corner.forget(frozenset({"events"}))
    corner.committed(Pending({("other", 0): 0}, {("other", 0): 1}, None, 2, 1))
    assert corner.most == 64


@pytest.mark.parametrize("code", ["UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "TOPIC_AUTHORIZATION_FAILED"])
def test_a_topic_fault_makes_all_wait_that_write_there(code: str) -> None:
    both = Topology({"a": frozenset({"scores"}), "b": frozenset({"scores", "dlq"}), "c": frozenset({"dlq"})}, {})
    corner = Isolation(64)
    assert corner.suspect(Abortable("no", topic="scores", code=code), pending(0, 64), both) == {"a", "b"}
    assert corner.most == 64


def test_a_record_that_was_given_up_is_tried_again_once_its_topic_is_to_blame() -> None:
    """Whoever made the topic large enough meanwhile wants answers, no dead letter of the one that was found first."""
    corner = Isolation(4)
    corner.suspect(TOO_LARGE, pending(100, 101), LIVE)
    assert corner.suspect(Refusing("most", topic="scores", code="MSG_SIZE_TOO_LARGE"), pending(100, 200), LIVE) == {
        "events"
    }
    after = corner.reject(raw([b"", b""]), Records([0, 1], ["scores"] * 2, [b"0", b"1"]), LIVE)
    assert (after.rows, after.dead) == ([0, 1], [])


def test_a_fault_of_the_system_blames_nobody() -> None:
    corner = Isolation(64)
    assert corner.suspect(Abortable("slow", code="_TIMED_OUT"), pending(0, 64), LIVE) == frozenset()
    assert corner.most == 64


def test_replaces_answer_and_earlier_letter_of_the_condemned_alone() -> None:
    corner = Isolation(4)
    corner.suspect(TOO_LARGE, pending(101, 102), LIVE)
    own = DeadLetter(Rejected(1, Reason.MISSING_ID, Stage.VALIDATE, ""), "dlq")
    other = DeadLetter(Rejected(2, Reason.MISSING_ID, Stage.VALIDATE, ""), "dlq")
    answer = Records([0, 1], ["scores"] * 2, [b"0", b"1"], dead=[own, other])
    after = corner.reject(raw([b"", b"", b""]), answer, LIVE)
    assert (after.rows, after.values) == ([0], [b"0"])
    assert [(letter.rejected.row, letter.rejected.reason) for letter in after.dead] == [
        (2, Reason.MISSING_ID),
        (1, Reason.OVERSIZE),
    ]


def test_a_role_without_dead_letters_leaves_the_condemned_out() -> None:
    corner = Isolation(4)
    corner.suspect(TOO_LARGE, pending(100, 101), SHADOW)
    after = corner.reject(raw([b"", b""]), Records([0, 1], ["audit"] * 2, [b"0", b"1"]), SHADOW)
    assert (after.rows, after.dead) == ([1], [])


@pytest.mark.parametrize("limit", [16, 64, 256])
def test_a_new_limit_holds_for_the_next_batch(limit: int) -> None:
    corner = Isolation(64)
    corner.limit(limit)
    assert corner.most == limit


@pytest.mark.parametrize(("limit", "then"), [(16, 16), (48, 32), (256, 32)])
def test_a_new_limit_leaves_a_hunt_under_way_alone(limit: int, then: int) -> None:
    """Only smaller than the limit it must be; the search goes on, and then the batch grows to the new limit."""
    corner = Isolation(64)
    corner.suspect(TOO_LARGE, pending(0, 64), LIVE)
    corner.limit(limit)
    assert corner.most == then
    corner.committed(pending(0, 32))
    assert corner.most == then, "the other half is still suspect"
    for position in range(32, 64, 4):
        corner.committed(pending(position, position + 4))
    for position in range(64, 100, 4):
        corner.committed(pending(position, position + 4))
    assert corner.most == limit
