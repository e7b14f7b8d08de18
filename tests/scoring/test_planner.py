"""Plans: one step per distinct content, graphs of every shape, and all problems at once."""

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from scipy.special import expit, logit

from muse_stream import QuantileMap, Reference, posterior_correction
from muse_stream.calibration import FittedMap
from muse_stream.config import InlineMap, pre_map_hash
from muse_stream.errors import ConfigError
from muse_stream.scoring import Categorical, EventTable
from muse_stream.scoring.node_compiler import reference_from
from muse_stream.scoring.planner import models_needed
from muse_stream.scoring.snapshot import compile_snapshot
from tests.scoring.doubles import (
    MODELS,
    PREDICTORS,
    Floats,
    Linear,
    document,
    loaded,
    maps_of,
    model_spec,
    part,
    sha,
    snapshot,
    table,
)


def whole(rows: int = 20) -> EventTable:
    """Return a batch in which nothing is missing, of a tenant without maps of its own."""
    rng = np.random.default_rng(1)
    one = table(rows, risk=rng.random(rows))
    return EventTable(rows, Categorical.constant("globex", rows), one.intent, one.features, one.ids)


def raw(models: dict[str, Linear], name: str, batch: EventTable) -> Floats:
    """Return what a model answers to the batch, from columns put together by hand."""
    channel = batch.features["channel"]
    assert isinstance(channel, Categorical)
    codes = {"pos": 0.0, "ecom": 1.0}
    numbers = np.array([codes.get(text or "", np.nan) for text in channel.to_list()])
    columns: dict[str, Any] = {**batch.features, "channel": numbers}
    wanted = {
        "a": [["amount", "risk", "channel"]],
        "b": [["amount", "risk", "channel"], ["age"]],
        "c": [["amount", "age"]],
    }
    return models[name].predict(
        [np.stack([columns[one] for one in names], axis=1).astype(np.float32) for names in wanted[name]]
    )


def test_a_model_shared_by_live_and_shadow_predictors_of_any_tenant_runs_once_per_batch() -> None:
    spec = document(
        [
            {"when": {"tenant": "acme"}, "live": "one", "shadow": ["two", "three"]},
            {"when": {"tenant": ["globex", "initech"]}, "live": "two", "shadow": ["one", "meta"]},
            {"live": "three", "shadow": [{"predictor": "one", "sample": 0.5}]},
        ]
    )
    models = loaded(spec)
    scored = snapshot(spec, models, "shadow").execute(table(500))
    assert {name: model.calls for name, model in models.items()} == {"a": 1, "b": 1, "c": 1, "meta": 1}
    assert models["a"].rows == 500
    assert len(scored.live) == 3


def test_a_model_runs_on_the_rows_that_need_it_and_no_other() -> None:
    spec = document([{"when": {"tenant": "acme"}, "live": "three"}, {"live": "one"}])
    models = loaded(spec)
    batch = table(300)
    snapshot(spec, models).execute(batch)
    acme = int((batch.tenant.codes == batch.tenant.values.index("acme")).sum())
    assert models["a"].rows == 300
    assert models["c"].rows == models["b"].rows == acme


def test_one_artifact_under_two_names_is_one_step_and_another_binding_is_not() -> None:
    twin = {**MODELS["a"], "uri": "elsewhere.onnx"}
    other = model_spec(
        "a", {"x": ["amount", {"field": "risk", "default": 0.75}, {"field": "channel", "categories": "channels"}]}
    )
    predictors = {
        "one": {"version": 1, "experts": [{"model": "a"}]},
        "two": {"version": 1, "experts": [{"model": "twin"}]},
        "three": {"version": 1, "experts": [{"model": "other"}]},
    }
    models = {"a": MODELS["a"], "twin": twin, "other": other}
    spec = document([{"live": "one", "shadow": ["two", "three"]}], predictors=predictors, models=models)
    doubles = {name: Linear("a", {"x": 3}) for name in models}
    scored = snapshot(spec, doubles, "shadow").execute(table(50))
    assert doubles["a"].calls + doubles["twin"].calls == 1
    assert doubles["other"].calls == 1
    assert scored.shadow[0].score.tobytes() == scored.live[0].score.tobytes()
    assert scored.shadow[1].score.tobytes() != scored.live[0].score.tobytes()


def test_the_live_role_needs_no_model_of_shadows_only() -> None:
    spec = document([{"live": "one", "shadow": ["three"]}])
    assert models_needed(spec, "live") == {"a"}
    assert models_needed(spec, "shadow") == {"a", "b", "c"}
    only_a = {"a": loaded(spec)["a"]}
    assert len(snapshot(spec, only_a).execute(table(10)).live) == 1


