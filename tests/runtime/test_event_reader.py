"""Raw records to a table of events: each row once or rejected once, its tenant, its intent, its time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muse_stream.avro import SchemaDirectory
from muse_stream.config import load_document
from muse_stream.errors import Reason, SchemaError
from muse_stream.runtime.event_reader import EventReader, Events
from muse_stream.worker import Batch, Header
from tests.integration.bank import Bank
from tests.runtime.test_batch_scorer import NOW, batch, changed, event

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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
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


def test_time_is_the_event_s_or_else_kafka_s(bank: Bank) -> None:
    topics, values = [bank.topic("events", "t0")] * 2, [event(bank, at=5), event(bank, at=-1)]
    assert reader_of(bank).read(batch(topics, values), ids=False).times.tolist() == [5, NOW]

    def timeless(document: Any) -> None:
        del document["events"]["payment"]["time"]

    assert reader_of(bank, timeless).read(batch(topics, values), ids=False).times.tolist() == [NOW, NOW]


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
