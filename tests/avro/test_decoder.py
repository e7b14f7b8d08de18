"""Kafka values to columns: what a decoder takes, what it rejects, and at what cost."""

import io
import json
from decimal import Decimal
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from muse_stream.avro import NO_TIME, Decoder, Fields, concat, decode_records, fixed_width
from muse_stream.avro.codec import Codec, codec_for
from muse_stream.avro.framing import confluent_prefix
from muse_stream.avro.strict import Malformed
from muse_stream.errors import Reason, SchemaError, Stage
from muse_stream.scoring.columns import Categorical
from tests.avro.avro_data import directory, framed, listed, payload, record_by_record, schema_of

DECIMAL = {"logicalType": "decimal", "precision": 9, "scale": 3}
SIMPLE = schema_of(("id", "string"), ("amount", "double"), ("count", "int"))


def simple(row: int) -> bytes:
    return framed(SIMPLE, {"id": f"e{row}", "amount": row / 2, "count": row})


def decoder(schema: Any = SIMPLE, *columns: str, **fields: Any) -> Decoder:
    return Decoder(directory(schema), schema, Fields("id", columns=columns, **fields))


class Counted:
    """Counts calls of the per-record decoder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records = self.batches = 0
        read, batch = Codec.read, Codec.batch

        def counted_read(codec: Codec, *arguments: Any) -> Any:
            self.records += 1
            return read(codec, *arguments)

        def counted_batch(codec: Codec, *arguments: Any) -> Any:
            self.batches += 1
            return batch(codec, *arguments)

        monkeypatch.setattr(Codec, "read", counted_read)
        monkeypatch.setattr(Codec, "batch", counted_batch)


def test_kinds_of_columns() -> None:
    schema = schema_of(
        ("id", "string"),
        ("at", {"type": "long", "logicalType": "timestamp-micros"}),
        ("tenant", {"type": "enum", "name": "Tenant", "symbols": ["acme", "globex"]}),
        ("flag", "boolean"),
        ("maybe", ["null", "boolean"]),
        ("whole", "long"),
        ("small", ["int", "null"]),
        ("real", "float"),
        ("day", {"type": "int", "logicalType": "date"}),
        ("name", ["null", "string"]),
        ("part", ["null", {"type": "record", "name": "Part", "fields": [{"name": "x", "type": "int"}]}]),
    )
    rows: list[dict[str, Any]] = [
        {"id": "a", "at": -1, "tenant": "acme", "flag": True, "maybe": None, "whole": 2**60, "small": 3, "real": 0.5,
         "day": 2, "name": "x", "part": {"x": 4}},
        {"id": "b", "at": 2_000_500, "tenant": "globex", "flag": False, "maybe": True, "whole": -1, "small": None,
         "real": 1.5, "day": 0, "name": None, "part": None},
    ]  # fmt: skip
    names = ("flag", "maybe", "whole", "small", "real", "day", "name", "part.x")
    found = decoder(schema, *names, time="at", tenant="tenant").decode([framed(schema, row) for row in rows])
    assert found.rows.dtype == np.int64
    assert found.times is not None and found.times.tolist() == [-1, 2000], "milliseconds, rounded down"
    assert found.tenants is not None and found.tenants.to_list() == ["acme", "globex"]
    kinds = {name: c.values if isinstance(c, Categorical) else c.dtype.name for name, c in found.columns.items()}
    assert kinds == {
        "flag": "bool", "maybe": "float64", "whole": "int64", "small": "float64", "real": "float64", "day": "int64",
        "name": ("x",), "part.x": "float64",
    }  # fmt: skip
    assert {name: listed(column) for name, column in found.columns.items()} == {
        "flag": [True, False], "maybe": [None, 1.0], "whole": [2**60, -1], "small": [3.0, None], "real": [0.5, 1.5],
        "day": [2, 0], "name": ["x", None], "part.x": [4.0, None],
    }  # fmt: skip


def test_ids_are_text_and_null_where_empty() -> None:
    text = schema_of(("id", ["null", "string"]))
    found = decoder(text).decode([framed(text, {"id": value}) for value in ("a", "", None)])
    assert found.ids.type == pa.string()
    assert found.ids.to_pylist() == ["a", None, None]
    number = schema_of(("id", "long"))
    assert decoder(number).decode([framed(number, {"id": -7})]).ids.to_pylist() == ["-7"]


def test_a_missing_time_is_no_time_that_could_be_written() -> None:
    schema = schema_of(("id", "string"), ("at", ["null", {"type": "long", "logicalType": "timestamp-millis"}]))
    found = decoder(schema, time="at").decode([framed(schema, {"id": "a", "at": at}) for at in (None, -1, 2**53 + 1)])
    assert found.times is not None and found.times.tolist() == [NO_TIME, -1, 2**53 + 1]


def test_one_bad_record_in_ten_thousand_costs_that_record(monkeypatch: pytest.MonkeyPatch) -> None:
    values: list[bytes | None] = [simple(row) for row in range(10_000)]
    values[7777] = simple(7777)[:-1]
    reader = decoder(SIMPLE, "amount")
    counted = Counted(monkeypatch)
    found = reader.decode(values)
    assert [(one.row, one.reason, one.stage) for one in found.rejected] == [(7777, Reason.UNDECODABLE, Stage.DECODE)]
    assert found.rows.tolist() == [row for row in range(10_000) if row != 7777]
    assert listed(found.columns["amount"]) == [row / 2 for row in range(10_000) if row != 7777]
    assert counted.records <= 8 and counted.batches <= 30


def test_good_values_never_meet_the_record_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = decoder(SIMPLE, "amount")
    counted = Counted(monkeypatch)
    reader.decode([simple(row) for row in range(1000)])
    assert (counted.records, counted.batches) == (0, 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.UNDECODABLE),
        (b"", Reason.UNDECODABLE),
        (b"\x01rest", Reason.UNDECODABLE),
        (confluent_prefix(4), Reason.UNKNOWN_SCHEMA),
        (b"\xc3\x01" + bytes(8) + b"x", Reason.UNKNOWN_SCHEMA),
        (simple(1)[:10], Reason.UNDECODABLE),
        (simple(1)[:-3], Reason.UNDECODABLE),
        (simple(1) + b"\x00", Reason.UNDECODABLE),
        (simple(1)[:-1] + b"\xfe\xff\xff\xff\xff\x01", Reason.UNDECODABLE),
    ],
)
def test_what_is_no_event_is_rejected_alone(value: bytes | None, reason: Reason) -> None:
    found = decoder(SIMPLE, "count").decode([simple(0), value, simple(2)])
    assert found.rows.tolist() == [0, 2]
    assert listed(found.columns["count"]) == [0, 2]
    assert [(one.row, one.reason) for one in found.rejected] == [(1, reason)]


def test_a_batch_of_nothing_and_a_batch_of_nothing_good() -> None:
    reader = decoder(SIMPLE, "amount")
    for values in ([], [None, b"", b"?"]):
        found = reader.decode(values)
        assert len(found.rows) == len(found.ids) == len(listed(found.columns["amount"])) == 0
        assert len(found.rejected) == len(values)


def test_writers_and_frames_may_mix_in_a_batch() -> None:
    old = schema_of(("id", "string"), file="old.avsc")
    new = schema_of(("id", "string"), ("kind", "string", "none"), ("amount", "double", 1.0), file="new.avsc")
    folder = directory(old, new, ids={5: new})
    rows = [{"id": f"e{row}", "kind": "k", "amount": float(row)} for row in range(6)]
    values: list[bytes | None] = [
        framed(old, row) if index % 2 else confluent_prefix(5) + payload(new, row) for index, row in enumerate(rows)
    ]
    values[3] = b"junk"
    found = Decoder(folder, new, Fields("id", columns=("kind", "amount"))).decode(values)
    assert found.rows.tolist() == [0, 1, 2, 4, 5]
    assert found.ids.to_pylist() == ["e0", "e1", "e2", "e4", "e5"]
    assert listed(found.columns["kind"]) == ["k", "none", "k", "k", "none"]
    assert listed(found.columns["amount"]) == [0.0, 1.0, 2.0, 4.0, 1.0]


def test_a_schema_known_but_of_another_record_is_rejected_with_the_reason() -> None:
    other = schema_of(("id", "string"), name="Refund")
    found = Decoder(directory(SIMPLE, other), SIMPLE, Fields("id")).decode([framed(other, {"id": "a"}), simple(1)])
    assert found.rows.tolist() == [1]
    assert found.rejected[0].reason == Reason.UNDECODABLE
    assert "Refund" in found.rejected[0].message and "alias" in found.rejected[0].message


def test_bytes_fixed_and_decimals_are_decoded_by_columns() -> None:
    schema = schema_of(
        ("id", "string"),
        ("price", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}),
        ("fee", ["null", {"type": "fixed", "name": "Fee", "size": 6, **DECIMAL}]),
        ("tag", "bytes"),
    )
    assert codec_for(schema).batched
    rows: list[dict[str, Any]] = [
        {"id": "a", "price": Decimal("-12.34"), "fee": Decimal("0.125"), "tag": b"ok"},
        {"id": "b", "price": Decimal("0"), "fee": None, "tag": b"\xff"},
    ]
    values: list[bytes | None] = [framed(schema, row) for row in rows]
    found = decoder(schema, "price", "fee", "tag").decode([*values * 10, (values[0] or b"")[:-1]])
    assert listed(found.columns["price"]) == [-12.34, 0.0] * 10
    assert listed(found.columns["fee"]) == [0.125, None] * 10
    assert listed(found.columns["tag"]) == ["6f6b", "ff"] * 10
    assert [one.row for one in found.rejected] == [20]


def test_a_panic_of_the_batch_decoder_is_a_malformed_batch_and_an_interrupt_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class PanicException(BaseException):
        pass

    def panics(*_: Any) -> None:
        raise PanicException("not implemented")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    reader = decoder(SIMPLE, "count")
    monkeypatch.setattr("pyruhvro.deserialize_array", panics)
    assert listed(reader.decode([simple(0), simple(1)]).columns["count"]) == [0, 1], "fastavro reads them"
    assert not Codec(SIMPLE).batched, "a schema that panics when it is probed is never given to it again"
    monkeypatch.setattr("pyruhvro.deserialize_array", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reader.decode([simple(0)])


def test_a_decoder_that_misreads_is_found_out_by_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Codec.batch

    def shifted(codec: Codec, *arguments: Any) -> Any:
        batch, wrong = real(codec, *arguments)
        place = batch.schema.get_field_index("count")
        return batch.set_column(place, "count", pa.array([0] * batch.num_rows, pa.int64())), wrong

    assert Codec(SIMPLE).batched
    monkeypatch.setattr(Codec, "batch", shifted)
    assert not Codec(SIMPLE).batched


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (Fields("nope"), "has no field 'nope'; it has id, amount, count"),
        (Fields("amount"), "amount: the id must be a string, a whole number"),
        (Fields("id", tenant="amount"), "amount: the tenant must be a string, a whole number"),
        (Fields("id", time="id"), "the event time must be a timestamp"),
        (Fields("id", time="amount"), "the event time must be a timestamp"),
        (Fields("id", columns=("amount.x",)), "amount is double, not a record"),
    ],
)
def test_a_decoder_refuses_fields_its_schema_does_not_have(fields: Fields, said: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Decoder(directory(SIMPLE), SIMPLE, fields)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"type": "array", "items": "int"}, "is of type array"),
        ({"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}, "name one of its fields"),
        (["int", "string"], "text for one event and a number for another"),
    ],
)
def test_what_makes_no_column_is_refused(kind: Any, said: str) -> None:
    schema = schema_of(("id", "string"), ("odd", kind))
    with pytest.raises(SchemaError, match=said):
        decoder(schema, "odd")


def test_parts_of_a_batch_with_other_formats_join() -> None:
    cash = schema_of(("id", "string"), ("amount", "double"), ("shop", "string"), name="Cash")
    one = decoder(SIMPLE, "amount", "count").decode([simple(2), b"bad"])
    two = decoder(cash, "amount", "shop").decode([framed(cash, {"id": "c", "amount": 9.0, "shop": "s"})])
    both = concat([one.renumbered(np.array([2, 1])), two.renumbered(np.array([0]))])
    assert both.rows.tolist() == [0, 2]
    assert both.ids.to_pylist() == ["c", "e2"]
    assert listed(both.columns["amount"]) == [9.0, 1.0]
    assert listed(both.columns["count"]) == [None, 2.0]
    assert listed(both.columns["shop"]) == ["s", None]
    assert [one.row for one in both.rejected] == [1]
    assert both.times is None and both.tenants is None


def test_a_column_of_two_kinds_does_not_join() -> None:
    text = schema_of(("id", "string"), ("amount", "string"))
    other = decoder(text, "amount").decode([framed(text, {"id": "a", "amount": "1"})])
    parts = [decoder(SIMPLE, "amount").decode([simple(0)]), other]
    with pytest.raises(SchemaError, match="amount: text in one event format"):
        concat(parts)


def test_ids_of_fixed_width() -> None:
    ids = pa.array(["zero", "a", None, "grün", "", "x" * 300])
    expected = [b"zero", b"a", b"", "grün".encode(), b"", b"x" * 256]
    assert fixed_width(ids).tolist() == expected
    assert fixed_width(ids.slice(1, 3)).tolist() == expected[1:4], "an array that begins inside its buffer"
    assert fixed_width(pa.array([], pa.string())).tolist() == []


def test_the_record_decoder_refuses_what_fastavro_alone_would_take() -> None:
    schema = schema_of(("id", "string"), ("flag", "boolean"), ("kind", {"type": "enum", "name": "K", "symbols": ["A"]}))
    good = payload(schema, {"id": "", "flag": True, "kind": "A"})
    document = fastavro.parse_schema(json.loads(schema.text))
    for bad in (good[:1] + b"\x02" + good[2:], good[:2] + b"\x01"):
        fastavro.schemaless_reader(io.BytesIO(bad), document, None)
        with pytest.raises(Malformed):
            codec_for(schema).record(bad)


def test_text_that_is_not_utf8_is_rejected_alone() -> None:
    schema = schema_of(("id", "string"), ("name", ["null", "string"]))
    good = [framed(schema, {"id": f"é{row}", "name": "ü"}) for row in range(3)]
    for broken in ("é", "ü"):
        bad = good[1].replace(broken.encode(), b"\xc3\x28")
        found = decoder(schema, "name").decode([good[0], bad, good[2]])
        assert [one.row for one in found.rejected] == [1], broken
        assert found.ids.to_pylist() == ["é0", "é2"]


def test_an_int_that_is_none_is_rejected_in_both_paths() -> None:
    longs = schema_of(("id", "string"), ("amount", "double"), ("count", "long"))
    wide = payload(longs, {"id": "w", "amount": 0.0, "count": 2**31})
    values = [simple(0), simple(0)[:10] + wide]
    assert [one.row for one in decoder(SIMPLE, "count").decode(values).rejected] == [1]
    with record_by_record(SIMPLE):
        assert [one.row for one in decoder(SIMPLE, "count").decode(values).rejected] == [1]


def test_arrays_in_sized_blocks_are_read_by_both_paths() -> None:
    schema = schema_of(("id", "string"), ("tags", {"type": "array", "items": "string"}), ("count", "int"))
    head = framed(schema, {"id": "a", "tags": [], "count": 0})[:12]
    value = head + b"\x03\x08\x02x\x02y" + b"\x01\x04\x02z" + b"\x00" + b"\x0e"  # counts of -2 and -1, with sizes
    assert decode_records(directory(schema), [value]) == [{"id": "a", "tags": ["x", "y", "z"], "count": 7}]
    assert listed(decoder(schema, "count").decode([value]).columns["count"]) == [7]
    with record_by_record(schema):
        assert listed(decoder(schema, "count").decode([value]).columns["count"]) == [7]


def test_a_union_is_read_by_the_branch_that_was_written() -> None:
    day, stamp = {"type": "int", "logicalType": "date"}, {"type": "long", "logicalType": "timestamp-millis"}
    schema = schema_of(("id", "string"), ("x", ["null", day, stamp]), ("n", ["null", "int", "long"]))
    head = framed(schema, {"id": "a", "x": None, "n": None})[:12]
    values = [head + rest for rest in (b"\x04\x50\x04\x80\x80\x80\x80\x20", b"\x02\x50\x02\x0e", b"\0\0")]
    reader = decoder(schema, "x", "n")
    with record_by_record(schema):
        alone = reader.decode(values)
    for found in (reader.decode(values), alone):
        assert not found.rejected
        assert listed(found.columns["x"]) == [40.0, 40.0, None]
        assert listed(found.columns["n"]) == [2.0**32, 7.0, None]


def test_unknown_prefixes_are_not_remembered() -> None:
    """There is one for every value that somebody invents."""
    reader = decoder(SIMPLE)
    reader.decode([simple(0)])
    known = len(reader._writers)
    ids = [confluent_prefix(number) + b"x" for number in range(2000)]
    fingerprints = [b"\xc3\x01" + number.to_bytes(8, "big") + b"x" for number in range(2000)]
    found = reader.decode([*ids, *fingerprints, simple(1)])
    assert {one.reason for one in found.rejected} == {Reason.UNKNOWN_SCHEMA}
    assert (found.rows.tolist(), len(reader._writers)) == ([4000], known)


def test_a_schema_that_nothing_can_be_made_of_costs_its_own_events(monkeypatch: pytest.MonkeyPatch) -> None:
    other = schema_of(("id", "string"), ("more", "int"), file="other.avsc", name="Event")
    reader = Decoder(directory(SIMPLE, other), SIMPLE, Fields("id"))

    def fails(schema: Any) -> Any:
        raise RecursionError("nobody foresaw this")

    monkeypatch.setattr(
        "muse_stream.avro.decoder.codec_for", lambda one: fails(one) if one is other else codec_for(one)
    )
    found = reader.decode([simple(0), framed(other, {"id": "a", "more": 1}), simple(2)])
    assert found.rows.tolist() == [0, 2]
    assert [(one.row, one.reason) for one in found.rejected] == [(1, Reason.UNDECODABLE)]


def test_no_fault_of_ours_costs_more_than_the_records_that_cause_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding never raises for data: whatever nobody has foreseen is `undecodable`, and found record by record."""
    from muse_stream.avro import decoder as module  # noqa: PLC0415
    from muse_stream.avro import record_columns  # noqa: PLC0415

    def fails(*_: Any) -> Any:
        raise pa.ArrowInvalid("nobody foresaw this")

    def fails_at_seven(route: Any, picked: Any) -> Any:
        return fails() if any(value == 7 for _, value in picked) else column(route, picked)

    column = record_columns.column
    reader = decoder(SIMPLE, "count")
    values = [simple(row) for row in range(40)]
    monkeypatch.setattr(module, "extract", fails)
    assert listed(reader.decode(values).columns["count"]) == list(range(40))
    monkeypatch.setattr(module, "column", fails_at_seven)
    found = reader.decode(values)
    assert listed(found.columns["count"]) == [row for row in range(40) if row != 7]
    ((row, reason, message),) = [(one.row, one.reason, one.message) for one in found.rejected]
    assert (row, reason) == (7, Reason.UNDECODABLE) and "nobody foresaw this" in message


