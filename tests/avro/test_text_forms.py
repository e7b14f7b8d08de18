"""Which texts a type can have: exactly those that the decoder gives."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.avro import Decoder, Fields, can_be, in_words, parse_schema
from tests.avro.avro_data import directory, framed, schema_of

DECIMAL: dict[str, Any] = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
UUID: dict[str, Any] = {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}


def type_of(kind: Any) -> Any:
    record = parse_schema(json.dumps({"type": "record", "name": "E", "fields": [{"name": "x", "type": kind}]}))
    return record.type.fields[0].type


@pytest.mark.parametrize(
    ("kind", "texts", "others"),
    [
        ("int", ["0", "-1", "2147483647"], ["5411.0", "05", "+5", "-0", "2147483648", "1e3", "", " 5", "٣"]),
        ("long", ["9007199254740993"], ["9223372036854775808", "9" * 5000]),
        ({"type": "int", "logicalType": "date"}, ["20000"], ["2026-01-01"]),
        ("boolean", ["true", "false"], ["True", "1", "yes"]),
        ({"type": "enum", "name": "K", "symbols": ["A"]}, ["A"], ["a"]),
        ("double", ["0.1", "5411.0", "1e+20", "NaN", "-Infinity", "-0.0"], ["5411", "nan", "inf", "0.10", "1e20", "x"]),
        ("float", ["0.1", "5411.0"], ["0.10000000149011612"]),
        (DECIMAL, ["12.30", "-0.50", "0.00", "1.005"], ["12.3", "12", "-0.00", "012.30", "1.0050", "1e2", ".50", "1."]),
        (DECIMAL | {"scale": 0}, ["12", "12.5"], ["12.", "12.0"]),
        (UUID, ["f47ac10b-58cc-4372-a567-0e02b2c3d479"], ["F47AC10B-58CC-4372-A567-0E02B2C3D479", "f47ac10b"]),
        ("bytes", ["00ff", ""], ["00FF", "0f0", "0x00"]),
        ({"type": "fixed", "name": "F", "size": 2}, ["00ff"], ["00", "0000ff"]),
        ("string", ["", "anything"], []),
        (["null", "int", "boolean"], ["5", "true"], ["5.0", "null"]),
    ],
)
def test_a_text_is_told_from_what_is_none(kind: Any, texts: list[str], others: list[str]) -> None:
    node = type_of(kind)
    assert [text for text in texts if not can_be(node, text)] == []
    assert [text for text in others if can_be(node, text)] == []
    assert in_words(node) or kind == "string" or "enum" in str(kind)


VALUES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    ("int", st.integers(-(2**31), 2**31 - 1)),
    ("long", st.integers(-(2**63), 2**63 - 1)),
    ("float", st.floats(width=32)),
    ("double", st.floats()),
    ("bytes", st.binary(max_size=9)),
    (DECIMAL, st.decimals("-9999999.99", "9999999.99", places=2)),
    (DECIMAL | {"scale": 0}, st.integers(-999_999_999, 999_999_999).map(Decimal)),
    (UUID, st.uuids().map(lambda one: one.bytes)),
]


@pytest.mark.parametrize(("kind", "values"), VALUES, ids=str)
@given(data=st.data())
def test_every_text_that_is_decoded_can_be(kind: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    schema = schema_of(("id", "string"), ("x", ["null", kind]))
    records = [{"id": "a", "x": value} for value in data.draw(st.lists(values, min_size=1, max_size=5))]
    decoder = Decoder(directory(schema), schema, Fields("id", texts=("x",)))
    found: Any = decoder.decode([framed(schema, one) for one in records]).columns[decoder.name_of_text("x")]
    assert len(found.values) >= 1
    assert [text for text in found.values if not can_be(type_of(kind), text)] == []
