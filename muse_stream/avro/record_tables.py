"""Kafka values to Arrow tables: whole records, nested fields too, in the types of one schema.

For our own records, which are looked at and stored; what is scored is read field by field (`Decoder`). Every schema of
the directory whose record has the reader's name can be read, as far as its fields have the same types: a field that it
lacks takes the reader's default. Every value has one answer, a row or a `Rejected`.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from msgspec import Struct
from numpy.typing import NDArray

from muse_stream.avro import framing
from muse_stream.avro.codec import codec_for
from muse_stream.avro.decoder import LEAF, MESSAGE_LENGTH
from muse_stream.avro.encoder import arrow_type, column_array, is_nullable
from muse_stream.avro.resolution import default_of
from muse_stream.avro.schemas import Schema, SchemaDirectory
from muse_stream.avro.strict import Malformed
from muse_stream.errors import Reason, Rejected, SchemaError, SchemaPending, Stage

Rows = NDArray[np.int64]


class RecordTable(Struct, frozen=True, eq=False):
    """What was read of a batch of values."""

    rows: Rows
    """Index into the values, ascending."""
    table: pa.RecordBatch
    rejected: tuple[Rejected, ...]


class RecordTables:
    """Reads records of one schema."""

    def __init__(self, schemas: SchemaDirectory, reader: Schema) -> None:
        """Raises SchemaError for a schema that makes no table: one with a union of several types."""
        self._schemas, self._reader = schemas, reader
        fields = reader.type.fields
        self.schema = pa.schema(
            [pa.field(one.name, arrow_type(one.type, one.name), is_nullable(one.type)) for one in fields]
        )
        """The columns, in order."""

    def read(self, values: Sequence[bytes | None]) -> RecordTable:
        """Decode a batch; never raises for bad data, but SchemaPending while a Schema Registry does not answer."""
        groups, rejected = framing.group(values)
        pieces: list[tuple[Rows, pa.RecordBatch]] = []
        for prefix, rows in groups.items():
            try:
                writer = self._writer(prefix)
            except SchemaPending:
                raise
            except SchemaError as error:
                said = str(error)[:MESSAGE_LENGTH]
                rejected += [Rejected(row, Reason.UNKNOWN_SCHEMA, Stage.DECODE, said) for row in rows.tolist()]
                continue
            payloads = [values[row][len(prefix) :] for row in rows.tolist()]
            self._group(writer, rows, payloads, pieces, rejected)
        every = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in pieces)])
        order = np.argsort(every, kind="stable")
        joined = pa.Table.from_batches([table for _, table in pieces], self.schema)
        if len(pieces) > 1:
            joined = joined.take(pa.array(order))
        (table,) = joined.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], self.schema)]
        return RecordTable(every[order], table, tuple(sorted(rejected, key=lambda one: one.row)))

    def _writer(self, prefix: bytes) -> Schema:
        number = framing.schema_id(prefix)
        found = self._schemas.by_id(number) if number is not None else self._schemas.by_fingerprint(prefix[2:])
        if found.name != self._reader.name:
            raise SchemaError(f"a record of {found.name}, not of {self._reader.name}")
        return found

    def _group(
        self,
        writer: Schema,
        rows: Rows,
        payloads: Sequence[bytes],
        pieces: list[tuple[Rows, pa.RecordBatch]],
        rejected: list[Rejected],
    ) -> None:
        """Decode the values of one writer: all at once if they are all good, else in halves."""
        try:
            pieces.append((rows, self._decoded(writer, payloads)))
        except Malformed as error:
            if len(rows) == 1:
                said = f"not a {writer.name}: {error}"[:MESSAGE_LENGTH]
                rejected.append(Rejected(int(rows[0]), Reason.UNDECODABLE, Stage.DECODE, said))
                return
            middle = len(rows) // 2
            self._group(writer, rows[:middle], payloads[:middle], pieces, rejected)
            self._group(writer, rows[middle:], payloads[middle:], pieces, rejected)

    def _decoded(self, writer: Schema, payloads: Sequence[bytes]) -> pa.RecordBatch:
        """Return the records as a table of the reader's; raises Malformed when one of them is none."""
        codec = codec_for(writer)
        try:
            if codec.batched and codec.plain and len(payloads) > LEAF:
                batch, refused = codec.batch(payloads)
                if refused is not None:
                    raise Malformed("bytes left over")
                return self._as_reader(dict(zip(batch.schema.names, batch.columns, strict=True)), len(payloads))
            records = [codec.record(payload) for payload in payloads]
            names = records[0].keys()
            return self._as_reader({name: [one[name] for one in records] for name in names}, len(payloads))
        except (pa.ArrowException, SchemaError) as error:  # text that is not UTF-8, a number that does not fit
            raise Malformed(str(error)) from None

    def _as_reader(self, columns: dict[str, pa.Array | list[object]], count: int) -> pa.RecordBatch:
        arrays = []
        for field, wanted in zip(self._reader.type.fields, self.schema, strict=True):
            if field.name not in columns and not field.has_default:
                raise Malformed(f"the schema it was written with has no {field.name}")
            given = columns[field.name] if field.name in columns else pa.scalar(default_of(field), wanted.type)
            array = column_array(given, field.type, wanted.type, count, field.name)
            array.validate(full=True)
            arrays.append(array)
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)
