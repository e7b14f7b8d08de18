"""The schema directory: what it finds, and what it says when it does not."""

import json
from pathlib import Path

import pytest

from muse_stream.avro import SchemaDirectory, parse_schema
from muse_stream.errors import SchemaError

PROJECT_SCHEMAS = Path(__file__).parents[2] / "schemas"
EVENT = {"type": "record", "name": "shop.Event", "fields": [{"name": "id", "type": "string"}]}


def write(folder: Path, **files: object) -> Path:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_the_fingerprint_is_the_specifications() -> None:
    # Avro's own test vectors (share/test/data/schema-tests.txt) give CRC-64-AVRO as a signed long
    schema = parse_schema('{"type":"record","name":"foo","fields":[{"name":"f1","type":"boolean"}]}')
    assert int.from_bytes(schema.fingerprint, "little", signed=True) == 7843277075252814651


def test_schemas_are_found_by_id_by_fingerprint_and_by_file(tmp_path: Path) -> None:
    folder = SchemaDirectory.open(write(tmp_path, event__avsc=EVENT, ids__json={"7": "event.avsc", "9": "event.avsc"}))
    schema = folder.by_file("event.avsc")
    assert (schema.name, schema.id, folder.files()) == ("shop.Event", 7, ("event.avsc",))
    assert folder.by_id(7) is folder.by_id(9) is folder.by_fingerprint(schema.fingerprint) is schema


def test_the_projects_own_schemas_open() -> None:
    folder = SchemaDirectory.open(PROJECT_SCHEMAS)
    assert set(folder.files()) == {"audit.avsc", "event.avsc", "score.avsc"}
    assert folder.by_id(2) is folder.by_file("score.avsc")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no *.avsc"),
        ({"a__avsc": "{"}, "a.avsc: not JSON"),
        ({"a__avsc": {"type": "record", "name": "A"}}, "a.avsc: not an Avro schema"),
        ({"a__avsc": {**EVENT, "fields": [{"name": "id", "type": "strnig"}]}}, "strnig"),
        ({"a__avsc": '"string"'}, "must be a record"),
        ({"a__avsc": EVENT, "ids__json": {"1": "b.avsc"}}, "b.avsc is not in the folder; it holds a.avsc"),
        ({"a__avsc": EVENT, "ids__json": {"one": "a.avsc"}}, "ids.json: expected"),
        ({"a__avsc": EVENT, "ids__json": {"1": 1}}, "the name of a file"),
        (
            {"a__avsc": {**EVENT, "fields": [{"name": "next", "type": ["null", "shop.Event"]}]}},
            "recursive schemas are not supported",
        ),
        (
            {"a__avsc": {**EVENT, "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}]}},
            "its length has no bound",
        ),
    ],
)
def test_a_folder_is_refused_with_the_file_and_what_is_wrong(
    tmp_path: Path, files: dict[str, object], said: str
) -> None:
    with pytest.raises(SchemaError) as caught:
        SchemaDirectory.open(write(tmp_path, **files))
    assert said in str(caught.value)


def nested(levels: int) -> object:
    """A record in a record in a record."""
    inner = nested(levels - 1) if levels else "int"
    return {"type": "record", "name": f"R{levels}", "fields": [{"name": "x", "type": inner}]}


def doubled(names: int) -> object:
    """Each record has two of the one before it: as many types as 2 to the power of its number."""
    kinds: list[object] = [{"type": "record", "name": "D0", "fields": [{"name": "x", "type": "int"}]}]
    for number in range(1, names):
        fields = [{"name": "a", "type": f"D{number - 1}"}, {"name": "b", "type": f"D{number - 1}"}]
        kinds.append({"type": "record", "name": f"D{number}", "fields": fields})
    return {**EVENT, "fields": [{"name": f"f{index}", "type": kind} for index, kind in enumerate(kinds)]}


