"""Raw records to a table of events: each row once or rejected once, its tenant, its intent, its time."""

import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muse_stream.avro import SchemaDirectory
from muse_stream.avro.framing import single_object_prefix
from muse_stream.config import load_document
from muse_stream.errors import Reason, SchemaError
from muse_stream.runtime.batch_scorer import build_scorer
from muse_stream.runtime.event_reader import EventReader, Events
from muse_stream.worker import Batch, Header
from tests.integration.bank import AT, SCHEMA, Bank
from tests.runtime.test_batch_scorer import NOW, batch, changed, event, records

UUID_TEXT = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
NEEDED = {"payment": ("amount", "risk")}


def reader_of(bank: Bank, change: Callable[[Any], None] = lambda document: None) -> EventReader:
    path = changed(bank.document(), change)
    schemas = SchemaDirectory.open(bank.folder / "schemas")
    return EventReader(load_document(path).document, bank.name, schemas, NEEDED)


def sharing(source: dict[str, str]) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document["topics"]["events"] = "all.events"
        document["events"]["payment"]["tenant"] = source

    return change


def tenants(events: Events) -> list[str | None]:
    column = events.tenant
    return [column.values[code] for code in column.codes.tolist()]


def intent(events: Events, name: str) -> list[str | None]:
    column = events.intent[name]
    return [None if code < 0 else column.values[code] for code in column.codes.tolist()]


def refused(events: Events) -> dict[int, Reason]:
    return {one.row: one.reason for one in events.rejected}


def test_the_table_has_what_was_asked_for_of_every_event(bank: Bank) -> None:
    values = [event(bank, id=f"e{row}", amount=float(row), tenant=f"t{row % 2}") for row in range(4)]
    topics = [bank.topic("events", f"t{row % 2}") for row in range(4)]
    events = reader_of(bank).read(batch(topics, values), ids=True)
    assert events.rows.tolist() == [0, 1, 2, 3]
    assert events.rejected == []
    assert tenants(events) == ["t0", "t1", "t0", "t1"]
    assert events.features["amount"].tolist() == [0.0, 1.0, 2.0, 3.0]  # type: ignore[union-attr]
    assert events.ids is not None
    assert events.ids.tolist() == [b"e0", b"e1", b"e2", b"e3"]
    assert [events.topics.values[code] for code in events.topics.codes] == topics
    assert reader_of(bank).read(batch(topics, values), ids=False).ids is None, "they cost, and were not asked for"


KINDS: dict[str, Reason | None] = {
    "good": None,
    "no record": Reason.UNDECODABLE,
    "nothing": Reason.UNDECODABLE,
    "no id": Reason.MISSING_ID,
    "of another": Reason.WRONG_TENANT,
    "of nobody": Reason.WRONG_TENANT,
    "large": Reason.OVERSIZE,
}


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=50, deadline=None
)
@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=20))
def test_every_row_is_in_the_table_once_or_rejected_once(bank: Bank, kinds: list[str]) -> None:
    made = {
        "good": event(bank),
        "no record": b"nonsense",
        "nothing": None,
        "no id": event(bank, id=""),
        "of another": event(bank, tenant="t1"),
        "of nobody": event(bank, tenant="nobody"),
        "large": event(bank, id="x" * 2_000),
    }
    reader = reader_of(bank, lambda document: document.update(limits={"max_event_bytes": 2_000}))
    given_rows = batch([bank.topic("events", "t0")] * len(kinds), [made[kind] for kind in kinds])
    events = reader.read(given_rows, ids=False)
    assert events.rows.tolist() == [row for row, kind in enumerate(kinds) if KINDS[kind] is None]
    assert len(events.rejected) == len(refused(events))
    assert refused(events) == {row: KINDS[kind] for row, kind in enumerate(kinds) if KINDS[kind] is not None}


@pytest.mark.parametrize("source", [{"field": "tenant"}, {"header": "x-tenant"}])
def test_on_a_shared_topic_the_event_says_whose_it_is(bank: Bank, source: dict[str, str]) -> None:
    named = ["t1", "t0", "nobody", "t1"]
    headers: list[list[Header]] = [[("x-tenant", name.encode())] for name in named]
    values = [event(bank, tenant=name) for name in named]
    events = reader_of(bank, sharing(source)).read(batch(["all.events"] * 4, values, headers), ids=False)
    assert tenants(events) == ["t1", "t0", "t1"]
    assert refused(events) == {2: Reason.UNKNOWN_TENANT}


