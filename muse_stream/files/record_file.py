"""Score and audit records as one Parquet table for analysts: a column for each field, attribute and expert.

Which experts and intent attributes there are is known when all records have been seen. So records are kept beside the
file first, compressed, and become the table in a second pass; memory holds one part of it. The table takes its name
when it is complete: what stood there stays until then, and when writing fails or is interrupted.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from muse_stream.errors import MuseError
from muse_stream.files.event_file import PARQUET

PART: Final = 100_000
"""Rows of a row group, about."""
INTENT, RAW, CORRECTED = "intent_", "raw_", "corrected_"
MOMENT: Final = pa.timestamp("ms", "UTC")
PLAIN: Final = {
    "record": pa.string(),
    "event_id": pa.string(),
    "tenant": pa.string(),
    "predictor": pa.string(),
    "predictor_version": pa.int32(),
    "score": pa.float64(),
    "aggregate": pa.float64(),
    "error": pa.string(),
    "live_predictor": pa.string(),
    "live_predictor_version": pa.int32(),
    "live_score": pa.float64(),
    "live_aggregate": pa.float64(),
    "generation": pa.int64(),
    "live_generation": pa.int64(),
    "event_time": MOMENT,
    "scored_at": MOMENT,
    "source_topic": pa.string(),
    "source_partition": pa.int32(),
    "source_offset": pa.int64(),
    "attempt": pa.int64(),
    "topic": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "written_at": MOMENT,
    "key": pa.binary(),
}
"""Columns that are always there, in order."""
NESTED: Final = {
    "intent": pa.map_(pa.string(), pa.string()),
    "experts": pa.list_(pa.struct([("name", pa.string()), ("raw", pa.float64()), ("corrected", pa.float64())])),
}
HELD: Final = pa.schema([*PLAIN.items(), *NESTED.items()])


class RecordFile:
    """A Parquet file of records that grows by batches; use in a `with`, call `finish` when all are written."""

    def __init__(self, path: Path) -> None:
        """Raises MuseError when the name does not end as Parquet files do, or is a folder's."""
        self.path = path
        if path.suffix.lower() not in PARQUET:
            raise MuseError(f"{path}: the name of a Parquet file ends in {' or '.join(PARQUET)}")
        if path.is_dir():
            raise MuseError(f"{path}: is a folder; name a file")
        self._aside = path.with_name(f".{path.name}.{os.getpid()}")
        self._held = path.with_name(f".{path.name}.{os.getpid()}.records")
        self._intents: dict[str, None] = {}
        self._experts: dict[str, None] = {}
        self._file: Any = None
        self._writer: Any = None
        self.rows = 0

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._held.open("wb")
            self._writer = pa.ipc.new_stream(self._file, HELD, options=pa.ipc.IpcWriteOptions(compression="zstd"))
        except OSError as error:
            self._remove()
            raise _said(self.path, error) from None
        except BaseException:  # Ctrl-C: nobody calls `__exit__` when this did not return
            self._remove()
            raise
        return self

    def write(self, records: pa.RecordBatch, beside: Mapping[str, Any]) -> None:
        """Append records of `score.avsc` or `audit.avsc`; `beside` are further columns, or one value for all rows."""
        columns = dict(zip(records.schema.names, records.columns, strict=True))
        arrays = []
        for field in HELD:
            given = beside[field.name] if field.name in beside else columns.get(field.name)
            if isinstance(given, Sequence | np.ndarray) and not isinstance(given, str):
                arrays.append(pa.array(given).cast(field.type))
            elif isinstance(given, pa.Array):
                arrays.append(given.cast(field.type))
            else:
                arrays.append(pa.repeat(pa.scalar(given, field.type), len(records)))
        batch = pa.RecordBatch.from_arrays(arrays, schema=HELD)
        self._intents |= dict.fromkeys(pc.unique(_intent_entries(batch)[1]).to_pylist())
        self._experts |= dict.fromkeys(pc.unique(_expert_entries(batch)[1]).to_pylist())
        try:
            self._writer.write_batch(batch)
        except OSError as error:
            raise _said(self.path, error) from None
        self.rows += len(batch)

    def finish(self) -> list[str]:
        """Write the table, give it its name, and return its columns."""
        try:
            self._writer.close()
            self._file.close()
            schema = pa.schema([*PLAIN.items(), *self._wide()])
            with self._aside.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as table:
                for part in self._parts():
                    table.write_batch(self._widened(part, schema), row_group_size=2 * PART)
            with self._aside.open("rb") as written:
                os.fsync(written.fileno())
            self._aside.replace(self.path)
        except OSError as error:
            raise _said(self.path, error) from None
        return list(schema.names)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._file.close()
        self._remove()

    def _remove(self) -> None:
        for path in (self._held, self._aside):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _wide(self) -> Iterator[tuple[str, pa.DataType]]:
        yield from ((INTENT + name, pa.string()) for name in sorted(self._intents))
        for name in sorted(self._experts):
            yield from ((prefix + name, pa.float64()) for prefix in (RAW, CORRECTED))

    def _parts(self) -> Iterator[pa.RecordBatch]:
        """Yield what is held, in parts of some size."""
        with self._held.open("rb") as file, pa.ipc.open_stream(file) as reader:
            waiting: list[pa.RecordBatch] = []
            for batch in reader:
                waiting.append(batch)
                if sum(map(len, waiting)) >= PART:
                    yield pa.Table.from_batches(waiting).combine_chunks().to_batches()[0]
                    waiting = []
            if waiting:
                yield pa.Table.from_batches(waiting).combine_chunks().to_batches()[0]

    def _widened(self, part: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        columns = {name: part.column(name) for name in PLAIN}
        rows, names, (texts,) = _intent_entries(part)
        columns |= {
            INTENT + name: _spread(len(part), rows, pc.equal(names, name), texts, pa.string()) for name in self._intents
        }
        rows, names, values = _expert_entries(part)
        for name in self._experts:
            of_expert = pc.equal(names, name)
            for prefix, numbers in zip((RAW, CORRECTED), values, strict=True):
                columns[prefix + name] = _spread(len(part), rows, of_expert, numbers, pa.float64())
        return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


Entries = tuple[np.ndarray[Any, Any], pa.Array, list[pa.Array]]
"""Of all rows, one after the other: whose row, name, values."""


def _intent_entries(batch: pa.RecordBatch) -> Entries:
    column = batch.column("intent")
    return _owners(column), column.keys, [column.items]


def _expert_entries(batch: pa.RecordBatch) -> Entries:
    column = batch.column("experts")
    entries = column.flatten()
    return _owners(column), entries.field("name"), [entries.field("raw"), entries.field("corrected")]


def _owners(column: Any) -> np.ndarray[Any, Any]:
    lengths = np.diff(column.offsets.to_numpy(zero_copy_only=False))
    return np.repeat(np.arange(len(column)), lengths)


def _spread(rows: int, owners: np.ndarray[Any, Any], which: pa.Array, values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a column that has each row's value of one name, null where it has none."""
    place = np.full(rows, -1, dtype=np.int64)
    chosen = np.flatnonzero(which.to_numpy(zero_copy_only=False))
    place[owners[chosen]] = chosen
    return values.take(pa.array(place, mask=place < 0)).cast(kind)


def _said(path: Path, error: OSError) -> MuseError:
    return MuseError(f"{path}: cannot be written: {error.strerror or error}")
