"""Recalibration and prior shift: monotone to the last bit, as right as scikit-learn, honest about assumptions."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from muse_stream.calibration import PriorEstimate, Recalibration, estimate_prior, posterior_correction, prior_beta
from muse_stream.calibration.recalibration import Method, beta_knots, beta_parameters, pooled_violators

METHODS: tuple[Method, ...] = ("isotonic", "beta")
labelled = st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=2, max_size=80)


def distorted(seed: int, events: int = 40_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, labels, and the probabilities that the labels were drawn with."""
    random = np.random.default_rng(seed)
    truth = random.beta(0.4, 4.0, events)
    return truth**0.6 / (truth**0.6 + (1 - truth) ** 0.9), random.random(events) < truth, truth


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 50)), min_size=1, max_size=60))
def test_pooled_violators_are_scikit_learns(points: list[tuple[float, int]]) -> None:
    rates, weights = (np.array(part, dtype=np.float64) for part in zip(*points, strict=True))
    levels, starts = pooled_violators(rates, weights)
    blocks = levels[np.searchsorted(starts, np.arange(len(rates)), side="right") - 1]
    expected = IsotonicRegression().fit(np.arange(len(rates)), rates, weights).predict(np.arange(len(rates)))
    assert np.allclose(blocks, expected, atol=1e-9)
    assert (np.diff(levels) > 0.0).all()


@pytest.mark.parametrize("method", METHODS)
@given(labelled, st.lists(st.floats(0.0, 1.0), min_size=1))
@settings(max_examples=60, deadline=None)
def test_order_and_bounds_are_kept_exactly(
    method: Method, events: list[tuple[float, bool]], asked: list[float]
) -> None:
    scores, labels = zip(*events, strict=True)
    try:
        curve = Recalibration.fit(scores, labels, method=method)
    except ValueError as refused:
        assert any(word in str(refused) for word in ("both classes", "at least two", "nothing to recalibrate"))
        return
    answers = curve.apply(np.sort(asked))
    assert (np.diff(answers) >= 0.0).all()
    assert 0.0 <= answers.min() <= answers.max() <= 1.0
    assert np.isnan(curve.apply(float("nan")))
    again = Recalibration.from_json(json.loads(json.dumps(curve.to_json())))
    assert again.apply(asked).tolist() == curve.apply(asked).tolist()


@pytest.mark.parametrize("method", METHODS)
def test_a_distorted_expert_gives_probabilities_again(method: Method) -> None:
    scores, labels, _ = distorted(1)
    fresh, _, truth = distorted(2)
    curve = Recalibration.fit(scores, labels, method=method)
    assert np.abs(curve.apply(fresh) - truth).mean() < 0.1 * np.abs(fresh - truth).mean()
    assert (curve.samples, curve.positives) == (len(scores), labels.sum())


def test_an_isotonic_curve_makes_no_ties_of_scores_that_differ() -> None:
    scores, labels, _ = distorted(3, 4000)
    curve = Recalibration.fit(scores, labels)
    asked = np.unique(scores)
    assert len(np.unique(curve.apply(asked))) == len(asked)


def test_beta_parameters_are_those_of_a_logistic_regression() -> None:
    scores, labels, _ = distorted(4, 20_000)
    columns = np.stack([np.log(scores), -np.log1p(-scores)], axis=1)
    plain = LogisticRegression(C=1e6, tol=1e-10, max_iter=1000).fit(columns, labels)
    a, b, c = beta_parameters(scores, np.ones(len(scores)), labels.astype(float))
    assert (a, b, c) == pytest.approx((*plain.coef_[0], plain.intercept_[0]), abs=1e-3)


