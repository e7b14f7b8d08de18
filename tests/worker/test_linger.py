"""The adaptive linger: between its bounds, at the floor while all is cheap, following costs above it."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.worker.linger import ECONOMIC_S, LONGEST_GAP_S, WORTH, AdaptiveLinger

COST = st.floats(0, 10, allow_nan=False)


def free() -> float:
    """A clock of a processor that nothing takes time of."""
    return 0.0


def steady(cpu_s: float, events: int, gap_s: float, floor_s: float = 0.005, batches: int = 300) -> AdaptiveLinger:
    """Return the linger after many batches of so many events that took so long of a processor."""
    at, used = count(), count()
    linger = AdaptiveLinger(floor_s, clock=lambda: next(at) * gap_s, cpu=lambda: next(used) * cpu_s)
    for _ in range(batches):
        linger.observe(0.001, events)
    return linger


@given(st.lists(COST), st.floats(0, 0.2), st.floats(0.01, 1))
def test_stays_between_floor_and_ceiling(costs: list[float], floor: float, weight: float) -> None:
    linger = AdaptiveLinger(floor, 0.25, weight, cpu=free)
    for cost in costs:
        linger.observe(cost)
        assert floor <= linger.seconds <= 0.25


@given(st.lists(st.floats(0, 0.005)))
def test_cheap_transactions_leave_it_at_the_floor(costs: list[float]) -> None:
    linger = AdaptiveLinger(0.005, cpu=free)
    for cost in costs:
        linger.observe(cost)
    assert linger.seconds == pytest.approx(0.005)


@given(st.floats(0.006, 0.2), st.lists(st.floats(0, 0.25), max_size=20))
def test_settles_at_a_steady_cost_whatever_was_before(cost: float, before: list[float]) -> None:
    linger = AdaptiveLinger(0.005, cpu=free)
    for earlier in before:
        linger.observe(earlier)
    for _ in range(80):
        linger.observe(cost)
    assert linger.seconds == pytest.approx(cost, rel=1e-3)


@given(COST, COST)
def test_dearer_never_means_shorter(one: float, other: float) -> None:
    low, high = AdaptiveLinger(0.005, cpu=free), AdaptiveLinger(0.005, cpu=free)
    low.observe(min(one, other))
    high.observe(max(one, other))
    assert low.seconds <= high.seconds


@pytest.mark.parametrize(("floor", "ceiling", "weight"), [(-0.1, 1, 0.2), (0, -1, 0.2), (0, 1, 0), (0, 1, 1.1)])
def test_refuses_senseless_bounds(floor: float, ceiling: float, weight: float) -> None:
    with pytest.raises(ValueError, match="floor_s"):
        AdaptiveLinger(floor, ceiling, weight)


@pytest.mark.parametrize("floor", [0.3, 10.0])
def test_a_floor_above_the_ceiling_is_what_was_asked_for(floor: float) -> None:
    """A document may say `linger_ms: 10000`."""
    linger = AdaptiveLinger(floor)
    linger.observe(1.0)
    assert linger.seconds == floor


@given(st.floats(0.006, 0.2), st.floats(0, 0.005), st.floats(0.2, 10))
def test_a_new_floor_holds_at_once_and_the_known_cost_stays(cost: float, lower: float, higher: float) -> None:
    linger = AdaptiveLinger(0.005, cpu=free)
    for _ in range(80):
        linger.observe(cost)
    linger.floor(higher)
    assert linger.seconds == higher
    linger.floor(lower)
    assert linger.seconds == pytest.approx(cost, rel=1e-3)


@given(st.floats(0.0005, 0.02), st.integers(1, 50), st.floats(0.001, LONGEST_GAP_S))
def test_batches_are_as_rare_as_what_they_cost_is_worth(cpu_s: float, events: int, gap_s: float) -> None:
    """What a batch costs in CPU and what its events wait for are least together: neither neighbour is better."""
    at_s = steady(cpu_s, events, gap_s).seconds

    def together(linger_s: float) -> float:
        return cpu_s / linger_s + WORTH * events / gap_s * linger_s / 2

    assert 0.005 <= at_s <= ECONOMIC_S
    if at_s > 0.005 * 1.01:
        assert together(at_s) <= together(at_s * 0.97) * 1.0001
    if at_s < ECONOMIC_S * 0.99:
        assert together(at_s) <= together(at_s * 1.03) * 1.0001


def test_at_low_rates_it_spares_and_at_high_ones_not() -> None:
    lone, some, many = steady(0.0015, 1, 0.01), steady(0.0015, 5, 0.005), steady(0.0015, 50, 0.01)
    assert lone.seconds > 0.012
    assert lone.seconds > some.seconds
    assert many.seconds == 0.005


def test_a_floor_of_zero_asks_for_the_least_latency() -> None:
    assert steady(0.01, 1, 0.01, floor_s=0.0).seconds == pytest.approx(0.001, rel=1e-3)


def test_neither_a_pause_nor_a_generation_that_is_compiled_is_taken_for_a_trend() -> None:
    at, used = iter([*(n * 0.01 for n in range(301)), 3600.0]), iter([*(n * 0.0015 for n in range(301)), 60.0])
    linger = AdaptiveLinger(0.005, clock=lambda: next(at), cpu=lambda: next(used))
    for _ in range(300):
        linger.observe(0.001, 10)
    before = linger.seconds
    linger.observe(0.001, 10)
    assert before <= linger.seconds < 1.5 * before
