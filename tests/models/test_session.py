"""Batches in, probabilities out: shapes, chunks, faults."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from muse_stream.errors import ModelError
from muse_stream.models import OnnxModel
from muse_stream.models.session import BLOCK_ROWS, CHUNK_ROWS, padded
from tests.models.onnx_factory import file, linear, load, port, rows, weights


@pytest.fixture(scope="module")
def lookup() -> OnnxModel:
    """Sigmoid of a table's entry at an int64 index: raises for an index outside the table."""
    nodes = [
        helper.make_node("Gather", ["table", "index"], ["margin"], axis=0),
        helper.make_node("Sigmoid", ["margin"], ["probabilities"]),
    ]
    table = [weights("table", [-1.0, 0.0, 1.0])]
    data = file(nodes, [port("index", [None, 1], TensorProto.INT64)], initializer=table)
    return load(data, {"index": 1}, positive=0)


def test_answers_are_float64_in_the_order_of_the_rows() -> None:
    model, features = load(linear(), positive=0), rows(2 * CHUNK_ROWS + 1, 3)
    answers = model.predict([features])
    assert answers.dtype == np.float64
    assert answers == pytest.approx(1 / (1 + np.exp(-features @ np.linspace(-0.5, 0.7, 3))), abs=1e-6)


def test_rows_that_are_not_contiguous_are_answered_alike() -> None:
    model, features = load(linear(), positive=0), rows(64, 6)
    view = features[::2, ::2]
    assert np.array_equal(model.predict([view]), model.predict([np.ascontiguousarray(view)]))


def test_full_blocks_are_passed_on_without_a_copy() -> None:
    full = rows(3 * BLOCK_ROWS, 2)
    assert padded(full, BLOCK_ROWS) is full
    whole = padded(full[:-3], BLOCK_ROWS)
    assert len(whole) == len(full)
    assert (whole[-4:] == whole[-4]).all()


def test_a_fault_is_one_short_line_without_the_values(lookup: OnnxModel) -> None:
    assert lookup.predict([np.array([[0], [2]])]) == pytest.approx([0.26894142, 0.73105858])
    with pytest.raises(RuntimeError) as caught:
        lookup.predict([np.array([[0], [41_999_977]])])
    message = str(caught.value)
    assert "Gather" in message
    assert "41999977" not in message
    assert len(message) <= 200
    assert "\n" not in message


def test_after_a_fault_the_model_answers_again(lookup: OnnxModel) -> None:
    with pytest.raises(RuntimeError):
        lookup.predict([np.array([[9]])])
    assert lookup.predict([np.array([[1]])]) == pytest.approx([0.5])


def test_wrong_type_or_width_is_a_fault_not_a_cast() -> None:
    model = load(linear(), positive=0)
    for wrong in (rows(4, 3).astype(np.float64), rows(4, 2)):
        with pytest.raises(RuntimeError):
            model.predict([wrong])


def test_a_number_of_inputs_that_is_not_the_models_is_a_fault() -> None:
    with pytest.raises(ValueError, match="zip"):
        load(linear(), positive=0).predict([rows(4, 3), rows(4, 3)])


def test_a_graph_that_the_runtime_refuses_is_a_model_error() -> None:
    node = helper.make_node("NoSuchOperator", ["features"], ["probabilities"])
    graph = helper.make_graph([node], "test", [port("features", [None, 3])], [port("probabilities", [None, 1])])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()
    with pytest.raises(ModelError, match=r"onnxruntime refuses the model: .*NoSuchOperator"):
        load(data, positive=0)
