"""Level 1: the formula, its limits, and its order in floating point."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_stream import posterior_correction

probabilities = st.floats(0.0, 1.0)
betas = st.floats(1e-6, 1e6)


@given(probabilities, betas)
def test_is_the_published_formula(p: float, beta: float) -> None:
    published = beta * p / (1.0 - (1.0 - beta) * p)
    assert posterior_correction(p, beta) == pytest.approx(published, rel=1e-9, abs=1e-300)


@given(st.lists(probabilities, min_size=2), betas)
def test_keeps_order_and_bounds_exactly(p: list[float], beta: float) -> None:
    corrected = posterior_correction(np.sort(p), beta)
    assert (np.diff(corrected) >= 0.0).all()
    assert (corrected >= 0.0).all()
    assert (corrected <= 1.0).all()


@given(st.floats(1e-6, 1.0 - 1e-6), st.floats(1e-3, 0.9), st.floats(1e-3, 0.9))
def test_moves_a_probability_to_another_share_of_positives(likelihood: float, trained: float, served: float) -> None:
    # Bayes: the same evidence under another share of positives; above 1 where they are more frequent than in training
    def posterior(share: float) -> float:
        return likelihood * share / (likelihood * share + (1.0 - likelihood) * (1.0 - share))

    beta = (served / (1.0 - served)) / (trained / (1.0 - trained))
    assert posterior_correction(posterior(trained), beta) == pytest.approx(posterior(served), rel=1e-9)


@given(st.floats(1e-9, 1.0), st.floats(1e-6, 1.0))
def test_undoes_undersampling(p: float, beta: float) -> None:
    # keeping a share beta of the negatives turns odds o into o / beta
    seen = p / (p + beta * (1.0 - p))
    assert posterior_correction(seen, beta) == pytest.approx(p, rel=1e-6)


@given(st.lists(probabilities))
def test_beta_one_is_the_identity_and_a_copy(p: list[float]) -> None:
    original = np.array(p)
    corrected = posterior_correction(original, 1.0)
    assert corrected.tolist() == p
    assert corrected is not original


@pytest.mark.parametrize("beta", [0.0, -0.1, float("nan"), float("inf")])
def test_refuses_beta_outside_its_range(beta: float) -> None:
    with pytest.raises(ValueError, match="finite and above 0"):
        posterior_correction(0.5, beta)


@pytest.mark.parametrize("p", [-1e-9, 1.1, float("inf")])
def test_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        posterior_correction([0.5, p], 0.5)


def test_nan_stays_nan_and_shape_stays() -> None:
    corrected = posterior_correction([[0.0, np.nan], [1.0, 0.5]], 0.1)
    assert corrected.shape == (2, 2)
    assert np.isnan(corrected[0, 1])
    assert corrected[0, 0] == 0.0
    assert corrected[1, 0] == 1.0
