"""From event columns to the tensors a model reads.

A model's bindings (compiled once) and the batch's columns give one C-contiguous `[N, width]` array per model input, and
the rows whose features are missing or do not fit. Bound by name, in declared order. Null, NaN and a value outside its
category table are all "missing": then `required` rejects the row, `default` stands in, and otherwise the model sees
NaN. No arithmetic beyond the cast, and no cast changes a value: a number is rounded to the nearest that a float type
has, but what an integer or boolean type cannot hold exactly, or a float type only as infinity, costs its row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muse_stream.scoring.columns import AS_TEXT, Categorical, Column
from muse_stream.scoring.selection import Selection

ANY_OTHER = "*"
"""In a category table: every value that is not listed."""

EXACT = float(1 << 53)
"""Whole numbers below this are themselves in a float64 column; from here on one may stand for another."""

SPELLED = {"0": "false", "1": "true", "false": "0", "true": "1"}
"""Booleans with nulls may be numbers in their column: a category table is asked for both spellings."""


class Feature(Struct, frozen=True):
    """One column of a tensor."""

    field: str
    default: float | str | None = None
    """A text for a tensor of strings, else a number."""
    required: bool = False
    categories: tuple[tuple[str, float], ...] | None = None
    """The category table, sorted, so that equal features are equal keys."""


class Tensor(Struct, frozen=True):
    """One model input: its features in order, and its element type."""

    features: tuple[Feature, ...]
    dtype: np.dtype[Any]
    """`object` is a tensor of strings."""


class Bound(Struct, frozen=True, eq=False):
    """The tensors of some rows."""

    tensors: tuple[NDArray[Any], ...]
    missing: Mapping[int, str]
    """Position in the rows -> the required field that is missing there (the first in declared order)."""
    unfit: Mapping[int, str]
    """Position in the rows -> the field whose value the tensor's type cannot hold, and that type."""


def fits(value: float, dtype: np.dtype[Any]) -> bool:
    """Tell whether a number can stand in a tensor of this type, a float's rounding aside."""
    return bool(np.isnan(value)) or _misfits(np.array([value]), dtype) is None


def _misfits(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.bool_] | None:
    """Return which numbers, none of them NaN but for float types, a type cannot hold; None: it holds all."""
    if values.dtype == dtype or values.dtype.kind == "b":
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            wrong = np.isinf(values.astype(dtype)) & np.isfinite(values)
    elif dtype.kind == "b":
        wrong = (values != 0) & (values != 1)
    elif values.dtype.kind == "f":
        bounds = np.iinfo(dtype)
        # The upper bound plus one is a power of two, so a float64 is on the right side of it; the bound itself is not.
        inside = (values >= float(bounds.min)) & (values < float(int(bounds.max) + 1)) & (np.floor(values) == values)
        wrong = ~(inside & (np.abs(values) < EXACT))  # 2^53 + 1 of a nullable long stands here as 2^53
    else:
        bounds, own = np.iinfo(dtype), np.iinfo(values.dtype)
        wrong = (values < max(bounds.min, own.min)) | (values > min(bounds.max, own.max))
    return wrong if wrong.any() else None


