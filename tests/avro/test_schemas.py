"""The schema directory: what it finds, and what it says when it does not."""

import json
from pathlib import Path

import pytest

from muse_stream.avro import SchemaDirectory, canonical_form, parse_schema
from muse_stream.avro.types import walk
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
    assert set(folder.files()) == {"audit.1.avsc", "audit.avsc", "event.avsc", "score.avsc"}
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


@pytest.mark.parametrize(
    "more",
    [
        {"precision": 2, "scale": 4},
        {"precision": 4, "scale": -2},
        {"precision": 0},
        {"precision": "4"},
        {"precision": 4, "scale": 1.5},
        {"precision": 9, "type": "fixed", "size": 1, "name": "F"},
    ],
)
@pytest.mark.parametrize("inside", ["field", "union", "array", "record"])
def test_a_decimal_that_is_none_is_ignored_as_avro_wants_it(more: dict[str, object], inside: str) -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", **more}
    record = {"type": "record", "name": "R", "fields": [{"name": "y", "type": decimal}]}
    kinds = {"union": ["null", decimal], "array": {"type": "array", "items": decimal}, "record": record}
    kind = kinds.get(inside, decimal)
    schema = parse_schema(json.dumps({**EVENT, "fields": [{"name": "x", "type": kind}]}))
    assert [one for _, one in walk(schema.type) if one.kind in ("bytes", "fixed")] != []
    assert all(one.logical is None for _, one in walk(schema.type))
    canonical_form(schema)  # fastavro takes it


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


MONEY = {
    "type": "record",
    "name": "Money",
    "namespace": "shop",
    "fields": [{"name": "amount", "type": "long"}, {"name": "currency", "type": "Currency"}],
}
CURRENCY = {"type": "enum", "name": "shop.Currency", "symbols": ["EUR", "USD"]}


def using(kind: object, **more: object) -> dict[str, object]:
    return {**EVENT, "fields": [{"name": "id", "type": "string"}, {"name": "x", "type": kind}], **more}


@pytest.mark.parametrize(
    ("kind", "inlined"),
    [
        ("shop.Currency", CURRENCY),
        ("Currency", CURRENCY),
        ({"type": "shop.Currency"}, CURRENCY),
        ({"type": CURRENCY}, CURRENCY),
        ({"type": ["null", "string"]}, ["null", "string"]),
        (["null", "Currency"], ["null", CURRENCY]),
        ({"type": "array", "items": "Currency"}, {"type": "array", "items": CURRENCY}),
        ({"type": "map", "values": "Currency"}, {"type": "map", "values": CURRENCY}),
        (
            "Money",
            {**MONEY, "fields": [{"name": "amount", "type": "long"}, {"name": "currency", "type": CURRENCY}]},
        ),
    ],
)
def test_types_of_other_files_are_found_and_the_schema_is_as_if_written_whole(
    tmp_path: Path, kind: object, inlined: object
) -> None:
    write(tmp_path, a__avsc=using(kind), money__avsc=MONEY, z__avsc=CURRENCY)
    schema = SchemaDirectory.open(tmp_path).by_file("a.avsc")
    whole = parse_schema(json.dumps(using(inlined)))
    assert (schema.fingerprint, schema.type) == (whole.fingerprint, whole.type)
    assert parse_schema(schema.text).fingerprint == schema.fingerprint, "its text can be used alone"


def test_a_type_used_twice_is_defined_once(tmp_path: Path) -> None:
    twice = {**EVENT, "fields": [{"name": "a", "type": "Currency"}, {"name": "b", "type": ["null", "Currency"]}]}
    schema = SchemaDirectory.open(write(tmp_path, a__avsc=twice, z__avsc=CURRENCY)).by_file("a.avsc")
    assert schema.text.count("symbols") == 1
    assert schema.type.fields[0].type == schema.type.fields[1].type.branches[1]


