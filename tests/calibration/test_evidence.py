"""What a fit can be trusted in, and the beta that labels tell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_stream.calibration import (
    FittedMap,
    Floats,
    QuantileMap,
    Reference,
    estimate_beta,
    posterior_correction,
    trust,
)
from muse_stream.calibration.evidence import interval

RATES = {0.2: 0.7, 0.5: 0.35, 0.6: 0.1, 0.8: 0.05, 0.9: 0.01, 0.95: 0.001}
REFERENCE = Reference.from_alert_rates(RATES)


def sample(size: int, seed: int) -> Floats:
    return np.asarray(np.random.default_rng(seed).beta(1, 20, size))


@pytest.mark.parametrize("entities", [0, 20])
def test_the_true_rate_lies_within_the_interval_as_often_as_said(entities: int) -> None:
    held = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        own = sample(2_000, seed) if not entities else np.repeat(sample(2_000 // entities, seed), entities)
        own = np.clip(own + 1e-9 * rng.random(2_000), 0.0, 1.0)
        groups = np.arange(2_000) // entities if entities else ()
        fitted = FittedMap.fit(own, REFERENCE)
        later = QuantileMap(fitted, REFERENCE).apply(sample(20_000, seed + 10_000))
        found = trust(own, fitted, REFERENCE, [0.5, 0.6, 0.8], groups)
        held += [one.low <= np.mean(later >= one.threshold) <= one.high for one in found]
    assert np.mean(held) > 0.92


def test_too_little_evidence_is_said_threshold_by_threshold() -> None:
    own = sample(1_000, 1)
    found = trust(own, FittedMap.fit(own, REFERENCE), REFERENCE, list(RATES))
    assert [one.threshold for one in found if not one.enough] == [0.9, 0.95]
    assert all(one.low < one.promised < one.high for one in found)
    for one in found:
        low, high = interval(one.promised, one.needed)
        assert high - low == pytest.approx((one.high - one.low) / 2, rel=0.02)


def test_events_that_come_in_herds_are_less_evidence() -> None:
    herds = np.repeat(sample(200, 1), 20)
    fitted = FittedMap.fit(herds, REFERENCE)
    alone = trust(herds, fitted, REFERENCE, [0.6])[0]
    grouped = trust(herds, fitted, REFERENCE, [0.6], np.arange(4_000) // 20)[0]
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)
    assert grouped.needed == pytest.approx(alone.needed, rel=0.2)


def test_a_tie_that_keeps_a_threshold_from_its_rate_is_named() -> None:
    own = np.concatenate([sample(9_000, 2), np.full(1_000, 0.9)])  # 10 % have the highest score, 5 % are promised
    found = {one.threshold: one for one in trust(own, FittedMap.fit(own, REFERENCE), REFERENCE, list(RATES))}
    assert (found[0.8].tied, found[0.8].reached) == (True, 0.1)
    assert not found[0.5].tied


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.5], [0.8, 0.5], [0.0, 0.5], [0.5, 1.0], [float("nan")]])
def test_thresholds_that_do_not_rise_are_refused(thresholds: list[float]) -> None:
    own = sample(100, 1)
    with pytest.raises(ValueError, match=r"thresholds rise strictly|no threshold"):
        trust(own, FittedMap.fit(own, REFERENCE), REFERENCE, thresholds)


def test_the_beta_of_an_undersampled_expert_is_found_from_labels() -> None:
    rng = np.random.default_rng(3)
    truth = rng.beta(0.3, 30.0, 100_000)
    label = rng.random(truth.size) < truth
    found = estimate_beta(posterior_correction(truth, 1 / 0.1), label.astype(np.int8))
    assert found.low < 0.1 < found.high
    assert found.beta == pytest.approx(0.1, rel=0.1)
    assert (found.events, found.positives) == (100_000, int(label.sum()))


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0, 0, 0], "all 3 labels are 0: both classes"),
        ([1, 1, 1], "all 3 labels are 1: both classes"),
        ([0, 1, 2], "1 are others, as 2"),
        ([0, 1, float("nan")], "1 are others, as nan"),
        (["no", "yes", "no"], "not text or nothing"),
        ([0, 1, None], "1 are others, as nan"),
        ([0, 1], "2 labels of 3 events"),
    ],
)
def test_labels_that_are_none_are_refused(labels: list[object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        estimate_beta([0.1, 0.2, 0.3], labels)  # type: ignore[arg-type]


def test_scores_of_exactly_0_and_1_say_nothing_of_beta() -> None:
    with pytest.raises(ValueError, match="beta is unknown"):
        estimate_beta([0.0, 1.0, 0.5], [0, 1, 1])


@settings(max_examples=80)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=80), st.integers(0, 2**32))
def test_the_promise_is_kept_on_the_sample_itself_but_for_ties(scores: list[float], seed: int) -> None:
    own = np.array(scores)
    fitted = FittedMap.fit(own, REFERENCE)
    for one in trust(own, fitted, REFERENCE, list(RATES)):
        assert 0.0 <= one.low <= one.promised <= one.high <= 1.0
        tie = max(np.unique(own, return_counts=True)[1]) / len(own)
        assert one.reached is not None and abs(one.reached - one.promised) <= 0.5 * tie + 1.0 / len(own) + 1e-9
    mixed = np.random.default_rng(seed).permutation(own)
    again = FittedMap.fit(mixed, REFERENCE)  # whatever the order: the same bits
    assert again.values.tobytes() == fitted.values.tobytes() and again.levels.tobytes() == fitted.levels.tobytes()
