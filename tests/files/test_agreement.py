"""Whatever kind of file an event comes in, and whichever way through the converter it takes, it is the same event."""

import io
import itertools
import json
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from muse_stream.avro import Schema, parse_schema
from muse_stream.errors import SchemaError
from muse_stream.files import EventFile, event_file
from muse_stream.files.event_file import InvalidRow
from tests.avro.avro_data import node, payload, record_type

QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
LOGICAL: list[tuple[Any, st.SearchStrategy[Any]]] = [
    ({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3}, st.binary(min_size=1, max_size=4)),
    ({"type": "long", "logicalType": "timestamp-nanos"}, st.integers(-(2**63), 2**63 - 1)),
    ({"type": "long", "logicalType": "timestamp-micros"}, st.integers(-(2**63), 2**63 - 1)),
    ({"type": "long", "logicalType": "local-timestamp-millis"}, st.integers(-(2**63), 2**63 - 1)),
    ({"type": "int", "logicalType": "date"}, st.integers(-(2**31), 2**31 - 1)),
    ({"type": "int", "logicalType": "time-millis"}, st.integers(-(2**31), 2**31 - 1)),
    ({"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}, st.binary(min_size=16, max_size=16)),
]


@st.composite
def schema_and_rows(draw: st.DrawFn) -> tuple[Schema, list[dict[str, Any]]]:
    """A random schema, some of its fields of logical types and unions, and records of physical values."""
    kind, values = draw(record_type(itertools.count(), 2, opaque=True))
    parts = {"r": (kind, values), "n": draw(node(itertools.count(100), 1, opaque=True))}
    for number, (logical, held) in enumerate(draw(st.lists(st.sampled_from(LOGICAL), max_size=3, unique_by=str))):
        parts[f"l{number}"] = (["null", logical], st.none() | held) if draw(st.booleans()) else (logical, held)
    fields = [{"name": name, "type": inner} for name, (inner, _) in parts.items()]
    text = json.dumps({"type": "record", "name": "Random", "fields": fields})
    rows = draw(st.lists(st.fixed_dictionaries({name: held for name, (_, held) in parts.items()}), max_size=5))
    return parse_schema(text, file="random.avsc"), rows


def sent(path: Path, schema: Schema, **options: Any) -> list[bytes]:
    return [value[10:] for some in EventFile(path, schema, **options).values(2) for value in some]


@QUIET
@given(schema_and_rows())
def test_a_container_of_the_schema_gives_the_bytes_that_stand_in_it(
    tmp_path: Path, drawn: tuple[Schema, list[dict[str, Any]]]
) -> None:
    schema, rows = drawn
    path = tmp_path / "f.avro"
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(json.loads(schema.text)), rows)
    assert sent(path, schema) == [payload(schema, row) for row in rows]


@QUIET
@given(schema_and_rows())
def test_the_avro_json_encoding_gives_the_same_bytes(
    tmp_path: Path, drawn: tuple[Schema, list[dict[str, Any]]]
) -> None:
    schema, rows = drawn
    path = tmp_path / "f.jsonl"
    text = io.StringIO()
    # times as they are counted: fastavro's JSON has no moments after the year 9999
    document = fastavro.parse_schema(_bare(json.loads(schema.text)))
    try:
        fastavro.json_writer(text, document, rows)
    except Exception as error:
        assume("No key was set" not in str(error) and "Internal Parser" not in str(error))
        raise
    path.write_text(text.getvalue())
    assert sent(path, schema, encoding="avro") == [payload(schema, row) for row in rows]


def _bare(part: Any) -> Any:
    if isinstance(part, list):
        return [_bare(one) for one in part]
    if not isinstance(part, dict):
        return part
    counted = "logicalType" in part and part["logicalType"] != "decimal"
    return {key: _bare(value) for key, value in part.items() if key != "logicalType" or not counted}


COLUMNS: list[tuple[Any, st.SearchStrategy[Any], list[pa.DataType]]] = [
    ("boolean", st.booleans(), [pa.bool_()]),
    ("int", st.integers(-(2**31) - 2, 2**31 + 2), [pa.int64(), pa.int32(), pa.uint32()]),
    ("long", st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9), [pa.int64(), pa.uint64(), pa.int8()]),
    ("double", st.integers(-(2**54), 2**54), [pa.int64(), pa.int32()]),
    ("double", st.floats(), [pa.float64(), pa.float32()]),
    ("float", st.floats(width=32) | st.floats() | st.integers(0, 2**25), [pa.float32(), pa.float64(), pa.int64()]),
    ("string", st.text(max_size=4), [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]),
    ("string", st.integers(-9, 2**63 - 1), [pa.int64(), pa.uint8()]),
    ({"type": "enum", "name": "E", "symbols": ["a", "b"]}, st.sampled_from(["a", "b", "c"]), [pa.string()]),
    (
        {"type": "long", "logicalType": "timestamp-millis"},
        st.integers(-(2**62), 2**62) | st.integers(0, 9).map(lambda n: n * 10**9),
        [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC")],
    ),
    (
        {"type": "long", "logicalType": "local-timestamp-micros"},
        st.integers(0, 9).map(lambda n: n * 10**6),
        [pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.timestamp("s")],
    ),
    ({"type": "int", "logicalType": "date"}, st.integers(-(2**31), 2**31 - 1), [pa.date32(), pa.int32()]),
]


@st.composite
def column(draw: st.DrawFn) -> tuple[Any, pa.Array]:
    """An Avro type, and a Parquet column that it may hold or not."""
    kind, values, types = draw(st.sampled_from(COLUMNS))
    arrow = draw(st.sampled_from(types))
    held = draw(st.lists(st.none() | values if draw(st.booleans()) else values, min_size=1, max_size=4))
    if draw(st.booleans()):
        kind = ["null", kind]
    try:
        return kind, pa.array(held, pa.int64()).cast(arrow) if pa.types.is_temporal(arrow) else pa.array(held, arrow)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return kind, pa.array(held)


@QUIET
@given(st.lists(column(), min_size=1, max_size=3), st.booleans())
def test_the_short_cut_for_columns_gives_what_the_rows_give(
    tmp_path: Path, drawn: list[tuple[Any, pa.Array]], nested: bool
) -> None:
    count = min(len(array) for _, array in drawn)
    fields = [{"name": f"f{number}", "type": _named(kind, number)} for number, (kind, _) in enumerate(drawn)]
    arrays = {f"f{number}": array[:count] for number, (_, array) in enumerate(drawn)}
    if nested:
        fields = [{"name": "r", "type": {"type": "record", "name": "Inner", "fields": fields}}]
        arrays = {f"r.{name}": array for name, array in arrays.items()}
    schema = parse_schema(json.dumps({"type": "record", "name": "R", "fields": fields}), file="r.avsc")
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table(arrays), path)
    assert _outcome(path, schema, short_cut=True) == _outcome(path, schema, short_cut=False)


