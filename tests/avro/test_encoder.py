"""Columns to Kafka values, checked against fastavro."""

import io
import json
from dataclasses import replace
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_stream.avro import Encoder, Schema, SchemaDirectory, decode_records, nullable, record_lists, string_maps
from muse_stream.avro.encoder import FEW
from muse_stream.errors import SchemaError
from muse_stream.scoring.columns import Categorical
from tests.avro.avro_data import directory, schema_of
from tests.avro.test_schemas import PROJECT_SCHEMAS

FOLDER = SchemaDirectory.open(PROJECT_SCHEMAS)
SCORE, AUDIT, EVENT = (FOLDER.by_file(f"{name}.avsc") for name in ("score", "audit", "event"))


def by_fastavro(schema: Schema, value: bytes, skip: int = 10) -> Any:
    stream = io.BytesIO(value[skip:])
    record = fastavro.schemaless_reader(stream, fastavro.parse_schema(json.loads(schema.text)), None)
    assert stream.read() == b"", "nothing stands after the record"
    return record


def score_columns(rows: int) -> dict[str, Any]:
    return {
        "event_id": pa.array([f"e{row}" for row in range(rows)]),
        "tenant": Categorical(("acme", "globex"), np.arange(rows, dtype=np.int32) % 2),
        "predictor": "cards",
        "predictor_version": 3,
        "score": np.linspace(0, 1, rows),
        "aggregate": np.linspace(0, 0.5, rows),
        "generation": 7,
        "event_time": np.arange(rows, dtype=np.int64) + 1_700_000_000_000,
        "scored_at": 1_700_000_000_500,
        "source_topic": "muse.events.acme",
        "source_partition": np.arange(rows, dtype=np.int64) % 4,
        "source_offset": list(range(rows)),
        "attempt": 1,
    }


def test_scores_are_what_fastavro_reads() -> None:
    encoder = Encoder(SCORE)
    assert encoder.batched
    values = encoder.encode(score_columns(300), 300)
    assert all(value.startswith(b"\xc3\x01" + SCORE.fingerprint) for value in values)
    records = [by_fastavro(SCORE, value) for value in values]
    assert [record["event_id"] for record in records] == [f"e{row}" for row in range(300)]
    assert [record["tenant"] for record in records[:3]] == ["acme", "globex", "acme"]
    assert [record["score"] for record in records] == np.linspace(0, 1, 300).tolist()
    assert (
        records[5]["source_partition"] == 1 and records[5]["source_offset"] == 5 and records[5]["predictor"] == "cards"
    )
    assert records[5]["event_time"].timestamp() == 1_700_000_000.005
    assert decode_records(FOLDER, values)[5] == records[5]


def test_audits_carry_experts_intent_and_nulls() -> None:
    columns = score_columns(3) | {
        "intent": string_maps({"channel": Categorical(("pos", None), np.array([0, 1, -1], dtype=np.int32))}, 3),
        "score": nullable(np.array([0.5, np.nan, 0.25])),
        "aggregate": [0.1, None, 0.2],
        "error": [None, "it raised", None],
        "experts": record_lists(["a", "b"], {"raw": [np.arange(3.0), np.ones(3)], "corrected": [np.zeros(3)] * 2}, 3),
        "live_predictor": "cards",
        "live_predictor_version": 2,
        "live_score": np.arange(3.0),
        "live_aggregate": 0.5,
    }
    encoder = Encoder(AUDIT)
    assert encoder.batched
    first, second, third = (by_fastavro(AUDIT, value) for value in encoder.encode(columns, 3))
    assert (first["intent"], second["intent"], third["intent"]) == ({"channel": "pos"}, {}, {})
    assert (second["score"], second["error"], third["score"]) == (None, "it raised", 0.25)
    assert third["experts"] == [
        {"name": "a", "raw": 2.0, "corrected": 0.0},
        {"name": "b", "raw": 1.0, "corrected": 0.0},
    ]


@pytest.mark.parametrize("number", [1, 2**31 - 1, 0x0001A07F])
def test_any_frame_is_written_by_columns_bit_for_bit(number: int) -> None:
    """A frame is encoded as numbers: some of them are NaN, and a NaN may lose bits on its way."""
    encoder = Encoder(replace(SCORE, id=number), "confluent")
    assert encoder.batched
    assert {value[:5] for value in encoder.encode(score_columns(300), 300)} == {b"\0" + number.to_bytes(4, "big")}


