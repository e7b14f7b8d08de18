"""A map from counts keeps what it promises, and says within what."""

import numpy as np
import pytest

from muse_stream.calibration import Arrivals, DayCounts, FittedMap, QuantileMap, Reference, map_from_counts

PROMISE = Reference.from_alert_rates({0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05})
THRESHOLDS = (0.2, 0.5, 0.6, 0.8)


def day(
    scores: np.ndarray, name: str = "2026-11-01", tenant: str = "acme", groups: np.ndarray | None = None
) -> DayCounts:
    rows = np.arange(len(scores))
    groups = rows % 128 if groups is None else groups
    served = QuantileMap.fit(scores, PROMISE).apply(scores)
    counts = DayCounts(tenant, "c" * 64, name, "cards")
    counts.add([Arrivals("t/0", rows, scores, served, rows * 96 // max(len(rows), 1), groups, "m", THRESHOLDS)])
    return counts


def test_days_are_fitted_together_as_their_scores_would_be() -> None:
    random = np.random.default_rng(1)
    one, other = random.beta(1, 20, 30_000), random.beta(2, 9, 20_000)
    found = map_from_counts([day(one), day(other, "2026-11-02")], PROMISE, THRESHOLDS)
    both = np.concatenate([one, other])
    served = QuantileMap(found.map, PROMISE).apply(both)
    exact = QuantileMap(FittedMap.fit(both, PROMISE), PROMISE).apply(both)
    assert (found.events, found.first_day, found.last_day) == (50_000, "2026-11-01", "2026-11-02")
    assert (found.map.fitted_for, found.map.fitted_on, found.map.samples) == ("c" * 64, ("acme",), 50_000)
    for at in found.trust:
        assert np.mean(served >= at.threshold) == pytest.approx(np.mean(exact >= at.threshold), rel=0.02)
        assert at.low < at.promised < at.high
        assert at.enough
        assert not at.tied


def test_events_of_few_entities_are_worth_less() -> None:
    scores = np.sort(np.random.default_rng(2).beta(1, 20, 10_000))
    apart = map_from_counts([day(scores)], PROMISE, THRESHOLDS).trust[-1]
    together = map_from_counts([day(scores, groups=np.arange(10_000) // 1_000)], PROMISE, THRESHOLDS).trust[-1]
    assert together.high - together.low > 5 * (apart.high - apart.low)


def test_ties_are_told() -> None:
    scores = np.repeat([0.1, 0.2, 0.9], [800, 150, 50])
    assert [one.tied for one in map_from_counts([day(scores)], PROMISE, THRESHOLDS).trust] == [True, True, True, False]


def test_what_cannot_be_fitted_is_refused() -> None:
    some = np.random.default_rng(3).random(100)
    with pytest.raises(ValueError, match="nothing is counted"):
        map_from_counts([], PROMISE, THRESHOLDS)
    with pytest.raises(ValueError, match="several tenants"):
        map_from_counts([day(some), day(some, tenant="globex")], PROMISE, THRESHOLDS)
    with pytest.raises(ValueError, match="no distribution"):
        map_from_counts([day(np.full(50, 0.3))], PROMISE, THRESHOLDS)
