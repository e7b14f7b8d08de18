"""Records decoded as one array: the same as each by itself, whatever a sender puts into them."""

import os
from typing import Any

import pyarrow as pa
import pyruhvro
import pytest
from hypothesis import given

from muse_stream.avro import Decoded, Decoder, Fields, Schema
from muse_stream.avro import blocks as module
from muse_stream.avro import codec as codec_module
from muse_stream.avro.blocks import Blocks, suits_blocks
from muse_stream.avro.codec import Codec, codec_for
from muse_stream.avro.framing import confluent_prefix, single_object_prefix
from muse_stream.avro.samples import varint
from muse_stream.avro.stand_ins import document
from muse_stream.avro.strict import Malformed
from tests.avro.avro_data import (
    column_paths,
    directory,
    framed,
    listed,
    payload,
    record_by_record,
    schema_and_records,
    schema_of,
)
from tests.avro.test_decoders_agree import QUICK, rows_of

PAYMENT = schema_of(("id", "string"), ("amount", "double"), ("note", "string"))


def payment(row: int, note: str = "x") -> bytes:
    return framed(PAYMENT, {"id": f"e{row}", "amount": row / 2, "note": note})


def decode(values: list[bytes | None], schema: Schema = PAYMENT) -> Decoded:
    return Decoder(directory(schema), schema, Fields("id", columns=column_paths(schema))).decode(values)


@pytest.fixture(autouse=True)
def of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_module, "LEAST", 1)


@QUICK
@given(schema_and_records() | schema_and_records(opaque=True))
def test_a_block_holds_what_its_records_hold(drawn: tuple[Schema, list[dict[str, Any]]]) -> None:
    schema, records = drawn
    values: list[bytes | None] = [framed(schema, record) for record in records]
    together = decode(values, schema)
    with record_by_record(schema):
        alone = decode(values, schema)
    assert not together.rejected
    assert rows_of(together) == rows_of(alone)


def test_plain_schemas_go_in_blocks_and_no_record_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    real = pyruhvro.deserialize_array

    def counted(records: list[bytes], schema: str) -> pa.RecordBatch:
        given.append(len(records))
        return real(records, schema)

    decode([payment(0)])  # probed once
    monkeypatch.setattr(pyruhvro, "deserialize_array", counted)
    found = decode([payment(row) for row in range(2_000)])
    assert given == [1]
    assert found.rows.tolist() == list(range(2_000))
    assert listed(found.columns["amount"]) == [row / 2 for row in range(2_000)]


@pytest.mark.parametrize(
    ("kind", "suits"),
    [
        (["null", "double"], True),
        (["null", "string"], True),
        ({"type": "record", "name": "R", "fields": [{"name": "a", "type": ["null", "long"]}]}, True),
        ({"type": "array", "items": "int"}, False),
        ({"type": "map", "values": "int"}, False),
        (["null", "long", "string"], False),
        (["long", "string"], False),
        (["null"], False),
        ({"type": "fixed", "name": "F", "size": 8}, True),
        ({"type": "fixed", "name": "F", "size": 5}, False),
    ],
)
def test_which_schemas_suit(kind: Any, suits: bool) -> None:
    schema = schema_of(("id", "string"), ("more", kind))
    assert suits_blocks(schema.type) is suits
    assert (codec_for(schema).blocks is not None) is suits


def swallowing(row: int, victim: bytes, head: bytes) -> bytes:
    """A value whose last text goes on over the head and the value that follow it."""
    whole = payment(row, note="")
    return whole[:-1] + varint(len(head) + len(victim))


@pytest.mark.parametrize("prefix", ["single-object", "confluent"])
def test_nobody_swallows_another_value_though_the_count_is_right(prefix: str) -> None:
    """The first value takes in the second, the third holds two records: with the right head it would be believed."""
    victim = payment(1)
    skip = 10 if prefix == "single-object" else 5
    frame = single_object_prefix(PAYMENT.fingerprint) if prefix == "single-object" else confluent_prefix(7)
    as_framed = [frame + value[10:] for value in (victim, payment(2), payment(3))]
    thief = frame + swallowing(0, as_framed[0], module.HEAD[skip:])[10:]
    blocks = Blocks(document(PAYMENT.type), pyruhvro.deserialize_array)

    known = [thief, as_framed[0], as_framed[1] + module.HEAD[skip:] + as_framed[2]]
    assert len(blocks.decode(known, skip)) == 3, "who knows the head can"
    guessed = [thief, as_framed[0], as_framed[1] + os.urandom(16 - skip) + as_framed[2]]
    with pytest.raises(Malformed):
        blocks.decode(guessed, skip)


@pytest.mark.parametrize(
    "bad",
    [
        payment(7)[:-1],
        payment(7) + b"\x00",
        payment(7) + b"\x00" + bytes(8),
        payment(7)[:12],
        swallowing(7, payment(8), module.HEAD[10:]),
    ],
    ids=["one byte less", "one byte more", "an end of its own", "half", "takes in the next"],
)
@pytest.mark.parametrize("place", [0, 7, 39])
def test_a_bad_value_costs_itself(bad: bytes, place: int) -> None:
    values: list[bytes | None] = [payment(row) for row in range(40)]
    values[place] = bad
    found = decode(values)
    assert [one.row for one in found.rejected] == [place]
    assert found.ids.to_pylist() == [f"e{row}" for row in range(40) if row != place]


def test_a_block_that_is_misread_is_found_out_by_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Blocks.decode

    def wrong(blocks: Blocks, values: list[bytes], skip: int) -> pa.RecordBatch:
        batch = real(blocks, values, skip)
        place = batch.schema.get_field_index("amount")
        return batch.set_column(place, "amount", pa.array([0.0] * batch.num_rows))

    monkeypatch.setattr(Blocks, "decode", wrong)
    assert Codec(PAYMENT).batched and Codec(PAYMENT).blocks is None


def test_a_payload_without_a_frame_is_decoded_too() -> None:
    values = [payload(PAYMENT, {"id": f"e{row}", "amount": 1.0, "note": ""}) for row in range(40)]
    batch, wrong = codec_for(PAYMENT).batch(values)
    assert wrong is None and batch.column("id").to_pylist() == [f"e{row}" for row in range(40)]
