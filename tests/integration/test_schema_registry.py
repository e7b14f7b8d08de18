"""Events whose schemas are in a real Schema Registry: producers that evolve, ids nobody knows, a registry that is away.

All on one run's registry and broker. A registry is paused with SIGSTOP, and every wait is for what must be so by then.
"""

import json
import shutil
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema as RegistrySchema
from confluent_kafka.schema_registry import SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from muse_stream.avro import parse_schema
from muse_stream.avro.framing import confluent_prefix
from muse_stream.cli.main import main
from muse_stream.commands import doctor_registry
from muse_stream.commands import schemas as commands
from muse_stream.commands.configuration import open_configuration
from muse_stream.config import RegistrySettings
from muse_stream.errors import RegistryError
from muse_stream.schema_registry import Client, Unknown, open_registry
from muse_stream.testing import CommittedReader, LocalRegistry
from muse_stream.testing.kafka_broker import Broker
from tests.avro.java_peer import avro_peer
from tests.certificates import make_certificates
from tests.integration.bank import PARTITIONS, Bank
from tests.integration.fleet import Fleet, publish
from tests.integration.guarded_registry import GuardedRegistry
from tests.integration.oauth import TokenEndpoint
from tests.integration.registered import Producer, schema, use_registry
from tests.integration.test_faults import live_witness
from tests.integration.witness import Witness, broken_promises
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.long  # a JVM of 6 s, and workers; tests/schema_registry has its client and a stub
COUNT = 200
"""Events of one kind."""
LONG_S = 60.0 * PATIENCE
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def sender(bank: Bank, kafka: Broker, schema_registry: LocalRegistry) -> Iterator[Producer]:
    with Producer(bank, kafka.bootstrap, schema_registry.url) as producer:
        yield producer


@pytest.fixture
def answering(schema_registry: LocalRegistry) -> Iterator[LocalRegistry]:
    """The run's registry, which answers again afterwards."""
    yield schema_registry
    schema_registry.resume()


def fleet(bank: Bank, kafka: Broker, registry: LocalRegistry, folder: Path) -> Fleet:
    named = {"MUSE_REGISTRY_URL": registry.url, "MUSE_CACHE_DIR": str(folder / "cache")}
    store, log = folder / "store", folder / "live.log"
    return Fleet(kafka.bootstrap, store, "live", bank.name, log, workers=1, environment=named)


def headers_of(kafka: Broker, topic: str, count: int) -> set[tuple[Any, ...]]:
    """Return all different headers of a topic's committed records."""
    found: list[tuple[Any, ...]] = []
    with CommittedReader(kafka.bootstrap, {topic: PARTITIONS}) as reader:

        def read() -> bool:
            found.extend(tuple(one.headers() or ()) for one in reader.read())
            return len(found) >= count

        until(read, 60, lambda: f"{len(found)} of {count} records")
    return set(found)


def dead(bank: Bank, witness: Witness) -> list[dict[str, Any]]:
    """Return what dead letters say."""
    return [one.body for one in witness.seen if one.topic in bank.topics(["dlq"])]


def waits(live: Fleet, topic: str, why: str) -> None:
    """Return when a worker has said that a topic is paused, and why."""
    said = partial(live.lines, "tenant_paused")
    until(lambda: any(one["topic"] == topic and why in one["error"] for one in said()), 60, lambda: str(said()))


