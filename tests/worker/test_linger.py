"""The adaptive linger: between its bounds, at the floor while transactions are cheap, following their cost above it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.worker.linger import AdaptiveLinger

COST = st.floats(0, 10, allow_nan=False)


@given(st.lists(COST), st.floats(0, 0.2), st.floats(0.01, 1))
def test_stays_between_floor_and_ceiling(costs: list[float], floor: float, weight: float) -> None:
    linger = AdaptiveLinger(floor, 0.25, weight)
    for cost in costs:
        linger.observe(cost)
        assert floor <= linger.seconds <= 0.25


@given(st.lists(st.floats(0, 0.005)))
def test_cheap_transactions_leave_it_at_the_floor(costs: list[float]) -> None:
    linger = AdaptiveLinger(0.005)
    for cost in costs:
        linger.observe(cost)
    assert linger.seconds == pytest.approx(0.005)


@given(st.floats(0.006, 0.2), st.lists(st.floats(0, 0.25), max_size=20))
def test_settles_at_a_steady_cost_whatever_was_before(cost: float, before: list[float]) -> None:
    linger = AdaptiveLinger(0.005)
    for earlier in before:
        linger.observe(earlier)
    for _ in range(80):
        linger.observe(cost)
    assert linger.seconds == pytest.approx(cost, rel=1e-3)


@given(COST, COST)
def test_dearer_never_means_shorter(one: float, other: float) -> None:
    low, high = AdaptiveLinger(0.005), AdaptiveLinger(0.005)
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
    linger = AdaptiveLinger(0.005)
    for _ in range(80):
        linger.observe(cost)
    linger.floor(higher)
    assert linger.seconds == higher
    linger.floor(lower)
    assert linger.seconds == pytest.approx(cost, rel=1e-3)
