"""A broker that wants OAuth tokens, and a token endpoint that gives them: OIDC client credentials, as a company has it.

`OAuth` takes clients' names and secrets: a running broker with an OAUTHBEARER listener, and the endpoint's URL. Tokens
are signed and checked. The broker knows the key from a JWKS file and takes no token without its signature, lifetime and
audience; the endpoint gives none without the right secret.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import ssl
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.local_kafka import LocalKafka

ROOT = Path(__file__).resolve().parents[2]
AUDIENCE = "kafka"


def part(data: bytes) -> str:
    """Encode as JWTs do: base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenEndpoint:
    """`POST /token` with client credentials gives a signed token for `lifetime_s`; `asked` has what clients asked.

    With a certificate (and its key beside it) it is an HTTPS endpoint of `localhost`.
    """

    def __init__(self, clients: Mapping[str, str], key: bytes, certificate: Path | None = None) -> None:
        self.clients, self.key, self.lifetime_s = clients, key, 300
        self.asked: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{port}/token" if certificate is None else f"https://localhost:{port}/token"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def jwks(self) -> str:
        """The signing key as brokers read it."""
        key = {"kty": "oct", "kid": "1", "alg": "HS256", "use": "sig", "k": part(self.key)}
        return json.dumps({"keys": [key]})

    def token(self, client: str, scope: str) -> str:
        now = int(time.time())
        head = {"alg": "HS256", "typ": "JWT", "kid": "1"}
        body = {"sub": client, "aud": AUDIENCE, "iat": now, "exp": now + self.lifetime_s, "scope": scope.split()}
        signed = ".".join(part(json.dumps(one).encode()) for one in (head, body))
        return f"{signed}.{part(hmac.digest(self.key, signed.encode(), hashlib.sha256))}"

    def answer(self, authorization: str, form: str) -> tuple[int, dict[str, Any]]:
        """Answer one request; librdkafka sends id and secret as HTTP basic authentication."""
        kind, _, credentials = authorization.partition(" ")
        client, _, secret = base64.b64decode(credentials).decode().partition(":")
        fields = {name: values[0] for name, values in parse_qs(form).items()}
        self.asked.append({"client": client, **fields})
        if kind != "Basic" or self.clients.get(client) != secret or fields.get("grant_type") != "client_credentials":
            return 401, {"error": "invalid_client"}
        token = self.token(client, fields.get("scope", ""))
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime_s}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, answer = endpoint.answer(self.headers["Authorization"] or "", form)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        return Handler


class OAuth:
    """The broker and its token endpoint."""

    def __init__(self, folder: Path, clients: Mapping[str, str]) -> None:
        self.folder = folder
        self.secrets = {"admin": f"hush-{secrets.token_hex(12)}", **clients}
        self.endpoint = TokenEndpoint(self.secrets, secrets.token_bytes(32))
        keys = folder / "jwks.json"
        keys.write_text(self.endpoint.jwks(), encoding="utf-8")
        module = "org.apache.kafka.common.security.oauthbearer"
        listener = "listener.name.client.oauthbearer.sasl"
        self._kafka = LocalKafka(
            PLACES,
            lambda _line: None,
            properties={
                "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
                "listener.name.client.sasl.enabled.mechanisms": "OAUTHBEARER",
                f"{listener}.jaas.config": f"{module}.OAuthBearerLoginModule required;",
                f"{listener}.server.callback.handler.class": f"{module}.OAuthBearerValidatorCallbackHandler",
                f"{listener}.oauthbearer.jwks.endpoint.url": keys.as_uri(),
                f"{listener}.oauthbearer.expected.audience": AUDIENCE,
            },
            connection={
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "OAUTHBEARER",
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.client.id": "admin",
                "sasl.oauthbearer.client.secret": self.secrets["admin"],
                "sasl.oauthbearer.token.endpoint.url": self.endpoint.url,
            },
        )
        self._allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys.as_uri()}"

    def __enter__(self) -> "OAuth":
        before = os.environ.get("JDK_JAVA_OPTIONS")
        os.environ["JDK_JAVA_OPTIONS"] = f"{before or ''} {self._allowed}"
        try:
            self._kafka.start()
        finally:
            if before is None:
                del os.environ["JDK_JAVA_OPTIONS"]
            else:
                os.environ["JDK_JAVA_OPTIONS"] = before
        return self

    def __exit__(self, *_: object) -> None:
        self._kafka.close()
        self.endpoint.close()

    @property
    def bootstrap(self) -> str:
        return self._kafka.bootstrap