@pytest.mark.parametrize("fingerprint", ["010000000000f07f", "ffffffffffffffff", "0000000000000080"])
def test_any_fingerprint_is_written_by_columns_bit_for_bit(fingerprint: str) -> None:
    encoder = Encoder(replace(SCORE, fingerprint=bytes.fromhex(fingerprint)))
    assert encoder.batched
    written = {value[:10] for value in encoder.encode(score_columns(300), 300)}
    assert written == {b"\xc3\x01" + bytes.fromhex(fingerprint)}


def test_the_confluent_frame() -> None:
    (value,) = Encoder(SCORE, "confluent").encode(score_columns(1), 1)
    assert value[:5] == b"\x00\x00\x00\x00\x02"
    assert by_fastavro(SCORE, value, 5)["event_id"] == "e0"
    with pytest.raises(SchemaError, match=r"ids\.json"):
        Encoder(schema_of(("id", "string")), "confluent")


def test_no_rows_are_no_values() -> None:
    assert Encoder(SCORE).encode(score_columns(0), 0) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": "high"}, "score: "),
        ({"score": [0.1, None]}, "score is null in row 1"),
        ({"score": [0.1]}, "score has 1 values for 2 rows"),
        ({"source_partition": 2**31}, "source_partition: "),
        ({"source_partition": np.array([0, 2**40])}, "source_partition: "),
        ({"generation": np.array([0.5, 1.0])}, "generation: "),
        ({"colour": 1}, "has no field 'colour'"),
        ({"score": None}, "score is null in row 0"),
    ],
)
def test_what_does_not_fit_is_an_error_naming_the_field(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Encoder(SCORE).encode(score_columns(2) | change, 2)
    assert said in str(caught.value)


def test_a_missing_column_takes_the_default_or_is_an_error() -> None:
    schema = schema_of(("id", "string"), ("kind", "string", "none"), ("note", ["null", "string"], None))
    (value,) = Encoder(schema).encode({"id": ["a"]}, 1)
    assert by_fastavro(schema, value) == {"id": "a", "kind": "none", "note": None}
    with pytest.raises(SchemaError, match="no column 'id', which has no default"):
        Encoder(schema).encode({}, 1)


def test_times_are_written_in_the_schemas_unit() -> None:
    micros = schema_of(("id", "string"), ("at", {"type": "long", "logicalType": "timestamp-micros"}))
    at = pa.array([1_500], pa.timestamp("ms", "UTC"))
    (value,) = Encoder(micros).encode({"id": "a", "at": at}, 1)
    assert by_fastavro(micros, value)["at"].timestamp() == 1.5


def test_bytes_are_written_by_fastavro() -> None:
    schema = schema_of(("id", "string"), ("raw", "bytes"), ("fix", ["null", {"type": "fixed", "name": "F", "size": 2}]))
    encoder = Encoder(schema)
    assert not encoder.batched
    values = encoder.encode({"id": ["a", "b"], "raw": [b"\xff", b""], "fix": [b"12", None]}, 2)
    assert [by_fastavro(schema, value) for value in values] == [
        {"id": "a", "raw": b"\xff", "fix": b"12"},
        {"id": "b", "raw": b"", "fix": None},
    ]


def test_a_union_of_several_types_has_no_column() -> None:
    with pytest.raises(SchemaError, match=r"odd: a union of int\|string"):
        Encoder(schema_of(("id", "string"), ("odd", ["int", "string"])))


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text(max_size=8),
            "n": st.none() | st.integers(-(2**63), 2**63 - 1),
            "x": st.floats(allow_nan=False),
            "f": st.floats(width=32, allow_nan=False),
            "b": st.booleans(),
            "tags": st.lists(st.none() | st.text(max_size=3), max_size=3),
            "sub": st.none() | st.fixed_dictionaries({"i": st.integers(-(2**31), 2**31 - 1)}),
        }
    ),
    min_size=1,
    max_size=8,
)
MIXED = schema_of(
    ("id", "string"),
    ("n", ["null", "long"]),
    ("x", "double"),
    ("f", "float"),
    ("b", "boolean"),
    ("tags", {"type": "array", "items": ["null", "string"]}),
    ("sub", [{"type": "record", "name": "Sub", "fields": [{"name": "i", "type": "int"}]}, "null"]),
)


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_what_is_written_is_what_is_read(rows: list[dict[str, Any]]) -> None:
    encoder = Encoder(MIXED)
    assert encoder.batched
    values = encoder.encode({name: [row[name] for row in rows] for name in rows[0]}, len(rows))
    assert decode_records(directory(MIXED), values) == rows


