"""What invented rows find out about a model before it serves."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.naive_bayes import GaussianNB

from muse_stream.errors import ModelError
from tests.models.onnx_factory import file, linear, load, port, rows, weights


def _model(*nodes: object, width: int = 3) -> bytes:
    return file(nodes, [port("features", [None, width])], [port("probabilities", [None, None])])


def test_a_raw_margin_is_refused_with_the_way_out() -> None:
    with pytest.raises(ModelError, match=r"answers .* for a probe row: not a probability. A margin .*link: sigmoid"):
        load(linear(activation=None), positive=0)


def test_a_rounded_logarithm_of_an_extreme_row_does_not_cost_the_model() -> None:
    data = rows(600, 4, seed=1)
    data[:, 0] = np.exp(2 * data[:, 0])  # amounts
    data[:, 3] = np.random.default_rng(1).integers(0, 5, 600)
    model = GaussianNB().fit(data, np.digitize(data[:, 0] + data[:, 1], [1, 3]))
    served = load(to_onnx(model, data[:1]).SerializeToString(), {"X": 4}, "output_probability", [1, 2])
    expected = model.predict_proba(data)[:, 1:].sum(axis=1)
    assert served.predict([data]) == pytest.approx(expected, abs=1e-4)


def test_a_model_that_never_has_an_answer_is_refused() -> None:
    root = helper.make_node("Sqrt", ["minus"], ["nan"])
    nodes = [helper.make_node("Sub", ["features", "big"], ["minus"]), root, helper.make_node("Sigmoid", ["nan"], ["p"])]
    nodes.append(helper.make_node("Identity", ["p"], ["probabilities"]))
    data = file(nodes, [port("features", [None, 1])], None, [weights("big", [1e9])])
    with pytest.raises(ModelError, match="not finite for 64 of 64 probe rows"):
        load(data, {"features": 1}, positive=0)


def test_a_logarithm_of_amounts_is_a_models_own_right() -> None:
    nodes = [helper.make_node("Log", ["features"], ["l"]), helper.make_node("Sigmoid", ["l"], ["probabilities"])]
    model = load(_model(*nodes, width=1), {"features": 1}, positive=0)
    assert np.isnan(model.predict([np.array([[-1.0]], np.float32)])).all()


def test_a_lookup_table_may_refuse_wide_rows() -> None:
    # As networks with embeddings do: one float tensor, a column of it is an index.
    nodes = [
        helper.make_node("Cast", ["features"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["m"], axis=0),
        helper.make_node("Sigmoid", ["m"], ["probabilities"]),
    ]
    data = file(nodes, [port("features", [None, 1])], None, [weights("table", [-1.0, 1.0])])
    assert load(data, {"features": 1}, positive=0).predict([np.array([[1.0]], np.float32)]) > 0.5


def test_a_model_that_cannot_answer_zeros_and_ones_is_refused() -> None:
    nodes = [
        helper.make_node("Cast", ["features"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["m"], axis=0),
        helper.make_node("Sigmoid", ["m"], ["probabilities"]),
    ]
    data = file(nodes, [port("features", [None, 1])], None, [weights("table", [-1.0])])
    with pytest.raises(ModelError, match="plain rows"):
        load(data, {"features": 1}, positive=0)


def test_a_score_that_depends_on_the_other_rows_is_refused() -> None:
    axes = weights("axes", [0], np.int64)
    nodes = [
        helper.make_node("ReduceMean", ["features", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["features", "mean"], ["centred"]),
        helper.make_node("Sigmoid", ["centred"], ["probabilities"]),
    ]
    data = file(nodes, [port("features", [None, 1])], None, [axes])
    with pytest.raises(ModelError, match="operator ReduceMean goes over the rows of the batch"):
        load(data, {"features": 1}, positive=0)
