"""Files of events become framed events; results become files."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muse_stream.errors import MuseError, SchemaError
from muse_stream.wire import EventFile, ResultFile, Schema, decode_records
from tests.wire.avro_data import directory, schema_of
from tests.wire.test_encode import SCORE, score_columns

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
