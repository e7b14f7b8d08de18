"""Traces of a running worker: what the producer began goes on in the score, and no collector is waited for."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muse_stream import testing
from muse_stream.testing import CommittedReader, ToSend
from muse_stream.testing.kafka_broker import Broker
from muse_stream.testing.local_kafka import free_ports
from tests.deploy.test_alerts import documented, promtool
from tests.integration.bank import PARTITIONS, Bank
from tests.integration.fleet import Fleet, publish
from tests.integration.test_health_pages import fetch
from tests.otlp_receiver import Collector, attributes, exporting
from tests.patience import until
from tests.runtime.test_batch_scorer import changed

EXPORTED = re.compile(r'muse_trace_spans_total\{slot="0",outcome="exported"\} [1-9]')
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
    (port, pages, run) = free_ports(3)
    options: dict[str, Any] = {"workers": 1, "trace_ratio": 0.0, "environment": exporting(port)}
    options |= {"health_port": pages, "metrics_port": run}
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
            until(lambda: bool(EXPORTED.search(fetch(run, "/metrics"))), 60, lambda: fetch(run, "/metrics"))
            page = fetch(run, "/metrics")
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

    checked(page)


def checked(page: str) -> None:
    """A live worker's page has all that is documented, and promtool finds nothing wrong with it."""
    shown = set(re.findall(r"^# TYPE (muse_\w+) ", page, re.MULTILINE))
    assert shown == {
        name for name in documented() if not re.match(r"muse_(shadow|watch|calibrate|drift|refresh)", name)
    }
    for stage in ("decode", "score", "encode", "wait", "send", "commit"):
        assert f'muse_stage_seconds_count{{slot="0",stage="{stage}"}}' in page
    said = subprocess.run([promtool(), "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def headers_of(message: Any) -> dict[str, bytes]:
    return dict(message.headers() or [])
