"""Measures from histograms: what scikit-learn and scipy say of the scores themselves, within what is stated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_stream.calibration import Reference
from muse_stream.calibration.measures import (
    AlertRate,
    Rate,
    average_precision,
    brier_score,
    calibration_curve,
    expected_calibration_error,
    intervals,
    kolmogorov_smirnov,
    labelled_measures,
    population_stability,
    recall_at,
    stability_edges,
)
from muse_stream.calibration.score_histogram import CELLS, ScoreHistogram, cell_of, labels_of, lower_edges, scores_of

Sample = tuple[np.ndarray, np.ndarray]
units = st.one_of(st.floats(0.0, 1.0), st.floats(0.0, 1e-6), st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]))


def sample(seed: int, events: int = 4000) -> Sample:
    """Scores that are odd probabilities, with ties and a rare class."""
    random = np.random.default_rng(seed)
    labels = random.random(events) < 0.05
    scores = 1.0 / (1.0 + np.exp(-(random.normal(-3.0, 1.5, events) + 3.0 * labels)))
    scores[::7] = np.round(scores[::7], 2)
    return scores, labels


def largest_cell(histogram: ScoreHistogram) -> float:
    counts = histogram.counts.sum(axis=0)
    return float((counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).max())


@given(st.lists(units, min_size=1))
def test_a_score_lies_in_its_cell_and_cells_rise(scores: list[float]) -> None:
    ordered = np.sort(scores)
    cells = cell_of(ordered)
    edges = np.append(lower_edges(), 1.0)
    assert len(edges) == CELLS + 1
    assert (np.diff(cells) >= 0).all()
    assert (edges[cells] <= ordered).all()
    assert (ordered <= edges[cells + 1]).all()


def test_a_cell_is_narrow_in_both_tails() -> None:
    edges = lower_edges()
    inside = edges[(edges >= 2.0**-31) & (edges <= 0.5)]
    assert (np.diff(inside) / inside[:-1]).max() <= 1 / 128
    assert np.allclose(1.0 - edges[edges > 0.5], inside[-2::-1], rtol=1e-6)


@given(st.integers(0, 1000), st.integers(1, 3999), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_pieces_in_any_order_are_the_whole(seed: int, cut: int, groups: int) -> None:
    scores, labels = sample(seed)
    group = np.arange(len(scores)) % groups
    whole, first, second = (ScoreHistogram.empty(groups) for _ in range(3))
    whole.add(scores, labels, group)
    second.add(scores[:cut], labels[:cut], group[:cut])
    first.add(scores[cut:], labels[cut:], group[cut:])
    first.merge(second)
    assert (first.counts == whole.counts).all()
    assert np.allclose(first.sums, whole.sums, rtol=1e-12)
    assert whole.pooled().events.tolist() == [len(scores)]


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_ranking_measures_are_scikit_learns_within_a_cell(seed: int) -> None:
    from sklearn.metrics import average_precision_score, roc_curve  # noqa: PLC0415 - a second of CPU to collect it

    scores, labels = sample(seed)
    histogram = ScoreHistogram.of(scores, labels)
    near = largest_cell(histogram)
    false, true, _ = roc_curve(labels, scores)
    for rate, recall in recall_at(histogram, (0.001, 0.01, 0.05)).items():
        low, high = (np.interp(np.clip(rate + by, 0, 1), false, true) for by in (-near, near))
        assert low - near <= recall <= high + near
    assert average_precision(histogram) == pytest.approx(average_precision_score(labels, scores), abs=2 * near)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_ks_is_scipys_within_a_cell(seed: int) -> None:
    from scipy.stats import ks_2samp  # noqa: PLC0415 - as above

    (one, _), (other, _) = sample(seed), sample(seed + 1, 900)
    near = largest_cell(ScoreHistogram.of(one)) + largest_cell(ScoreHistogram.of(other))
    distance = kolmogorov_smirnov(ScoreHistogram.of(one), ScoreHistogram.of(other))
    assert distance == pytest.approx(ks_2samp(one, other).statistic, abs=near)
    reference = Reference.from_alert_rates({0.2: 0.7, 0.5: 0.35, 0.6: 0.1, 0.8: 0.05})
    ordered, ranks = np.sort(one), np.arange(len(one) + 1) / len(one)
    promised = 1.0 - reference.alert_rate(ordered)
    exact = max(np.abs(ranks[1:] - promised).max(), np.abs(ranks[:-1] - promised).max())
    assert kolmogorov_smirnov(ScoreHistogram.of(one), reference) == pytest.approx(exact, abs=near + 0.01)


@given(st.integers(0, 10_000), st.sampled_from([1, 5, 15]))
@settings(max_examples=25, deadline=None)
def test_the_calibration_error_is_that_of_bins_of_equally_many_events(seed: int, bins: int) -> None:
    scores, labels = sample(seed)
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(order, bins)
    plain = sum(abs(scores[part].mean() - labels[part].mean()) * len(part) for part in parts) / len(scores)
    histogram = ScoreHistogram.of(scores, labels)
    assert expected_calibration_error(histogram, bins) == pytest.approx(plain, abs=2 * bins * largest_cell(histogram))
    if bins == 1:  # one bin ends where all do: exact
        assert expected_calibration_error(histogram, 1) == pytest.approx(plain, rel=1e-9)
    assert sum(one.events for one in calibration_curve(histogram, bins)) == len(scores)


def test_the_brier_score_is_scikit_learns() -> None:
    from sklearn.metrics import brier_score_loss  # noqa: PLC0415 - as above

    scores, labels = sample(3)
    squares = float(np.square(scores - labels).sum())
    assert brier_score(squares, len(scores)) == pytest.approx(brier_score_loss(labels, scores), rel=1e-12)


def test_stability_is_zero_for_the_same_and_grows_with_a_shift() -> None:
    assert population_stability([10, 20, 30], [20, 40, 60]) == 0.0
    by_hand = (0.5 - 0.25) * np.log(0.5 / 0.25) + (0.5 - 0.75) * np.log(0.5 / 0.75)
    assert population_stability([25, 75], [50, 50]) == pytest.approx(by_hand)
    assert population_stability([1, 1], [1, 0]) > 1.0
    reference = Reference.from_alert_rates({0.2: 0.7, 0.8: 0.05})
    edges = stability_edges(reference)
    assert np.allclose(np.diff(1.0 - reference.alert_rate(edges)), 0.1)


@pytest.mark.parametrize(("one", "other"), [([], []), ([0.0], [0.0]), ([1, 2], [1, 2, 3]), ([-1, 2], [1, 1])])
def test_stability_refuses_what_are_no_histograms(one: list[float], other: list[float]) -> None:
    with pytest.raises(ValueError, match=r"bins|counts"):
        population_stability(one, other)


@pytest.mark.parametrize("promised", [0.7, 0.05, 0.001])
def test_the_interval_of_an_alert_rate_covers_it_as_often_as_it_says(promised: float) -> None:
    alerts = np.random.default_rng(1).binomial(20_000, promised, 2000)
    rates = [AlertRate(0.5, promised, Rate(int(count), 20_000)) for count in alerts]
    covered = np.mean([one.rate.interval[0] <= promised <= one.rate.interval[1] for one in rates])
    assert 0.93 <= covered <= 0.97
    assert np.mean([one.interval[0] == 0.0 for one in rates]) == covered
    assert np.median([one.error for one in rates]) == pytest.approx(rates[0].noise, rel=0.15)


def test_a_rate_without_events_can_be_anything() -> None:
    assert Rate(0, 0).interval == (0.0, 1.0)
    assert np.isnan(Rate(0, 0).value)


def test_bootstrapped_intervals_hold_the_true_value() -> None:
    truth = {name: one(ScoreHistogram.of(*sample(0, 400_000))) for name, one in labelled_measures().items()}
    held = dict.fromkeys(truth, 0)
    for seed in range(1, 21):
        histogram = ScoreHistogram.of(*sample(seed))
        for name, (low, high) in intervals(histogram, labelled_measures(), draws=30).items():
            held[name] += low <= truth[name] <= high
    assert min(count for name, count in held.items()) >= 16, held


@pytest.mark.parametrize("label", [0, 1])
def test_measures_of_labels_refuse_one_class(label: int) -> None:
    histogram = ScoreHistogram.of([0.1, 0.9], [label, label])
    for measure in labelled_measures().values():
        with pytest.raises(ValueError, match="both classes"):
            measure(histogram)


@pytest.mark.parametrize(
    ("scores", "says"),
    [([], "there is none"), ([0.1, float("nan")], "NaN"), ([0.1, 1.5, -2], "2 of 3 lie outside"), ([np.inf], "inf")],
)
def test_scores_that_are_none_are_named(scores: list[float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        scores_of(scores)


@pytest.mark.parametrize(
    ("labels", "says"), [([0, 2], "not 2"), ([0.0, 0.5], "0.5"), ([0], "1 for 2"), (["yes", "no"], "yes")]
)
def test_labels_that_are_none_are_named(labels: list[int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        labels_of(labels, np.array([0.1, 0.2]))


def test_a_histogram_without_events_has_no_distribution() -> None:
    with pytest.raises(ValueError, match="no distribution"):
        kolmogorov_smirnov(ScoreHistogram.empty(), ScoreHistogram.empty())
    with pytest.raises(ValueError, match="no events"):
        brier_score(0.0, 0)
