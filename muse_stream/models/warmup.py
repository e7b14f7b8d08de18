"""Warms a loaded model up and sees that its answers are probabilities that depend on nothing but the row.

No model serves before it has answered batches of 1, 2 and 64 rows. An answer outside [0, 1], mostly missing answers, or
bits that change with the rest of the batch are a ModelError. Probe rows are invented, so they cannot be typical: rows
of zeros and ones must be answered by every model; wide rows (1e-2 to 1e4, half of them negative) may be refused by one
that looks values up in a table, and may give NaN (the logarithm of a negative amount), but where there is an answer it
is a probability.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.errors import ModelError
from muse_stream.models.session import OnnxModel, check_answer

ROWS = 64
PIECES = (1, 1, 2, 3, 5, 13, 39)
"""How the 64 probe rows are cut again, to see the same bits."""


def warm(model: OnnxModel) -> None:
    """Answer batches of 1, 2 and 64 rows and judge the answers; raises ModelError."""
    random = np.random.default_rng(20260101)
    plain = _plain_rows(model, random)
    check_answer(model, plain)
    try:
        for size in (1, 2, ROWS):
            answers = model.predict([array[:size] for array in plain])
    except RuntimeError as error:
        raise ModelError(f"the model cannot answer plain rows (zeros and ones): {error}") from error
    _judge(model, plain, answers)
    wide = _wide_rows(model, random)
    try:
        answers = model.predict(wide)
    except RuntimeError:
        return  # a lookup out of its table: the model's own right, and scoring isolates such rows
    _judge(model, wide, answers)


def _judge(model: OnnxModel, rows: list[NDArray[Any]], answers: NDArray[np.float64]) -> None:
    finite = answers[np.isfinite(answers)]
    outside = finite[(finite < 0.0) | (finite > 1.0)]
    if outside.size:
        raise ModelError(
            f"output {model.binding.output!r} answers {outside[0]:.6g} for a probe row: not a probability. "
            "A raw margin? Export probabilities (skl2onnx: no raw_scores; LightGBM: objective=binary)"
        )
    if 2 * finite.size < answers.size:
        missing = answers.size - finite.size
        raise ModelError(f"output {model.binding.output!r} is not finite for {missing} of {answers.size} probe rows")
    start = 0
    for size in PIECES:
        piece = model.predict([array[start : start + size] for array in rows])
        if not np.array_equal(piece, answers[start : start + size], equal_nan=True):
            raise ModelError(
                "a row's score changes with the batch it comes in (an operation over the first dimension?); "
                "the same event must always get the same bits"
            )
        start += size


def _plain_rows(model: OnnxModel, random: np.random.Generator) -> list[NDArray[Any]]:
    shapes = [(ROWS, port.width) for port in model.inputs]
    rows = [random.integers(0, 2, shape).astype(port.dtype) for port, shape in zip(model.inputs, shapes, strict=True)]
    for array in rows:
        array[0] = 0
        array[1] = 1
    return rows


def _wide_rows(model: OnnxModel, random: np.random.Generator) -> list[NDArray[Any]]:
    rows = []
    for port in model.inputs:
        values = 10.0 ** random.uniform(-2.0, 4.0, (ROWS, port.width))
        values[ROWS // 2 :] *= random.choice([-1.0, 1.0], (ROWS // 2, port.width))
        rows.append((values > 1.0).astype(port.dtype) if port.dtype == np.bool_ else values.astype(port.dtype))
    return rows
