"""Readers and writers of a year apart, at random: by columns, record by record, by the specification, by fastavro."""

import io
import json
import random
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muse_stream.avro import Decoded, Decoder, Fields, Schema, parse_schema
from muse_stream.avro.framing import confluent_prefix
from muse_stream.errors import SchemaError
from tests.avro.avro_data import directory, listed, record_by_record
from tests.avro.pairs import REFUSED, Pair, expected, pair, records

OFTEN = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SEEDS = st.integers(0, 2**40)
FRAME = confluent_prefix(1)


def seen(decoded: Decoded, name: str, count: int) -> list[Any]:
    by_row = dict(zip(decoded.rows.tolist(), listed(decoded.columns[name]), strict=True))
    return [by_row.get(row, REFUSED) for row in range(count)]


def decoders(drawn: Pair) -> tuple[Decoder, Decoder | None]:
    """One that reads the field as text, and one that reads its value where it makes a column."""
    folder = directory(drawn.writer, drawn.reader, ids={1: drawn.writer})
    text = Decoder(folder, drawn.reader, Fields("id", texts=(drawn.path,)))
    try:
        return text, Decoder(folder, drawn.reader, Fields("id", columns=(drawn.path,)))
    except SchemaError:
        return text, None


def both_ways(decoder: Decoder, drawn: Pair, values: list[bytes], name: str) -> list[Any]:
    fast = decoder.decode(values)
    with record_by_record(drawn.writer):
        slow = decoder.decode(values)
    assert seen(fast, name, len(values)) == seen(slow, name, len(values)), "by columns, and record by record"
    assert fast.ids.to_pylist() == slow.ids.to_pylist()
    assert fast.rejected == slow.rejected, "with the same reasons"
    return seen(fast, name, len(values))


def without_nan(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


@OFTEN
@given(SEEDS)
def test_what_is_read_is_what_the_specification_says_by_columns_and_record_by_record(seed: int) -> None:
    rng = random.Random(seed)
    drawn = pair(rng)
    drawn_records = records(drawn, rng, 12)
    values = [FRAME + data for data, _ in drawn_records]
    wanted = [expected(drawn, meaning) for _, meaning in drawn_records]
    text, value = decoders(drawn)
    found = both_ways(text, drawn, values, text.name_of_text(drawn.path))
    assert found == [REFUSED if one == REFUSED else one[0] for one in wanted], drawn
    if value is None:
        return
    found = both_ways(value, drawn, values, drawn.path)
    for got, one in zip(found, wanted, strict=True):
        number = one if one == REFUSED else one[0] if one[1] is None else without_nan(one[1])
        assert got == (float(number) if isinstance(got, float) and number is not None else number), drawn


def plain(schema: Any) -> Any:
    """A schema without logical types, for what stands in the bytes."""
    if isinstance(schema, list):
        return [plain(one) for one in schema]
    if isinstance(schema, dict):
        return {key: plain(one) for key, one in schema.items() if key not in ("logicalType", "precision", "scale")}
    return schema


def by_fastavro(drawn: Pair, data: bytes) -> Any:
    """What fastavro reads of the field; REFUSED where it refuses the record."""
    writer, reader = (fastavro.parse_schema(plain(json.loads(one.text))) for one in (drawn.writer, drawn.reader))
    try:
        found: Any = fastavro.schemaless_reader(io.BytesIO(data), writer, reader)
    except Exception:  # noqa: BLE001 - fastavro has many ways to say so
        return REFUSED
    for name in drawn.path.split("."):
        found = None if found is None else found[name]
    return found


@OFTEN
@given(SEEDS)
def test_fastavro_reads_the_same(seed: int) -> None:
    """The bytes' own values, so without logical types; what fastavro alone makes otherwise is said here."""
    rng = random.Random(seed)
    drawn = pair(rng)
    drawn_records = records(drawn, rng, 8)
    plainly = Pair(schema_without_logical(drawn.writer), schema_without_logical(drawn.reader), drawn.path)
    text, _ = decoders(plainly)
    values = [FRAME + data for data, _ in drawn_records]
    found = both_ways(text, plainly, values, text.name_of_text(drawn.path))
    for got, (data, _) in zip(found, drawn_records, strict=True):
        theirs = by_fastavro(drawn, data)
        if theirs == REFUSED and got != REFUSED:
            continue  # checked against the specification above; fastavro refuses more (default of an enum in a union)
        assert got == text_of(theirs, got), (drawn, data.hex())


def schema_without_logical(schema: Schema) -> Schema:
    return parse_schema(json.dumps(plain(json.loads(schema.text))), file=schema.file)


def text_of(value: Any, ours: Any) -> Any:
    """The text form of what fastavro gives."""
    if value is None or value == REFUSED:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes | str):  # it takes the first of a union that fits, a string for bytes
        data = value.encode() if isinstance(value, str) else value
        return ours if ours.encode() == data else data.hex()
    if isinstance(value, int):
        return str(value) if ours == str(value) else ours if float(ours) in (value, float(np.float32(value))) else None
    return ours if same_number(float(ours.replace("Infinity", "inf")), value) else value


def same_number(ours: float, theirs: float) -> bool:
    """Ours may be a float, which is what the reader asks for, where fastavro keeps a double."""
    with np.errstate(over="ignore"):
        return ours == theirs or np.float32(ours) == np.float32(theirs) or bool(np.isnan(ours) and np.isnan(theirs))


@pytest.mark.parametrize("seed", range(3))
def test_the_generator_meets_what_it_is_for(seed: int) -> None:
    """Unions, nulls, refusals, promotions and unions whose branches share a Python type are all among a few hundred."""
    rng = random.Random(seed)
    pairs = [pair(rng) for _ in range(400)]
    unions = [one for one in pairs if len(one.kinds[0]) > 1]
    shared = [one for one in unions if {"int", "long"} <= {_plain_kind(kind) for kind in one.kinds[0]}]
    assert len(unions) > 150 and len(shared) > 10
    answers = [expected(one, meaning) for one in pairs for _, meaning in records(one, rng, 4)]
    assert answers.count(REFUSED) > 50
    assert sum(one == (None, None) for one in answers) > 50


def _plain_kind(kind: Any) -> str:
    return str(kind["type"]) if isinstance(kind, dict) else str(kind)
