"""Three pages for whoever runs the process: `/live`, `/ready` and `/metrics`.

HTTP 200, or 503 with one line that says why. Live means "restarting would not help"; ready means "send work". A
question that raises is a no. It listens on 127.0.0.1 unless told otherwise (`muse-stream run` tells it), answers in
daemon threads, and never holds up the end of the process.
"""

import socket
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from muse_stream.telemetry.metrics import CONTENT_TYPE

Question = Callable[[], bool | str]
"""True is yes; False, or a text that says why not, is no."""
READ_TIMEOUT_S = 5.0  # a client that opens a connection and says nothing gives its thread back


class HealthServer:
    """Serve the pages on `host:port` (0 takes a free port) from `start` or `with` until `stop`.

    `host` is an address or a name, IPv4 or IPv6; `::` is every address of both. Raises OSError from the constructor
    when the port is taken, or the address is not this machine's.
    """

    def __init__(
        self,
        port: int,
        live: Question,
        ready: Question,
        metrics: Callable[[], bytes] = bytes,
        *,
        host: str = "127.0.0.1",
    ) -> None:
        self._pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/live": lambda: _verdict(live),
            "/ready": lambda: _verdict(ready),
            "/metrics": lambda: (200, CONTENT_TYPE, metrics()),
        }
        self._server = _Server(host, port, _handler(self._pages))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer; call once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(1.0)
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def check_host(host: str) -> None:
    """Raise OSError when nothing can listen on this address."""
    _Server(host, 0, BaseHTTPRequestHandler).server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # `localhost` is both 127.0.0.1 and ::1: probes say the first
        self.address_family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        super().__init__(address, handler)  # type: ignore[arg-type]  # the stubs know IPv4's pair only

    def server_bind(self) -> None:
        """Bind, and nothing more: HTTPServer asks the DNS for this machine's name, which may take seconds."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A prober that hangs up is not worth a traceback on stderr."""


def _verdict(question: Question) -> tuple[int, str, bytes]:
    try:
        answer = question()
    except Exception as error:  # noqa: BLE001 - whatever is broken inside, the page must say no
        answer = f"the question itself failed: {type(error).__name__}: {error}"
    if answer is True:
        return 200, "text/plain; charset=utf-8", b"ok\n"
    return 503, "text/plain; charset=utf-8", f"{answer or 'no'}\n".encode()


def _handler(pages: dict[str, Callable[[], tuple[int, str, bytes]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = READ_TIMEOUT_S
        server_version = "muse-stream"
        sys_version = ""

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            status, kind, body = page() if page else (404, "text/plain; charset=utf-8", b"/live /ready /metrics\n")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Probes come every second; they are not news."""

    return Handler
