"""Random Avro schemas and records of them, and the two ways to decode, for the tests of this folder."""

import io
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import fastavro
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from muse_stream.avro.codec import codec_for
from muse_stream.avro.framing import single_object_prefix
from muse_stream.avro.resolution import column_type
from muse_stream.avro.schemas import Schema, SchemaDirectory, parse_schema
from muse_stream.avro.types import Type
from muse_stream.errors import SchemaError
from muse_stream.scoring.columns import Categorical

Json = Any


def directory(*schemas: Schema, ids: dict[int, Schema] | None = None) -> SchemaDirectory:
    """Return a directory that was never on disk."""
    return SchemaDirectory(Path("schemas"), {schema.file: schema for schema in schemas}, ids or {})


def schema_of(*fields: Json, name: str = "Event", file: str = "", **more: Json) -> Schema:
    """Return a record schema; a field is (name, type), (name, type, default) or a dict."""
    shaped = [
        field if isinstance(field, dict) else dict(zip(("name", "type", "default"), field, strict=False))
        for field in fields
    ]
    return parse_schema(
        json.dumps({"type": "record", "name": name, "fields": shaped, **more}), file=file or f"{name}.avsc"
    )


def payload(schema: Schema, record: dict[str, Any]) -> bytes:
    """Encode by fastavro, with logical types."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(schema.text)), record)
    return out.getvalue()


def framed(schema: Schema, record: dict[str, Any]) -> bytes:
    """Encode behind a single-object frame."""
    return single_object_prefix(schema.fingerprint) + payload(schema, record)


def scaled(scale: int) -> Callable[[int], Decimal]:
    """What makes a decimal of its digits."""
    return lambda unscaled: Decimal(unscaled).scaleb(-scale, Context(prec=200))


DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 3}
LEAVES: list[tuple[Json, SearchStrategy[Any]]] = [
    ("boolean", st.booleans()),
    ("int", st.integers(-(2**31), 2**31 - 1)),
    ("long", st.integers(-(2**63), 2**63 - 1)),
    ("float", st.floats(width=32, allow_nan=False)),
    ("double", st.floats(allow_nan=False)),
    ("string", st.text(max_size=12)),
    ("bytes", st.binary(max_size=9)),
    (DECIMAL, st.integers(-(10**30) + 1, 10**30 - 1).map(scaled(3))),
    ({"type": "long", "logicalType": "timestamp-millis"}, st.integers(0, 2**41)),
    ({"type": "long", "logicalType": "timestamp-micros"}, st.integers(-(2**51), 2**51)),
    ({"type": "int", "logicalType": "time-millis"}, st.integers(0, 86_399_999)),
    ({"type": "string", "logicalType": "uuid"}, st.uuids().map(str)),
]


FIXED_SIZES = (1, 2, 3, 4, 5, 8, 9, 12, 16, 20, 68, 70)


@st.composite
def leaf(draw: st.DrawFn, names: "itertools.count[int]", *, opaque: bool) -> tuple[Json, SearchStrategy[Any]]:
    """A primitive, enum or fixed, nullable or not; `opaque` allows what pyruhvro reads as something else."""
    choices = [pair for pair in LEAVES if opaque or pair[0] not in ("bytes", DECIMAL)]
    kind, values = draw(st.sampled_from(choices))
    other = draw(st.integers(0, 9))
    if other == 0:
        symbols = ["A", "B", "C"][: draw(st.integers(1, 3))]
        kind, values = {"type": "enum", "name": f"E{next(names)}", "symbols": symbols}, st.sampled_from(symbols)
    elif other in (1, 2) and opaque:
        size = draw(st.sampled_from(FIXED_SIZES))
        kind, values = (
            {"type": "fixed", "name": f"F{next(names)}", "size": size},
            st.binary(min_size=size, max_size=size),
        )
        if other == 2 and size:
            kind |= {"logicalType": "decimal", "precision": 2 * size, "scale": draw(st.integers(0, 2))}
            values = st.integers(-(10 ** (2 * size)) + 1, 10 ** (2 * size) - 1).map(scaled(kind["scale"]))
    if draw(st.booleans()):
        order = draw(st.booleans())
        return (["null", kind] if order else [kind, "null"]), st.none() | values
    return kind, values


@st.composite
def node(
    draw: st.DrawFn, names: "itertools.count[int]", depth: int, *, opaque: bool
) -> tuple[Json, SearchStrategy[Any]]:
    """Any type: leaves, records, arrays, maps, unions of several types."""
    form = draw(st.integers(0, 8 + opaque)) if depth else 0
    if form <= 4:
        return draw(leaf(names, opaque=opaque))
    if form == 5:
        return ["int", "string"], st.integers(0, 9) | st.text(max_size=3)
    if form == 9:
        return ["string", "null", "bytes"], st.none() | st.text(max_size=3) | st.binary(max_size=3)
    inner, values = draw(node(names, depth - 1, opaque=opaque))
    if form == 6:
        return {"type": "array", "items": inner}, st.lists(values, max_size=3)
    if form == 7:
        return {"type": "map", "values": inner}, st.dictionaries(st.text(max_size=3), values, max_size=3)
    record, values = draw(record_type(names, depth - 1, opaque=opaque))
    return (["null", record], st.none() | values) if draw(st.booleans()) else (record, values)


@st.composite
def record_type(
    draw: st.DrawFn, names: "itertools.count[int]", depth: int, *, opaque: bool
) -> tuple[Json, SearchStrategy[dict[str, Any]]]:
    """A record of one to five fields."""
    parts = [draw(node(names, depth, opaque=opaque)) for _ in range(draw(st.integers(1, 5)))]
    kind = {
        "type": "record",
        "name": f"R{next(names)}",
        "fields": [{"name": f"f{index}", "type": inner} for index, (inner, _) in enumerate(parts)],
    }
    return kind, st.fixed_dictionaries({f"f{index}": values for index, (_, values) in enumerate(parts)})


@st.composite
def schema_and_records(draw: st.DrawFn, *, opaque: bool = False, most: int = 12) -> tuple[Schema, list[dict[str, Any]]]:
    """A random event schema (its id is the field `id`) and some records of it."""
    kind, values = draw(record_type(itertools.count(), 2, opaque=opaque))
    kind["fields"].insert(0, {"name": "id", "type": "string"})
    records = draw(st.lists(values, min_size=1, max_size=most))
    schema = parse_schema(json.dumps(kind), file="random.avsc")
    return schema, [{"id": f"e{index}", **record} for index, record in enumerate(records)]


def column_paths(schema: Schema) -> tuple[str, ...]:
    """All dotted paths of a schema that make a column."""
    found = []

    def walk(record: Type, above: str) -> None:
        for field in record.fields:
            path = f"{above}{field.name}"
            try:
                column_type(schema.type, path)
                found.append(path)
            except SchemaError:
                options = [option for option in field.type.options if option.kind == "record"]
                if len(options) == 1:
                    walk(options[0], f"{path}.")

    walk(schema.type, "")
    return tuple(found)


@contextmanager
def record_by_record(schema: Schema) -> Iterator[None]:
    """Let the schema be decoded by fastavro alone, as if pyruhvro had failed its probe."""
    codec = codec_for(schema)
    before, codec.batched = codec.batched, False
    try:
        yield
    finally:
        codec.batched = before


def listed(column: Any) -> list[Any]:
    """A column as Python values that compare equal: NaN as None."""
    if isinstance(column, Categorical):
        return column.to_list()
    return [None if value != value else value for value in column.tolist()]  # noqa: PLR0124 - NaN
