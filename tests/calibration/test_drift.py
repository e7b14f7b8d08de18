"""Drift: a promise that is kept gives no alarm however often one looks; one that is broken is found."""

from collections.abc import Mapping

import numpy as np
import pytest

from muse_stream.calibration import (
    DriftLimits,
    MapCounts,
    QuantileMap,
    RateDrift,
    Recent,
    Reference,
    ScoreSketch,
    drift,
)
from muse_stream.calibration.day_counts import CELLS, GROUPS
from muse_stream.calibration.drift import spent
from muse_stream.calibration.drift_evidence import ABOVE, BELOW, DriftEvidence, design_effect, evidence, shared_effects

RATES = {0.5: 0.35, 0.6: 0.10, 0.8: 0.05, 0.9: 0.01, 0.95: 0.001}
PROMISE = Reference.from_alert_rates(RATES)
ALPHA = 0.01 / 60
FEW = Recent(0)
CLOSE = {0.8: 0.05, 0.85: 0.02, 0.9: 0.01, 0.95: 0.005}
"""Rates of which each is near to the next: a share says more than a rate."""


def served(samples: int, seed: int = 1) -> QuantileMap:
    return QuantileMap.fit(np.random.default_rng(seed).random(samples), PROMISE)


def day(
    random: np.random.Generator,
    rates: np.ndarray,
    events: int,
    cells: slice = slice(0, CELLS),
    promised: Mapping[float, float] = RATES,
) -> MapCounts:
    """A day of independent events whose alert rates are these."""
    made = MapCounts.empty(tuple(promised))
    which = np.zeros(CELLS)
    which[cells] = 1
    made.cells[:, 0] = random.multinomial(events, which / which.sum())
    steps = np.concatenate([[rates[0]], rates[1:] / rates[:-1]])
    for at, step in enumerate(steps):
        made.cells[:, 1 + at] = random.binomial(made.cells[:, at], step)
    totals = made.cells.sum(axis=0)
    made.groups[:, 0] = random.multinomial(totals[0], np.full(GROUPS, 1 / GROUPS))
    for at in range(1, made.cells.shape[1]):  # of those that alert at the threshold before
        made.groups[:, at] = random.multivariate_hypergeometric(made.groups[:, at - 1], totals[at])
    return made


def known(days: list[MapCounts], fitted: QuantileMap) -> list[bool]:
    found = drift(days, FEW, fitted.fitted.samples, RATES, DriftLimits(), ALPHA, 30)
    return [one.drifted for one in found.rates]


def test_thirty_stationary_days_of_many_tenants_give_no_alarm() -> None:
    """`python -m perf.drift` does the same with sixty tenants, a look every hour, and dependent events."""
    random = np.random.default_rng(5)
    for tenant in range(6):
        events, samples = ((1_000, 10_000), (5_000, 50_000), (20_000, 100_000))[tenant % 3]
        # a map's sample is off by chance, and so are all rates that it serves, for ever
        rates = np.sort(random.binomial(samples, list(RATES.values())) / samples)[::-1]
        days: list[MapCounts] = []
        for _ in range(30):
            days.append(day(random, np.maximum(rates, 1e-5), events))
            if len(days) % 3 == 0:
                assert not any(known(days, served(samples))), (tenant, len(days))


def test_a_look_every_hour_gives_no_alarm() -> None:
    random, rates = np.random.default_rng(6), np.array(list(RATES.values()))
    days: list[MapCounts] = []
    for _ in range(5):
        whole = day(random, rates, 20_000)
        days.append(MapCounts.empty(tuple(RATES)))
        for hour in range(24):
            cells = slice(4 * hour, 4 * hour + 4)
            days[-1].cells[cells] = whole.cells[cells]
            days[-1].groups = whole.groups * (hour + 1) // 24
            assert not any(known(days, served(100_000)))


