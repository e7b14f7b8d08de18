"""Files of events become framed events; results become files."""

import datetime as dt
import json
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muse_stream.avro import Schema, decode_records, varint
from muse_stream.avro.samples import counted
from muse_stream.errors import MuseError, SchemaError
from muse_stream.files import EventFile, InvalidRow, ResultFile
from tests.avro.avro_data import directory, schema_of
from tests.avro.test_encoder import SCORE, score_columns

CUSTOMER = {
    "type": "record",
    "name": "Customer",
    "fields": [{"name": "id", "type": "string"}, {"name": "age", "type": ["null", "int"], "default": None}],
}
EVENT = schema_of(
    ("id", "string"),
    ("at", {"type": "long", "logicalType": "timestamp-millis"}),
    ("amount", "double"),
    ("customer", CUSTOMER),
    ("kind", {"type": "enum", "name": "Kind", "symbols": ["pos", "web"]}, "pos"),
)
AT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
ROWS: list[dict[str, Any]] = [
    {
        "id": f"e{row}",
        "at": AT + dt.timedelta(seconds=row),
        "amount": row / 4,
        "customer": {"id": f"c{row % 2}", "age": None if row % 3 else row},
        "kind": "web",
    }
    for row in range(7)
]


def write(folder: Path, kind: str, rows: list[dict[str, Any]] = ROWS, schema: Schema = EVENT) -> Path:
    path = folder / f"events.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "avro":
        with path.open("wb") as file:
            fastavro.writer(file, fastavro.parse_schema(json.loads(schema.text)), rows)
    else:
        path.write_text("".join(json.dumps(row, default=dt.datetime.isoformat) + "\n" for row in rows))
    return path


def read_back(schema: Schema, file: EventFile, chunk: int = 3) -> list[Any]:
    return [record for values in file.values(chunk) for record in decode_records(directory(schema), values)]


@pytest.mark.parametrize("kind", ["parquet", "avro", "jsonl"])
def test_every_kind_of_file_gives_the_same_events(tmp_path: Path, kind: str) -> None:
    file = EventFile(write(tmp_path, kind), EVENT)
    assert read_back(EVENT, file) == ROWS
    assert file.rows == (7 if kind == "parquet" else None)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_flat_columns_stand_for_nested_fields_and_may_have_other_names(tmp_path: Path, kind: str) -> None:
    rows = [
        {"TX": row["id"], "when": row["at"], "amount": row["amount"], "customer.id": row["customer"]["id"], "AGE": 4}
        for row in ROWS
    ]
    names = {"id": "TX", "at": "when", "customer.age": "AGE"}
    found = read_back(EVENT, EventFile(write(tmp_path, kind, rows), EVENT, columns=names))
    assert found == [{**row, "customer": {"id": row["customer"]["id"], "age": 4}, "kind": "pos"} for row in ROWS]


@pytest.mark.parametrize("kind", ["parquet", "avro", "jsonl"])
def test_chunks_have_keys_and_times(tmp_path: Path, kind: str) -> None:
    chunks = list(EventFile(write(tmp_path, kind), EVENT).chunks("customer.id", "at", 4))
    assert [len(chunk.values) for chunk in chunks] == [4, 3]
    assert chunks[1].keys() == [b"c0", b"c1", b"c0"]
    assert chunks[0].times is not None and chunks[0].times[1] == AT.timestamp() * 1000 + 1000


@pytest.mark.parametrize("kind", ["parquet", "avro", "jsonl"])
def test_decimals_and_mixed_unions_go_row_by_row(tmp_path: Path, kind: str) -> None:
    schema = schema_of(
        ("id", "string"),
        ("price", {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}),
        ("tags", {"type": "map", "values": "string"}),
        ("odd", ["null", "long", "string"]),
    )
    odd: list[Any] = [1, None] if kind == "parquet" else [1, "one"]
    price = 1.25 if kind == "jsonl" else Decimal("1.25")
    rows = [{"id": str(i), "price": price, "tags": {"a": "b"}, "odd": odd[i]} for i in (0, 1)]
    found = read_back(schema, EventFile(write(tmp_path, kind, rows, schema), schema))
    assert [(row["price"], row["tags"], row["odd"]) for row in found] == [(Decimal("1.25"), {"a": "b"}, o) for o in odd]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"amount": "many"}, "amount"),
        ({"amount": None}, "amount"),
        ({"at": 1.5}, "at"),
        ({"customer": {"age": 1}}, "customer.id"),
        ({"kind": "phone"}, "kind"),
        ({"customer": {"id": "c", "age": 2**31}}, "customer.age"),
    ],
)
def test_a_value_of_the_wrong_kind_names_file_and_field(
    tmp_path: Path, kind: str, change: dict[str, Any], said: str
) -> None:
    path = write(tmp_path, kind, [{**row, **change} for row in ROWS])
    with pytest.raises(SchemaError) as caught:
        list(EventFile(path, EVENT).values())
    assert said in str(caught.value) and path.name in str(caught.value)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, kind: str) -> None:
    rows = [{name: value for name, value in row.items() if name != "amount"} for row in ROWS]
    with pytest.raises(SchemaError, match=r"amount.*(has|is) id, at, customer, kind"):
        list(EventFile(write(tmp_path, kind, rows), EVENT).values())


