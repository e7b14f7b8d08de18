"""A file of librdkafka properties reaches every client it is for, and cannot touch what exactly-once rests on."""

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from muse_stream.cli.main import main
from muse_stream.config import librdkafka
from muse_stream.config.kafka_properties import JAVA, REFUSED
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import ConfigError
from muse_stream.kafka import client, membership, transactional_producer
from muse_stream.worker import slot

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hunter2-Xq9"
Given = Callable[..., Path]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Given:
    """`given("linger.ms=5", CLIENT_ID="x")`: a file of these lines, and variables; returns the file."""
    for name in [name for name in os.environ if name.startswith("MUSE_")]:
        monkeypatch.delenv(name)

    def write(*lines: str, end: str = "\n", **variables: str) -> Path:
        path = tmp_path / "kafka.properties"
        path.write_bytes("".join(line + end for line in lines).encode())
        monkeypatch.setenv("MUSE_KAFKA_PROPERTIES_FILE", str(path))
        for name, value in variables.items():
            monkeypatch.setenv(f"MUSE_KAFKA_{name}", value)
        return path

    return write


def problems() -> list[str]:
    with pytest.raises(ConfigError) as refused:
        KafkaSettings.from_environment()
    assert SECRET not in str(refused.value)
    return [str(problem) for problem in refused.value.problems]


class Configured(Exception):
    """Carries what a client was configured with; raised in place of making one."""


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, object]]:
    """`configured(client.consumer, **overrides)`: what the client library would be given."""

    def made(configuration: dict[str, object]) -> None:
        raise Configured(configuration)

    for kind in ("AdminClient", "Consumer", "Producer"):
        monkeypatch.setattr(client, kind, made)

    def ask(make: Callable[..., object], **overrides: object) -> dict[str, object]:
        with pytest.raises(Configured) as caught:
            make(KafkaSettings.from_environment(), **overrides)
        found: dict[str, object] = dict(caught.value.args[0])
        return found

    return ask


def test_each_client_gets_what_its_kind_obeys(given: Given, configured: Callable[..., dict[str, object]]) -> None:
    given("socket.keepalive.enable=true", "fetch.min.bytes=7", "batch.size = 50000", "# linger.ms=9", "", end="\r\n")
    everybody = {"socket.keepalive.enable": "true"}
    for make, own, not_own in (
        (client.admin, {}, {"fetch.min.bytes", "batch.size"}),
        (client.consumer, {"fetch.min.bytes": "7"}, {"batch.size"}),
        (client.producer, {"batch.size": "50000"}, {"fetch.min.bytes"}),
    ):
        found = configured(make)
        assert {name: found.get(name) for name in everybody | own} == everybody | own
        assert not_own & found.keys() == set()


def test_the_file_goes_before_what_the_package_chose(
    given: Given, configured: Callable[..., dict[str, object]]
) -> None:
    """Whichever name of a property it uses: librdkafka would take the last of two names."""
    given(
        "queue.buffering.max.ms=25",
        "compression.codec=zstd",
        "fetch.queue.backoff.ms=1000",
        "message.max.bytes=2000",
        "enable.sparse.connections=true",
    )
    producing = configured(client.producer, **transactional_producer._configuration("id"))
    assert {"linger.ms", "compression.type"} & producing.keys() == set()
    assert producing["queue.buffering.max.ms"] == "25"
    assert producing["compression.codec"] == "zstd"
    assert producing["message.max.bytes"] == "2000"
    assert producing["transaction.timeout.ms"] == transactional_producer.TIMEOUT_MS < membership.SESSION_MS
    consuming = configured(client.consumer, **{"group.id": "g"}, **client.CONNECTED)
    assert consuming["fetch.queue.backoff.ms"] == "1000"
    assert consuming["isolation.level"] == "read_committed"
    assert (producing["enable.sparse.connections"], consuming["enable.sparse.connections"]) == ("true", "true")


