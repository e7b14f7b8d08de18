"""How far a map moves, which days it is fitted to, and what makes them unfit; and an attacker who stretches it."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.calibration import (
    Arrivals,
    DayCounts,
    FittedMap,
    QuantileMap,
    Reference,
    days_since,
    entity_share,
    incidents,
    largest,
    map_from_counts,
    moves,
    refresh_window,
)

RATES = {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05}
PROMISE = Reference.from_alert_rates(RATES)
DAY = date(2026, 11, 1)


def counted(
    aggregates: np.ndarray,
    served: QuantileMap,
    days: int = 0,
    *,
    cells: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    map_id: str = "m",
    into: DayCounts | None = None,
) -> DayCounts:
    """Return the counts of a day, spread evenly over it and over the groups unless told otherwise."""
    rows = np.arange(len(aggregates))
    made = into or DayCounts("acme", "c" * 64, (DAY + timedelta(days=days)).isoformat(), "cards")
    cells = rows * 96 // max(len(rows), 1) if cells is None else cells
    groups = rows % 128 if groups is None else groups
    place = f"t/{len(made.covered)}"
    made.add([Arrivals(place, rows, aggregates, served.apply(aggregates), cells, groups, map_id, tuple(RATES))])
    return made


def fitted(scores: np.ndarray) -> QuantileMap:
    return QuantileMap(FittedMap.fit(scores, PROMISE), PROMISE)


def test_a_map_fitted_to_the_same_moves_nothing_and_one_fitted_to_twice_the_alerts_halves_them() -> None:
    random = np.random.default_rng(1)
    scores = random.beta(1, 20, 50_000)
    old = fitted(scores)
    assert largest(moves(old, old, RATES)) < 1e-9
    flooded = np.concatenate([scores, np.full(2_632, scores.max())])  # 5 % more at the very top
    found = moves(old, fitted(flooded), RATES)
    assert found[-1].move == pytest.approx(-1.0, abs=0.05)  # nobody else reaches 0.8 any more
    assert found[-1].before > 0.95
    assert [one.promised for one in found] == list(RATES.values())


@given(
    share=st.floats(0.0005, 0.6),
    place=st.sampled_from([0.0, 1e-6, 0.01, 0.5, 0.9999, 1.0]),
    spread=st.booleans(),
    seed=st.integers(0, 5),
)
def test_what_moves_says_is_the_alert_rate_of_everybody_else(
    share: float, place: float, spread: bool, seed: int
) -> None:
    """Whatever a flood is made of: `moves` tells what the alert rates of the others become."""
    random = np.random.default_rng(seed)
    others = random.beta(1, 20, 4_000)
    count = max(int(share * 4_000), 1)
    flood = random.uniform(0, place, count) if spread else np.full(count, place)
    old, new = fitted(others), fitted(np.concatenate([others, flood]))
    for one in moves(old, new, RATES):
        real = float(np.mean(new.apply(others) >= one.threshold))
        assert real == pytest.approx(one.rate, abs=2.0 / 4_000 + 0.02 * one.rate)


@pytest.mark.parametrize("place", ["low", "high", "both"])
def test_an_attacker_cannot_move_anybody_elses_alert_rates_by_more_than_the_step(place: str) -> None:
    """Thirty days, every day a flood, made as large as the step still allows; what passes it is applied.

    The others' events never change. Steps are counted from the map that a person has published, so they do not add up.
    """
    random, step = np.random.default_rng(2), 0.3
    sample = random.beta(1, 20, 20_000)
    anchor = served = fitted(sample)
    before = {one: float(np.mean(anchor.apply(sample) >= one)) for one in RATES}
    applied = refused = 0
    for day in range(30):
        others = random.beta(1, 20, 10_000)
        flood = 10_000 * random.choice([0.002, 0.005, 0.01, 0.02, 0.1, 0.2, 0.4, 1.0])
        count = int(flood)
        low, high = random.uniform(0.0, 1e-4, count), random.uniform(0.6, 1.0, count)
        attack = {"low": low, "high": high, "both": np.concatenate([low, high])}[place]
        counts = counted(np.concatenate([others, attack]), served, day)
        new = QuantileMap(map_from_counts([counts], PROMISE, list(RATES)).map, PROMISE)
        if largest(moves(anchor, new, RATES)) > step:
            refused += 1
        else:
            applied, served = applied + 1, new
        for threshold, rate in before.items():
            now = float(np.mean(served.apply(sample) >= threshold))
            assert abs(now / rate - 1.0) <= step + 0.03, (day, threshold)
    assert applied > 3  # the step lets something through: what is shown is not that nothing ever moves
    assert refused > 3


def test_the_window_begins_with_the_day_after_the_change() -> None:
    served = fitted(np.random.default_rng(3).beta(1, 20, 20_000))
    days = [counted(np.random.default_rng(n).beta(1, 20, 9_600), served, n) for n in range(5)]

    def since(events: int, first: str = "") -> list[str]:
        return [one.day for one in days_since(days, "m", events, first)]

    assert since(0) == [one.day for one in days]
    assert since(9_600) == ["2026-11-05"]
    assert since(9_700) == ["2026-11-05"]  # the evening before is no day
    assert since(2 * 9_600 - 100) == ["2026-11-04", "2026-11-05"]  # the first quarter of an hour is missing: a day
    assert since(4_000) == []
    assert since(10**9) == [one.day for one in days]
    assert since(0, "2026-11-03") == ["2026-11-03", "2026-11-04", "2026-11-05"]
    assert since(9_600, "2026-11-06") == []
    # what another map served that day, or no map, came before for all that is known
    counted(np.full(5_000, 0.5), served, map_id="other", cells=np.zeros(5_000, dtype=np.int64), into=days[4])
    assert since(9_000) == []


def test_a_window_knows_its_time() -> None:
    served = fitted(np.random.default_rng(4).beta(1, 20, 20_000))
    assert refresh_window([]) is None
    one = counted(np.full(960, 0.1), served, cells=np.arange(960) % 8 + 40)
    found = refresh_window([one, counted(np.full(96, 0.2), served, 2)])
    assert found is not None
    assert found.begins == datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert found.ends == datetime(2026, 11, 4, tzinfo=UTC)
    assert (found.hours, found.events) == (62.0, 1_056)
    assert found.by_hour()[:3].tolist() == [480, 480, 0]


def kinds(days: list[DayCounts]) -> list[str]:
    found = refresh_window(days)
    assert found is not None
    return [one.kind for one in incidents(days, found, 0.1)]


def test_one_entity_a_gap_and_a_burst_are_seen() -> None:
    random = np.random.default_rng(5)
    served = fitted(random.beta(1, 20, 20_000))
    some = random.beta(1, 20, 9_600)
    assert kinds([counted(some, served), counted(some, served, 1)]) == []
    own = np.where(np.arange(9_600) < 2_000, 7, np.arange(9_600) % 128)
    crowded = [counted(some, served, groups=own), counted(some, served, 1)]
    assert kinds(crowded) == ["entity"]
    assert entity_share(crowded) == pytest.approx(2_000 / 19_200, abs=0.005)
    # twenty customers, each with its share, are no such thing
    assert kinds([counted(some, served, groups=np.arange(9_600) % 20)]) == []
    assert kinds([counted(some, served), counted(some, served, 3)]) == ["gap"]
    night = np.sort(random.choice(np.arange(24, 96), 9_600))
    assert kinds([counted(some, served, n, cells=night) for n in range(3)]) == []  # six quiet hours a night
    burst = [counted(some, served), counted(some, served, 1)]
    counted(np.full(8_000, 0.01), served, cells=np.full(8_000, 50), into=burst[1])
    assert kinds(burst) == ["burst"]


def test_a_map_of_the_days_since_the_change_keeps_the_promise_again() -> None:
    random = np.random.default_rng(6)
    served = fitted(random.beta(1, 20, 50_000))
    days = [counted(random.beta(1, 20, 20_000), served, n) for n in range(3)]
    days += [counted(random.beta(1.4, 20, 20_000), served, n) for n in (3, 4)]
    chosen = days_since(days, "m", 40_500, "")  # what `drift` says of the change is near it
    assert [one.day for one in chosen] == ["2026-11-04", "2026-11-05"]
    new = QuantileMap(map_from_counts(chosen, PROMISE, list(RATES)).map, PROMISE)
    later = random.beta(1.4, 20, 50_000)
    for threshold, rate in RATES.items():
        assert np.mean(new.apply(later) >= threshold) == pytest.approx(rate, rel=0.06)
