"""A deadline: what is left shrinks with the clock, never below nothing."""

import pytest

from muse_stream.kafka.deadline import Deadline
from tests.worker.doubles import Clock


def test_the_last_try_is_told_and_nothing_is_slept_beyond_the_budget() -> None:
    clock, slept = Clock(), list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds

    start = clock.now
    assert list(Deadline(1.0, clock).tries(0.4, sleep)) == [False, False, False, True]
    assert clock.now - start == pytest.approx(1.0)
    assert slept == pytest.approx([0.4, 0.4, 0.2])
    assert list(Deadline(0.0, clock).tries(0.4, sleep)) == [True], "once, even without a budget"


def test_shares_one_budget() -> None:
    clock = Clock()
    deadline = Deadline(2.0, clock)
    assert (deadline.left_s, deadline.over) == (2.0, False)
    clock.now += 1.5
    assert (deadline.left_s, deadline.over) == (0.5, False)
    clock.now += 0.5
    assert (deadline.left_s, deadline.over) == (0.0, True)
    clock.now += 100
    assert (deadline.left_s, deadline.over) == (0.0, True)
