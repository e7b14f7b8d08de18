"""Two predictors on the same events: ranks, quantiles, and rates whose intervals know of entities."""

import numpy as np
import pytest

from muse_stream.calibration import Reference, distance_from, grouped_rate, quantile_pairs, rank_agreement, wilson

RANDOM = np.random.default_rng(1)


def test_rank_agreement_is_spearman_s_with_ties() -> None:
    one = np.array([0.1, 0.2, 0.2, 0.5, 0.9])
    assert rank_agreement(one, one**3) == pytest.approx(1.0)
    assert rank_agreement(one, 1.0 - one) == pytest.approx(-1.0)
    # ranks 1, 2.5, 2.5, 4, 5 against 1, 3, 2, 5, 4
    assert rank_agreement(one, [0.0, 0.3, 0.2, 0.5, 0.4]) == pytest.approx(8.5 / (9.5 * 10.0) ** 0.5)
    assert rank_agreement(one, np.full(5, 0.3)) is None
    with pytest.raises(ValueError, match="5 scores against 4"):
        rank_agreement(one, one[:4])


def test_an_interval_is_as_wide_as_the_entities_make_it() -> None:
    alerts = RANDOM.random(4_000) < 0.1
    alone = grouped_rate(alerts, np.arange(4_000))
    known = wilson(float(alerts.mean()), 4_000.0)
    assert (alone.value, alone.low, alone.high) == pytest.approx((known.value, known.low, known.high), rel=0.01)
    herds = grouped_rate(np.repeat(alerts, 10), np.repeat(np.arange(4_000), 10))
    assert herds.high - herds.low == pytest.approx(alone.high - alone.low, rel=0.05)
    assert grouped_rate(np.zeros(100, dtype=bool), np.arange(100)).high > 0.0
    for size in (4_000.0, 593.0, 60.0):  # rounding takes no bound to the other side of the rate
        assert wilson(0.0, size).low == 0.0 and wilson(1.0, size).high == 1.0
    with pytest.raises(ValueError, match="needs events"):
        grouped_rate([], [])


def test_intervals_of_grouped_events_hold_the_true_rate() -> None:
    held = 0
    for _ in range(300):
        rate = RANDOM.beta(1.0, 9.0, 200)  # of each entity; 10 % in the mean
        events = RANDOM.random((200, 10)) < rate[:, None]
        found = grouped_rate(events.reshape(-1), np.repeat(np.arange(200), 10))
        held += found.low <= 0.1 <= found.high
    assert held >= 270  # 95 % of 300 are 285; independent events would hold it in about 250


def test_quantiles_lie_at_the_same_levels_up_into_the_tail() -> None:
    one = RANDOM.beta(1, 9, 50_000)
    first, second = quantile_pairs(one, one / 2)
    assert np.all(np.diff(first) >= 0.0) and second == pytest.approx(first / 2)
    assert first[-1] > np.quantile(one, 0.9995)
    assert [len(side) for side in quantile_pairs([0.3], [0.4])] == [len(quantile_pairs([0.3], [0.4])[0])] * 2


def test_the_distance_from_a_promise_is_the_largest_of_all() -> None:
    reference = Reference.from_alert_rates({0.5: 0.5})
    assert distance_from(reference, np.linspace(0.0, 1.0, 1_001)) < 0.002
    assert distance_from(reference, np.full(10, 0.5)) == pytest.approx(0.5)
    assert distance_from(reference, np.array([0.0])) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="without events"):
        distance_from(reference, np.empty(0))
