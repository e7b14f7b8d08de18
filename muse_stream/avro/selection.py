"""Rows of a decoded batch: which to keep, which are empty.

`Decoded` and numpy masks or positions give values of the same kinds with fewer rows, in the same order. What is not
asked for is not copied.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from msgspec.structs import replace
from numpy.typing import NDArray

from muse_stream.avro.decoded import Decoded
from muse_stream.scoring import Categorical, Column


def missing(ids: pa.Array) -> NDArray[np.bool_]:
    """Return a mask of the null entries."""
    if ids.null_count == 0:
        return np.zeros(len(ids), dtype=bool)
    return np.asarray(ids.is_null().to_numpy(zero_copy_only=False))


def take(values: Any, positions: NDArray[np.int64]) -> Any:
    """Return an Arrow array's entries at these positions."""
    return values.take(pa.array(positions))


def keep(decoded: Decoded, mask: NDArray[np.bool_]) -> Decoded:
    """Return the rows where `mask` holds; what was rejected stays."""
    positions = np.nonzero(mask)[0]
    return replace(
        decoded,
        rows=decoded.rows[positions],
        ids=take(decoded.ids, positions),
        times=None if decoded.times is None else decoded.times[positions],
        columns={name: rows_of(column, positions) for name, column in decoded.columns.items()},
        tenants=None
        if decoded.tenants is None
        else Categorical(decoded.tenants.values, decoded.tenants.codes[positions]),
    )


def rows_of(column: Column, positions: NDArray[np.int64]) -> Column:
    """Return a column's entries at these positions."""
    if isinstance(column, Categorical):
        return Categorical(column.values, column.codes[positions])
    return column[positions]
