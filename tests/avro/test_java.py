"""Apache Avro Java: what it writes is read as it reads it itself, and schemas mean what they mean to it."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muse_stream.avro import Decoder, Fields, SchemaDirectory, parse_schema
from muse_stream.errors import SchemaError
from tests.avro.avro_data import directory, framed, listed, record_by_record, schema_of
from tests.avro.java_peer import Ask, avro_peer
from tests.avro.pairs import INTS, LONGS, REFUSED, Pair, pair

pytestmark = pytest.mark.long  # a JVM; test_pairs.py asks fastavro and the specification of such pairs
PAIRS, RECORDS = 400, 10
MORE = (
    {"name": "notes", "type": {"type": "array", "items": ["null", "string", "long"]}},
    {"name": "tags", "type": {"type": "map", "values": "double"}},
)
"""Lists and maps before the field's record ends, which Java writes in blocks with their sizes too."""


@pytest.fixture(scope="module")
def java() -> Iterator[Ask]:
    """Ask the peer: keywords make the question, the answer is JSON."""
    with avro_peer() as ask:
        yield ask


def test_what_java_writes_is_read_as_java_reads_it(java: Ask) -> None:
    rng = random.Random(20)
    kinds: set[str] = set()
    for number in range(PAIRS):
        drawn = pair(rng, another_record=False, more=MORE)
        if other_units(drawn):
            continue  # Java does not look at the units; test_pairs has them
        answer = java(
            writer=drawn.writer.text, reader=drawn.reader.text, path=drawn.path.split("."), seed=number, count=RECORDS
        )
        assert "error" not in answer, (answer, drawn.writer.text, drawn.reader.text)
        assert answer["fingerprint"] == drawn.writer.fingerprint.hex()
        kinds |= {one.get("kind", REFUSED) for one in answer["records"]}
        compare(drawn, answer["records"])
    assert {"Integer", "Long", "Float", "Double", "Boolean", "Utf8", "BigDecimal", "UUID", "null", REFUSED} <= kinds


def other_units(drawn: Pair) -> bool:
    """Whether the reader states a unit of time that the writer may not have written."""
    stated = [{one.get("logicalType") for one in kinds if isinstance(one, dict)} for kinds in drawn.kinds]
    wrote, wants = (names & {*INTS, *LONGS} for names in stated)
    return bool(wants) and wants != wrote


def compare(drawn: Pair, records: list[Any]) -> None:
    values = [bytes.fromhex(one["hex"]) for one in records]
    decoder = Decoder(directory(drawn.writer, drawn.reader), drawn.reader, Fields("id", texts=(drawn.path,)))
    name = decoder.name_of_text(drawn.path)
    fast = decoder.decode(values)
    with record_by_record(drawn.writer):
        slow = decoder.decode(values)
    for decoded in (fast, slow):
        by_row = dict(zip(decoded.rows.tolist(), listed(decoded.columns[name]), strict=True))
        for row, one in enumerate(records):
            ours = by_row.get(row, REFUSED)
            assert alike(ours, one), (ours, one, drawn.writer.text, drawn.reader.text)


def alike(ours: Any, theirs: Any) -> bool:
    """Whether a text is what Java read: the same text, or the same number where it is one of those with a point."""
    kind, text = theirs.get("kind", REFUSED), theirs.get("text")
    if kind == REFUSED:
        return bool(ours == REFUSED)
    if ours is None or kind == "null":
        return bool(ours is None and kind == "null")
    if kind in ("Float", "Double"):
        one, other = (np.float32(part) if kind == "Float" else np.float64(part) for part in (ours, text))
        return bool(one == other or (np.isnan(one) and np.isnan(other)))
    return bool(ours == text)


@pytest.mark.parametrize("default", ["NaN", "Infinity", "-Infinity", 0.5, 1])
def test_a_default_is_read_as_java_writes_it(java: Ask, default: Any) -> None:
    """Java 1.12 refuses a default that is no number, unless it is told not to look; older ones did not look."""
    text = java(default=default)["text"]
    reader = parse_schema(text, file="reader.avsc")
    writer = schema_of(("id", "string"), file="writer.avsc")
    found = Decoder(directory(writer, reader), reader, Fields("id", columns=("x",))).decode(
        [framed(writer, {"id": "a"})]
    )
    assert not found.rejected
    assert listed(found.columns["x"]) == [None if default == "NaN" else float(default)]


def test_files_that_name_each_other_s_types_are_java_s_schema(java: Ask, tmp_path: Path) -> None:
    currency = {"type": "enum", "name": "Currency", "namespace": "shop", "symbols": ["EUR"]}
    money_fields = [{"name": "n", "type": "long"}, {"name": "currency", "type": "Currency"}]
    money = {"type": "record", "name": "Money", "namespace": "shop", "fields": money_fields}
    fields = [
        {"name": "id", "type": "string"},
        {"name": "price", "type": ["null", "shop.Money"]},
        {"name": "fee", "type": "shop.Money"},
        {"name": "in", "type": {"type": "array", "items": "shop.Currency"}},
    ]
    event = {"type": "record", "name": "Event", "namespace": "till", "fields": fields}
    for name, document in (("c", currency), ("m", money), ("e", event)):
        (tmp_path / f"{name}.avsc").write_text(json.dumps(document))
    theirs = java(files=[json.dumps(one) for one in (currency, money, event)])
    ours = SchemaDirectory.open(tmp_path).by_file("e.avsc")
    assert ours.fingerprint.hex() == theirs["fingerprint"]
    assert parse_schema(theirs["text"]).type == ours.type


def test_big_decimals_are_read_as_java_reads_them(java: Ask) -> None:
    kind = {"type": "bytes", "logicalType": "big-decimal"}
    schema = schema_of(("id", "string"), ("v", ["null", kind]))
    answer = java(writer=schema.text, reader=schema.text, path=["v"], seed=1, count=100)
    decoder = Decoder(directory(schema), schema, Fields("id", columns=("v",), texts=("v",)))
    decoded = decoder.decode([bytes.fromhex(one["hex"]) for one in answer["records"]])
    assert not decoded.rejected
    found = zip(listed(decoded.columns["v"]), listed(decoded.columns[decoder.name_of_text("v")]), strict=True)
    for (number, text), one in zip(found, answer["records"], strict=True):
        assert number == (None if one["kind"] == "null" else float(one["text"]))
        assert text is None if one["kind"] == "null" else float(text) == float(one["text"])


def test_what_java_refuses_as_a_schema_is_refused_here(java: Ask) -> None:
    for kind in (["null", "null"], ["int", ["string"]], {"type": "fixed", "name": "F", "size": -1}, "strnig"):
        text = json.dumps({"type": "record", "name": "E", "fields": [{"name": "x", "type": kind}]})
        assert "error" in java(files=[text])
        with pytest.raises(SchemaError):
            parse_schema(text)
