"""What an ONNX file says about itself, read without running it (the one module that imports `onnx`).

The file's bytes give an `Artifact`: typed inputs and outputs, operator domains, producer; or a ModelError. An artifact
is one self-contained file of standard operators. Refused wherever they stand in the file (subgraphs, sparse tensors,
functions): tensors kept in other files (path tricks, and bytes that no hash covers), operators from other domains (they
depend on native libraries, or change meaning with the runtime's version), and random operators (the same event must get
the same bits).
"""

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from muse_stream.errors import ModelError


def _onnx_messages() -> Any:
    """Return the module of ONNX's protobuf messages without running `import onnx`.

    The package imports helpers, a checker and more with it: 0.3 CPU-seconds that every worker would pay at its start.
    It is left in `sys.modules` under its own name, so that a later `import onnx` uses the same classes.
    """
    name = "onnx.onnx_ml_pb2"
    if name not in sys.modules:
        package = importlib.util.find_spec("onnx")
        assert package is not None  # noqa: S101  # a dependency of ours
        assert package.submodule_search_locations is not None  # noqa: S101
        path = Path(package.submodule_search_locations[0]) / "onnx_ml_pb2.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None  # noqa: S101
        assert spec.loader is not None  # noqa: S101
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


onnx = _onnx_messages()
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
EXTRA_OPERATORS = {
    # Kernels compiled into onnxruntime itself, needing no library, that common exporters and the quantiser write into
    # files. The rest of com.microsoft stays out: EPContext reads other files, others are tied to one device.
    "com.microsoft": frozenset({"Gelu", "FusedMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}),
}
RANDOM_OPERATORS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a graph."""

    name: str
    kind: str
    """Element type as ONNX writes it ("float", "double", "int64", "bool", "string", ...), or "sequence", "map", ..."""
    shape: tuple[int | str | None, ...] | None
    """Number: fixed; text or None: free; None for the whole shape: not declared."""

    def __str__(self) -> str:
        dims = "?" if self.shape is None else ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{self.name} ({self.kind} [{dims}])"


@dataclass(frozen=True, slots=True)
class Artifact:
    """The face of a model file: what `describe` prints and what a binding is checked against."""

    sha256: str
    size: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    producer: str
    opsets: tuple[tuple[str, int], ...]
    operators: tuple[str, ...]
    zipmaps: frozenset[str]
    """Outputs written by a ZipMap operator (a list of dictionaries, one Python object per row)."""


def describe(data: bytes) -> Artifact:
    """Parse and check an ONNX file; raises ModelError with the first reason to refuse it."""
    model = _parse(data)
    nodes = list(_messages(model, onnx.NodeProto))
    _refuse_external_data(model)
    _refuse_foreign_operators(model, nodes)
    weights = {tensor.name for tensor in model.graph.initializer}
    weights |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    return Artifact(
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        inputs=tuple(_port(value) for value in model.graph.input if value.name not in weights),
        outputs=tuple(_port(value) for value in model.graph.output),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opsets=tuple(sorted((entry.domain or "ai.onnx", entry.version) for entry in model.opset_import)),
        operators=tuple(sorted({node.op_type for node in nodes})),
        zipmaps=frozenset(name for node in nodes if node.op_type == "ZipMap" for name in node.output),
    )


def _parse(data: bytes) -> Any:
    # From bytes and by protobuf alone: onnx.load() would follow references to external files.
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError("not an ONNX file: the bytes are not a protobuf message") from error
    if not model.graph.node or not model.graph.output:
        raise ModelError("not an ONNX file: there is no graph with nodes and outputs in it")
    return model


def _messages(message: Any, kind: type) -> Iterator[Any]:
    # Walks every nested message whatever field it hangs on, so that no place (a function, a subgraph of a subgraph, a
    # sparse tensor's indices, a field that a later ONNX adds) is forgotten.
    if isinstance(message, kind):
        yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else (value,):
            yield from _messages(part, kind)


def _refuse_external_data(model: Any) -> None:
    for tensor in _messages(model, onnx.TensorProto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"tensor {tensor.name!r} is kept outside the file (external data), where no hash covers it; "
                "save the model as one file: onnx.save_model(model, path, save_as_external_data=False)"
            )


def _refuse_foreign_operators(model: Any, nodes: list[Any]) -> None:
    own = {(function.domain, function.name) for function in model.functions}  # bodies are in the file: walked as well
    for node in nodes:
        known = node.domain in STANDARD_DOMAINS or node.op_type in EXTRA_OPERATORS.get(node.domain, ())
        if not known and (node.domain, node.op_type) not in own:
            raise ModelError(
                f"operator {node.domain}.{node.op_type} is not standard ONNX; only ai.onnx and ai.onnx.ml are loaded "
                "(custom operators need native code): export with standard operators"
            )
        if node.op_type in RANDOM_OPERATORS:
            raise ModelError(f"operator {node.op_type} is random: the same event must always get the same score")


def _port(value: Any) -> Port:
    kind = value.type.WhichOneof("value")
    if kind not in ("tensor_type", "sparse_tensor_type"):
        return Port(value.name, (kind or "undeclared").removesuffix("_type"), None)
    tensor = getattr(value.type, kind)
    element = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if kind == "tensor_type" else "sparse tensor"
    shape = tuple(_dimension(dim) for dim in tensor.shape.dim) if tensor.HasField("shape") else None
    return Port(value.name, element, shape)


def _dimension(dim: Any) -> int | str | None:
    kind = dim.WhichOneof("value")
    # Some exporters write a free dimension as 0 or -1 instead of leaving it out.
    return (dim.dim_value if dim.dim_value > 0 else None) if kind == "dim_value" else (dim.dim_param or None)
