"""A tenant's first maps: from the pool's to its own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_stream.calibration import FittedMap, Floats, Pool, QuantileMap, Reference

RATES = {0.2: 0.7, 0.5: 0.35, 0.6: 0.1, 0.7: 0.05, 0.8: 0.01, 0.9: 0.005}
REFERENCE = Reference.from_alert_rates(RATES)


def tenant(shift: float, size: int, seed: int) -> Floats:
    """Scores whose logits are shifted: what differs between tenants, in the body and in the tail alike."""
    return np.asarray(1.0 / (1.0 + np.exp(4.0 - shift - np.random.default_rng(seed).logistic(size=size))))


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool.fit([tenant(shift, 4_000, seed) for seed, shift in enumerate(np.linspace(-0.6, 0.6, 13))])


def wrong(fitted: FittedMap, later: Floats) -> float:
    """Median relative error of the alert rates."""
    mapped = QuantileMap(fitted, REFERENCE).apply(later)
    return float(np.median([abs((mapped >= threshold).mean() / rate - 1.0) for threshold, rate in RATES.items()]))


def test_without_events_it_is_the_pools_map_with_no_share_of_its_own(pool: Pool) -> None:
    fitted = pool.shrunken([], REFERENCE, "a" * 64, ("acme",))
    x = np.linspace(0.0, 0.5, 1_001)
    served, pooled = (QuantileMap(one, REFERENCE).apply(x) for one in (fitted, pool.pooled(REFERENCE)))
    assert (fitted.samples, fitted.own_share, fitted.fitted_on) == (pool.events, 0.0, ("acme",))
    np.testing.assert_allclose(served, pooled, atol=2e-3)


@pytest.mark.parametrize("events", [100, 1_000, 10_000])
def test_it_errs_less_than_the_better_of_own_and_pool(pool: Pool, events: int) -> None:
    errors = []
    for seed, shift in enumerate(np.linspace(-0.55, 0.55, 12), start=100):
        own, later = tenant(shift, events, seed), tenant(shift, 50_000, seed + 1_000)
        maps = FittedMap.fit(own, REFERENCE), pool.pooled(REFERENCE), pool.shrunken(own, REFERENCE)
        errors.append([wrong(one, later) for one in maps])
    alone, pooled, shrunken = np.median(errors, axis=0)
    assert shrunken <= min(alone, pooled) * (0.9 if events < 10_000 else 1.1)


def test_with_many_events_it_is_the_tenants_own_map_even_where_no_other_tenant_has_scores(pool: Pool) -> None:
    rng = np.random.default_rng(5)
    own = np.where(rng.random(200_000) < 0.6, rng.random(200_000), 0.25)  # unlike all others, and with a tie
    fitted = pool.shrunken(own, REFERENCE)
    assert fitted.own_share is not None and fitted.own_share > 0.97
    served, alone = (QuantileMap(one, REFERENCE).apply(own) for one in (fitted, FittedMap.fit(own, REFERENCE)))
    np.testing.assert_allclose(np.sort(served), np.sort(alone), atol=0.02)


def test_its_share_grows_with_its_events(pool: Pool) -> None:
    own = tenant(0.4, 10_000, 77)
    shares = [pool.shrunken(own[:events], REFERENCE).own_share for events in (0, 100, 1_000, 10_000)]
    assert shares == sorted(shares, key=float) and len(set(shares)) == 4  # type: ignore[arg-type]


def test_its_interval_holds_the_true_rate(pool: Pool) -> None:
    held = []
    for seed, shift in enumerate(np.linspace(-0.55, 0.55, 24), start=300):
        known = pool.posterior(tenant(shift, 1_000, seed))
        later = np.sort(tenant(shift, 200_000, seed + 1_000))
        truth = 1.0 - np.searchsorted(later, pool.edges) / len(later)
        for said, is_so in zip(known.beyond.tolist(), truth.tolist(), strict=True):
            low, high = known.interval(said)
            held.append(low <= is_so <= high)
    assert np.mean(held) > 0.95


def test_events_that_come_in_herds_count_less() -> None:
    rng = np.random.default_rng(8)
    herds = [np.repeat(rng.beta(1, 20, 200), 20) for _ in range(6)]
    alone = [rng.beta(1, 20, 4_000) for _ in range(6)]
    assert np.median(Pool.fit(herds).design_effect(400)) > 4.0
    assert np.median(Pool.fit(alone).design_effect(400)) < 1.3


def test_the_map_of_two_tenants_pools_them_in_equal_parts_whatever_their_size() -> None:
    pool = Pool.fit([np.full(30_000, 0.1), np.full(20_000, 0.3), np.full(2_000_000, 0.5)])
    np.testing.assert_allclose(pool.pooled(REFERENCE).levels[1:4], [1 / 6, 1 / 2, 5 / 6])


@pytest.mark.parametrize("samples", [[], [[]], [[0.1, np.nan]], [[0.2, 1.2]]])
def test_a_pool_of_no_scores_is_refused(samples: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"at least one tenant|empty|NaN|outside"):
        Pool.fit(samples)


scores = st.lists(st.floats(0.0, 1.0, allow_subnormal=False), min_size=1, max_size=60)


@settings(max_examples=60)
@given(st.lists(scores, min_size=1, max_size=6), st.lists(st.floats(0.0, 1.0), max_size=60))
def test_any_pool_and_any_sample_give_a_map_that_never_falls(samples: list[list[float]], own: list[float]) -> None:
    fitted = Pool.fit(samples).shrunken(own, REFERENCE)
    x = np.unique(np.concatenate([np.linspace(0.0, 1.0, 201), own, *samples]))
    mapped = QuantileMap(fitted, REFERENCE).apply(x)
    assert np.all(np.diff(mapped) >= 0.0) and mapped[0] >= 0.0 and mapped[-1] <= 1.0
    again = FittedMap.from_json(fitted.to_json())
    assert (again.levels.tobytes(), again.values.tobytes(), again.own_share) == (
        fitted.levels.tobytes(),
        fitted.values.tobytes(),
        fitted.own_share,
    )