BRACKETS = '{"type": "record", "name": "E", "fields": [{"name": "x", "type": "int", "doc": ' + "[" * 99_999
FIXED = {"type": "fixed", "name": "F"}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 2000}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (nested(100), "nest more than 64 deep"),
        (BRACKETS + "]" * 99_999 + "}]}", "nest more than 64 deep"),
        (doubled(40), "more than 20,000 types"),
        ({**FIXED, "size": -5}, "the size of F is -5; a number from 0"),
        ({**FIXED, "size": "a"}, "the size of F is 'a'"),
        ({**FIXED, "size": 2**50}, "the size of F is"),
        ({**DECIMAL, "scale": 1999}, "a decimal's scale of 1999; 0 to 1000"),
        ({"type": "enum", "name": "K", "symbols": []}, "the enum K has no symbols"),
        ([], "a union has no types"),
        (["null", ["int"]], "a union is directly in a union"),
        (["int", "int"], "a union has 'int' twice"),
        (["null", {"type": "int", "logicalType": "date"}, "int"], "a union has 'int' twice"),
        ([{"type": "array", "items": "int"}, {"type": "array", "items": "long"}], "a union has 'array' twice"),
        ({"type": "array", "items": {**FIXED, "size": 0}}, "its length has no bound"),
        ('{"type": "record", "name": "E", "fields": [{"name": "\\ud800", "type": "int"}]}', "half a surrogate pair"),
        ('{"type": "record", "name": "E", "fields": [{"name": "a\\"b", "type": "int"}]}', "is not a name"),
        ({**EVENT, "fields": [{"name": "x", "type": "int"}, {"name": "x", "type": "long"}]}, "two fields 'x'"),
    ],
)
def test_what_no_decoder_can_be_given_is_refused_at_once(document: object, said: str) -> None:
    record = isinstance(document, dict) and document["type"] == "record"
    text = document if isinstance(document, str) else json.dumps(document)
    if not record and not isinstance(document, str):
        text = json.dumps({**EVENT, "fields": [{"name": "x", "type": document}]})
    with pytest.raises(SchemaError) as caught:
        parse_schema(text, file="a.avsc")
    assert str(caught.value).startswith("a.avsc: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("long", 2**63),
        ("int", 2**31),
        ("int", True),
        ("double", "1.5"),
        ("boolean", 1),
        ({"type": "bytes"}, "\u0100"),
        ({**FIXED, "size": 2}, "a"),
        ({"type": "array", "items": "int"}, ["a"]),
        ({"type": "map", "values": "long"}, {"a": None}),
        ({"type": "record", "name": "S", "fields": [{"name": "y", "type": "int"}]}, {}),
        ({"type": "record", "name": "S", "fields": [{"name": "y", "type": "int"}]}, {"y": "z"}),
        (["null", "int"], "a"),
    ],
)
def test_a_default_of_another_type_is_refused_before_a_record_needs_it(kind: object, default: object) -> None:
    with pytest.raises(SchemaError, match=r"[Dd]efault"):
        parse_schema(json.dumps({**EVENT, "fields": [{"name": "x", "type": kind, "default": default}]}))


def test_a_logical_type_that_fits_no_such_type_is_ignored_as_avro_wants_it() -> None:
    odd = ({"type": "long", "logicalType": "date"}, {"type": "string", "logicalType": "decimal", "precision": 4})
    for kind in (*odd, {"type": "int", "logicalType": ["date"]}):
        (field,) = parse_schema(json.dumps({**EVENT, "fields": [{"name": "x", "type": kind}]})).type.fields
        assert field.type.logical is None


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="no such folder"):
        SchemaDirectory.open(tmp_path / "gone")


def test_what_is_not_there_is_said_with_what_is(tmp_path: Path) -> None:
    folder = SchemaDirectory.open(write(tmp_path, event__avsc=EVENT, ids__json={"7": "event.avsc"}))
    with pytest.raises(SchemaError, match="it has 7"):
        folder.by_id(8)
    with pytest.raises(SchemaError, match=r"it has event\.avsc"):
        folder.by_file("evnt.avsc")
    with pytest.raises(SchemaError, match="0102030405060708"):
        folder.by_fingerprint(bytes(range(1, 9)))


def test_one_fingerprint_for_two_meanings_is_refused_where_it_matters(tmp_path: Path) -> None:
    stamp = {"type": "long", "logicalType": "timestamp-millis"}
    plain, timed = ({**EVENT, "fields": [{"name": "at", "type": kind}]} for kind in ("long", stamp))
    folder = SchemaDirectory.open(
        write(tmp_path, a__avsc=plain, b__avsc=timed, ids__json={"1": "a.avsc", "2": "b.avsc"})
    )
    assert folder.by_id(1) is not folder.by_id(2)
    with pytest.raises(SchemaError, match=r"a\.avsc, b\.avsc have one fingerprint"):
        folder.by_fingerprint(folder.by_id(1).fingerprint)


def test_names_are_followed_with_namespaces() -> None:
    schema = parse_schema(
        json.dumps(
            {
                "type": "record",
                "name": "Event",
                "namespace": "shop",
                "fields": [
                    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
                    {"name": "other", "type": "Kind"},
                    {"name": "third", "type": "shop.Kind"},
                ],
            }
        )
    )
    assert [field.type.symbols for field in schema.type.fields] == [("A", "B")] * 3
