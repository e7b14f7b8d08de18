"""Live scores that shadow workers computed, against the published ones of the same events."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.scoring.columns import Categorical
from muse_stream.verify.audit import AuditKeys, AuditReport, LiveScoreLog, LiveScores, compare_audit
from muse_stream.verify.compare import Tally

Row = tuple[int, int, int, float]
"""Partition, offset, generation, score."""


def scores(rows: Sequence[Row]) -> LiveScores:
    partitions, offsets, generations, values = zip(*rows, strict=True) if rows else ((), (), (), ())
    one, two, three = (np.array(column, dtype=np.int64) for column in (partitions, offsets, generations))
    return LiveScores(one, two, three, np.array(values, dtype=np.float64), np.zeros(len(one), dtype=np.int64))


def test_each_kind_of_difference_is_counted_apart() -> None:
    published = scores([(0, 1, 7, 0.5), (0, 2, 7, 0.6), (1, 1, 8, 0.7), (1, 3, 8, 0.8)])
    computed = scores(
        [
            (0, 1, 7, 0.5),  # the same
            (0, 2, 7, 0.61),  # the same generation, another score: a broken promise
            (1, 1, 7, 0.7),  # another generation, the same score all the same
            (1, 3, 7, 0.9),  # another generation, another score
            (1, 2, 7, 0.1),  # a dead letter
            (2, 0, 7, 0.1),  # a partition without scores
        ]
    )
    tally = Tally()
    report = compare_audit("events", published, computed, tally)
    assert report == AuditReport(records=6, unscored=2, other_generation=2, different=1, broken=1)
    (finding,) = tally.findings()
    assert (finding.kind, finding.count, finding.examples) == ("disagreeing", 1, ("events[0]@2",))


def test_without_scores_or_without_audit_records_nothing_is_compared() -> None:
    some = scores([(0, 1, 7, 0.5)])
    assert compare_audit("e", scores([]), some, Tally()) == AuditReport(records=1, unscored=1)
    assert compare_audit("e", some, scores([]), Tally()) == AuditReport()


ROWS = st.dictionaries(
    st.tuples(st.integers(0, 2), st.integers(0, 9)), st.tuples(st.integers(1, 2), st.sampled_from([0.1, 0.2]))
)


@given(ROWS, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(1, 2), st.sampled_from([0.1, 0.2]))))
def test_it_counts_as_a_plain_loop_does(published: dict[tuple[int, int], tuple[int, float]], rows: list[Row]) -> None:
    given_rows = [(*place, *said) for place, said in published.items()]
    report = compare_audit("e", scores(given_rows), scores(rows), Tally())
    found = [(published[row[:2]], row[2:]) for row in rows if row[:2] in published]
    other = [(fact, computed) for fact, computed in found if fact[0] != computed[0]]
    assert report == AuditReport(
        records=len(rows),
        unscored=len(rows) - len(found),
        other_generation=len(other),
        different=sum(fact[1] != computed[1] for fact, computed in other),
        broken=sum(fact[1] != computed[1] for fact, computed in found if fact[0] == computed[0]),
    )


def test_records_of_a_shared_topic_are_told_apart() -> None:
    log = LiveScoreLog()
    topics = Categorical.from_strings(["a", "b", "a", None])
    longs = np.arange(4, dtype=np.int64)
    log.add(AuditKeys(topics, longs, longs * 10, longs + 1, longs / 2), longs)
    log.add(AuditKeys(topics, longs, longs * 10, longs + 1, longs / 2), longs)
    assert log.of("a").offsets.tolist() == [0, 20, 0, 20]
    assert log.of("b").scores.tolist() == [0.5, 0.5]
    assert len(log.of("c").offsets) == 0
