"""The author's rows: read strictly, compared exactly as far as the tolerance says."""

import json
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from muse_stream.errors import ModelError
from muse_stream.models import OnnxModel, check_golden, read_golden
from muse_stream.scoring import Tensor
from muse_stream.scoring.features import Feature
from tests.models.onnx_factory import file, linear, load, port, rows, weights


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


def test_a_share_of_the_rows_may_differ(model: OnnxModel) -> None:
    golden = read_golden(_golden())
    golden.scores[[1, 4]] += 1e-4
    check_golden(model, golden, differing=0.34)
    with pytest.raises(ModelError, match=r"2 of 6 golden rows differ by more than 1e-06 \(1 may: differing 0.3\)"):
        check_golden(model, golden, differing=0.3)


def test_texts_for_numbers_and_numbers_that_do_not_fit_are_refused(model: OnnxModel) -> None:
    texts = read_golden(b'{"inputs": {"features": [["a", "b", "c"]]}, "scores": [0.5]}')
    with pytest.raises(ModelError, match="takes float32, and holds texts"):
        check_golden(model, texts)
    halved = [
        helper.make_node("Clip", ["b", "zero", "one"], ["c"]),
        helper.make_node("Cast", ["c"], ["probabilities"], to=TensorProto.FLOAT),
    ]
    bounds = [weights("zero", 0, np.int64), weights("one", 1, np.int64)]
    whole = load(file(halved, [port("b", [None, 1], TensorProto.INT64)], None, bounds), {"b": 1})
    with pytest.raises(ModelError, match=r"is int64, it cannot hold 0\.5"):
        check_golden(whole, read_golden(b'{"inputs": {"b": [[0.5]]}, "scores": [0.5]}'))


TENSORS = (
    Tensor(
        (
            Feature("amount", required=True),
            Feature("card.country", categories=(("*", 2.0), ("DE", 1.0))),
            Feature("risk", default=0.25),
        ),
        np.dtype(np.float32),
    ),
)


def test_golden_events_go_through_order_categories_and_defaults(model: OnnxModel) -> None:
    events = [{"risk": 0.5, "amount": 3.0, "card": {"country": "DE"}}, {"amount": 1, "card.country": "FR"}]
    table = np.array([[3.0, 1.0, 0.5], [1.0, 2.0, 0.25]])
    scores = 1 / (1 + np.exp(-table @ np.linspace(-0.5, 0.7, 3)))
    golden = read_golden(json.dumps({"events": events, "scores": scores.tolist()}).encode())
    check_golden(model, golden, tensors=TENSORS)
    swapped = (Tensor((*TENSORS[0].features[:1], *reversed(TENSORS[0].features[1:])), np.dtype(np.float32)),)
    with pytest.raises(ModelError, match="2 of 2 golden rows differ"):
        check_golden(model, golden, tensors=swapped)


def test_golden_events_that_cannot_be_scored_are_named(model: OnnxModel) -> None:
    events = [{"amount": 1.0}, {"risk": 1.0}, {"amount": 1e300}]
    golden = read_golden(json.dumps({"events": events, "scores": [0.5] * 3}).encode())
    with pytest.raises(ModelError, match="golden events: 2 cannot be scored; event 1: amount is missing, and required"):
        check_golden(model, golden, tensors=TENSORS)


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
        b'{"inputs": {"features": [[1]]}, "events": [{"a": 1}], "scores": [0.5]}',
        b'{"events": [{"a": 1}], "scores": [0.5, 0.5]}',
        b'{"events": [1], "scores": [0.5]}',
        b'{"events": {}, "scores": [0.5]}',
        b'{"inputs": {"features": [[1]]}, "scores": [null]}',
        b'{"inputs": {"features": [[NaN]]}, "scores": [0.5]}',
    ],
)
def test_a_file_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="golden file"):
        read_golden(data)
