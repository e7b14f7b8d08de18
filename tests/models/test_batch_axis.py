"""Graphs in which rows depend on each other are refused by the operator's name; those that score each row are not.

Each graph is made so that probe rows cannot tell: what mixes the rows decides only beyond a bound that none reaches.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from muse_stream.errors import ModelError
from muse_stream.models import load as loading
from muse_stream.models.artifact import read_model
from muse_stream.models.batch_axis import refuse_mixing
from tests.models.onnx_factory import linear, load, port, proto, weights

N = helper.make_node
I64 = np.int64
FLAG = TensorProto.FLOAT


def guarded(nodes: Sequence[Any], constants: Sequence[Any], **fields: Any) -> Any:
    """A graph that answers sigmoid(first feature), unless `guard`, made of all rows by `nodes`, is over 1e30."""
    tail = [
        N("Gather", ["features", "first"], ["column"], axis=1),
        N("Sigmoid", ["column"], ["p"]),
        N("Greater", ["guard", "bound"], ["far"]),
        N("Where", ["far", "half", "p"], ["probabilities"]),
    ]
    more = [weights("first", [0], I64), weights("bound", 1e30), weights("half", 0.125)]
    return proto([*nodes, *tail], None, None, [*constants, *more], **fields)


def reduced(kind: str, **attributes: Any) -> list[Any]:
    return [N(kind, ["features"], ["g"], **attributes), N("ReduceMax", ["g"], ["guard"], keepdims=0)]


def axes(*values: int) -> Any:
    return weights("axes", list(values), I64)


TURN = [N("Transpose", ["features"], ["turned"], perm=[1, 0])]
FLAT = [N("Reshape", ["features", "shape"], ["flat"])]
MIXING: dict[str, tuple[list[Any], list[Any], str]] = {
    "the maximum of all": ([N("ReduceMax", ["features"], ["guard"], keepdims=0)], [], "ReduceMax"),
    "the mean of a column": (
        [N("ReduceMean", ["features", "axes"], ["m"]), N("ReduceMax", ["m", "axes1"], ["guard"])],
        [axes(0), weights("axes1", [1], I64)],
        "ReduceMean",
    ),
    "a sum over the last dimension, turned": (
        [*TURN, N("ReduceSum", ["turned", "axes"], ["s"]), N("ReduceMax", ["s"], ["guard"], keepdims=0)],
        [axes(-1)],
        "ReduceSum",
    ),
    "the maximum of all as one vector": (
        [*FLAT, N("ReduceMax", ["flat"], ["guard"], keepdims=0)],
        [weights("shape", [-1], I64)],
        "ReduceMax",
    ),
    "the maximum in a dimension more": (
        [
            N("Unsqueeze", ["features", "axes"], ["u"]),
            N("ReduceMax", ["u", "axes1"], ["m"]),
            N("ReduceMax", ["m", "axes2"], ["guard"], keepdims=0),
        ],
        [axes(0), weights("axes1", [1], I64), weights("axes2", [0, 2], I64)],
        "ReduceMax",
    ),
    "the place of the largest": (
        [
            N("ArgMax", ["features"], ["a"], axis=0),
            N("Cast", ["a"], ["b"], to=FLAG),
            N("ReduceMax", ["b"], ["guard"], keepdims=0),
        ],
        [],
        "ArgMax",
    ),
    "the largest row": (
        [N("TopK", ["features", "k"], ["t", "i"], axis=0), N("ReduceMax", ["t"], ["guard"], keepdims=0)],
        [weights("k", [1], I64)],
        "TopK",
    ),
    "a running sum": (
        [N("CumSum", ["features", "axis"], ["c"]), N("ReduceMax", ["c", "axes"], ["guard"])],
        [weights("axis", 0, I64), axes(1)],
        "CumSum",
    ),
    "a softmax over rows": (
        [N("Softmax", ["features"], ["s"], axis=0), N("ReduceMax", ["s", "axes"], ["guard"])],
        [axes(1)],
        "Softmax",
    ),
    "the rows that are not zero": (
        [
            N("NonZero", ["features"], ["z"]),
            N("Cast", ["z"], ["f"], to=FLAG),
            N("ReduceMax", ["f"], ["guard"], keepdims=0),
        ],
        [],
        "NonZero",
    ),
    "the first row": (
        [N("Gather", ["features", "zero"], ["row"], axis=0), N("ReduceMax", ["row"], ["guard"], keepdims=0)],
        [weights("zero", 0, I64)],
        "Gather",
    ),
    "the last row": (
        [N("Slice", ["features", "from", "to", "axes"], ["row"]), N("ReduceMax", ["row"], ["guard"], keepdims=0)],
        [weights("from", [-1], I64), weights("to", [2**62], I64), axes(0)],
        "Slice",
    ),
    "rows by rows": (
        [*TURN, N("MatMul", ["features", "turned"], ["square"]), N("ReduceMax", ["square", "axes"], ["guard"])],
        [axes(1)],
        "MatMul",
    ),
    "columns by columns": (
        [*TURN, N("MatMul", ["turned", "features"], ["square"]), N("ReduceMax", ["square"], ["guard"], keepdims=0)],
        [],
        "MatMul",
    ),
    "columns by columns, by Gemm": (
        [N("Gemm", ["features", "features"], ["square"], transA=1), N("ReduceMax", ["square"], ["guard"], keepdims=0)],
        [],
        "Gemm",
    ),
    "an Einsum without the rows": (
        [N("Einsum", ["features"], ["s"], equation="nf->f"), N("ReduceMax", ["s"], ["guard"], keepdims=0)],
        [],
        "Einsum",
    ),
    "every row against every other": (
        [
            N("Gather", ["features", "zero"], ["x"], axis=1),
            N("Unsqueeze", ["x", "axes"], ["column"]),
            N("Sub", ["column", "x"], ["pairs"]),
            N("ReduceMax", ["pairs", "axes1"], ["guard"]),
        ],
        [weights("zero", 0, I64), axes(1), weights("axes1", [1], I64)],
        "Sub",
    ),
    "a normalisation over the rows": (
        [
            *TURN,
            N("LayerNormalization", ["turned", "one"], ["n"], axis=-1),
            N("ReduceMax", ["n"], ["guard"], keepdims=0),
        ],
        [weights("one", [1.0])],
        "LayerNormalization",
    ),
    "the number of rows": (
        [
            N("Shape", ["features"], ["s"]),
            N("Gather", ["s", "zero"], ["n"]),
            N("Cast", ["n"], ["f"], to=FLAG),
            N("Mul", ["f", "column"], ["m"]),
            N("ReduceMax", ["m", "axes"], ["guard"]),
        ],
        [weights("zero", 0, I64), axes(1)],
        "Mul",
    ),
    "a unique row": (
        [N("Unique", ["features"], ["u"], axis=0), N("ReduceMax", ["u"], ["guard"], keepdims=0)],
        [],
        "Unique",
    ),
    "a scale of all rows": (
        [N("DynamicQuantizeLinear", ["features"], ["q", "s", "z"]), N("Identity", ["s"], ["guard"])],
        [],
        "DynamicQuantizeLinear",
    ),
    "pieces of the rows": (
        [N("Split", ["features"], ["a", "b"], axis=0, num_outputs=2), N("ReduceMax", ["a"], ["guard"], keepdims=0)],
        [],
        "Split",
    ),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_rows_is_named(name: str) -> None:
    nodes, constants, operator = MIXING[name]
    model = guarded(nodes, constants)
    if name == "the number of rows":
        model.graph.node.insert(0, model.graph.node[-4])
    with pytest.raises(ModelError, match=f"depend on the batch it comes in: operator {operator} "):
        load(model.SerializeToString())


def test_a_batch_norm_in_training_mode_is_named() -> None:
    nodes = [N("BatchNormalization", ["features", "s", "b", "m", "v"], ["n", "rm", "rv"], training_mode=1)]
    constants = [weights(name, np.ones(3)) for name in "sbmv"]
    nodes.append(N("ReduceMax", ["n", "axes"], ["guard"]))
    with pytest.raises(ModelError, match="BatchNormalization is exported in training mode"):
        load(guarded(nodes, [*constants, axes(1)]).SerializeToString())


@pytest.mark.parametrize("layout", [0])
def test_rows_read_as_one_sequence_are_named(layout: int) -> None:
    nodes = [
        N("Unsqueeze", ["features", "axes"], ["x"]),
        N("RNN", ["x", "w", "r"], ["y"], hidden_size=2, layout=layout),
        N("ReduceMax", ["y"], ["guard"], keepdims=0),
    ]
    constants = [axes(1), weights("w", np.ones((1, 2, 3))), weights("r", np.ones((1, 2, 2)))]
    with pytest.raises(ModelError, match="RNN reads the rows of the batch as one sequence"):
        load(guarded(nodes, constants).SerializeToString())


def test_a_scan_that_carries_something_from_row_to_row_is_named() -> None:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [N("Max", ["state", "row"], ["next"]), N("Identity", ["row"], ["out"])],
        "body",
        [info("state", FLAG, [3]), info("row", FLAG, [3])],
        [info("next", FLAG, [3]), info("out", FLAG, [3])],
    )
    nodes = [
        N("Scan", ["start", "features"], ["last", "all"], body=body, num_scan_inputs=1),
        N("ReduceMax", ["last"], ["guard"], keepdims=0),
    ]
    with pytest.raises(ModelError, match="Scan goes from row to row and carries something along"):
        load(guarded(nodes, [weights("start", np.zeros(3))]).SerializeToString())


def test_what_mixes_rows_in_a_function_or_a_branch_is_named() -> None:
    body = [N("ReduceMax", ["x"], ["y"], keepdims=0)]
    own = helper.make_opsetid("own", 1)
    function = helper.make_function("own", "Largest", ["x"], ["y"], body, [helper.make_opsetid("", 20)])
    call = [N("Largest", ["features"], ["guard"], domain="own")]
    with pytest.raises(ModelError, match="operator ReduceMax"):
        load(guarded(call, [], functions=[function], opsets=[own]).SerializeToString())
    outputs = [helper.make_tensor_value_info("b", FLAG, [])]
    branches = {
        name: helper.make_graph([N("ReduceMax", ["features"], ["b"], keepdims=0)], name, [], outputs)
        for name in ("then_branch", "else_branch")
    }
    with pytest.raises(ModelError, match="operator ReduceMax"):
        load(guarded([N("If", ["yes"], ["guard"], **branches)], [weights("yes", True, np.bool_)]).SerializeToString())


BY_ROW: dict[str, tuple[list[Any], list[Any]]] = {
    "the maximum of a row": ([N("ReduceMax", ["features", "axes"], ["guard"])], [axes(1)]),
    "a turned product": (
        [*TURN, N("MatMul", ["w", "turned"], ["t"]), N("Transpose", ["t"], ["guard"])],
        [weights("w", np.ones((1, 3)))],
    ),
    "a softmax of a row": (
        [N("Softmax", ["features"], ["s"], axis=-1), N("ReduceMax", ["s", "axes"], ["guard"])],
        [axes(1)],
    ),
    "a shape that is asked for": (
        [
            N("Shape", ["features"], ["s"]),
            N("Gather", ["s", "zero"], ["n"]),
            N("Concat", ["n", "rest"], ["target"], axis=0),
            N("Reshape", ["features", "target"], ["r"]),
            N("ReduceMax", ["r", "axes"], ["guard"]),
        ],
        [weights("zero", [0], I64), weights("rest", [-1], I64), axes(1)],
    ),
    "a width that is computed with": (
        [
            N("Shape", ["features"], ["s"]),
            N("Gather", ["s", "one"], ["n"]),
            N("Cast", ["n"], ["f"], to=FLAG),
            N("Div", ["features", "f"], ["r"]),
            N("ReduceMax", ["r", "axes"], ["guard"]),
        ],
        [weights("one", [1], I64), axes(1)],
    ),
    "all rows of a slice": (
        [N("Slice", ["features", "from", "to", "axes"], ["row"]), N("ReduceMax", ["row", "axes1"], ["guard"])],
        [weights("from", [0, 1], I64), weights("to", [2**62, 3], I64), axes(0, 1), weights("axes1", [1], I64)],
    ),
    "a table by row": (
        [
            N("Gather", ["features", "first"], ["c"], axis=1),
            N("Clip", ["c", "nought", "one"], ["d"]),
            N("Cast", ["d"], ["i"], to=TensorProto.INT64),
            N("Gather", ["table", "i"], ["guard"], axis=0),
        ],
        [weights("nought", 0.0), weights("one", 1.0), weights("table", [0.0, 1.0])],
    ),
    "zeros as many as rows": (
        [
            N("Shape", ["features"], ["s"]),
            N("Gather", ["s", "zero"], ["n"]),
            N("ConstantOfShape", ["n"], ["z"]),
            N("Unsqueeze", ["z", "axes"], ["u"]),
            N("Add", ["u", "u"], ["guard"]),
        ],
        [weights("zero", [0], I64), axes(1)],
    ),
    "an RNN over the features": (
        [
            N("Unsqueeze", ["features", "axes"], ["x"]),
            N("Transpose", ["x"], ["seq"], perm=[1, 0, 2]),
            N("RNN", ["seq", "w", "r"], ["y", "h"], hidden_size=1),
            N("Squeeze", ["h", "axes0"], ["guard"]),
        ],
        [axes(2), weights("axes0", [0], I64), weights("w", np.ones((1, 1, 1))), weights("r", np.ones((1, 1, 1)))],
    ),
}


@pytest.mark.parametrize("name", BY_ROW)
def test_what_scores_each_row_alone_is_served(name: str) -> None:
    nodes, constants = BY_ROW[name]
    model = load(guarded(nodes, constants).SerializeToString())
    features = np.random.default_rng(1).normal(size=(33, 3)).astype(np.float32)
    assert model.predict([features]) == pytest.approx(1 / (1 + np.exp(-features[:, 0])), abs=1e-6)


def test_values_around_the_files_own_numbers_find_what_the_graph_does_not_tell() -> None:
    # The rows are joined end to end, which is not followed; the largest amount decides over 50,000.
    nodes = [
        N("Concat", ["features", "features"], ["twice"], axis=0),
        N("ReduceMax", ["twice"], ["guard"], keepdims=0),
    ]
    model = guarded(nodes, [])
    bound = next(tensor for tensor in model.graph.initializer if tensor.name == "bound")
    bound.CopyFrom(weights("bound", 50_000.0))
    parsed, artifact = read_model(model.SerializeToString())
    refuse_mixing(parsed, artifact)
    with pytest.raises(ModelError, match="changes with the batch it comes in"):
        load(model.SerializeToString())


def test_a_look_at_the_row_before_is_found() -> None:
    """As torch.roll: the rows from a place on that is worked out from their number, and those before it."""
    nodes = [
        N("Shape", ["features"], ["n"], start=0, end=1),
        N("Mod", ["minus", "n"], ["cut"]),
        N("Slice", ["features", "zero", "cut", "zero"], ["front"]),
        N("Slice", ["features", "cut", "n", "zero"], ["back"]),
        N("Concat", ["back", "front"], ["rolled"], axis=0),
        N("ReduceMax", ["rolled", "axes"], ["guard"]),
    ]
    constants = [weights("minus", [-1], I64), weights("zero", [0], I64), axes(1)]
    with pytest.raises(ModelError, match="Slice takes certain rows of the batch"):
        load(guarded(nodes, constants).SerializeToString())
    # and without the graph: by a value on the other side of the bound, in the row before
    model = guarded(nodes, constants)
    next(tensor for tensor in model.graph.initializer if tensor.name == "bound").CopyFrom(weights("bound", 5e4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "refuse_mixing", lambda *_: None)
        with pytest.raises(ModelError, match="changes with the batch it comes in"):
            load(model.SerializeToString())


@pytest.mark.parametrize(
    ("node", "given"),
    [
        (N("ReduceMax", [], ["guard"]), ()),
        (N("Gather", ["features"], ["guard"]), ()),
        (N("Softmax", ["scalar"], ["guard"], axis=3), (weights("scalar", 1.0),)),
        (N("Transpose", ["features"], ["guard"], perm=[0, 7]), ()),
        (N("MatMul", ["features"], ["guard"]), ()),
        (N("Einsum", ["features"], ["guard"], equation="->"), ()),
        (N("Concat", [], ["guard"], axis=0), ()),
        (N("Slice", ["features", "a", "a"], ["guard"]), (weights("a", [0, 0, 0], I64),)),
        (N("Unsqueeze", ["features", "a"], ["guard"]), (weights("a", [9], I64),)),
        (N("Reshape", ["features", "a"], ["guard"]), (weights("a", [0, 0, 0, 0, 0], I64),)),
        (N("If", [], ["guard"]), ()),
        (N("Scan", ["features"], ["guard"], num_scan_inputs=4), ()),
    ],
)
def test_a_node_that_no_file_may_have_is_a_refused_model(node: Any, given: Sequence[Any]) -> None:
    with pytest.raises(ModelError, match=r"onnxruntime refuses the model|depend on the batch"):
        load(guarded([node], list(given)).SerializeToString())


def test_shapes_that_are_not_declared_are_followed_no_further() -> None:
    model = proto(
        [N("Sigmoid", ["features"], ["probabilities"])], [port("features", None)], [port("probabilities", None)]
    )
    parsed, artifact = read_model(model.SerializeToString())
    refuse_mixing(parsed, artifact)
    refuse_mixing(*read_model(linear()))
