"""Any table as plain dictionaries: Parquet, Avro, JSON lines or CSV, with no schema but its own.

For what a data scientist hands over, such as features with the trainer's predictions. Null, NaN and an empty CSV cell
are None. A column of a CSV file is of numbers (or of `true` and `false`) where all of its cells are, written as JSON
has them; anything else is text, so that 007 stays what it is.
"""

import csv
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from muse_stream.avro import Type
from muse_stream.errors import MuseError, SchemaError
from muse_stream.files import parquet
from muse_stream.files.container import container_rows
from muse_stream.files.json_lines import lines
from muse_stream.files.rows import physical_value
from muse_stream.files.values import Branch, shown

KINDS = (".parquet", ".avro", ".jsonl", ".json", ".ndjson", ".csv")
CHUNK = 10_000
WHOLE = re.compile(r"-?(0|[1-9]\d*)", re.ASCII)
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?|[Nn]a[Nn]", re.ASCII)
FLAGS = {"true": True, "True": True, "false": False, "False": False}


def read_columns(path: Path, names: Collection[str]) -> tuple[list[int], dict[str, list[Any]]]:
    """Return the number of each row (from 1; of JSON lines and CSV the line) and some columns of a file.

    Raises MuseError for a column that is not there (a row of JSON lines may lack one: None), and as `read_rows` does.
    """
    kind = _kind(path)
    if kind == ".parquet":
        file = parquet.opened(path)
        _all_there(path, names, file.schema_arrow.names)
        found: dict[str, list[Any]] = {name: [] for name in names}
        for batch in parquet.batches(file, path, CHUNK):
            try:
                held = parquet.named_columns(batch, names)
                for name, array in held.items():
                    found[name] += [_cell(value) for value in parquet.values_of(array)]
            except SchemaError as error:
                raise MuseError(f"{path}: {error}") from None
        return list(range(1, int(file.metadata.num_rows) + 1)), found
    numbers: list[int] = []
    found = {name: [] for name in names}
    seen: set[str] = set()
    for place, row in _rows(path, kind):
        if not isinstance(row, Mapping):
            raise MuseError(f"{place}: not a JSON object")
        seen.update(row)
        numbers.append(int(place[re.search(r"\d*$", place).start() :]))  # type: ignore[union-attr]
        for name, column in found.items():
            try:
                column.append(_cell(row.get(name)))
            except SchemaError as error:
                raise MuseError(f"{place}: {error}") from None
    if numbers:
        _all_there(path, names, seen)
    return numbers, found


def _all_there(path: Path, names: Collection[str], there: Collection[str]) -> None:
    for name in names:
        if name not in there:
            raise MuseError(f"{path}: no column {name!r}; there is {', '.join(there)}")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return all rows of a file. Raises MuseError naming the file, and the row or line where there is one."""
    kind = _kind(path)
    found: list[dict[str, Any]] = []
    for place, row in _rows(path, kind):
        if not isinstance(row, Mapping):
            raise MuseError(f"{place}: not a JSON object")
        try:
            found.append({name: _cell(value) for name, value in row.items()})
        except SchemaError as error:
            raise MuseError(f"{place}: {error}") from None
    return found


def _kind(path: Path) -> str:
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise MuseError(f"{path}: not a table that can be read; it ends in one of {', '.join(KINDS)}")
    if not path.is_file():
        raise MuseError(f"{path}: no such file")
    return kind


def _rows(path: Path, kind: str) -> Iterator[tuple[str, Any]]:
    """Yield where each row is, as messages begin, and the row."""
    if kind == ".parquet":
        yield from _parquet(path)
    elif kind == ".csv":
        yield from ((f"{path}:{line}", row) for line, row in csv_rows(path))
    elif kind == ".avro":
        yield from ((f"{path}, row {number}", row) for number, row in container_rows(path))
    else:
        for line in lines(path):
            try:
                yield f"{path}:{line.number}", line.value()
            except SchemaError as error:
                raise MuseError(f"{path}:{line.number}: {error}") from None


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    number = 0
    for batch in parquet.batches(parquet.opened(path), path, CHUNK):
        try:
            rows = parquet.rows_of(parquet.named_columns(batch, batch.schema.names), batch.num_rows)
        except SchemaError as error:
            raise MuseError(f"{path}: {error}") from None
        for row in rows:
            number += 1
            yield f"{path}, row {number}", row


def csv_names(path: Path) -> list[str]:
    """Return the columns of a CSV file. Raises MuseError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file, strict=True), [])
    except (csv.Error, UnicodeDecodeError) as error:
        raise MuseError(f"{path}: not CSV in UTF-8: {error}") from None


def csv_rows(path: Path, texts: Collection[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line and row of a CSV file; columns in `texts` are text whatever is in them. Raises MuseError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = next(reader, [])
            cells = [(reader.line_num, row) for row in reader if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise MuseError(f"{path}: not CSV in UTF-8: {error}") from None
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise MuseError(f"{path}:1: the column {twice[0]!r} is there twice; give one of them another name")
    for line, row in cells:
        if len(row) != len(names):
            raise MuseError(f"{path}:{line}: {len(row)} cells, and {len(names)} columns")
    columns = [
        [row[place] or None for _, row in cells] if name in texts else _column([row[place] for _, row in cells])
        for place, name in enumerate(names)
    ]
    for number, (line, _) in enumerate(cells):
        yield line, {name: column[number] for name, column in zip(names, columns, strict=True)}


def _column(cells: list[str]) -> list[Any]:
    given = [cell for cell in cells if cell]
    if all(map(NUMBER.fullmatch, given)):
        return [
            None if not cell else Decimal(cell) if not WHOLE.fullmatch(cell) else int(Decimal(cell)) for cell in cells
        ]
    if all(cell in FLAGS for cell in given):
        return [FLAGS.get(cell) for cell in cells]
    return [cell or None for cell in cells]


def _cell(value: Any) -> Any:
    """Return a value as features have it: a number that a double holds, text, or None; raises SchemaError."""
    if isinstance(value, Branch):
        return _cell(value.value)
    if isinstance(value, Mapping):
        return {name: _cell(inner) for name, inner in value.items()}
    if isinstance(value, Decimal):
        value = None if value.is_nan() else physical_value(DOUBLE, value, "typed")
    if isinstance(value, int) and abs(value) >= MOST:
        raise SchemaError(f"{shown(value)} is a number beyond 64 bits")
    return None if isinstance(value, float) and math.isnan(value) else value


MOST = 1 << 64
DOUBLE = Type("double")