def test_an_event_without_the_header_that_names_its_tenant_is_nobody_s(bank: Bank) -> None:
    headers: list[list[Header]] = [[], [("x-tenant", None)], [("other", b"t0")]]
    reader = reader_of(bank, sharing({"header": "x-tenant"}))
    events = reader.read(batch(["all.events"] * 3, [event(bank)] * 3, headers), ids=False)
    assert refused(events) == dict.fromkeys(range(3), Reason.UNKNOWN_TENANT)


def test_intent_comes_from_fields_headers_and_the_document(bank: Bank) -> None:
    def change(document: Any) -> None:
        document["events"]["payment"]["intent"] = {
            "risk": {"field": "risk"},
            "region": {"header": "region"},
            "product": {"value": "cards"},
        }

    headers: list[list[Header]] = [
        [("region", b"pt"), ("region", "es")],  # the last one wins: a proxy appends its own
        [("region", b"\xff")],
        [],
    ]
    topics = [bank.topic("events", "t0")] * 3
    events = reader_of(bank, change).read(batch(topics, [event(bank, risk=0.5)] * 3, headers), ids=False)
    assert intent(events, "region") == ["es", "\ufffd", None]
    assert intent(events, "risk") == ["0.5"] * 3
    assert intent(events, "product") == ["cards"] * 3


def test_headers_are_read_only_where_a_format_asks(bank: Bank) -> None:
    """Fetching them costs as much as the rest of the record."""

    def unread() -> list[list[Header]]:
        raise AssertionError("nobody asked for headers")

    given_rows = batch([bank.topic("events", "t0")], [event(bank)])
    lists = (given_rows.topics, given_rows.partitions, given_rows.offsets, given_rows.keys, given_rows.values)
    events = reader_of(bank).read(Batch(*lists, given_rows.timestamps, unread), ids=False)
    assert events.rows.tolist() == [0]


def with_schema(bank: Bank, *fields: Any) -> Any:
    """Give the bank's events more fields, each (name, type), or another type; return how one is written."""
    document = json.loads(SCHEMA)
    by_name = {field["name"]: field for field in document["fields"]}
    by_name |= {name: {"name": name, "type": kind} for name, kind in fields}
    document["fields"] = list(by_name.values())
    (bank.folder / "schemas" / "payment.avsc").write_text(json.dumps(document), encoding="utf-8")
    schema = SchemaDirectory.open(bank.folder / "schemas").by_file("payment.avsc")
    parsed = fastavro.parse_schema(document)
    usual = {"id": "e1", "at": AT, "tenant": "t0", "amount": 40.0, "risk": 0.3}

    def write(**given: Any) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, usual | given)
        return single_object_prefix(schema.fingerprint) + out.getvalue()

    return write


def read_in(bank: Bank, values: list[bytes], change: Callable[[Any], None] = lambda document: None) -> Events:
    return reader_of(bank, change).read(batch([bank.topic("events", "t0")] * len(values), values), ids=False)


def timed(**keys: Any) -> Callable[[Any], None]:
    return lambda document: document["events"]["payment"].update(keys)


def test_time_is_the_event_s_or_else_kafka_s(bank: Bank) -> None:
    write = with_schema(bank, ("at", ["null", {"type": "long", "logicalType": "timestamp-millis"}]))
    values = [write(), write(at=None)]
    assert read_in(bank, values).times.tolist() == [AT, NOW]

    def timeless(document: Any) -> None:
        del document["events"]["payment"]["time"]

    assert read_in(bank, values, timeless).times.tolist() == [NOW, NOW]


FAR = AT * 1000
"""Microseconds, read as milliseconds."""


