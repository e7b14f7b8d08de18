"""Scores are counted by tenant, predictor and threshold as a plain loop would count them; over swaps none goes down."""

from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from ruamel.yaml import YAML

from muse_stream.config import Document, ReferenceSpec, Role, load_document
from muse_stream.runtime.score_counts import Label, ScoreCounters, ScoreGroups
from muse_stream.scoring.columns import Categorical
from muse_stream.scoring.reference_rates import MOST_DECLARED, promised_rates
from muse_stream.scoring.scores import PredictorScores
from tests.runtime.test_batch_scorer import changed

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config" / "muse.yaml"
DOCUMENT = load_document(EXAMPLE).document
RATES = {0.2: 0.7, 0.5: 0.35, 0.6: 0.1, 0.8: 0.05}
"""Of the example's reference `standard`."""


def groups_of(document: Document = DOCUMENT, lane: str = "main", role: Role = "live") -> ScoreGroups:
    return ScoreGroups(document, lane, role)


def scores(predictor: str, rows: list[int], values: list[float]) -> PredictorScores:
    array = np.array(values, dtype=np.float64)
    errors = {row: "no" for row, value in zip(rows, values, strict=True) if value != value}  # noqa: PLR0124
    return PredictorScores(predictor, 1, np.array(rows, dtype=np.int64), array, array, (), errors)


def count(counters: ScoreCounters, groups: ScoreGroups, one: PredictorScores, tenant: Categorical) -> None:
    counters.add(groups, array("i", numbers(groups, one, tenant).tobytes()))


def numbers(
    groups: ScoreGroups, one: PredictorScores, tenant: Categorical, live: NDArray[np.float64] | None = None
) -> NDArray[np.int32]:
    predictor = Categorical.constant(one.predictor, len(one.rows))
    return groups.of(predictor, Categorical(tenant.values, tenant.codes[one.rows]), one.score, live)


def by_hand(tenants: list[str], one: PredictorScores, thresholds: Mapping[float, float]) -> Counter[Label]:
    counted: Counter[Label] = Counter()
    for row, score in zip(one.rows.tolist(), one.score.tolist(), strict=True):
        if score == score:  # noqa: PLR0124 - NaN
            counted[tenants[row], one.predictor, None] += 1
            counted.update((tenants[row], one.predictor, at) for at in thresholds if score >= at)
    return counted


def nonzero(series: Mapping[Label, int]) -> dict[Label, int]:
    return {label: count for label, count in series.items() if count}


@given(st.lists(st.tuples(st.sampled_from(["acme", "globex"]), st.sampled_from([0.1, 0.2, 0.5, 0.59, 0.6, 0.8, 1.0]))))
def test_counts_as_a_plain_loop_would(drawn: list[tuple[str, float]]) -> None:
    groups, counters = groups_of(), ScoreCounters()
    counters.serve(groups)
    tenants = [tenant for tenant, _ in drawn]
    one = scores("cards", list(range(len(drawn))), [score for _, score in drawn])
    for values in (groups.tenants, ("nobody", "globex", "acme")):  # parts of several formats are numbered again
        column = Categorical(values, np.array([values.index(name) for name in tenants], dtype=np.int32))
        count(counters, groups, one, column)
    wanted = {label: 2 * count for label, count in by_hand(tenants, one, RATES).items()}
    assert nonzero(counters.series()) == wanted


@given(
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["acme", "globex"]), st.floats(0.0, 1.0)), min_size=1),
    st.sampled_from([("cards", "cards-next"), ("cards", "cautious"), ("cards", "unheard-of")]),
)
def test_predictors_are_counted_at_once_whatever_each_promises(
    drawn: list[tuple[int, str, float]], names: tuple[str, str]
) -> None:
    groups = groups_of(role="shadow")
    which = np.array([code for code, *_ in drawn], dtype=np.int32)
    tenant = Categorical.from_strings([name for _, name, _ in drawn])
    values = np.array([value for *_, value in drawn])
    live = values[::-1]
    found = groups.of(Categorical(names, which), tenant, values, live)
    for row, code in enumerate(which.tolist()):
        alone = numbers(groups, scores(names[code], [row], [values[row]]), tenant, live[row : row + 1])
        assert found[row] == alone[0]


