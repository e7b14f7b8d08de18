"""Columns to Kafka values.

Columns by field name (Arrow, numpy, lists, or one value for all rows) and a schema give one framed Avro record a row,
as bytes.

Invariant: a record is complete or an error. Every field of the schema is given or has a default; a null or a number
that the field cannot hold is a SchemaError naming the field, never a record cut to fit.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyruhvro

from muse_stream.avro import framing, types
from muse_stream.avro.codec import PROBE_RECORDS, guarded, suits_batches
from muse_stream.avro.plain_values import PlainValues
from muse_stream.avro.resolution import default_of
from muse_stream.avro.samples import samples
from muse_stream.avro.schemas import Schema
from muse_stream.avro.stand_ins import plain
from muse_stream.avro.strict import Malformed
from muse_stream.avro.types import Field, Type
from muse_stream.errors import SchemaError
from muse_stream.scoring import Categorical

PRIMITIVE: dict[str, pa.DataType] = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "bytes": pa.binary(),
    "enum": pa.string(),
}
FEW = 16
"""So few records are encoded one by one: the calls for the columns cost more."""
UNITS: dict[str | None, str] = {"timestamp-micros": "us", "local-timestamp-micros": "us", "timestamp-nanos": "ns"}
"""Arrow's unit of the timestamps that are not milliseconds."""


class RowEncoder:
    """Encodes one record at a time with fastavro: for schemas that have no columns, and as the reference."""

    def __init__(self, schema: Schema, frame: framing.Frame = "single-object") -> None:
        """Raises SchemaError when a Confluent frame is asked for a schema without id."""
        self.schema = schema
        self.prefix = prefix_for(schema, frame)
        self.document: Any = fastavro.parse_schema(types.physical(schema.type))

    def encode(self, record: Mapping[str, Any]) -> bytes:
        """Encode a record of physical values (no datetime, no Decimal); raises SchemaError when it does not fit."""
        out = io.BytesIO(self.prefix)
        out.seek(len(self.prefix))
        try:
            fastavro.schemaless_writer(out, self.document, record)
        except (ValueError, TypeError, OverflowError, KeyError, AttributeError) as error:
            raise SchemaError(f"{self.schema}: cannot be encoded: {error}") from None
        return out.getvalue()


def prefix_for(schema: Schema, frame: framing.Frame) -> bytes:
    """Return what stands before each record; raises SchemaError for a Confluent frame without an id."""
    if frame == "single-object":
        return framing.single_object_prefix(schema.fingerprint)
    if schema.id is None:
        raise SchemaError(f"{schema}: has no Confluent id; give it one in ids.json")
    return framing.confluent_prefix(schema.id)


