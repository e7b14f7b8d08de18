"""Spans of OpenTelemetry (the one module that imports `opentelemetry`; only a process that makes spans imports it).

W3C trace context, OTLP over HTTP and the variables `OTEL_*` are the SDK's. A thread of its own exports; nothing here
waits for it or raises. Spans that cannot be exported are counted, and said once a minute.

Invariant: what is not ended is not exported. Who opens spans for work that may be undone ends them when it stands.
"""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_BSP_SCHEDULE_DELAY,
)
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from muse_stream.errors import ConfigError, Problem
from muse_stream.telemetry.bounded import BoundedLog
from muse_stream.telemetry.logs import Log

Attributes: TypeAlias = Mapping[str, str | int | float | Sequence[str]]
TRACEPARENT = "traceparent"
SERVICE = "muse-stream"
QUEUE, TOGETHER = 2048, 512
"""Spans that wait to be exported, and those exported at once, where variables do not say how many: the SDK's own."""
CLOSE_S = 1.0
"""A worker drains within ten seconds; what a collector has not taken by then is lost."""
_VENDOR = "opentelemetry"
_CONTEXT = TraceContextTextMapPropagator()
_NUMBERS = {
    OTEL_BSP_MAX_QUEUE_SIZE: "spans",
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "spans",
    OTEL_BSP_SCHEDULE_DELAY: "milliseconds",
}
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def spans_wanted() -> bool:
    """Whether the standard variables let spans be exported; raises ConfigError for what they ask and this cannot do."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    problems = []
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if exporter not in ("otlp", "none"):
        problems.append(Problem("OTEL_TRACES_EXPORTER", f"there is no exporter '{exporter}'", "otlp, or none"))
    protocol = next(((name, value) for name in _PROTOCOLS if (value := os.environ.get(name, "").strip())), None)
    if protocol is not None and protocol[1] != "http/protobuf":
        right = "http/protobuf, as a rule on port 4318 of a collector"
        problems.append(Problem(protocol[0], f"spans are not exported by '{protocol[1]}'", right))
    problems += [
        Problem(name, f"'{value}' is not a number of {of}", "a whole number greater than 0")
        for name, of in _NUMBERS.items()
        if (value := os.environ.get(name, "").strip()) and not _number(name)
    ]
    if problems:
        raise ConfigError(problems)
    return exporter == "otlp"


class OpenSpan:
    """A span that has begun."""

    __slots__ = ("span",)

    def __init__(self, span: Span) -> None:
        self.span = span

    @property
    def traceparent(self) -> bytes:
        """What a record says whose reader goes on with this span's trace."""
        carrier: dict[str, str] = {}
        _CONTEXT.inject(carrier, set_span_in_context(self.span, Context()))
        return carrier[TRACEPARENT].encode()

    def failed(self, why: str) -> None:
        """Say that the work came to nothing."""
        self.span.set_status(StatusCode.ERROR, why)


class Parent:
    """The trace that a record says it belongs to, if it says so."""

    __slots__ = ("context", "sampled")

    def __init__(self, headers: Mapping[str, str]) -> None:
        """`headers`: `traceparent` and `tracestate`; what is not as W3C has it counts as absent."""
        self.context = _CONTEXT.extract(headers, context=Context())
        found = get_current_span(self.context).get_span_context()
        self.sampled: bool | None = found.trace_flags.sampled if found.is_valid else None
        """What was decided where the trace began; None where there is none."""