def test_a_pair_that_scored_shows_all_its_thresholds() -> None:
    groups, counters = groups_of(), ScoreCounters()
    counters.serve(groups)
    assert counters.series() == {}
    count(counters, groups, scores("cards", [0], [0.3]), Categorical.constant("acme", 1))
    expected: dict[Label, int] = {("acme", "cards", None): 1, ("acme", "cards", 0.2): 1}
    assert counters.series() == expected | {("acme", "cards", at): 0 for at in (0.5, 0.6, 0.8)}


def test_a_shadow_that_failed_gave_no_score() -> None:
    groups, counters = groups_of(role="shadow"), ScoreCounters()
    counters.serve(groups)
    one = scores("cards-next", [0, 1, 2], [0.9, float("nan"), 0.1])
    count(counters, groups, one, Categorical.constant("acme", 3))
    assert counters.series()["acme", "cards-next", None] == 2
    assert counters.series()["acme", "cards-next", 0.8] == 1


def test_only_pairs_that_routes_can_make_have_groups() -> None:
    live = {(pair.tenant, pair.predictor) for pair in groups_of().pairs}
    assert live == {(tenant, name) for tenant in ("acme", "globex") for name in ("cards", "cautious")}
    small = {(pair.tenant, pair.predictor) for pair in groups_of(lane="small", role="shadow").pairs}
    assert small == {(tenant, name) for tenant in ("initech", "umbrella") for name in ("unmapped", "cards-next")}


@pytest.mark.parametrize(("predictor", "thresholds"), [("cards", tuple(RATES)), ("cautious", (0.3, 0.8))])
def test_thresholds_are_those_of_the_predictors_reference(predictor: str, thresholds: tuple[float, ...]) -> None:
    assert {pair.thresholds for pair in groups_of().pairs if pair.predictor == predictor} == {thresholds}


def test_a_map_before_clips_is_a_promise_and_one_before_anything_else_is_none() -> None:
    graphs = DOCUMENT.graphs()
    assert {name: graph.promise() for name, graph in graphs.items()} == {
        "cards": "standard",
        "cards-next": "standard",
        "blended": "smooth",
        "unmapped": None,
        "cautious": "strict",
    }


def test_what_each_form_of_reference_promises() -> None:
    assert promised_rates(ReferenceSpec(alert_rates=RATES)) == RATES
    quantiles = {"levels": [0, 0.9, 0.99, 1], "values": [0, 0.3, 0.8, 1]}
    assert promised_rates(ReferenceSpec.model_validate({"quantiles": quantiles})) == pytest.approx(
        {0.3: 0.1, 0.8: 0.01}
    )
    smooth = {"beta_mixture": [{"weight": 0.95, "a": 1.0, "b": 20.0}, {"weight": 0.05, "a": 5.0, "b": 2.0}]}
    rates = promised_rates(ReferenceSpec.model_validate(smooth))
    assert list(rates.values()) == pytest.approx([0.1, 0.05, 0.01, 0.005, 0.001], rel=0.05)
    assert all(float(f"{at:.3g}") == at for at in rates)


def test_a_reference_of_very_many_quantiles_is_watched_at_few_thresholds() -> None:
    levels = np.linspace(0, 1, 500).tolist()
    rates = promised_rates(ReferenceSpec.model_validate({"quantiles": {"levels": levels, "values": levels}}))
    assert 0 < len(rates) <= MOST_DECLARED
    assert all(rate == pytest.approx(1 - at) for at, rate in rates.items())


Change = Callable[[Any], None]