class Encoder:
    """Encodes rows with one schema behind one frame."""

    def __init__(self, schema: Schema, frame: framing.Frame = "single-object") -> None:
        """Raises SchemaError when a Confluent frame is asked for a schema without id, or a field takes no column."""
        self.schema = schema
        self.prefix = prefix_for(schema, frame)
        self._rows = RowEncoder(schema, frame)
        self._fields = schema.type.fields
        self._types = [arrow_type(field.type, field.name) for field in self._fields]
        self._names = [field.name for field in self._fields]
        self._plain = [PlainValues.of(kind) for kind in self._types]
        self._nullable = [is_nullable(field.type) for field in self._fields]
        self._arrow = pa.schema(
            [
                pa.field(field.name, kind, maybe)
                for field, kind, maybe in zip(self._fields, self._types, self._nullable, strict=True)
            ]
        )
        self._head = _head(self.prefix)
        heads = [pa.field(f"muse_head_{at}_", value.type, nullable=False) for at, value in enumerate(self._head)]
        self._framed = pa.schema([*heads, *self._arrow])
        self._text = json.dumps(_framed(types.physical(schema.type), self._framed.names[:2], len(self.prefix)))
        self._tried = False
        """Whether columns were encoded: the first time always, so that what fails there does so in a trial."""
        self.batched = plain(schema.type) and suits_batches(schema.type) and self._probe()

    def encode(self, columns: Mapping[str, Any], rows: int) -> list[bytes]:
        """Return `rows` values.

        A column is a pyarrow Array, a numpy array, a Categorical, a list, or a scalar that holds for every row; a
        missing column takes the field's default. Times are milliseconds (int64) or Arrow timestamps.
        """
        if not rows:
            return []
        if rows <= FEW and self._tried and (values := self._values(columns, rows)) is not None:
            return [self._rows.encode(dict(zip(self._names, row, strict=True))) for row in zip(*values, strict=True)]
        encoded = self.encode_batch(self.table(columns, rows))
        self._tried = True
        return encoded

    def table(self, columns: Mapping[str, Any], rows: int) -> pa.RecordBatch:
        """Return the columns as a RecordBatch in the types of the schema; what `encode` takes, and its errors."""
        strangers = columns.keys() - self._names
        if strangers:
            raise SchemaError(f"{self.schema}: has no field {sorted(strangers)[0]!r}")
        arrays = [
            self._column(columns, field, kind, maybe, rows)
            for field, kind, maybe in zip(self._fields, self._types, self._nullable, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)

    def encode_batch(self, batch: pa.RecordBatch) -> list[bytes]:
        """Encode a RecordBatch that has the schema's fields in the types of `arrow_type`."""
        if self.batched:
            try:
                return self._serialized(batch)
            except Malformed as error:
                raise SchemaError(f"{self.schema}: cannot be encoded: {error}") from None
        return [self._rows.encode(record) for record in batch.to_pylist(maps_as_pydicts="strict")]

    def _values(self, columns: Mapping[str, Any], rows: int) -> list[list[Any]] | None:
        """Return the fields' values as `table` would have them; None where it must decide."""
        if len(columns) != len(self._names) or columns.keys() - self._names:
            return None
        found = []
        for name, reader, maybe in zip(self._names, self._plain, self._nullable, strict=True):
            values = reader.read(columns[name], rows)
            if values is None or (not maybe and None in values):
                return None
            found.append(values)
        return found

    def _column(self, columns: Mapping[str, Any], field: Field, kind: pa.DataType, maybe: bool, rows: int) -> pa.Array:
        if field.name in columns:
            given = columns[field.name]
        elif field.has_default:
            given = pa.scalar(default_of(field), kind)
        else:
            raise SchemaError(f"{self.schema}: no column {field.name!r}, which has no default")
        array = column_array(given, field.type, kind, rows, f"{self.schema}: {field.name}")
        if array.null_count and not maybe:
            row = array.is_null().index(True).as_py()
            raise SchemaError(f"{self.schema}: {field.name} is null in row {row}, which the schema does not allow")
        if len(array) != rows:
            raise SchemaError(f"{self.schema}: {field.name} has {len(array)} values for {rows} rows")
        return array

    def _serialized(self, batch: pa.RecordBatch) -> list[bytes]:
        """Encode by pyruhvro, the frame as two more fields: to put it before each record would copy each."""
        heads = [pa.repeat(value, batch.num_rows) for value in self._head]
        framed = pa.RecordBatch.from_arrays([*heads, *batch.columns], schema=self._framed)
        (values,) = guarded(pyruhvro.serialize_record_batch, framed, self._text, 1)
        found: list[bytes] = values.to_pylist()
        return found

    def _probe(self) -> bool:
        """Whether pyruhvro writes made-up records byte for byte as fastavro does."""
        payloads = map(io.BytesIO, samples(self.schema.type, PROBE_RECORDS))
        try:
            records = [fastavro.schemaless_reader(payload, self._rows.document, None) for payload in payloads]
            batch = pa.RecordBatch.from_pylist(records, schema=self._arrow)
            written = self._serialized(batch)
            expected = [self._rows.encode(record) for record in records]  # type: ignore[arg-type]
        except (Malformed, SchemaError, pa.ArrowException):
            return False
        return written == expected


def _head(prefix: bytes) -> tuple[pa.Scalar, pa.Scalar]:
    """Return the frame as two numbers that Avro writes as its bytes: a long, and the rest as a float or a double."""
    magic, rest = (framing.CONFLUENT_MAGIC, "<f4") if len(prefix) == framing.CONFLUENT_LENGTH else (prefix[:2], "<f8")
    number = fastavro.schemaless_reader(io.BytesIO(magic), "long", None)
    return pa.scalar(number, pa.int64()), pa.array(np.frombuffer(prefix[len(magic) :], rest))[0]


def _framed(document: Any, names: list[str], length: int) -> Any:
    """Return the schema of a record with its frame before it."""
    kinds = "long", "float" if length == framing.CONFLUENT_LENGTH else "double"
    fields = [{"name": name, "type": kind} for name, kind in zip(names, kinds, strict=True)]
    return document | {"fields": fields + document["fields"]}


def arrow_type(node: Type, where: str) -> pa.DataType:
    """Return the Arrow type that holds a schema's type; raises SchemaError for a union of several types."""
    options = [option for option in node.options if option.kind != "null"]
    if len(options) > 1:
        kinds = "|".join(option.kind for option in options)
        raise SchemaError(f"{where}: a union of {kinds} cannot be written from columns")
    if not options:
        return pa.null()
    only = options[0]
    if only.kind == "record":
        return pa.struct(
            [
                pa.field(field.name, arrow_type(field.type, f"{where}.{field.name}"), is_nullable(field.type))
                for field in only.fields
            ]
        )
    if only.kind == "array":
        items = only.items or Type("null")
        return pa.list_(pa.field("item", arrow_type(items, f"{where}[]"), is_nullable(items)))
    if only.kind == "map":
        items = only.items or Type("null")
        return pa.map_(pa.string(), pa.field("value", arrow_type(items, f"{where}{{}}"), is_nullable(items)))
    return pa.binary(only.size) if only.kind == "fixed" else PRIMITIVE[only.kind]


def is_nullable(node: Type) -> bool:
    """Say whether the type has a null."""
    return any(option.kind == "null" for option in node.options)


def column_array(given: Any, node: Type, kind: pa.DataType, rows: int, where: str) -> pa.Array:
    """Make a column of whatever was given; raises SchemaError for a value the type cannot hold."""
    try:
        if isinstance(given, Categorical):
            given = _texts(given)
        if isinstance(given, pa.ChunkedArray):
            given = given.combine_chunks()
        if isinstance(given, pa.Array):
            return _cast(given, kind, node)
        if isinstance(given, np.ndarray):
            return _cast(pa.array(given), kind, node)
        if isinstance(given, list | tuple):
            return pa.array(given, kind)
        scalar = given if isinstance(given, pa.Scalar) else pa.scalar(given, kind)
        return pa.repeat(scalar, rows)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise SchemaError(f"{where}: {str(error).splitlines()[0]} (the schema wants {kind})") from None


def _texts(column: Categorical) -> pa.StringArray:
    values, codes = pa.array(column.values, pa.string()), column.codes
    if len(values) == 1 and not codes.any():  # as most are
        return pa.repeat(values[0], len(codes))
    return values.take(pa.array(codes, mask=codes < 0))


def _cast(array: pa.Array, kind: pa.DataType, node: Type) -> pa.Array:
    if array.type == kind:
        return array
    if pa.types.is_timestamp(array.type) and kind == pa.int64():
        unit = next((UNITS[option.logical] for option in node.options if option.logical in UNITS), "ms")
        array = array.cast(pa.timestamp(unit, array.type.tz), safe=False)
    return array.cast(kind)
