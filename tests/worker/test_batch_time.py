"""A batch holds what is scored in the time that others may be made to wait."""

from hypothesis import given
from hypothesis import strategies as st

from muse_stream.worker.batch_time import LEAST, TARGET_S, BatchTime


def after(*batches: tuple[int, float], transaction_s: float = 0.0) -> float:
    """What the next batch may hold after batches of so many events that took so long."""
    time = BatchTime()
    for events, seconds in batches:
        time.scored(events, seconds)
        most = time.most(transaction_s)
    return most


def test_before_anything_is_known_only_the_configuration_limits_a_batch() -> None:
    assert BatchTime().most(0.0) == float("inf")


def test_a_batch_holds_what_is_scored_in_the_target() -> None:
    assert after((10_000, 2 * TARGET_S)) == 5_000
    assert after((10_000, TARGET_S / 2)) == 20_000


def test_where_transactions_take_longer_batches_may_too() -> None:
    assert after((10_000, 0.1), transaction_s=4 * TARGET_S) == 10_000


def test_one_slow_batch_makes_the_next_half_as_large_at_most_and_is_forgotten() -> None:
    steady = (5_000, TARGET_S)
    assert after(steady, (5_000, 20 * TARGET_S)) == 2_500
    assert after(steady, (5_000, 20 * TARGET_S), (2_500, TARGET_S / 2)) == 5_000


def test_what_took_no_batch_changes_nothing() -> None:
    time = BatchTime()
    time.scored(1_000, TARGET_S)
    assert [time.most(0.0), time.most(0.0), time.most(10.0)] == [1_000] * 3


@given(st.floats(1e-7, 1e-2), st.floats(1e-4, 5e-3), st.integers(1, 50))
def test_after_single_events_a_burst_gets_full_batches_soon(per_event_s: float, once_s: float, singles: int) -> None:
    """What a batch costs once makes single events look dear; that must not keep a burst in small batches."""
    time, steady = BatchTime(), (TARGET_S - once_s) / per_event_s
    for _ in range(singles):
        time.scored(1, once_s + per_event_s)
        most = time.most(0.0)
    for _ in range(8):
        events = int(most)
        time.scored(events, once_s + events * per_event_s)
        most = time.most(0.0)
    assert most >= max(0.8 * min(steady, 1e5), LEAST)
    assert most * per_event_s <= max(1.2 * TARGET_S, LEAST * per_event_s)
