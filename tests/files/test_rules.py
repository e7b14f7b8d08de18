"""One set of rules for every kind of file: nothing is rounded, cut or guessed."""

import datetime as dt
import json
import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muse_stream.avro import Schema, decode_records, parse_schema
from muse_stream.errors import MuseError
from muse_stream.files import EventFile
from tests.avro.avro_data import directory

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}
NARROW = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}
FIXED_DECIMAL = {"type": "fixed", "name": "D", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 2}
WIDE = {"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 2}
UUID_FIXED = {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
NANOS = {"type": "long", "logicalType": "timestamp-nanos"}
LOCAL = {"type": "long", "logicalType": "local-timestamp-millis"}
DATE = {"type": "int", "logicalType": "date"}
TIME = {"type": "int", "logicalType": "time-millis"}
ENUM = {"type": "enum", "name": "E", "symbols": ["a", "b"]}
REFUSED = "refused"


def schema_of(kind: Any, *, beside_bytes: bool = False) -> Schema:
    """Return a schema with the field `x`; beside a field of bytes, which an earlier converter went another way for."""
    fields = [{"name": "x", "type": kind}]
    if beside_bytes:
        fields.append({"name": "raw", "type": ["null", "bytes"], "default": None})
    return parse_schema(json.dumps({"type": "record", "name": "R", "fields": fields}), file="r.avsc")


def physical(schema: Schema) -> Schema:
    """Return the same schema without logical types, so that what was written is seen as it is."""
    node = json.loads(schema.text)

    def bare(part: Any) -> Any:
        if isinstance(part, list):
            return [bare(one) for one in part]
        if not isinstance(part, dict):
            return part
        return {key: bare(value) for key, value in part.items() if key not in ("logicalType", "precision", "scale")}

    return parse_schema(json.dumps(bare(node)), file="r.avsc")


def read(schema: Schema, path: Path, **options: Any) -> Any:
    """Return what was written for `x`, or REFUSED when the file was refused by name and field."""
    try:
        values = [value for some in EventFile(path, schema, **options).values() for value in some]
    except MuseError as error:
        said = str(error).removeprefix(str(path))
        named = any(part in said for part in ("x: ", "x[", "'x'", "there twice", "--json-encoding"))
        assert len(said) < len(str(error)) and named, error
        return REFUSED
    (record,) = decode_records(directory(physical(schema)), values)
    assert isinstance(record, dict), record
    return record["x"]


def json_file(folder: Path, text: str) -> Path:
    path = folder / "f.jsonl"
    path.write_text(f'{{"x": {text}}}\n')
    return path


def parquet_file(folder: Path, column: pa.Array) -> Path:
    path = folder / "f.parquet"
    pq.write_table(pa.table({"x": column}), path)
    return path


JSON_RULES: list[tuple[Any, str, Any]] = [
    # a number is held with all its digits, or refused
    *((DECIMAL, text, REFUSED) for text in ('" 5"', '"1_0"', '"\\u0663"', '"0x5"', '"NaN"', '"1,5"')),
    (DECIMAL, '"1e1"', b"\x03\xe8"),
    ("string", "1e0", REFUSED),
    (DECIMAL, "12345678901234567.89", (1234567890123456789).to_bytes(8, "big")),
    (DECIMAL, '"12345678901234567.89"', (1234567890123456789).to_bytes(8, "big")),
    (WIDE, "12345678901234567890123456789012345678.91", (1234567890123456789012345678901234567891).to_bytes(17, "big")),
    (DECIMAL, "1.005", REFUSED),
    (DECIMAL, "1.10", b"\x6e"),
    (DECIMAL, "1e400", REFUSED),
    (DECIMAL, "1e999999999", REFUSED),
    (DECIMAL, "1e-999999999", REFUSED),
    (DECIMAL, "true", REFUSED),
    (DECIMAL, "NaN", REFUSED),
    (NARROW, "99.99", b"\x27\x0f"),
    (NARROW, "100.00", REFUSED),
    (NARROW, '"100.00"', REFUSED),
    (FIXED_DECIMAL, "-1.5", b"\xff\xff\xff\x6a"),
    (FIXED_DECIMAL, "99999999.99", REFUSED),
    ("double", "1e400", REFUSED),
    ("double", "-1e400", REFUSED),
    ("double", "1e-400", REFUSED),
    ("double", "1e999999999", REFUSED),
    ("double", "0.1", 0.1),
    ("double", "0.10000000000000001", 0.1),  # as printf's %.17g has it
    ("double", "0.1000000000000000055511151231257827021181583404541015625", 0.1),
    ("double", "12345678901234567.89", REFUSED),
    ("double", "9007199254740992", 2.0**53),
    ("double", "9007199254740993", REFUSED),
    ("double", "5e-324", 5e-324),
    ("double", "2e-324", REFUSED),
    ("double", "5.960464477539063e-8", 2.0**-24),  # a tie: the shortest digits are not the rounded ones
    ("float", "5.960464477539063e-8", 2.0**-24),
    ("double", "1e23", 1e23),
    ("double", "1.7976931348623157e308", 1.7976931348623157e308),
    ("double", "true", REFUSED),
    ("double", '"1.5"', REFUSED),
    ("double", '"Infinity"', float("inf")),
    ("double", "-Infinity", float("-inf")),
    ("float", "0.1", 0.10000000149011612),
    ("float", "1e39", REFUSED),
    ("float", "16777217", REFUSED),
    ("float", "3.141592653589793", REFUSED),
    ("long", "9223372036854775807", 2**63 - 1),
    ("long", "9223372036854775808", REFUSED),
    ("long", "9007199254740993.0", 2**53 + 1),
    ("long", "1.7", REFUSED),
    ("long", "1e999999999", REFUSED),
    ("long", "1e3", 1000),
    ("long", "true", REFUSED),
    ("long", '"12"', REFUSED),
    ("long", '"2026-01-01T00:00:00Z"', REFUSED),
    ("int", "2147483648", REFUSED),
    ("boolean", "1", REFUSED),
    ("boolean", "2", REFUSED),
    ("boolean", '"true"', REFUSED),
    ("string", "12345678901234567890", "12345678901234567890"),
    ("string", "1.0", REFUSED),
    ("string", "true", REFUSED),
    ("string", "null", REFUSED),
    ("string", '"\\ud800"', REFUSED),
    (ENUM, '"a"', "a"),
    (ENUM, '"c"', REFUSED),
    (ENUM, "[]", REFUSED),
    ("bytes", '"\\u00ff\\u0000"', b"\xff\x00"),
    ("bytes", '"\\u0100"', REFUSED),
    (UUID_FIXED, '"00000000-0000-0000-0000-0000000000ff"', bytes(15) + b"\xff"),
    (UUID_FIXED, '"0000-ff"', REFUSED),
    # a time is held to its last digit, or refused
    (MILLIS, "1700000000000", 1_700_000_000_000),
    (MILLIS, '"2023-11-14T22:13:20Z"', 1_700_000_000_000),
    (MILLIS, '"2023-11-14 23:13:20.5+01:00"', 1_700_000_000_500),
    (MILLIS, '"2023-11-14T22:13:20.000001Z"', REFUSED),
    (MICROS, '"2023-11-14T22:13:20.000001Z"', 1_700_000_000_000_001),
    (MICROS, '"2023-11-14T22:13:20.0000001Z"', REFUSED),
    (NANOS, '"2023-11-14T22:13:20.000000001"', 1_700_000_000_000_000_001),
    (MILLIS, '"2023-11-14"', REFUSED),
    (MILLIS, '"14.11.2023"', REFUSED),
    (MILLIS, '"2023-02-30T00:00:00Z"', REFUSED),
    (MILLIS, '"2023-11-14T24:00:00Z"', REFUSED),
    (MILLIS, "1700000000000.5", REFUSED),
    (LOCAL, '"2023-11-14T22:13:20"', 1_700_000_000_000),
    (LOCAL, '"2023-11-14T22:13:20Z"', REFUSED),
    (DATE, '"2023-11-14"', 19675),
    (DATE, "19675", 19675),
    (DATE, '"2023-11-14T00:00:00Z"', REFUSED),
    (TIME, '"03:04:05.006"', 11_045_006),
    (TIME, '"03:04:05.0061"', REFUSED),
    # a union: the branch that a value means, never the first that takes it
    (["null", "int", "long"], "3000000000", 3_000_000_000),
    (["null", "double", "long"], "9007199254740993", 2**53 + 1),
    (["null", "float", "double"], "0.1", 0.1),
    (["null", DATE, MILLIS], "20000", REFUSED),
    (["null", DATE, MILLIS], '"2023-11-14"', 19675),
    (["null", DATE, MILLIS], '"2023-11-14T22:13:20Z"', 1_700_000_000_000),
    (["null", "double", MILLIS], "1700000000000", REFUSED),
    (["null", "string", ENUM], '"a"', "a"),
    (["null", "string", "bytes"], '"a"', "a"),
    (["null", "bytes", FIXED_DECIMAL], '"1.5"', REFUSED),
    (["null", "boolean"], "0", REFUSED),
    ({"type": "array", "items": "int"}, "[1, 2.5]", REFUSED),
    ({"type": "map", "values": "int"}, '{"k": 1}', {"k": 1}),
    ({"type": "map", "values": "int"}, '[["k", 1]]', REFUSED),
    ({"type": "map", "values": "int"}, '{"k": 1, "k": 2}', REFUSED),
]


@pytest.mark.parametrize("beside_bytes", [False, True])
@pytest.mark.parametrize(("kind", "text", "expected"), JSON_RULES)
def test_json(tmp_path: Path, kind: Any, text: str, expected: Any, beside_bytes: bool) -> None:
    schema = schema_of(kind, beside_bytes=beside_bytes)
    assert read(schema, json_file(tmp_path, text), encoding="plain") == expected


FAR = 400_000_000_000_000  # ms: the year 14,645
PARQUET_RULES: list[tuple[Any, pa.Array, Any]] = [
    ("boolean", pa.array([2]), REFUSED),
    ("boolean", pa.array([1]), REFUSED),
    ("boolean", pa.array(["true"]), REFUSED),
    ("boolean", pa.array([True]), True),
    ("double", pa.array([True]), REFUSED),
    ("double", pa.array(["1.5"]), REFUSED),
    ("double", pa.array([2**53 + 1]), REFUSED),
    ("double", pa.array([2**53 + 2]), float(2**53 + 2)),
    ("double", pa.array([0.1], pa.float32()), 0.10000000149011612),
    ("double", pa.array([Decimal("12345678901234567.89")]), REFUSED),
    ("double", pa.array([Decimal("12.50")]), 12.5),
    ("float", pa.array([0.1]), 0.10000000149011612),
    ("float", pa.array([3.141592653589793]), REFUSED),
    ("float", pa.array([1e39]), REFUSED),
    ("float", pa.array([float("nan")]), "nan"),
    ("float", pa.array([2**24 + 1]), REFUSED),
    ("int", pa.array([2**31]), REFUSED),
    ("int", pa.array([1.5]), REFUSED),
    ("int", pa.array([3.0]), 3),
    ("int", pa.array([True]), REFUSED),
    ("int", pa.array(["12"]), REFUSED),
    ("int", pa.array([dt.date(2023, 11, 14)]), REFUSED),
    ("long", pa.array([2**63], pa.uint64()), REFUSED),
    ("long", pa.array([dt.datetime(2023, 11, 14)]), REFUSED),  # noqa: DTZ001
    ("long", pa.array([Decimal("9007199254740993")]), 2**53 + 1),
    ("long", pa.array([1e18]), 10**18),
    ("long", pa.array([1], pa.duration("s")), REFUSED),
    ("string", pa.array([12]), "12"),
    ("string", pa.array([1.0]), REFUSED),
    ("string", pa.array([True]), REFUSED),
    ("string", pa.array([dt.date(2023, 11, 14)]), REFUSED),
    ("string", pa.array([b"ab"]), REFUSED),
    ("string", pa.array(["ab"]).dictionary_encode(), "ab"),
    ("string", pa.array([b"\xff"]).view(pa.string()), REFUSED),
    ("bytes", pa.array(["ab"]), REFUSED),
    ("bytes", pa.array([b"ab"]), b"ab"),
    (ENUM, pa.array(["a"]).dictionary_encode(), "a"),
    (ENUM, pa.array(["c"]), REFUSED),
    (ENUM, pa.array([0]), REFUSED),
    (DECIMAL, pa.array([Decimal("12345678901234567.89")]), (1234567890123456789).to_bytes(8, "big")),
    (DECIMAL, pa.array([Decimal("1.005")]), REFUSED),
    (DECIMAL, pa.array([0.1]), b"\x0a"),
    (DECIMAL, pa.array([0.1], pa.float32()), b"\x0a"),
    (DECIMAL, pa.array([0.1], pa.float16()), b"\x0a"),
    (DECIMAL, pa.array([0.125], pa.float32()), REFUSED),
    (DECIMAL, pa.array([float("nan")], pa.float32()), REFUSED),
    ("double", pa.array([0.1], pa.float32()), struct.unpack("<f", struct.pack("<f", 0.1))[0]),
    (["null", "double", "float"], pa.array([0.5], pa.float32()), 0.5),
    (DECIMAL, pa.array([b"25"]), REFUSED),  # bytes of text, or of a number?
    (DECIMAL, pa.array(["25"]), b"\x09\xc4"),
    ("string", pa.array([Decimal("12")], pa.decimal128(38, 0)), "12"),
    ("string", pa.array([Decimal("12.0")]), REFUSED),
    (DECIMAL, pa.array([float("inf")]), REFUSED),
    (NARROW, pa.array([Decimal("100.00")]), REFUSED),
    (MILLIS, pa.array([1_700_000_000_000_000_000], pa.timestamp("ns")), 1_700_000_000_000),
    (MILLIS, pa.array([1_700_000_000_000_000_001], pa.timestamp("ns", "UTC")), REFUSED),
    (MILLIS, pa.array([1_700_000_000_000_001], pa.timestamp("us")), REFUSED),
    (NANOS, pa.array([1_700_000_000_000_000_001], pa.timestamp("ns", "UTC")), 1_700_000_000_000_000_001),
    (NANOS, pa.array([FAR], pa.timestamp("ms", "UTC")), REFUSED),
    (MILLIS, pa.array([FAR], pa.timestamp("ms", "UTC")), FAR),
    (MILLIS, pa.array([dt.date(2023, 11, 14)]), REFUSED),
    (MILLIS, pa.array([1_700_000_000_000]), 1_700_000_000_000),
    (LOCAL, pa.array([5], pa.timestamp("ms")), 5),
    (LOCAL, pa.array([5], pa.timestamp("ms", "UTC")), REFUSED),
    (DATE, pa.array([dt.date(2023, 11, 14)]), 19675),
    (DATE, pa.array([5], pa.timestamp("ms")), REFUSED),
    (TIME, pa.array([dt.time(3, 4, 5, 6000)]), 11_045_006),
    (TIME, pa.array([dt.time(3, 4, 5, 6001)]), REFUSED),
    (["null", DATE, MILLIS], pa.array([dt.date(2023, 11, 14)]), 19675),
    (["null", "long", DATE], pa.array([20000]), 20000),
    (["null", "int"], pa.array([None], pa.int32()), None),
    (["null", "int"], pa.array([None], pa.null()), None),
    ({"type": "array", "items": "double"}, pa.array([[1.5, 2.5]]), [1.5, 2.5]),
    ({"type": "array", "items": "int"}, pa.array([[1, None]]), REFUSED),
    ({"type": "map", "values": "int"}, pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())), {"k": 1}),
    ({"type": "map", "values": "int"}, pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int32())), REFUSED),
    ("string", pa.array([{"a": 1}]), REFUSED),
]


