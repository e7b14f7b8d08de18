"""What became of every event: found by id, kept by row, counted by generation."""

import numpy as np
import pytest

from muse_stream.demo.comparison import same_bits
from muse_stream.demo.findings import promotion
from muse_stream.demo.ledger import NONE, Ledger
from tests.demo.streams import START_MS, audit_records, events, score_records


def test_answers_find_their_rows_in_any_order() -> None:
    stream = events(100)
    ledger = Ledger(stream)
    ledger.scores(score_records(stream, [42, 7, 99], 1, [0.42, 0.07, 0.99]))
    assert ledger.live.score[[7, 42, 99]].tolist() == [0.07, 0.42, 0.99]
    assert ledger.live.aggregate[42] == pytest.approx(0.042)
    assert ledger.live.generation[[7, 8]].tolist() == [1, NONE]
    assert ledger.counts.live == {1: 3}


def test_a_later_generation_is_counted_apart() -> None:
    stream = events(10)
    ledger = Ledger(stream)
    ledger.scores(score_records(stream, range(6), 1, [0.1] * 6))
    ledger.scores(score_records(stream, range(6, 10), 2, [0.2] * 4))
    assert ledger.counts.live == {1: 6, 2: 4}
    assert ledger.counts.scores == 10
    assert ledger.live.where(2).nonzero()[0].tolist() == [6, 7, 8, 9]


def test_audit_records_are_kept_by_predictor_with_the_live_answer_beside_them() -> None:
    stream = events(10)
    ledger = Ledger(stream)
    ledger.audits(audit_records(stream, [1, 2], 2, "new", [0.5, 0.6], [0.1, 0.2]))
    ledger.audits(audit_records(stream, [2], 2, "bare", [0.9], [0.2]))
    assert ledger.shadow("new").score[[1, 2]].tolist() == [0.5, 0.6]
    assert ledger.shadow("new").live_score[2] == 0.2
    assert ledger.shadow("bare").where(2).sum() == 1
    assert ledger.counts.audit == {(2, "new"): 2, (2, "bare"): 1}
    assert not ledger.shadow("nobody").where(2).any()


def test_a_shadow_that_failed_has_no_score() -> None:
    stream = events(3)
    ledger = Ledger(stream)
    ledger.audits(audit_records(stream, [0, 1], 2, "new", [float("nan"), 0.5], [0.1, 0.1]))
    assert np.isnan(ledger.shadow("new").score[0])
    assert ledger.shadow("new").where(2).tolist() == [True, True, False]


def test_an_answer_to_an_event_that_was_never_sent_is_noticed() -> None:
    stream, other = events(3), events(5)
    ledger = Ledger(stream)
    ledger.scores(score_records(other, [1, 4], 1, [0.1, 0.2]))
    assert ledger.counts.strangers == 1
    assert ledger.live.score[1] == 0.1


def test_live_scores_are_compared_bit_for_bit_within_a_generation() -> None:
    stream = events(4)
    ledger = Ledger(stream)
    ledger.scores(score_records(stream, [0, 1, 2], 2, [0.1, 0.2, 0.3]))
    ledger.scores(score_records(stream, [3], 3, [0.4]))
    live = [0.1, np.nextafter(0.2, 1.0), 0.3, 0.5]  # one bit off; another generation's is not compared
    ledger.audits(audit_records(stream, [0, 1, 2, 3], 2, "new", [0.5] * 4, live))
    assert same_bits(ledger) == (3, 2)


def test_a_promotion_is_timed_by_the_workers_clock() -> None:
    stream = events(6)
    ledger = Ledger(stream)
    for row, generation, at in ((0, 3, 0), (1, 3, 400), (2, 4, 900), (3, 3, 950), (4, 4, 1_000), (5, 4, 9_000)):
        ledger.scores(score_records(stream, [row], generation, [0.1], START_MS + at))
    swap = promotion(ledger, 4, START_MS + 500)
    assert (swap.first_score_s, swap.all_scores_s) == (0.4, 0.45)
    assert swap.longest_pause_s == 0.5  # 400 -> 900; what is 8 s later has nothing to do with it
