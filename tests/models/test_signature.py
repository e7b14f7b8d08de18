"""Inputs meet by name, shapes and types fit, the output is a probability: or the message says what would be right."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from muse_stream.errors import ModelError
from tests.models.onnx_factory import file, linear, load, port, proto, rows, weights

F, D, I64, B = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL


def _cast(name: str, shape: Any, kind: int) -> bytes:
    """A model that casts one input of any type to float and squashes its first column."""
    nodes = [
        helper.make_node("Cast", [name], ["f"], to=F),
        helper.make_node("Sigmoid", ["f"], ["probabilities"]),
    ]
    return file(nodes, [port(name, shape, kind)], [port("probabilities", [None, None])])


def _mixed() -> bytes:
    """amount (float), age (double), count (int64), online (bool), each [N, 1]; probability = sigmoid of their sum."""
    kinds = {"amount": F, "age": D, "count": I64, "online": B}
    nodes = [helper.make_node("Cast", [name], [f"{name}_f"], to=F) for name in kinds]
    nodes.append(helper.make_node("Sum", [f"{name}_f" for name in kinds], ["margin"]))
    nodes.append(helper.make_node("Sigmoid", ["margin"], ["probabilities"]))
    return file(nodes, [port(name, ["N", 1], kind) for name, kind in kinds.items()])


def test_several_inputs_of_every_type_in_the_configurations_order() -> None:
    widths = {"online": 1, "count": 1, "amount": 1, "age": 1}  # another order than the file's
    model = load(_mixed(), widths, positive=0)
    assert [entry.name for entry in model.inputs] == list(widths)
    assert [entry.dtype for entry in model.inputs] == [
        np.dtype(kind) for kind in ("bool", "int64", "float32", "float64")
    ]
    online, count = np.array([[True], [False]]), np.array([[3], [-4]])
    amount, age = np.array([[0.5], [0.25]], np.float32), np.array([[-1.0], [2.0]])
    margin = (online + count + amount + age).ravel()
    assert model.predict([online, count, amount, age]) == pytest.approx(1 / (1 + np.exp(-margin)), abs=1e-7)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"online": 1, "count": 1, "amount": 1}, "the configuration misses 'age'"),
        ({"online": 1, "count": 1, "amount": 1, "age": 1, "mcc": 1, "ip": 1}, "names unknown 'ip', 'mcc'"),
        (
            {"online": 1, "count": 1, "amounts": 1, "age": 1},
            "misses 'amount'; the configuration names unknown 'amounts'",
        ),
        ({"online": 1, "count": 2, "amount": 1, "age": 1}, r"count \(int64 \[N, 1\]\): takes 1 features.* lists 2"),
    ],
)
def test_inputs_that_do_not_meet_are_all_named(widths: Mapping[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(_mixed(), widths, positive=0)


def test_the_message_lists_what_the_model_takes() -> None:
    with pytest.raises(ModelError, match=r"the model takes features \(float \[\?, 3\]\)"):
        load(linear(), {"x": 3})


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ([None, 3], TensorProto.BFLOAT16, "only float16, float, double, int8"),
        ([None, 3, 1], F, "one or two dimensions"),
        ([None], F, "takes 1 features, the configuration lists 3"),
        ([None, 4], F, "takes 4 features, the configuration lists 3"),
    ],
)
def test_inputs_that_no_table_can_feed_are_refused(shape: Any, kind: int, message: str) -> None:
    nodes = [helper.make_node("Cast", ["features"], ["f"], to=F), helper.make_node("Sigmoid", ["f"], ["probabilities"])]
    data = proto(nodes, [port("features", shape, kind)], [port("probabilities", [None, None])]).SerializeToString()
    with pytest.raises(ModelError, match=message):
        load(data, positive=0)


@pytest.mark.parametrize("shape", [(None, 1), (None,)])
def test_one_column_outputs(shape: Any) -> None:
    features = rows(40, 3)
    model = load(linear(shape=shape), positive=0)
    expected = 1 / (1 + np.exp(-features @ np.linspace(-0.5, 0.7, 3)))
    assert model.predict([features]) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ModelError, match="positive is 1, it can only be 0"):
        load(linear(shape=shape), positive=1)


def test_two_columns_and_the_positive_one() -> None:
    softmax = helper.make_node("Softmax", ["features"], ["probabilities"], axis=1)
    data = file([softmax], [port("features", [None, 2])], [port("probabilities", [None, 2])])
    widths, features = {"features": 2}, rows(40, 2)
    first, second = load(data, widths, positive=0), load(data, widths, positive=1)
    assert first.predict([features]) + second.predict([features]) == pytest.approx(np.ones(40), abs=1e-6)
    with pytest.raises(ModelError, match="positive is 2, it can only be 0 or 1"):
        load(data, widths, positive=2)


@pytest.mark.parametrize("declared", [[None, 3], [None, None], None])
def test_more_than_two_classes_need_a_word_declared_or_not(declared: Any) -> None:
    softmax = helper.make_node("Softmax", ["features"], ["probabilities"], axis=1)
    data = proto([softmax], outputs=[port("probabilities", declared)]).SerializeToString()
    with pytest.raises(ModelError, match="it has 3 columns; say which column is the positive class, from 0 to 2"):
        load(data, positive=None)
    with pytest.raises(ModelError, match="positive is 3, it can only be a column from 0 to 2"):
        load(data, positive=3)
    features = rows(40, 3)
    shares = np.exp(features) / np.exp(features).sum(axis=1, keepdims=True)
    assert load(data, positive=2).predict([features]) == pytest.approx(shares[:, 2], abs=1e-6)
    both = load(data, positive=[0, {"column": 2}])
    assert both.predict([features]) == pytest.approx(shares[:, 0] + shares[:, 2], abs=1e-6)
    with pytest.raises(ModelError, match="names column 1 twice"):
        load(data, positive=[1, {"column": 1}])


def test_an_output_fixed_to_one_row_is_refused() -> None:
    with pytest.raises(ModelError, match="fixed to 1 rows"):
        load(_resize([1, 1], [1, 1]), positive=0)


def test_an_output_that_does_not_keep_the_rows_is_refused() -> None:
    with pytest.raises(ModelError, match=r"answered shape \[1?[0-9]+, 1\] for 64 rows"):
        load(_resize([-1, 1], [None, 1]), positive=0)


def _resize(target: list[int], declared: Any) -> bytes:
    nodes = [
        helper.make_node("Sigmoid", ["features"], ["p"]),
        helper.make_node("Reshape", ["p", "target"], ["probabilities"]),
    ]
    return file(nodes, None, [port("probabilities", declared)], [weights("target", target, np.int64)])


def test_unknown_output_lists_what_there_is() -> None:
    with pytest.raises(ModelError, match=r"no 'scores'; it offers probabilities \(float \[\?, 1\]\)"):
        load(linear(), output="scores")


@pytest.fixture(scope="module")
def logistic() -> LogisticRegression:
    features = rows(200, 3)
    return LogisticRegression().fit(features, features[:, 0] > 0)


def test_a_class_label_is_refused(logistic: LogisticRegression) -> None:
    data = to_onnx(logistic, rows(2, 3), options={"zipmap": False}).SerializeToString()
    with pytest.raises(ModelError, match=r"output label \(int64 .* name the probabilities"):
        load(data, {"X": 3}, output="label")
    assert load(data, {"X": 3}).predict([rows(3, 3)]).shape == (3,)


def test_raw_scores_of_the_exporter_are_refused(logistic: LogisticRegression) -> None:
    options = {"zipmap": False, "raw_scores": True}
    data = to_onnx(logistic, rows(2, 3), options={id(logistic): options}).SerializeToString()
    with pytest.raises(ModelError, match="not a probability"):
        load(data, {"X": 3})
