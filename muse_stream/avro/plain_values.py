"""Columns to Python values, where that is a matter of type alone.

Takes a column in one of the forms that `Encoder.encode` takes, and a field's Arrow type; gives the values that an Arrow
array of that type would have, or None where something would have to be converted, cast or refused.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from muse_stream.scoring import Categorical

NUMPY: dict[pa.DataType, np.dtype[Any]] = {
    pa.bool_(): np.dtype(np.bool_),
    pa.int32(): np.dtype(np.int32),
    pa.int64(): np.dtype(np.int64),
    pa.float32(): np.dtype(np.float32),
    pa.float64(): np.dtype(np.float64),
}


class PlainValues(Struct, frozen=True):
    """Reads columns of one type."""

    kind: pa.DataType
    dtype: np.dtype[Any] | None
    """Numpy's name of it, if it is of numbers."""
    text: bool

    @classmethod
    def of(cls, kind: pa.DataType) -> "PlainValues":
        """Return what reads columns of this type."""
        return cls(kind, NUMPY.get(kind), kind == pa.string())

    def read(self, given: Any, rows: int) -> list[Any] | None:
        """Return `rows` values, or None."""
        values = self._column(given) if isinstance(given, Categorical | np.ndarray | pa.Array) else None
        if values is None:
            return [given] * rows if self._is_scalar(given) else None
        return values if len(values) == rows else None

    def _column(self, given: Categorical | np.ndarray[Any, Any] | pa.Array) -> list[Any] | None:
        if isinstance(given, Categorical):
            texts = (*given.values, None)  # code -1 finds the last
            return [texts[code] for code in given.codes.tolist()] if self.text else None
        if isinstance(given, np.ndarray):
            return list(given.tolist()) if given.dtype == self.dtype and given.ndim == 1 else None
        known = self.text or self.dtype is not None
        return list(given.to_pylist()) if known and given.type == self.kind else None

    def _is_scalar(self, given: Any) -> bool:
        if self.dtype is None:
            return self.text and type(given) is str
        if self.dtype.kind == "i":
            return type(given) is int and -(limit := 1 << 8 * self.dtype.itemsize - 1) <= given < limit
        return self.dtype == np.float64 and type(given) is float
