"""Small ONNX files for tests of `models/`, built in memory, and the specs that bind them.

Made of nodes or of a fitted estimator. Every file is valid but for the one thing its test is about.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from muse_stream.config import ModelSpec
from muse_stream.models import OnnxModel, load_model

LIMIT = 1 << 24

Shape = Sequence[int | str | None]


def spec_of(
    data: bytes,
    inputs: Mapping[str, int] | None = None,
    output: str = "probabilities",
    positive: Any = None,
    **reading: Any,
) -> ModelSpec:
    widths = inputs or {"features": 3}
    return ModelSpec.model_validate(
        {
            "uri": "model.onnx",
            "sha256": hashlib.sha256(data).hexdigest(),
            "inputs": {name: [f"{name}{column}" for column in range(width)] for name, width in widths.items()},
            "output": {"name": output, "positive": positive, **reading},
        }
    )


def load(
    data: bytes,
    inputs: Mapping[str, int] | None = None,
    output: str = "probabilities",
    positive: Any = None,
    **reading: Any,
) -> OnnxModel:
    return load_model(data, spec_of(data, inputs, output, positive, **reading), max_bytes=LIMIT)


def port(name: str, shape: Shape | None, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def weights(name: str, values: Any, dtype: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)


def proto(
    nodes: Sequence[Any],
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    initializer: Sequence[Any] = (),
    **fields: Any,
) -> Any:
    graph = helper.make_graph(
        list(nodes),
        "test",
        list(inputs or [port("features", [None, 3])]),
        list(outputs or [port("probabilities", [None, 1])]),
        list(initializer),
        sparse_initializer=fields.pop("sparse", None),
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3), *fields.pop("opsets", [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, **fields)


def file(nodes: Sequence[Any], *args: Any, **fields: Any) -> bytes:
    model = proto(nodes, *args, **fields)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def linear(width: int = 3, *, activation: str | None = "Sigmoid", shape: Shape = (None, 1)) -> bytes:
    """`features [N, width]` -> MatMul -> activation -> `probabilities`; without activation a raw margin."""
    column = np.linspace(-0.5, 0.7, width).reshape(width, 1)
    nodes = [helper.make_node("MatMul", ["features", "w"], ["margin"])]
    nodes.append(helper.make_node(activation or "Identity", ["margin"], ["flat"]))
    if len(shape) == 1:
        nodes.append(helper.make_node("Squeeze", ["flat", "axis"], ["probabilities"]))
    else:
        nodes.append(helper.make_node("Identity", ["flat"], ["probabilities"]))
    initializer = [weights("w", column), weights("axis", [1], np.int64)]
    return file(nodes, [port("features", [None, width])], [port("probabilities", shape)], initializer)


def rows(count: int, width: int, seed: int = 7, scale: float = 1.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=(count, width)) * scale).astype(np.float32)