class Spans:
    """Makes the spans of one process, which must not fork from then on: the SDK's thread starts here."""

    def __init__(self, facts: Mapping[str, str], log: Log) -> None:
        """`facts`: attributes of the process, such as `service.instance.id`; OTEL_RESOURCE_ATTRIBUTES adds others."""
        resource = Resource.create(facts)
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
        self._log, self._full = log, BoundedLog(log.warning)
        self._said = _Said()
        self._said.hear()
        self._queue = _number(OTEL_BSP_MAX_QUEUE_SIZE) or QUEUE
        together = min(_number(OTEL_BSP_MAX_EXPORT_BATCH_SIZE) or TOGETHER, self._queue)
        self._exporter = _Counted(OTLPSpanExporter(), self._said, BoundedLog(log.warning))
        # what is made here was decided on before: OTEL_TRACES_SAMPLER would decide a second time
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(self._exporter, max_queue_size=self._queue, max_export_batch_size=together)
        )
        self._tracer = self._provider.get_tracer("muse_stream")
        self._ended = self._dropped = 0

    def start(
        self,
        name: str,
        began_ns: int,
        attributes: Attributes,
        *,
        parent: Parent | OpenSpan | None = None,
        of: OpenSpan | None = None,
    ) -> OpenSpan:
        """Begin a span; without `parent`, of a new trace. `of` is a span of another trace that it was a part of.

        With a `Parent`, be it one that names no trace, it is a consumer's.
        """
        context = Context()
        if isinstance(parent, Parent):
            context = parent.context
        elif parent is not None:
            context = set_span_in_context(parent.span, context)
        span = self._tracer.start_span(
            name,
            context,
            SpanKind.CONSUMER if isinstance(parent, Parent) else SpanKind.INTERNAL,
            attributes,
            links=[Link(of.span.get_span_context())] if of is not None else None,
            start_time=began_ns,
        )
        return OpenSpan(span)

    def end(self, one: OpenSpan, at_ns: int) -> None:
        """End a span, to be exported; where too many wait it is dropped."""
        if self._ended - self._exporter.exported - self._exporter.lost >= self._queue:
            self._dropped += 1
            self._full.note("spans_dropped", "full", waiting=self._queue, collector=_collector(), error=self._said.last)
            return
        self._ended += 1
        one.span.end(at_ns)

    def counts(self) -> dict[str, int]:
        """Return how many were exported, lost (the collector did not take them) and dropped (too many waited)."""
        return {"exported": self._exporter.exported, "lost": self._exporter.lost, "dropped": self._dropped}

    def close(self) -> None:
        """Export what waits, for a second at most."""
        closing = threading.Thread(target=self._provider.shutdown, name="spans-close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        if left := self._ended - self._exporter.exported - self._exporter.lost:
            why = self._said.last or "not exported before the end"
            self._log.warning("spans_lost", events=left, collector=_collector(), error=why)


class _Said(logging.Handler):
    """Keeps what the SDK said last, for our own line."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def hear(self) -> None:
        """Have all that the SDK says come here, and nowhere else: it would write plain text among the lines of our log.

        Whoever configures `logging` in this process disables loggers that it does not know: `telemetry/logs.py`.
        """
        vendor = logging.getLogger(_VENDOR)
        vendor.handlers[:], vendor.propagate = [self], False
        vendor.setLevel(self.level)
        for name, one in list(logging.root.manager.loggerDict.items()):
            if isinstance(one, logging.Logger) and f"{name}.".startswith(f"{_VENDOR}."):
                one.disabled = False

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


class _Counted(SpanExporter):
    """Counts what the exporter has done; called by the SDK's thread alone."""

    def __init__(self, exporter: SpanExporter, said: _Said, lost: BoundedLog) -> None:
        self._exporter, self._said, self._log = exporter, said, lost
        self.exported = self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._said.hear()
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001  # an address that is none, say: the SDK's thread must go on
            result, self._said.last = SpanExportResult.FAILURE, repr(error)
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
        else:
            self.lost += len(spans)
            self._log.note("spans_lost", "lost", len(spans), collector=_collector(), error=self._said.last)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _collector() -> str:
    """Return where spans go, for the log."""
    named = (os.environ.get(f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT", "").strip() for kind in ("TRACES_", ""))
    return next(filter(None, named), "http://localhost:4318")


def _number(name: str) -> int:
    """Return the number that a variable gives; 0 where it gives none."""
    given = os.environ.get(name, "").strip()
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
