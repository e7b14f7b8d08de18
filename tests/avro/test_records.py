"""What people and `verify` read."""

import datetime as dt

import numpy as np

from muse_stream.avro import Encoder, decode_records, field_of, score_decoder
from muse_stream.avro.framing import confluent_prefix, single_object_prefix
from muse_stream.errors import Reason, Rejected
from tests.avro.avro_data import directory, framed, payload, schema_of
from tests.avro.test_encoder import FOLDER, SCORE, score_columns

EVENT = schema_of(("id", "string"), ("at", {"type": "long", "logicalType": "timestamp-millis"}))


def test_records_of_both_frames_with_their_logical_types() -> None:
    row = {"id": "a", "at": 1000}
    values = [framed(EVENT, row), confluent_prefix(9) + payload(EVENT, row)]
    assert decode_records(directory(EVENT, ids={9: EVENT}), values) == [
        {"id": "a", "at": dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)}
    ] * 2  # fmt: skip


def test_what_cannot_be_read_says_why_in_its_place() -> None:
    good = framed(EVENT, {"id": "a", "at": 0})
    found = decode_records(directory(EVENT), [None, b"?", confluent_prefix(3), good[:-1], good + b"x", good])
    assert [one.reason if isinstance(one, Rejected) else None for one in found] == [
        Reason.UNDECODABLE, Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA, Reason.UNDECODABLE, Reason.UNDECODABLE, None,
    ]  # fmt: skip
    assert [one.row for one in found if isinstance(one, Rejected)] == [0, 1, 2, 3, 4]


def test_a_time_beyond_the_calendar_is_shown_as_the_number_it_is() -> None:
    assert decode_records(directory(EVENT), [framed(EVENT, {"id": "a", "at": 2**62})]) == [{"id": "a", "at": 2**62}]


def test_a_decimal_of_a_million_digits_is_shown_as_its_bytes_at_once() -> None:
    """fastavro makes a number of it, and takes minutes."""
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 9}
    schema, plain = (schema_of(("id", "string"), ("price", ["null", kind])) for kind in (decimal, "bytes"))
    row = {"id": "a", "price": b"\x01" * 1_000_000}
    value = single_object_prefix(schema.fingerprint) + payload(plain, row)
    assert decode_records(directory(schema), [value]) == [row]


def test_one_field_is_what_the_whole_record_has() -> None:
    intent = {"type": "map", "values": "string"}
    newer = schema_of(("id", "string"), ("intent", intent), ("at", "long"), file="newer.avsc")
    rows = [{"id": "a", "intent": {"channel": "pos", "region": ""}, "at": 1}, {"id": "b", "intent": {}, "at": 2}]
    values = [framed(newer, row) for row in rows] + [confluent_prefix(9) + payload(EVENT, {"id": "c", "at": 3})]
    schemas = directory(newer, EVENT, ids={9: EVENT})
    assert field_of(schemas, values, "intent") == [{"channel": "pos", "region": ""}, {}, None]
    whole = decode_records(schemas, values)
    assert field_of(schemas, values, "at") == [one["at"] for one in whole if not isinstance(one, Rejected)]


def test_scores_by_columns() -> None:
    found = score_decoder(FOLDER).decode([*Encoder(SCORE).encode(score_columns(5), 5), b"junk"])
    assert [one.row for one in found.rejected] == [5]
    assert found.ids.to_pylist() == [f"e{row}" for row in range(5)]
    assert found.tenants is not None and found.tenants.to_list() == ["acme", "globex", "acme", "globex", "acme"]
    assert np.asarray(found.columns["source_offset"]).tolist() == [0, 1, 2, 3, 4]
    assert np.asarray(found.columns["source_partition"]).tolist() == [0, 1, 2, 3, 0]
    assert found.times is not None and found.times[2] == 1_700_000_000_002
