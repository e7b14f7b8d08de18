"""What becomes of a batch: every row scored or rejected, rows at fault alone, shadows without influence."""

import numpy as np
import pytest

from muse_stream.errors import Reason, Stage
from muse_stream.scoring import Categorical, EventTable
from muse_stream.scoring.sampling import sampled
from muse_stream.scoring.scores import PredictorScores, Scored
from tests.scoring.doubles import (
    POISON,
    PREDICTORS,
    Broken,
    Linear,
    Misshapen,
    Odd,
    Poisoned,
    document,
    loaded,
    snapshot,
    table,
)

ROUTES: list[dict[str, object]] = [
    {"when": {"tenant": "acme", "channel": ["pos", "ecom"]}, "live": "two", "shadow": ["one"]},
    {"when": {"region": "eu"}, "live": "three", "shadow": ["meta", {"predictor": "two", "sample": 0.3}]},
    {"when": {"tenant": ["acme", "globex", "initech"]}, "live": "one"},
]
B_WIDTHS = {"x": 3, "y": 1}


def poisoned(rows: int, *culprits: int) -> EventTable:
    amount = np.random.default_rng(9).normal(size=rows)
    amount[list(culprits)] = POISON
    return table(rows, amount=amount)


def answered(scored: Scored) -> list[int]:
    return sorted(row for live in scored.live for row in live.rows.tolist())


def same(one: PredictorScores, other: PredictorScores) -> bool:
    return one.rows.tobytes() == other.rows.tobytes() and one.score.tobytes() == other.score.tobytes()


@pytest.mark.parametrize("role", ["live", "shadow"])
def test_every_row_is_scored_or_rejected_and_routed_as_the_rules_say(role: str) -> None:
    spec, batch = document(ROUTES), table(400)
    scored = snapshot(spec, role=role).execute(batch)  # type: ignore[arg-type]
    tenants, channels, regions = (
        column.to_list() for column in (batch.tenant, batch.intent["channel"], batch.intent["region"])
    )
    expected: dict[str, list[int]] = {"one": [], "two": [], "three": []}
    unrouted = []
    for row in range(400):
        if tenants[row] == "acme" and channels[row] in {"pos", "ecom"}:
            expected["two"].append(row)
        elif regions[row] == "eu":
            expected["three"].append(row)
        elif tenants[row] in {"acme", "globex", "initech"}:
            expected["one"].append(row)
        else:
            unrouted.append(row)
    assert {live.predictor: live.rows.tolist() for live in scored.live} == expected
    assert [(one.row, one.reason, one.stage) for one in scored.rejected] == [
        (row, Reason.NO_ROUTE, Stage.ROUTE) for row in unrouted
    ]
    assert all(np.isfinite(live.score).all() and not live.errors for live in scored.live)


def test_shadows_score_the_events_of_their_routes_and_samples() -> None:
    spec, batch = document(ROUTES), table(400)
    scored = snapshot(spec, role="shadow").execute(batch)
    live = {one.predictor: one.rows for one in scored.live}
    shadow = {one.predictor: one.rows for one in scored.shadow}
    assert shadow["one"].tolist() == live["two"].tolist()
    assert shadow["meta"].tolist() == live["three"].tolist()
    assert batch.ids is not None
    assert shadow["two"].tolist() == live["three"][sampled(batch.ids, 0.3)[live["three"]]].tolist()
    assert 0 < len(shadow["two"]) < len(live["three"])
    assert snapshot(spec).execute(batch).shadow == ()


def test_a_table_without_ids_is_refused_only_when_ids_decide() -> None:
    spec, batch = document(ROUTES), table(50)
    bare = EventTable(batch.count, batch.tenant, batch.intent, batch.features)
    assert snapshot(spec, role="shadow").needs_ids
    assert not snapshot(spec).needs_ids
    snapshot(spec).execute(bare)
    with pytest.raises(ValueError, match="ids"):
        snapshot(spec, role="shadow").execute(bare)


def test_an_empty_batch_has_no_answers() -> None:
    scored = snapshot(document(ROUTES), role="shadow").execute(table(0))
    assert (scored.live, scored.shadow, scored.rejected) == ((), (), ())


def test_a_missing_required_feature_rejects_its_row_where_a_predictor_needs_it() -> None:
    age = np.random.default_rng(2).normal(size=60)
    age[[3, 30, 59]] = np.nan
    batch = table(60, age=age)
    for_live = snapshot(document([{"live": "two", "shadow": ["one"]}]), role="shadow").execute(batch)
    assert [(one.row, one.reason, one.stage) for one in for_live.rejected] == [
        (row, Reason.MISSING_FEATURE, Stage.VALIDATE) for row in (3, 30, 59)
    ]
    assert "age is missing" in for_live.rejected[0].message
    assert answered(for_live) == [row for row in range(60) if row not in {3, 30, 59}]
    assert for_live.shadow[0].rows.tolist() == answered(for_live)  # no live answer, no shadow answer
    for_shadow = snapshot(document([{"live": "one", "shadow": ["two"]}]), role="shadow").execute(batch)
    assert for_shadow.rejected == ()
    (shadow,) = for_shadow.shadow
    assert set(shadow.errors) == {3, 30, 59}
    assert np.isnan(shadow.score[[3, 30, 59]]).all()
    assert np.isfinite(np.delete(shadow.score, [3, 30, 59])).all()


