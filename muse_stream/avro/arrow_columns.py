"""Arrow arrays to columns: the fast way from a decoded batch to what scoring reads.

A RecordBatch, as pyruhvro made it from the *physical* writer schema, and a `Route` give one Arrow array of the route's
domain (int64, bool, double or string) and the rows it refuses; then, batch by batch, a `Column`. No loop runs over
events; every operation is one call over the whole column.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from muse_stream.avro.resolution import Case, Domain, FieldAccess, Route
from muse_stream.avro.strict import Malformed
from muse_stream.scoring import Categorical, Column

Mask = NDArray[np.bool_]

NO_TIME = -1
"""Event time of a record that has none; Kafka's own mark for a missing timestamp."""

NOTHING = pa.scalar(0, pa.int32())
"""Given to Arrow as a plain 0, it looks for a package that is not installed, at every call."""

ARROW: dict[Domain, pa.DataType] = {
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "number": pa.float64(),
    "text": pa.string(),
}


def extract(route: Route, batch: pa.RecordBatch) -> tuple[pa.Array, Mask | None]:
    """Return the route's array, of type `ARROW[route.domain]`, and the rows refused (None if none are).

    Raises Malformed when some row's text is not UTF-8.
    """
    parent, absent, refused = _walk(route.steps, batch)
    if route.name:
        array, bad = _resolve(route, _child(parent, route.name), absent)
        refused = _either(refused, bad)
    else:
        array = _constant(route, batch.num_rows)
    if absent is not None:
        array = pc.if_else(pa.array(absent), pa.scalar(None, array.type), array)
    return array, refused


def finish(array: pa.Array, domain: Domain, nullable: bool) -> Column:
    """Make the column of an array: float64 with NaN, or int64 / bool where the reader has no null, or Categorical."""
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
    encoded = array.dictionary_encode()
    codes = encoded.indices.fill_null(-1) if encoded.null_count else encoded.indices
    return Categorical(tuple(encoded.dictionary.to_pylist()), _numpy(codes))


def milliseconds(array: pa.Array) -> NDArray[np.int64]:
    """Return an integer array as int64, `NO_TIME` where null."""
    filled = array.fill_null(NO_TIME) if array.null_count else array
    values: NDArray[np.int64] = _numpy(filled)
    return values


def texts(array: pa.Array) -> pa.StringArray:
    """Return ids as text, null where null or empty; numbers in decimal digits."""
    text = array if array.type == pa.string() else array.cast(pa.string())
    empty = pc.equal(pc.binary_length(text), NOTHING)
    return pc.if_else(empty, pa.scalar(None, pa.string()), text) if pc.any(empty).as_py() else text


def _walk(
    steps: tuple[FieldAccess, ...], batch: pa.RecordBatch
) -> tuple[pa.RecordBatch | pa.StructArray, Mask | None, Mask | None]:
    """Go down the writer's records.

    Returns the last one, the rows in which it or one above is null, and the rows refused: a null where the reader has
    none. Arrow must not be asked for a field with the nulls of its record (`struct_field`, `flatten`): where the field
    is a union, which has no place for them, it aborts the process.
    """
    node: pa.RecordBatch | pa.StructArray = batch
    absent: Mask | None = None
    refused: Mask | None = None
    for step in steps:
        node = _child(node, step.field)
        if pa.types.is_union(node.type):  # a union of the record alone
            node = node.field(0)
        if not node.null_count:
            continue
        null = _mask(node.is_null())
        if step.required:  # a null of its own refuses the row, not one that was inherited
            refused = _either(refused, null if absent is None else null & ~absent)
        absent = _either(absent, null)
    return node, absent, refused


def _child(record: pa.RecordBatch | pa.StructArray, name: str) -> pa.Array:
    """Return a field of a record; what is in rows where the record is null means nothing."""
    return record.column(name) if isinstance(record, pa.RecordBatch) else record.field(name)


def _constant(route: Route, rows: int) -> pa.Array:
    kind = ARROW[route.domain]
    return pa.nulls(rows, kind) if route.constant is None else pa.repeat(pa.scalar(route.constant, kind), rows)


def _resolve(route: Route, leaf: pa.Array, absent: Mask | None) -> tuple[pa.Array, Mask | None]:
    """Turn the writer's values into the domain; `absent` rows have no parent and stay null."""
    if pa.types.is_union(leaf.type):
        return _resolve_union(route, leaf, absent)
    array, refused = None, None
    for case, wrote in zip(route.cases, route.wrote, strict=True):
        if wrote == "null":
            if case is None and leaf.null_count:
                nulls = _mask(leaf.is_null())
                refused = _either(refused, nulls if absent is None else nulls & ~absent)
        elif case is None:
            refused = _either(refused, _mask(leaf.is_valid()))
        else:
            array, bad = _convert(case, leaf, route.domain)
            refused = _either(refused, bad)
    return pa.nulls(len(leaf), ARROW[route.domain]) if array is None else array, refused


def _resolve_union(route: Route, leaf: pa.UnionArray, absent: Mask | None) -> tuple[pa.Array, Mask | None]:
    codes = _numpy(leaf.type_codes)
    kind = ARROW[route.domain]
    array, refused = pa.nulls(len(leaf), kind), None
    for branch, (case, wrote) in enumerate(zip(route.cases, route.wrote, strict=True)):
        here = codes == branch
        if absent is not None:
            here &= ~absent
        if not here.any():
            continue
        if case is None:
            refused = _either(refused, here)
        elif wrote != "null":
            part, bad = _convert(case, leaf.field(branch), route.domain)
            array = pc.if_else(pa.array(here), part, array)
            refused = _either(refused, None if bad is None else bad & here)
    return array, refused


def _convert(case: Case, array: pa.Array, domain: Domain) -> tuple[pa.Array, Mask | None]:
    refused: Mask | None = None
    if case.limit is not None:
        refused = _outside(array, case.limit)
    if case.scale_by != (1, 1):
        array = _scaled(array, *case.scale_by)
    if case.symbols is not None:
        known = pc.is_in(array, value_set=pa.array(case.symbols, pa.string()))
        strange = pc.and_(array.is_valid(), pc.invert(known))
        if case.substitute is None:
            refused = _either(refused, _mask(strange))
        else:
            array = pc.if_else(strange, pa.scalar(case.substitute), array)
    if case.kind == "string":
        _check_utf8(array)
    if array.type != ARROW[domain]:
        array = array.cast(ARROW[domain], safe=False)
    return array, refused


def _check_utf8(array: pa.StringArray) -> None:
    """Raise Malformed unless all text is UTF-8: pyruhvro copies the bytes of a string unseen."""
    data = array.buffers()[2]
    if data is None or not data.size or np.frombuffer(data, np.uint8).max() < 0x80:
        return
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        raise Malformed("a string is not UTF-8") from None


def _outside(array: pa.Array, limit: int) -> Mask | None:
    """Rows that are no 32-bit int, or None; looks at single rows only if the extremes ask for it."""
    values = _numpy(array.fill_null(0) if array.null_count else array)
    if not len(values) or (values.min() >= -limit and values.max() < limit):
        return None
    mask: Mask = (values < -limit) | (values >= limit)
    return mask


def _scaled(array: pa.Array, times: int, over: int) -> pa.Array:
    values = _numpy(array.fill_null(0) if array.null_count else array)
    scaled = values * times // over  # floor, as for times before 1970
    return pa.array(scaled, mask=_mask(array.is_null()) if array.null_count else None)


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
