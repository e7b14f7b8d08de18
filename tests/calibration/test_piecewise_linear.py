"""Interpolation: exact at knots, monotone to the last bit, and blind to company."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.calibration.piecewise_linear import Segments, interpolate, tail_levels

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