def test_a_line_that_is_no_json_and_a_file_that_is_no_parquet_are_refused(tmp_path: Path) -> None:
    for name in ("bad.jsonl", "bad.parquet", "bad.avro"):
        (tmp_path / name).write_text("{nonsense\n")
        with pytest.raises(MuseError, match=name):
            list(EventFile(tmp_path / name, EVENT).values())


def test_unknown_kinds_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MuseError, match=r"expected one of \.parquet"):
        EventFile(tmp_path / "events.csv", EVENT)
    with pytest.raises(MuseError, match="no such file"):
        EventFile(tmp_path / "events.parquet", EVENT)
    with pytest.raises(MuseError, match="unknown kind of file"):
        ResultFile(tmp_path / "scores.jsonl", SCORE)


@pytest.mark.parametrize("kind", ["parquet", "avro"])
def test_results_are_written_piece_by_piece(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out" / f"scores.{kind}"
    with ResultFile(path, SCORE) as out:
        for rows in (3, 0, 2):
            out.write(score_columns(rows), rows)
    if kind == "parquet":
        table = pq.read_table(path)
        assert table.schema.field("event_time").type == pa.timestamp("ms", "UTC")
        records = table.to_pylist()
    else:
        with path.open("rb") as file:
            records = list(fastavro.reader(file))
    assert [record["event_id"] for record in records] == ["e0", "e1", "e2", "e0", "e1"]
    assert records[4]["event_time"].timestamp() == 1_700_000_000.001


@pytest.mark.parametrize("kind", ["parquet", "avro"])
def test_results_that_fail_leave_what_stood_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"scores.{kind}"
    path.write_text("last week's")
    with pytest.raises(KeyError), ResultFile(path, SCORE) as out:
        out.write(score_columns(3), 3)
        raise KeyError
    assert path.read_text() == "last week's"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_results_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MuseError, match="cannot be written"), ResultFile(tmp_path / "file" / "scores.avro", SCORE):
        pass
    (tmp_path / "folder.avro").mkdir()
    with pytest.raises(MuseError, match="cannot be written"), ResultFile(tmp_path / "folder.avro", SCORE):
        pass


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_columns_for_fields_that_do_not_exist_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SchemaError, match=r"no field 'customer\.agee'"):
        EventFile(write(tmp_path, kind), EVENT, columns={"customer.agee": "amount"})


def test_a_column_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    # its field has a default, so nothing else would say that `AGE` was misspelt
    flat = [{"id": row["id"], "at": row["at"], "amount": 1.0, "customer.id": "c", "AGE": 4} for row in ROWS]
    with pytest.raises(SchemaError, match=r"no column 'AGEE' for the field customer\.age; there is id, .*AGE"):
        list(EventFile(write(tmp_path, "parquet", flat), EVENT, columns={"customer.age": "AGEE"}).values())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[" * 100_000, r"events.jsonl:2: not an event: nested too deep"),
        ('{"id": ', r"events.jsonl:2: not JSON"),
        ("[1]", "jsonl:2: the row: .* is not a record"),
        (
            '{"id": "e", "at": 1, "amount": 1%s, "customer": {"id": "c"}}' % ("0" * 400),
            "jsonl:2: amount: .* is not double",
        ),
        ('{"id": "e", "at": 1, "amount": 1, "customer": null, "customer.age": 4}', r"jsonl:2: customer\.id: missing"),
        ('{"id": "e", "at": 1, "amount": 1, "customer": "c", "customer.age": 4}', r"jsonl:2: customer: is given as"),
        (
            '{"id": "e", "at": 1, "amount": 1, "customer": {"id": "c"}, "kind": "x"}',
            "jsonl:2: kind: 'x' is none of pos, web",
        ),
    ],
)
def test_a_strange_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path, "jsonl", ROWS[:1])
    path.write_text("\ufeff" + path.read_text() + line + "\n")  # the mark that Windows' tools put before a text
    with pytest.raises(MuseError, match=said):
        list(EventFile(path, EVENT).values())


@pytest.mark.parametrize(
    "text",
    [
        '{{"id": "a",\n "n": 1}}\n{0}',
        '[{{"id": "a",\n "n": 1}},\n{0}]\n',
        '[{{"id": "a", "n": 1}},\n\n{0}\n]',
        '{{"id": "a", "n": 1}}\n\n{0}\n',
    ],
)
def test_a_json_document_over_several_lines_is_events_too(tmp_path: Path, text: str) -> None:
    schema = schema_of(("id", "string"), ("n", "double"))
    path = tmp_path / "event.json"
    path.write_text("\ufeff" + text.format('{"id": "b", "n": 2}'))
    assert read_back(schema, EventFile(path, schema)) == [{"id": "a", "n": 1.0}, {"id": "b", "n": 2.0}]
    path.write_text(text.format('{"id": "b", "n": "2"}'))
    with pytest.raises(SchemaError, match=r"event\.json:[23]: n: '2' is not double"):
        list(EventFile(path, schema).values())
    path.rename(tmp_path / "event.jsonl")
    if "\n " in text or text.startswith("["):
        with pytest.raises(MuseError, match=r"event\.jsonl:1: "):
            list(EventFile(tmp_path / "event.jsonl", schema).values())


