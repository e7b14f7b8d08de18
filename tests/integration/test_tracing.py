"""Traces of a running worker: what the producer began goes on in the score, and no collector is waited for."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muse_stream import testing
from muse_stream.testing import CommittedReader, ToSend
from muse_stream.testing.kafka_broker import Broker
from muse_stream.testing.local_kafka import free_ports
from tests.integration.bank import PARTITIONS, Bank
from tests.integration.fleet import Fleet, publish
from tests.otlp_receiver import Collector, attributes, exporting
from tests.patience import until
from tests.runtime.test_batch_scorer import changed

KINDS = {"sampled": "01", "not": "00", "none": None}


@pytest.fixture
def bank(kafka: Broker, tmp_path: Path, unique: Callable[[str], str], make_topic: Callable[..., str]) -> Bank:
    """A bank whose answers get the trace context of their events."""
    made = Bank(tmp_path / "bank", unique("bank"), tenants=1)
    for topic in made.topics():
        make_topic(name=topic, partitions=PARTITIONS)
    return made


def passing(document: Any) -> None:
    document["events"]["payment"]["headers"] = ["traceparent"]


def send(bank: Bank, kafka: Broker, first: int) -> dict[bytes, str]:
    """Send an event of each kind; returns the traceparents, by kind."""
    sent: dict[bytes, str] = {}
    records = []
    for number, ((tenant, partition, value), (kind, flags)) in enumerate(
        zip(bank.events(len(KINDS)), KINDS.items(), strict=True)
    ):
        header = f"00-{first + number:032x}-{first + number:016x}-{flags}"
        headers: dict[str, str | bytes | None] | None = {"traceparent": header} if flags else None
        records.append(ToSend(bank.topic("events", tenant), partition, value, b"k", headers))
        sent[header.encode() if flags else b""] = kind
    testing.produce(kafka.bootstrap, records)
    return sent


def test_a_trace_goes_on_from_the_event_to_its_score(bank: Bank, kafka: Broker, tmp_path: Path) -> None:
    publish(changed(bank.document(), passing), tmp_path / "store")
    (port,) = free_ports(1)
    options: dict[str, Any] = {"workers": 1, "trace_ratio": 0.0, "environment": exporting(port)}
    found: list[dict[str, bytes]] = []

    def scored(count: int) -> None:
        def read() -> bool:
            found.extend(map(headers_of, reader.read()))
            return len(found) >= count

        until(read, 60, lambda: str(found))

    with (
        Fleet(kafka.bootstrap, tmp_path / "store", "live", bank.name, tmp_path / "log", **options) as live,
        CommittedReader(kafka.bootstrap, dict.fromkeys(bank.topics(["scores"]), PARTITIONS)) as reader,
    ):
        send(bank, kafka, 1)
        scored(3)  # nobody listens on the collector's port
        until(lambda: bool(live.lines("spans_lost")), 60, lambda: "nothing was lost")
        with Collector(port) as collector:
            sent = send(bank, kafka, 100)
            scored(6)
            (span,) = collector.wait_for("score ", 1)
            assert live.stop() == 0
    assert live.lines("spans_lost")[0]["collector"] == f"http://127.0.0.1:{port}"
    by_kind = {kind: header for header, kind in sent.items()}
    ours = b"00-%032x-%s-01" % (100, span.span_id.hex().encode())
    assert span.parent_span_id.hex() == f"{100:016x}"
    assert sorted(one.get("traceparent", b"") for one in found[3:]) == sorted([ours, by_kind["not"], b""])
    said = attributes(span)
    assert (said["muse.tenant"], said["muse.predictor"], said["muse.generation"]) == ("t0", "plain", 1)
    assert said["messaging.consumer.group.name"] == f"muse.{bank.name}.live"
    (resource,) = {str(one) for one in collector.resources}
    assert re.search(r"'service.instance.id': 'test-0'", resource)


def headers_of(message: Any) -> dict[str, bytes]:
    return dict(message.headers() or [])