@pytest.mark.parametrize("culprits", [(0,), (99,), (5, 6, 7), (0, 50, 99)])
def test_rows_that_make_a_live_model_raise_are_isolated(culprits: tuple[int, ...]) -> None:
    spec, batch = document([{"live": "one"}]), poisoned(100, *culprits)
    healthy = snapshot(spec).execute(batch).live[0]
    scored = snapshot(spec, loaded(spec, a=Poisoned("a", {"x": 3}))).execute(batch)
    assert [(one.row, one.reason, one.stage) for one in scored.rejected] == [
        (row, Reason.SCORING_ERROR, Stage.SCORE) for row in culprits
    ]
    assert scored.rejected[0].message == "model a: RuntimeError: cannot digest this row"
    (live,) = scored.live
    assert live.rows.tolist() == [row for row in range(100) if row not in culprits]
    assert live.score.tobytes() == np.delete(healthy.score, culprits).tobytes()
    assert live.experts[0].raw.tobytes() == np.delete(healthy.experts[0].raw, culprits).tobytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.01, 1.01])
def test_answers_that_are_no_probability_never_leave(value: float) -> None:
    spec, batch = document([{"live": "one"}]), poisoned(50, 7, 20)
    scored = snapshot(spec, loaded(spec, a=Odd("a", {"x": 3}, value))).execute(batch)
    assert [(one.row, one.reason) for one in scored.rejected] == [(7, Reason.NON_FINITE), (20, Reason.NON_FINITE)]
    assert "not a probability" in scored.rejected[0].message
    assert len(scored.live[0].rows) == 48


def test_a_model_that_answers_with_the_wrong_number_of_rows_answers_nothing() -> None:
    spec = document([{"live": "one"}])
    scored = snapshot(spec, loaded(spec, a=Misshapen("a", {"x": 3}))).execute(table(10))
    assert scored.live == ()
    assert [one.reason for one in scored.rejected] == [Reason.SCORING_ERROR] * 10
    assert "shape" in scored.rejected[0].message


@pytest.mark.parametrize(
    "faulty",
    [Broken("b", B_WIDTHS), Poisoned("b", B_WIDTHS), Odd("b", B_WIDTHS), Misshapen("b", B_WIDTHS)],
    ids=["broken", "poisoned", "not finite", "misshapen"],
)
def test_a_failing_shadow_changes_nothing_in_the_live_answer(faulty: Linear) -> None:
    spec, batch = document([{"live": "one", "shadow": ["two", "three"]}]), poisoned(80, 4, 40)
    alone = snapshot(spec).execute(batch)
    beside = snapshot(spec, loaded(spec, b=faulty), "shadow").execute(batch)
    assert beside.rejected == alone.rejected == ()
    assert same(beside.live[0], alone.live[0])
    for shadow in beside.shadow:
        assert {4, 40} <= set(shadow.errors)
        assert np.isnan(shadow.score[sorted(shadow.errors)]).all()
        assert np.isfinite(np.delete(shadow.score, sorted(shadow.errors))).all()
        assert all("model b" in message for message in shadow.errors.values())


def test_a_culprit_of_a_shared_expert_is_rejected_by_live_and_left_out_by_shadow() -> None:
    spec = document([{"live": "one", "shadow": ["three"]}])
    scored = snapshot(spec, loaded(spec, a=Poisoned("a", {"x": 3})), "shadow").execute(poisoned(40, 13))
    assert [one.row for one in scored.rejected] == [13]
    assert 13 not in scored.shadow[0].rows
    assert scored.shadow[0].errors == {}
    assert len(scored.shadow[0].experts[1].raw) == 39


def test_a_meta_model_is_not_asked_about_rows_an_expert_failed_on() -> None:
    spec = document([{"live": "meta"}])
    models = loaded(spec, c=Poisoned("c", {"x": 2}), meta=Poisoned("meta", {"x": 2}))
    scored = snapshot(spec, models).execute(poisoned(30, 3))
    assert [(one.row, one.message) for one in scored.rejected] == [(3, "model c: RuntimeError: cannot digest this row")]
    assert models["meta"].rows == 29


def test_text_where_a_number_was_declared_is_the_rows_fault_not_the_batchs() -> None:
    spec = document([{"when": {"channel": "pos"}, "live": "three"}, {"live": "one"}])
    batch = table(40, age=Categorical(("old",), np.zeros(40, dtype=np.int32)))
    scored = snapshot(spec).execute(batch)
    assert {one.reason for one in scored.rejected} == {Reason.SCORING_ERROR}
    assert "age is text" in scored.rejected[0].message
    assert [live.predictor for live in scored.live] == ["one"]


def test_a_tenant_without_a_map_is_rejected_alone() -> None:
    spec = document([{"live": "one"}], predictors={"one": PREDICTORS["one"]})
    predictor = spec.predictors["one"]
    refs = predictor.quantile_map.model_copy(update={"default": None})  # type: ignore[union-attr]
    only_acme = spec.model_copy(update={"predictors": {"one": predictor.model_copy(update={"quantile_map": refs})}})
    batch = table(60)
    scored = snapshot(only_acme).execute(batch)
    names = batch.tenant.to_list()
    assert [one.row for one in scored.rejected] == [row for row in range(60) if names[row] != "acme"]
    assert "no quantile map" in scored.rejected[0].message
    assert scored.live[0].rows.tolist() == [row for row in range(60) if names[row] == "acme"]
