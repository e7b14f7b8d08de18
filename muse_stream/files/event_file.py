"""Files of events.

A Parquet, Avro container or JSON-lines file and an event schema give framed events in chunks, as a producer or `replay`
takes them. Events leave in the file's order. A row that is no event of the schema is a SchemaError that names file, row
and field, or is given to who asked for such rows. A field may be nested in the row as in the schema, or have its dotted
path as its name. What the schema does not name is left out.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from muse_stream.avro import Decoder, Encoder, Fields, Frame, RowEncoder, Schema, SchemaDirectory, Type
from muse_stream.errors import MuseError, SchemaError
from muse_stream.files import parquet
from muse_stream.files.binary import encoded
from muse_stream.files.container import container_rows
from muse_stream.files.json_lines import Encoding, encoding_of, lines
from muse_stream.files.plain_rows import csv_names, csv_rows
from muse_stream.files.rows import Source, physical_value
from muse_stream.files.table import NoTable, suits_tables, table
from muse_stream.files.values import plain

CHUNK = 10_000
PARQUET, AVRO, JSON_LINES = (".parquet", ".pq"), (".avro",), (".jsonl", ".ndjson", ".json")
CSV = (".csv",)
EVENT_FILES = (*PARQUET, *AVRO, *JSON_LINES)
"""How names of files of events end."""


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A row that is no event of the schema."""

    row: int
    """Number in the file, from 1; of JSON lines the line."""
    place: str
    """Where it is, as messages begin: `events.jsonl:17`, `events.parquet, row 17`."""
    reason: str
    content: Any
    """What the file has there: the text of a line, or a dict."""

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"

    def to_json(self) -> str:
        """Return row, reason and event as one JSON object on one line; a line of a file stands in it as it is."""
        said = json.dumps({"row": self.row, "error": self.reason})
        if isinstance(self.content, str):
            line = self.content.strip()
            try:
                json.loads(line)
            except (ValueError, RecursionError):
                line = json.dumps(line)
        else:
            line = json.dumps(plain(self.content))
        return f'{said[:-1]}, "event": {line}}}'


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Some events of a file, in order."""

    values: list[bytes]
    """Framed Avro."""
    rows: Sequence[int]
    """Number of each in the file, from 1; of JSON lines the line."""


@dataclass(frozen=True, slots=True, eq=False)
class FileChunk:
    """Some events of a file, in order, with what they are keyed by."""

    values: list[bytes]
    """Framed Avro."""
    ids: pa.StringArray
    """Of the key field asked for."""
    times: NDArray[np.int64] | None
    """Milliseconds, -1 where missing; None if no time field was asked for."""
    rows: Sequence[int]
    """Number of each in the file, from 1; of JSON lines the line."""

    def keys(self) -> list[bytes | None]:
        """Ids as Kafka keys."""
        return [None if key is None else key.encode() for key in self.ids.to_pylist()]


OnInvalid = Callable[[InvalidRow], object]
_Read = tuple[int, bytes | InvalidRow]


class EventFile:
    """A file whose rows are events of one schema."""

    def __init__(
        self,
        path: Path | str,
        schema: Schema,
        frame: Frame = "single-object",
        *,
        columns: Mapping[str, str] | None = None,
        encoding: Encoding | None = None,
        flags_are_numbers: bool = False,
        most_bytes: int | None = None,
        csv: bool = False,
    ) -> None:
        """Open a file; nothing of it is read yet.

        `columns` gives the file's column for a dotted field of the schema, where the names differ; `encoding` says how
        JSON lines write Avro values, where the file leaves that open; `flags_are_numbers` takes a Parquet column of
        booleans for 0 and 1, which is refused for a number otherwise; a row whose framed event has more than
        `most_bytes` is none; `csv` takes a CSV file as well. Raises MuseError when the file is missing or of no known
        kind.
        """
        self.path = Path(path)
        self.schema = schema
        self._kind = kind_of(self.path, (*EVENT_FILES, *CSV) if csv else EVENT_FILES)
        if not self.path.is_file():
            raise MuseError(f"{self.path}: no such file")
        self._frame: Frame = frame
        self._prefix = RowEncoder(schema, frame).prefix
        self._columns = dict(columns or {})
        self._given_encoding = encoding
        self._flags_are_numbers = flags_are_numbers
        self._most_bytes = sys.maxsize if most_bytes is None else most_bytes
        strangers = [path for path in self._columns if not _has(schema.type, path)]
        if strangers:
            raise SchemaError(f"{self.path}: {schema} has no field {strangers[0]!r} to take a column for")

    @property
    def rows(self) -> int | None:
        """How many rows the file has, where that is known without reading it (Parquet)."""
        return int(parquet.opened(self.path).metadata.num_rows) if self._kind in PARQUET else None

    @cached_property
    def _encoding(self) -> Encoding:
        return self._given_encoding or encoding_of(self.path, self.schema.type, self._shaped)

    def values(self, chunk: int = CHUNK) -> Iterator[list[bytes]]:
        """Yield framed events, `chunk` at a time; raises SchemaError for the first row that is none."""
        return (events.values for events in self.events(chunk))

    def events(
        self, chunk: int = CHUNK, *, first: int = 1, limit: int | None = None, invalid: OnInvalid | None = None
    ) -> Iterator[Events]:
        """Yield the events from row `first` on, `chunk` at a time, at most `limit`; no row after those is looked at.

        A row that is no event goes to `invalid`; without it the first such row is a SchemaError. Raises MuseError where
        the file cannot be read on.
        """
        if self._kind in PARQUET:
            yield from self._parquet(chunk, first, limit, invalid)
            return
        rows = (_good(one, invalid) for one in self._rows(first))
        for some in _chunked(islice((one for one in rows if one is not None), limit), chunk):
            yield Events([value for _, value in some], [row for row, _ in some])

    def chunks(
        self,
        key: str,
        time: str | None = None,
        chunk: int = CHUNK,
        *,
        first: int = 1,
        limit: int | None = None,
        invalid: OnInvalid | None = None,
    ) -> Iterator[FileChunk]:
        """Yield events as `events` does, with the field to key them by and their time (dotted paths in the schema)."""
        alone = SchemaDirectory(self.path.parent, {self.schema.file: self.schema}, _by_id(self.schema))
        decoder = Decoder(alone, self.schema, Fields(key, time))
        for events in self.events(chunk, first=first, limit=limit, invalid=invalid):
            decoded = decoder.decode(events.values)
            ids, times = decoded.ids, decoded.times
            if len(decoded.rows) < len(events.values):  # a key or a time that no column holds
                at = np.full(len(events.values), -1)
                at[decoded.rows] = np.arange(len(decoded.rows))
                ids = ids.take(pa.array(at, mask=at < 0))
                times = None if times is None else np.where(at < 0, -1, np.append(times, -1)[at])
            yield FileChunk(events.values, ids, times, events.rows)

    def _parquet(self, chunk: int, first: int, limit: int | None, invalid: OnInvalid | None) -> Iterator[Events]:
        file = parquet.opened(self.path)
        self._all_there(file.schema_arrow.names)
        encoder = self._columnar()
        before, left = 0, float("inf") if limit is None else limit
        for whole in parquet.batches(file, self.path, chunk):
            start = max(0, first - 1 - before)
            while start < whole.num_rows and left > 0:
                some = whole.slice(start, int(min(left, whole.num_rows)))
                events = self._batch(some, before + start + 1, encoder, invalid)
                start, left = start + some.num_rows, left - len(events.values)
                yield events
            before += whole.num_rows
            if left <= 0:
                return

    def _columnar(self) -> Encoder | None:
        """Return what encodes columns, where the schema can be written from them."""
        try:
            encoder = Encoder(self.schema, self._frame)
        except SchemaError:  # a union of several types has no columns
            return None
        return encoder if suits_tables(encoder) else None

    def _batch(self, batch: pa.RecordBatch, first: int, encoder: Encoder | None, invalid: OnInvalid | None) -> Events:
        try:
            columns = parquet.named_columns(batch, self._used(batch.schema.names))
            if self._flags_are_numbers:
                columns = {name: parquet.numbers_of_flags(column) for name, column in columns.items()}
            if encoder is not None:
                try:
                    values = encoder.encode(
                        table(self.schema.type, columns, self._columns, batch.num_rows), batch.num_rows
                    )
                    if max(map(len, values), default=0) <= self._most_bytes:
                        return Events(values, range(first, first + batch.num_rows))
                except (NoTable, SchemaError):
                    pass  # the rows say what it is
            held = parquet.rows_of(columns, batch.num_rows)
        except SchemaError as error:
            raise SchemaError(f"{self.path}: {error}") from None
        read = (self._converted(number, row) for number, row in enumerate(held, first))
        good = [one for one in (_good(one, invalid) for one in read) if one is not None]
        return Events([value for _, value in good], [row for row, _ in good])

    def _used(self, names: Iterable[str]) -> set[str]:
        fields = {field.name for field in self.schema.type.fields}
        return {name for name in names if name.partition(".")[0] in fields} | set(self._columns.values())

    def _rows(self, first: int) -> Iterator[_Read]:
        """Yield the number of each row from `first` on, and its event or what is wrong with it."""
        if self._kind in AVRO:
            for number, row in container_rows(self.path):
                if number >= first:
                    yield self._converted(number, row)
            return
        if self._kind in CSV:
            for number, row in csv_rows(self.path, self._texts()):
                if number >= first:
                    yield self._converted(number, row, "plain")
            return
        encoding = self._encoding
        for line in lines(self.path):
            if line.number < first:
                continue
            try:
                yield self._converted(line.number, line.value(), encoding, line.text)
            except SchemaError as error:
                yield line.number, InvalidRow(line.number, self.place(line.number), str(error), line.text)

    def _texts(self) -> set[str]:
        """Return the columns that a text field is read from: 007 stays what it is."""
        named = {column: path for path, column in self._columns.items()}
        return {name for name in csv_names(self.path) if _of_text(self.schema.type, named.get(name, name))}

    def place(self, row: int) -> str:
        """Return where a row is, as messages begin: `events.jsonl:17`, `events.parquet, row 17`."""
        return f"{self.path}:{row}" if self._kind in (*JSON_LINES, *CSV) else f"{self.path}, row {row}"

    def _converted(self, number: int, row: Any, source: Source = "typed", content: Any = None) -> _Read:
        try:
            value = physical_value(self.schema.type, self._shaped(row), source)
        except SchemaError as error:
            return number, InvalidRow(number, self.place(number), str(error), row if content is None else content)
        event = self._prefix + encoded(self.schema.type, value)
        if len(event) > self._most_bytes:
            reason = f"an event of {len(event):,} bytes, and limits.max_event_bytes is {self._most_bytes:,}"
            return number, InvalidRow(number, self.place(number), reason, row if content is None else content)
        return number, event

    def _all_there(self, names: Iterable[str]) -> None:
        """Refuse a column that was asked for and is not there: its field's default is not what was meant."""
        missing = [(path, column) for path, column in self._columns.items() if column not in names]
        if missing:
            path, column = missing[0]
            raise SchemaError(f"{self.path}: no column {column!r} for the field {path}; there is {', '.join(names)}")

    def _shaped(self, row: Any) -> Any:
        """Put dotted and renamed columns where the schema has them; a row in the schema's shape is left alone.

        Raises SchemaError where a field is given twice.
        """
        if not isinstance(row, Mapping) or not (self._columns or "." in "\n".join(row)):
            return row
        moved = {column for path, column in self._columns.items()}
        shaped: dict[str, Any] = {name: value for name, value in row.items() if "." not in name}
        paths = {name: name for name in row if "." in name and name not in moved} | self._columns
        placed: set[str] = set()
        for path, column in paths.items():
            if column in row:
                _place(shaped, path, row[column], placed, replace=path in self._columns)
        return shaped