@pytest.mark.parametrize(
    ("wants", "default", "read"),
    [
        ("double", "NaN", None),
        ("float", "INF", np.inf),
        (["double", "null"], "-Infinity", -np.inf),
        (["null", "double"], None, None),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "\u0001\u0000", 2.56),
        ({"type": "int", "logicalType": "date"}, 20_000, 20_000),
        (["string", "null"], "a", "a"),
        ("bytes", "\u00ff", "ff"),
        ({"type": "enum", "name": "K", "symbols": ["A", "B"]}, "B", "B"),
    ],
)
def test_a_default_means_what_its_type_means(wants: Any, default: Any, read: Any) -> None:
    writer = schema_of(("id", "string"), file="w.avsc")
    again = {**wants, "name": "Again"} if isinstance(wants, dict) and "name" in wants else wants
    inner = {"type": "record", "name": "Sub", "fields": [{"name": "x", "type": again, "default": default}]}
    reader = schema_of(("id", "string"), ("x", wants, default), ("sub", inner, {}), file="r.avsc")
    found = Decoder(directory(writer, reader), reader, Fields("id", columns=("x", "sub.x"))).decode(
        [framed(writer, {"id": "a"})] * 2
    )
    assert not found.rejected
    assert listed(found.columns["x"]) == listed(found.columns["sub.x"]) == [read, read]


def test_a_default_that_is_not_finite_is_one() -> None:
    writer = schema_of(("id", "string"), file="w.avsc")
    reader = schema_of(("id", "string"), ("x", "double", "NaN"), ("y", "float", "-Infinity"), file="r.avsc")
    folder = directory(writer, reader)
    found = Decoder(folder, reader, Fields("id", columns=("x", "y"))).decode([framed(writer, {"id": "a"})])
    assert listed(found.columns["x"]) == [None] and listed(found.columns["y"]) == [-np.inf]
