"""Warms a loaded model up and sees that its answers are probabilities that depend on nothing but the row.

No model serves before it has answered batches of 1, 2 and 64 rows, and a full one. An answer outside [0, 1], mostly
missing answers, or bits that change with the rest of the batch are a ModelError. Probe rows are invented, so they
cannot be typical: rows of zeros and ones must be answered by every model; wide rows (1e-2 to 1e4, half of them
negative) and rows on both sides of the file's own numbers may be refused by one that looks values up in a table, and
may give NaN (the logarithm of a negative amount), but where there is an answer it is a probability.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.errors import ModelError
from muse_stream.models.constants import Constants
from muse_stream.models.session import CHUNK_ROWS, OnnxModel, check_answer
from muse_stream.scoring import ModelInput

ROWS = 64
PIECES = (1, 1, 2, 3, 5, 13, 39)
"""How the 64 probe rows are cut again, to see the same bits."""
COMPANY, PLACE = 16, 8
"""Rows of which all but one must keep their bits while that one, in this place, takes every value of interest."""
TYPICAL = ("", "a", "0", "1")
"""Texts for a model whose file holds none."""
FAR_OUT = 1e-3
"""How far outside [0, 1] an answer to an extreme invented row may lie: a logarithm of 1,000 in float32 has an
error that makes 1.0001 of 1 (GaussianNB of three classes). In service it costs its event, not the model."""
LAST_BITS = 1e-5
"""Differences up to here are of rounding: the row is computed by itself, but in another order."""
Rows = list[NDArray[Any]]

MIXING = (
    "a row's score changes with the batch it comes in (an operation over the first dimension?); "
    "the same event must always get the same bits"
)


def warm(model: OnnxModel, known: Constants) -> None:
    """Answer invented rows and judge the answers; `known` is what the file holds. Raises ModelError."""
    try:
        _try(model, known)
    except _UnsteadyBitsError:
        model.run_one_by_one()
        _try(model, known)


class _UnsteadyBitsError(Exception):
    """The last bits of a row's answer depend on its place in the batch."""


def _try(model: OnnxModel, known: Constants) -> None:
    random = np.random.default_rng(20260101)
    plain = _plain_rows(model, known, random)
    check_answer(model, plain)
    try:
        for size in (1, 2, ROWS):
            answers = model.predict([array[:size] for array in plain])
    except RuntimeError as error:
        raise ModelError(f"the model cannot answer plain rows (zeros and ones): {error}") from error
    _judge(model, plain, answers, model.float_error)
    _beside_each(model, plain, answers, known)
    tried = [(plain, answers)]
    for rows in (_wide_rows(model, known, random), _threshold_rows(model, known, random)):
        try:
            answers = model.predict(rows)
        except RuntimeError:
            continue  # a lookup out of its table: the model's own right, and scoring isolates such rows
        _judge(model, rows, answers, max(model.float_error, FAR_OUT))
        tried.append((rows, answers))
    if not model.one_by_one:
        _full_batch(model, *tried[min(1, len(tried) - 1)])
    distinct = np.unique(np.concatenate([answers for _, answers in tried]))
    model.constant = float(distinct[0]) if len(distinct) == 1 else None


def _judge(model: OnnxModel, rows: Rows, answers: NDArray[np.float64], error: float) -> None:
    """See that answers are probabilities, but for an `error`, and the same bits in other company."""
    finite = answers[np.isfinite(answers)]
    outside = finite[(finite < -error) | (finite > 1.0 + error)]
    if outside.size:
        raise ModelError(
            f"output {model.binding.output!r} answers {outside[0]:.6g} for a probe row: not a probability. "
            + _way_to_probabilities(model)
        )
    if 2 * finite.size < answers.size:
        missing = answers.size - finite.size
        raise ModelError(f"output {model.binding.output!r} is not finite for {missing} of {answers.size} probe rows")
    start = 0
    for size in PIECES:
        piece = model.predict([array[start : start + size] for array in rows])
        _same(model, piece, answers[start : start + size])
        start += size


def _full_batch(model: OnnxModel, rows: Rows, answers: NDArray[np.float64]) -> None:
    """See the same bits in a full batch; of one kind of rows alone, since a slow model takes seconds for it."""
    whole = model.predict([np.resize(array, (CHUNK_ROWS, array.shape[1])) for array in rows])
    _same(model, whole, np.resize(answers, CHUNK_ROWS))


def _same(model: OnnxModel, one: NDArray[np.float64], other: NDArray[np.float64]) -> None:
    """See that answers to the same rows in other company have the same bits."""
    if np.array_equal(one, other, equal_nan=True):
        return
    if not model.one_by_one and np.allclose(one, other, rtol=LAST_BITS, atol=LAST_BITS, equal_nan=True):
        raise _UnsteadyBitsError
    raise ModelError(MIXING)


