"""Kafka settings come from the environment, are checked whole, and never show a secret."""

import json
import os
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException
from pydantic import SecretStr

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Abortable, ConfigError, Fatal, Fenced, Retriable
from muse_stream.kafka import client
from muse_stream.kafka.errors import typed

SECRET = "hunter2-Xq9"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:

    for name in [name for name in os.environ if name.startswith("MUSE_")]:
        monkeypatch.delenv(name)


def given(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"MUSE_KAFKA_{name}", value)


def test_defaults_reach_a_local_broker_in_plain_text() -> None:
    assert client.connection(KafkaSettings.from_environment()) == {
        "bootstrap.servers": "localhost:9092",
        "client.id": "muse-stream",
        "security.protocol": "PLAINTEXT",
    }


def test_everything_given_becomes_the_client_library_s_own_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("x")
    given(
        monkeypatch,
        BOOTSTRAP_SERVERS="a:9092, b:9093",
        SECURITY_PROTOCOL="sasl_ssl",
        SASL_MECHANISM="scram-sha-512",
        SASL_USERNAME="muse",
        SASL_PASSWORD=SECRET,
        SSL_CA_LOCATION=str(tmp_path / "ca.pem"),
        SSL_CERTIFICATE_LOCATION=str(tmp_path / "cert.pem"),
        SSL_KEY_LOCATION=str(tmp_path / "key.pem"),
        SSL_KEY_PASSWORD="other",
        CLIENT_ID="scorer-7",
    )
    assert client.connection(KafkaSettings.from_environment()) == {
        "bootstrap.servers": "a:9092,b:9093",
        "client.id": "scorer-7",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "muse",
        "sasl.password": SECRET,
        "ssl.ca.location": str(tmp_path / "ca.pem"),
        "ssl.certificate.location": str(tmp_path / "cert.pem"),
        "ssl.key.location": str(tmp_path / "key.pem"),
        "ssl.key.password": "other",
    }


def test_password_file_is_read_without_its_line_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{SECRET}\r\n")
    given(
        monkeypatch,
        SECURITY_PROTOCOL="SASL_PLAINTEXT",
        SASL_MECHANISM="PLAIN",
        SASL_USERNAME="muse",
        SASL_PASSWORD_FILE=str(tmp_path / "password"),
    )
    assert client.connection(KafkaSettings.from_environment())["sasl.password"] == SECRET


def test_no_output_shows_a_secret() -> None:
    settings = KafkaSettings(sasl_password=SecretStr(SECRET), ssl_key_password=SecretStr(SECRET))
    shown = [repr(settings), str(settings), settings.model_dump_json(), json.dumps(settings.model_dump(), default=str)]
    assert [text for text in shown if SECRET in text] == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"BOOTSTRAP_SERVERS": "no-port"}, ["MUSE_KAFKA_BOOTSTRAP_SERVERS: 'no-port' is not host:port"]),
        ({"BOOTSTRAP_SERVERS": "http://x:1"}, ["MUSE_KAFKA_BOOTSTRAP_SERVERS: 'http://x:1' is a URL, not host:port"]),
        ({"BOOTSTRAP_SERVERS": "a:1,::1:9092"}, ["'::1:9092' is not host:port; an IPv6 address stands in brackets"]),
        ({"BOOTSTRAP_SERVERS": ""}, ["MUSE_KAFKA_BOOTSTRAP_SERVERS"]),
        ({"BOOTSTRAP_SERVERS": "h:65536"}, ["MUSE_KAFKA_BOOTSTRAP_SERVERS: 'h:65536' is not host:port"]),
        ({"BOOTSTRAP_SERVERS": f"me:{SECRET}@h:9092"}, ["MUSE_KAFKA_BOOTSTRAP_SERVERS: put no user into it"]),
        ({"SSL_CA_LOCATION": "/"}, ["MUSE_KAFKA_SSL_CA_LOCATION: is not a file"]),
        ({"SASL_PASSWORD_FILE": "/"}, ["MUSE_KAFKA_SASL_PASSWORD_FILE: is not a file"]),
        ({"SECURITY_PROTOCOL": "TLS"}, ["MUSE_KAFKA_SECURITY_PROTOCOL"]),
        ({"SSL_CA_LOCATION": "/not/there.pem"}, ["MUSE_KAFKA_SSL_CA_LOCATION: no such file"]),
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, ["MUSE_KAFKA_SASL_MECHANISM is needed with SASL_SSL"]),
        ({"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "PLAIN"}, ["MUSE_KAFKA_SASL_USERNAME"]),
        ({"BOOTSTRAP_SERVERS": "x", "CLIENT_ID": ""}, ["MUSE_KAFKA_BOOTSTRAP_SERVERS", "MUSE_KAFKA_CLIENT_ID"]),
    ],
)
def test_every_mistake_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], expected: list[str]
) -> None:
    given(monkeypatch, SASL_PASSWORD=SECRET, **values)
    with pytest.raises(ConfigError) as refused:
        KafkaSettings.from_environment()
    for part in expected:
        assert part in str(refused.value)
    assert SECRET not in str(refused.value)
    assert len(refused.value.problems) == len(expected)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KafkaError(KafkaError._FENCED, "fenced", True, False, False), Fenced),
        (KafkaError(KafkaError._FENCED, "fenced", True, False, True), Fenced),
        (KafkaError(KafkaError.ILLEGAL_GENERATION, "moved", False, False, True), Abortable),
        (KafkaError(KafkaError._TIMED_OUT, "slow", False, True, False), Retriable),
        (KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, "what", False, False, False), Fatal),
        (KafkaException(KafkaError(KafkaError._TIMED_OUT, "slow", False, True, False)), Retriable),
        (KafkaException("not an error"), Fatal),
    ],
)
def test_an_error_s_type_is_decided_by_its_flags_alone(error: KafkaError | KafkaException, kind: type) -> None:
    assert type(typed(error)) is kind


def test_unreachable_cluster_is_said_in_one_line_within_the_time_given() -> None:
    with pytest.raises(Retriable, match="Kafka cannot be reached at localhost:1: "):
        client.reach(KafkaSettings(bootstrap="localhost:1"), timeout_s=0.5)


def test_a_password_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"\xff")
    given(
        monkeypatch,
        SECURITY_PROTOCOL="SASL_PLAINTEXT",
        SASL_MECHANISM="PLAIN",
        SASL_USERNAME="muse",
        SASL_PASSWORD_FILE=str(tmp_path / "password"),
    )
    with pytest.raises(ConfigError, match="MUSE_KAFKA_SASL_PASSWORD_FILE cannot be read: not UTF-8"):
        KafkaSettings.from_environment()


def test_settings_that_the_client_library_refuses_are_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    settings = KafkaSettings(security_protocol="SSL", ssl_ca_location=tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match=r"MUSE_KAFKA_\*: .*ssl\.ca\.location"):
        client.reach(settings)