@pytest.mark.parametrize(
    ("kind", "default", "means"),
    [
        ("double", "NaN", None),
        ("float", "-Infinity", float("-inf")),
        (["double", "null"], "Infinity", float("inf")),
        ("bytes", "\u00ff\u0000", b"\xff\x00"),
        ({"type": "fixed", "name": "F", "size": 2}, "\u00fea", b"\xfea"),
        ("double", 1, 1.0),
    ],
)
def test_a_default_that_json_spells_as_text_is_written_as_what_it_means(kind: Any, default: Any, means: Any) -> None:
    schema = schema_of(("id", "string"), ("x", kind, default))
    (value,) = Encoder(schema).encode({"id": ["a"]}, 1)
    (record,) = decode_records(directory(schema), [value])
    assert isinstance(record, dict)
    assert means == (None if record["x"] != record["x"] else record["x"])


def columns_of(rows: int) -> st.SearchStrategy[dict[str, Any]]:
    """Columns in every form that is written as it is, and in some that are converted or refused."""

    def filled(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        return st.lists(values, min_size=rows, max_size=rows)

    def numbers(values: st.SearchStrategy[Any], dtype: str) -> st.SearchStrategy[Any]:
        return filled(values).map(lambda found: np.array(found, dtype=dtype))

    longs, ints = st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1)
    texts = st.none() | st.text(max_size=4)
    coded = st.tuples(st.lists(texts, min_size=1, max_size=3), filled(st.integers(-1, 0)))
    column = st.one_of(
        coded.map(lambda made: Categorical(tuple(made[0]), np.array(made[1], dtype=np.int32))),
        filled(texts).map(lambda found: pa.array(found, pa.string())),
        numbers(longs, "int64"),
        numbers(ints, "int32"),
        numbers(st.floats(), "float64"),
        numbers(st.floats(width=32), "float32"),
        numbers(st.booleans(), "bool"),
        longs | st.integers(2**63, 2**64) | st.floats() | st.text(max_size=4) | st.booleans() | st.none(),
    )
    return st.fixed_dictionaries({field.name: column for field in PLAIN.type.fields})


PLAIN = schema_of(
    ("id", "string"),
    ("maybe", ["string", "null"]),
    ("n", "long"),
    ("i", ["null", "int"]),
    ("x", "double"),
    ("f", "float"),
    ("b", "boolean"),
)


@settings(max_examples=2 * settings().max_examples, deadline=None)
@given(st.integers(1, FEW + 1).flatmap(lambda rows: st.tuples(st.just(rows), columns_of(rows))), st.data())
def test_few_records_are_written_as_many_are(made: tuple[int, dict[str, Any]], data: st.DataObject) -> None:
    rows, columns = made
    encoder = Encoder(PLAIN)
    encoder.encode(
        {"id": "a", "maybe": "a", "n": 5, "i": 5, "x": 0.5, "f": 0.5, "b": True}, 1
    )  # by columns, as is the first
    for field in PLAIN.type.fields:  # so that not every example is refused for one of its columns
        if data.draw(st.integers(0, 4)):
            columns[field.name] = {"string": "a", "long": 5, "double": 0.5, "boolean": True}.get(
                field.type.options[0].kind,
                np.arange(rows, dtype=np.int32) if field.name == "i" else np.zeros(rows, "f4"),
            )
    try:
        expected = encoder.encode_batch(encoder.table(columns, rows))
    except SchemaError:
        with pytest.raises(SchemaError):
            encoder.encode(columns, rows)
    else:
        assert encoder.encode(columns, rows) == expected


@pytest.mark.parametrize(("field", "value"), [("i", 2**31), ("i", -(2**31) - 1), ("n", 2**63), ("id", None), ("b", 1)])
def test_a_value_that_does_not_fit_is_refused_in_few_records_too(field: str, value: Any) -> None:
    encoder = Encoder(PLAIN)
    columns: dict[str, Any] = {
        "id": "a",
        "maybe": "a",
        "n": 5,
        "i": 5,
        "x": 0.5,
        "f": np.zeros(1, "f4"),
        "b": np.ones(1, "?"),
    }
    encoder.encode(columns, 1)  # by columns, as is the first
    with pytest.raises(SchemaError, match=f": {field}"):
        encoder.encode(columns | {field: value}, 1)
