"""From event columns to the tensors a model reads.

A model's bindings (compiled once) and the batch's columns give one C-contiguous `[N, width]` array per model input, and
the rows whose required features are missing. Bound by name, in declared order. Null, NaN and a string outside its
category table are all "missing": then `required` rejects the row, `default` stands in, and otherwise the model sees
NaN. No arithmetic beyond the cast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.scoring.columns import Categorical, Column
from muse_stream.scoring.selection import Selection

ANY_OTHER = "*"
"""In a category table: every string that is not listed."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of a tensor."""

    field: str
    default: float | None = None
    required: bool = False
    categories: tuple[tuple[str, float], ...] | None = None
    """The category table, sorted, so that equal features are equal keys."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One model input: its features in order, and its element type."""

    features: tuple[Feature, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """The tensors of some rows."""

    tensors: tuple[NDArray[Any], ...]
    missing: Mapping[int, str]
    """Position in the rows -> the required field that is missing there (the first in declared order)."""


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

    def build(self, columns: Mapping[str, Column], rows: Selection) -> Bound:
        """Return the tensors for `rows`."""
        missing: dict[int, str] = {}
        with np.errstate(over="ignore", invalid="ignore"):  # 1e300 as float32 is inf: the model's business
            built = tuple(self._tensor(tensor, columns, rows, missing) for tensor in self.tensors)
        return Bound(built, missing)

    def _tensor(
        self, tensor: Tensor, columns: Mapping[str, Column], rows: Selection, missing: dict[int, str]
    ) -> NDArray[Any]:
        matrix = np.empty((rows.size, len(tensor.features)), dtype=tensor.dtype)
        for place, feature in enumerate(tensor.features):
            column = columns.get(feature.field)
            if column is None:
                raise ValueError(f"the batch has no column {feature.field}")
            values = self._numbers(feature, rows.take_column(column))
            if values.dtype.kind == "f" and (feature.required or feature.default is not None):
                gaps = np.isnan(values)
                if feature.default is not None:
                    values = np.where(gaps, feature.default, values)
                elif gaps.any():
                    for position in np.flatnonzero(gaps).tolist():
                        missing.setdefault(position, feature.field)
                    values = np.where(gaps, 0.0, values)  # never seen by the model: these rows are left out
            matrix[:, place] = values
        return matrix

    def _numbers(self, feature: Feature, column: Column) -> NDArray[Any]:
        if feature.categories is None:
            if isinstance(column, Categorical):
                raise ValueError(f"{feature.field} is text; its feature needs a category table")
            return column
        if not isinstance(column, Categorical):
            raise ValueError(f"{feature.field} is not text; its feature has a category table")
        table = self._tables[feature.categories]
        other = table.get(ANY_OTHER, np.nan)
        # One entry more, for code -1 (null), which indexes it from the end.
        of_code = [np.nan if text is None else table.get(text, other) for text in column.values] + [np.nan]
        return np.array(of_code, dtype=np.float64)[column.codes]
