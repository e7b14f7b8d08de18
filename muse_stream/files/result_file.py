"""Files of results: columns of scores or audit records, piece by piece, into a Parquet or Avro file.

The file grows beside its name and takes it at the end: what stood there stays until then, and when writing fails.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from fastavro.write import Writer

from muse_stream.avro import Encoder, Schema, arrow_type
from muse_stream.errors import MuseError
from muse_stream.files.event_file import AVRO, PARQUET, kind_of


class ResultFile:
    """A Parquet or Avro file that grows by columns of one schema, e.g. `score.avsc`; use in a `with`."""

    def __init__(self, path: Path | str, schema: Schema) -> None:
        """Raises MuseError when the name ends in neither .parquet nor .avro."""
        self.path = Path(path)
        self._encoder = Encoder(schema)
        self._kind = kind_of(self.path, PARQUET + AVRO)
        self._schema = schema
        self._kinds = {field.name: _readable(field.type, field.name) for field in schema.type.fields}
        self._parquet: pq.ParquetWriter | None = None
        self._avro: Writer | None = None
        self._file: Any = None
        self._aside = self.path.with_name(f".{self.path.name}.{os.getpid()}")

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._aside.open("wb")
            self._begin()
        except BaseException as error:  # Ctrl-C too: nobody calls `__exit__` when this did not return
            with suppress(OSError):
                self._aside.unlink()
            if isinstance(error, OSError):
                raise MuseError(f"{self.path}: cannot be written: {error.strerror}") from None
            raise
        return self

    def _begin(self) -> None:
        if self._kind in PARQUET:
            self._parquet = pq.ParquetWriter(self._file, pa.schema(list(self._kinds.items())))
        else:
            self._avro = Writer(self._file, json.loads(self._schema.text), codec="deflate")

    def write(self, columns: Mapping[str, Any], rows: int) -> None:
        """Append rows; `columns` as `Encoder.encode` takes them."""
        batch = self._encoder.table(columns, rows)
        if self._parquet is not None:
            arrays = [array.cast(kind) for array, kind in zip(batch.columns, self._kinds.values(), strict=True)]
            self._parquet.write_batch(pa.RecordBatch.from_arrays(arrays, schema=pa.schema(list(self._kinds.items()))))
        elif self._avro is not None:
            for record in batch.to_pylist(maps_as_pydicts="strict"):
                self._avro.write(record)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._parquet is not None:
                self._parquet.close()
            if self._avro is not None:
                self._avro.flush()
            self._file.close()
            if kind is None:
                self._aside.replace(self.path)
        except OSError as fault:
            raise MuseError(f"{self.path}: cannot be written: {fault.strerror}") from None
        finally:
            self._aside.unlink(missing_ok=True)


def _readable(node: Any, name: str) -> pa.DataType:
    """Arrow type for people: times as UTC timestamps."""
    unit = {"timestamp-millis": "ms", "timestamp-micros": "us"}.get(node.logical or "")
    return pa.timestamp(unit, "UTC") if unit else arrow_type(node, name)
