"""Golden rows: what the author of a model says it answers.

A JSON file, compared with a loaded model; a ModelError names the rows that differ. Scores are the positive class's
probability before any correction, as the training library predicts it. Two forms:

    {"events": [{"amount": 12.5, "country": "DE", "terminal.risk": null}, ...], "scores": [0.93, ...]}
    {"inputs": {"<ONNX input>": [[1.0, null, "DE"], ...]}, "scores": [0.93, ...]}

Events name fields, so they prove the order of the features, the category tables and the defaults too; a field that is
null or absent is missing. Inputs are what the file itself takes; null is NaN. Tolerance, and the share of rows that may
differ, stand in the configuration: exporters round thresholds to float32, which moves a few rows.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from muse_stream.errors import ModelError
from muse_stream.models.session import OnnxModel
from muse_stream.scoring import Tensor, bound_rows, fits

SHOWN = 5
"""Differing rows named in the message."""
FORM = '{"events": [...], "scores": [...]} or {"inputs": {name: rows}, "scores": [...]}'


class Golden(Struct, frozen=True, eq=False):
    """Author's rows: events, or `[n, width]` for each input; and n scores."""

    scores: NDArray[np.float64]
    events: tuple[Mapping[str, Any], ...] = ()
    inputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    """float64, or object where there are texts."""


class Agreement(Struct, frozen=True):
    """How far a model agrees with its author."""

    rows: int
    differing: int
    """Rows that differ by more than the tolerance."""
    largest: float
    """Largest absolute difference."""
    shown: str
    """The first differing rows, for a person."""


def read_golden(data: bytes) -> Golden:
    """Parse a golden file; raises ModelError when it has neither form."""
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
        scores = np.array(document["scores"], dtype=np.float64)
        events = tuple(document.get("events", ()))
        inputs = {str(name): _rows(rows) for name, rows in document.get("inputs", {}).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"golden file: expected {FORM}: {error}") from error
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        raise ModelError("golden file: scores must be a list of at least one number, none missing")
    if bool(events) == bool(inputs):
        raise ModelError(f"golden file: expected {FORM}: exactly one of events and inputs")
    if events and not (len(events) == len(scores) and all(isinstance(event, dict) for event in events)):
        raise ModelError(f"golden file: events must hold {len(scores)} objects, as many as scores")
    for name, rows in inputs.items():
        if rows.ndim != 2 or len(rows) != len(scores):
            raise ModelError(
                f"golden file: input {name!r} must hold {len(scores)} rows of equal length, as many as scores"
            )
    return Golden(scores, events, inputs)


def _rows(rows: Any) -> NDArray[Any]:
    texts = any(isinstance(cell, str) for row in rows for cell in row)
    return np.array(rows, dtype=object if texts else np.float64)


def check_golden(
    model: OnnxModel,
    golden: Golden,
    tolerance: float = 1e-6,
    differing: float = 0.0,
    tensors: Sequence[Tensor] = (),
) -> None:
    """Score the author's rows; raises ModelError when more than a share `differing` of them differs.

    A row differs by more than `tolerance`, absolute. `tensors` say how the configuration feeds golden events.
    """
    found = agreement(model, golden, tensors, tolerance)
    allowed = int(differing * found.rows)
    if found.differing > allowed:
        limit = f" ({allowed} may: differing {differing:g})" if differing else ""
        raise ModelError(
            f"{found.differing} of {found.rows} golden rows differ by more than {tolerance:g}{limit}: {found.shown}"
        )


def agreement(model: OnnxModel, golden: Golden, tensors: Sequence[Tensor], tolerance: float) -> Agreement:
    """Score the author's rows and compare; raises ModelError when they cannot be scored."""
    answers = _answers(model, golden, tensors)
    differences = np.abs(answers - golden.scores)
    wrong = np.flatnonzero(~(differences <= tolerance))
    shown = "; ".join(f"row {row}: {answers[row]:.9g}, author {golden.scores[row]:.9g}" for row in wrong[:SHOWN])
    return Agreement(len(answers), wrong.size, float(np.max(differences)), shown)


def _answers(model: OnnxModel, golden: Golden, tensors: Sequence[Tensor]) -> NDArray[np.float64]:
    feed = _of_events(golden, tensors) if golden.events else _of_inputs(model, golden)
    try:
        answers = model.predict(feed)
    except RuntimeError as error:
        raise ModelError(f"golden rows cannot be scored: {error}") from error
    near = (answers >= -model.float_error) & (answers <= 1.0 + model.float_error)
    return np.where(near, np.clip(answers, 0.0, 1.0), answers)


def _of_events(golden: Golden, tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
    try:
        bound = bound_rows(tensors, golden.events)
    except (ValueError, TypeError, OverflowError) as error:  # a list, an object or a number beyond float64 as feature
        raise ModelError(f"golden events: {error}") from error
    faults = {row: f"{name} is missing, and required" for row, name in bound.missing.items()} | dict(bound.unfit)
    if faults:
        row = min(faults)
        raise ModelError(f"golden events: {len(faults)} cannot be scored; event {row}: {faults[row]}")
    return list(bound.tensors)


def _of_inputs(model: OnnxModel, golden: Golden) -> list[NDArray[Any]]:
    feed: list[NDArray[Any]] = []
    for port in model.inputs:
        rows = golden.inputs.get(port.name)
        if rows is None or rows.shape[1] != port.width:
            raise ModelError(f"golden file: input {port.name!r} must be given with {port.width} values a row")
        feed.append(_as_input(port.name, rows, port.dtype))
    extra = golden.inputs.keys() - {port.name for port in model.inputs}
    if extra:
        raise ModelError(f"golden file: the model has no input {', '.join(map(repr, sorted(extra)))}")
    return feed


def _as_input(name: str, rows: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "O":
        if not all(isinstance(cell, str) for cell in rows.ravel()):
            raise ModelError(f"golden file: input {name!r} takes texts, and holds something else")
        return rows
    if rows.dtype.kind == "O":
        raise ModelError(f"golden file: input {name!r} takes {dtype}, and holds texts")
    if dtype.kind != "f" and not np.isfinite(rows).all():
        raise ModelError(f"golden file: input {name!r} is {dtype}, it cannot hold missing values")
    wrong = [value for value in np.unique(rows).tolist() if not fits(value, dtype)]
    if wrong:
        raise ModelError(f"golden file: input {name!r} is {dtype}, it cannot hold {wrong[0]:g}")
    return rows.astype(dtype)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON; write null for a missing value")
