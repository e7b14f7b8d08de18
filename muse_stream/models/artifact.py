"""What an ONNX file says about itself, read without running it (the one module that imports `onnx`).

The file's bytes give an `Artifact`: typed inputs and outputs, class labels, operator domains, producer; or a
ModelError. Tensors that a file keeps in another one (external data) are read from bytes that are pinned as well, never
from a path that the file names. Refused wherever they stand in the file (subgraphs, sparse tensors, functions):
operators that need native code which onnxruntime does not bring along, or that read files, and random operators (the
same event must get the same bits).

What is loaded is the file, but for two changes made in memory (`runnable`): external data is put in its place, and of a
ZipMap's output (a dictionary for every row) the tensor it was made of becomes an output of that name.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from msgspec import Struct

from muse_stream.errors import ModelError
from muse_stream.models.labels import Labels, class_labels


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
RUNTIME_DOMAIN = "com.microsoft"
"""Operators that onnxruntime itself has; which of them it can run it says when it loads the file."""
NOT_SELF_CONTAINED = frozenset({"EPContext", "Snpe"})
"""Of these, the operators that read other files or need a device's own library."""
RANDOM_OPERATORS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Sampling"}
)


class Port(Struct, frozen=True):
    """One input or output of a graph."""

    name: str
    kind: str
    """Element type as ONNX writes it ("float", "double", "int64", "bool", "string", ...), or "sequence", "map", ..."""
    shape: tuple[int | str | None, ...] | None
    """Number: fixed; text or None: free; None for the whole shape: not declared."""

    def __str__(self) -> str:
        dims = "?" if self.shape is None else ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{self.name} ({self.kind} [{dims}])"


class Artifact(Struct, frozen=True):
    """The face of a model file: what `describe` prints and what a binding is checked against."""

    sha256: str
    size: int
    """Bytes of the file, and of its external data."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    """A ZipMap's output is given as the tensor it is made of."""
    producer: str
    opsets: tuple[tuple[str, int], ...]
    operators: tuple[str, ...]
    zipmaps: frozenset[str]
    """Outputs written by a ZipMap operator."""
    labels: Mapping[str, Labels]
    """Output -> the class of each of its columns, where the file says so."""


def describe(data: bytes, external: bytes | None = None) -> Artifact:
    """Parse and check an ONNX file; raises ModelError with the first reason to refuse it.

    `external`: the bytes of the file in which it keeps its tensors, if it does.
    """
    return read_model(data, external)[1]


def read_model(data: bytes, external: bytes | None = None) -> tuple[Any, Artifact]:
    """Return the parsed file, external data in its place, and what it says of itself; raises ModelError."""
    model = _parse(data)
    nodes = list(messages(model, onnx.NodeProto))
    _take_in(model, external)
    _refuse_foreign_operators(model, nodes)
    weights = {tensor.name for tensor in model.graph.initializer}
    weights |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    zipmaps = {name: node for node in model.graph.node if node.op_type == "ZipMap" for name in node.output}
    outputs = [
        Port(value.name, "float", (None, None)) if value.name in zipmaps else _port(value)
        for value in model.graph.output
    ]
    artifact = Artifact(
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data) + len(external or b""),
        inputs=tuple(_port(value) for value in model.graph.input if value.name not in weights),
        outputs=tuple(outputs),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opsets=tuple(sorted((entry.domain or "ai.onnx", entry.version) for entry in model.opset_import)),
        operators=tuple(sorted({node.op_type for node in nodes})),
        zipmaps=frozenset(zipmaps),
        labels=class_labels(model.graph),
    )
    return model, artifact


def runnable(model: Any, artifact: Artifact, data: bytes) -> bytes:
    """Return the bytes that the runtime loads: those of the file, unless something had to be changed in memory.

    A ZipMap is left out, and what goes into it gets its name, so that the output is a tensor.
    """
    if not artifact.zipmaps and artifact.size == len(data):
        return data
    for node in model.graph.node:
        if node.op_type == "ZipMap":
            node.op_type, node.domain = "Identity", ""
            node.ClearField("attribute")
    for value in model.graph.output:
        if value.name in artifact.zipmaps:
            value.ClearField("type")
    return bytes(model.SerializeToString())


def _parse(data: bytes) -> Any:
    # From bytes and by protobuf alone: onnx.load() would follow references to external files.
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError("not an ONNX file: the bytes are not a protobuf message") from error
    if not model.graph.node or not model.graph.output:
        raise ModelError("not an ONNX file: there is no graph with nodes and outputs in it")
    return model


def _tensors(model: Any) -> Iterator[Any]:
    return messages(model, onnx.TensorProto)


def _is_external(tensor: Any) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data)


def messages(message: Any, kind: type) -> Iterator[Any]:
    """Yield every message of a kind inside another, itself included."""
    # Whatever field it hangs on, so that no place (a function, a subgraph of a subgraph, a
    # sparse tensor's indices, a field that a later ONNX adds) is forgotten.
    if isinstance(message, kind):
        yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else (value,):
            yield from messages(part, kind)


def _take_in(model: Any, external: bytes | None) -> None:
    """Give tensors that are kept outside the file their bytes; raises ModelError when these are not to be had."""
    outside = [tensor for tensor in _tensors(model) if _is_external(tensor)]
    if external is None and outside:
        raise ModelError(
            f"tensor {outside[0].name!r} is kept outside the file (external data): name that file beside `uri`, "
            "`data: {file: FILE, sha256: ...}`; or save the model as one file: "
            "onnx.save_model(onnx.load(path), path, save_as_external_data=False)"
        )
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in outside]
    files = sorted({place.get("location", "") for place in places})
    if len(files) > 1:
        raise ModelError(
            f"the tensors are kept in {len(files)} files ({', '.join(files[:3])}, ...), one can be named: "
            "onnx.save_model(onnx.load(path), path, save_as_external_data=True, all_tensors_to_one_file=True)"
        )
    for tensor, place in zip(outside, places, strict=True):
        tensor.raw_data = _piece(tensor.name, place, external or b"")
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.ClearField("external_data")


def _piece(name: str, place: Mapping[str, str], external: bytes) -> bytes:
    try:
        offset = int(place.get("offset") or 0)
        length = int(place.get("length") or len(external) - offset)
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0 or offset + length > len(external):
        raise ModelError(
            f"tensor {name!r} is said to be {place.get('length', '')} bytes from {place.get('offset', 0)} in the data "
            f"file, which has {len(external):,}: `data` names another file than the one it was saved with"
        )
    return external[offset : offset + length]


def _refuse_foreign_operators(model: Any, nodes: list[Any]) -> None:
    own = {(function.domain, function.name) for function in model.functions}  # bodies are in the file: walked as well
    for node in nodes:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        if node.domain == RUNTIME_DOMAIN and node.op_type in NOT_SELF_CONTAINED:
            raise ModelError(f"operator {name} reads other files, or needs a device's own library: export without it")
        known = node.domain in STANDARD_DOMAINS or node.domain == RUNTIME_DOMAIN
        if not known and (node.domain, node.op_type) not in own:
            raise ModelError(
                f"operator {name} is neither standard ONNX (ai.onnx, ai.onnx.ml) nor onnxruntime's own "
                f"({RUNTIME_DOMAIN}), so it needs native code: export with standard operators"
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
