"""Nodes, attributes and small constants of an ONNX file as Python values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec import Struct

from muse_stream.models.artifact import onnx

LONG = 4096
"""Values of a constant that are looked at: more than any shape has, and than most thresholds that are scalars."""

DTYPES: Mapping[int, str] = {
    onnx.TensorProto.FLOAT: "<f4",
    onnx.TensorProto.DOUBLE: "<f8",
    onnx.TensorProto.FLOAT16: "<f2",
    onnx.TensorProto.INT32: "<i4",
    onnx.TensorProto.INT64: "<i8",
    onnx.TensorProto.INT8: "i1",
    onnx.TensorProto.UINT8: "u1",
    onnx.TensorProto.BOOL: "?",
}


class Node(Struct, frozen=True):
    """One operator of a graph."""

    kind: str
    domain: str
    attributes: Mapping[str, Any]
    """Numbers, texts, lists of numbers, and tensors as messages."""
    graphs: tuple[Any, ...]
    outputs: int
    opset: int


def node_of(proto: Any, opset: int, outer: Mapping[str, Any]) -> Node:
    """Return a node as values.

    `opset`: version of the standard operators; `outer`: attributes of the function's call that the node stands in.
    """
    graphs = [one.g for one in proto.attribute if one.HasField("g")]
    attributes = {
        one.name: outer.get(one.ref_attr_name) if one.ref_attr_name else _attribute(one) for one in proto.attribute
    }
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    return Node(proto.op_type, domain, attributes, tuple(graphs), sum(map(bool, proto.output)), opset)


def _attribute(one: Any) -> Any:
    kinds = onnx.AttributeProto
    read = {
        kinds.INT: lambda: one.i,
        kinds.FLOAT: lambda: one.f,
        kinds.STRING: lambda: one.s.decode("utf-8", "replace"),
        kinds.INTS: lambda: tuple(one.ints),
        kinds.FLOATS: lambda: tuple(one.floats),
        kinds.TENSOR: lambda: one.t,
    }.get(one.type)
    return None if read is None else read()  # type: ignore[no-untyped-call]


def constant_values(tensor: Any, most: int = LONG) -> tuple[Any, ...] | None:
    """Return the numbers of a tensor in their order; None for one of more than `most`, or of another type."""
    dtype = DTYPES.get(tensor.data_type)
    if dtype is None or int(np.prod(tensor.dims, dtype=np.int64)) > most:
        return None
    if tensor.raw_data:
        whole = len(tensor.raw_data) % np.dtype(dtype).itemsize == 0
        return tuple(np.frombuffer(tensor.raw_data, dtype).tolist()) if whole else None
    typed = tensor.float_data or tensor.double_data or tensor.int64_data or tensor.int32_data
    numbers = np.array(typed)
    if tensor.data_type == onnx.TensorProto.FLOAT16:
        numbers = numbers.astype(np.uint16).view(np.float16)
    return tuple(numbers.tolist())
