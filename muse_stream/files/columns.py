"""Some columns of a large table, in chunks: Parquet, CSV or JSON lines, never the whole file in memory.

For labelled history: columns as Arrow has them, by name. Whoever reads them says what they mean; here only the file is
known to be readable and to have the columns.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.json as pjson

from muse_stream.errors import MuseError
from muse_stream.files import parquet

PARQUET, CSV, JSON_LINES = (".parquet", ".pq"), (".csv",), (".jsonl", ".ndjson", ".json")
TABLES = (*PARQUET, *CSV, *JSON_LINES)
"""How names of such files end."""
CHUNK = 100_000
BLOCK = 16 << 20
"""Bytes of a CSV or JSON-lines file that are read at a time."""


def column_chunks(
    path: Path, columns: Sequence[str], chunk: int = CHUNK, *, texts: Sequence[str] = ()
) -> Iterator[dict[str, pa.Array]]:
    """Yield the rows in order, as columns; raises MuseError for a file that is missing, damaged or lacks a column.

    `texts` are columns whose text in CSV and JSON lines stays as it is: Arrow would make times of it, and take one
    without a zone for UTC.
    """
    kind = path.suffix.lower()
    if kind not in TABLES:
        raise MuseError(f"{path}: not a table that can be read in parts; it ends in one of {', '.join(TABLES)}")
    if not path.is_file():
        raise MuseError(f"{path}: no such file")
    wanted = list(dict.fromkeys(columns))
    batches = _parquet(path, wanted, chunk) if kind in PARQUET else _text(path, wanted, chunk, texts, csv=kind in CSV)
    for batch in batches:
        if batch.num_rows:
            yield {name: _column(path, batch, name) for name in wanted}


def row_count(path: Path) -> int | None:
    """Return how many rows a file has, where that is known without reading it (Parquet)."""
    return int(parquet.opened(path).metadata.num_rows) if path.suffix.lower() in PARQUET and path.is_file() else None


def _parquet(path: Path, wanted: Sequence[str], chunk: int) -> Iterator[pa.RecordBatch]:
    file = parquet.opened(path)
    tops = {name if name in file.schema_arrow.names else name.partition(".")[0] for name in wanted}
    _there(path, file.schema_arrow.names, tops)
    try:
        yield from file.iter_batches(chunk, columns=sorted(tops), use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MuseError(f"{path}: cannot be read: {_first_line(error)}") from None


def _text(
    path: Path, wanted: Sequence[str], chunk: int, texts: Sequence[str], *, csv: bool
) -> Iterator[pa.RecordBatch]:
    try:
        if csv:
            as_they_are = pcsv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string()))
            options = pcsv.ReadOptions(block_size=BLOCK, use_threads=False)
            reader = pcsv.open_csv(path, read_options=options, convert_options=as_they_are)
        else:
            schema = pa.schema([(name, pa.string()) for name in texts if isinstance(_first_row(path).get(name), str)])
            parse = pjson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="infer")
            options = pjson.ReadOptions(block_size=BLOCK, use_threads=False)
            reader = pjson.open_json(path, read_options=options, parse_options=parse)
        names = reader.schema.names
        _there(path, names, {name if name in names else name.partition(".")[0] for name in wanted})
        for batch in reader:
            for start in range(0, batch.num_rows, chunk):
                yield batch.slice(start, chunk)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MuseError(f"{path}: cannot be read: {_first_line(error)}") from None


def _first_row(path: Path) -> Mapping[str, Any]:
    with path.open(encoding="utf-8-sig") as file:
        line = next((line for line in file if line.strip()), "{}")
    found = json.loads(line)
    return found if isinstance(found, dict) else {}


def _there(path: Path, names: Sequence[str], wanted: set[str]) -> None:
    missing = sorted(wanted - set(names))
    if missing:
        there = ", ".join(names[:30])
        raise MuseError(f"{path}: has no column {', '.join(missing)}; there is: {there}")
    twice = sorted(name for name in wanted if list(names).count(name) > 1)
    if twice:
        raise MuseError(f"{path}: the column {twice[0]} is there twice; give one of them another name")


def _column(path: Path, batch: pa.RecordBatch, name: str) -> pa.Array:
    if name in batch.schema.names:
        return _decoded(batch.column(name))
    top, *below = name.split(".")
    array = batch.column(top)
    for step in below:
        if not pa.types.is_struct(array.type) or array.type.get_field_index(step) < 0:
            raise MuseError(f"{path}: has no column {name}; {top} is {array.type}")
        array = array.flatten()[array.type.get_field_index(step)]
    return _decoded(array)


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
