"""What is refused by reading the file alone, wherever in the file it stands, and what `describe` tells."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from muse_stream.errors import ModelError
from muse_stream.models import describe
from tests.models.onnx_factory import file, linear, load, port, proto, rows, weights


def _external(name: str = "w") -> Any:
    tensor = weights(name, [[0.1], [0.2], [0.3]])
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../etc/passwd"), ("offset", "0"), ("length", "12")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def _matmul() -> Any:
    return helper.make_node("MatMul", ["features", "w"], ["probabilities"])


def _constant(tensor: Any, output: str = "w") -> Any:
    return helper.make_node("Constant", [], [output], value=tensor)


def _branch(*nodes: Any) -> Any:
    """`If` with the nodes in its then-branch, under another `If`: two graphs deep."""

    def graph(inner: list[Any]) -> Any:
        return helper.make_graph(inner, "branch", [], [port("w", None)])

    plain = graph([_constant(weights("v", [[0.1], [0.2], [0.3]]))])
    deep = helper.make_node("If", ["yes"], ["w"], then_branch=graph(list(nodes)), else_branch=plain)
    return helper.make_node("If", ["yes"], ["w"], then_branch=graph([deep]), else_branch=plain)


def _function(*nodes: Any) -> Any:
    return helper.make_function(
        "own", "Score", ["x"], ["y"], list(nodes), [helper.make_opsetid("", 20), helper.make_opsetid("evil", 1)]
    )


def _sparse() -> Any:
    values, indices = _external("w"), weights("w_indices", [0, 1, 2], np.int64)
    return helper.make_sparse_tensor(values, indices, [3, 1])


YES = weights("yes", True, np.bool_)
OWN = helper.make_opsetid("own", 1)
CALL = helper.make_node("Score", ["features"], ["probabilities"], domain="own")
ODD = helper.make_node("Anything", ["features"], ["probabilities"], domain="evil")


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(proto([_matmul()], initializer=[_external()]), id="initializer"),
        pytest.param(proto([_constant(_external("c")), _matmul()]), id="constant"),
        pytest.param(proto([_branch(_constant(_external("c"))), _matmul()], initializer=[YES]), id="subgraph"),
        pytest.param(proto([_matmul()], sparse=[_sparse()]), id="sparse"),
        pytest.param(proto([CALL], functions=[_function(_constant(_external("c"), "y"))], opsets=[OWN]), id="function"),
    ],
)
def test_external_data_is_refused_wherever_it_hangs(model: Any) -> None:
    with pytest.raises(ModelError, match=r"external data.*`data: .*save_as_external_data=False"):
        describe(model.SerializeToString())


def test_external_data_hidden_behind_a_default_location_is_refused() -> None:
    tensor = _external()
    tensor.data_location = TensorProto.DEFAULT
    with pytest.raises(ModelError, match="external data"):
        describe(proto([_matmul()], initializer=[tensor]).SerializeToString())


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(proto([ODD]), id="graph"),
        pytest.param(proto([_branch(ODD), _matmul()], initializer=[YES]), id="subgraph"),
        pytest.param(proto([CALL], functions=[_function(ODD)], opsets=[OWN]), id="function"),
    ],
)
def test_operators_of_other_domains_are_refused(model: Any) -> None:
    with pytest.raises(ModelError, match=r"operator evil\.Anything is neither standard ONNX .* native code"):
        describe(model.SerializeToString())


def test_an_operator_of_the_runtime_that_reads_files_is_refused() -> None:
    node = helper.make_node(
        "EPContext", ["features"], ["probabilities"], domain="com.microsoft", embed_mode=0, ep_cache_context="x.bin"
    )
    with pytest.raises(ModelError, match=r"com\.microsoft\.EPContext"):
        describe(proto([node]).SerializeToString())


def test_a_listed_operator_of_the_runtime_is_loaded() -> None:
    microsoft = helper.make_opsetid("com.microsoft", 1)
    nodes = [
        helper.make_node("FusedMatMul", ["features", "w"], ["m"], domain="com.microsoft"),
        helper.make_node("Sigmoid", ["m"], ["probabilities"]),
    ]
    data = proto(nodes, initializer=[weights("w", [[0.1], [0.2], [0.3]])], opsets=[microsoft]).SerializeToString()
    assert load(data, positive=0).predict([rows(5, 3)]).shape == (5,)


def test_functions_kept_in_the_file_are_loaded() -> None:
    body = helper.make_node("Sigmoid", ["x"], ["y"])
    data = proto([CALL], outputs=[port("probabilities", [None, 3])], functions=[_function(body)], opsets=[OWN])
    assert "Sigmoid" in describe(data.SerializeToString()).operators


def test_random_operators_are_refused() -> None:
    noise = helper.make_node("RandomUniformLike", ["features"], ["probabilities"])
    with pytest.raises(ModelError, match="RandomUniformLike is random"):
        describe(file([noise], outputs=[port("probabilities", [None, 3])]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no graph"),
        (b"\xff\xff\xff\xff", "not a protobuf"),
        (linear()[:-40], "not a protobuf"),
        (b"\x08\x09", "no graph"),
    ],
)
def test_bytes_that_are_no_model_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        describe(data)


def test_describe_tells_names_types_and_shapes() -> None:
    artifact = describe(linear(4))
    assert [str(entry) for entry in artifact.inputs] == ["features (float [?, 4])"]
    assert [str(entry) for entry in artifact.outputs] == ["probabilities (float [?, 1])"]
    assert artifact.operators == ("Identity", "MatMul", "Sigmoid")
    assert dict(artifact.opsets) == {"ai.onnx": 20, "ai.onnx.ml": 3}
    assert artifact.size == len(linear(4))


def test_initializers_listed_as_inputs_are_no_inputs() -> None:
    # Files of ONNX IR 3 and some exporters list weights among the inputs.
    inputs = [port("features", [None, 3]), port("w", [3, 1])]
    data = file([_matmul()], inputs, initializer=[weights("w", [[0.1], [0.2], [0.3]])])
    assert [entry.name for entry in describe(data).inputs] == ["features"]
