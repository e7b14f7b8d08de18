"""Any table as plain dictionaries: Parquet, Avro, JSON lines or CSV, with no schema but its own.

For what a data scientist hands over, such as features with the trainer's predictions. Null, NaN and an empty CSV cell
are None; dates and times are refused, since the features of events are numbers and texts.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from muse_stream.errors import MuseError

KINDS = (".parquet", ".avro", ".jsonl", ".json", ".ndjson", ".csv")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return all rows of a file. Raises MuseError naming the file, and the line where there is one."""
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise MuseError(f"{path}: not a table that can be read; it ends in one of {', '.join(KINDS)}")
    try:
        rows = list(_rows(path, kind))
    except (OSError, ValueError, pa.ArrowException, EOFError) as error:
        raise MuseError(f"{path}: {error}") from error
    return [{name: _cell(value) for name, value in row.items()} for row in rows]


def _rows(path: Path, kind: str) -> Iterator[Mapping[str, Any]]:
    if kind == ".parquet":
        yield from pyarrow.parquet.read_table(path).to_pylist()
    elif kind == ".csv":
        yield from pyarrow.csv.read_csv(path).to_pylist()
    elif kind == ".avro":
        with path.open("rb") as file:
            for row in fastavro.reader(file):
                if isinstance(row, dict):
                    yield row
    else:
        yield from _json_lines(path)


def _json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise MuseError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise MuseError(f"{path}:{number}: not a JSON object, one a line")
        yield row


def _cell(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, Mapping):
        return {name: _cell(inner) for name, inner in value.items()}
    return value
