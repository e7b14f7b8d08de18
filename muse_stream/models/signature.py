"""Joins what the configuration asks of a model with what its file offers.

A `Signature` (input names with their widths, the output and how it is read) and an `Artifact` give the inputs in the
configuration's order with the element type each wants, or a ModelError naming every input that does not fit. Inputs
meet by name, never by position. Bound is what a table can feed: `[N, width]` or `[N]` of numbers, booleans or strings.
N is free, or fixed: the model is then run on as many rows at a time. The output is numbers, `[N]` or `[N, K]`.
"""

from typing import Any

import numpy as np
from msgspec import Struct

from muse_stream.config import ClassChoice, ModelSpec
from muse_stream.errors import ModelError
from muse_stream.models.artifact import Artifact, Port
from muse_stream.scoring import ModelInput

DTYPES: dict[str, np.dtype[Any]] = {
    "float16": np.dtype(np.float16),
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    **{name: np.dtype(name) for bits in (8, 16, 32, 64) for name in (f"int{bits}", f"uint{bits}")},
    "bool": np.dtype(np.bool_),
    "string": np.dtype(np.object_),
}
FLOATS = ("float16", "float", "double")


class Signature(Struct, frozen=True):
    """How a configuration reads one model; two bindings of the same bytes are two models."""

    inputs: tuple[tuple[str, int], ...]
    """(ONNX input name, number of features), in the configuration's order."""
    output: str
    positive: tuple[ClassChoice, ...] | None = None
    """The classes whose probabilities are summed; None: decided by the file."""
    link: str | None = None
    scale: tuple[float, float] | None = None
    data: str | None = None
    """Hash of the file with the model's tensors."""
    backend: str = "onnxruntime"
    """What is to run it."""

    @classmethod
    def of(cls, spec: ModelSpec) -> "Signature":
        """Take from the configuration what concerns the model's bytes."""
        inputs = tuple((name, len(features)) for name, features in spec.inputs.items())
        output = spec.output
        data = None if spec.data is None else spec.data.sha256
        return cls(inputs, output.name, output.positive, output.link, output.scale, data, spec.backend)


class Bound(Struct, frozen=True):
    """What a binding found."""

    inputs: tuple[ModelInput, ...]
    """In the configuration's order."""
    flat: frozenset[str]
    """Inputs of shape `[N]`."""
    batch: int | None
    """How many rows the file takes, where it takes a fixed number."""


def bind(artifact: Artifact, binding: Signature) -> Bound:
    """Check inputs and output. Raises ModelError."""
    _check_names(artifact, binding)
    ports = {port.name: port for port in artifact.inputs}
    inputs = tuple(_input(ports[name], width) for name, width in binding.inputs)
    batch = _batch([ports[name] for name, _ in binding.inputs])
    _check_output(artifact, binding, batch)
    flat = frozenset(name for name, _ in binding.inputs if len(ports[name].shape or (0, 0)) == 1)
    return Bound(inputs, flat, batch)


def _check_names(artifact: Artifact, binding: Signature) -> None:
    offered = {port.name for port in artifact.inputs}
    asked = {name for name, _ in binding.inputs}
    faults = [
        f"the configuration {verb} {', '.join(map(repr, sorted(names)))}"
        for verb, names in (("misses", offered - asked), ("names unknown", asked - offered))
        if names
    ]
    if faults:
        raise ModelError(f"inputs: {'; '.join(faults)}; the model takes {_list(artifact.inputs)}")


def _input(port: Port, width: int) -> ModelInput:
    if port.kind not in DTYPES:
        raise ModelError(
            f"input {port}: {port.kind} cannot be fed from event fields; only {', '.join(DTYPES)} tensors can be"
        )
    if port.shape is not None:
        if len(port.shape) not in (1, 2):
            raise ModelError(f"input {port}: must be [N, features] or [N]; export it with one or two dimensions")
        takes = 1 if len(port.shape) == 1 else port.shape[1]
        if isinstance(takes, int) and takes != width:
            raise ModelError(f"input {port}: takes {takes} features, the configuration lists {width}")
    return ModelInput(port.name, width, DTYPES[port.kind])


def _batch(ports: list[Port]) -> int | None:
    """Return the number of rows that the inputs are fixed to, if they are."""
    fixed = {port.shape[0] for port in ports if port.shape is not None and isinstance(port.shape[0], int)}
    if len(fixed) > 1:
        raise ModelError(
            f"inputs are fixed to different numbers of rows ({_list(tuple(ports))}): export with a free first dimension"
        )
    return fixed.pop() if fixed else None


def _check_output(artifact: Artifact, binding: Signature, batch: int | None) -> None:
    port = next((port for port in artifact.outputs if port.name == binding.output), None)
    if port is None:
        raise ModelError(f"output: the model has no {binding.output!r}; it offers {_list(artifact.outputs)}")
    others = tuple(one for one in artifact.outputs if one.kind in FLOATS)
    if port.kind not in FLOATS and not (binding.scale is not None and port.kind in DTYPES and port.kind != "string"):
        hint = f"name the probabilities, for example `name: {others[0].name}`" if others else "export its probabilities"
        label = "; a class label?" if port.kind in ("int64", "string", "bool") else ";"
        raise ModelError(f"output {port} is not a float probability{label} {hint}; it offers {_list(artifact.outputs)}")
    if port.shape is None:
        return  # decided by the first batch it answers
    rows = port.shape[0] if port.shape else None
    if isinstance(rows, int) and rows != batch:
        raise ModelError(f"output {port}: fixed to {rows} rows, the inputs are not; export with a free first dimension")
    check_dimensions(str(port), len(port.shape))


def check_dimensions(name: str, dimensions: int) -> None:
    """Refuse an output that has not one or two; used on the declared shape and again on the first real answer."""
    if dimensions not in (1, 2):
        raise ModelError(f"output {name}: must be [N] or [N, classes]")


def _list(ports: tuple[Port, ...]) -> str:
    return ", ".join(map(str, ports)) or "nothing"
