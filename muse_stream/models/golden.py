"""Golden rows: what the author of a model says it answers.

A JSON file, compared with a loaded model; a ModelError names the rows that differ. Form: `{"inputs": {"<ONNX input>":
[[1.0, null, ...], ...]}, "scores": [0.93, ...]}`; null is a missing value (NaN), scores are the positive class's
probability before any correction. The tolerance stands in the configuration. The ONNX file is the model: exporters
round thresholds to float32, so golden scores are best taken from the file.
"""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from muse_stream.errors import ModelError
from muse_stream.models.session import OnnxModel

SHOWN = 5
"""Differing rows named in the message."""


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Author's rows: `[n, width]` for each input, and n scores."""

    inputs: dict[str, NDArray[np.float64]]
    scores: NDArray[np.float64]


def read_golden(data: bytes) -> Golden:
    """Parse a golden file; raises ModelError when it has not the form above."""
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
        inputs = {str(name): np.array(rows, dtype=np.float64) for name, rows in document["inputs"].items()}
        scores = np.array(document["scores"], dtype=np.float64)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f'golden file: expected {{"inputs": {{name: rows}}, "scores": [...]}}: {error}') from error
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        raise ModelError("golden file: scores must be a list of at least one number, none missing")
    for name, rows in inputs.items():
        if rows.ndim != 2 or len(rows) != len(scores):
            raise ModelError(
                f"golden file: input {name!r} must hold {len(scores)} rows of equal length, as many as scores"
            )
    return Golden(inputs, scores)


def check_golden(model: OnnxModel, golden: Golden, tolerance: float = 1e-6) -> None:
    """Score the author's rows; raises ModelError naming the first that differ by more than `tolerance` (absolute)."""
    answers = _answers(model, golden)
    wrong = np.flatnonzero(~(np.abs(answers - golden.scores) <= tolerance))
    if wrong.size:
        shown = "; ".join(f"row {row}: {answers[row]:.9g}, author {golden.scores[row]:.9g}" for row in wrong[:SHOWN])
        raise ModelError(f"{wrong.size} of {len(answers)} golden rows differ by more than {tolerance:g}: {shown}")


def _answers(model: OnnxModel, golden: Golden) -> NDArray[np.float64]:
    feed: list[NDArray[Any]] = []
    for port in model.inputs:
        rows = golden.inputs.get(port.name)
        if rows is None or rows.shape[1] != port.width:
            raise ModelError(f"golden file: input {port.name!r} must be given with {port.width} values a row")
        if port.dtype.kind != "f" and not np.isfinite(rows).all():
            raise ModelError(f"golden file: input {port.name!r} is {port.dtype}, it cannot hold missing values")
        feed.append(rows.astype(port.dtype))
    extra = golden.inputs.keys() - {port.name for port in model.inputs}
    if extra:
        raise ModelError(f"golden file: the model has no input {', '.join(map(repr, sorted(extra)))}")
    try:
        return model.predict(feed)
    except RuntimeError as error:
        raise ModelError(f"golden rows cannot be scored: {error}") from error


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON; write null for a missing value")
