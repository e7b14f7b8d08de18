"""Files of events.

A Parquet, Avro container or JSON-lines file and an event schema give framed events in chunks, as a producer or `replay`
takes them. Events leave in the file's order, all or none of a chunk. A column that is missing or of the wrong type is a
SchemaError that names column and type, before anything of that chunk is used. A column for a nested field is a struct,
or has the dotted path as its name.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from muse_stream.avro import Decoder, Encoder, Fields, Frame, RowEncoder, Schema, SchemaDirectory, Type
from muse_stream.errors import MuseError, SchemaError
from muse_stream.files.rows import physical_value
from muse_stream.files.table import records_table

CHUNK = 10_000
PARQUET, AVRO, JSON_LINES = (".parquet", ".pq"), (".avro",), (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, slots=True, eq=False)
class FileChunk:
    """Some events of a file, in order."""

    values: list[bytes]
    """Framed Avro."""
    ids: pa.StringArray
    """Of the key field asked for."""
    times: NDArray[np.int64] | None
    """Milliseconds, -1 where missing; None if no time field was asked for."""

    def keys(self) -> list[bytes | None]:
        """Ids as Kafka keys."""
        return [None if key is None else key.encode() for key in self.ids.to_pylist()]


class EventFile:
    """A file whose rows are events of one schema."""

    def __init__(
        self,
        path: Path | str,
        schema: Schema,
        frame: Frame = "single-object",
        *,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        """`columns` gives the file's column for a dotted field of the schema, where the names differ.

        Raises MuseError when the file is missing or of no known kind.
        """
        self.path = Path(path)
        self.schema = schema
        self._kind = kind_of(self.path, PARQUET + AVRO + JSON_LINES)
        if not self.path.is_file():
            raise MuseError(f"{self.path}: no such file")
        self._frame: Frame = frame
        self._columns = dict(columns or {})
        strangers = [path for path in self._columns if not _has(schema.type, path)]
        if strangers:
            raise SchemaError(f"{self.path}: {schema} has no field {strangers[0]!r} to take a column for")

    @property
    def rows(self) -> int | None:
        """How many events the file has, where that is known without reading it (Parquet)."""
        return int(_opened(self.path).metadata.num_rows) if self._kind in PARQUET else None

    def values(self, chunk: int = CHUNK) -> Iterator[list[bytes]]:
        """Yield framed events, `chunk` at a time; raises SchemaError for a row or column the schema cannot hold."""
        if self._kind in PARQUET:
            yield from self._parquet(chunk)
            return
        encoder = RowEncoder(self.schema, self._frame)
        rows: list[bytes] = []
        for place, row in self._rows():
            try:
                rows.append(encoder.encode(physical_value(self.schema.type, self._renamed(row), "")))
            except SchemaError as error:
                raise SchemaError(f"{place}: {error}") from None
            if len(rows) == chunk:
                yield rows
                rows = []
        if rows:
            yield rows

    def chunks(self, key: str, time: str | None = None, chunk: int = CHUNK) -> Iterator[FileChunk]:
        """Yield framed events with the field to key them by and their time (dotted paths in the schema)."""
        alone = SchemaDirectory(self.path.parent, {self.schema.file: self.schema}, _by_id(self.schema))
        decoder = Decoder(alone, self.schema, Fields(key, time))
        for values in self.values(chunk):
            decoded = decoder.decode(values)
            yield FileChunk(values, decoded.ids, decoded.times)

    def _parquet(self, chunk: int) -> Iterator[list[bytes]]:
        file = _opened(self.path)
        self._all_there(file.schema_arrow.names)
        try:
            encoder = Encoder(self.schema, self._frame)
            columnar = encoder.batched
        except SchemaError:  # a union of several types has no columns
            columnar = False
        one = RowEncoder(self.schema, self._frame)
        for batch in _batches(file, self.path, chunk):
            try:
                if columnar:
                    yield encoder.encode(records_table(self.schema.type, batch, self._columns), batch.num_rows)
                else:
                    rows = (self._renamed(row) for row in batch.to_pylist())
                    yield [one.encode(physical_value(self.schema.type, row, "")) for row in rows]
            except SchemaError as error:
                raise SchemaError(f"{self.path}: {error}") from None

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield where each row is, as an error names it, and the row."""
        try:
            if self._kind in AVRO:
                with self.path.open("rb") as container:
                    for number, row in enumerate(fastavro.reader(container), 1):
                        yield f"{self.path}, row {number}", row  # type: ignore[misc]
            else:
                with self.path.open(encoding="utf-8-sig") as lines:  # Windows' tools put a mark before the first line
                    for number, line in enumerate(lines, 1):
                        if line.strip():
                            yield f"{self.path}:{number}", _json(self.path, line, number)
        except (ValueError, EOFError, StopIteration, IndexError, OSError) as error:
            raise MuseError(f"{self.path}: cannot be read: {error}") from None

    def _all_there(self, names: Iterable[str]) -> None:
        """Refuse a column that was asked for and is not there: its field's default is not what was meant."""
        missing = [(path, column) for path, column in self._columns.items() if column not in names]
        if missing:
            path, column = missing[0]
            raise SchemaError(f"{self.path}: no column {column!r} for the field {path}; there is {', '.join(names)}")

    def _renamed(self, row: Mapping[str, Any]) -> Any:
        """Put dotted and renamed columns where the schema has them; a row in the schema's shape is left alone."""
        if not isinstance(row, Mapping) or not (self._columns or any("." in name for name in row)):
            return row
        shaped: dict[str, Any] = {name: value for name, value in row.items() if "." not in name}
        paths = {name: name for name in row if "." in name} | self._columns
        for path, column in paths.items():
            if column in row:
                *above, last = path.split(".")
                node = shaped
                for name in above:
                    inner = node.get(name)
                    node[name] = node = dict(inner) if isinstance(inner, Mapping) else {}
                node[last] = row[column]
        return shaped


def kind_of(path: Path, known: tuple[str, ...]) -> str:
    """Return the file's suffix in lower case; raises MuseError when it is none of `known`."""
    suffix = path.suffix.lower()
    if suffix not in known:
        raise MuseError(f"{path}: unknown kind of file {suffix or path.name!r}; expected one of {', '.join(known)}")
    return suffix


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise MuseError(f"{path}: not a Parquet file: {error}") from None


def _batches(file: pq.ParquetFile, path: Path, chunk: int) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches(chunk)
    except (pa.ArrowException, OSError) as error:  # Arrow says of damaged pages that they are an OSError
        raise MuseError(f"{path}: cannot be read: {error}") from None


def _json(path: Path, line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise MuseError(f"{path}:{number}: not JSON: {error}") from None
    except RecursionError:
        raise MuseError(f"{path}:{number}: not an event: nested too deep") from None


def _has(record: Type, path: str) -> bool:
    """Say whether a dotted path leads to a field of a record."""
    name, _, rest = path.partition(".")
    field = record.field(name)
    return field is not None and (
        not rest or any(option.kind == "record" and _has(option, rest) for option in field.type.options)
    )


def _by_id(schema: Schema) -> dict[int, Schema]:
    return {} if schema.id is None else {schema.id: schema}