def test_the_short_form_computes_what_it_says() -> None:
    spec = document([{"live": "two"}])
    models, batch = loaded(spec), whole()
    (live,) = snapshot(spec, models).execute(batch).live
    first, second = raw(models, "a", batch), raw(models, "b", batch)
    mixed = (1.0 * posterior_correction(first, 0.1) + 2.0 * posterior_correction(second, 0.2)) / 3.0
    assert live.aggregate.tolist() == mixed.tolist()
    stored = maps_of(spec)["two-default"]
    mapped = QuantileMap.from_knots(stored.levels, stored.values, reference_from(spec.references["smooth"]))
    assert live.score.tolist() == mapped.apply(mixed).tolist()
    assert [(one.name, one.raw.tolist()) for one in live.experts] == [("a", first.tolist()), ("b", second.tolist())]
    assert live.experts[0].corrected.tolist() == posterior_correction(first, 0.1).tolist()
    assert (live.predictor, live.version) == ("two", 1)


def test_the_general_form_computes_what_it_says() -> None:
    nodes = {
        "a": {"model": "a"},
        "c": {"model": "c"},
        "a10": {"posterior_correction": {"input": "a", "beta": 0.1}},
        "a50": {"posterior_correction": {"input": "a", "beta": 0.5}},
        "both": {"aggregate": {"how": "logit_mean", "inputs": ["a10", "a50", "c"], "weights": [1, 2, 3]}},
        "top": {"aggregate": {"how": "max", "inputs": ["both", "c"]}},
        "out": {"clip": {"input": "top", "low": 0.3, "high": 0.7}},
    }
    spec = document([{"live": "g"}], predictors={"g": {"version": 4, "nodes": nodes, "output": "out"}})
    models, batch = loaded(spec), whole()
    (live,) = snapshot(spec, models).execute(batch).live
    a, c = raw(models, "a", batch), raw(models, "c", batch)
    logits = logit(posterior_correction(a, 0.1)) + 2 * logit(posterior_correction(a, 0.5)) + 3 * logit(c)
    expected = np.clip(np.maximum(expit(logits / 6.0), c), 0.3, 0.7)
    assert live.score == pytest.approx(expected, abs=1e-14)
    assert live.aggregate.tolist() == live.score.tolist()  # no quantile map: the output itself
    assert [one.name for one in live.experts] == ["a#a10", "a#a50", "c"]


def test_a_map_is_run_before_whatever_reads_it() -> None:
    """Maps are run together, as late as may be."""
    nodes = {
        "a": {"model": "a"},
        "c": {"model": "c"},
        "first": {"quantile_map": {"input": "a", "reference": "standard", "default": "m1"}},
        "second": {"quantile_map": {"input": "c", "reference": "smooth", "default": "m2"}},
        "both": {"aggregate": {"how": "mean", "inputs": ["first", "second"]}},
        "out": {"quantile_map": {"input": "both", "reference": "standard", "default": "m3"}},
    }
    spec = document([{"live": "g"}], predictors={"g": {"version": 1, "nodes": nodes, "output": "out"}})
    places = {"m1": ("first", "standard"), "m2": ("second", "smooth"), "m3": ("out", "standard")}
    references = {name: reference_from(one) for name, one in spec.references.items()}
    sample = np.random.default_rng(2).random(500)
    maps: dict[str, FittedMap] = {}
    for number, (name, (node, reference)) in enumerate(places.items(), 1):  # each is fitted for the maps below it
        maps[name] = FittedMap.fit(sample**number, references[reference], pre_map_hash(spec, "g", node))
        spec = spec.model_copy(update={"maps": {**spec.maps, name: InlineMap.model_validate(maps[name].to_json())}})
    models, batch = loaded(spec), whole()
    (live,) = compile_snapshot(spec, models, maps, number=1, role="live").execute(batch).live
    m1, m2, m3 = (QuantileMap(maps[name], references[reference]) for name, (_, reference) in places.items())
    mean = (m1.apply(raw(models, "a", batch)) + m2.apply(raw(models, "c", batch))) / 2.0
    assert live.score.tolist() == m3.apply(mean).tolist()


def test_a_meta_model_reads_the_experts_in_their_order() -> None:
    spec = document([{"live": "meta"}])
    models, batch = loaded(spec), whole()
    (live,) = snapshot(spec, models).execute(batch).live
    stacked = np.stack([raw(models, "a", batch), raw(models, "c", batch)], axis=1).astype(np.float32)
    assert models["meta"].seen[0][0].tolist() == stacked.tolist()
    assert live.score.tolist() == models["meta"].predict([stacked]).tolist()


def test_inputs_of_a_meta_model_are_bound_by_name() -> None:
    meta = model_spec("meta", {"left": ["first"], "right": ["second"]})
    spec = document([{"live": "meta"}], predictors={"meta": PREDICTORS["meta"]}, models={**MODELS, "meta": meta})
    models = loaded(spec, meta=Linear("meta", {"right": 1, "left": 1}))  # the artifact has them the other way round
    batch = whole()
    snapshot(spec, models).execute(batch)
    right, left = models["meta"].seen[0]
    assert left[:, 0].tolist() == raw(models, "a", batch).astype(np.float32).tolist()
    assert right[:, 0].tolist() == raw(models, "c", batch).astype(np.float32).tolist()


