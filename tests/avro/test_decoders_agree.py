"""pyruhvro and fastavro on the same bytes: random schemas, random records, damaged and random bytes."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muse_stream.avro import Decoded, Decoder, Fields, Schema, decode_records
from muse_stream.avro.codec import codec_for
from muse_stream.avro.framing import single_object_prefix
from muse_stream.avro.strict import end_of
from muse_stream.errors import Reason
from tests.avro.avro_data import column_paths, directory, framed, listed, payload, record_by_record, schema_and_records

QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
BATCHED = schema_and_records()
OPAQUE = schema_and_records(opaque=True)
LENIENT = ("a number takes more than", "block's size is negative")
"""What is refused record by record and passes in a batch: a number of more than 64 bits, a size that nobody needs."""


def both(schema: Schema, values: list[bytes]) -> tuple[Decoded, Decoded]:
    paths = column_paths(schema)
    fast = Decoder(directory(schema), schema, Fields("id", columns=paths)).decode(values)
    with record_by_record(schema):
        slow = Decoder(directory(schema), schema, Fields("id", columns=paths)).decode(values)
    return fast, slow


def rows_of(decoded: Decoded) -> dict[int, list[Any]]:
    columns = [decoded.ids.to_pylist(), *(listed(column) for column in decoded.columns.values())]
    return dict(zip(decoded.rows.tolist(), zip(*columns, strict=True), strict=True))


@settings(QUICK, max_examples=40)
@given(BATCHED | OPAQUE)
def test_the_batch_decoder_reads_what_fastavro_wrote(drawn: tuple[Schema, list[dict[str, Any]]]) -> None:
    schema, records = drawn
    assert codec_for(schema).batched, "any schema is one for pyruhvro"
    values = [framed(schema, record) for record in records]
    fast, slow = both(schema, values)
    assert not fast.rejected and not slow.rejected
    assert list(fast.rows) == list(range(len(records)))
    assert fast.ids.to_pylist() == [record["id"] for record in records]
    assert rows_of(fast) == rows_of(slow)


@QUICK
@given(OPAQUE)
def test_every_record_ends_where_its_payload_ends(drawn: tuple[Schema, list[dict[str, Any]]]) -> None:
    schema, records = drawn
    for record in records:
        data = payload(schema, record)
        assert end_of(schema.type, data) == len(data)
        assert codec_for(schema).record(data).keys() == record.keys()


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Schema, list[bytes], set[int]]:
    """Framed records, and which of them were truncated, lengthened, overwritten, or replaced by noise."""
    schema, records = draw(schema_and_records(opaque=draw(st.booleans())))
    values = [framed(schema, record) for record in records]
    hit = draw(st.sets(st.integers(0, len(values) - 1), min_size=1, max_size=4))
    for row in hit:
        value, how = values[row], draw(st.integers(0, 3))
        if how == 0:
            value = value[: draw(st.integers(0, len(value) - 1))]
        elif how == 1:
            value = value + draw(st.binary(min_size=1, max_size=4))
        elif how == 2:
            place = draw(st.integers(0, len(value) - 1))
            value = value[:place] + bytes([draw(st.integers(0, 255))]) + value[place + 1 :]
        else:
            value = single_object_prefix(schema.fingerprint) + draw(st.binary(max_size=60))
        values[row] = value
    return schema, values, hit


@settings(QUICK, max_examples=40)
@given(damaged())
def test_damage_costs_the_damaged_records_only(drawn: tuple[Schema, list[bytes], set[int]]) -> None:
    schema, values, hit = drawn
    fast, slow = both(schema, values)
    for decoded in (fast, slow):
        refused = [one.row for one in decoded.rejected]
        assert sorted([*decoded.rows.tolist(), *refused]) == list(range(len(values)))
        assert set(refused) <= hit
        assert {one.reason for one in decoded.rejected} <= {Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA}
    quick, sure = rows_of(fast), rows_of(slow)
    assert all(quick[row] == sure[row] for row in sure), "accepted by fastavro: read alike by both"
    why = {one.row: one.message for one in slow.rejected}
    assert {one.row: one.message for one in fast.rejected}.items() <= why.items(), "for the same reason"
    assert all(any(word in why[row] for word in LENIENT) for row in quick.keys() - sure.keys())
    decode_records(directory(schema), values)


@settings(QUICK, max_examples=50)
@given(schema_and_records(opaque=True, most=1), st.lists(st.none() | st.binary(max_size=40), max_size=20))
def test_noise_is_rejected_and_never_raises(drawn: tuple[Schema, Any], values: list[bytes | None]) -> None:
    schema, _ = drawn
    decoded = Decoder(directory(schema), schema, Fields("id")).decode(values)
    assert sorted([*decoded.rows.tolist(), *(one.row for one in decoded.rejected)]) == list(range(len(values)))
    assert len(decode_records(directory(schema), values)) == len(values)