@pytest.mark.parametrize("value", [FAR, AT // 1000, -1, 0, 2**63 - 1, -(2**63) + 1])
def test_a_time_that_no_event_can_have_is_a_dead_letter_that_names_it(bank: Bank, value: int) -> None:
    write = with_schema(bank, ("at", "long"))
    events = read_in(bank, [write(), write(at=value), write()])
    assert events.times.tolist() == [AT, AT]
    assert refused(events) == {1: Reason.TIME_OUT_OF_RANGE}
    (one,) = events.rejected
    assert one.message.startswith("at is in the year ")
    assert " ms" not in one.message, "messages are logged, and hold no values"
    assert one.message.endswith("events.payment.time_range takes 2000 to 2100")


def test_a_time_that_no_event_can_have_is_kafka_s_where_that_is_asked_for(bank: Bank) -> None:
    write = with_schema(bank, ("at", "long"))
    events = read_in(bank, [write(at=FAR), write()], timed(time_outside="kafka_timestamp"))
    assert (events.times.tolist(), events.rejected) == ([NOW, AT], [])


@pytest.mark.parametrize(
    ("kind", "unit", "value"),
    [
        ("long", "us", AT * 1000 + 999),
        ("long", "s", AT // 1000),
        ("long", "ns", AT * 1_000_000),
        ("int", "s", AT // 1000),
        ({"type": "long", "logicalType": "timestamp-micros"}, "s", AT * 1000),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, "ms", AT * 1000),
        ({"type": "int", "logicalType": "date"}, "ms", AT // 86_400_000),
    ],
)
def test_a_time_is_in_the_unit_that_its_schema_states_or_else_the_configuration(
    bank: Bank, kind: Any, unit: str, value: int
) -> None:
    write = with_schema(bank, ("at", kind))
    (found,) = read_in(bank, [write(at=value)], timed(time_unit=unit)).times.tolist()
    assert 0 <= AT - found < 86_400_000 if "date" in str(kind) else found == AT


def test_seconds_beyond_all_milliseconds_are_out_of_range_too(bank: Bank) -> None:
    write = with_schema(bank, ("at", "long"))
    events = read_in(bank, [write(at=2**62), write(at=-(2**62))], timed(time_unit="s"))
    assert refused(events) == dict.fromkeys((0, 1), Reason.TIME_OUT_OF_RANGE)


def test_the_years_are_the_format_s(bank: Bank) -> None:
    def ms(day: str) -> int:
        return int(np.datetime64(day, "ms").astype(np.int64))

    values = [event(bank, at=ms(day)) for day in ("2023-12-31T23:59:59.999", "2024-01-01", "2027-12-31T23:59:59.999")]
    events = read_in(bank, [*values, event(bank, at=ms("2028-01-01"))], timed(time_range=[2024, 2027]))
    assert events.rows.tolist() == [1, 2]
    assert [one.message.split("year ")[1][:4] for one in events.rejected] == ["2023", "2028"]


def test_a_kafka_timestamp_that_no_reader_can_hold_is_a_dead_letter(bank: Bank) -> None:
    def timeless(document: Any) -> None:
        del document["events"]["payment"]["time"]

    given_rows = batch([bank.topic("events", "t0")] * 2, [event(bank)] * 2)
    lists = (given_rows.topics, given_rows.partitions, given_rows.offsets, given_rows.keys, given_rows.values)
    events = reader_of(bank, timeless).read(Batch(*lists, lambda: [FAR, NOW], given_rows.headers), ids=False)
    assert refused(events) == {0: Reason.TIME_OUT_OF_RANGE}
    assert "Kafka's timestamp" in events.rejected[0].message and str(FAR) in events.rejected[0].message


ATTRIBUTES: list[tuple[Any, Any, str | None]] = [
    ("int", 5411, "5411"),
    ("long", 2**63 - 1, "9223372036854775807"),
    ("long", -(2**53) - 1, "-9007199254740993"),
    ("boolean", True, "true"),
    ("boolean", False, "false"),
    ("double", 0.1, "0.1"),
    ("float", 0.10000000149011612, "0.1"),
    ("double", 5411.0, "5411.0"),
    ("double", float("nan"), "NaN"),
    ({"type": "enum", "name": "K", "symbols": ["A", "B"]}, "B", "B"),
    ("string", "", ""),
    ("bytes", b"\xff\x00", "ff00"),
    ({"type": "fixed", "name": "F", "size": 2}, b"ab", "6162"),
    ({"type": "int", "logicalType": "date"}, 20_000, "20000"),
    ({"type": "long", "logicalType": "timestamp-micros"}, AT, str(AT)),
    ({"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 2}, Decimal("-0.50"), "-0.50"),
    ({"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 0}, Decimal(10**25), "1" + "0" * 25),
    ({"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}, UUID_TEXT, UUID_TEXT),
    ({"type": "string", "logicalType": "uuid"}, UUID_TEXT, UUID_TEXT),
    (["string", "long"], 7, "7"),
]  # fmt: skip


@pytest.mark.parametrize("nullable", [False, True])
@pytest.mark.parametrize(("kind", "value", "text"), ATTRIBUTES)
def test_an_attribute_is_the_text_of_what_was_written(
    bank: Bank, kind: Any, value: Any, text: str, nullable: bool
) -> None:
    kinds = ["null", *(kind if isinstance(kind, list) else [kind])] if nullable else kind
    write = with_schema(bank, ("x", kinds))
    value = UUID(value).bytes if isinstance(kind, dict) and (kind["type"], text) == ("fixed", UUID_TEXT) else value
    values = [write(x=value), *([write(x=None)] if nullable else [])]
    events = read_in(bank, values, timed(intent={"x": {"field": "x"}}))
    assert intent(events, "x") == [text, *([None] if nullable else [])]


def test_a_field_may_be_a_feature_and_an_attribute(bank: Bank) -> None:
    write = with_schema(bank, ("amount", ["null", "long"]), ("risk", ["null", "boolean"]))
    change = timed(intent={"sum": {"field": "amount"}, "risky": {"field": "risk"}})
    events = read_in(bank, [write(amount=2**53 + 1, risk=True), write(amount=None, risk=None)], change)
    assert intent(events, "sum") == [str(2**53 + 1), None]
    assert intent(events, "risky") == ["true", None]
    amount: Any = events.features["amount"]
    assert amount[0] == 2.0**53 and np.isnan(amount[1])


def test_a_rule_on_a_nullable_number_holds(bank: Bank) -> None:
    """The whole way: `when: {mcc: "5411"}` on ["null", "int"], and a null that no condition holds for."""
    write = with_schema(bank, ("mcc", ["null", "int"]))

    def change(document: Any) -> None:
        document["events"]["payment"]["intent"] = {"mcc": {"field": "mcc"}}
        document["routes"] = [{"when": {"mcc": ["5411"]}, "live": "retrained"}, {"live": "plain"}]

    path = changed(bank.document(), change)
    scorer = build_scorer(load_document(path), 1, "live", bank.name)
    values = [write(mcc=5411), write(mcc=None), write(mcc=54110)]
    answer = scorer.score(batch([bank.topic("events", "t0")] * 3, values), 1)
    assert [one["predictor"] for one in records(answer, "score.avsc")] == ["retrained", "plain", "plain"]


def test_senders_of_a_format_are_the_lane_s_tenants_with_their_topics(bank: Bank) -> None:
    def change(document: Any) -> None:
        document["tenants"]["t1"]["lane"] = "elsewhere"

    assert reader_of(bank).senders("payment") == [(name, bank.topic("events", name)) for name in ("t0", "t1")]
    reader = reader_of(bank, change)
    assert reader.senders("payment") == [("t0", bank.topic("events", "t0"))]
    assert reader.tenants == ("t0",)


def test_a_feature_that_the_schema_does_not_have_is_refused(bank: Bank, tmp_path: Path) -> None:
    schemas = SchemaDirectory.open(bank.folder / "schemas")
    with pytest.raises(SchemaError, match="colour"):
        EventReader(load_document(bank.document()).document, bank.name, schemas, {"payment": ("colour",)})


def test_a_feature_that_is_missing_is_no_reason_to_reject(bank: Bank) -> None:
    """Whether a model needs it is the plan's business."""
    events = reader_of(bank).read(batch([bank.topic("events", "t0")], [event(bank, amount=None)]), ids=False)
    assert events.rejected == []
    amount: Any = events.features["amount"]
    assert np.isnan(amount).tolist() == [True]
