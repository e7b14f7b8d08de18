"""Interpolation: exact at knots, monotone to the last bit, and blind to company."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.calibration.piecewise_linear import MANY_CURVES, Curves, Segments, interpolate, tail_levels

units = st.floats(0.0, 1.0)
curves = st.lists(st.tuples(units, units), min_size=1, max_size=20, unique_by=lambda knot: knot[0]).map(
    lambda knots: (np.array(sorted(x for x, _ in knots)), np.array(sorted(y for _, y in knots)))
)


@given(curves, st.lists(st.floats(-0.5, 1.5), min_size=1))
def test_monotone_bounded_and_exact_at_knots(curve: tuple[np.ndarray, np.ndarray], asked: list[float]) -> None:
    x, y = curve
    answers = interpolate(np.sort([*asked, *x]), x, y)
    assert (np.diff(answers) >= 0.0).all()
    assert answers.min() >= y[0]
    assert answers.max() <= y[-1]
    assert interpolate(x, x, y).tolist() == y.tolist()


@given(st.lists(curves, min_size=1, max_size=5), st.integers(0, 40), st.integers(0, 1000))
def test_many_curves_at_once_give_the_bits_of_each_alone(
    several: list[tuple[np.ndarray, np.ndarray]], rows: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    which, values = rng.integers(0, len(several), rows), rng.random(rows)
    segments = Segments(several)
    alone = [segments.one(int(curve), values[row : row + 1])[0] for row, curve in enumerate(which)]
    assert segments.each(which, values).tolist() == alone


@given(st.integers(MANY_CURVES + 1, 3 * MANY_CURVES), st.integers(0, 1000))
def test_curves_looked_up_side_by_side_give_the_bits_of_each_alone(count: int, seed: int) -> None:
    """Few values of many curves: at a knot, beside the curve, and NaN."""
    rng = np.random.default_rng(seed)
    several = [(np.unique(rng.random(size)), np.zeros(size)) for size in rng.integers(1, 70, count)]
    several = [(x, np.sort(rng.random(len(x)))) for x, _ in several]
    which = np.concatenate([np.arange(count), rng.integers(0, count, 2 * count)])
    beside = [several[curve][0][rng.integers(len(several[curve][0]))] for curve in which]
    values = np.choose(rng.integers(0, 6, len(which)), [rng.random(len(which)), beside, -0.5, 1.5, np.nan, 0.0])
    segments = Segments(several)
    alone = [segments.one(int(curve), values[row : row + 1])[0] for row, curve in enumerate(which)]
    assert segments.each(which, values).tobytes() == np.array(alone).tobytes()


def test_equal_curves_of_many_users_are_one() -> None:
    book, rng = Curves(), np.random.default_rng(0)
    first, second = ((np.unique(rng.random(9)), np.sort(rng.random(9))) for _ in range(2))
    numbers = [book.add(*curve) for curve in (first, second, first, second)]
    assert numbers[0] == numbers[2] != numbers[1] == numbers[3]
    asked = rng.random(50)
    for number, (x, y) in zip(numbers, (first, second), strict=False):
        assert book.segments.one(number, asked).tobytes() == interpolate(asked, x, y).tobytes()
    with pytest.raises(ValueError, match="complete"):
        book.add(*first)


def test_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    x, y = np.unique(rng.random(300)), np.sort(rng.random(300))
    asked = rng.random(5000)
    assert np.allclose(interpolate(asked, x, y), np.interp(asked, x, y), rtol=0.0, atol=1e-15)


def test_tail_levels_are_dense_where_rare_alerts_live() -> None:
    levels = tail_levels(smallest=1e-6)
    assert levels[0] == 0.0
    assert levels[-1] == 1.0
    assert ((levels > 0.999) & (levels < 1.0)).sum() > 30
    assert len(levels) < 400
