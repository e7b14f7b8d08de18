"""An alert rate that is asked about again and again: no false alarms, and real ones soon.

`python -m perf.watch` prints the figures of 60 tenants over 30 days.
"""

import numpy as np
import pytest

from muse_stream.calibration import AlertWatch, Verdict, expected
from muse_stream.calibration.alert_watch import BLOCK, KEPT
from tests.calibration.alert_stream import PROMISED, Stream, drifting, stream

TENANTS = 60
ALPHA = 0.05 / TENANTS


def walked(watch: AlertWatch, given: Stream, step: int) -> tuple[int, list[Verdict]]:
    """Feed a stream; return after how many events the predictor was found to have moved a rate (0: never)."""
    for end in range(step, len(given) + 1, step):
        part = slice(end - step, end)
        watch.add(given.new[part], given.old[part], given.cards[part])
        found = watch.verdicts()
        if any(one.moved for one in found):
            return end, found
    return 0, watch.verdicts()


def test_a_stationary_stream_is_left_alone_however_often_it_is_asked() -> None:
    for seed, cards in enumerate((100, 400, 1500, 4000)):
        given = stream(seed, 15_000, 500, cards)
        watch = AlertWatch(PROMISED, 0.2, ALPHA)
        at, found = walked(watch, given, BLOCK)
        assert at == 0
        assert [one.stream for one in found] == [False] * len(PROMISED)


def test_even_without_a_band_the_bound_holds() -> None:
    """Nothing is tolerated: what keeps the alarms away is the confidence sequence alone."""
    alarms = sum(
        walked(AlertWatch({0.8: 0.1}, 0.0, 0.05), stream(seed, 5_000, 500, 300), 250)[0] > 0 for seed in range(30)
    )
    assert alarms <= 3


@pytest.mark.parametrize(("seed", "at"), [(1, 3_000), (2, 12_000)])
def test_a_rate_that_doubles_is_found_soon_after_it_is_significant(seed: int, at: int) -> None:
    """Significant: the first time that the margin of `promote`, begun with the drift and asked once, would tell."""
    given = drifting(stream(seed, at + 25_000, 2_000, 2_000), at, 20_000, 2.0)
    found, verdicts = walked(AlertWatch(PROMISED, 0.2, ALPHA), given, BLOCK)
    significant = next(
        end
        for end in range(at + BLOCK, len(given), BLOCK)
        for threshold, rate in PROMISED.items()
        for one in [expected(given.old[at:end], given.new[at:end], threshold, given.cards[at:end])]
        if one.change - one.margin > 0.2 * rate
    )
    assert at < found <= significant + 5_000
    worst = next(one for one in verdicts if one.moved)
    assert worst.events < found - at + BLOCK  # the window begins with the drift, not with the promotion
    assert worst.new - worst.old > 0.2 * worst.promised


def test_a_burst_of_one_card_is_no_drift() -> None:
    """A single card that raises hundreds of alerts is one entity."""
    given = stream(5, 4_000, 500, 500)
    burst = np.arange(2_000, 2_300)
    given.new[burst], given.cards[burst] = 1.0, 7
    assert walked(AlertWatch(PROMISED, 0.2, ALPHA), given, 250)[0] == 0
    given.cards[burst] = burst % 500
    assert walked(AlertWatch(PROMISED, 0.2, ALPHA), given, 250)[0] > 2_000


def test_a_move_towards_the_promise_harms_nobody() -> None:
    given = stream(6, 6_000, 500, 2_000)
    away = drifting(given, 0, 1, 2.0)
    assert walked(AlertWatch(PROMISED, 0.2, ALPHA), Stream(given.new, away.new, given.cards), 500)[0] == 0


def test_what_moves_both_is_the_stream() -> None:
    given = stream(7, 6_000, 500, 2_000)
    both = drifting(given, 0, 1, 2.0).new
    other = drifting(Stream(given.old, given.old, given.cards), 0, 1, 2.0).new
    at, found = walked(AlertWatch(PROMISED, 0.2, ALPHA), Stream(both, other, given.cards), 500)
    assert at == 0
    assert found[0].stream


def test_a_rate_that_falls_to_nothing_is_found_too() -> None:
    given = stream(8, 6_000, 500, 2_000)
    silent = Stream(np.zeros(len(given)), given.old, given.cards)
    assert 0 < walked(AlertWatch(PROMISED, 0.2, ALPHA), silent, 500)[0] <= 2_000


def test_memory_grows_with_the_logarithm_of_the_events() -> None:
    watch = AlertWatch({0.8: 0.1}, 0.2, ALPHA)
    same = np.full(BLOCK, 0.5)
    for _ in range(400):
        watch.add(same, same, np.arange(BLOCK) % 50)
    assert watch.events == 400 * BLOCK
    assert len(watch._blocks) <= (KEPT + 1) * 7
    assert sum(int(one.events.sum()) for one in watch._blocks) == 400 * BLOCK


def test_how_events_are_divided_makes_no_difference() -> None:
    given = stream(9, 3_300, 500, 300)
    at_once, in_parts = AlertWatch(PROMISED, 0.2, ALPHA), AlertWatch(PROMISED, 0.2, ALPHA)
    at_once.add(given.new, given.old, given.cards)
    for start in range(0, len(given), 77):
        part = slice(start, start + 77)
        in_parts.add(given.new[part], given.old[part], given.cards[part])
    assert at_once.verdicts() == in_parts.verdicts()


def test_nothing_promised_and_nothing_seen_say_nothing() -> None:
    assert AlertWatch({}, 0.2, ALPHA).verdicts() == AlertWatch(PROMISED, 0.2, ALPHA).verdicts() == []
    watch = AlertWatch({}, 0.2, ALPHA)
    watch.add(np.ones(1000), np.ones(1000), np.zeros(1000, dtype=np.int64))
    assert watch.verdicts() == []