@pytest.mark.parametrize(("a", "b", "c"), [(0.5, 1.4, -1.0), (2.0, 2.0, 3.0), (1.0, 1.0, 0.0), (0.0, 1.0, -2.0)])
def test_knots_follow_the_formula(a: float, b: float, c: float) -> None:
    p = np.concatenate([np.geomspace(1e-9, 0.5, 5000), 1.0 - np.geomspace(1e-9, 0.5, 5000)])
    exact = 1.0 / (1.0 + np.exp(-(a * np.log(p) - b * np.log1p(-p) + c)))
    answers = np.interp(p, *beta_knots(a, b, c))
    assert np.allclose(answers, exact, rtol=1e-3, atol=0.0)
    assert np.allclose(1.0 - answers, 1.0 - exact, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize(
    ("scores", "labels", "says"),
    [
        ([], [], "none"),
        ([0.1, float("nan")], [0, 1], "NaN"),
        ([0.1, 1.1], [0, 1], "outside"),
        ([0.3, 0.3], [0, 1], "all 2 are 0.3"),
        ([0.1, 0.2], [1, 1], "all 2 are 1"),
        ([0.1, 0.2], [0, 0], "all 2 are 0"),
        ([0.1, 0.2], [0, 3], "not 3"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_refuses_what_it_cannot_be_fitted_to(method: Method, scores: list[float], labels: list[int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Recalibration.fit(scores, labels, method=method)


def test_scores_that_rank_the_wrong_way_round_are_refused_by_beta() -> None:
    with pytest.raises(ValueError, match="nothing to recalibrate"):
        Recalibration.fit([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], method="beta")


@pytest.mark.parametrize(
    "change",
    [{"scores": [0.5, 0.5]}, {"probabilities": [0.9, 0.1]}, {"scores": [0.1]}, {"positives": 0}, {"samples": None}],
)
def test_refuses_stored_curves_that_are_none(change: dict[str, object]) -> None:
    stored = {"fitted_for": "", "scores": [0.0, 1.0], "probabilities": [0.1, 0.2], "samples": 9, "positives": 3}
    assert Recalibration.from_json(stored).samples == 9
    with pytest.raises(ValueError, match="recalibration"):
        Recalibration.from_json({**stored, **change})


def shifted(seed: int, events: int, prior: float, spread: float = 1.0) -> np.ndarray:
    """Return scores, calibrated under a prior of 5 %, of events with another share of positives."""
    random = np.random.default_rng(seed)
    value = spread * random.normal(size=events) + 2.0 * (random.random(events) < prior)
    return np.asarray(1.0 / (1.0 + np.exp(-(2.0 * value - 2.0 + np.log(0.05 / 0.95)))))


@pytest.mark.parametrize("prior", [0.01, 0.05, 0.2])
def test_a_shifted_prior_is_found_and_its_interval_holds_it(prior: float) -> None:
    found = [estimate_prior(shifted(seed, 5000, prior), 0.05) for seed in range(40)]
    assert np.mean([one.prior for one in found]) == pytest.approx(prior, rel=0.05)
    assert sum(one.low <= prior <= one.high for one in found) >= 33


def test_the_corrected_scores_are_calibrated_under_the_new_prior() -> None:
    scores = shifted(7, 100_000, 0.2)
    prior = estimate_prior(scores, 0.05).prior
    assert posterior_correction(scores, prior_beta(0.05, prior)).mean() == pytest.approx(0.2, rel=0.05)


def test_the_assumption_is_tested() -> None:
    before = shifted(100, 20_000, 0.05)
    held = [estimate_prior(shifted(seed, 5000, 0.15), 0.05, before).assumption_holds() for seed in range(30)]
    assert sum(held) >= 27
    moved = estimate_prior(shifted(1, 5000, 0.15, spread=1.3), 0.05, before)
    assert not moved.assumption_holds()


def test_an_untested_assumption_is_not_said_to_hold() -> None:
    with pytest.raises(ValueError, match="before"):
        PriorEstimate(0.1, 0.0, 0.2, None).assumption_holds()


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, float("nan")])
def test_a_prior_is_a_share(prior: float) -> None:
    with pytest.raises(ValueError, match="strictly between"):
        prior_beta(prior, 0.1)
    with pytest.raises(ValueError, match="strictly between"):
        prior_beta(0.1, prior)


@pytest.mark.parametrize("scores", [[], [0.2, 0.2], [0.1, float("nan")], [0.1, 2.0]])
def test_an_estimate_refuses_what_are_no_scores(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="scores"):
        estimate_prior(scores, 0.05)


def test_the_examples_of_the_document_run(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "recalibration.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "recalibration.md", "exec"), {})  # noqa: S102
    assert "assumption holds: True" in capsys.readouterr().out