def test_a_map_whose_sample_came_in_groups_is_known_less() -> None:
    """The band is four standard errors of the fit: with a design effect of four they are twice as wide."""
    random, rates = np.random.default_rng(12), np.array(list(RATES.values()))
    off = rates * [1.0, 1.0, 1.0, 1.6, 1.0]
    alone, together = [[day(random, off, 5_000_000) for _ in range(6)] for _ in range(2)]
    assert known(alone, served(10_000))[3]
    for one in together:
        one.groups[:, 4] += random.permutation(np.repeat([-43, 43], GROUPS // 2))
    events, alerts = (np.sum([one.groups[:, at] for one in together], axis=0) for at in (0, 4))
    assert 2.5 < design_effect(events, alerts) < 8
    assert not known(together, served(10_000))[3]


@pytest.mark.parametrize(
    ("events", "quiet", "samples"), [(20_000, 10, 200_000), (100_000, 3, 200_000), (5_000, 29, 100_000)]
)
def test_a_doubled_rate_of_one_percent_is_called_within_twenty_thousand_events(
    events: int, quiet: int, samples: int
) -> None:
    random = np.random.default_rng(7)
    rates = np.array(list(RATES.values()))
    fitted, doubled = served(samples), rates.copy()
    doubled[3] = 0.02
    days = [day(random, rates, events) for _ in range(quiet)]
    assert not any(known(days, fitted))
    if events > 20_000:  # within the day
        today, later = day(random, rates, events // 2, slice(0, 48)), day(random, doubled, 20_000, slice(48, 58))
        today.cells += later.cells
        today.groups += later.groups
        days.append(today)
    else:
        days += [day(random, doubled, events) for _ in range(20_000 // events)]
    assert known(days, fitted) == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("rates", "moved", "beside"),
    [
        ([0.05, 0.02, 0.02, 0.005], 0.9, 0.85),  # the rarer of two has risen
        ([0.05, 0.01, 0.01, 0.005], 0.85, 0.9),  # the more frequent of two has fallen
        ([0.05, 0.02, 0.01, 0.01], 0.95, 0.9),
        ([0.05, 0.05, 0.01, 0.005], 0.85, None),  # its own rate says as much
    ],
)
def test_where_a_share_establishes_a_drift_the_threshold_that_moved_is_named(
    rates: list[float], moved: float, beside: float | None
) -> None:
    random, new = np.random.default_rng(13), np.array(rates)
    days = [day(random, np.array(list(CLOSE.values())), 5_000, promised=CLOSE) for _ in range(10)]
    found: list[RateDrift] = []
    while not found and len(days) < 30:
        days.append(day(random, new, 1_000, promised=CLOSE))
        found = [one for one in drift(days, FEW, 100_000, CLOSE, DriftLimits(), ALPHA, 60).rates if one.drifted]
    assert [(one.threshold, one.beside) for one in found] == [(moved, beside)]
    if beside:  # not certain by its own rate: the interval reaches into the band
        assert any(found[0].low < (1 + of) * CLOSE[moved] < found[0].high for of in (-0.2, 0.2))
    days += [day(random, new, 4_000, promised=CLOSE) for _ in range(10)]
    found = [one for one in drift(days, FEW, 100_000, CLOSE, DriftLimits(), ALPHA, 60).rates if one.drifted]
    assert [(one.threshold, one.beside) for one in found] == [(moved, None)]
    assert not found[0].low < CLOSE[moved] < found[0].high


@pytest.mark.parametrize("far", [[1.0, 0.8, 1.2, 0.8], [1.0, 1.2, 0.8, 1.2]])
def test_rates_at_opposite_edges_of_their_bands_are_no_drift(far: list[float]) -> None:
    """Shares are as far from what was promised as they may be, up to half of it: no alarm, however often one looks."""
    random, days = np.random.default_rng(14), []
    for _ in range(20):
        days.append(day(random, np.array(far) * list(CLOSE.values()), 20_000, promised=CLOSE))
        assert not drift(days, FEW, 1_000_000, CLOSE, DriftLimits(), ALPHA, 30).drifted


def test_rates_that_fall_are_found_as_well_and_the_interval_says_how_far() -> None:
    random = np.random.default_rng(8)
    rates = np.array(list(RATES.values()))
    days = [day(random, rates * [1, 1, 0.5, 1, 1], 20_000) for _ in range(5)]
    found = drift(days, FEW, served(100_000).fitted.samples, RATES, DriftLimits(), ALPHA, 30)
    assert [one.drifted for one in found.rates] == [False, False, True, False, False]
    fallen = found.rates[2]
    assert fallen.low < 0.025 < fallen.high < 0.04
    assert fallen.error == pytest.approx(-0.5, abs=0.1)
    assert found.drifted


def test_the_burst_of_one_card_is_no_drift() -> None:
    random = np.random.default_rng(9)
    rates = np.array(list(RATES.values()))
    days = [day(random, rates, 20_000) for _ in range(3)]
    assert not any(known(days, served(100_000)))
    days[-1].cells[90, 1:] += 300
    days[-1].cells[90, 0] += 300
    days[-1].groups[17] += 300  # all of one entity
    assert not any(known(days, served(100_000)))


def test_evidence_is_a_supermartingale_at_the_edge() -> None:
    """Its expectation under the edge itself is 1, exactly, for any number of events."""
    from scipy.stats import binom  # noqa: PLC0415 - a second of CPU, which every process would pay to collect this

    for edge in (0.012, 0.12, 0.8):
        for events in (1, 10, 300):
            counts = np.arange(events + 1)
            ratio = np.exp(evidence(np.full(len(counts), float(events)), counts.astype(float), edge))
            assert float((binom.pmf(counts, events, edge) * ratio).sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("corner", [(0.32, 0.24), (0.48, 0.16), (0.32, 0.16), (0.4, 0.2), (0.48, 0.24)])
def test_evidence_of_shares_is_a_supermartingale_at_every_corner_of_two_bands(corner: tuple[float, float]) -> None:
    """Its expectation is at most 1, over all counts; it is 1 for the share where one rate is low and the other high."""
    from scipy.stats import binom  # noqa: PLC0415 - a second of CPU, which every process would pay to collect this

    bands, events = np.array([[0.32, 0.48], [0.16, 0.24]]), 12
    expected, shares = np.zeros((2, 2)), np.zeros(2)
    for frequent in range(events + 1):
        for rare in range(frequent + 1):
            chance = binom.pmf(frequent, events, corner[0]) * binom.pmf(rare, frequent, corner[1] / corner[0])
            sums = np.array([[events, frequent, rare]], dtype=float)
            known = DriftEvidence.of(sums, np.ones(2), np.ones(1), bands)
            for side in (ABOVE, BELOW):
                shares[side] += chance * np.exp(known.shares[0][side].total)
                for at in (0, 1):
                    expected[at, side] += chance * np.exp(known.about(at, side).total)
    assert (expected <= 1 + 1e-9).all()
    assert (shares <= 1 + 1e-9).all()
    assert shares[ABOVE] == pytest.approx(1.0) or corner != (0.32, 0.24)
    assert shares[BELOW] == pytest.approx(1.0) or corner != (0.48, 0.16)


def test_a_threshold_without_neighbours_pays_for_no_shares() -> None:
    sums = np.array([[1_000.0, 40.0], [100.0, 9.0]])
    known = DriftEvidence.of(sums, np.ones(1), np.ones(0), np.array([[0.008, 0.012]]))
    each = evidence(sums[:, 0], sums[:, 1], 0.012)
    assert known.about(0, ABOVE).total == known.own(0, ABOVE) == pytest.approx(np.log(np.exp(each).sum()))


def test_a_burst_whose_alerts_reach_every_threshold_is_a_burst_in_their_share_too() -> None:
    groups = np.full((GROUPS, 3), [1_000, 0, 0])
    groups[17] += 60
    assert design_effect(groups[:, 1], groups[:, 2]) == 1.0
    effects = np.array([design_effect(groups[:, 0], groups[:, at]) for at in (1, 2)])
    assert shared_effects(groups, effects) == pytest.approx(effects[:1])
    assert effects[0] > 50


def test_thresholds_share_alpha_and_frequent_ones_have_less_of_it() -> None:
    shares = spent([0.7, 0.04, 0.02, 0.001, 0.0])
    assert float(shares.sum()) == pytest.approx(1.0)
    assert shares[1:] == pytest.approx(shares[2] * np.array([0.5, 1.0, 1.0, 1.0]))
    assert shares[0] < shares[1]


def test_design_effects_see_groups_and_nothing_else() -> None:
    random = np.random.default_rng(10)
    events = np.full(GROUPS, 1_000)
    assert design_effect(events, random.binomial(events, 0.05)) < 1.6
    alone = np.zeros(GROUPS, dtype=np.int64)
    alone[3] = 1_000
    assert design_effect(events, alone) > 100
    assert design_effect(events * 0, events * 0) == design_effect(events, events) == 1.0


def test_another_shape_is_seen_by_stability_index_and_distance_and_limits_can_be_set() -> None:
    random = np.random.default_rng(11)
    sample = random.beta(1, 20, 50_000)
    fitted = QuantileMap.fit(sample, PROMISE)
    days = [day(random, np.array(list(RATES.values())), 20_000)]
    moved = ScoreSketch()
    moved.add(random.beta(2.5, 20, 50_000))
    found = drift(days, Recent.of(moved, fitted), fitted.fitted.samples, RATES, DriftLimits(), ALPHA, 30)
    assert found.psi_drifted
    assert found.ks_drifted
    loose = drift(
        days, Recent.of(moved, fitted), fitted.fitted.samples, RATES, DriftLimits(psi=9.0, ks=0.99), ALPHA, 30
    )
    assert not loose.drifted
    same = ScoreSketch()
    same.add(random.beta(1, 20, 50_000))
    assert not drift(days, Recent.of(same, fitted), fitted.fitted.samples, RATES, DriftLimits(), ALPHA, 30).drifted


def test_without_events_nothing_is_known() -> None:
    found = drift([], FEW, served(1_000).fitted.samples, RATES, DriftLimits(), ALPHA, 30)
    assert not found.drifted
    assert found.events == 0
    assert np.isnan(found.psi)
    assert [(one.low, one.high) for one in found.rates] == [(0.0, 1.0)] * len(RATES)