def test_a_type_without_a_namespace_keeps_none_inside_another(tmp_path: Path) -> None:
    plain = {"type": "enum", "name": "Plain", "symbols": ["A"]}
    holder = {"type": "record", "name": "Holder", "fields": [{"name": "p", "type": "Plain"}]}
    root = {"type": "record", "name": "Root", "fields": [{"name": "h", "type": "Holder"}]}
    folder = SchemaDirectory.open(write(tmp_path, r__avsc=root, h__avsc=holder, p__avsc=plain))
    holder_type = folder.by_file("r.avsc").type.fields[0].type
    assert (holder_type.full_name, holder_type.fields[0].type.full_name) == ("Holder", "Plain")


def test_files_that_name_each_other_contain_themselves(tmp_path: Path) -> None:
    one = {"type": "record", "name": "One", "fields": [{"name": "two", "type": ["null", "Two"]}]}
    two = {"type": "record", "name": "Two", "fields": [{"name": "one", "type": ["null", "One"]}]}
    folder = SchemaDirectory.open(write(tmp_path, one__avsc=one, two__avsc=two, e__avsc=EVENT))
    assert folder.files() == ("e.avsc",)
    assert all("contains itself" in why for why in folder.broken().values()) and len(folder.broken()) == 2


def test_a_type_that_two_files_define_differently_is_ambiguous_where_it_is_used(tmp_path: Path) -> None:
    other = {**CURRENCY, "symbols": ["EUR"]}
    write(tmp_path, a__avsc=using("Currency"), c__avsc=CURRENCY, d__avsc=other, e__avsc=EVENT | {"name": "shop.E"})
    folder = SchemaDirectory.open(tmp_path)
    with pytest.raises(SchemaError, match=r"a.avsc: uses shop.Currency, which c.avsc and d.avsc define"):
        folder.by_file("a.avsc")
    write(tmp_path, d__avsc={**CURRENCY, "doc": "the same, with words"})
    assert "a.avsc" in SchemaDirectory.open(tmp_path).files()


def test_a_file_of_its_own_comes_before_parts_of_others(tmp_path: Path) -> None:
    old = using({**CURRENCY, "symbols": ["FRF"]}, name="shop.Old")
    folder = SchemaDirectory.open(write(tmp_path, a__avsc=using("Currency"), b__avsc=old, c__avsc=CURRENCY))
    assert folder.by_file("a.avsc").type.fields[1].type.symbols == ("EUR", "USD")


@pytest.mark.parametrize(
    ("content", "broken"),
    [
        ('"string"', False),
        ('["null", "string"]', False),
        (json.dumps(CURRENCY), False),
        (json.dumps({"type": "fixed", "name": "F", "size": 3}), False),
        (json.dumps({"type": "array", "items": "string"}), False),
        ("{", True),
        ("", True),
        ("\udcff", True),
        ("7", True),
        ('{"type": "record", "name": 5, "fields": [3, {"type": []}]}', True),
        (json.dumps(using("shop.Nothing")), True),
        (json.dumps(using(["null", "shop.Event"])), True),
        ("[" * 1000 + "]" * 1000, True),
    ],
)
def test_a_file_that_is_not_asked_for_refuses_nobody(tmp_path: Path, content: str, broken: bool) -> None:
    write(tmp_path, event__avsc=EVENT, ids__json={"1": "other.avsc", "2": "event.avsc"})
    (tmp_path / "other.avsc").write_bytes(content.encode("utf-8", "surrogateescape"))
    folder = SchemaDirectory.open(tmp_path)
    assert folder.files() == ("event.avsc",)
    assert folder.by_id(2) is folder.by_file("event.avsc")
    assert list(folder.broken()) == (["other.avsc"] if broken else [])
    with pytest.raises(SchemaError, match=r"other\.avsc"):
        folder.by_file("other.avsc")
    with pytest.raises(SchemaError, match=r"other\.avsc"):
        folder.by_id(1)
