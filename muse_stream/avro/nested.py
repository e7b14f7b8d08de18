"""Columns that hold a list or a map in every row, built without a loop over rows.

numpy arrays and `Categorical`s of one length become Arrow arrays that `Encoder` takes as columns. Row i of the result
holds exactly the entries of row i of the inputs, in the inputs' order; null entries are left out of maps.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from muse_stream.scoring import Categorical


def record_lists(names: Sequence[str], columns: Mapping[str, Sequence[NDArray[np.float64]]], rows: int) -> pa.ListArray:
    """Return a list of records per row: one record for each name, with the field `name` and one field per column.

    `columns[field][k]` is the `[rows]` array of the k-th name.
    """
    width = len(names)
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
    codes = np.tile(np.arange(width, dtype=np.int32), rows)
    # plain strings, not a dictionary: what is cast later must be castable inside a struct
    fields: dict[str, pa.Array] = {
        "name": pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string())).cast(pa.string())
    }
    for field, arrays in columns.items():
        values = np.stack(arrays, axis=1).ravel() if width else np.zeros(0)
        fields[field] = pa.array(values, pa.float64())
    kinds = [pa.field(field, array.type, nullable=False) for field, array in fields.items()]
    items = pa.StructArray.from_arrays(list(fields.values()), fields=kinds)
    return pa.ListArray.from_arrays(offsets, items, type=pa.list_(pa.field("item", items.type, nullable=False)))


def string_maps(columns: Mapping[str, Categorical], rows: int) -> pa.MapArray:
    """Return a map per row: each attribute's string, attributes that are null in a row left out."""
    names = list(columns)
    present = np.stack([_known(column) for column in columns.values()], axis=1) if names else np.zeros((rows, 0), bool)
    offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int32)
    keys = pa.array(names, pa.string()).take(pa.array(np.nonzero(present)[1]))
    texts = [_strings(column) for column in columns.values()]
    stacked = pa.chunked_array(texts, pa.string()).combine_chunks() if names else pa.array([], pa.string())
    # attribute k of row i stands at k * rows + i
    order = (np.arange(len(names))[None, :] * rows + np.arange(rows)[:, None])[present]
    items = stacked.take(pa.array(order))
    return pa.MapArray.from_arrays(
        pa.array(offsets), keys, items, type=pa.map_(pa.string(), pa.field("value", pa.string(), False))
    )


def nullable(values: NDArray[np.float64]) -> pa.Array:
    """Return numbers with null where there is NaN."""
    return pa.array(values, pa.float64(), from_pandas=True)


def _known(column: Categorical) -> NDArray[np.bool_]:
    known = np.array([value is not None for value in column.values] + [False])
    return np.asarray(known[column.codes])


def _strings(column: Categorical) -> pa.Array:
    return pa.array([*column.values, None], pa.string()).take(
        pa.array(np.where(column.codes < 0, len(column.values), column.codes))
    )