@pytest.mark.parametrize("beside_bytes", [False, True])
@pytest.mark.parametrize(("kind", "column", "expected"), PARQUET_RULES, ids=range(len(PARQUET_RULES)))
def test_parquet(tmp_path: Path, kind: Any, column: pa.Array, expected: Any, beside_bytes: bool) -> None:
    found = read(schema_of(kind, beside_bytes=beside_bytes), parquet_file(tmp_path, column))
    assert found == expected or (expected == "nan" and found != found)  # noqa: PLR0124


AVRO_RULES: list[tuple[Any, Any, Any, Any]] = [
    # container's type, physical value in it, field's type, what is written
    (MICROS, 1_700_000_000_000_001, MILLIS, REFUSED),
    (MICROS, 1_700_000_000_001_000, MILLIS, 1_700_000_000_001),
    (MILLIS, FAR, MILLIS, FAR),
    (MILLIS, -(2**63), MILLIS, -(2**63)),
    (MILLIS, FAR, MICROS, FAR * 1000),
    (NANOS, 7, NANOS, 7),
    (DATE, 2**31 - 1, DATE, 2**31 - 1),
    (LOCAL, 5, LOCAL, 5),
    (TIME, 90_000_000, TIME, 90_000_000),
    (["null", DATE, MILLIS], 20_000, ["null", DATE, MILLIS], 20_000),
    (["null", MILLIS, DATE], 20_000, ["null", MILLIS, DATE], 20_000),
    (["null", "int", "long"], 2**40, ["null", "int", "long"], 2**40),
    (DECIMAL, b"\x01" * 10, DECIMAL, REFUSED),  # more than 20 digits
    (DECIMAL, b"\x6e", WIDE, b"\x6e"),
    ("bytes", b"\xff", "bytes", b"\xff"),
    ("long", 2**53 + 1, "double", REFUSED),
    ("double", 0.5, "float", 0.5),
    ("float", 0.1, DECIMAL, b"\x0a"),
    ("bytes", b"\x0a", DECIMAL, REFUSED),
    ("string", "\U0001f600", "string", "\U0001f600"),
]


