"""Made-up events: records of their schema in every case, and together every shape it allows at first sight."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_stream.avro import Decoder, Demands, Fields, made_up
from muse_stream.avro.codec import codec_for
from muse_stream.avro.framing import prefix_of
from muse_stream.avro.schemas import Schema
from muse_stream.errors import SchemaError
from tests.avro.avro_data import directory, schema_and_records, schema_of

INNER = {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": ["null", "int"]}]}
OTHER = {"type": "record", "name": "Other", "fields": [{"name": "y", "type": ["double", "null"]}]}
TERMINAL = {
    "type": "record",
    "name": "Terminal",
    "fields": [
        {"name": "risk", "type": ["null", "float", "double"]},
        {"name": "tags", "type": {"type": "array", "items": ["null", "string"]}},
        {"name": "inner", "type": ["null", INNER]},
    ],
}
RICH = schema_of(
    ("id", ["null", "string"]),
    ("terminal", ["null", TERMINAL]),
    ("kind", {"type": "enum", "name": "Kind", "symbols": ["A", "B", "C"]}),
    ("amount", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
    ("digest", {"type": "fixed", "name": "Digest", "size": 3}),
    ("ratios", {"type": "map", "values": ["null", "double"]}),
    ("either", ["null", "int", "string", OTHER]),
    ("nothing", "null"),
    ("at", {"type": "long", "logicalType": "timestamp-millis"}),
)


def records(schema: Schema, *paths: str, **demands: Any) -> list[dict[str, Any]]:
    """Made-up records as fastavro reads them, after the check that each ends where its bytes do."""
    values = made_up(schema, schema, paths, Demands(**demands))
    prefixes = [prefix_of(value) or b"" for value in values]
    return [codec_for(schema).record(value[len(prefix) :]) for value, prefix in zip(values, prefixes, strict=True)]


@settings(max_examples=60, deadline=None)
@given(schema_and_records(opaque=True))
def test_every_made_up_record_is_one_of_its_schema(drawn: tuple[Schema, list[dict[str, Any]]]) -> None:
    schema, _ = drawn
    assert len(records(schema)) >= 2
    assert all(record["id"] for record in records(schema))


def test_every_branch_is_taken_and_every_optional_part_is_left_out_once() -> None:
    found = records(RICH)
    terminals = [record["terminal"] for record in found]
    there = [terminal for terminal in terminals if terminal is not None]
    assert len(there) < len(terminals)
    assert {type(record["either"]) for record in found} == {type(None), int, str, dict}
    assert {record["either"]["y"] for record in found if isinstance(record["either"], dict)} >= {1.0, None}
    assert {terminal["risk"] for terminal in there} >= {None, 0.0, 1.0}
    tags = [terminal["tags"] for terminal in there]
    assert ([] in tags, [None] in tags, any(tag and tag[0] for tag in tags)) == (True, True, True)
    assert {terminal["inner"] is None for terminal in there} == {True, False}
    assert {terminal["inner"]["x"] for terminal in there if terminal["inner"]} >= {None, 0, 1}
    assert {record["kind"] for record in found} >= {"A", "B", "C"}
    ratios = [record["ratios"] for record in found]
    assert ({} in ratios, {"k": None} in ratios, {"k": 1.0} in ratios) == (True, True, True)


def test_what_must_be_present_is_there_beside_each_part_that_is_left_out() -> None:
    """An event without its id is refused before anything else of it is looked at."""
    found = records(RICH, "id", present=frozenset({"id"}))
    for left_out in ("terminal", "either"):
        assert {record["id"] is None for record in found if record[left_out] is None} == {True, False}


@pytest.mark.parametrize("kind", ["string", ["null", "string"], {"type": "enum", "name": "E", "symbols": ["z", "b"]}])
def test_text_is_taken_from_each_set_that_is_asked_for(kind: Any) -> None:
    schema = schema_of(("id", "string"), ("place", kind))
    found = records(schema, "place", texts={"place": (("a", "b"), ("z",))})
    texts = {record["place"] for record in found}
    assert texts >= ({"b", "z"} if isinstance(kind, dict) else {"a", "z"})


def test_a_field_is_found_under_its_writers_name() -> None:
    old = schema_of(("key", "string"), ("where", "string"), file="old.avsc")
    new = schema_of({"name": "id", "type": "string", "aliases": ["key"]}, ("place", "string", "?"))
    values = made_up(new, old, ("id", "place"), Demands(texts={"id": (("me",),), "place": (("here",),)}))
    decoded = Decoder(directory(new, old), new, Fields("id", columns=("place",))).decode(values)
    assert (set(decoded.ids.to_pylist()), decoded.rejected) == ({"me"}, ())
    assert set(decoded.columns["place"].to_list()) == {"?"}  # type: ignore[union-attr]


def test_the_schema_of_another_format_is_refused() -> None:
    with pytest.raises(SchemaError, match="Other"):
        made_up(schema_of(("id", "string")), schema_of(("id", "string"), name="Other"), ("id",), Demands())


@given(st.sampled_from([1, 200, 70_000]))
def test_long_texts_and_many_symbols_are_counted_right(length: int) -> None:
    symbols = [f"S{number}" for number in range(min(length, 300))]
    schema = schema_of(("id", "string"), ("kind", {"type": "enum", "name": "E", "symbols": symbols}))
    demands = {"id": (("x" * length,),), "kind": ((symbols[-1],),)}
    (one, *_) = records(schema, "id", "kind", texts=demands)
    assert one == {"id": "x" * length, "kind": symbols[-1]}
