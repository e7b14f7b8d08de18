"""Logins by OAuth tokens: OIDC client credentials against a real broker that checks signatures, as variables or file.

One broker and one token endpoint serve the whole module.
"""

import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from muse_stream.config import kafka_properties
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import ConfigError
from muse_stream.kafka import client
from muse_stream.testing.kafka_jars import missing_tools
from tests.integration.oauth import ROOT, OAuth, TokenEndpoint
from tests.integration.secured import in_process

pytestmark = [
    pytest.mark.broker,
    pytest.mark.xdist_group("oauth"),
    pytest.mark.skipif(
        bool(missing_tools()), reason=f"a broker that asks for tokens is run by the JVM: {missing_tools()}"
    ),
]
CONFIG = str(ROOT / "deploy" / "config" / "muse.yaml")
EVENTS = str(ROOT / "deploy" / "config" / "events.jsonl")
SERVICE = {"muse-service": f"hush-{secrets.token_hex(12)}"}


@pytest.fixture(scope="module")
def kafka_by_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OAuth]:
    with OAuth(tmp_path_factory.mktemp("oauth"), SERVICE) as running:
        yield running


def variables(kafka: OAuth, folder: Path, secret: str = SERVICE["muse-service"]) -> dict[str, str]:
    """What an operator sets; the secret is in a file, as Kubernetes mounts it."""
    file = folder / "secret"
    file.write_text(f"{secret}\n", encoding="utf-8")
    return {
        "MUSE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "MUSE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "MUSE_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "MUSE_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": kafka.endpoint.url,
        "MUSE_KAFKA_SASL_OAUTHBEARER_CLIENT_ID": "muse-service",
        "MUSE_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE": str(file),
        "MUSE_KAFKA_SASL_OAUTHBEARER_SCOPE": "events scores",
    }


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("muse-stream")), *arguments]
    return subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_commands_log_in_by_client_credentials(kafka_by_token: OAuth, tmp_path: Path) -> None:
    """By variables: topics are made, events sent; the endpoint was asked by this client and for these scopes."""
    kafka_by_token.endpoint.asked.clear()
    given = variables(kafka_by_token, tmp_path)
    made = in_process(given, "topics", CONFIG, "--replication", "1")
    assert made.returncode == 0, made.stderr
    sent = in_process(given, "produce", CONFIG, "acme", EVENTS, "--header", "region=pt")
    assert sent.returncode == 0, sent.stderr
    asked = {"client": "muse-service", "grant_type": "client_credentials", "scope": "events scores"}
    assert kafka_by_token.endpoint.asked
    assert all(one == asked for one in kafka_by_token.endpoint.asked)


def test_the_same_by_a_properties_file(kafka_by_token: OAuth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kafka.properties"
    lines = {
        "bootstrap.servers": kafka_by_token.bootstrap,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": kafka_by_token.endpoint.url,
        "sasl.oauthbearer.client.id": "muse-service",
        "sasl.oauthbearer.client.secret": SERVICE["muse-service"],
        "sasl.oauthbearer.extensions": "logicalCluster=lkc-1",
    }
    file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), encoding="utf-8")
    monkeypatch.setenv("MUSE_KAFKA_PROPERTIES_FILE", str(file))
    settings = KafkaSettings.from_environment()
    assert client.reach(settings).list_topics(timeout=60).brokers
    assert SERVICE["muse-service"] not in repr(settings)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="plain", marks=pytest.mark.long),  # test_security.py has a wrong password without --debug
        pytest.param(("--debug", "--log-level", "debug"), id="debug"),
    ],
)
def test_a_wrong_secret_is_said_in_one_line_and_never_shown(
    kafka_by_token: OAuth, tmp_path: Path, options: tuple[str, ...]
) -> None:
    wrong = "hush-but-wrong"
    file = tmp_path / "kafka.properties"
    file.write_text("debug=all\n" if options else "", encoding="utf-8")
    given = variables(kafka_by_token, tmp_path, wrong) | {"MUSE_KAFKA_PROPERTIES_FILE": str(file)}
    done = run(given, *options, "topics", CONFIG)
    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    assert "Failed to acquire SASL OAUTHBEARER token" in done.stderr
    assert "invalid_client" in done.stderr
    assert wrong not in said
    if not options:
        assert (done.stdout, len(done.stderr.splitlines())) == ("", 1), said


