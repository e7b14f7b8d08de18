"""Kafka values to columns.

Values as consumed, each an Avro record behind a frame, become `Decoded`: ids, times and the columns a configuration
asks for, as numpy arrays, plus one `Rejected` for every value that is no such record.

Invariant: every value has one answer, a row or a `Rejected`; a bad record costs that record only. The batch decoder is
given whole groups; where it fails the group is halved until the bad records stand alone, and only those go to the
per-record decoder, which has the last word.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from muse_stream.avro import framing
from muse_stream.avro.arrow_columns import ARROW, extract
from muse_stream.avro.codec import Codec, codec_for
from muse_stream.avro.decoded import Decoded, Fields, Piece, assemble
from muse_stream.avro.record_columns import Unresolved, value, wanted
from muse_stream.avro.resolution import Route, column_type, route
from muse_stream.avro.schemas import Schema, SchemaDirectory
from muse_stream.avro.strict import Malformed, Wanted
from muse_stream.errors import Reason, Rejected, SchemaError, Stage

LEAF = 8
"""Below this a failed group is decoded record by record: a call costs as much as several single records."""
MESSAGE_LENGTH = 200


@dataclass(frozen=True, slots=True)
class _Writer:
    """One writer schema, resolved."""

    codec: Codec
    routes: tuple[Route, ...]
    wanted: Wanted


class Decoder:
    """Decodes events written with any schema of a directory as one reader's schema defines them."""

    def __init__(self, schemas: SchemaDirectory, reader: Schema, fields: Fields) -> None:
        """Raises SchemaError when the reader's schema does not have one of the fields, or it makes no column."""
        self._schemas = schemas
        self._reader = reader
        self._fields = fields
        self.domains = {path: column_type(reader.type, path)[:2] for path in fields.paths()}
        _check_roles(fields, self.domains)
        self._writers: dict[bytes, _Writer | Rejected] = {}
        self._resolve(reader)

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a batch; values without an answer are in `rejected`, by their index. Never raises for bad data."""
        groups, rejected = framing.group(values)
        pieces: list[Piece] = []
        for group in groups:
            writer = self._writer(group.prefix)
            if isinstance(writer, Rejected):
                rejected.extend(
                    Rejected(row, writer.reason, writer.stage, writer.message) for row in group.rows.tolist()
                )
                continue
            work = _Group(writer, group, pieces, rejected)
            work.run(0, len(group.values))
        return assemble(pieces, rejected, self._fields, self.domains)

    def _writer(self, prefix: bytes) -> "_Writer | Rejected":
        found = self._writers.get(prefix)
        if found is None:
            found = self._find(prefix)
            if not isinstance(found, Rejected) or found.reason != Reason.UNKNOWN_SCHEMA:
                self._writers[prefix] = found  # but no prefix that anybody may invent: there is one for every value
        return found

    def _find(self, prefix: bytes) -> "_Writer | Rejected":
        number = framing.schema_id(prefix)
        try:
            schema = self._schemas.by_id(number) if number is not None else self._schemas.by_fingerprint(prefix[2:])
        except SchemaError as error:
            return Rejected(-1, Reason.UNKNOWN_SCHEMA, Stage.DECODE, str(error)[:MESSAGE_LENGTH])
        try:
            return self._resolve(schema)
        except SchemaError as error:
            return Rejected(-1, Reason.UNDECODABLE, Stage.DECODE, str(error)[:MESSAGE_LENGTH])

    def _resolve(self, schema: Schema) -> "_Writer":
        routes = tuple(route(self._reader.type, schema.type, path) for path in self.domains)
        return _Writer(codec_for(schema), routes, wanted(routes))


class _Group:
    """The values of one writer in one batch."""

    def __init__(self, writer: _Writer, group: framing.Group, pieces: list[Piece], rejected: list[Rejected]) -> None:
        self._writer = writer
        self._group = group
        self._pieces = pieces
        self._rejected = rejected

    def run(self, start: int, stop: int) -> None:
        """Decode values [start, stop): all at once if they are all good, else in halves."""
        if not self._writer.codec.batched:
            self._one_by_one(start, stop)
            return
        try:
            self._at_once(start, stop)
        except Malformed:
            if stop - start <= LEAF:
                self._one_by_one(start, stop)
                return
            middle = (start + stop) // 2
            self.run(start, middle)
            self.run(middle, stop)

    def _at_once(self, start: int, stop: int) -> None:
        whole = start == 0 and stop == len(self._group.values)
        values = self._group.values if whole else self._group.values[start:stop]
        batch, refused = self._writer.codec.batch(values, len(self._group.prefix))
        arrays = []
        for path in self._writer.routes:
            array, bad = extract(path, batch)
            arrays.append(array)
            if bad is not None:
                refused = bad if refused is None else refused | bad
        rows = self._group.rows[start:stop]
        if refused is not None and refused.any():  # only records can say why, and they have the last word
            keep = pa.array(~refused)
            arrays = [array.filter(keep) for array in arrays]
            for index in np.flatnonzero(refused).tolist():
                self._one_by_one(start + index, start + index + 1)
            rows = rows[~refused]
        elif not whole:  # a part's array would keep all that was decoded with it, and parts may be many
            every = pa.array(np.arange(len(rows)))
            arrays = [array.take(every) for array in arrays]
        self._pieces.append(Piece(rows, arrays))

    def _one_by_one(self, start: int, stop: int) -> None:
        skip = len(self._group.prefix)
        rows: list[int] = []
        found: list[list[object]] = []
        for index in range(start, stop):
            row = int(self._group.rows[index])
            try:
                record = self._writer.codec.read(self._group.values[index][skip:], self._writer.wanted)
                found.append([value(path, record) for path in self._writer.routes])
                rows.append(row)
            except (Malformed, Unresolved) as error:
                message = f"not a {self._writer.codec.name}: {error}"[:MESSAGE_LENGTH]
                self._rejected.append(Rejected(row, Reason.UNDECODABLE, Stage.DECODE, message))
        if rows:
            columns = zip(*found, strict=True)
            arrays = [
                pa.array(list(column), ARROW[path.domain])
                for column, path in zip(columns, self._writer.routes, strict=True)
            ]
            self._pieces.append(Piece(np.array(rows, dtype=np.int64), arrays))


def _check_roles(fields: Fields, domains: Mapping[str, tuple[str, bool]]) -> None:
    wanted: list[tuple[str, str | None, Callable[[str], bool], str]] = [
        ("the id", fields.id, lambda domain: domain in ("text", "integer"), "a string, an int or a long"),
        ("the event time", fields.time, lambda domain: domain == "integer", "a timestamp or a long of milliseconds"),
        ("the tenant", fields.tenant, lambda domain: domain == "text", "a string or an enum"),
    ]
    for role, path, fits, right in wanted:
        if path is not None and not fits(domains[path][0]):
            raise SchemaError(f"{path}: {role} must be {right}; its column is {domains[path][0]}")
