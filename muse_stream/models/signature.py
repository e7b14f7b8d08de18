"""Joins what the configuration asks of a model with what its file offers.

A `Signature` (input names with their widths, output name, positive column) and an `Artifact` give the inputs in the
configuration's order with the element type each wants, or a ModelError naming every input that does not fit. Inputs
meet by name, never by position, and only shapes and types that a table of numbers can feed are bound: `[N, width]` of
float, double, int64 or bool, N free; the output is a float `[N]`, `[N, 1]` or `[N, 2]`.
"""

from dataclasses import dataclass

import numpy as np

from muse_stream.config import ModelSpec
from muse_stream.errors import ModelError
from muse_stream.models.artifact import Artifact, Port
from muse_stream.scoring import ModelInput

DTYPES = {"float": np.float32, "double": np.float64, "int64": np.int64, "bool": np.bool_}
HINTS = {
    "string": "strings come as numbers: encode them before export and name a category table for the feature",
    "float16": "export with float inputs",
    "int32": "export with int64 inputs",
}
ZIPMAP_HINT = (
    "export without it: skl2onnx `to_onnx(model, x, options={'zipmap': False})` (a pipeline: "
    "`options={id(model): {'zipmap': False}}`), onnxmltools `convert_lightgbm(model, types, zipmap=False)`"
)


@dataclass(frozen=True, slots=True)
class Signature:
    """How a configuration reads one model; two bindings of the same bytes are two models."""

    inputs: tuple[tuple[str, int], ...]
    """(ONNX input name, number of features), in the configuration's order."""
    output: str
    positive: int
    """Column of the positive class; 0 for `[N]` and `[N, 1]`."""

    @classmethod
    def of(cls, spec: ModelSpec) -> "Signature":
        """Take from the configuration what concerns the model's bytes."""
        inputs = tuple((name, len(features)) for name, features in spec.inputs.items())
        return cls(inputs, spec.output.name, spec.output.positive)


def bind(artifact: Artifact, binding: Signature) -> tuple[ModelInput, ...]:
    """Check inputs and output; return the inputs in the configuration's order. Raises ModelError."""
    _check_names(artifact, binding)
    ports = {port.name: port for port in artifact.inputs}
    bound = tuple(_input(ports[name], width) for name, width in binding.inputs)
    _check_output(artifact, binding)
    return bound


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
        hint = HINTS.get(port.kind, f"only {', '.join(DTYPES)} tensors can be fed")
        raise ModelError(f"input {port}: {port.kind} cannot be fed from event fields; {hint}")
    if port.shape is not None:
        if len(port.shape) != 2:
            raise ModelError(f"input {port}: must be [N, features]; export it with two dimensions")
        if isinstance(port.shape[0], int):
            raise ModelError(f"input {port}: fixed to {port.shape[0]} rows; export with a free first dimension")
        if isinstance(port.shape[1], int) and port.shape[1] != width:
            raise ModelError(f"input {port}: takes {port.shape[1]} features, the configuration lists {width}")
    return ModelInput(port.name, width, np.dtype(DTYPES[port.kind]))


def _check_output(artifact: Artifact, binding: Signature) -> None:
    port = next((port for port in artifact.outputs if port.name == binding.output), None)
    if port is None:
        raise ModelError(f"output: the model has no {binding.output!r}; it offers {_list(artifact.outputs)}")
    if port.name in artifact.zipmaps or port.kind in ("sequence", "map"):
        raise ModelError(f"output {port.name!r} is a ZipMap (a dictionary for every row); {ZIPMAP_HINT}")
    if port.kind not in ("float", "double"):
        raise ModelError(
            f"output {port} is not a float probability; the model offers {_list(artifact.outputs)}"
            + (" (a class label? name the probabilities)" if port.kind in ("int64", "string", "bool") else "")
        )
    if port.shape is None:
        return  # decided by the first batch it answers
    if isinstance(port.shape[0] if port.shape else None, int):
        raise ModelError(f"output {port}: fixed to {port.shape[0]} rows; export with a free first dimension")
    columns = port.shape[1] if len(port.shape) == 2 else None
    check_columns(str(port), len(port.shape), columns if isinstance(columns, int) else None, binding.positive)


def check_columns(name: str, dimensions: int, columns: int | None, positive: int) -> None:
    """Refuse an output whose shape is not `[N]`, `[N, 1]` or `[N, 2]` with the positive column in it.

    `columns` is None where it is not known (yet); used on the declared shape and again on the first real answer.
    """
    if dimensions not in (1, 2) or (columns is not None and columns > 2):
        raise ModelError(f"output {name}: must be [N], [N, 1] or [N, 2] probabilities of a binary model")
    width = 1 if dimensions == 1 else columns
    if width is not None and not 0 <= positive < width:
        allowed = "0" if width == 1 else "0 or 1"
        raise ModelError(f"output {name}: positive is {positive}, it can only be {allowed}")


def _list(ports: tuple[Port, ...]) -> str:
    return ", ".join(map(str, ports)) or "nothing"
