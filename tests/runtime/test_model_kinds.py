"""Models of every kind from an Avro event to a score or a dead letter: strings, categories, exactness, clipping."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from onnx import TensorProto, helper
from prometheus_client import generate_latest
from ruamel.yaml import YAML
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from muse_stream.avro import SchemaDirectory
from muse_stream.avro.encoder import prefix_for
from muse_stream.commands.check import check
from muse_stream.commands.configuration import open_configuration
from muse_stream.commands.load import load
from muse_stream.commands.publish import publish
from muse_stream.config import Role, load_document
from muse_stream.errors import ConfigError, Reason, Stage
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.runtime.batch_scorer import GenerationScorer, build_scorer
from muse_stream.runtime.worker_metrics import WorkerMeter
from muse_stream.worker.batch import Batch, Records, Tally
from tests.models.onnx_factory import file, port

FIELDS = {
    "amount": ["null", "double"],
    "count": ["null", "long"],
    "whole": "long",
    "mcc": ["null", "int"],
    "country": ["null", "string"],
    "flag": ["null", "boolean"],
}
SCHEMA = {
    "type": "record",
    "name": "Event",
    "fields": [{"name": "id", "type": "string"}, *({"name": name, "type": kind} for name, kind in FIELDS.items())],
}
EMPTY = dict.fromkeys(FIELDS) | {"whole": 0}


def configured(folder: Path, model: bytes, spec: Mapping[str, Any], **sections: Any) -> Path:
    (folder / "schemas").mkdir(exist_ok=True)
    (folder / "schemas" / "event.avsc").write_text(json.dumps(SCHEMA), encoding="utf-8")
    (folder / "model.onnx").write_bytes(model)
    pinned = {"uri": "model.onnx", "sha256": hashlib.sha256(model).hexdigest()}
    document = {
        "version": 1,
        "models": {"cards": pinned | dict(spec)},
        "predictors": {"cards": {"version": 1, "experts": [{"model": "cards"}]}},
        "events": {"event": {"schema": "event.avsc", "id": "id"}},
        "routes": [{"live": "cards"}],
        "tenants": {"acme": {"event": "event"}},
        **sections,
    }
    path = folder / "muse.yaml"
    with path.open("w", encoding="utf-8") as target:
        YAML(typ="safe").dump(document, target)
    return path


def scorer_of(path: Path, role: Role = "live") -> GenerationScorer:
    scorer = build_scorer(load_document(path), 1, role, "main", clock=lambda: 0)
    scorer.warm()
    return scorer


def scored(path: Path, events: Sequence[Mapping[str, Any]], scorer: GenerationScorer | None = None) -> Records:
    schema = SchemaDirectory.open(path.parent / "schemas").by_file("event.avsc")
    values: list[bytes | None] = []
    for number, event in enumerate(events):
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, fastavro.parse_schema(SCHEMA), {"id": str(number), **EMPTY, **event})
        values.append(prefix_for(schema, "single-object") + buffer.getvalue())
    count = len(values)
    batch = Batch(
        ["muse.events.acme"] * count,
        [0] * count,
        list(range(count)),
        [None] * count,
        values,
        lambda: [1_700_000_000_000] * count,
        lambda: [[] for _ in values],
    )
    return (scorer or scorer_of(path)).score(batch, 0)


def scores(answer: Records) -> list[float]:
    parsed = fastavro.parse_schema(json.loads(output_schemas().by_file("score.avsc").text))
    read: list[Any] = [fastavro.schemaless_reader(io.BytesIO(value[10:]), parsed) for value in answer.values]
    return [one["score"] for one in read]


def letters(answer: Records) -> dict[int, tuple[Reason, str]]:
    return {one.rejected.row: (one.rejected.reason, one.rejected.message) for one in answer.dead}


def cast(kind: int, shape: Sequence[Any] = (None, 1)) -> bytes:
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Sigmoid", ["f"], ["p"]),
    ]
    return file(nodes, [port("x", shape, kind)], [port("p", shape)])


def test_what_an_integer_input_cannot_hold_costs_its_event(tmp_path: Path) -> None:
    spec = {"inputs": {"x": {"field": "amount", "required": True}}, "output": {"name": "p"}}
    path = configured(tmp_path, cast(TensorProto.INT64), spec)
    amounts = [3.0, 1e19, 1.7, -1e19, None, float("nan"), float("inf"), -2.0]
    answer = scored(path, [{"amount": amount} for amount in amounts])
    assert scores(answer) == pytest.approx([1 / (1 + np.exp(-3.0)), 1 / (1 + np.exp(2.0))])
    found = letters(answer)
    assert {row: reason for row, (reason, _) in found.items()} == {
        **dict.fromkeys((1, 2, 3, 6), Reason.INEXACT_FEATURE),
        **dict.fromkeys((4, 5), Reason.MISSING_FEATURE),
    }
    assert found[2][1] == "amount holds what int64 cannot; model cards reads it"
    assert {one.rejected.stage for one in answer.dead} == {Stage.VALIDATE}


@pytest.mark.parametrize(
    ("kind", "feature", "message"),
    [
        (TensorProto.INT64, {"field": "amount", "default": 0.5}, "default 0.5 cannot be int64"),
        (TensorProto.INT32, {"field": "amount", "default": 3e9}, "default 3e+09 cannot be int32"),
        (TensorProto.BOOL, {"field": "amount", "default": 2}, "default 2 cannot be bool"),
        (TensorProto.FLOAT16, {"field": "amount", "default": 70000}, "default 70000 cannot be float16"),
        (
            TensorProto.FLOAT,
            {"field": "amount", "default": "none"},
            "default 'none' is a text, and the model takes float32",
        ),
        (TensorProto.STRING, {"field": "country", "default": 0}, "default 0 is a number, and the model takes strings"),
        (TensorProto.STRING, {"field": "country"}, "a missing value cannot be fed: the model takes strings"),
        (
            TensorProto.STRING,
            {"field": "country", "default": "", "categories": "table"},
            "a category table makes numbers",
        ),
        (TensorProto.STRING, {"field": "amount", "default": ""}, "amount is a number, and the model takes strings"),
        (TensorProto.STRING, {"field": "flag", "default": ""}, "flag is a boolean, and the model takes strings"),
        (
            TensorProto.INT64,
            {"field": "country", "default": 0, "categories": "table"},
            "has what cannot be int64: DE: 0.5",
        ),
        (TensorProto.FLOAT, {"field": "amount", "categories": "table"}, "amount is a number with fractions"),
        (TensorProto.FLOAT, "country", "country is text"),
    ],
)
def test_a_configuration_that_does_not_fit_the_inputs_is_refused(
    tmp_path: Path, kind: int, feature: Any, message: str
) -> None:
    spec = {"inputs": {"x": feature}, "output": {"name": "p"}}
    sections = {"categories": {"table": {"DE": 0.5, "*": 1}}} if "table" in str(feature) else {}
    path = configured(tmp_path, _strings() if kind == TensorProto.STRING else cast(kind), spec, **sections)
    found = check(path)
    assert [message in problem.message for problem in found.problems] == [True], found.problems
    assert found.problems[0].line is not None


def _strings() -> bytes:
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["x"],
            ["f"],
            domain="ai.onnx.ml",
            keys_strings=["DE", "5411", "missing"],
            values_floats=[0.25, 0.5, 0.75],
            default_float=0.0,
        ),
        helper.make_node("Identity", ["f"], ["p"]),
    ]
    return file(nodes, [port("x", [None, 1], TensorProto.STRING)], [port("p", [None, 1])])


def test_strings_and_integers_reach_a_string_input(tmp_path: Path) -> None:
    spec = {"inputs": {"x": {"field": "country", "default": "missing"}}, "output": {"name": "p"}}
    answer = scored(configured(tmp_path, _strings(), spec), [{"country": one} for one in ("DE", "XX", None)])
    assert scores(answer) == [0.25, 0.0, 0.75]
    spec = {"inputs": {"x": {"field": "mcc", "default": "missing"}}, "output": {"name": "p"}}
    answer = scored(configured(tmp_path, _strings(), spec), [{"mcc": one} for one in (5411, 5412, None)])
    assert scores(answer) == [0.5, 0.0, 0.75]
    spec = {"inputs": {"x": {"field": "country", "required": True}}, "output": {"name": "p"}}
    assert list(letters(scored(configured(tmp_path, _strings(), spec), [{"country": "DE"}, {}]))) == [1]


def test_integers_and_booleans_go_through_a_category_table(tmp_path: Path) -> None:
    table = {"mccs": {5411: 0.0, 5812: 3.0, "*": -3.0}, "flags": {True: 2.0, False: -2.0}}
    for field, categories, values, expected in (
        ("mcc", "mccs", [5411, 5812, 1, None], [0.0, 3.0, -3.0, 1.0]),
        ("whole", "mccs", [5411, 5812, -1], [0.0, 3.0, -3.0]),
        ("count", "mccs", [5812, 2**60, None], [3.0, None, 1.0]),
        ("flag", "flags", [True, False, None], [2.0, -2.0, 1.0]),
    ):
        feature = {"field": field, "categories": categories, "default": 1.0}
        sections = {"categories": {categories: table[categories]}}
        path = configured(
            tmp_path, cast(TensorProto.FLOAT), {"inputs": {"x": feature}, "output": {"name": "p"}}, **sections
        )
        found = scores(scored(path, [{field: value} for value in values]))
        for one, margin in zip(found, expected, strict=True):
            if margin is not None:
                assert one == pytest.approx(1 / (1 + np.exp(-margin)), abs=1e-6)
        assert check(path).ok


def test_a_table_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    feature = {"field": "mcc", "categories": "mccs"}
    sections = {"categories": {"mccs": {5411: 1.0, "5411": 2.0}}}
    path = configured(
        tmp_path, cast(TensorProto.FLOAT), {"inputs": {"x": feature}, "output": {"name": "p"}}, **sections
    )
    with pytest.raises(ConfigError, match="5411 stands in it twice, as a text and as a number"):
        load_document(path)


def test_a_meta_model_takes_floats(tmp_path: Path) -> None:
    path = configured(tmp_path, cast(TensorProto.FLOAT), {"inputs": {"x": "amount"}, "output": {"name": "p"}})
    meta = cast(TensorProto.INT64)
    (tmp_path / "meta.onnx").write_bytes(meta)
    document = YAML(typ="safe").load(path)
    document["models"]["meta"] = {
        "uri": "meta.onnx",
        "sha256": hashlib.sha256(meta).hexdigest(),
        "inputs": {"x": "cards"},
        "output": {"name": "p"},
    }
    document["predictors"]["cards"]["aggregate"] = {"model": "meta"}
    with path.open("w", encoding="utf-8") as target:
        YAML(typ="safe").dump(document, target)
    messages = [problem.message for problem in check(path).problems]
    assert messages == ["a meta-model reads scores, and its input x takes int64"]


@pytest.fixture(scope="module")
def forest() -> bytes:
    features = np.random.default_rng(1).normal(size=(500, 1)).astype(np.float32)
    estimator = RandomForestClassifier(20, random_state=1).fit(features, features[:, 0] > 0)
    return bytes(to_onnx(estimator, features[:1]).SerializeToString())


@pytest.mark.parametrize("role", ["live", "shadow"])
def test_a_unanimous_forest_is_clipped_and_counted_once_it_is_committed(
    forest: bytes, tmp_path: Path, role: Role
) -> None:
    spec = {"inputs": {"X": {"field": "amount", "required": True}}, "output": {"name": "output_probability"}}
    path = configured(tmp_path, forest, spec)
    assert check(path).ok
    scorer = scorer_of(path, role)
    answer = scored(path, [{"amount": 3.0}, {"amount": -3.0}, {"amount": 4.0}], scorer)
    if role == "live":
        assert scores(answer) == [1.0, 0.0, 1.0]
        assert not answer.dead
    assert answer.clipped == {"cards": 2}
    meter = WorkerMeter(role, "main", 0)
    meter.serving(scorer)
    assert b"muse_clipped_probabilities_total{" not in generate_latest(meter.registry)
    meter.committed(3, Tally.of(answer, scorer.book), 0.1)
    assert b'muse_clipped_probabilities_total{model="cards"} 2.0' in generate_latest(meter.registry)


def test_what_is_no_probability_by_more_than_rounding_is_a_dead_letter(tmp_path: Path) -> None:
    nodes = [helper.make_node("Div", ["x", "scale"], ["p"])]
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [1e9])
    data = file(nodes, [port("x", [None, 1])], [port("p", [None, 1])], [scale])
    path = configured(tmp_path, data, {"inputs": {"x": "amount"}, "output": {"name": "p", "scale": [-1, 1]}})
    answer = scored(path, [{"amount": 0.0}, {"amount": 1.00002e9}, {"amount": 1.1e9}, {"amount": 1.000000064e9}])
    assert scores(answer) == [0.5, 1.0]
    assert [reason for reason, _ in letters(answer).values()] == [Reason.NON_FINITE, Reason.NON_FINITE]


def test_every_part_of_how_a_model_is_read_is_in_the_predictors_content(tmp_path: Path) -> None:
    from muse_stream.config import pre_map_hash  # noqa: PLC0415 - only here

    variants: list[dict[str, Any]] = [
        {},
        {"output": {"name": "p", "positive": {"column": 0}}},
        {"output": {"name": "p", "link": "sigmoid"}},
        {"output": {"name": "p", "scale": [0, 2]}},
        {"output": {"name": "p", "scale": [2, 0]}},
        {"inputs": {"x": {"field": "amount", "default": 1}}},
        {"inputs": {"x": {"field": "amount", "required": True}}},
        {"data": {"file": "model.data", "sha256": "0" * 64}},
        {"data": {"file": "model.data", "sha256": "1" * 64}},
    ]
    (tmp_path / "model.data").write_bytes(b"")
    usual = {"inputs": {"x": "amount"}, "output": {"name": "p"}}
    hashes = set()
    for variant in variants:
        path = configured(tmp_path, cast(TensorProto.FLOAT), usual | variant)
        hashes.add(pre_map_hash(load_document(path).document, "cards"))
    assert len(hashes) == len(variants)
    path = configured(tmp_path, cast(TensorProto.FLOAT), usual | {"output": {"name": "p", "positive": 1}})
    assert pre_map_hash(load_document(path).document, "cards") in hashes  # what was the default keeps its hash


def test_a_pipeline_with_strings_scores_the_same_bits_in_any_batch(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    countries = np.array(["DE", "FR", "IT"])[random.integers(0, 3, (300, 1))].astype(object)
    pipeline = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    pipeline.fit(countries, (countries[:, 0] == "DE") | (random.random(300) < 0.1))
    data = to_onnx(pipeline, initial_types=[("country", StringTensorType([None, 1]))]).SerializeToString()
    spec = {"inputs": {"country": {"field": "country", "default": ""}}, "output": {"name": "output_probability"}}
    path = configured(tmp_path, data, spec)
    scorer = scorer_of(path)
    events = [{"country": one} for one in ("DE", "XX", None, "IT", "FR", "DE", "")]
    whole = scores(scored(path, events, scorer))
    assert whole == [scores(scored(path, [event], scorer))[0] for event in events]
    given = np.array([[event["country"] or ""] for event in events], dtype=object)
    assert whole == pytest.approx(pipeline.predict_proba(given)[:, 1], abs=1e-6)


def test_a_notebook_scores_strings_and_integers_as_the_stream_does(tmp_path: Path) -> None:
    spec = {"inputs": {"x": {"field": "country", "default": "missing"}}, "output": {"name": "p"}}
    snapshot = load(configured(tmp_path, _strings(), spec))
    assert snapshot.score({"tenant": "acme", "country": ["DE", None, "XX"]})["score"].tolist() == [0.25, 0.75, 0.0]
    assert snapshot.score({"tenant": "acme", "country": [None, None]})["score"].tolist() == [0.75, 0.75]
    spec = {"inputs": {"x": {"field": "mcc", "default": "missing"}}, "output": {"name": "p"}}
    snapshot = load(configured(tmp_path, _strings(), spec))
    assert snapshot.score({"tenant": "acme", "mcc": [5411, 1]})["score"].tolist() == [0.5, 0.0]
    assert snapshot.score({"tenant": "acme", "mcc": [5411, None]})["score"].tolist() == [0.5, 0.75]


def test_a_file_of_tensors_goes_into_the_generation(tmp_path: Path) -> None:
    (tmp_path / "tensors.bin").write_bytes(b"")
    data = {"file": "tensors.bin", "sha256": hashlib.sha256(b"").hexdigest()}
    path = configured(
        tmp_path, cast(TensorProto.FLOAT), {"inputs": {"x": "amount"}, "output": {"name": "p"}, "data": data}
    )
    assert check(path).ok
    publish(path, tmp_path / "store")
    opened = open_configuration(tmp_path / "store")
    assert (opened.path.parent / "tensors.bin").read_bytes() == b""
    assert load(tmp_path / "store").score({"tenant": "acme", "amount": [0.0]})["score"].tolist() == [0.5]
    (tmp_path / "tensors.bin").unlink()
    assert [(one.path, one.message) for one in check(path).problems] == [
        ("models.cards.data.file", "no file 'tensors.bin'")
    ]
