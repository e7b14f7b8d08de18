"""Random pairs of a writer's and a reader's schema, records of the writer's, and what the reader must see.

A random generator gives a `Pair`: the field `v` (of the event, or of a record in it) has every type that makes a column
or a text, alone or in a union, and the reader's differs from the writer's as a schema does after a year. `expected` is
the Avro specification in a few lines of its own; fastavro and Apache Avro Java are asked too, by the tests.
"""

import copy
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from muse_stream.avro import Schema, parse_schema
from tests.avro.hostile_data import record_of

Json = Any
REFUSED = "refused"
NUMERIC = ["int", "long", "float", "double"]
INTS = ("date", "time-millis")
NANOSECONDS = {"milli": 10**6, "micro": 10**3, "nano": 1}
LONGS = ("time-micros", *(f"{local}timestamp-{unit}s" for local in ("", "local-") for unit in NANOSECONDS))
DIGITS = {"precision": 9, "scale": 2}


@dataclass(frozen=True)
class Pair:
    """A writer, a reader, and where the field is."""

    writer: Schema
    reader: Schema
    path: str

    @property
    def kinds(self) -> tuple[list[Json], list[Json]]:
        """What the writer may write into the field, and what the reader reads there."""
        return options(self.writer, self.path), options(self.reader, self.path)


def pair(rng: random.Random, *, another_record: bool = True, more: Sequence[Json] = ()) -> Pair:
    """Draw a pair; the reader makes at least a text of the field.

    `another_record` lets the writer have one beside the one that is read; `more` are further fields of both.
    """
    names = iter(range(1000))
    wrote = several(rng, names)
    wants = changed(rng, copy.deepcopy(wrote), names)
    depth = rng.choice((0, 0, 1, 2))
    writer, path = nested(rng, {"name": "v", "type": wrote}, depth)
    reader, _ = nested(rng, {"name": "v", "type": wants}, depth)
    if another_record and rng.random() < 0.3:
        wider(writer, rng)
    return Pair(event(writer, "writer.avsc", more), event(reader, "reader.avsc", more), path)


def event(field: Json, file: str, more: Sequence[Json]) -> Schema:
    fields = [{"name": "id", "type": "string"}, field, *more]
    return parse_schema(json.dumps({"type": "record", "name": "Event", "fields": fields}), file=file)


def nested(rng: random.Random, field: Json, depth: int) -> tuple[Json, str]:
    """Put the field into records, each nullable or not."""
    path = str(field["name"])
    for level in range(depth):
        record = {"type": "record", "name": f"Sub{level}", "fields": [field]}
        field = {"name": f"sub{level}", "type": rng.choice((record, ["null", record], [record, "null"]))}
        path = f"{field['name']}.{path}"
    return field, path


def wider(field: Json, rng: random.Random) -> None:
    """Let the writer have another record beside the one that is read."""
    kind = field["type"]
    records = [one for one in (kind if isinstance(kind, list) else [kind]) if _is(one, "record")]
    if records:
        bank = {"type": "record", "name": "Bank", "fields": [{"name": "v", "type": "string"}]}
        field["type"] = [*(kind if isinstance(kind, list) else [kind]), bank]
        rng.shuffle(field["type"])


def several(rng: random.Random, names: Any) -> Json:
    """A type, or a union of some, no unnamed type twice."""
    count = rng.choice((1, 1, 1, 2, 3, 4))
    found: list[Json] = []
    for _ in range(count):
        one = leaf(rng, names)
        if _is(one, "enum") or _is(one, "fixed") or all(_kind(one) != _kind(other) for other in found):
            found.append(one)
    if rng.random() < 0.5:
        found.insert(rng.randint(0, len(found)), "null")
    return found[0] if len(found) == 1 and found[0] != "null" and rng.random() < 0.9 else found


def leaf(rng: random.Random, names: Any) -> Json:
    """One type that has values of its own."""
    kind = rng.choice(("boolean", *NUMERIC, *NUMERIC, "string", "bytes", "enum", "fixed"))
    if kind == "enum":
        return {"type": "enum", "name": f"E{next(names)}", "symbols": ["A", "B", "C"][: rng.randint(1, 3)]}
    if kind == "fixed":
        size, more = rng.choice(
            ((5, {}), (16, {"logicalType": "uuid"}), (16, {}), (12, {}), (4, {"logicalType": "decimal", **DIGITS}))
        )
        return {"type": "fixed", "name": f"F{next(names)}", "size": size, **more}
    return logical(rng, kind) if rng.random() < 0.5 else kind


def logical(rng: random.Random, kind: str) -> Json:
    """The type with a logical type, where there are some for it."""
    known = {"int": INTS, "long": LONGS, "string": ("uuid",), "bytes": ("decimal",)}.get(kind)
    if known is None:
        return kind
    name = rng.choice(known)
    return {"type": kind, "logicalType": name, **(DIGITS if name == "decimal" else {})}


def changed(rng: random.Random, kind: Json, names: Any) -> Json:
    """The type a year later."""
    kinds = kind if isinstance(kind, list) else [kind]
    added = leaf(rng, names)
    clash = any(_kind(added) == _kind(one) for one in kinds) and not (_is(added, "enum") or _is(added, "fixed"))
    step = rng.randint(0, 8)
    if step < 6:
        return (
            kind,
            [one for one in kinds if one != "null"] or kind,
            ["null", *(one for one in kinds if one != "null")],
            rng.sample(kinds, len(kinds)),
            rng.sample(kinds, max(1, len(kinds) - 1)),
            [*kinds, *([] if clash else [added])],
        )[step]
    found = [promoted(rng, one) for one in kinds]
    once = {_kind(one) if not isinstance(one, dict) or "name" not in one else one["name"]: one for one in found}
    return list(once.values()) if isinstance(kind, list) else found[0]


