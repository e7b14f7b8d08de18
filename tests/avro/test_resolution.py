"""Reader and writer schemas that differ: every rule of the Avro specification that columns can meet, in both paths."""

from typing import Any

import pytest

from muse_stream.avro import Decoder, Fields
from muse_stream.avro.framing import confluent_prefix
from muse_stream.errors import SchemaError
from tests.avro.avro_data import directory, listed, payload, record_by_record, schema_of

Json = Any
REFUSED = object()
"""Stands where a row must be rejected."""


def enum(*symbols: str, default: str | None = None, name: str = "K", **more: Json) -> Json:
    return {"type": "enum", "name": name, "symbols": list(symbols), **({"default": default} if default else {}), **more}


def rec(*fields: Json, name: str = "Sub", **more: Json) -> Json:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def f(name: str, kind: Json, **more: Json) -> Json:
    return {"name": name, "type": kind, **more}


def stamp(unit: str) -> Json:
    return {"type": "long", "logicalType": f"timestamp-{unit}"}


def decimal(scale: int) -> Json:
    return {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": scale}


NULL_INT = ["null", "int"]
CASES: dict[str, tuple[Json, Json, list[Json], list[Json] | str]] = {
    # name: (writer's type, reader's type, written, read)
    "int to long": ("int", "long", [1, -2], [1, -2]),
    "int to float": ("int", "float", [1], [1.0]),
    "int to double": ("int", "double", [2**31 - 1], [2147483647.0]),
    "long to float": ("long", "float", [3], [3.0]),
    "long to double": ("long", "double", [2**40], [float(2**40)]),
    "float to double": ("float", "double", [0.5], [0.5]),
    "string to bytes": ("string", "bytes", ["ab"], ["6162"]),
    "bytes to string": ("bytes", "string", [b"ab", b"\xff"], ["ab", REFUSED]),
    "null added": ("double", ["null", "double"], [1.0], [1.0]),
    "null added after": ("double", ["double", "null"], [1.0], [1.0]),
    "null removed": (["null", "double"], "double", [1.0, None, 2.0], [1.0, REFUSED, 2.0]),
    "null removed, promoted": (NULL_INT, "double", [1, None], [1.0, REFUSED]),
    "null kept, promoted": (NULL_INT, ["double", "null"], [1, None], [1.0, None]),
    "order of a union changed": (["null", "string"], ["string", "null"], ["a", None], ["a", None]),
    "only null": ("null", ["null", "double"], [None], [None]),
    "union to one of its types": (["int", "string"], "string", [1, "a"], [REFUSED, "a"]),
    "union, promoted": (["null", "int", "string"], ["null", "double"], [1, "a", None], [1.0, REFUSED, None]),
    "union of numbers": (["int", "double"], ["int", "double"], [1, 2.5], [1.0, 2.5]),
    "union of number and flag": (["boolean", "long"], ["boolean", "long"], [True, 7], [1.0, 7.0]),
    "union with one type": (["int"], "int", [4], [4]),
    "one type in a reader's union": ("int", ["string", "int"], [4], "text for one event"),
    "enum shrunk with default": (enum("A", "B", "C"), enum("A", "D", default="D"), ["A", "B", "C"], ["A", "D", "D"]),
    "enum shrunk without default": (enum("A", "B"), enum("A"), ["A", "B"], ["A", REFUSED]),
    "enum grown": (enum("A"), enum("B", "A"), ["A"], ["A"]),
    "enum renamed with alias": (enum("A", name="Old"), enum("A", name="New", aliases=["Old"]), ["A"], ["A"]),
    "nullable enum shrunk": (["null", enum("A", "B")], ["null", enum("A", default="A")], ["B", None], ["A", None]),
    "micros written, millis read": (stamp("micros"), stamp("millis"), [5_000_999], [5000]),
    "no unit written, millis read": ("long", stamp("millis"), [5], [5]),
    "no unit written, micros read": ("long", stamp("micros"), [5999], [5999]),
    "decimal to another scale": (decimal(2), decimal(4), [b"\x01\x00"], [2.56]),
    "decimal from plain bytes": ("bytes", decimal(1), [b"\xff"], [-0.1]),
    "field gone, default": (None, "double", [None], [1.5]),
    "field gone, null": (None, ["null", "double"], [None], [None]),
    "boolean to int": ("boolean", "int", [True], "written as boolean"),
    "double to float": ("double", "float", [1.0], "written as double"),
    "string to enum": ("string", enum("A"), ["A"], "written as string"),
    "enum of another name": (enum("A", name="X"), enum("A", name="Y"), ["A"], "written as enum"),
}  # fmt: skip


def read(writer: Any, reader: Any, rows: list[Any], path: str) -> list[Any]:
    """Read by both paths, which must agree; REFUSED where a row was rejected."""
    folder = directory(writer, reader, ids={1: writer})  # ids tell schemas apart that differ in logical types alone
    decoder = Decoder(folder, reader, Fields("id", columns=(path,)))
    values = [confluent_prefix(1) + payload(writer, {"id": f"e{index}", **row}) for index, row in enumerate(rows)]

    def once() -> list[Any]:
        found = decoder.decode(values)
        if found.rejected and not len(found.rows):
            return [REFUSED] * len(values) if len(values) > 1 else [found.rejected[0].message]
        by_row = dict(zip(found.rows.tolist(), listed(found.columns[path]), strict=True))
        return [by_row.get(row, REFUSED) for row in range(len(values))]

    fast = once()
    with record_by_record(writer):
        assert once() == fast
    return fast


@pytest.mark.parametrize("name", CASES)
def test_a_field(name: str) -> None:
    wrote, wants, written, expected = CASES[name]
    writer = schema_of(("id", "string"), *([("v", wrote)] if wrote else []), file="writer.avsc")
    default = {} if wrote else {"default": 1.5 if wants == "double" else None}
    reader = schema_of(("id", "string"), f("v", wants, **default), file="reader.avsc")
    rows = [{"v": value} if wrote else {} for value in written]
    if isinstance(expected, str):
        try:
            (said,) = read(writer, reader, rows, "v")
        except SchemaError as error:  # the reader's own type makes no column
            said = str(error)
        assert expected in said
        return
    found = read(writer, reader, rows, "v")
    assert found == expected


def test_a_renamed_field_is_found_by_alias() -> None:
    writer = schema_of(("id", "string"), ("sum", "int"), file="w.avsc")
    reader = schema_of(("id", "string"), f("amount", "double", aliases=["sum"]), file="r.avsc")
    assert read(writer, reader, [{"sum": 3}], "amount") == [3.0]


def test_a_field_without_default_that_was_not_written_refuses_the_writer() -> None:
    writer = schema_of(("id", "string"), file="w.avsc")
    reader = schema_of(("id", "string"), ("amount", "double"), file="r.avsc")
    (said,) = read(writer, reader, [{}], "amount")
    assert "written without 'amount', which has no default" in said


def test_only_the_fields_that_are_asked_for_must_resolve() -> None:
    writer = schema_of(("id", "string"), ("a", "int"), ("b", "string"), file="w.avsc")
    reader = schema_of(("id", "string"), ("a", "int"), ("b", "int"), ("c", "int"), file="r.avsc")
    assert read(writer, reader, [{"a": 1, "b": "x"}], "a") == [1]


def test_a_renamed_record_needs_an_alias() -> None:
    writer = schema_of(("id", "string"), ("a", "int"), name="Old", file="w.avsc")
    fields = [f("id", "string"), f("a", "int")]
    assert read(writer, schema_of(*fields, name="New", file="r.avsc", aliases=["Old"]), [{"a": 1}], "a") == [1]
    (said,) = read(writer, schema_of(*fields, name="New", file="r.avsc"), [{"a": 1}], "a")
    assert "give New the alias Old" in said


ROWS: list[Json] = [{"sub": {"x": 1}}, {"sub": None}, {"sub": {"x": None}}]
MAYBE = ["null", rec(f("x", NULL_INT))]


@pytest.mark.parametrize(
    ("wrote", "wants", "expected"),
    [
        (MAYBE, MAYBE, [1.0, None, None]),
        (MAYBE, rec(f("x", NULL_INT)), [1.0, REFUSED, None]),
        (MAYBE, rec(f("x", "int")), [1, REFUSED, REFUSED]),
        (MAYBE, ["null", rec(f("x", "int"))], [1.0, None, REFUSED]),
        (MAYBE, ["null", rec(f("y", "int", default=8))], [8.0, None, 8.0]),
        (MAYBE, ["null", rec(f("z", "double", aliases=["x"]))], [1.0, None, REFUSED]),
        (MAYBE, [rec(f("x", ["double", "null"]), name="Other", aliases=["Sub"]), "null"], [1.0, None, None]),
    ],
)
def test_nested_records(wrote: Json, wants: Json, expected: list[Any]) -> None:
    records = wants if isinstance(wants, list) else [wants]
    leaf = next(part["fields"][0]["name"] for part in records if isinstance(part, dict))
    writer = schema_of(("id", "string"), ("sub", wrote), file="w.avsc")
    reader = schema_of(("id", "string"), ("sub", wants), file="r.avsc")
    assert read(writer, reader, ROWS, f"sub.{leaf}") == expected


@pytest.mark.parametrize(("default", "expected"), [({"x": 5}, 5.0), ({}, 7.0), (None, None)])
def test_a_record_that_was_not_written_gives_its_default(default: Json, expected: Any) -> None:
    inner = rec(f("x", NULL_INT if default is None else "int", default=None if default is None else 7))
    kind = ["null", inner] if default is None else inner
    writer = schema_of(("id", "string"), file="w.avsc")
    reader = schema_of(("id", "string"), ("sub", kind, default), file="r.avsc")
    assert read(writer, reader, [{}, {}], "sub.x") == [expected, expected]


def test_a_deep_null_above_a_required_field_refuses_once() -> None:
    deep = ["null", rec(f("inner", ["null", rec(f("x", "int"), name="Inner")]))]
    writer = schema_of(("id", "string"), ("sub", deep), file="w.avsc")
    strict = ["null", rec(f("inner", rec(f("x", "int"), name="Inner")))]
    reader = schema_of(("id", "string"), ("sub", strict), file="r.avsc")
    rows = [{"sub": None}, {"sub": {"inner": None}}, {"sub": {"inner": {"x": 3}}}]
    assert read(writer, reader, rows, "sub.inner.x") == [None, REFUSED, 3.0]


CARD = rec(f("bin", ["null", "string"], default=None), f("risk", "double"), name="Card")
BANK = rec(f("iban", "string"), f("risk", "int"), name="Bank")
PAYS: list[Json] = [
    {"pay": None},
    {"pay": ("Card", {"bin": "411111", "risk": 0.5})},
    {"pay": ("Bank", {"iban": "x", "risk": 7})},
]


@pytest.mark.parametrize(
    ("wrote", "wants", "path", "expected"),
    [
        (["null", CARD, BANK], ["null", CARD], "pay.bin", [None, "411111", REFUSED]),
        (["null", CARD, BANK], ["null", CARD, BANK], "pay.bin", [None, "411111", None]),
        (["null", CARD, BANK], ["null", CARD, BANK], "pay.iban", [None, None, "x"]),
        (["null", CARD, BANK], ["null", BANK, CARD], "pay.risk", [None, 0.5, 7.0]),
        (["null", BANK, CARD], [CARD, BANK], "pay.risk", [REFUSED, 0.5, 7.0]),
        (["null", BANK, CARD], [rec(f("risk", "double"), name="Any", aliases=["Card", "Bank"]), "null"], "pay.risk",
         [None, 0.5, 7.0]),
    ],
)  # fmt: skip
def test_a_union_of_records_is_read_by_the_record_that_was_written(
    wrote: Json, wants: Json, path: str, expected: list[Any]
) -> None:
    writer = schema_of(("id", "string"), ("pay", wrote), file="w.avsc")
    reader = schema_of(("id", "string"), ("pay", wants), file="r.avsc")
    assert read(writer, reader, PAYS, path) == expected


def test_records_of_one_short_name_are_told_apart_by_their_namespaces() -> None:
    mine, theirs = rec(f("x", "int"), name="a.Card"), rec(f("x", "int"), name="b.Card")
    writer = schema_of(("id", "string"), ("pay", ["null", mine, theirs]), file="w.avsc")
    rows = [{"pay": ("a.Card", {"x": 1})}, {"pay": ("b.Card", {"x": 2})}]
    reader = schema_of(("id", "string"), ("pay", ["null", mine]), file="r.avsc")
    assert read(writer, reader, rows, "pay.x") == [1.0, REFUSED]
    reader = schema_of(("id", "string"), ("pay", ["null", theirs, mine]), file="r.avsc")
    assert read(writer, reader, rows, "pay.x") == [1.0, 2.0]


def test_a_field_that_no_record_of_a_union_has_is_refused() -> None:
    schema = schema_of(("id", "string"), ("pay", ["null", CARD, BANK]))
    with pytest.raises(SchemaError, match="Card has no field 'bic'; it has bin, risk, iban, risk"):
        Decoder(directory(schema), schema, Fields("id", columns=("pay.bic",)))
    with pytest.raises(SchemaError, match=r"null\|record\|string, not a record"):
        mixed = schema_of(("id", "string"), ("pay", ["null", CARD, "string"]))
        Decoder(directory(mixed), mixed, Fields("id", columns=("pay.bin",)))
