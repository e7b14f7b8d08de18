"""What fails again and again for no record's sake is tried less and less often (on a broker: test_broken_broker.py)."""

from muse_stream.errors import Abortable
from muse_stream.worker.pace import FREE, LONGEST_REST_S, Pace
from tests.worker.doubles import Clock, ListLog


def test_the_first_failures_are_free_and_rests_grow() -> None:
    log, clock = ListLog(), Clock()
    pace = Pace(log, clock)
    for _ in range(FREE):
        pace.failed(Abortable("no coordinator"))
        assert (pace.review(), pace.held_back) == (False, False)
    pace.failed(Abortable("no coordinator"))
    assert (pace.review(), pace.held_back) == (True, True)
    clock.now += 0.5
    assert (pace.review(), pace.held_back) == (True, False)
    for _ in range(10):
        pace.failed(Abortable("no coordinator"))
    rests = [one["seconds"] for one in log.said("backing_off")]
    assert rests[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, LONGEST_REST_S] and rests[-1] == LONGEST_REST_S
