"""A flat or nested table as the columns of an event schema.

A RecordBatch of a file, the schema's tree, and which column stands for which dotted field give one Arrow array for each
field of the record, nested records as structs. Columns are found by name, never by position; a field that has neither a
column nor a default is a SchemaError that lists what the file has.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from muse_stream.avro import Field, Type, arrow_type, column_array, is_nullable
from muse_stream.errors import SchemaError
from muse_stream.files.rows import default_value


def records_table(record: Type, batch: pa.RecordBatch, columns: Mapping[str, str]) -> dict[str, pa.Array]:
    """Return an array for each field of `record`; `columns` maps dotted fields to columns of other names."""
    source = {name: batch.column(name) for name in batch.schema.names}
    return {field.name: _field(field, field.name, source, columns, batch.num_rows) for field in record.fields}


def _field(field: Field, path: str, source: Mapping[str, Any], columns: Mapping[str, str], rows: int) -> pa.Array:
    kind = arrow_type(field.type, path)
    name = columns.get(path, path)
    nested = next((option for option in field.type.options if option.kind == "record"), None)
    if name in source:
        given = source[name]
        if nested is not None and pa.types.is_struct(given.type):
            return _struct(nested, given, path, columns)
        array = column_array(given, field.type, kind, rows, f"column {name!r} ({given.type}) for field {path}")
        if array.null_count and not is_nullable(field.type):
            raise SchemaError(f"column {name!r} has {array.null_count} nulls; {path} allows none")
        return array
    if nested is not None and _mentioned(path, source, columns):
        inner = [_field(part, f"{path}.{part.name}", source, columns, rows) for part in nested.fields]
        return pa.StructArray.from_arrays(inner, fields=list(kind))
    if field.has_default:
        return pa.array([default_value(field.type, field.default)], kind).take(pa.array([0] * rows, pa.int32()))
    wanted = "" if name == path else f" (column {name!r})"
    raise SchemaError(f"no column for the field {path}{wanted}, which has no default; the file has {', '.join(source)}")


def _struct(record: Type, given: pa.StructArray, path: str, columns: Mapping[str, str]) -> pa.Array:
    """Bring a struct column into the record's shape, its nulls kept."""
    source = {f"{path}.{child.name}": given.field(index) for index, child in enumerate(given.type)}
    inner = [_field(part, f"{path}.{part.name}", source, columns, len(given)) for part in record.fields]
    mask = given.is_null() if given.null_count else None
    return pa.StructArray.from_arrays(inner, fields=list(arrow_type(record, path)), mask=mask)


def _mentioned(path: str, source: Mapping[str, Any], columns: Mapping[str, str]) -> bool:
    inside = f"{path}."
    return any(name.startswith(inside) for name in source) or any(name.startswith(inside) for name in columns)
