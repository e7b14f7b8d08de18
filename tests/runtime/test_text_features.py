"""Whole numbers and booleans that a model reads as texts keep their text where nulls stand among them, too."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

import muse_stream
from tests.models.onnx_factory import port, proto, weights

LONG, LONGEST = (1 << 53) + 1, (1 << 63) - 1
NUMBERS = {str(LONG): 0.25, str(LONG - 1): 0.5, str(LONGEST): 0.75, "none": 0.125, "7": 1.0}
BOOLEANS = {"true": 0.25, "false": 0.5, "none": 0.125}


def configured(folder: Path, avro: Any, answers: dict[str, float], *, table: bool) -> Path:
    """A model that answers a number for each text; as a tensor of strings, or through a category table."""
    given: dict[str, Any] = {"field": "v", "default": "none"}
    if table:
        nodes = [helper.make_node("Clip", ["x", "least", "most"], ["p"])]
        given = {"field": "v", "categories": "texts", "default": answers["none"]}
    else:
        lookup: dict[str, Any] = {
            "keys_strings": list(answers),
            "values_floats": list(answers.values()),
            "default_float": 0.0,
        }
        nodes = [helper.make_node("LabelEncoder", ["x"], ["p"], domain="ai.onnx.ml", **lookup)]
    bounds = [weights("least", 0.0), weights("most", 1.0)]
    kind = TensorProto.FLOAT if table else TensorProto.STRING
    model = proto(nodes, [port("x", [None, 1], kind)], [port("p", [None, 1])], bounds).SerializeToString()
    (folder / "m.onnx").write_bytes(model)
    (folder / "schemas").mkdir()
    fields = [{"name": "id", "type": "string"}, {"name": "v", "type": avro}]
    schema = {"type": "record", "name": "Event", "fields": fields}
    (folder / "schemas" / "event.avsc").write_text(json.dumps(schema), encoding="utf-8")
    (folder / "schemas" / "ids.json").write_text('{"1": "event.avsc"}', encoding="utf-8")
    pinned = {"uri": "m.onnx", "sha256": hashlib.sha256(model).hexdigest()}
    document = {
        "version": 1,
        "schemas": "schemas",
        "categories": {"texts": {**answers, "*": 0.0}},
        "models": {"m": {**pinned, "inputs": {"x": given}, "output": {"name": "p"}}},
        "predictors": {"p": {"version": 1, "experts": [{"model": "m"}]}},
        "events": {"e": {"schema": "event.avsc", "id": "id"}},
        "routes": [{"live": "p"}],
        "tenants": {"acme": {"event": "e"}},
    }
    path = folder / "muse.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def replayed(path: Path, values: Sequence[Any]) -> list[float]:
    events, output = path.parent / "events.jsonl", path.parent / "scores.parquet"
    lines = [json.dumps({"id": str(row), "v": value}) for row, value in enumerate(values)]
    events.write_text("\n".join(lines), encoding="utf-8")
    muse_stream.replay(path, "acme", events, output)
    return [float(row["score"]) for row in pq.read_table(output).to_pylist()]


@pytest.mark.parametrize("table", [False, True], ids=["strings", "categories"])
@pytest.mark.parametrize(
    ("kind", "values", "answers"),
    [("long", [LONG, LONG - 1, LONGEST, 7, 8], NUMBERS), ("boolean", [True, False], BOOLEANS)],
)
@pytest.mark.parametrize("nullable", [False, True])
def test_a_null_beside_them_changes_no_text(
    tmp_path: Path, kind: str, values: list[Any], answers: dict[str, float], *, nullable: bool, table: bool
) -> None:
    given = [*values, None] if nullable else values
    texts = ["none" if one is None else str(one).lower() for one in given]
    expected = [answers.get(text, 0.0) for text in texts]
    path = configured(tmp_path, ["null", kind] if nullable else kind, answers, table=table)
    assert replayed(path, given) == expected
    asked = {"id": [str(row) for row in range(len(given))], "tenant": "acme", "v": given}
    assert muse_stream.load(path).score(asked)["score"].tolist() == expected
