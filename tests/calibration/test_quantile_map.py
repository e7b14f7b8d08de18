"""Level 2: the alert rates that were promised, on any sample, to within its ties."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from muse_stream import QuantileMap, Reference
from muse_stream.calibration.quantile_map import KEEP_ALL, FittedMap

Floats = NDArray[np.float64]
STUDY = {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05}
REFERENCE = Reference.from_alert_rates(STUDY)
SMOOTH = Reference.beta_mixture([(0.95, 1.0, 20.0), (0.05, 5.0, 2.0)])
# Scores that are further apart than floating point, as scores of models are; ties are frequent.
samples = st.lists(st.integers(0, 1000).map(lambda thousandths: thousandths / 1000), min_size=1, max_size=300)


def heaviest_tie(sample: Floats) -> float:
    return float(np.unique(sample, return_counts=True)[1].max()) / len(sample)


@given(samples)
def test_promised_alert_rates_hold_on_the_own_sample_to_within_the_ties(sample: list[float]) -> None:
    scores = np.array(sample)
    mapped = QuantileMap.fit(scores, REFERENCE).apply(scores)
    for threshold, promised in STUDY.items():
        assert abs((mapped >= threshold).mean() - promised) <= 0.5 * heaviest_tie(scores) + 1e-12


@given(samples, st.lists(st.floats(0.0, 1.0), min_size=2))
def test_is_monotone_and_bounded_everywhere(sample: list[float], anywhere: list[float]) -> None:
    for reference in (REFERENCE, SMOOTH):
        mapped = QuantileMap.fit(sample, reference).apply(np.sort([*anywhere, *sample, 0.0, 1.0]))
        assert (np.diff(mapped) >= 0.0).all()
        assert mapped[0] >= 0.0
        assert mapped[-1] <= 1.0


@pytest.mark.parametrize("shape", ["beta", "uniform", "u-shaped"])
@pytest.mark.parametrize("reference", [REFERENCE, SMOOTH], ids=["alert rates", "beta mixture"])
def test_alert_rates_hold_in_the_tail_of_a_large_sample(shape: str, reference: Reference) -> None:
    rng = np.random.default_rng(7)
    a, b = {"beta": (0.3, 20.0), "uniform": (1.0, 1.0), "u-shaped": (0.5, 0.5)}[shape]
    scores = rng.beta(a, b, 100_000)
    fitted = QuantileMap.fit(scores, reference)
    assert len(fitted.fitted.levels) > KEEP_ALL / 2  # thinned, not every value
    assert len(fitted.fitted.levels) < 2000
    mapped = fitted.apply(scores)
    for rate in (0.9, 0.5, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0002):
        threshold = float(reference.quantile(1.0 - rate))
        assert (mapped >= threshold).mean() == pytest.approx(rate, rel=0.02, abs=2e-5)


def test_thinning_keeps_promised_thresholds_to_the_single_event() -> None:
    scores = np.random.default_rng(3).beta(0.5, 8.0, 50_000)
    mapped = QuantileMap.fit(scores, REFERENCE).apply(scores)
    assert [int((mapped >= threshold).sum()) for threshold in STUDY] == [35_000, 17_500, 5_000, 2_500]


def test_thinning_keeps_heavy_ties_where_they_belong() -> None:
    rng = np.random.default_rng(5)
    scores = np.where(rng.random(50_000) < 0.4, 0.125, rng.random(50_000))
    share_below = (scores < 0.125).mean() + 0.5 * (scores == 0.125).mean()
    assert float(QuantileMap.fit(scores, SMOOTH).apply(0.125)) == pytest.approx(float(SMOOTH.quantile(share_below)))


@pytest.mark.parametrize("constant", [0.0, 1e-300, 0.3, 1.0])
def test_a_constant_sample_maps_to_the_median_of_the_reference(constant: float) -> None:
    fitted = QuantileMap.fit(np.full(10, constant), REFERENCE)
    assert float(fitted.apply(constant)) == pytest.approx(float(REFERENCE.quantile(0.5)))
    assert 0.0 <= float(fitted.apply(0.0)) <= float(fitted.apply(1.0)) <= 1.0


def test_ties_at_both_ends_map_to_their_mid_ranks() -> None:
    fitted = QuantileMap.fit([0.0, 0.0, 1.0, 1.0], REFERENCE)
    assert fitted.apply([0.0, 1.0]) == pytest.approx(REFERENCE.quantile([0.25, 0.75]))


@pytest.mark.parametrize("sample", [[], [float("nan")], [0.5, float("nan")], [0.5, 1.5], [-0.1], [float("inf")]])
def test_refuses_samples_without_a_distribution(sample: list[float]) -> None:
    with pytest.raises(ValueError, match="quantile map"):
        QuantileMap.fit(sample, REFERENCE)


@given(samples)
def test_stored_maps_come_back_to_the_bit(sample: list[float]) -> None:
    fitted = FittedMap.fit(sample, REFERENCE, fitted_for="abc")
    again = FittedMap.from_json(json.loads(json.dumps(fitted.to_json())))
    assert again.samples == len(sample)
    assert again.fitted_for == "abc"
    anywhere = np.linspace(0.0, 1.0, 101)
    assert QuantileMap(again, SMOOTH).apply(anywhere).tobytes() == QuantileMap(fitted, SMOOTH).apply(anywhere).tobytes()
    rebuilt = QuantileMap.from_knots(again.levels, again.values, SMOOTH)
    assert rebuilt.apply(anywhere).tobytes() == QuantileMap(fitted, SMOOTH).apply(anywhere).tobytes()


@given(samples, st.sampled_from([REFERENCE, SMOOTH]))
def test_a_map_with_its_reference_comes_back_to_the_bit(sample: list[float], reference: Reference) -> None:
    fitted = QuantileMap.fit(sample, reference)
    again = QuantileMap.from_json(json.loads(json.dumps(fitted.to_json())))
    for one, other in zip(fitted.knots, again.knots, strict=True):
        assert one.tobytes() == other.tobytes()
    assert again.to_json() == fitted.to_json()
    anywhere = np.linspace(0.0, 1.0, 101)
    assert again.apply(anywhere).tobytes() == fitted.apply(anywhere).tobytes()


@pytest.mark.parametrize("stored", [{}, {"fitted": {}}, {"fitted": {}, "reference": {}}, []])
def test_refuses_what_is_no_stored_map_with_its_reference(stored: Any) -> None:
    with pytest.raises(ValueError, match="map has"):
        QuantileMap.from_json(stored)


def test_a_stored_tie_counts_as_its_middle() -> None:
    stored = QuantileMap.from_knots(
        [0.0, 0.4, 0.6, 1.0], [0.0, 0.2, 0.2, 1.0], Reference.from_quantiles([0, 1], [0, 1])
    )
    assert float(stored.apply(0.2)) == pytest.approx(0.5)


@settings(max_examples=30)
@given(samples, st.integers(0, 1000))
def test_a_score_maps_alike_alone_and_in_company(sample: list[float], seed: int) -> None:
    fitted = QuantileMap.fit(sample, SMOOTH)
    many = np.random.default_rng(seed).random(501)
    together = fitted.apply(many)
    assert all(fitted.apply(many[row : row + 1])[0] == together[row] for row in range(0, 501, 50))


def test_knots_are_what_is_applied() -> None:
    fitted = QuantileMap.fit([0.1, 0.2, 0.4, 0.8], REFERENCE)
    x, y = fitted.knots
    assert (np.diff(x) > 0.0).all()
    assert fitted.apply(x).tolist() == y.tolist()
    middle = 0.5 * (x[1:] + x[:-1])
    assert fitted.apply(middle) == pytest.approx(np.interp(middle, x, y))
    assert set(STUDY) <= set(y.tolist())  # the reference's own knots, exactly


def test_nan_stays_nan() -> None:
    assert np.isnan(QuantileMap.fit([0.1, 0.9], REFERENCE).apply([0.5, np.nan])[1])


@pytest.mark.parametrize(
    "stored",
    [
        {"fitted_for": "x", "levels": [0, 1], "values": [0, 1]},
        {"fitted_for": "x", "levels": [0, 1], "values": [1, 0], "samples": 3},
        {"fitted_for": "x", "levels": [0, 0, 1], "values": [0, 0.5, 1], "samples": 3},
        {"fitted_for": "x", "levels": [0, 2], "values": [0, 1], "samples": 3},
        {"fitted_for": "x", "levels": [0, 1], "values": [0, float("nan")], "samples": 3},
        {"fitted_for": "x", "levels": [0.5], "values": [0.5], "samples": 3},
        {"fitted_for": "x", "levels": [0, 1], "values": [0, 1], "samples": 0},
    ],
)
def test_refuses_stored_maps_that_are_none(stored: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="fitted map"):
        FittedMap.from_json(stored)
