"""The demo's statistics: errors that are right for herds, too, and a test that MUSE passes and raw scores fail."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_stream.calibration.alert_rates import LIMIT, Move, Term, move

SIZE = 20_000


def everybody(values: np.ndarray) -> np.ndarray:
    return np.arange(len(values), dtype=np.int64)


def herds(random: np.random.Generator, count: int, size: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Alerts of `count` customers with `size` events each, whose own rates scatter around 10 %."""
    own = np.clip(0.10 + spread * random.standard_normal(count), 0.0, 1.0)
    return (random.random((count, size)) < own[:, None]).astype(np.float64).ravel(), np.repeat(np.arange(count), size)


def test_the_error_of_independent_events_is_the_binomial_one() -> None:
    alerts = (np.arange(1_000) < 50).astype(np.float64)
    rows = everybody(alerts)
    found = move([Term(rows, alerts), Term(rows + 1_000, alerts, -1.0)], ())
    assert found.by == 0.0
    assert found.error == pytest.approx(np.sqrt(2 * 0.05 * 0.95 / 1_000))
    assert found.kept and found.z == 0.0


def test_the_calibration_sample_adds_to_the_error_and_not_to_the_move() -> None:
    alerts = (np.arange(1_000) < 50).astype(np.float64)
    rows = everybody(alerts)
    alone = move([Term(rows, alerts)], ())
    calibrated = move([Term(rows, alerts), Term(rows + 1_000, alerts, -1.0, error_only=True)], ())
    assert calibrated.by == alone.by == 0.05
    assert calibrated.error == pytest.approx(np.sqrt(2) * alone.error)


def test_two_models_that_agree_on_the_same_events_have_no_error_between_them() -> None:
    alerts = (np.arange(1_000) < 50).astype(np.float64)
    found = move([Term(everybody(alerts), alerts), Term(everybody(alerts), alerts, -1.0)], ())
    assert found.error == pytest.approx(0.0, abs=1e-12)
    assert found.kept


def test_only_events_on_which_two_models_differ_count() -> None:
    """McNemar: with d of n events on which they differ, evenly, the error is sqrt(d) / n."""
    old = np.zeros(1_000)
    new = np.zeros(1_000)
    old[:20], new[20:40] = 1.0, 1.0
    assert move([Term(everybody(old), new - old)], ()).error == pytest.approx(np.sqrt(40) / 1_000)


def test_herds_are_counted_once() -> None:
    """Twenty copies of every event are no more information than one."""
    random = np.random.default_rng(1)
    single = (random.random(500) < 0.1).astype(np.float64)
    herd = np.repeat(single, 20)
    customers = np.repeat(np.arange(500), 20)
    alone = move([Term(everybody(single), single)], ())
    assert move([Term(everybody(herd), herd)], (customers,)).error == pytest.approx(alone.error)
    assert move([Term(everybody(herd), herd)], ()).error == pytest.approx(alone.error / np.sqrt(20))


def test_a_customer_in_two_periods_cancels_in_their_difference() -> None:
    random = np.random.default_rng(2)
    rate = random.random(300)
    first, second = ((random.random((300, 40)) < rate[:, None]).astype(np.float64).ravel() for _ in range(2))
    rows = everybody(first)
    both = np.concatenate([np.repeat(np.arange(300), 40)] * 2)
    apart = np.concatenate([np.repeat(np.arange(300), 40), np.repeat(np.arange(300, 600), 40)])
    terms = [Term(rows, first), Term(rows + len(rows), second, -1.0)]
    assert move(terms, (both,)).error < 0.4 * move(terms, (apart,)).error


@pytest.mark.parametrize("kinds", [1, 2])
def test_z_is_normal_where_independence_would_cry_wolf(kinds: int) -> None:
    """Over 150 streams in which nothing moves: z scatters by 1 with herds known, and by far more without."""
    random = np.random.default_rng(3)
    clustered: list[float] = []
    naive: list[float] = []
    for _ in range(150):
        before, customer = herds(random, 200, 50, 0.06)
        after, other = herds(random, 200, 50, 0.06)
        rows = everybody(before)
        terms = [Term(rows + len(rows), after), Term(rows, before, -1.0)]
        customers = np.concatenate([customer, other + 200])
        terminals = random.integers(0, 5_000, len(customers))
        clustered.append(move(terms, (customers, terminals)[:kinds]).z)
        naive.append(move(terms, ()).z)
    assert 0.85 < np.sqrt(np.mean(np.square(clustered))) < 1.15
    assert np.max(np.abs(clustered)) < LIMIT
    assert np.sqrt(np.mean(np.square(naive))) > 1.4


def test_a_rate_that_moved_fails() -> None:
    random = np.random.default_rng(4)
    before = (random.random(SIZE) < 0.05).astype(np.float64)
    after = (random.random(SIZE) < 0.15).astype(np.float64)
    found = move([Term(everybody(after), after), Term(everybody(before) + SIZE, before, -1.0)], ())
    assert not found.kept
    assert found.z > 20


def test_without_events_there_is_no_rate() -> None:
    with pytest.raises(ValueError, match="without events"):
        move([Term(np.zeros(0, dtype=np.int64), np.zeros(0))], ())


def test_a_move_without_error_is_infinitely_sure() -> None:
    assert Move(0.1, 0.0).z == np.inf
    assert not Move(0.1, 0.0).kept
    assert Move(0.0, 0.0).kept


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=60), st.integers(0, 2**31))
def test_entities_never_make_the_error_smaller_than_that_of_events(members: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, 2, len(members)).astype(np.float64)
    terms = [Term(everybody(values), values)]
    first = np.array(members)
    second = random.integers(0, 3, len(members))
    alone = move(terms, ()).error
    assert move(terms, (first,)).error >= alone - 1e-12
    assert move(terms, (first, second)).error >= move(terms, (first,)).error - 1e-12