class Binding:
    """Builds the tensors of one model. Raises ValueError when a column is not what the binding says."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tuple(tensors)
        self.fields = frozenset(feature.field for tensor in tensors for feature in tensor.features)
        self._tables = {
            feature.categories: dict(feature.categories)
            for tensor in tensors
            for feature in tensor.features
            if feature.categories is not None
        }

        self._gaps_matter = [
            any(feature.required or feature.default is not None for feature in tensor.features)
            if tensor.dtype.kind == "f" and all(feature.categories is None for feature in tensor.features)
            else None
            for tensor in tensors
        ]
        """Of tensors of floats without category tables: whether a gap means more to any feature than NaN."""

    @property
    def texts(self) -> frozenset[str]:
        """The fields that are read as texts: by a category table, or for a tensor of strings."""
        return frozenset(
            feature.field
            for tensor in self.tensors
            for feature in tensor.features
            if feature.categories is not None or tensor.dtype.kind == "O"
        )

    def build(self, columns: Mapping[str, Column], rows: Selection) -> Bound:
        """Return the tensors for `rows`."""
        faults = _Faults({}, {})
        pairs = zip(self.tensors, self._gaps_matter, strict=True)
        built = tuple(self._tensor(tensor, gaps_matter, columns, rows, faults) for tensor, gaps_matter in pairs)
        return Bound(built, faults.missing, faults.unfit)

    def _tensor(
        self,
        tensor: Tensor,
        gaps_matter: bool | None,
        columns: Mapping[str, Column],
        rows: Selection,
        faults: "_Faults",
    ) -> NDArray[Any]:
        matrix = np.empty((rows.size, len(tensor.features)), dtype=tensor.dtype)
        with np.errstate(over="ignore"):  # looked at below
            if gaps_matter is None or not _as_they_are(tensor, columns, rows, matrix, gaps_matter):
                for place, feature in enumerate(tensor.features):
                    matrix[:, place] = self._values(tensor, feature, _taken(tensor, feature, columns, rows), faults)
        if tensor.dtype.kind == "f" and np.isinf(matrix).any():
            for feature in tensor.features:
                values = self._values(tensor, feature, _taken(tensor, feature, columns, rows), faults)
                faults.misfits(feature, values, tensor.dtype)
        return matrix

    def _values(self, tensor: Tensor, feature: Feature, column: Column, faults: "_Faults") -> NDArray[Any]:
        """Return a column's values with its gaps filled, and without what an integer or boolean cannot hold."""
        if tensor.dtype.kind == "O":
            return self._texts(feature, column, faults)
        values = self._filled(feature, self._numbers(feature, column), faults)
        if tensor.dtype.kind != "f":
            wrong = faults.misfits(feature, values, tensor.dtype)
            if wrong is not None:
                return np.where(wrong, values.dtype.type(0), values)  # these rows are left out
        return values

    def _filled(self, feature: Feature, values: NDArray[Any], faults: "_Faults") -> NDArray[Any]:
        if values.dtype.kind == "f" and (feature.required or feature.default is not None):
            gaps = np.isnan(values)
            if feature.default is not None:
                values = np.where(gaps, feature.default, values)
            elif gaps.any():
                faults.note(faults.missing, gaps, feature.field)
                values = np.where(gaps, 0.0, values)  # never seen by the model: these rows are left out
        return values

    def _numbers(self, feature: Feature, column: Column) -> NDArray[Any]:
        if feature.categories is None:
            if isinstance(column, Categorical):
                raise ValueError(f"{feature.field} is text; its feature needs a category table")
            return column
        table = self._tables[feature.categories]
        other = table.get(ANY_OTHER, np.nan)
        texts, codes = _coded(column)
        # One entry more, for code -1 (null), which indexes it from the end.
        of_code = [np.nan if text is None else _looked_up(table, text, other) for text in texts] + [np.nan]
        numbers: NDArray[np.float64] = np.array(of_code, dtype=np.float64)[codes]
        return numbers

    def _texts(self, feature: Feature, column: Column, faults: "_Faults") -> NDArray[Any]:
        texts, codes = _coded(column)
        default = "" if feature.default is None else str(feature.default)
        if feature.required:
            null = np.array([*(text is None for text in texts), True])
            gaps = null[codes]
            if gaps.any():
                faults.note(faults.missing, gaps, feature.field)
        filled = np.array([*(default if text is None else text for text in texts), default], dtype=object)
        chosen: NDArray[Any] = filled[codes]
        return chosen


class _Faults(Struct, frozen=True):
    """What is found while tensors are built; of each row the first."""

    missing: dict[int, str]
    unfit: dict[int, str]

    def misfits(self, feature: Feature, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.bool_] | None:
        """Note and return which values the type cannot hold."""
        wrong = _misfits(values, dtype)
        if wrong is not None:
            if values.dtype.kind == "f" and dtype.kind in "iu":
                rounded = wrong & (np.abs(values) >= EXACT) & (np.abs(values) <= np.iinfo(dtype).max)
                told = f"{feature.field} holds a number from 2^53 on, which a column with nulls or fractions rounds"
                self.note(self.unfit, rounded, told)
            self.note(self.unfit, wrong, f"{feature.field} holds what {dtype} cannot")
        return wrong

    def note(self, kind: dict[int, str], where: NDArray[np.bool_], what: str) -> None:
        for position in np.flatnonzero(where).tolist():
            kind.setdefault(position, what)


def _taken(tensor: Tensor, feature: Feature, columns: Mapping[str, Column], rows: Selection) -> Column:
    column = columns.get(feature.field)
    if tensor.dtype.kind == "O" or feature.categories is not None:
        column = columns.get(AS_TEXT + feature.field, column)
    if column is None:
        raise ValueError(f"the batch has no column {feature.field}")
    return rows.take_column(column)


def _as_they_are(
    tensor: Tensor, columns: Mapping[str, Column], rows: Selection, matrix: NDArray[Any], gaps_matter: bool
) -> bool:
    """Fill a matrix with columns of numbers; False where more is to be done, or refused."""
    for place, feature in enumerate(tensor.features):
        column = columns.get(feature.field)
        if not isinstance(column, np.ndarray):
            return False
        matrix[:, place] = rows.take(column)
    return not (gaps_matter and np.isnan(matrix).any())


def _coded(column: Column) -> tuple[Sequence[str | None], NDArray[Any]]:
    """Return the distinct values of a column as texts, None for a null, and each row's place among them."""
    if isinstance(column, Categorical):
        return column.values, column.codes
    distinct, codes = np.unique(column, return_inverse=True)
    return [_spelled(value) for value in distinct.tolist()], codes


def _spelled(value: float | bool) -> str | None:
    """Return a number as a category: an integer in digits, a boolean as JSON writes it; what is no category is None."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return str(int(value)) if abs(value) < EXACT and value == int(value) else None


def _looked_up(table: Mapping[str, float], text: str, other: float) -> float:
    return table[text] if text in table else table.get(SPELLED.get(text, text), other)
