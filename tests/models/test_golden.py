"""The author's rows: read strictly, compared exactly as far as the tolerance says."""

import json
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from muse_stream.errors import ModelError
from muse_stream.models import OnnxModel, check_golden, read_golden
from tests.models.onnx_factory import file, linear, load, port, rows


@pytest.fixture(scope="module")
def model() -> OnnxModel:
    return load(linear(), positive=0)


def _golden(**changes: Any) -> bytes:
    features = rows(6, 3)
    scores = 1 / (1 + np.exp(-features @ np.linspace(-0.5, 0.7, 3)))
    document = {"inputs": {"features": features.tolist()}, "scores": scores.tolist()} | changes
    return json.dumps(document).encode()


def test_the_authors_own_answers_pass(model: OnnxModel) -> None:
    check_golden(model, read_golden(_golden()))


def test_rows_that_differ_are_named_with_both_scores(model: OnnxModel) -> None:
    golden = read_golden(_golden())
    golden.scores[[1, 4]] += 1e-4
    with pytest.raises(
        ModelError, match=r"2 of 6 golden rows differ by more than 1e-06: row 1: 0\.\d+, author 0\.\d+; row 4"
    ):
        check_golden(model, golden)
    check_golden(model, golden, tolerance=1e-3)


def test_a_missing_value_is_null_and_reaches_the_model() -> None:
    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Cast", ["missing"], ["probabilities"], to=TensorProto.FLOAT),
    ]
    missing = load(file(nodes, [port("features", [None, 1])]), {"features": 1}, positive=0)
    check_golden(missing, read_golden(_golden(inputs={"features": [[None], [2.0]]}, scores=[1.0, 0.0])))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": {"x": [[1.0]] * 6}}, "'features' must be given with 3 values"),
        ({"inputs": {"features": [[1.0, 2.0]] * 6}}, "'features' must be given with 3 values"),
        ({"inputs": {"features": [[1.0, 2.0, 3.0]] * 6, "y": [[1.0]] * 6}}, "no input 'y'"),
    ],
)
def test_rows_of_another_model_are_refused(model: OnnxModel, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_golden(model, read_golden(_golden(**changes)))


def test_an_integer_input_holds_no_missing_value() -> None:
    cast = helper.make_node("Cast", ["b"], ["probabilities"], to=TensorProto.FLOAT)
    flag = load(file([cast], [port("b", [None, 1], TensorProto.BOOL)]), {"b": 1}, positive=0)
    check_golden(flag, read_golden(_golden(inputs={"b": [[1], [0]]}, scores=[1.0, 0.0])))
    with pytest.raises(ModelError, match="cannot hold missing values"):
        check_golden(flag, read_golden(_golden(inputs={"b": [[1], [None]]}, scores=[1.0, 0.0])))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"inputs": {}, "scores": []}',
        b'{"inputs": [], "scores": [0.5]}',
        b'{"inputs": {"features": [[1, 2], [1]]}, "scores": [0.5, 0.5]}',
        b'{"inputs": {"features": [[1, 2]]}, "scores": [0.5, 0.5]}',
        b'{"inputs": {"features": [["a"]]}, "scores": [0.5]}',
        b'{"inputs": {"features": [[1]]}, "scores": [null]}',
        b'{"inputs": {"features": [[NaN]]}, "scores": [0.5]}',
    ],
)
def test_a_file_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="golden file"):
        read_golden(data)