def test_everything_may_stand_in_the_file(given: Given, tmp_path: Path) -> None:
    path = given(
        "bootstrap.servers = a:9092, b:9093",
        "client.id=scorer",
        "security.protocol=sasl_ssl",
        "sasl.mechanisms=SCRAM-SHA-512",
        "sasl.username=muse",
        f"sasl.password=={SECRET}#=",
        f"ssl.ca.location={tmp_path}",  # librdkafka takes a folder of certificates as well
        "ssl.endpoint.identification.algorithm=none",
    )
    settings = KafkaSettings.from_environment()
    assert (settings.bootstrap, settings.properties_file) == ("a:9092,b:9093", path)
    assert client.connection(settings) == {
        "bootstrap.servers": "a:9092,b:9093",
        "client.id": "scorer",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "muse",
        "sasl.password": f"={SECRET}#=",
        "ssl.ca.location": str(tmp_path),
        "ssl.endpoint.identification.algorithm": "none",
    }
    assert client.connection(pickle.loads(pickle.dumps(settings))) == client.connection(settings)  # noqa: S301  # ours


def test_no_output_shows_a_value_of_the_file(given: Given) -> None:
    given("security.protocol=ssl", f"ssl.key.pem={SECRET}", f"ssl.keystore.password={SECRET}", f"client.rack={SECRET}")
    settings = KafkaSettings.from_environment()
    shown = [repr(settings), str(settings), settings.model_dump_json(), json.dumps(settings.model_dump(), default=str)]
    assert [text for text in shown if SECRET in text] == []


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_exactly_once_rests_on_is_refused_with_the_reason(given: Given, name: str) -> None:
    path = given("# ours", f"{name}=1")
    assert problems() == [f"{path}:2: {name}: may not be set: {REFUSED[name]} (leave it out)"]


def test_no_other_name_leads_around_a_refusal() -> None:
    for name, other in librdkafka.ALIASES.items():
        assert (name in REFUSED) == (other in REFUSED), name
    assert REFUSED.keys() <= librdkafka.NAMES | librdkafka.CODE
    assert JAVA.keys() & (librdkafka.NAMES | REFUSED.keys()) == set()


def test_every_setting_that_a_worker_depends_on_is_refused() -> None:
    """What is set for correctness and not for speed: the lists of client.py, slot.py and transactional_producer.py."""
    for_speed = {
        "linger.ms",
        "batch.size",
        "compression.type",
        "enable.sparse.connections",
        "message.max.bytes",
        "fetch.queue.backoff.ms",
        "fetch.wait.max.ms",
        "fetch.min.bytes",
        "max.partition.fetch.bytes",
        "topic.metadata.refresh.interval.ms",
        "queued.min.messages",
        "queued.max.messages.kbytes",
        "queue.buffering.max.messages",
    }
    chosen = client.CONSUMER.keys() | client.PRODUCER.keys() | transactional_producer._configuration("id").keys()
    chosen |= membership.MEMBERSHIP.keys()
    chosen |= set(re.findall(r'"([a-z]+(?:\.[a-z]+)+)"', Path(slot.__file__).read_text(encoding="utf-8")))
    assert chosen - REFUSED.keys() == for_speed


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lingr.ms=5", "lingr.ms: librdkafka has no such property (did you mean linger.ms?)"),
        ("zzz=5", "zzz: librdkafka has no such property (the names are in CONFIGURATION.md of librdkafka)"),
        ("sasl.jaas.config=x", "that librdkafka does not have (use sasl.username and sasl.password"),
        ("ssl.truststore.location=/x", "(use ssl.ca.location with its certificates as PEM"),
        ("ssl.keystore.type=JKS", "(ssl.keystore.location takes PKCS#12 only"),
        ("key.serializer=x", "(leave it out: records are Avro"),
        ("max.request.size=5", "(use message.max.bytes)"),
        ("test.mock.num.brokers=3", "librdkafka has no such property"),
        ("linger.ms", "line 1: is not name=value (comments begin with #)"),
        ("linger.ms: 5", "line 1: is not name=value"),
        ("Linger.Ms=5", "line 1: is not name=value"),
        ("=5", "line 1: is not name=value"),
        (f"MIIE{SECRET}Kj+w==", "line 1: is not name=value"),
        ("linger.ms=", "linger.ms: has no value"),
        ("ssl.endpoint.identification.algorithm=", "has no value (what is empty for Java is `none` here)"),
        ("ssl.crl.location=/not/there.pem", "ssl.crl.location: names a file that does not exist"),
        ("sasl.kerberos.keytab=/not/there", "sasl.kerberos.keytab: names a file that does not exist"),
        ("sasl.oauthbearer.token.endpoint.url=idp/token", "is not a URL: https://host/path"),
        (f"sasl.oauthbearer.token.endpoint.url=https://me:{SECRET}@idp/token", "put no user into it"),
        ("sasl.oauthbearer.token.endpoint.url=http://[::1/token", "is not a URL"),
        ("bootstrap.servers=prod", "bootstrap.servers: 'prod' is not host:port"),
        ("metadata.broker.list=prod", "metadata.broker.list: 'prod' is not host:port"),
        ("security.protocol=TLS", "security.protocol: Input should be 'PLAINTEXT', 'SSL'"),
        ("sasl.mechanism=NTLM", "sasl.mechanism: Input should be 'PLAIN'"),
    ],
)
def test_a_wrong_line_is_named_by_file_and_number(given: Given, line: str, said: str) -> None:
    path = given(line)
    (text,) = problems()
    assert text.startswith(f"{path}:1: ")
    assert said in text