def _way_to_probabilities(model: OnnxModel) -> str:
    if model.binding.scale is not None:
        low, high = model.binding.scale
        return f"It lies outside the scale [{low:g}, {high:g}]: give the values that mean 0 and 1"
    return (
        "A margin (logit)? `output: {link: sigmoid}`, or `link: softmax` of several columns. A score on another scale, "
        "or an IsolationForest? `output: {scale: [LOW, HIGH]}`, the values that mean 0 and 1 "
        "(docs/for-model-owners.md)"
    )


def _beside_each(model: OnnxModel, plain: Rows, answers: NDArray[np.float64], known: Constants) -> None:
    """See that no row changes when the one beside it stands on either side of one of the file's own numbers."""
    for row in _neighbours(model, known):
        # In the middle, since some graphs look at the row before or behind; without the row of zeros: it shows little.
        batch = [
            np.concatenate([array[1:PLACE], one, array[PLACE + 1 : COMPANY + 1]])
            for array, one in zip(plain, row, strict=True)
        ]
        try:
            beside = model.predict(batch)
        except RuntimeError:
            continue  # as above
        _same(model, np.delete(beside, PLACE - 1), np.delete(answers[1 : COMPANY + 1], PLACE - 1))


def _neighbours(model: OnnxModel, known: Constants) -> Iterator[Rows]:
    values = [side for number in known.scalars for side in _sides(number)]
    for value in dict.fromkeys((*values, 1e3, -1e3, 1e6, -1e6, 1e9)):
        yield [_filled(port, value, known) for port in model.inputs]


def _sides(number: float) -> tuple[float, ...]:
    """Values just below and above a number, and so far beyond it that a mean of 16 rows goes there too."""
    step = max(abs(number) * 0.01, 1e-3)
    return number - step, number + step, number * 2 * COMPANY, -abs(number) * 2 * COMPANY


def _filled(port: ModelInput, value: float, known: Constants) -> NDArray[Any]:
    """Return one row of one value, as near to it as the input's type comes."""
    return np.tile(fitting_type(np.array([[value]]), port.dtype, known), (1, port.width))


def fitting_type(values: NDArray[np.float64], dtype: np.dtype[Any], known: Constants) -> NDArray[Any]:
    """Return numbers as an input's type: rounded and cut where it cannot hold them, texts by number."""
    if dtype.kind == "O":
        texts = known.texts or TYPICAL
        places = np.abs(values).astype(np.int64) % (len(texts) + 1)
        return np.array([*texts, "no such category"], dtype=object)[places]
    if dtype.kind == "b":
        return values > 1.0
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        low, high = max(bounds.min, -(1 << 53)), min(bounds.max, 1 << 53)
        return np.clip(np.rint(values), low, high).astype(dtype)
    if dtype == np.float16:
        return np.clip(values, -6e4, 6e4).astype(dtype)
    with np.errstate(over="ignore"):  # the file's own numbers may be too large for its inputs
        return values.astype(dtype)


def _plain_rows(model: OnnxModel, known: Constants, random: np.random.Generator) -> Rows:
    rows = []
    for port in model.inputs:
        bits = random.integers(0, 2, (ROWS, port.width))
        bits[0], bits[1] = 0, 1
        if port.dtype.kind == "O":
            rows.append(
                fitting_type(random.integers(0, max(len(known.texts), 1), bits.shape).astype(float), port.dtype, known)
            )
        else:
            rows.append(bits.astype(port.dtype))
    return rows


def _wide_rows(model: OnnxModel, known: Constants, random: np.random.Generator) -> Rows:
    rows = []
    for port in model.inputs:
        values = 10.0 ** random.uniform(-2.0, 4.0, (ROWS, port.width))
        values[ROWS // 2 :] *= random.choice([-1.0, 1.0], (ROWS // 2, port.width))
        rows.append(fitting_type(values, port.dtype, known))
    return rows


def _threshold_rows(model: OnnxModel, known: Constants, random: np.random.Generator) -> Rows:
    """Rows of values on both sides of the file's thresholds and numbers."""
    numbers = np.array([*known.thresholds, *known.scalars, 0.0, 1.0])
    numbers = numbers[np.abs(numbers) < 1e9]
    rows = []
    for port in model.inputs:
        values = random.choice(numbers, (ROWS, port.width))
        values += random.choice([-1.0, 1.0], values.shape) * np.maximum(np.abs(values) * 0.01, 1e-3)
        rows.append(fitting_type(values, port.dtype, known))
    return rows
