"""A collector of traces: takes OTLP over HTTP and reads it by OpenTelemetry's own messages."""

import gzip
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.patience import until


class Collector:
    """Listens on a port of this machine; `answer` is the status that it answers with, `before` is called first."""

    def __init__(self, port: int = 0, answer: int = 200, before: Callable[[], object] = lambda: None) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        ours = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                before()
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if answer == 200:
                    ours._take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                said = ExportTraceServiceResponse().SerializeToString()
                self.send_response(answer)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.port = self._server.server_address[1]

    @property
    def environment(self) -> dict[str, str]:
        """How a process exports here, soon."""
        return exporting(self.port)

    def __enter__(self) -> "Collector":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def named(self, name: str) -> list[Span]:
        """Return the spans whose name begins so."""
        return [one for one in list(self.spans) if one.name.startswith(name)]

    def wait_for(self, name: str, count: int) -> list[Span]:
        """Return the spans of a name when so many have come."""
        until(lambda: len(self.named(name)) >= count, 60, lambda: f"{len(self.named(name))} of {count} spans {name}")
        return self.named(name)

    def _take(self, body: bytes) -> None:
        self.bodies.append(body)
        request = ExportTraceServiceRequest.FromString(body)
        for of_resource in request.resource_spans:
            self.resources.append(attributes(of_resource.resource))
            for of_scope in of_resource.scope_spans:
                self.spans += of_scope.spans


def exporting(port: int) -> dict[str, str]:
    """Return the standard variables for a collector on a port, and for little patience with it."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }


def attributes(one: Any) -> dict[str, Any]:
    """Return the attributes of a span or a resource."""
    return {pair.key: _value(pair.value) for pair in one.attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    read: dict[str, Callable[[], Any]] = {
        "string_value": lambda: value.string_value,
        "int_value": lambda: value.int_value,
        "array_value": lambda: [_value(one) for one in value.array_value.values],
    }
    return read[kind or ""]()
