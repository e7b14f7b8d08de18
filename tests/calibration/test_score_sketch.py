"""Sketches of scores: as exact as promised, mergeable, and closed to rubbish."""

import numpy as np
import pytest

from muse_stream.calibration import QuantileMap, Reference, ScoreSketch

# the library draws random numbers without a seed: its standard error is 0.3 %, and no test may depend on luck;
# `python -m perf.sketches` measures that 1 % is kept
RATES = {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05, 0.85: 0.02, 0.9: 0.01, 0.95: 0.005, 0.99: 0.001}
PROMISE = Reference.from_alert_rates(RATES)


def sketch_of(scores: np.ndarray, chunk: int = 20_000) -> ScoreSketch:
    made = ScoreSketch()
    for start in range(0, len(scores), chunk):
        made.add(scores[start : start + chunk])
    return made


@pytest.mark.parametrize("shape", [(0.3, 30.0), (40.0, 2.0)], ids=["near 0", "near 1"])
def test_alert_rates_are_exact_down_to_one_in_a_thousand_in_under_32_kb(shape: tuple[float, float]) -> None:
    scores = np.random.default_rng(5).beta(*shape, 1_000_000)
    # stored and read again between, as the role does
    made = ScoreSketch()
    for part in np.array_split(scores, 20):
        made = ScoreSketch.from_bytes(made.to_bytes()) if made.events else made
        made.add(part)
    assert made.events == 1_000_000
    assert len(made.to_bytes()) < 16_000
    exact = QuantileMap.fit(scores, PROMISE)
    rates = made.alert_rates(exact, list(RATES))
    assert rates == pytest.approx(list(RATES.values()), rel=0.015)
    served = QuantileMap(made.fit(PROMISE), PROMISE).apply(scores)
    assert [np.mean(served >= one) for one in RATES] == pytest.approx(list(RATES.values()), rel=0.015)


def test_merged_days_are_the_sketch_of_all_their_events() -> None:
    random = np.random.default_rng(2)
    days = [random.beta(1, 20 + n, 50_000) for n in range(8)]
    merged = ScoreSketch()
    for day in days:
        merged.merge(sketch_of(day))
    everything = np.concatenate(days)
    assert merged.events == len(everything)
    exact = QuantileMap.fit(everything, PROMISE)
    assert merged.alert_rates(exact, list(RATES)) == pytest.approx(list(RATES.values()), rel=0.025)


def test_few_scores_are_held_as_they_are() -> None:
    scores = np.concatenate([[0.0, 0.0, 1.0], np.linspace(0.01, 0.99, 50), [1e-12, 1 - 1e-12]])
    made = sketch_of(scores)
    values, shares = made.distribution()
    assert values == pytest.approx(np.unique(scores), rel=1e-5)
    assert shares[0] == 2 / len(scores)
    assert shares.sum() == pytest.approx(1.0)
    exact, sketched = QuantileMap.fit(scores, PROMISE), QuantileMap(made.fit(PROMISE), PROMISE)
    assert sketched.apply(scores) == pytest.approx(exact.apply(scores), abs=1e-5)


def test_stability_and_distance_tell_a_kept_promise_from_a_stream_that_moved() -> None:
    random = np.random.default_rng(3)
    scores, later = random.beta(1, 20, 100_000), random.beta(1.6, 20, 100_000)
    served = QuantileMap.fit(scores, PROMISE)
    kept, moved = sketch_of(scores), sketch_of(later)
    psi, ks = kept.against(served)
    assert psi < 0.001
    assert ks < 0.01
    mapped = np.sort(served.apply(later))
    exact = np.max(np.abs(np.arange(1, len(mapped) + 1) / len(mapped) - (1 - PROMISE.alert_rate(mapped))))
    psi, ks = moved.against(served)
    assert ks == pytest.approx(exact, abs=0.01)
    assert psi > 0.1


@pytest.mark.parametrize("wrong", [[0.5, np.nan], [1.5], [-0.1], []], ids=["NaN", "above 1", "below 0", "none"])
def test_what_is_no_score_is_refused_and_nothing_is_counted(wrong: list[float]) -> None:
    made = sketch_of(np.array([0.1, 0.2]))
    with pytest.raises(ValueError):
        made.add(wrong)
    assert made.events == 2


def test_nothing_is_fitted_to_no_events_or_to_one_score() -> None:
    with pytest.raises(ValueError, match="without events"):
        ScoreSketch().fit(PROMISE)
    with pytest.raises(ValueError, match=r"all 3 scores are 0\.25"):
        sketch_of(np.array([0.25, 0.25, 0.25])).fit(PROMISE)


def test_rubbish_is_no_sketch() -> None:
    sound = sketch_of(np.linspace(0, 1, 5000)).to_bytes()
    for wrong in (b"", b"rubbish", sound[:100], sound[:-1], bytes(100)):
        with pytest.raises(ValueError, match="no sketch of scores"):
            ScoreSketch.from_bytes(wrong)
