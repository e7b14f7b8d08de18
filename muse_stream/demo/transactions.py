"""Somebody's own transactions, as columns and as framed events.

A Parquet file and its `FileMapping` give `Transactions`: arrays over all rows, features of the rows before the stream;
and the framed events of the stream, read again from the file when they are wanted. What is trained on and what is
streamed pass through the same Avro encoding, so a model sees in the stream what it saw in training. The label is never
in an event. The file is read in chunks; a row is never a Python object.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.avro import Decoded, Decoder, Fields, Schema, SchemaDirectory, fixed_width, parse_schema
from muse_stream.demo.mapping import FileMapping
from muse_stream.errors import MuseError
from muse_stream.files import EventFile
from muse_stream.scoring import Categorical

CHUNK = 20_000
DAY_MS = 86_400_000
EVENT_FILE = "event.avsc"
ID, TIME, CHANNEL = "event_id", "event_time", "channel"
"""Fields of an event; each feature's field bears its column's name."""
LABEL, TENANT, KEY, ENTITY = "read_label", "read_tenant", "read_key", "read_entity_"
"""Fields that are read from the file and never streamed."""

Ints = NDArray[np.int64]
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True, eq=False)
class Strings:
    """A column of strings over all rows, each stored once."""

    values: tuple[str, ...]
    codes: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Transactions:
    """What is known of all rows of the file, in its order, which is that of time."""

    ids: NDArray[np.bytes_]
    time_ms: Ints
    tenant: Strings
    key: Strings
    entities: tuple[Strings, ...]
    day: Ints
    """Since the midnight before the first event."""
    past: dict[str, NDArray[np.float64]]
    """Feature fields of the rows before the stream; NaN is missing."""
    channel: Strings | None
    label: NDArray[np.float64]
    """Of the rows before the stream."""

    def first_streamed(self, day: int) -> int:
        """Return the first row of a day."""
        return int(np.searchsorted(self.day, day))


def event_schema(mapping: FileMapping) -> Schema:
    """Return the schema of the framed events: id, time, channel if there is one, features as nullable doubles."""
    return parse_schema(json.dumps(_record("Transaction", _event_fields(mapping)), indent=1), file=EVENT_FILE)


def fields_of(mapping: FileMapping) -> dict[str, str]:
    """Return event field -> column, for every field; raises MuseError when two columns would share a field."""
    names = {ID: mapping.id, TIME: mapping.time} | ({CHANNEL: mapping.channel} if mapping.channel else {})
    for column in mapping.features:
        field = re.sub(r"\W", "_", column)
        field = field if re.match(r"[A-Za-z_]", field) else f"_{field}"
        if field in names:
            raise MuseError(f"columns {names[field]!r} and {column!r} both make the field {field}: rename one of them")
        names[field] = column
    return names


def feature_fields(mapping: FileMapping) -> tuple[str, ...]:
    """Return the fields of the features, in the mapping's order."""
    return tuple(name for name in fields_of(mapping) if name not in (ID, TIME, CHANNEL))


def read(path: Path, mapping: FileMapping, progress: Progress = lambda _rows: None) -> Transactions:
    """Read the whole file once. Raises MuseError or SchemaError for what is missing, mistyped or out of order."""
    columns = fields_of(mapping) | {LABEL: mapping.label, TENANT: mapping.tenant_column, KEY: mapping.key}
    columns |= {f"{ENTITY}{number}": column for number, column in enumerate(mapping.entities)}
    fields = _event_fields(mapping) | {LABEL: ["null", "double"], TENANT: "string", KEY: "string"}
    fields |= {f"{ENTITY}{number}": "string" for number in range(len(mapping.entities))}
    schema = parse_schema(json.dumps(_record("Row", fields)), file="row.avsc")
    wanted = tuple(name for name in columns if name not in (ID, TIME))
    decoder = Decoder(SchemaDirectory(path.parent, {schema.file: schema}, {}), schema, Fields(ID, TIME, None, wanted))
    gather = _Gather(mapping)
    for values in EventFile(path, schema, columns=columns, flags_are_numbers=True).values(CHUNK):
        gather.add(decoder.decode(values), path)
        progress(gather.rows)
    if not gather.rows:
        raise MuseError(f"{path}: holds no row")
    return gather.finished(path)