def promoted(rng: random.Random, kind: Json) -> Json:
    """A type that the kind may be promoted to, or nearly so."""
    plain = _kind(kind)
    if plain in NUMERIC:
        return rng.choice(NUMERIC[max(0, NUMERIC.index(plain) - 1) :])
    if plain == "enum":
        symbols = rng.sample(["A", "B", "C", "D"], rng.randint(1, 4))
        return {**kind, "symbols": symbols, **({"default": symbols[0]} if rng.random() < 0.5 else {})}
    if plain in ("string", "bytes") and not _is_decimal(kind):
        return rng.choice(("string", "bytes"))
    return kind


def _kind(kind: Json) -> str:
    return str(kind["type"] if isinstance(kind, dict) else kind)


def _logical_of(kind: Json) -> str | None:
    return kind.get("logicalType") if isinstance(kind, dict) else None


def _is(kind: Json, name: str) -> bool:
    return isinstance(kind, dict) and kind.get("type") == name


def _is_decimal(kind: Json) -> bool:
    return isinstance(kind, dict) and kind.get("logicalType") == "decimal"


def options(schema: Schema, path: str) -> list[Json]:
    """The types of a field, as they stand in the JSON; of the record that is read, where there are two."""
    node: Json = json.loads(schema.text)
    for name in path.split("."):
        records = [one for one in (node if isinstance(node, list) else [node]) if _is(one, "record")]
        (record,) = [one for one in records if one["name"] != "Bank"]
        node = next(field["type"] for field in record["fields"] if field["name"] == name)
    return node if isinstance(node, list) else [node]


def records(pair: Pair, rng: random.Random, count: int) -> list[tuple[bytes, Any]]:
    """Draw records of the writer: bytes, and what they mean, {field: (branch, value)}."""
    return [record_of(pair.writer.type, rng) for _ in range(count)]


def expected(pair: Pair, meaning: Any) -> tuple[Any, Any] | str:
    """Return what the reader sees of the field: its text and its number (None where it is none), or REFUSED."""
    value, read, wrote = meaning, json.loads(pair.reader.text), json.loads(pair.writer.text)
    for name in pair.path.split("."):
        read, wrote = _field(read, name), _field(wrote, name)
        branch, value = value[name]
        wrote = wrote[branch] if isinstance(wrote, list) else wrote
        kinds = read if isinstance(read, list) else [read]
        if value is None:
            return (None, None) if "null" in kinds else REFUSED
        fitting = [one for one in kinds if _fits(one, wrote)]
        if not fitting:
            return REFUSED
        read = next((one for one in fitting if _kind(one) == _kind(wrote)), fitting[0])
    return meaning_of(read, wrote, value)


def _field(record: Json, name: str) -> Json:
    return next(field["type"] for field in record["fields"] if field["name"] == name)


def _fits(read: Json, wrote: Json) -> bool:
    kind, was = _kind(read), _kind(wrote)
    if isinstance(read, dict) and "name" in read:
        alike = isinstance(wrote, dict) and wrote.get("name") == read["name"] and kind == was
        return bool(alike and wrote.get("size") == read.get("size"))
    if kind in NUMERIC and was in NUMERIC:
        return NUMERIC.index(was) <= NUMERIC.index(kind)
    if {kind, was} <= {"string", "bytes"}:
        return kind == was or not _is_decimal(read)
    return kind == was


def meaning_of(read: Json, wrote: Json, value: Any) -> tuple[Any, Any] | str:
    """Return text and number of a value that was written as one type and is read as another."""
    kind = _kind(read)
    if kind in ("string", "bytes", "fixed"):
        return meaning_of_bytes(read, value.encode() if isinstance(value, str) else value)
    if kind == "enum":
        known = value if value in read["symbols"] else read.get("default")
        return REFUSED if known is None else (known, None)
    return meaning_of_number(read, wrote, value)


def meaning_of_number(read: Json, wrote: Json, value: Any) -> tuple[Any, Any] | str:
    kind = _kind(read)
    if kind == "boolean":
        return ("true" if value else "false"), value
    if kind in ("int", "long"):
        value = in_unit(_logical_of(read), _logical_of(wrote), value)
        return (str(value), value) if -(2**63) <= value < 2**63 else REFUSED
    number = float(np.float32(value)) if kind == "float" else float(value)
    return real_text(number, single=kind == "float"), number


def meaning_of_bytes(read: Json, data: bytes) -> tuple[Any, Any] | str:
    name = _logical_of(read)
    if _kind(read) == "string":
        try:
            return data.decode(), None
        except UnicodeDecodeError:
            return REFUSED
    if name == "decimal":
        exact = Decimal(int.from_bytes(data, "big", signed=True)).scaleb(-2)
        return f"{exact:.2f}", int.from_bytes(data, "big", signed=True) / 100
    return (str(UUID(bytes=data)) if name == "uuid" else data.hex()), None


def in_unit(read: str | None, wrote: str | None, value: int) -> int:
    """Take a number of one unit of time to another, where both are stated and count from the same moment."""

    def unit(name: str | None) -> tuple[str, int] | None:
        if name is None:
            return None
        if name == "date":
            return "1970", 86_400 * 10**9
        return ("midnight" if name.startswith("time-") else "1970"), NANOSECONDS[name.rsplit("-", 1)[1].rstrip("s")]

    one, other = unit(read), unit(wrote)
    if one is None or other is None or one[0] != other[0]:
        return value
    return value * other[1] // one[1]


def real_text(number: float, *, single: bool) -> str:
    """The shortest text that reads back as the same number, as Python writes it."""
    named = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    text = str(np.float32(number)) if single else repr(number)
    return named.get(text, text)