def _place(shaped: dict[str, Any], path: str, value: Any, placed: set[str], *, replace: bool) -> None:
    """Put a value at a dotted path; a record that is null there already is made."""
    *above, last = path.split(".")
    node, way = shaped, ""
    for name in above:
        way = f"{way}.{name}" if way else name
        inner = node.get(name)
        if inner is not None and not isinstance(inner, Mapping):
            raise SchemaError(f"{way}: is given as a value of its own, and a part of it as {path}")
        part = inner if way in placed and isinstance(inner, dict) else dict(inner or {})
        placed.add(way)
        node[name] = part
        node = part
    if last in node and not replace:
        raise SchemaError(f"{path}: is given twice, inside {'.'.join(above)} and as {path}")
    node[last] = value


_T = TypeVar("_T")


def _chunked(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    some: list[_T] = []
    for item in items:
        some.append(item)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


def _good(read: _Read, invalid: OnInvalid | None) -> tuple[int, bytes] | None:
    row, found = read
    if not isinstance(found, InvalidRow):
        return row, found
    if invalid is None:
        raise SchemaError(str(found))
    invalid(found)
    return None


def kind_of(path: Path, known: tuple[str, ...]) -> str:
    """Return the file's suffix in lower case; raises MuseError when it is none of `known`."""
    suffix = path.suffix.lower()
    if suffix not in known:
        raise MuseError(f"{path}: unknown kind of file {suffix or path.name!r}; expected one of {', '.join(known)}")
    return suffix


def _has(record: Type, path: str) -> bool:
    """Say whether a dotted path leads to a field of a record."""
    name, _, rest = path.partition(".")
    field = record.field(name)
    return field is not None and (
        not rest or any(option.kind == "record" and _has(option, rest) for option in field.type.options)
    )


def _of_text(record: Type, path: str) -> bool:
    """Say whether a dotted path leads to a field that holds text."""
    name, _, rest = path.partition(".")
    field = record.field(name)
    if field is None:
        return False
    options = field.type.options
    if rest:
        return any(option.kind == "record" and _of_text(option, rest) for option in options)
    return any(option.kind in ("string", "enum") for option in options)


def _by_id(schema: Schema) -> dict[int, Schema]:
    return {} if schema.id is None else {schema.id: schema}
