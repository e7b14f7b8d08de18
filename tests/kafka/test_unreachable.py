"""Why no broker is reached: each mistake of address, port, login and certificate is told as what it is."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from muse_stream.commands.doctor import Diagnosis
from muse_stream.config import KafkaSettings
from muse_stream.errors import Retriable
from muse_stream.kafka.client import reach
from muse_stream.kafka.unreachable import why
from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.kafka_jars import missing_tools
from muse_stream.testing.local_kafka import LocalKafka, free_ports
from tests.patience import PATIENCE, until

LOGIN = {"sasl_mechanism": "PLAIN", "sasl_username": "a", "sasl_password": "right"}
MODULE = (
    'org.apache.kafka.common.security.plain.PlainLoginModule required username="a" password="right" user_a="right";'
)


@dataclass
class Ports:
    """One broker that listens in four ways."""

    broker: LocalKafka
    plain: str
    tls: str
    login: str
    elsewhere: str
    """Advertises an address that nobody has."""
    authority: str
    """File with the CA of its certificate, which is for the host localhost."""

    def settings(self, port: str, **given: Any) -> KafkaSettings:
        given = {name: self.authority if value == "CA" else value for name, value in given.items()}
        return KafkaSettings(bootstrap=getattr(self, port), **given)


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    if lacking := missing_tools() or ("" if shutil.which("openssl") else "no openssl"):
        pytest.skip(f"a broker with TLS is run by the JVM: {lacking}")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate, both = (folder / name for name in ("key.pem", "certificate.pem", "both.pem"))
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    both.write_text(key.read_text() + certificate.read_text())
    *places, tls, login, elsewhere = free_ports(6)
    own = [f"CLIENT://127.0.0.1:{places[0]}", f"INTERNAL://127.0.0.1:{places[1]}"]
    more = [f"TLS://127.0.0.1:{tls}", f"LOGIN://127.0.0.1:{login}"]
    broker = LocalKafka(
        PLACES,
        properties={
            "listeners": ",".join(
                [*own, f"CONTROLLER://127.0.0.1:{places[2]}", *more, f"ELSEWHERE://127.0.0.1:{elsewhere}"]
            ),
            "advertised.listeners": ",".join([*own, *more, "ELSEWHERE://kafka.invalid:9092"]),
            "listener.security.protocol.map": (
                "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,LOGIN:SASL_PLAINTEXT,"
                "ELSEWHERE:PLAINTEXT"
            ),
            "listener.name.tls.ssl.keystore.type": "PEM",
            "listener.name.tls.ssl.keystore.location": str(both),
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.login.plain.sasl.jaas.config": MODULE,
        },
    )
    try:
        broker.prepare(places)
        broker.restart()
        plain = f"127.0.0.1:{places[0]}"
        tls_port, login_port, wrong = (f"127.0.0.1:{port}" for port in (tls, login, elsewhere))
        yield Ports(broker, plain, tls_port, login_port, wrong, str(certificate))
    finally:
        broker.close()


def refused(settings: KafkaSettings, told: str) -> bool:
    """Whether this is told; where a busy machine answers too late for it, with more time."""
    for seconds in (2.0, 2.0 * PATIENCE, 4.0 * PATIENCE):
        with pytest.raises(Retriable) as caught:
            reach(settings, seconds)
        said = str(caught.value)
        assert said.startswith(f"Kafka cannot be reached at {settings.bootstrap}: ")
        assert "brokers are down" not in said and "after 0ms" not in said and "/bootstrap" not in said
        if told in said:
            return True
    raise AssertionError(f"{told!r} is not told: {said}")


@pytest.mark.broker
@pytest.mark.parametrize(
    ("port", "given", "told"),
    [
        (
            "plain",
            {"security_protocol": "SSL"},
            "this port does not speak TLS, or asks for a client's certificate: set",
        ),
        ("tls", {}, "speaks TLS: set MUSE_KAFKA_SECURITY_PROTOCOL to SSL (or SASL_SSL)"),
        (
            "tls",
            {"security_protocol": "SASL_PLAINTEXT", **LOGIN},
            "speaks TLS: set MUSE_KAFKA_SECURITY_PROTOCOL to SASL",
        ),
        (
            "tls",
            {"security_protocol": "SSL"},
            "certificate is not accepted (self-signed certificate): MUSE_KAFKA_SSL_CA",
        ),
        (
            "tls",
            {"security_protocol": "SSL", "ssl_ca_location": "CA"},
            "certificate is not accepted (IP address mismatch, certificate is not valid for '127.0.0.1'.)",
        ),
        ("plain", {"security_protocol": "SASL_PLAINTEXT", **LOGIN}, "this port expects no login (SASL): set"),
        ("login", {}, "where it asks for a login, set MUSE_KAFKA_SECURITY_PROTOCOL to SASL_PLAINTEXT"),
        (
            "login",
            {"security_protocol": "SASL_PLAINTEXT", **LOGIN, "sasl_mechanism": "SCRAM-SHA-256"},
            "the broker offers PLAIN to log in, not SCRAM-SHA-256: set MUSE_KAFKA_SASL_MECHANISM",
        ),
        (
            "login",
            {"security_protocol": "SASL_PLAINTEXT", **LOGIN, "sasl_password": "wrong"},
            "the broker refuses the user or the password: correct MUSE_KAFKA_SASL_USERNAME",
        ),
        ("login", {"security_protocol": "SASL_SSL", **LOGIN}, "set MUSE_KAFKA_SECURITY_PROTOCOL to SASL_PLAINTEXT"),
    ],
    ids=[
        "TLS to a plain port",
        "plain to a TLS port",
        "login to a TLS port",
        "unknown CA",
        "another host's certificate",
        "login to a port without",
        "no login",
        "mechanism",
        "password",
        "TLS and login to a port without TLS",
    ],
)
def test_a_wrong_way_in_is_told(ports: Ports, port: str, given: dict[str, Any], told: str) -> None:
    assert refused(ports.settings(port, **given), told)


@pytest.mark.broker
@pytest.mark.parametrize(
    ("port", "protocol", "told"),
    [
        ("plain", "SSL", "this port does not speak TLS, or asks for a client's certificate"),
        ("plain", "SASL_SSL", "set MUSE_KAFKA_SECURITY_PROTOCOL to SASL_PLAINTEXT"),
        ("tls", "PLAINTEXT", "speaks TLS: set MUSE_KAFKA_SECURITY_PROTOCOL to SSL"),
    ],
)
def test_a_connection_that_ends_without_a_word_is_tried(ports: Ports, port: str, protocol: str, told: str) -> None:
    """On a busy machine a broker closes before its refusal is read: all that is heard then is that it closed."""
    given = ports.settings(port, security_protocol=protocol, **(LOGIN if protocol.startswith("SASL") else {}))
    heard = [KafkaError(KafkaError._TRANSPORT, "127.0.0.1:1/bootstrap: Disconnected: SSL connection closed by peer")]
    assert told in why(given, heard, "otherwise")


@pytest.mark.broker
def test_a_broker_that_stands_still_is_told(ports: Ports) -> None:
    ports.broker.pause()
    try:
        assert refused(ports.settings("plain"), "takes connections, but no Kafka broker answers there")
    finally:
        ports.broker.resume()
        ports.broker.await_answer()


@pytest.mark.broker
def test_a_broker_that_advertises_a_wrong_address_is_told(ports: Ports) -> None:
    assert reach(ports.settings("plain")) is not None
    said: list[str] = []

    def told() -> bool:
        with pytest.raises(Retriable) as caught:
            reach(ports.settings("elsewhere"), 2.0)
        said.append(str(caught.value))
        return "advertises" in said[-1]

    until(told, 50, lambda: said[-1])
    assert "kafka.invalid:9092" in said[-1]


@pytest.mark.broker
def test_a_wrong_advertised_address_is_a_finding_of_the_doctor(ports: Ports, tmp_path: Path) -> None:
    from tests.cli.test_doctor import site_on  # noqa: PLC0415 - pytest must not collect it twice

    site = site_on(ports.elsewhere, tmp_path, "lane")
    answers: list[Diagnosis] = []

    def looked() -> bool:
        with suppress(Retriable):  # it was frozen a moment ago, or is busy
            answers.append(site.look())
        return bool(answers and answers[-1].faults)

    until(looked, 60)
    first = answers[-1].faults[0]
    assert (first.kind, first.where) == ("address_unreachable", "broker 1 at kafka.invalid:9092")
    assert any("were not looked at: no broker can be reached" in note for note in answers[-1].notes)


def test_an_address_where_nothing_listens_or_that_is_unknown_is_told() -> None:
    (closed,) = free_ports(1)
    assert refused(KafkaSettings(bootstrap=f"127.0.0.1:{closed}"), "nothing listens there: see that the broker runs")
    assert refused(KafkaSettings(bootstrap="kafka.invalid:9092"), "host's name is not known here")


def test_something_else_than_kafka_is_told() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        settings = KafkaSettings(bootstrap=f"127.0.0.1:{listening.getsockname()[1]}")
        assert refused(settings, "takes connections, but no Kafka broker answers there")
