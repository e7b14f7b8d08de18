"""Aggregations: their definitions, their bounds, and the same bits in any batch."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.scoring.aggregation import combiner

units = st.floats(0.0, 1.0)
HOWS = ["mean", "logit_mean", "max", "min", "median"]
rows_of_experts = st.integers(1, 5).flatmap(
    lambda experts: st.lists(st.tuples(*[units] * experts), min_size=1, max_size=30)
)


@pytest.mark.parametrize("how", HOWS)
@given(rows=rows_of_experts, seed=st.integers(0, 99))
def test_bounded_by_the_experts_and_blind_to_company(how: str, rows: list[tuple[float, ...]], seed: int) -> None:
    parts = [np.array(column) for column in zip(*rows, strict=True)]
    weights = np.random.default_rng(seed).integers(1, 9, len(parts)).tolist()
    combine = combiner(how, weights if "mean" in how else None, len(parts))
    together = combine(parts)
    assert (together >= 0.0).all()
    assert (together <= 1.0).all()
    stacked = np.array(parts)
    assert (together >= stacked.min(axis=0) - 1e-12).all()
    assert (together <= stacked.max(axis=0) + 1e-12).all()
    for row in range(len(rows)):
        assert combine([part[row : row + 1] for part in parts]).tobytes() == together[row : row + 1].tobytes()


@given(st.tuples(units, units, units), st.tuples(*[st.integers(1, 9)] * 3))
def test_mean_is_the_weighted_mean(row: tuple[float, ...], weights: tuple[int, ...]) -> None:
    expected = math.fsum(w * p for w, p in zip(weights, row, strict=True)) / sum(weights)
    assert combiner("mean", weights, 3)([np.array([p]) for p in row])[0] == pytest.approx(expected, abs=1e-15)


@given(st.lists(units, min_size=1, max_size=6))
def test_median_highest_and_lowest(row: list[float]) -> None:
    parts = [np.array([p]) for p in row]
    assert combiner("median", None, len(row))(parts)[0] == pytest.approx(statistics.median(row), abs=1e-15)
    assert combiner("max", None, len(row))(parts)[0] == max(row)
    assert combiner("min", None, len(row))(parts)[0] == min(row)


def test_logit_mean_is_the_geometric_mean_of_odds_and_no_expert_has_a_veto() -> None:
    combine = combiner("logit_mean", None, 2)
    odds = math.sqrt((0.1 / 0.9) * (0.6 / 0.4))
    assert combine([np.array([0.1]), np.array([0.6])])[0] == pytest.approx(odds / (1 + odds))
    assert combine([np.array([0.0]), np.array([1.0])])[0] == pytest.approx(0.5)


@pytest.mark.parametrize("how", HOWS)
def test_an_expert_without_an_answer_leaves_none(how: str) -> None:
    combined = combiner(how, None, 3)([np.array([0.1, 0.2]), np.array([np.nan, 0.4]), np.array([0.5, 0.6])])
    assert np.isnan(combined).tolist() == [True, False]


def test_inputs_are_left_alone() -> None:
    for how in HOWS:
        parts = [np.array([0.2, 0.8]), np.array([0.6, 0.1])]
        combiner(how, None, 2)(parts)
        assert [part.tolist() for part in parts] == [[0.2, 0.8], [0.6, 0.1]]