def test_all_that_is_wrong_is_said_at_once(given: Given) -> None:
    path = given("acks=0", "lingr.ms=5", "linger.ms=5", "queue.buffering.max.ms=6", BOOTSTRAP_SERVERS="no-port")
    assert problems() == [
        f"{path}:1: acks: may not be set: {REFUSED['acks']} (leave it out)",
        f"{path}:2: lingr.ms: librdkafka has no such property (did you mean linger.ms?)",
        f"{path}:4: queue.buffering.max.ms: was given before, as linger.ms in line 3 (keep one of them)",
        "MUSE_KAFKA_BOOTSTRAP_SERVERS: 'no-port' is not host:port "
        "(set it in the environment, or in the file that MUSE_KAFKA_PROPERTIES_FILE names)",
    ]


@pytest.mark.parametrize(
    ("line", "variables"),
    [
        ("bootstrap.servers=a:1", {"BOOTSTRAP_SERVERS": "b:1"}),
        ("client.id=a", {"CLIENT_ID": "b"}),
        ("security.protocol=SSL", {"SECURITY_PROTOCOL": "PLAINTEXT"}),
        ("sasl.mechanism=PLAIN", {"SASL_MECHANISM": "SCRAM-SHA-256"}),
        ("sasl.username=a", {"SASL_USERNAME": "b"}),
        (f"sasl.password={SECRET}", {"SASL_PASSWORD": SECRET.upper()}),
        (f"sasl.oauthbearer.client.credentials.client.secret={SECRET}", {"SASL_OAUTHBEARER_CLIENT_SECRET": "b"}),
        (f"ssl.ca.location={__file__}", {"SSL_CA_LOCATION": str(ROOT / "README.md")}),
        (f"ssl.key.password={SECRET}", {"SSL_KEY_PASSWORD": "b"}),
    ],
)
def test_a_variable_and_the_file_must_agree(given: Given, line: str, variables: dict[str, str]) -> None:
    path = given(line, **variables)
    name, (variable,) = line.partition("=")[0], variables
    assert f"{path}:1: {name}: differs from MUSE_KAFKA_{variable} (keep one of them)" in problems()
    variables[variable] = line.partition("=")[2]
    given(line, **variables)
    try:
        KafkaSettings.from_environment()
    except ConfigError as other:  # what is still missing for the login
        assert "differs" not in str(other)


