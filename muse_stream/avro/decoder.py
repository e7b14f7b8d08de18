"""Kafka values to columns.

Values as consumed, each an Avro record behind a frame, become `Decoded`: ids, times and the columns a configuration
asks for, as numpy arrays, plus one `Rejected` for every value that is no such record.

Invariant: every value has one answer, a row or a `Rejected`; a bad record costs that record only. The batch decoder is
given whole groups; where it fails the group is halved until the bad records stand alone, and only those go to the
per-record decoder, which has the last word.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from msgspec import Struct
from numpy.typing import NDArray

from muse_stream.avro import framing
from muse_stream.avro.arrow_columns import as_written, extract
from muse_stream.avro.codec import Codec, codec_for
from muse_stream.avro.decoded import Decoded, Fields, Piece, Plan, assemble
from muse_stream.avro.record_columns import Picked, Unresolved, column, pick, wanted
from muse_stream.avro.resolution import Lacking, Route, route
from muse_stream.avro.schemas import Schema, SchemaDirectory, ambiguous
from muse_stream.avro.strict import Malformed, Wanted
from muse_stream.errors import Reason, Rejected, SchemaError, SchemaPending, Stage

LEAF = 8
"""Below this a failed group is decoded record by record: a call costs as much as several single records."""
AT_ONCE = 256
"""Records whose values are held as Python objects: of more, the garbage collector takes as long as the decoding."""
MESSAGE_LENGTH = 200


class Unreadable(Struct, frozen=True):
    """A field that a writer writes as the reader cannot read it."""

    path: str
    why: str
    whole: bool
    """Every event is refused, not only those with some branch of a union or symbol."""
    lacks: bool
    """For want of a field that has no default; else for its type."""


class _Writer(Struct, frozen=True):
    """One writer schema, resolved."""

    codec: Codec
    routes: tuple[Route, ...]
    fields: tuple[str | None, ...]
    """`as_written` of each route."""
    wanted: Wanted


class Decoder:
    """Decodes events written with any schema of a directory as one reader's schema defines them."""

    def __init__(self, schemas: SchemaDirectory, reader: Schema, fields: Fields) -> None:
        """Raises SchemaError when the reader's schema does not have one of the fields, or it makes no column."""
        self._schemas = schemas
        self._reader = reader
        self._plan = Plan.of(reader.type, fields)
        self._writers: dict[bytes, _Writer | Rejected] = {}
        self._resolve(reader)

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields that are read, the id first."""
        return tuple(dict.fromkeys(part.path for part in self._plan.parts))

    def name_of_text(self, path: str) -> str:
        """Return which of `Decoded.columns` is the text of a field of `Fields.texts`."""
        return self._plan.name_of_text(path)

    def routes(self, writer: Schema) -> tuple[Route, ...]:
        """Return where each part is found in what a writer wrote; raises SchemaError when it cannot be read."""
        return tuple(
            route(self._reader.type, writer.type, part.path, part.use, self._plan.fields.time_unit)
            for part in self._plan.parts
        )

    def unreadable(self, writer: Schema) -> list[Unreadable]:
        """Say what of a writer's events cannot be read, field by field; nothing if all can."""
        found: list[Unreadable] = []
        for part in self._plan.parts:
            try:
                one = route(self._reader.type, writer.type, part.path, part.use, self._plan.fields.time_unit)
            except SchemaError as error:
                found.append(Unreadable(part.path, str(error), True, isinstance(error, Lacking)))
                continue
            hopeless = one.hopeless
            found += [Unreadable(part.path, bad.why, hopeless, bad.lacks) for bad in one.refusals()]
        once = {(one.path, one.why): one for one in reversed(found)}
        return list(reversed(once.values()))

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a batch; values without an answer are in `rejected`, by their index. Never raises for bad data.

        Raises SchemaPending, with the rows, where a Schema Registry has not said yet what some were written with.
        """
        groups, rejected = framing.group(values)
        self._await(groups)
        pieces: list[Piece] = []
        for prefix, rows in groups.items():
            writer = self._writer(prefix)
            if isinstance(writer, Rejected):
                rejected.extend(Rejected(row, writer.reason, writer.stage, writer.message) for row in rows.tolist())
                continue
            framed = values if len(rows) == len(values) else [values[row] for row in rows.tolist()]
            # a value without a frame is in no group
            work = _Group(writer, len(prefix), rows, framed, pieces, rejected)  # type: ignore[arg-type]
            work.run(0, len(rows))
        return assemble(pieces, rejected, self._plan)

    def _await(self, groups: Mapping[bytes, NDArray[np.int64]]) -> None:
        """Look all writers up before anything is decoded; raises SchemaPending for those that are not known yet."""
        unseen = [prefix for prefix in groups if prefix not in self._writers]
        if not unseen:
            return
        self._schemas.expect(unseen)
        pending: dict[bytes, SchemaPending] = {}
        for prefix in unseen:
            try:
                self._writer(prefix)
            except SchemaPending as error:
                pending[prefix] = error
        if pending:
            rows = np.sort(np.concatenate([groups[prefix] for prefix in pending])).tolist()
            waiting = [error.ready for error in pending.values()]
            first = str(next(iter(pending.values())))
            raise SchemaPending(first, lambda: all(ready() for ready in waiting), rows=rows)

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
            by_id = [self._schemas.by_id(number)] if number is not None else None
            schemas = by_id or self._schemas.of_fingerprint(prefix[2:])
        except SchemaPending:
            raise
        except SchemaError as error:
            return Rejected(-1, Reason.UNKNOWN_SCHEMA, Stage.DECODE, str(error)[:MESSAGE_LENGTH])
        try:
            if not self.alike(schemas):
                return Rejected(-1, Reason.UNKNOWN_SCHEMA, Stage.DECODE, ambiguous(schemas)[:MESSAGE_LENGTH])
            return self._resolve(schemas[0])
        except SchemaError as error:
            return Rejected(-1, Reason.UNDECODABLE, Stage.DECODE, str(error)[:MESSAGE_LENGTH])
        except Exception as error:  # noqa: BLE001 - of a schema that was not foreseen: its events are lost, no others
            return Rejected(-1, Reason.UNDECODABLE, Stage.DECODE, repr(error)[:MESSAGE_LENGTH])

    def alike(self, writers: Sequence[Schema]) -> bool:
        """Say whether the same is read of what any of these writers writes; raises SchemaError if nothing can be."""
        return len(writers) == 1 or len({self.routes(writer) for writer in writers}) == 1

    def _resolve(self, schema: Schema) -> "_Writer":
        routes = self.routes(schema)
        return _Writer(codec_for(schema), routes, tuple(map(as_written, routes)), wanted(routes))


class _Group:
    """The values of one writer in one batch."""

    def __init__(
        self,
        writer: _Writer,
        skip: int,
        rows: NDArray[np.int64],
        values: Sequence[bytes],
        pieces: list[Piece],
        rejected: list[Rejected],
    ) -> None:
        """`values` have `skip` bytes before the record; `rows` are their places in the batch."""
        self._writer = writer
        self._skip, self._rows, self._values = skip, rows, values
        self._pieces = pieces
        self._rejected = rejected

    def run(self, start: int, stop: int) -> None:
        """Decode values [start, stop): all at once if they are all good, else in halves."""
        if not self._writer.codec.batched:
            for at in range(start, stop, AT_ONCE):
                self._one_by_one(at, min(at + AT_ONCE, stop))
            return
        try:
            self._at_once(start, stop)
        except Exception:  # noqa: BLE001 - Malformed; or a fault of our own or of Arrow, which costs no good record
            if stop - start <= LEAF:
                self._one_by_one(start, stop)
                return
            middle = (start + stop) // 2
            self.run(start, middle)
            self.run(middle, stop)

    def _at_once(self, start: int, stop: int) -> None:
        whole = start == 0 and stop == len(self._values)
        values = self._values if whole else self._values[start:stop]
        batch, refused = self._writer.codec.batch(values, self._skip)
        arrays = []
        for path, field in zip(self._writer.routes, self._writer.fields, strict=True):
            array, bad = extract(path, batch, field)
            arrays.append(array)
            if bad is not None:
                refused = bad if refused is None else refused | bad
        rows = self._rows[start:stop]
        if refused is not None and refused.any():  # only records can say why, and they have the last word
            keep = pa.array(~refused)
            arrays = [array.filter(keep) for array in arrays]
            for index in np.flatnonzero(refused).tolist():
                self._one_by_one(start + index, start + index + 1)
            rows = rows[~refused]
        elif not whole:  # a part's array would keep all that was decoded with it, and parts may be many
            every = pa.array(np.arange(len(rows)))
            arrays = [array.take(every) for array in arrays]
        self._pieces.append((rows, arrays))

    def _one_by_one(self, start: int, stop: int) -> None:
        rows: list[int] = []
        found: list[list[Picked]] = []
        for index in range(start, stop):
            row = int(self._rows[index])
            try:
                record = self._writer.codec.read(self._values[index][self._skip :], self._writer.wanted)
                found.append([pick(route, record) for route in self._writer.routes])
                rows.append(row)
            except Exception as error:  # noqa: BLE001 - Malformed, Unresolved, or a fault of our own
                self._refuse(row, error)
        self._columns(rows, found)

    def _columns(self, rows: list[int], found: list[list[Picked]]) -> None:
        """Make a piece of what was read record by record."""
        if not rows:
            return
        routes = self._writer.routes
        try:
            made = [column(route, picked) for route, picked in zip(routes, zip(*found, strict=True), strict=True)]
        except Exception as error:  # noqa: BLE001 - a fault of our own or of Arrow costs the records that cause it
            if len(rows) == 1:
                self._refuse(rows[0], error)
                return
            middle = len(rows) // 2
            self._columns(rows[:middle], found[:middle])
            self._columns(rows[middle:], found[middle:])
            return
        refused = {position: why for _, bad in reversed(made) for position, why in bad.items()}
        for position, why in refused.items():
            self._refuse(rows[position], Unresolved(why))
        arrays = [array for array, _ in made]
        if refused:
            keep = pa.array([position not in refused for position in range(len(rows))])
            arrays = [array.filter(keep) for array in arrays]
        kept = [row for position, row in enumerate(rows) if position not in refused]
        self._pieces.append((np.array(kept, dtype=np.int64), arrays))

    def _refuse(self, row: int, error: Exception) -> None:
        said = str(error) if isinstance(error, Malformed | Unresolved) else f"{type(error).__name__}: {error}"
        message = f"not a {self._writer.codec.name}: {said}"[:MESSAGE_LENGTH]
        self._rejected.append(Rejected(row, Reason.UNDECODABLE, Stage.DECODE, message))