def test_schemas_evolve_under_load_and_no_file_is_copied(
    bank: Bank, sender: Producer, kafka: Broker, answering: LocalRegistry, tmp_path: Path
) -> None:
    """A producer of each kind: Confluent's for Python, and Avro's own for Java, which knows no ids.

    A new version is written while the one before goes on, as producers are replaced one after the other.
    """
    publish(use_registry(bank.document(), headers=["traceparent", "x-request-id"]), tmp_path / "store")
    with (
        avro_peer() as java,
        fleet(bank, kafka, answering, tmp_path) as live,
        live_witness(bank, kafka.bootstrap) as witness,
    ):
        for version in range(3):
            halves = [sender.written("t0", COUNT // 2, schema(max(0, version - before))) for before in (1, 0)]
            sender.send_values("t0", [value for pair in zip(*halves, strict=True) for value in pair])
            text = schema(version, {"name": "java", "type": "boolean", "default": True})
            sender.register("t1", text)
            fields = [sender.event("t1") for _ in range(COUNT)]
            with_unions = [{**one, "amount": {"double": one["amount"]}} if version == 2 else one for one in fields]
            events = [{**one, "java": False, "shop": 1, "note": None} for one in with_unions]
            answer = java(schema=text, events=events)
            assert "error" not in answer, answer
            sender.send_values(
                "t1", [bytes.fromhex(value) for value in answer["values"]], {"traceparent": TRACE, "y": "1"}
            )
            witness.wait_for(2 * (version + 1) * COUNT, 60)
        assert live.stop() == 0
    assert dead(bank, witness) == []
    assert broken_promises(witness.seen, sender.counts) == []
    assert {one.body["event_id"] for one in witness.seen} == set(bank.sent)
    assert headers_of(kafka, bank.topic("scores", "t1"), 3 * COUNT) == {(("traceparent", TRACE.encode()),)}
    assert [path.name for path in (bank.folder / "schemas").iterdir()] == ["payment.avsc"]


def test_answers_in_the_confluent_frame_are_read_by_confluents_own(
    bank: Bank,
    sender: Producer,
    kafka: Broker,
    answering: LocalRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run that starts before our schemas are registered waits for them; readers are Confluent's, tail and verify."""
    document = use_registry(bank.document(shadow=()), frame="confluent")
    publish(document, tmp_path / "store")
    store = str(tmp_path / "store")
    monkeypatch.setenv("MUSE_REGISTRY_URL", answering.url)
    monkeypatch.setattr(commands, "PATIENT_S", LONG_S)
    registry = open_registry()
    assert registry is not None
    registry.wait_s = LONG_S
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    assert main(["check", str(document)]) == 0
    capsys.readouterr()
    assert main(["schemas", "register", store, "--dry-run", "--json"]) == 1
    assert {row["state"] for row in json.loads(capsys.readouterr().out)} == {"missing"}
    with fleet(bank, kafka, answering, tmp_path) as live:
        until(lambda: "is not registered as" in (tmp_path / "live.log").read_text(), 60)
        assert main(["schemas", "register", store]) == 0
        assert main(["schemas", "register", store, "--dry-run"]) == 0
        sender.send("t0", COUNT, schema(0))
        with CommittedReader(kafka.bootstrap, {bank.topic("scores", "t0"): PARTITIONS}) as reader:
            values: list[bytes] = []

            def read_all() -> bool:
                values.extend(one.value() or b"" for one in reader.read())
                return len(values) >= COUNT

            until(read_all, 90)
        assert live.stop() == 0
    read = AvroDeserializer(sender.client)
    topic = SerializationContext(bank.topic("scores", "t0"), MessageField.VALUE)
    assert {read(value, topic)["event_id"] for value in values} == set(bank.sent)
    capsys.readouterr()
    assert main(["verify", store, "t0", "--json"]) == 0, capsys.readouterr().out
    capsys.readouterr()
    assert main(["tail", store, "t0", "--from-beginning", "--limit", "2", "--json"]) == 0
    assert "event_id" in capsys.readouterr().out
    fetched = tmp_path / "fetched.avsc"
    assert main(["schemas", "fetch", f"{bank.topic('events', 't0')}-value", "--to", str(fetched)]) == 0
    assert parse_schema(fetched.read_text()).name == "Payment"
    assert main(["schemas", "fetch", "nobody", "--to", str(tmp_path / "x.avsc")]) == 1
    assert "has no nobody" in capsys.readouterr().err


def test_while_the_registry_is_away_what_is_known_goes_on_and_the_rest_waits(
    bank: Bank, sender: Producer, kafka: Broker, answering: LocalRegistry, tmp_path: Path
) -> None:
    publish(use_registry(bank.document()), tmp_path / "store")
    for tenant in ("t0", "t1"):
        sender.send(tenant, COUNT, schema(0))
    with live_witness(bank, kafka.bootstrap) as witness:
        with fleet(bank, kafka, answering, tmp_path) as live:
            witness.wait_for(2 * COUNT, 60)
            new = f"schema id {sender.register('t0', schema(1))}"
            unseen = sender.written("t0", COUNT, schema(1))
            known = [sender.written("t1", COUNT, schema(0)) for _ in range(2)]
            answering.pause()
            sender.send_values("t0", unseen)
            waits(live, bank.topic("events", "t0"), new)
            before = len(witness.seen)
            assert before == 2 * COUNT
            sender.send_values("t1", known[0])
            witness.wait_for(before + COUNT, 60)
            assert live.stop() == 0
        # a process that starts now has what was told from this machine's disk
        (tmp_path / "live.log").unlink()
        with fleet(bank, kafka, answering, tmp_path) as live:
            sender.send_values("t1", known[1])
            witness.wait_for(before + 2 * COUNT, 60)
            waits(live, bank.topic("events", "t0"), new)
            assert len(witness.seen) == before + 2 * COUNT
            answering.resume()
            witness.wait_for(before + 3 * COUNT, 60)
            assert live.stop() == 0
    assert dead(bank, witness) == []
    assert broken_promises(witness.seen, sender.counts) == []


def test_an_id_that_the_registry_does_not_have_is_a_dead_letter_and_others_do_not_wait(
    bank: Bank, sender: Producer, kafka: Broker, answering: LocalRegistry, tmp_path: Path
) -> None:
    publish(use_registry(bank.document()), tmp_path / "store")
    invented = 1_000_000_000
    with fleet(bank, kafka, answering, tmp_path) as live, live_witness(bank, kafka.bootstrap) as witness:
        live.wait_serving()
        sender.send_values("t0", [confluent_prefix(invented + n % 50) + b"x" for n in range(COUNT)])
        waits(live, bank.topic("events", "t0"), "schema id 10000000")
        sender.send("t1", COUNT, schema(0))
        until(lambda: len(witness.seen) - len(dead(bank, witness)) == COUNT, 60)
        sender.send("t0", COUNT, schema(0))
        witness.wait_for(3 * COUNT, 60)
        assert live.stop() == 0
    letters = dead(bank, witness)
    assert {one["muse.reason"] for one in letters} == {"unknown-schema"}
    assert "is not in the registry" in letters[0]["muse.message"]
    assert len(letters) == COUNT
    assert broken_promises(witness.seen, sender.counts) == []


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


def test_a_registry_that_asks_for_a_password_over_tls(
    answering: LocalRegistry, certificates: Path, tmp_path: Path
) -> None:
    """The password is read from its file again when it is refused, and the certificate is checked."""
    password = tmp_path / "password"
    password.write_text("hush-1\n")
    with GuardedRegistry(answering.url, certificates / "server.pem", certificates / "server.key") as guard:
        right = b64encode(b"muse:hush-2").decode()
        guard.allowed = lambda given: given == f"Basic {right}"
        ca = certificates / "ca.pem"
        named = RegistrySettings(url=guard.url, username="muse", password_file=password, ssl_ca_location=ca)
        with Client(named, LONG_S) as client:
            with pytest.raises(RegistryError, match=r"denies access \(401\): see MUSE_REGISTRY_USERNAME") as refused:
                client.subjects()
            assert "hush" not in str(refused.value)
            password.write_text("hush-2\n")
            number = client.register("guarded-value", schema(0))
            assert client.registered("guarded-value", schema(0)) == number
            assert parse_schema(client.text(number)).name == "Payment"
            assert client.versions("guarded-value") == [1]
            with pytest.raises(Unknown):
                client.text(1_000_000_000)
        unsure = RegistrySettings(url=guard.url, username="muse", password_file=password)
        with Client(unsure, LONG_S) as stranger, pytest.raises(RegistryError, match="CERTIFICATE_VERIFY_FAILED"):
            stranger.subjects()


@pytest.fixture
def guard(answering: LocalRegistry, certificates: Path) -> Iterator[GuardedRegistry]:
    """The run's registry over TLS, which lets in nobody yet."""
    with GuardedRegistry(answering.url, certificates / "server.pem", certificates / "server.key") as guarded:
        guarded.allowed = lambda _given: False
        yield guarded


def lets_in(guard: GuardedRegistry, password: str) -> None:
    right = b64encode(f"muse:{password}".encode()).decode()
    guard.allowed = lambda given: given == f"Basic {right}"


def basic(guard: GuardedRegistry, certificates: Path, password: Path) -> dict[str, str]:
    """Return the variables of a user with a password in a file."""
    given = {"URL": guard.url, "USERNAME": "muse", "PASSWORD_FILE": str(password)}
    given["SSL_CA_LOCATION"] = str(certificates / "ca.pem")
    return {f"MUSE_REGISTRY_{name}": value for name, value in given.items()}


def test_produce_takes_its_ids_from_a_guarded_registry(
    bank: Bank,
    sender: Producer,
    kafka: Broker,
    guard: GuardedRegistry,
    certificates: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What it writes is read by Confluent's deserializer; without an id nothing is sent, and the subject is named."""
    subjects = "topic_record_name"
    document, file, password = use_registry(bank.document(), subjects=subjects), tmp_path / "e.jsonl", tmp_path / "p"
    password.write_text("hush-1\n")
    file.write_text('{"id": "a", "at": 1780000000000, "tenant": "t0", "amount": 2.5, "risk": 0.5}\n')
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    monkeypatch.setattr(commands, "PATIENT_S", LONG_S)
    send = ["produce", str(document), "t0", str(file), "--frame", "confluent"]
    assert main(send) == 2
    assert "MUSE_REGISTRY_URL" in capsys.readouterr().err
    for name, value in basic(guard, certificates, password).items():
        monkeypatch.setenv(name, value)
    assert main(send) == 1
    assert "denies access (401): see MUSE_REGISTRY_USERNAME" in capsys.readouterr().err
    lets_in(guard, "hush-1")
    assert main(send) == 1
    topic = bank.topic("events", "t0")
    said = capsys.readouterr().err
    assert f"is not registered as {topic}-Payment in {guard.url}: --register registers it" in said
    assert main([*send, "--register"]) == 0
    assert main(send) == 0, "it is there now"
    assert main([*send[:4], "--register"]) == 1
    assert "--register needs --frame confluent" in capsys.readouterr().err
    values: list[bytes] = []
    with CommittedReader(kafka.bootstrap, {topic: PARTITIONS}) as reader:

        def read() -> bool:
            values.extend(one.value() or b"" for one in reader.read())
            return len(values) >= 2

        until(read, 60)
    place = SerializationContext(topic, MessageField.VALUE)
    assert [AvroDeserializer(sender.client)(value, place)["id"] for value in values] == ["a", "a"]
    # of the versions that the subject has by now, the one that says what ours says, in whatever words
    for text in (schema(1), schema(2), UNREADABLE):
        sender.client.register_schema(f"{topic}-Payment", RegistrySchema(text, "AVRO"))
    assert main(["check", str(document)]) == 0
    said = capsys.readouterr().err
    assert f"{topic}-Payment version 4" in said and "version 3" not in said, said
    ours = parse_schema(json.dumps(json.loads((bank.folder / "schemas" / "payment.avsc").read_text()), indent=7))
    with Client(RegistrySettings(url=sender.registry), LONG_S) as client:
        assert client.id_of(f"{topic}-Payment", ours) == int.from_bytes(values[0][1:5], "big")
        assert client.id_of(f"{topic}-Payment", parse_schema(schema(0, {"name": "x", "type": "int"}))) is None


def test_doctor_says_what_is_the_matter_with_the_registry(
    bank: Bank,
    guard: GuardedRegistry,
    certificates: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not named, a wrong password, nothing there, no subjects: each by its own name, with what cures it."""
    configuration = open_configuration(use_registry(bank.document(shadow=()), frame="confluent"))
    password = tmp_path / "password"
    password.write_text("hush-1\n")
    lets_in(guard, "hush-2")
    notes: list[str] = []

    def found() -> dict[str, tuple[str, str]]:
        notes.clear()
        faults = list(doctor_registry.answers(configuration, ["t0"], notes))
        assert all(one.why and one.cure for one in faults)
        return {one.kind: (one.where, one.what) for one in faults}

    assert found().keys() == {"registry_unnamed"}
    for name, value in basic(guard, certificates, password).items():
        monkeypatch.setenv(name, value)
    assert found() == {"registry_denied": (guard.url, f"{guard.url} denies access (401): {SEE}")}
    password.write_text("hush-2\n")
    subject = f"{bank.topic('scores', 't0')}-value"
    assert found().keys() == {"subject_missing"}
    assert found()["subject_missing"][0] == subject
    assert any(f"has no subject {bank.topic('events', 't0')}-value" in note for note in notes), notes
    with commands.client() as registry:
        commands.register(registry, commands.look(configuration, registry), "FULL_TRANSITIVE")
    assert found() == {}
    assert "answered in" in notes[0]
    monkeypatch.setenv("MUSE_REGISTRY_URL", "https://127.0.0.1:1")
    assert [*found()] == ["registry_silent"]


UNREADABLE = json.dumps({"type": "record", "name": "Payment", "fields": [{"name": "id", "type": "string"}]})
SEE = "see MUSE_REGISTRY_USERNAME, MUSE_REGISTRY_OAUTH_*"


def test_a_password_that_changes_under_a_worker_costs_it_no_restart_and_no_event(
    bank: Bank,
    sender: Producer,
    kafka: Broker,
    guard: GuardedRegistry,
    certificates: Path,
    tmp_path: Path,
) -> None:
    publish(use_registry(bank.document()), tmp_path / "store")
    password = tmp_path / "password"
    password.write_text("hush-1\n")
    lets_in(guard, "hush-1")
    named = basic(guard, certificates, password) | {"MUSE_CACHE_DIR": str(tmp_path / "cache")}
    log = tmp_path / "live.log"
    options: dict[str, Any] = {"workers": 1, "environment": named}
    with (
        Fleet(kafka.bootstrap, tmp_path / "store", "live", bank.name, log, **options) as live,
        live_witness(bank, kafka.bootstrap) as witness,
    ):
        sender.send("t0", COUNT, schema(0))
        witness.wait_for(COUNT, 60)
        lets_in(guard, "hush-2")
        sender.send("t0", COUNT, schema(1))
        waits(live, bank.topic("events", "t0"), "denies access (401)")
        password.with_suffix(".new").write_text("hush-2\n")
        password.with_suffix(".new").replace(password)
        witness.wait_for(2 * COUNT, 60)
        assert not live.lines("worker_ended")
        assert live.stop() == 0
    assert dead(bank, witness) == []
    assert broken_promises(witness.seen, sender.counts) == []
    assert "hush" not in log.read_text(encoding="utf-8")


def test_a_registry_that_asks_for_a_certificate_and_a_token(
    answering: LocalRegistry, certificates: Path, tmp_path: Path
) -> None:
    ours: dict[str, Any] = {
        "ssl_certificate_location": certificates / "client.pem",
        "ssl_key_location": certificates / "client.key",
    }
    endpoint = TokenEndpoint({"muse": "hush-1"}, b"k" * 32)
    ca, server = certificates / "ca.pem", (certificates / "server.pem", certificates / "server.key")
    with closing(endpoint), GuardedRegistry(answering.url, *server, clients=ca) as guard:
        guard.allowed = lambda given: given.count(".") == 2 and given.startswith("Bearer ")
        secret = tmp_path / "secret"
        secret.write_text("hush-0")
        known: dict[str, Any] = {"url": guard.url, "ssl_ca_location": ca, "oauth_client_id": "muse"}
        known |= {"oauth_token_endpoint_url": endpoint.url, "oauth_client_secret_file": secret, "oauth_scope": "sr"}
        with Client(RegistrySettings(**known, **ours), LONG_S) as client:
            with pytest.raises(RegistryError, match="invalid_client"):
                client.subjects()
            secret.write_text("hush-1")
            assert client.subjects() is not None
            assert endpoint.asked[-1]["scope"] == "sr"
        with (
            Client(RegistrySettings(**known), LONG_S) as unknown,
            pytest.raises(RegistryError, match="does not answer"),
        ):
            unknown.subjects()


def test_another_server_says_nothing_of_ids(answering: LocalRegistry) -> None:
    """A wrong path, as a URL that lacks Apicurio's: its 404 must not turn events into dead letters."""
    root = answering.url.removesuffix("/apis/ccompat/v7")
    elsewhere, said = RegistrySettings(url=f"{root}/nothing"), "nothing of a Schema Registry there"
    with Client(elsewhere, LONG_S) as client, pytest.raises(RegistryError, match=said) as wrong:
        client.text(1)
    assert not isinstance(wrong.value, Unknown)
    with (
        Client(RegistrySettings(url="http://127.0.0.1:1")) as client,
        pytest.raises(RegistryError, match="ConnectError"),
    ):
        client.text(1)


def test_references_are_followed(answering: LocalRegistry, unique: Callable[[str], str]) -> None:
    name = unique("refs")
    currency = {"type": "enum", "name": "Currency", "namespace": "shop", "symbols": ["EUR"]}
    money = {"type": "record", "name": "Money", "namespace": "shop", "fields": [{"name": "in", "type": "Currency"}]}
    fields = [{"name": "id", "type": "string"}, {"name": "price", "type": "shop.Money"}]
    event = {"type": "record", "name": "Event", "namespace": "till", "fields": fields}
    theirs = SchemaRegistryClient({"url": answering.url, "timeout": LONG_S})
    theirs.register_schema(f"{name}.Currency", RegistrySchema(json.dumps(currency), "AVRO"))
    to_currency = SchemaReference("shop.Currency", f"{name}.Currency", 1)
    theirs.register_schema(f"{name}.Money", RegistrySchema(json.dumps(money), "AVRO", [to_currency]))
    to_money = SchemaReference("shop.Money", f"{name}.Money", 1)
    number = theirs.register_schema(f"{name}-value", RegistrySchema(json.dumps(event), "AVRO", [to_money]))
    theirs.close()
    with Client(RegistrySettings(url=answering.url), LONG_S) as client:
        found = parse_schema(client.text(number))
        assert [field.name for field in found.type.fields] == ["id", "price"]
        assert client.version(f"{name}-value", "latest")[:2] == (number, 1)