def _named(kind: Any, number: int) -> Any:
    if isinstance(kind, list):
        return [_named(one, number) for one in kind]
    return kind | {"name": f"E{number}"} if isinstance(kind, dict) and "name" in kind else kind


def _outcome(path: Path, schema: Schema, *, short_cut: bool) -> tuple[list[bytes], list[str]]:
    refused: list[InvalidRow] = []
    with pytest.MonkeyPatch.context() as patch:
        if not short_cut:
            patch.setattr(event_file, "suits_tables", lambda _encoder: False)
        try:
            values = [value for some in EventFile(path, schema).events(invalid=refused.append) for value in some.values]
        except SchemaError as error:
            return [], [str(error)]
    return values, [str(one) for one in refused]


def test_an_event_without_the_key_field_has_no_key(tmp_path: Path) -> None:
    union = {"name": "k", "type": ["null", "string"], "default": None}
    schema = parse_schema(json.dumps({"type": "record", "name": "R", "fields": [union]}), file="r.avsc")
    path = tmp_path / "f.jsonl"
    path.write_text('{"k": "a"}\n{"k": null}\n{}\n{"k": ""}\n')
    (chunk,) = EventFile(path, schema).chunks("k")
    assert chunk.keys() == [b"a", None, None, None] and list(chunk.rows) == [1, 2, 3, 4]