@pytest.mark.parametrize("how", ["mean", "logit_mean", "max", "min", "median"])
def test_an_aggregate_of_one_is_that_one_to_the_bit(how: str) -> None:
    nodes = {"c": {"model": "c"}, "out": {"aggregate": {"how": how, "inputs": ["c"]}}}
    spec = document([{"live": "g"}], predictors={"g": {"version": 1, "nodes": nodes, "output": "out"}})
    models, batch = loaded(spec), whole()
    (live,) = snapshot(spec, models).execute(batch).live
    assert live.score.tolist() == raw(models, "c", batch).tolist()


def test_each_tenant_has_its_own_quantile_map_and_others_the_default() -> None:
    spec = document([{"live": "one"}])
    batch = table(200)
    (live,) = snapshot(spec).execute(batch).live
    reference = Reference.from_alert_rates({0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05})
    tenants = np.array(batch.tenant.to_list())[live.rows]
    for name in ("acme", "globex", "initech", "nobody"):
        stored = maps_of(spec)["one-acme" if name == "acme" else "one-default"]
        mapped = QuantileMap.from_knots(stored.levels, stored.values, reference)
        of_tenant = tenants == name
        assert of_tenant.any()
        assert live.score[of_tenant].tolist() == mapped.apply(live.aggregate[of_tenant]).tolist()


def problems(spec: Any, models: Any = None, maps: Any = None) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        compile_snapshot(
            spec,
            loaded(spec) if models is None else models,
            maps_of(spec) if maps is None else maps,
            number=1,
            role="shadow",
        )
    return {problem.path: f"{problem.message} ({problem.hint})" for problem in refused.value.problems}


def test_every_missing_model_and_map_is_reported_at_once() -> None:
    spec = document([{"live": "one", "shadow": ["two", "meta"]}])
    found = problems(spec, {"a": loaded(spec)["a"]}, {"one-default": maps_of(spec)["one-default"]})
    assert set(found) == {"models.b", "models.c", "models.meta", "maps.one-acme", "maps.two-default", "maps.two-acme"}


def test_a_map_fitted_for_another_content_is_refused() -> None:
    spec = document([{"live": "one"}])
    stale = replace(maps_of(spec)["one-default"], fitted_for=sha("yesterday"))
    found = problems(spec, maps={**maps_of(spec), "one-default": stale})
    assert list(found) == ["maps.one-default"]
    assert "fit it again" in found["maps.one-default"]


def test_inputs_that_do_not_fit_the_model_are_all_reported() -> None:
    spec = document([{"live": "three"}])
    models = loaded(spec, a=Linear("a", {"x": 4}), b=Linear("b", {"x": 3, "z": 1}), c=Linear("c", {"x": 2}, np.int64))
    found = problems(spec, models)
    assert "3 features for an input of width 4" in found["models.a.inputs.x"]
    assert "no such input" in found["models.b.inputs.y"]
    assert "input z of the model is not bound" in found["models.b.inputs"]
    assert "cannot be fed: the model takes int64" in found["models.c.inputs.x[0]"]


def test_a_meta_model_of_other_arity_or_inputs_is_refused() -> None:
    spec = document([{"live": "meta"}])
    assert "aggregates 2" in problems(spec, loaded(spec, meta=Linear("meta", {"x": 3})))["models.meta"]
    assert "inputs" in problems(spec, loaded(spec, meta=Linear("meta", {"u": 1, "v": 1})))["models.meta.inputs"]


@pytest.mark.parametrize(
    ("nodes", "output", "words"),
    [
        ({"a": {"clip": {"input": "b"}}, "b": {"clip": {"input": "a"}}}, "a", "cycle"),
        ({"a": {"clip": {"input": "nowhere"}}}, "a", "nowhere"),
        ({"a": {"model": "a"}}, "elsewhere", "elsewhere"),
        ({"a": {"model": "unheard-of"}}, "a", "does not exist"),
    ],
)
def test_graphs_that_cannot_run_are_refused(nodes: dict[str, Any], output: str, words: str) -> None:
    spec = document([{"live": "g"}], predictors={"g": {"version": 1, "nodes": nodes, "output": output}})
    assert words in " ".join(problems(spec).values())


def test_a_route_to_nowhere_is_refused() -> None:
    spec = document([{"live": "one"}])
    lost = spec.model_copy(update={"routes": (spec.routes[0].model_copy(update={"live": "nothing"}),)})
    with pytest.raises(ConfigError, match="does not exist"):
        compile_snapshot(lost, loaded(spec), maps_of(spec), number=1, role="live")


def test_nothing_is_rehearsed_on_a_table_without_rows() -> None:
    made, batch = snapshot(document([{"live": "one"}])), whole()
    assert [one.scores.predictor for one in made.rehearse(batch, {"one": ["globex"]})] == ["one"]
    assert made.rehearse(part(batch, np.array([], dtype=np.int64)), {"one": ["globex"]}) == ()
