"""Rows of a Parquet file, with what its types say of them.

Arrow arrays give Python values: times as counted, to the nanosecond, decimals exact. Arrow's own `to_pylist` has no
moments after the year 9999 and none with nanoseconds.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from muse_stream.errors import MuseError, SchemaError
from muse_stream.files.values import DAY, NANOS, Date, Half, Single, TimeOfDay, Timestamp


def opened(path: Path) -> pq.ParquetFile:
    """Open a Parquet file; raises MuseError when it is none."""
    try:
        return pq.ParquetFile(path, pre_buffer=False)  # which would keep every byte of the file until it is closed
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MuseError(f"{path}: not a Parquet file: {_said(error)}") from None


def batches(file: pq.ParquetFile, path: Path, chunk: int) -> Iterator[pa.RecordBatch]:
    """Yield the file's rows, at most `chunk` at a time; raises MuseError where it is damaged."""
    try:
        yield from file.iter_batches(chunk)
    except (pa.ArrowException, OSError, ValueError) as error:  # Arrow says of damaged pages that they are an OSError
        raise MuseError(f"{path}: cannot be read: {_said(error)}") from None


def _said(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def named_columns(batch: pa.RecordBatch, used: Collection[str]) -> dict[str, pa.Array]:
    """Return the columns that are used, by name; raises SchemaError where the batch has one of them twice."""
    twice = [name for name, times in Counter(batch.schema.names).items() if times > 1 and name in used]
    if twice:
        raise SchemaError(f"the column {twice[0]!r} is there twice; give one of them another name")
    return {name: batch.column(place) for place, name in enumerate(batch.schema.names) if name in used}


def numbers_of_flags(column: pa.Array) -> pa.Array:
    """Return a column of booleans as 0 and 1, any other as it is."""
    return column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column


def rows_of(columns: dict[str, pa.Array], count: int) -> list[dict[str, Any]]:
    """Return rows as dicts; raises SchemaError for a column of a type that has no meaning here."""
    held = {name: _named(name, array) for name, array in columns.items()}
    return [{name: column[row] for name, column in held.items()} for row in range(count)]


def _named(name: str, array: pa.Array) -> list[Any]:
    try:
        return values_of(array)
    except (SchemaError, pa.ArrowException, ValueError, TypeError, OverflowError, NotImplementedError) as error:
        raise SchemaError(f"column {name!r} ({array.type}) cannot be read: {_said(error)}") from None


def values_of(array: pa.Array) -> list[Any]:
    """Return an Arrow array as Python values; raises SchemaError or what Arrow raises where there are none."""
    if isinstance(array, pa.ExtensionArray):
        return _of_extension(array)
    values = next((values for is_such, values in _NESTED if is_such(array.type)), _plain)
    return values(array)


def _plain(array: pa.Array) -> list[Any]:
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        array.validate(full=True)  # a file may hold text that is not UTF-8
    values: list[Any] = array.to_pylist()
    short = Single if pa.types.is_float32(array.type) else Half if pa.types.is_float16(array.type) else None
    return values if short is None else [None if value is None else short(value) for value in values]


def _of_extension(array: pa.ExtensionArray) -> list[Any]:
    values = values_of(array.storage)
    if array.type.extension_name == "arrow.uuid":
        return [None if value is None else UUID(bytes=value) for value in values]
    if array.type.extension_name == "arrow.bool8":
        return [None if value is None else bool(value) for value in values]
    return values


def _times(array: pa.Array) -> list[Any]:
    kind = array.type
    if pa.types.is_duration(kind) or pa.types.is_interval(kind):
        raise SchemaError(f"a {kind} is no time that Avro has")
    wide = pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else pa.int64()
    numbers = array.view(wide).to_pylist()
    if pa.types.is_timestamp(kind):
        unit, zoned = NANOS[kind.unit], kind.tz is not None
        return [None if number is None else Timestamp(number * unit, zoned) for number in numbers]
    if pa.types.is_date32(kind):
        return [None if number is None else Date(number) for number in numbers]
    if pa.types.is_date64(kind):
        day = DAY // NANOS["ms"]
        return [
            None if n is None else Timestamp(n * NANOS["ms"], False) if n % day else Date(n // day) for n in numbers
        ]
    unit = NANOS[kind.unit]
    return [None if number is None else TimeOfDay(number * unit) for number in numbers]


def _structs(array: pa.StructArray) -> list[Any]:
    names = [field.name for field in array.type]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise SchemaError(f"the field {twice[0]!r} is there twice")
    columns = [values_of(array.field(place)) for place in range(len(names))]
    valid = array.is_valid().to_pylist()
    return [
        dict(zip(names, (column[row] for column in columns), strict=True)) if there else None
        for row, there in enumerate(valid)
    ]


def _lists(array: Any) -> list[Any]:
    return [values_of(array[row].values) if there else None for row, there in enumerate(array.is_valid().to_pylist())]


def _maps(array: pa.MapArray) -> list[Any]:
    found: list[Any] = []
    for row, there in enumerate(array.is_valid().to_pylist()):
        if not there:
            found.append(None)
            continue
        entries = array[row].values
        keys, items = values_of(entries.field(0)), values_of(entries.field(1))
        if len(set(map(str, keys))) < len(keys):
            raise SchemaError("a map has a key twice")
        found.append(dict(zip(keys, items, strict=True)))
    return found


_NESTED: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], list[Any]]], ...] = (
    (pa.types.is_dictionary, lambda array: values_of(array.dictionary_decode())),
    (pa.types.is_temporal, _times),
    (pa.types.is_struct, _structs),
    (pa.types.is_map, _maps),
    (pa.types.is_list, _lists),
    (pa.types.is_large_list, _lists),
    (pa.types.is_fixed_size_list, _lists),
)
