"""A Schema Registry behind HTTPS that asks who is there: what a company puts before it, in front of a real one."""

import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Allowed = Callable[[str], bool]
"""Takes the header `Authorization`."""


class GuardedRegistry:
    """Hands requests on to `behind` that are allowed to; others get 401. Its certificate is one of 127.0.0.1.

    `clients` is the authority that a client's certificate must come from, None where none is asked for.
    """

    def __init__(self, behind: str, certificate: Path, key: Path, clients: Path | None = None) -> None:
        self.allowed: Allowed = lambda _authorization: True
        self.refused = 0
        self._behind = behind
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that are refused
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def __enter__(self) -> "GuardedRegistry":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        guard = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
                if not guard.allowed(self.headers.get("Authorization", "")):
                    guard.refused += 1
                    return self._send(401, b'{"error_code": 401, "message": "who are you?"}')
                asked = urllib.request.Request(guard._behind + self.path, body, method=self.command)  # noqa: S310
                if body is not None:
                    asked.add_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                try:
                    with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310
                        return self._send(answer.status, answer.read())
                except urllib.error.HTTPError as error:
                    return self._send(error.code, error.read())

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = _answer

            def log_message(self, *_: object) -> None:
                pass

        return Handler
