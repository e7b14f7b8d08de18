"""Pages about a running process: `/started`, `/ready`, `/live` and `/metrics`.

Started means "it has begun its work", ready "send work", live "it makes progress: restarting would not help". A page
answers HTTP 200, or 503 with one line that says why; a question that raises is a no. The server listens on 127.0.0.1
unless told otherwise (`muse-stream run` tells it), answers in daemon threads, and never holds up the end of the
process.
"""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

Question = Callable[[], bool | str]
"""True is yes; False, or a text that says why not, is no."""
READ_TIMEOUT_S = 5.0  # a client that opens a connection and says nothing gives its thread back
TEXT = [("Content-Type", "text/plain; charset=utf-8")]


class HealthServer:
    """Serve the pages on `host:port` (0 takes a free port) from `start` or `with` until `stop`.

    `host` is an address or a name, IPv4 or IPv6; `::` is every address of both. `detail` is what `/ready` says beside
    its answer, for a person; empty when there is nothing to say. Raises OSError from the constructor
    when the port is taken, or the address is not this machine's.
    """

    def __init__(
        self,
        port: int,
        live: Question,
        ready: Question,
        registry: CollectorRegistry | None = None,
        *,
        host: str = "127.0.0.1",
        detail: Callable[[], str] = str,
        started: Question | None = None,
        metrics: Callable[[], str] | None = None,
    ) -> None:
        """`started` is `live` where it is not given; `metrics` writes its page where no registry does."""
        self._server = _Server(host, port)
        questions = {"/live": live, "/ready": ready, "/started": started or live}
        found = _text(metrics) if metrics else _registered(registry or CollectorRegistry())
        self._server.set_app(_pages(questions, found, detail))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True)

    @property
    def host(self) -> str:
        """The address it listens on."""
        return str(self._server.server_address[0])

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


def check_address(host: str, port: int = 0) -> None:
    """Raise OSError when nothing can listen on this address now."""
    _Server(host, port).server_close()


def _registered(registry: CollectorRegistry) -> WSGIApplication:
    return make_wsgi_app(registry, disable_compression=True)  # the processor time belongs to scoring


def _text(write: Callable[[], str]) -> WSGIApplication:
    def page(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = write().encode()
        start_response("200 OK", [("Content-Type", CONTENT_TYPE_PLAIN_0_0_4), ("Content-Length", str(len(body)))])
        return [body]

    return page


def _pages(questions: Mapping[str, Question], metrics: WSGIApplication, detail: Callable[[], str]) -> WSGIApplication:
    def pages(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if method not in ("GET", "HEAD"):
            status, body = "501 Not Implemented", b"GET and HEAD only\n"
        elif path == "/metrics":
            try:
                found = metrics(environ | {"REQUEST_METHOD": "GET"}, start_response)
            except Exception as error:  # noqa: BLE001 - the client is told; wsgiref would write a traceback to stderr
                status, body = "500 Internal Server Error", f"{type(error).__name__}: {error}\n".encode()
            else:
                return [] if method == "HEAD" else found
        elif path in questions:
            status, body = _verdict(questions[path])
            body += _said(detail) if path == "/ready" else b""
        else:
            status, body = "404 Not Found", b"/started /ready /live /metrics\n"
        start_response(status, [*TEXT, ("Content-Length", str(len(body)))])
        return [] if method == "HEAD" else [body]

    return pages


def _verdict(question: Question) -> tuple[str, bytes]:
    try:
        answer = question()
    except Exception as error:  # noqa: BLE001 - whatever is broken inside, the page must say no
        answer = f"the question itself failed: {type(error).__name__}: {error}"
    return ("200 OK", b"ok\n") if answer is True else ("503 Service Unavailable", f"{answer or 'no'}\n".encode())


def _said(detail: Callable[[], str]) -> bytes:
    try:
        text = detail()
    except Exception as error:  # noqa: BLE001 - a remark must not cost the page
        text = f"{type(error).__name__}: {error}"
    return f"{' '.join(text.split())}\n".encode() if text else b""


class _Handler(WSGIRequestHandler):
    timeout = READ_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every second; they are not news."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # `localhost` is both 127.0.0.1 and ::1: probes say the first
        self.address_family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        super().__init__(address, _Handler)  # type: ignore[arg-type]  # the stubs know IPv4's pair only

    def server_bind(self) -> None:
        """Bind, and nothing more: HTTPServer asks the DNS for this machine's name, which may take seconds."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A prober that hangs up is not worth a traceback on stderr."""