def test_a_token_that_somebody_else_signed_is_refused(kafka_by_token: OAuth, tmp_path: Path) -> None:
    """Else the tests above would show nothing: the broker must be looking at signatures."""
    endpoint = kafka_by_token.endpoint
    right, endpoint.key = endpoint.key, secrets.token_bytes(32)
    try:
        done = in_process(variables(kafka_by_token, tmp_path), "topics", CONFIG)
    finally:
        endpoint.key = right
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Kafka cannot be reached" in done.stderr
    assert "invalid" in done.stderr


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1/token", "Could not connect"),
        pytest.param("{bootstrap}", "Empty reply", marks=pytest.mark.long),  # no HTTP server at all
    ],
)
def test_an_endpoint_that_is_away_is_named(kafka_by_token: OAuth, tmp_path: Path, url: str, why: str) -> None:
    given = variables(kafka_by_token, tmp_path)
    given["MUSE_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"] = url.replace(
        "{bootstrap}", f"http://{kafka_by_token.bootstrap}/token"
    )
    done = run(given, "topics", CONFIG)
    assert done.returncode == 3, done.stdout + done.stderr
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("missing", ["TOKEN_ENDPOINT_URL", "CLIENT_ID", "CLIENT_SECRET"])
def test_oauthbearer_without_a_way_to_a_token_is_refused(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """It was accepted, and the client then waited for a token that nobody fetched."""
    given = {
        "SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SASL_MECHANISM": "OAUTHBEARER",
        "SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": "http://127.0.0.1:1/token",
        "SASL_OAUTHBEARER_CLIENT_ID": "muse-service",
        "SASL_OAUTHBEARER_CLIENT_SECRET": "x",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"MUSE_KAFKA_{name}", value)
    assert KafkaSettings.from_environment().client_secret() is not None
    monkeypatch.delenv(f"MUSE_KAFKA_SASL_OAUTHBEARER_{missing}")
    with pytest.raises(ConfigError, match="are needed with OAUTHBEARER"):
        KafkaSettings.from_environment()


@pytest.mark.long  # three programs; the next test has where certificates are looked for
@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate with")
def test_an_https_endpoint_must_be_one_that_is_trusted(kafka_by_token: OAuth, tmp_path: Path) -> None:
    """By a certificate of the machine's (SSL_CERT_FILE) or of the properties file; not by one of its own."""
    ca = certificate(tmp_path / "ca.pem")
    endpoint = TokenEndpoint(kafka_by_token.secrets, kafka_by_token.endpoint.key, ca)
    try:
        given = variables(kafka_by_token, tmp_path)
        given["MUSE_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"] = endpoint.url
        stranger = run(
            given | {"SSL_CERT_FILE": str(certificate(tmp_path / "other.pem"))}, "topics", CONFIG, "--dry-run"
        )
        assert stranger.returncode == 3, stranger.stderr
        assert "self-signed certificate" in stranger.stderr
        trusted = run(given | {"SSL_CERT_FILE": str(ca)}, "topics", CONFIG, "--dry-run")
        file = tmp_path / "kafka.properties"
        file.write_text(f"https.ca.location={ca}\n", encoding="utf-8")
        named = run(given | {"MUSE_KAFKA_PROPERTIES_FILE": str(file)}, "topics", CONFIG, "--dry-run")
        assert "Kafka cannot be reached" not in trusted.stderr + named.stderr
        assert {trusted.returncode, named.returncode} <= {0, 1}, trusted.stderr + named.stderr
        assert len(endpoint.asked) >= 2
    finally:
        endpoint.close()


def certificate(path: Path) -> Path:
    """Make a certificate of `localhost` that is its own authority, and its key beside it."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def test_certificates_are_looked_for_where_systems_keep_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheels know one place. What nobody has is left to them."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(kafka_properties, "CERTIFICATES", (str(tmp_path / "none"), str(tmp_path), __file__))
    settings = KafkaSettings(
        security_protocol="SASL_SSL",
        sasl_mechanism="OAUTHBEARER",
        sasl_oauthbearer_token_endpoint_url="https://idp.example/token",
        sasl_oauthbearer_client_id="muse-service",
        sasl_oauthbearer_client_secret=SecretStr("x"),
    )
    assert client.connection(settings)["https.ca.location"] == __file__
    monkeypatch.setattr(kafka_properties, "CERTIFICATES", ())
    assert "https.ca.location" not in client.connection(settings)