@pytest.mark.parametrize(("wrote", "value", "kind", "expected"), AVRO_RULES)
def test_avro_container(tmp_path: Path, wrote: Any, value: Any, kind: Any, expected: Any) -> None:
    path = tmp_path / "f.avro"
    with path.open("wb") as file:  # fastavro writes an int as it is where the schema has a time
        fastavro.writer(file, fastavro.parse_schema(json.loads(schema_of(wrote).text)), [{"x": value}])
    assert read(schema_of(kind), path) == expected


CARD = {"type": "record", "name": "n.Card", "fields": [{"name": "v", "type": "int"}]}
BRANCHES = ["null", CARD, CARD | {"name": "n.Bank"}]


def test_a_container_keeps_the_branch_of_a_union(tmp_path: Path) -> None:
    schema, path = schema_of(BRANCHES), tmp_path / "f.avro"
    with path.open("wb") as file:
        rows = [{"x": (name, {"v": 1})} for name in ("n.Card", "n.Bank")]
        fastavro.writer(file, fastavro.parse_schema(json.loads(schema.text)), rows)
    (values,) = EventFile(path, schema).values()
    assert [value[10] for value in values] == [2, 4]  # the numbers of the branches, zig-zag, after the frame


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (["null", "double"], '{"double": 1.5}', 1.5),
        (["null", "double"], '{"double": "NaN"}', "nan"),
        (["null", "string"], '{"string": "a"}', "a"),
        (["null", "bytes"], '{"bytes": "\\u00ff"}', b"\xff"),
        (["null", ENUM], '{"E": "a"}', "a"),
        (["null", DATE, MILLIS], '{"long": 20000}', 20000),
        (["null", DECIMAL], '{"bytes": "\\u0004\\u00d2"}', b"\x04\xd2"),
        (["null", {"type": "array", "items": "int"}], '{"array": [1]}', [1]),
        (["null", {"type": "map", "values": ["null", "int"]}], '{"map": {"k": {"int": 1}}}', {"k": 1}),
        (BRANCHES, '{"n.Bank": {"v": 1}}', {"v": 1}),
        (["null", "double"], '{"double": 1e400}', REFUSED),
        (["null", "double"], '{"float": 1.5}', REFUSED),
        (["null", "double"], '{"double": null}', REFUSED),
        (DECIMAL, '"\\u0004\\u00d2"', b"\x04\xd2"),
        (DECIMAL, '"25"', REFUSED),  # 25, or 128.53: the file does not tell
        (NARROW, '"25.0"', b"\x09\xc4"),  # 843,394,864 would be too long
        (DECIMAL, "25", b"\x09\xc4"),
    ],
)
def test_the_avro_json_encoding_is_found_out(tmp_path: Path, kind: Any, text: str, expected: Any) -> None:
    found = read(schema_of(kind), json_file(tmp_path, text))
    assert found == expected or (expected == "nan" and found != found)  # noqa: PLR0124


def test_one_line_tells_how_all_are_written(tmp_path: Path) -> None:
    fields = [{"name": "x", "type": DECIMAL}, {"name": "y", "type": ["null", "int"]}]
    schema = parse_schema(json.dumps({"type": "record", "name": "R", "fields": fields}), file="r.avsc")
    path = tmp_path / "f.jsonl"
    for last, expected in (('{"x": "25", "y": {"int": 1}}', b"25"), ('{"x": "25", "y": 1}', b"\x09\xc4")):
        path.write_text('{"x": "25", "y": null}\n' + last + "\n")
        values = [value for some in EventFile(path, schema).values() for value in some]
        records: Any = decode_records(directory(physical(schema)), values)
        assert [record["x"] for record in records] == [expected, expected]


def test_what_two_encodings_read_differently_is_said(tmp_path: Path) -> None:
    path = json_file(tmp_path, '"25"')
    with pytest.raises(MuseError, match=r"f\.jsonl:1: .*say --json-encoding plain, or avro"):
        list(EventFile(path, schema_of(DECIMAL)).values())
    assert read(schema_of(DECIMAL), path, encoding="avro") == b"25"
    assert read(schema_of(DECIMAL), path, encoding="plain") == b"\x09\xc4"
