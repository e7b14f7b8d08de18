"""From records to a comparison: a stream whose promotion keeps, breaks or drifts, by construction."""

import numpy as np
import pytest

from muse_stream.calibration.quantile_map import FittedMap, QuantileMap
from muse_stream.calibration.reference import Reference
from muse_stream.demo import comparison, periods
from muse_stream.demo.comparison import Promise, raw_threshold
from muse_stream.demo.ledger import Ledger
from muse_stream.demo.scenario import BARE_NEW, BARE_OLD, NEW, OLD, StreamEvents
from muse_stream.errors import MuseError
from tests.demo.streams import HOUR_MS, audit_records, events, score_records

STANDARD = Reference.from_alert_rates({0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05})
WINDOW = 4_000


def aggregates(seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """What the old and the new model say of three windows: correlated, of different shape, stationary."""
    random = np.random.default_rng(seed)
    common = random.standard_normal(3 * WINDOW)
    old, new = (common + 0.5 * random.standard_normal(3 * WINDOW) for _ in range(2))
    return 1 / (1 + np.exp(4 - old)), 1 / (1 + np.exp(3 - 2 * new))


def toured(
    *, stale: bool = False, drift: float = 1.0, spacing_ms: int = HOUR_MS // 10
) -> tuple[Ledger, StreamEvents, list[Promise]]:
    """The ledger of a whole run: window 1 calibrates, window 2 is before, window 3 after the promotion.

    `stale`: the new model goes live on the old one's map. `drift` multiplies every aggregate of window 3.
    """
    stream = events(3 * WINDOW, spacing_ms=spacing_ms)
    old, new = aggregates()
    old[2 * WINDOW :] *= drift
    new[2 * WINDOW :] *= drift
    fitted = [FittedMap.fit(one[:WINDOW], STANDARD) for one in (old, new)]
    maps = [QuantileMap(fitted[0], STANDARD), QuantileMap(fitted[0 if stale else 1], STANDARD)]
    first, second, third = (np.arange(start, start + WINDOW) for start in (0, WINDOW, 2 * WINDOW))
    ledger = Ledger(stream)
    ledger.audits(audit_records(stream, first, 2, NEW, 10 * new[first], 10 * old[first]))  # type: ignore[arg-type]
    ledger.audits(audit_records(stream, first, 2, BARE_OLD, old[first], old[first]))  # type: ignore[arg-type]
    ledger.scores(score_records(stream, second, 3, maps[0].apply(old[second])))  # type: ignore[arg-type]
    live = maps[1].apply(new[third])
    ledger.scores(score_records(stream, third, 4, live))  # type: ignore[arg-type]
    ledger.audits(audit_records(stream, third, 4, OLD, maps[0].apply(old[third]), live))  # type: ignore[arg-type]
    ledger.audits(audit_records(stream, third, 4, BARE_NEW, new[third], live))  # type: ignore[arg-type]
    return ledger, stream, [Promise("acme", 0.8, STANDARD, *fitted)]


def test_a_promotion_with_maps_keeps_every_rate_and_without_muse_it_does_not() -> None:
    ledger, stream, promises = toured()
    (row,) = comparison.compare(ledger, stream, promises, drifts=False)
    assert row.verdict == "kept"
    assert row.promised == pytest.approx(0.05)
    assert row.after == pytest.approx(0.05, abs=0.02)
    assert row.without > 0.3 and not row.bare.kept and row.bare.z > 10


def test_a_new_model_on_the_old_ones_map_is_found_out() -> None:
    ledger, stream, promises = toured(stale=True)
    (row,) = comparison.compare(ledger, stream, promises, drifts=True)
    assert row.verdict == "MOVED"
    assert not row.promotion.kept and not row.total.kept


def test_a_stream_that_drifts_is_told_from_a_promotion_that_moves() -> None:
    ledger, stream, promises = toured(drift=1.6)
    (row,) = comparison.compare(ledger, stream, promises, drifts=True)
    assert row.promotion.by == pytest.approx(row.after - row.control)
    assert not row.total.kept
    assert row.control - row.before > 0.03
    assert row.promotion.kept
    assert row.verdict == "drifted"


def test_a_drift_nobody_announced_is_a_rate_that_moved() -> None:
    ledger, stream, promises = toured(drift=1.6)
    (row,) = comparison.compare(ledger, stream, promises, drifts=False)
    assert row.verdict == "MOVED"


def test_a_tenant_without_events_in_a_period_is_an_error() -> None:
    ledger, stream, promises = toured()
    ledger.live.generation[2 * WINDOW :] = 0
    with pytest.raises(MuseError, match="acme has no events"):
        comparison.compare(ledger, stream, promises, drifts=False)


def test_periods_are_whole_weeks_next_to_the_promotion_where_there_are_any() -> None:
    ledger, stream, _ = toured(spacing_ms=HOUR_MS // 10)  # 4,000 events are 16 days and 16 hours
    week = 7 * 240
    sample = periods.calibration(ledger, stream, "acme")
    earlier = periods.before(ledger, stream, "acme")
    later = periods.after(ledger, stream, "acme")
    assert (sample[0], sample[-1]) == (WINDOW - 2 * week, WINDOW - 1)
    assert (earlier[0], earlier[-1]) == (2 * WINDOW - 2 * week, 2 * WINDOW - 1)
    assert (later[0], later[-1]) == (2 * WINDOW, 2 * WINDOW + 2 * week - 1)


def test_a_short_period_is_taken_whole() -> None:
    ledger, stream, _ = toured(spacing_ms=1_000)
    assert len(periods.before(ledger, stream, "acme")) == WINDOW


def test_an_event_without_its_shadow_is_not_compared() -> None:
    ledger, stream, _ = toured(spacing_ms=1_000)
    ledger.shadow(OLD).score[2 * WINDOW] = np.nan
    ledger.shadow(BARE_NEW).generation[2 * WINDOW + 1] = 3
    assert periods.after(ledger, stream, "acme")[0] == 2 * WINDOW + 2


def test_the_raw_threshold_raises_as_many_alerts() -> None:
    scores = np.random.default_rng(6).random(1_000)
    assert (scores >= raw_threshold(scores, 0.05)).sum() == 50
    assert (scores >= raw_threshold(scores, 0.0)).sum() == 1
    assert (scores >= raw_threshold(scores, 1.0)).all()
    assert raw_threshold(np.array([0.3, 0.3, 0.3]), 0.1) == 0.3
