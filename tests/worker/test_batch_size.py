"""Batches become as small as their transactions need, and as large again as they may be."""

from muse_stream.worker.batch_size import CAREFUL_S, CAREFULLY_S, TARGET_S, BatchSize
from tests.worker.doubles import Clock

NEVER = float("inf")


def test_a_batch_that_was_not_acknowledged_in_time_shrinks_to_what_is_acknowledged_in_the_target() -> None:
    size = BatchSize(10_000, Clock())
    size.late(10_000, acknowledged=0.25, took_s=5.0)
    assert size.most == 10_000 * 0.25 / 5.0 * TARGET_S
    assert size.reduced


def test_for_how_long_the_cluster_holds_us_back_counts() -> None:
    size = BatchSize(10_000, Clock())
    size.late(8_000, acknowledged=1.0, took_s=4.5 + 75.5)
    assert size.most == 100


def test_never_less_than_one_event() -> None:
    size = BatchSize(10, Clock())
    for _ in range(3):
        size.late(size.most, acknowledged=0.1, took_s=100.0)
    assert size.most == 1


def test_where_nothing_was_acknowledged_brokers_were_away_and_no_batch_was_too_large() -> None:
    size = BatchSize(10_000, Clock())
    size.late(10_000, acknowledged=0.0, took_s=5.0)
    assert size.most == 10_000


def test_a_slow_commit_makes_the_next_one_shorter() -> None:
    size = BatchSize(10_000, Clock())
    size.committed(4_000, cost_s=2 * TARGET_S, throttled_s_ago=NEVER)
    assert size.most == 2_000


def test_grows_at_once_where_no_quota_held_it_back() -> None:
    size = BatchSize(10_000, Clock())
    size.late(10_000, 0.1, 5.0)
    batches = 0
    while size.reduced:
        size.committed(size.most, cost_s=0.01, throttled_s_ago=NEVER)
        batches += 1
    assert (size.most, batches) == (10_000, 6)


def test_grows_slowly_after_a_quota_held_it_back() -> None:
    clock = Clock()
    size = BatchSize(10_000, clock)
    size.late(10_000, 0.1, 10.0)
    assert size.most == 100
    for _ in range(10):
        size.committed(100, cost_s=0.01, throttled_s_ago=1.0)
    assert size.most == 100, "a quota forgives a burst first"
    clock.now += CAREFULLY_S
    for _ in range(10):
        size.committed(size.most, cost_s=0.01, throttled_s_ago=1.0)
    assert size.most == 200
    size.committed(200, cost_s=0.01, throttled_s_ago=CAREFUL_S)
    assert size.most == 400


def test_a_batch_that_was_not_full_proves_nothing() -> None:
    size = BatchSize(10_000, Clock())
    size.late(10_000, 0.1, 5.0)
    size.committed(size.most // 3, cost_s=0.001, throttled_s_ago=NEVER)
    assert size.most == 200


def test_a_new_limit_holds_at_once_and_keeps_what_is_known() -> None:
    size = BatchSize(10_000, Clock())
    size.limit(500)
    assert (size.most, size.reduced) == (500, False)
    size.late(500, 0.5, 5.0)
    size.limit(20_000)
    assert (size.most, size.reduced) == (50, True)