def framed(path: Path, mapping: FileMapping, first: int) -> Iterator[list[bytes]]:
    """Yield the framed events from row `first` on, in chunks."""
    skip = first
    file = EventFile(path, event_schema(mapping), columns=fields_of(mapping), flags_are_numbers=True)
    for values in file.values(CHUNK):
        if skip < len(values):
            yield values[skip:]
        skip = max(0, skip - len(values))


def _event_fields(mapping: FileMapping) -> dict[str, Any]:
    time = {"type": "long", "logicalType": "timestamp-millis"}
    head: dict[str, Any] = {ID: "string", TIME: time} | ({CHANNEL: ["null", "string"]} if mapping.channel else {})
    return head | {name: ["null", "double"] for name in feature_fields(mapping)}


def _record(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    described = [{"name": field, "type": kind} for field, kind in fields.items()]
    return {"type": "record", "name": name, "namespace": "muse.demo", "fields": described}


class _Gather:
    """Collects chunks."""

    def __init__(self, mapping: FileMapping) -> None:
        self._mapping = mapping
        self._features = feature_fields(mapping)
        self._parts: dict[str, list[NDArray[Any]]] = {}
        self._strings: dict[str, dict[str, int]] = {}
        self._midnight: int | None = None
        self.rows = 0

    def add(self, decoded: Decoded, path: Path) -> None:
        if decoded.rejected or decoded.times is None or (decoded.times < 0).any() or decoded.ids.null_count:
            raise MuseError(f"{path}: rows without id ({self._mapping.id}) or time ({self._mapping.time})")
        if self._midnight is None:
            self._midnight = int(decoded.times[0]) // DAY_MS * DAY_MS
        day = (decoded.times - self._midnight) // DAY_MS
        before = day < self._mapping.training.stream
        self._keep("ids", fixed_width(decoded.ids))
        self._keep("time", decoded.times)
        self._keep("day", day)
        for name, column in decoded.columns.items():
            if isinstance(column, Categorical):
                self._keep(name, self._coded(name, column))
            elif before.any():
                self._keep(name, np.asarray(column, dtype=np.float64)[before])
        self.rows += len(decoded.rows)

    def finished(self, path: Path) -> Transactions:
        whole = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        if (np.diff(whole["time"]) < 0).any():
            raise MuseError(f"{path}: is not sorted by {self._mapping.time}")
        missing = [name for name in (LABEL, *self._features) if name not in whole]
        if missing:
            raise MuseError(f"{path}: has no row before day {self._mapping.training.stream}: nothing to train on")
        strings = {name: Strings(tuple(table), whole[name]) for name, table in self._strings.items()}
        return Transactions(
            ids=whole["ids"],
            time_ms=whole["time"],
            tenant=strings[TENANT],
            key=strings[KEY],
            entities=tuple(strings[f"{ENTITY}{number}"] for number in range(len(self._mapping.entities))),
            day=whole["day"],
            past={name: whole[name] for name in self._features},
            channel=strings.get(CHANNEL),
            label=whole[LABEL],
        )

    def _keep(self, name: str, part: NDArray[Any]) -> None:
        self._parts.setdefault(name, []).append(part)

    def _coded(self, name: str, column: Categorical) -> NDArray[np.int32]:
        table = self._strings.setdefault(name, {})
        places: Sequence[int] = [-1 if text is None else table.setdefault(text, len(table)) for text in column.values]
        return np.array([*places, -1], dtype=np.int32)[column.codes]