@pytest.mark.parametrize(
    "text", ['[{"id": "a"}', '[{"id": "a"},\n', "[", '[{"id": "a"}] {"id": "b"}', '[{"id": "a"}]]']
)
def test_a_part_of_a_json_array_is_not_taken_for_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "event.json"
    path.write_text(text)
    with pytest.raises(MuseError, match=r"event\.json:1: "):
        list(EventFile(path, schema_of(("id", "string"))).values())


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "avro"])
def test_a_row_that_makes_too_large_an_event_is_given_as_it_stands(tmp_path: Path, kind: str) -> None:
    rows = [{"id": "a", "text": "b"}, {"id": "c", "text": "d" * 100}, {"id": "e", "text": "f"}]
    schema = schema_of(("id", "string"), ("text", "string"))
    path = write(tmp_path, kind, rows, schema)
    refused: list[InvalidRow] = []
    (events,) = EventFile(path, schema, most_bytes=50).events(invalid=refused.append)
    assert (len(events.values), list(events.rows)) == (2, [1, 3])
    assert [json.loads(one.to_json())["event"] for one in refused] == rows[1:2]  # so that no row is lost
    assert (refused[0].row, "an event of 114 bytes" in refused[0].reason) == (2, True)


def container(codec: str, packed: bytes, schema: Schema) -> bytes:
    """An Avro container of one block of two records."""
    meta = [("avro.codec", codec.encode()), ("avro.schema", schema.text.encode())]
    entries = b"".join(counted(name.encode()) + counted(value) for name, value in meta)
    head = b"Obj\x01" + varint(len(meta)) + entries + varint(0) + b"s" * 16
    return head + varint(2) + counted(packed) + b"s" * 16


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz", "snappy", "zstandard"])
def test_containers_of_every_codec_that_java_writes_are_read(tmp_path: Path, codec: str) -> None:
    schema = schema_of(("id", "string"), ("n", "long"))
    rows: list[dict[str, Any]] = [{"id": "a" * 5000, "n": 1}, {"id": "b", "n": 2}]
    plain = b"".join(counted(row["id"].encode()) + varint(row["n"]) for row in rows)
    path = tmp_path / "f.avro"
    if codec in ("snappy", "zstandard"):
        packed = pa.compress(plain, codec="zstd" if codec == "zstandard" else codec, asbytes=True)
        packed += zlib.crc32(plain).to_bytes(4, "big") if codec == "snappy" else b""
        path.write_bytes(container(codec, packed, schema))
    else:
        with path.open("wb") as file:
            fastavro.writer(file, fastavro.parse_schema(json.loads(schema.text)), rows, codec=codec)
    assert read_back(schema, EventFile(path, schema)) == rows
    if codec in ("snappy", "zstandard"):
        for spoilt in (
            packed[:-1] + bytes([packed[-1] ^ 1]),
            packed[:10],
            b"\xff" * 40,
            b"\x80\x80\x80\x80\x0fabcd",
            b"",
        ):
            path.write_bytes(container(codec, spoilt, schema))
            with pytest.raises(MuseError, match="cannot be read after row"):
                list(EventFile(path, schema).values())


def test_a_branch_is_found_by_its_short_name_in_another_namespace(tmp_path: Path) -> None:
    def of(namespace: str) -> Schema:
        names = [f"{namespace}.Card", f"{namespace}.Bank"]
        kinds = [{"type": "record", "name": name, "fields": [{"name": "n", "type": "int"}]} for name in names]
        return schema_of(("x", ["null", *kinds]))

    path = write(tmp_path, "avro", [{"x": ("theirs.Bank", {"n": 1})}], of("theirs"))
    (value,) = next(EventFile(path, of("ours")).values())
    assert value[10:] == varint(2) + varint(1)


def test_a_map_that_is_none_is_refused(tmp_path: Path) -> None:
    schema = schema_of(("id", "string"), ("tags", {"type": "map", "values": "int"}))
    with pytest.raises(SchemaError, match=r"tags: .* is not map"):
        list(EventFile(write(tmp_path, "jsonl", [{"id": "e", "tags": [1, 2]}]), schema).values())


def test_damaged_parquet_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[:20] + b"\xff" * 200 + whole[220:])
    with pytest.raises(MuseError, match="cannot be read"):
        list(EventFile(path, EVENT).values())
    path.write_bytes(b"PAR1")
    with pytest.raises(MuseError, match="not a Parquet file"):
        _ = EventFile(path, EVENT).rows
