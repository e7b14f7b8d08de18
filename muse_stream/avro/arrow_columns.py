"""Arrow arrays to columns: the fast way from a decoded batch to what scoring reads.

A RecordBatch, as pyruhvro made it from the *physical* writer schema, and a `Route` give one Arrow array of the route's
domain (int64, bool, double or string) and the rows it refuses; then, batch by batch, a `Column`. No loop runs over
events; every operation is one call over the whole column.

Arrow must not be asked for a field with the nulls of its record (`struct_field`, `flatten`): where the field is a
union, which has no place for them, it aborts the process. So a field is taken as it stands; what it has in the rows
where its record is null is blotted out afterwards.
"""

from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from muse_stream.avro.conversion import ARROW, PHYSICAL, Mask, convert, unchanged
from muse_stream.avro.resolution import NULL, Access, Case, Default, Domain, Outcome, Refused, Route
from muse_stream.scoring import Categorical, Column

Record: TypeAlias = pa.RecordBatch | pa.StructArray

NO_TIME = np.iinfo(np.int64).min
"""Event time of a record that has none: no time that was written (-1 would be one)."""

FLOAT = pa.float64()
FEW = 32
"""So few values are looked at one by one."""


def as_written(route: Route) -> str | None:
    """Return the writer's field whose array is the route's as it stands; None where `extract` looks at the values."""
    root = route.root
    if isinstance(root, Default):
        return None
    cases = [branch for branch in root.branches if branch != NULL]
    return root.field if len(cases) == 1 and isinstance(cases[0], Case) and unchanged(cases[0]) else None


def extract(route: Route, batch: pa.RecordBatch, field: str | None = None) -> tuple[pa.Array, Mask | None]:
    """Return the route's array, of type `ARROW[route.domain]`, and the rows refused (None if none are).

    `field` is what `as_written` says of the route. Raises Malformed when some row's text is not UTF-8.
    """
    kind = ARROW[route.domain]
    if field is not None and (array := batch.column(field)).type == kind:
        return array, None
    if isinstance(route.root, Default):
        return constant(route.root, kind, batch.num_rows), None
    return _field(route.root, batch, kind)


def constant(default: Default, kind: pa.DataType, rows: int) -> pa.Array:
    """Return a default in every row."""
    if default.case is None:
        return pa.nulls(rows, kind)
    array, _ = convert(default.case, pa.array([default.value], PHYSICAL[default.case.kind]))
    return pa.repeat(array[0], rows)


def finish(array: pa.Array, domain: Domain, nullable: bool) -> Column:
    """Make the column of an array: float64 with NaN, or int64 / bool where the reader has no null, or Categorical."""
    if domain == "number" and array.type == FLOAT:
        return _numpy(array)
    if domain == "text":
        return categorical(array)
    if nullable or domain == "number":
        if array.type != pa.float64():
            array = array.cast(pa.float64(), safe=False)
        return _numpy(array)
    if array.null_count:
        array = array.fill_null(False if domain == "boolean" else 0)
    return _numpy(array)


def categorical(array: pa.StringArray) -> Categorical:
    """Dictionary-encode text: distinct values in order of appearance, null is code -1."""
    if len(array) <= FEW:  # the call costs more than the loop
        return Categorical.from_strings(array.to_pylist())
    encoded = array.dictionary_encode()
    codes = encoded.indices.fill_null(-1) if encoded.null_count else encoded.indices
    return Categorical(tuple(encoded.dictionary.to_pylist()), _numpy(codes))


def milliseconds(array: pa.Array) -> NDArray[np.int64]:
    """Return an integer array as int64, `NO_TIME` where null."""
    filled = array.fill_null(NO_TIME) if array.null_count else array
    values: NDArray[np.int64] = _numpy(filled)
    return values


def texts(array: pa.Array) -> pa.StringArray:
    """Return ids as text, null where null or empty."""
    ends = array.buffers()[1]
    if ends is None:
        return array
    offsets = np.frombuffer(ends, np.int32)[array.offset : array.offset + len(array) + 1]
    empty = offsets[1:] == offsets[:-1]
    return pc.if_else(pa.array(empty), pa.scalar(None, pa.string()), array) if empty.any() else array


def _field(access: Access, record: Record, kind: pa.DataType) -> tuple[pa.Array, Mask | None]:
    """Resolve one field of a record; in rows where the record is null, the result means nothing."""
    child = record.column(access.field) if isinstance(record, pa.RecordBatch) else record.field(access.field)
    if pa.types.is_union(child.type):
        return _union(access, child, kind)
    array: pa.Array | None = None
    refused: Mask | None = None
    for wrote, outcome in zip(access.kinds, access.branches, strict=True):
        if wrote == "null":
            if isinstance(outcome, Refused) and child.null_count:
                refused = _either(refused, _mask(child.is_null()))
            continue
        array, bad = _outcome(outcome, child, kind)
        if child.null_count and not isinstance(outcome, Case):  # a case leaves null what is null
            present = child.is_valid()
            array = pc.if_else(present, array, pa.scalar(None, kind))
            bad = None if bad is None else bad & _mask(present)
        refused = _either(refused, bad)
    return pa.nulls(len(child), kind) if array is None else array, refused


def _union(access: Access, child: pa.UnionArray, kind: pa.DataType) -> tuple[pa.Array, Mask | None]:
    codes = _numpy(child.type_codes)
    result, refused = pa.nulls(len(child), kind), None
    for branch, outcome in enumerate(access.branches):
        rows = codes == branch
        if outcome == NULL or not rows.any():
            continue
        array, bad = _outcome(outcome, child.field(branch), kind)
        result = pc.if_else(pa.array(rows), array, result)
        refused = _either(refused, None if bad is None else bad & rows)
    return result, refused


def _outcome(outcome: Outcome, array: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Mask | None]:
    """Do what is to be done with values that all have one of the writer's types."""
    if isinstance(outcome, Access):
        return _field(outcome, array, kind)
    if isinstance(outcome, Case):
        return convert(outcome, array)
    if isinstance(outcome, Refused):
        return pa.nulls(len(array), kind), np.ones(len(array), dtype=bool)
    return constant(outcome, kind, len(array)), None


def _either(one: Mask | None, other: Mask | None) -> Mask | None:
    if one is None or other is None:
        return other if one is None else one
    return one | other


def _mask(array: pa.BooleanArray) -> Mask:
    mask: Mask = array.to_numpy(zero_copy_only=False)
    return mask


def _numpy(array: pa.Array) -> NDArray[Any]:
    values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values