def generation(tmp_path: Path, change: Change) -> ScoreGroups:
    """The example with a change, cut down to what can be changed without fitting anything again."""
    path = tmp_path / "muse.yaml"
    path.write_text(EXAMPLE.read_text(), encoding="utf-8")
    changed(path, change)
    return ScoreGroups(Document.model_validate(YAML(typ="safe").load(path)), "main", "live")


def no_globex(document: Any) -> None:
    del document["tenants"]["globex"]


def another_live(document: Any) -> None:
    document["routes"] = [{"live": "cards-next"}]


def another_promise(document: Any) -> None:
    document["references"]["standard"] = {"alert_rates": {0.5: 0.3, 0.9: 0.01}}


def test_over_swaps_nothing_goes_down_and_who_left_is_gone(tmp_path: Path) -> None:
    first = groups_of()
    counters = ScoreCounters()

    def two(groups: ScoreGroups, tenant: str, predictor: str = "cards") -> None:
        count(counters, groups, scores(predictor, [0, 1], [0.55, 0.95]), Categorical.constant(tenant, 2))

    counters.serve(first)
    two(first, "acme")
    two(first, "globex")
    moved = generation(tmp_path, another_promise)
    counters.serve(moved)
    two(moved, "acme")
    two(first, "acme")  # a batch of the generation before, committed after the swap
    assert nonzero({label: n for label, n in counters.series().items() if label[0] == "acme"}) == {
        ("acme", "cards", None): 6,
        ("acme", "cards", 0.2): 4,
        ("acme", "cards", 0.5): 6,
        ("acme", "cards", 0.6): 2,
        ("acme", "cards", 0.8): 2,
        ("acme", "cards", 0.9): 1,
    }
    without = generation(tmp_path, no_globex)
    counters.serve(without)
    two(moved, "globex")  # its last batch: nobody watches it any more
    assert {label[0] for label in counters.series()} == {"acme"}
    other = generation(tmp_path, another_live)
    counters.serve(other)
    two(other, "acme", "cards-next")
    assert {label[1] for label in counters.series()} == {"cards", "cards-next"}, "kept for one generation"
    counters.serve(generation(tmp_path, another_live))
    assert {label[1] for label in counters.series()} == {"cards-next"}


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.55, 0.7, 0.9]), st.sampled_from([0.1, 0.2, 0.55, 0.7, 0.9]))))
def test_agreement_with_the_live_score_is_counted_at_every_threshold(drawn: list[tuple[float, float]]) -> None:
    groups, counters = groups_of(role="shadow"), ScoreCounters()
    counters.serve(groups)
    one = scores("cards-next", list(range(len(drawn))), [shadow for shadow, _ in drawn])
    live = np.array([live for _, live in drawn], dtype=np.float64)
    counters.add(groups, array("i", numbers(groups, one, Categorical.constant("acme", len(drawn)), live).tobytes()))
    wanted = {at: sum((shadow >= at) == (beside >= at) for shadow, beside in drawn) for at in RATES} if drawn else {}
    assert counters.series("agreed") == {("acme", "cards-next", at): count for at, count in wanted.items()}
    reached = {at: sum(shadow >= at for shadow, _ in drawn) for at in RATES} if drawn else {}
    assert {at: n for (_, _, at), n in counters.series().items() if at is not None} == reached


def test_agreement_outlives_a_generation() -> None:
    counters = ScoreCounters()
    for _generation in range(2):
        groups = groups_of(role="shadow")
        counters.serve(groups)
        one = scores("cards-next", [0, 1], [0.9, 0.1])
        found = numbers(groups, one, Categorical.constant("acme", 2), np.array([0.9, 0.9]))
        counters.add(groups, array("i", found.tobytes()))
    assert set(counters.series("agreed").values()) == {2}
    late = groups_of(role="shadow")  # answers of a generation that is not served any more
    counters.add(late, array("i", numbers(late, one, Categorical.constant("acme", 2), np.array([0.9, 0.1])).tobytes()))
    assert set(counters.series("agreed").values()) == {4}
