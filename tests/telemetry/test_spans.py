"""Spans reach a collector, and a collector that is away costs nothing but the spans."""

import logging
import threading
from collections.abc import Iterator

import pytest

from muse_stream.errors import ConfigError
from muse_stream.telemetry.spans import Parent, Spans, spans_wanted
from muse_stream.testing.local_kafka import free_ports
from tests.otlp_receiver import Collector, attributes, exporting
from tests.patience import until
from tests.worker.doubles import ListLog

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as found:
        given(monkeypatch, found.environment)
        yield found


def given(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_span_goes_on_with_its_parents_trace(collector: Collector) -> None:
    spans = Spans({"service.instance.id": "host-0"}, ListLog())
    whole = spans.start("batch", 1_000, {"muse.generation": 7})
    parent = Parent({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"})
    one = spans.start("score events", 2_000, {"names": ["a", "b"]}, parent=parent, of=whole)
    never = spans.start("not ended", 2_000, {})
    spans.end(one, 3_000)
    spans.close()
    (seen,) = collector.spans
    assert (seen.trace_id.hex(), seen.parent_span_id.hex(), seen.trace_state) == (TRACE, SPAN, "vendor=1")
    assert (seen.name, seen.start_time_unix_nano, seen.end_time_unix_nano) == ("score events", 2_000, 3_000)
    assert one.traceparent == f"00-{TRACE}-{seen.span_id.hex()}-01".encode()
    assert seen.kind == seen.SPAN_KIND_CONSUMER
    assert attributes(seen) == {"names": ["a", "b"]}
    assert [link.span_id.hex() for link in seen.links] == [whole.traceparent.split(b"-")[2].decode()]
    assert never.traceparent[3:35] != one.traceparent[3:35]
    (resource,) = collector.resources
    assert resource["service.name"] == "muse-stream"
    assert resource["service.instance.id"] == "host-0"
    assert spans.counts() == {"exported": 1, "lost": 0, "dropped": 0}


def test_a_name_of_the_service_is_taken_from_the_standard_variable(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "fraud-scores")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    spans = Spans({}, ListLog())
    spans.end(spans.start("batch", 1, {}), 2)
    spans.close()
    assert collector.resources[0]["service.name"] == "fraud-scores"


@pytest.mark.parametrize(
    ("headers", "sampled"),
    [
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, True),
        ({"traceparent": f"00-{TRACE}-{SPAN}-00"}, False),
        ({"traceparent": "01"}, None),
        ({}, None),
    ],
)
def test_what_was_decided_where_the_trace_began_is_known(headers: dict[str, str], sampled: bool | None) -> None:
    assert Parent(headers).sampled is sampled


def test_a_collector_that_does_not_answer_costs_its_spans_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it: not who ends a span, and not for long who ends a process."""
    log, goes_on = ListLog(), threading.Event()
    with Collector(before=lambda: goes_on.wait(600)) as silent:
        patient = {"OTEL_EXPORTER_OTLP_TIMEOUT": "600", "OTEL_BSP_MAX_QUEUE_SIZE": "64"}
        given(monkeypatch, {**silent.environment, **patient})
        spans = Spans({}, log)
        for _ in range(100):
            spans.end(spans.start("score", 1, {}), 2)
        spans.close()  # or the test would take ten minutes
        assert spans.counts() == {"exported": 0, "lost": 0, "dropped": 36}
        goes_on.set()
    (dropped,) = log.said("spans_dropped")
    assert dropped["waiting"] == 64
    assert [line["events"] for line in log.said("spans_lost")] == [64]


def test_a_collector_that_is_away_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = exporting(free_ports(1)[0])
    given(monkeypatch, nobody)
    log = ListLog()
    spans = Spans({}, log)
    spans.end(spans.start("score", 1, {}), 2)
    until(lambda: spans.counts()["lost"] == 1, 60, lambda: str(spans.counts()))
    spans.close()
    (lost,) = log.said("spans_lost")
    assert lost["collector"] == nobody["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert "Failed to export" in lost["error"]


def test_a_collector_that_refuses_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector(answer=400) as refusing:
        given(monkeypatch, refusing.environment)
        log = ListLog()
        spans = Spans({}, log)
        for name in list(logging.root.manager.loggerDict):  # as `logging.config.dictConfig` of some library does
            if name.startswith("opentelemetry"):
                monkeypatch.setattr(logging.getLogger(name), "disabled", True)
        for count in range(1, 3):
            spans.end(spans.start("score", 1, {}), 2)
            until(lambda count=count: spans.counts()["lost"] == count, 60, lambda: str(spans.counts()))  # type: ignore[misc]
        spans.close()
    (said,) = log.said("spans_lost")
    assert "400" in said["error"]


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({"OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_turn_it_off(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: bool
) -> None:
    given(monkeypatch, variables)
    assert spans_wanted() is wanted


def test_an_exporter_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, {"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"})
    with pytest.raises(ConfigError) as error:
        spans_wanted()
    said = str(error.value)
    assert "OTEL_TRACES_EXPORTER: there is no exporter 'zipkin'" in said
    assert "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: spans are not exported by 'grpc'" in said
    assert "http/protobuf" in said


@pytest.mark.parametrize(
    "name", ["OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY"]
)
def test_a_number_that_is_none_is_refused_before_a_worker_meets_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "0")
    with pytest.raises(ConfigError, match=f"{name}: '0' is not a number of"):
        spans_wanted()
