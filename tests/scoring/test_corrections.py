"""Prior correction and recalibration in a predictor's graph: right, monotone, the same bits, total, and pinned."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.calibration import Floats, Recalibration, corrected, corrected_each, prior_beta
from muse_stream.config import Document, InlineRecalibration, pre_map_hash, predictor_hash
from muse_stream.errors import ConfigError
from muse_stream.scoring import Snapshot, compile_snapshot
from muse_stream.scoring.scores import Scored
from tests.scoring.doubles import document, loaded, part, table

ROWS = 300
POINTS = np.random.default_rng(1).random(2000)
CURVES = {
    name: Recalibration.fit(POINTS, np.random.default_rng(10 + seed).random(2000) < POINTS**power)
    for seed, (name, power) in enumerate({"everybody": 2.0, "acmes": 3.0}.items())
}
NODES: dict[str, object] = {
    "raw": {"model": "a"},
    "level1": {"posterior_correction": {"input": "raw", "beta": 0.2}},
    "curve": {"recalibration": {"input": "level1", "default": "everybody", "tenants": {"acme": "acmes"}}},
    "now": {"prior_correction": {"input": "curve", "trained": 0.2, "prior": 0.1, "tenants": {"acme": 0.4}}},
}
ROUTES: list[Mapping[str, object]] = [{"live": "p"}]


def compiled(
    nodes: Mapping[str, object] = NODES, output: str = "now", pinned: bool = True
) -> tuple[Document, Snapshot]:
    predictor = {"version": 1, "nodes": dict(nodes), "output": output}
    stored = {name: {**curve.to_json(), "fitted_for": "0" * 64} for name, curve in CURVES.items()}
    inline = {
        name: InlineRecalibration.model_validate(
            {**one, "scores": tuple(one["scores"]), "probabilities": tuple(one["probabilities"])}
        )
        for name, one in stored.items()
    }
    spec = document(ROUTES, predictors={"p": predictor}).model_copy(update={"recalibrations": inline})
    found = list(spec.predictors["p"].graph().recalibration_nodes())
    content = pre_map_hash(spec, "p", found[0]) if found and pinned else "0" * 64
    curves = {
        name: Recalibration.from_json({**curve.to_json(), "fitted_for": content}) for name, curve in CURVES.items()
    }
    return spec, compile_snapshot(spec, loaded(spec), {}, curves, number=1, role="live")


def score_of(scored: Scored) -> Floats:
    return scored.live[0].score


def test_each_tenant_has_its_own_curve_and_prior_and_the_rest_the_default() -> None:
    batch = table(ROWS)
    _, snapshot = compiled()
    answers = snapshot.execute(batch).live[0]
    raw = answers.experts[0].raw
    tenants = np.array([batch.tenant.values[code] if code >= 0 else None for code in batch.tenant.codes[answers.rows]])
    for acme, curve, prior in ((True, "acmes", 0.4), (False, "everybody", 0.1)):
        rows = (tenants == "acme") == acme
        assert rows.any()
        expected = corrected(CURVES[curve].apply(corrected(raw[rows], 0.2)), prior_beta(0.2, prior))
        assert answers.score[rows].tolist() == expected.tolist()


def test_the_experts_corrected_score_is_the_last_of_its_corrections() -> None:
    answers = compiled()[1].execute(table(ROWS)).live[0]
    assert [expert.name for expert in answers.experts] == ["a"]
    assert answers.experts[0].corrected.tolist() == answers.score.tolist()


def test_an_event_has_the_same_bits_in_any_batch() -> None:
    batch, (_, snapshot) = table(ROWS), compiled()
    whole = snapshot.execute(batch).live[0]
    for rows in (np.arange(0, ROWS, 3), np.arange(7), np.arange(100, 101)):
        some = snapshot.execute(part(batch, rows)).live[0]
        alone = dict(zip(rows[some.rows].tolist(), some.score.tolist(), strict=True))
        assert alone == {
            row: score for row, score in zip(whole.rows.tolist(), whole.score.tolist(), strict=True) if row in alone
        }


def test_a_tenant_without_a_curve_or_prior_keeps_its_scores() -> None:
    nodes = {
        **NODES,
        "curve": {"recalibration": {"input": "level1", "tenants": {"acme": "acmes"}}},
        "now": {"prior_correction": {"input": "curve", "trained": 0.2, "tenants": {"acme": 0.4}}},
    }
    batch = table(ROWS)
    changed, plain = (
        compiled(some, output)[1].execute(batch).live[0] for some, output in [(nodes, "now"), (NODES, "level1")]
    )
    others = np.array([batch.tenant.values[code] != "acme" for code in batch.tenant.codes[plain.rows]])
    assert changed.score[others].tolist() == plain.score[others].tolist()
    assert (changed.score[~others] != plain.score[~others]).any()


probabilities = st.lists(st.floats(0.0, 1.0), min_size=1)


@given(probabilities, st.floats(1e-9, 1 - 1e-9), st.floats(1e-9, 1 - 1e-9))
def test_a_prior_correction_is_monotone_bounded_and_blind_to_company(
    p: list[float], trained: float, now: float
) -> None:
    ordered, beta = np.sort([*p, 0.0, 1.0]), prior_beta(trained, now)
    many = corrected_each(ordered, np.full(len(ordered), beta))
    assert many.tolist() == corrected(ordered, beta).tolist()
    assert (np.diff(many) >= 0.0).all()
    assert many[0] == 0.0
    assert many[-1] == 1.0
    assert np.isnan(corrected_each(np.array([np.nan, np.nan]), np.array([1.0, beta]))).all()


def test_a_prior_that_did_not_move_changes_no_bit() -> None:
    p = np.random.default_rng(0).random(1000)
    assert corrected_each(p, np.array([1.0, 2.0] * 500))[::2].tolist() == p[::2].tolist()
    nodes = {"raw": {"model": "a"}, "now": {"prior_correction": {"input": "raw", "trained": 0.2, "prior": 0.2}}}
    batch = table(ROWS)
    same = compiled(nodes)[1].execute(batch)
    assert score_of(same).tolist() == score_of(compiled({"raw": {"model": "a"}}, "raw")[1].execute(batch)).tolist()


def test_a_curve_fitted_for_another_content_is_refused() -> None:
    with pytest.raises(ConfigError, match="fitted for content 000000000000"):
        compiled(pinned=False)


@pytest.mark.parametrize(
    ("node", "change"),
    [
        ("now", {"prior_correction": {"input": "curve", "trained": 0.3, "prior": 0.1}}),
        ("curve", {"recalibration": {"input": "level1", "default": "acmes"}}),
        ("curve", {"recalibration": {"input": "level1", "default": "everybody"}}),
        ("level1", {"posterior_correction": {"input": "raw", "beta": 0.3}}),
    ],
)
def test_what_a_correction_says_is_content(node: str, change: dict[str, Any]) -> None:
    def content(nodes: Mapping[str, object]) -> str:
        return predictor_hash(compiled(nodes)[0], "p")

    assert content({**NODES, node: change}) != content(NODES)
    assert content(dict(NODES)) == content(NODES)