def test_a_secret_is_given_in_one_place(given: Given, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    path = given(f"sasl.password={SECRET}", SASL_PASSWORD_FILE=str(secret))
    assert f"{path}:1: sasl.password: is given by MUSE_KAFKA_SASL_PASSWORD_FILE as well" in problems()[0]
    given(SASL_PASSWORD=SECRET)
    assert "give one of MUSE_KAFKA_SASL_PASSWORD and MUSE_KAFKA_SASL_PASSWORD_FILE" in problems()[0]


@pytest.mark.parametrize(
    ("line", "variables", "said"),
    [
        ("", {"SASL_PASSWORD": SECRET}, "MUSE_KAFKA_SASL_PASSWORD: has no effect"),
        ("", {"SASL_MECHANISM": "PLAIN", "SECURITY_PROTOCOL": "SSL"}, "MUSE_KAFKA_SASL_MECHANISM: has no effect"),
        ("", {"SSL_CA_LOCATION": __file__}, "MUSE_KAFKA_SSL_CA_LOCATION: has no effect"),
        (f"ssl.ca.location={__file__}", {}, ":1: ssl.ca.location: has no effect"),
        ("sasl.username=muse", {}, ":1: sasl.username: has no effect"),
    ],
)
def test_a_login_that_would_not_be_used_is_refused(
    given: Given, line: str, variables: dict[str, str], said: str
) -> None:
    """Whoever gives a password or a certificate believes that it protects something."""
    given(line, **variables)
    (text,) = problems()
    assert said in text
    assert "set MUSE_KAFKA_SECURITY_PROTOCOL, or security.protocol in the file, to " in text


def test_a_file_that_cannot_be_read(given: Given, tmp_path: Path) -> None:
    path = given()
    path.write_bytes(b"\xff=1")
    assert problems() == [f"{path}: MUSE_KAFKA_PROPERTIES_FILE: cannot be read: not UTF-8"]
    path.unlink()
    assert problems() == [f"{path}: MUSE_KAFKA_PROPERTIES_FILE: cannot be read: no such file or directory"]
    path.mkdir()
    assert problems() == [f"{path}: MUSE_KAFKA_PROPERTIES_FILE: cannot be read: is a directory"]


def test_a_byte_order_mark_and_an_empty_file_are_fine(given: Given) -> None:
    given("\ufefflinger.ms=5")
    assert [line.name for line in KafkaSettings.from_environment().properties] == ["linger.ms"]
    given()
    assert KafkaSettings.from_environment().properties == ()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("linger.ms=soon", 'Invalid value for configuration property "queue.buffering.max.ms"'),
        ("fetch.min.bytes=many", 'Invalid value for configuration property "fetch.min.bytes"'),
        ("compression.type=lz5", 'Invalid value "lz5" for configuration property "compression.codec"'),
        ("socket.timeout.ms=5", "outside allowed range 10..300000"),
        ("debug=everything", 'Invalid value "everything"'),
    ],
)
def test_a_value_that_librdkafka_refuses_is_named_by_its_line(
    given: Given, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    """At once and by every command, also where only a worker's consumer would have met it."""
    path = given("client.rack=a", line, BOOTSTRAP_SERVERS="localhost:1")
    assert main(["topics", str(ROOT / "deploy/config/muse.yaml")]) == 2
    shown = capsys.readouterr().err
    assert f"{line.partition('=')[0]}: " in shown
    assert said in shown
    assert f"\n{path}:2: " in shown, "a terminal makes it a link"


def test_values_that_fit_only_together_are_fine(given: Given) -> None:
    """Alone, the first is above the default of the second."""
    given("reconnect.backoff.ms=20000", "reconnect.backoff.max.ms=30000")
    client.admin(KafkaSettings.from_environment())
    assert [*client._refused_lines(KafkaSettings.from_environment().properties)] == []


def test_kerberos_is_refused_with_the_way_to_get_it(given: Given) -> None:
    """The wheels say `sasl_gssapi` among their features, and have no provider for it."""
    given(BOOTSTRAP_SERVERS="localhost:1", SECURITY_PROTOCOL="SASL_PLAINTEXT", SASL_MECHANISM="GSSAPI")
    with pytest.raises(ConfigError) as refused:
        client.reach(KafkaSettings.from_environment())
    assert str(refused.value) == (
        "MUSE_KAFKA_SASL_MECHANISM: the installed confluent-kafka was built without GSSAPI "
        "(docs/kafka-security.md says how to get one that has it)"
    )


def test_the_documented_tables_are_these() -> None:
    text = (ROOT / "docs" / "kafka-security.md").read_text(encoding="utf-8")
    rows: dict[str, str] = {}
    for names, why in re.findall(r"^\| (`[a-z][^|]*`) \| (.*) \|$", text, flags=re.MULTILINE):
        rows |= dict.fromkeys(re.findall(r"`([a-z0-9._]+)`", names), why)
    assert rows == {**{name: why for name, why in REFUSED.items() if name not in librdkafka.CODE}, **JAVA}
