"""What the reading of a graph cannot follow is found by trials: every tensor inside is looked at, not the answer alone.

Each graph is made so that neither its answers nor the file's own numbers tell: what mixes the rows decides only beyond
a bound that is computed inside, and that no probe row reaches.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from muse_stream.errors import ModelError
from tests.models.onnx_factory import load, port, proto, weights

N = helper.make_node
I64 = np.int64
FLAG = TensorProto.FLOAT
INFO = helper.make_tensor_value_info


def guarded(nodes: Sequence[Any], constants: Sequence[Any], **fields: Any) -> bytes:
    """A graph that answers sigmoid(first feature), unless `guard`, made by `nodes`, is over exp(70)."""
    tail = [
        N("Gather", ["features", "first"], ["column"], axis=1),
        N("Sigmoid", ["column"], ["p"]),
        N("Exp", ["seventy"], ["bound"]),
        N("Greater", ["guard", "bound"], ["far"]),
        N("Where", ["far", "half", "p"], ["probabilities"]),
    ]
    more = [weights("first", [0], I64), weights("seventy", 70.0), weights("half", 0.5)]
    model = proto([*nodes, *tail], None, None, [*constants, *more], **fields)
    return bytes(model.SerializeToString())


def largest(name: str) -> Any:
    return N("ReduceMax", [name], ["guard"], keepdims=0)


def axes(*values: int) -> Any:
    return weights("axes", list(values), I64)


def branch(operator: str) -> Any:
    return helper.make_graph([N(operator, ["features"], [operator])], operator, [], [INFO(operator, FLAG, None)])


def accumulating() -> Any:
    """The body of a loop that keeps the largest row."""
    return helper.make_graph(
        [
            N("Identity", ["go"], ["on"]),
            N("Gather", ["features", "turn"], ["row"], axis=0),
            N("Max", ["state", "row"], ["next"]),
        ],
        "body",
        [INFO("turn", TensorProto.INT64, []), INFO("go", TensorProto.BOOL, []), INFO("state", FLAG, [3])],
        [INFO("on", TensorProto.BOOL, []), INFO("next", FLAG, [3])],
    )


TURN = N("Transpose", ["features"], ["turned"], perm=[1, 0])
MIXING: dict[str, tuple[list[Any], list[Any]]] = {
    "rows joined end to end": ([N("Concat", ["features", "features"], ["t"], axis=0), largest("t")], []),
    "rows and a constant row": (
        [N("Concat", ["features", "row"], ["t"], axis=0), N("ReduceMax", ["t", "axes"], ["m"]), largest("m")],
        [weights("row", np.zeros((1, 3))), axes(0)],
    ),
    "thirds of a batch": (
        [N("Reshape", ["features", "s"], ["t"]), N("ReduceMax", ["t", "axes"], ["m"]), largest("m")],
        [weights("s", [3, -1], I64), axes(1)],
    ),
    "a shape that is computed": (
        [N("Sub", ["a", "b"], ["s"]), N("Reshape", ["features", "s"], ["t"]), N("ReduceMax", ["t", "axes"], ["guard"])],
        [weights("a", [2, 0], I64), weights("b", [1, 1], I64), axes(1)],
    ),
    "dimensions that are computed": (
        [N("Add", ["a", "b"], ["over"]), N("ReduceMax", ["features", "over"], ["m"]), largest("m")],
        [weights("a", [1], I64), weights("b", [-1], I64)],
    ),
    "the row before": (
        [
            N("Pad", ["features", "pads"], ["t"]),
            N("Slice", ["t", "from", "to", "axes"], ["u"]),
            N("ReduceMax", ["u", "one"], ["guard"]),
        ],
        [
            weights("pads", [1, 0, 0, 0], I64),
            weights("from", [0], I64),
            weights("to", [-1], I64),
            axes(0),
            weights("one", [1], I64),
        ],
    ),
    "the first row, by GatherND": (
        [N("GatherND", ["features", "i"], ["row"]), largest("row")],
        [weights("i", [[0]], I64)],
    ),
    "the first of a sequence of rows": (
        [N("SplitToSequence", ["features"], ["q"], axis=0), N("SequenceAt", ["q", "zero"], ["row"]), largest("row")],
        [weights("zero", 0, I64)],
    ),
    "a sequence joined": (
        [
            N("SequenceConstruct", ["features", "features"], ["q"]),
            N("ConcatFromSequence", ["q"], ["t"], axis=0),
            largest("t"),
        ],
        [],
    ),
    "a loop that keeps the largest row": (
        [
            N("Shape", ["features"], ["s"]),
            N("Gather", ["s", "zero"], ["n"]),
            N("Loop", ["n", "", "start"], ["last"], body=accumulating()),
            largest("last"),
        ],
        [weights("zero", 0, I64), weights("start", np.zeros(3))],
    ),
    "what leaves a branch": (
        [
            N("If", ["yes"], ["t"], then_branch=branch("Identity"), else_branch=branch("Neg")),
            largest("t"),
        ],
        [weights("yes", True, np.bool_)],
    ),
    "an Einsum without an arrow": (
        [N("Einsum", ["features", "w"], ["s"], equation="nf,f"), largest("s")],
        [weights("w", [1.0, 1.0, 1.0])],
    ),
    "rows added into one": (
        [
            N("Shape", ["features"], ["s"]),
            N("ConstantOfShape", ["s"], ["i"], value=helper.make_tensor("v", TensorProto.INT64, [1], [0])),
            N("ScatterElements", ["sum", "i", "features"], ["t"], axis=0, reduction="add"),
            largest("t"),
        ],
        [weights("sum", np.zeros((1, 3)))],
    ),
    "sums of all rows before, by a triangle of ones": (
        [
            N("Shape", ["features"], ["s"]),
            N("Gather", ["s", "zero"], ["n"]),
            N("Concat", ["n", "n"], ["square"], axis=0),
            N("ConstantOfShape", ["square"], ["o"], value=helper.make_tensor("v", FLAG, [1], [1.0])),
            N("Trilu", ["o"], ["t"], upper=0),
            N("MatMul", ["t", "features"], ["c"]),
            N("ReduceMax", ["c", "axes"], ["guard"]),
        ],
        [weights("zero", [0], I64), axes(1)],
    ),
    "a norm of turned rows": ([TURN, N("Normalizer", ["turned"], ["t"], domain="ai.onnx.ml"), largest("t")], []),
    "an image of rows": (
        [N("Reshape", ["features", "s"], ["i"]), N("GridSample", ["i", "g"], ["o"]), largest("o")],
        [weights("s", [1, 1, -1, 3], I64), weights("g", np.zeros((1, 1, 1, 2)))],
    ),
    "a Fourier transform over the rows": (
        [
            TURN,
            N("Unsqueeze", ["turned", "axes"], ["u"]),
            N("DFT", ["u", "", "one"], ["o"]),
            largest("o"),
        ],
        [axes(2), weights("one", 1, I64)],
    ),
}


@pytest.mark.parametrize("name", MIXING)
def test_a_tensor_in_which_rows_meet_is_found(name: str) -> None:
    with pytest.raises(ModelError, match=r"depend on the batch it comes in: operator \w+ "):
        load(guarded(*MIXING[name]))


def test_the_operator_in_which_rows_meet_is_named() -> None:
    with pytest.raises(ModelError, match=r"operator ReduceMax makes a number of several rows .*tensor 'm'"):
        load(guarded(*MIXING["thirds of a batch"]))
    with pytest.raises(ModelError, match=r"operator GatherND takes certain rows .*tensor 'row'"):
        load(guarded(*MIXING["the first row, by GatherND"]))


def test_a_batch_that_is_fixed_is_tried_at_its_size() -> None:
    nodes = [N("Reshape", ["features", "s"], ["t"]), N("ReduceMax", ["t", "axes"], ["m"]), largest("m")]
    constants = [weights("s", [3, -1], I64), axes(1), weights("half", 0.5), weights("seventy", 70.0)]
    tail = [
        N("ReduceMax", ["features", "axes"], ["most"]),
        N("Sigmoid", ["most"], ["p"]),
        N("Exp", ["seventy"], ["bound"]),
        N("Greater", ["guard", "bound"], ["far"]),
        N("Where", ["far", "half", "p"], ["probabilities"]),
    ]
    for size in (1, 7, 40):
        ports = [port("features", [size, 3])], [port("probabilities", [size, 1])]
        data = proto([*nodes, *tail], *ports, constants).SerializeToString()
        if size == 1:
            assert load(data).predict([np.zeros((3, 3), np.float32)]) == pytest.approx(0.5)  # there are no neighbours
            continue
        with pytest.raises(ModelError, match="ReduceMax makes a number of several rows"):
            load(data)


BY_ROW: dict[str, tuple[list[Any], list[Any]]] = {
    "a shape that is computed": (
        [N("Sub", ["a", "b"], ["s"]), N("Reshape", ["features", "s"], ["t"]), N("ReduceMax", ["t", "axes"], ["guard"])],
        [weights("a", [0, 4], I64), weights("b", [1, 1], I64), axes(1)],
    ),
    "a branch": (
        [
            N("If", ["yes"], ["t"], then_branch=branch("Identity"), else_branch=branch("Neg")),
            N("ReduceMax", ["t", "axes"], ["guard"]),
        ],
        [weights("yes", True, np.bool_), axes(1)],
    ),
    "rows as one vector and back": (
        [
            N("Reshape", ["features", "a"], ["t"]),
            N("Pad", ["t", "pads"], ["u"]),
            N("Reshape", ["u", "b"], ["v"]),
            N("ReduceMax", ["v", "axes"], ["guard"]),
        ],
        [weights("a", [-1], I64), weights("pads", [0, 0], I64), weights("b", [-1, 3], I64), axes(1)],
    ),
    "each row's own place": (
        [
            N("ArgMax", ["features"], ["i"], axis=1),
            N("GatherND", ["features", "i"], ["guard0"], batch_dims=1),
            N("Unsqueeze", ["guard0", "axes"], ["guard"]),
        ],
        [axes(1)],
    ),
}


@pytest.mark.parametrize("name", BY_ROW)
def test_what_treats_each_row_alone_is_served(name: str) -> None:
    model = load(guarded(*BY_ROW[name]))
    features = np.random.default_rng(1).normal(size=(33, 3)).astype(np.float32)
    assert model.predict([features]) == pytest.approx(1 / (1 + np.exp(-features[:, 0])), abs=1e-6)


def test_a_dropout_in_training_mode_is_named() -> None:
    nodes = [N("Dropout", ["features", "r", "yes"], ["d"], seed=3), N("ReduceMax", ["d", "axes"], ["guard"])]
    constants = [weights("r", 0.5), axes(1)]
    with pytest.raises(ModelError, match="Dropout is exported in training mode"):
        load(guarded(nodes, [*constants, weights("yes", True, np.bool_)]))
    load(guarded(nodes, [*constants, weights("yes", False, np.bool_)]))


def test_the_number_of_values_is_the_number_of_rows() -> None:
    nodes = [
        N("Size", ["features"], ["n"]),
        N("Cast", ["n"], ["f"], to=FLAG),
        N("ReduceMax", ["features", "axes"], ["m"]),
        N("Mul", ["f", "m"], ["guard"]),
    ]
    with pytest.raises(ModelError, match="operator Mul computes with the number of rows"):
        load(guarded(nodes, [axes(1)]))
