"""A deadline: what is left shrinks with the clock, never below nothing."""

from muse_stream.kafka.deadline import Deadline
from tests.worker.doubles import Clock


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
