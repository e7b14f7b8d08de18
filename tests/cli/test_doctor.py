"""`doctor` finds what keeps a cluster from serving a configuration, and the commands it prints cure it."""

import itertools
import json
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from muse_stream.cli.main import main
from muse_stream.commands import doctor_groups
from muse_stream.commands.configuration import open_configuration
from muse_stream.commands.doctor import Diagnosis, Look, diagnose
from muse_stream.commands.doctor_fault import Fault
from muse_stream.commands.topics import prepare_topics
from muse_stream.config import KafkaSettings
from muse_stream.kafka import Options, kept_in
from muse_stream.testing.kafka_broker import PLACES, Broker
from muse_stream.testing.kafka_jars import jars, java, missing_tools
from muse_stream.testing.local_kafka import free_ports
from tests.integration.bank import Bank
from tests.patience import PATIENCE, until
from tests.quotas import set_quota
from tests.transactions import await_decided
from tests.worker.doubles import Route
from tests.worker.forgetful import KEPT, LOST, Forgetful, Predecessor, java_hash

pytestmark = [pytest.mark.broker, pytest.mark.own_broker]  # any transaction may stand in `__consumer_offsets`
CLASSES = {
    "kafka-transactions.sh": "org.apache.kafka.tools.TransactionsCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}
needs_java = pytest.mark.skipif(bool(missing_tools()), reason=f"Kafka's tools are run by the JVM: {missing_tools()}")


def carry_out(command: str) -> str:
    """Run one of the printed commands, by Kafka's own jars."""
    tool, *words = shlex.split(command)
    done = subprocess.run(
        java(jars(PLACES), CLASSES[tool], *words), capture_output=True, text=True, timeout=60 * PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass
class Site:
    """A lane of two tenants and its topics."""

    bank: Bank
    document: Path
    settings: KafkaSettings
    admin: AdminClient

    @property
    def group(self) -> str:
        return f"muse.{self.bank.name}.live"

    def topics(self, **options: Any) -> None:
        prepare_topics(open_configuration(self.document), self.settings, Options(partitions=2, **options))

    def look(self, *tenants: str, role: Any = None, stands_s: float = 0.5) -> Diagnosis:
        return diagnose(open_configuration(self.document), self.settings, tenants, Look(role, stands_s))

    def found(self, *tenants: str, **how: Any) -> dict[str, list[str]]:
        """Return kind -> where, of what was found beyond that no worker runs."""
        found: dict[str, list[str]] = {}
        for fault in self.look(*tenants, **how).faults:
            assert fault.what and fault.why and fault.cure, fault
            found.setdefault(fault.kind, []).append(fault.where)
        return found

    def commit(self, offsets: dict[int, int], tenant: str = "t0", role: str = "live") -> None:
        member = Consumer({"bootstrap.servers": self.settings.bootstrap, "group.id": f"muse.{self.bank.name}.{role}"})
        topic = self.bank.topic("events", tenant)
        member.commit(offsets=[TopicPartition(topic, *place) for place in offsets.items()], asynchronous=False)
        member.close()

    def remove(self, topic: str, before: int) -> None:
        for answer in self.admin.delete_records([TopicPartition(topic, 0, before)]).values():
            answer.result(timeout=60)

    def send(self, topic: str, count: int, value: bytes = b"x", timestamp: int = 0) -> None:
        producer = Producer({"bootstrap.servers": self.settings.bootstrap, "linger.ms": 0})
        for _ in range(count):
            producer.produce(topic, value, partition=0, timestamp=timestamp)
        assert producer.flush(60) == 0

    def open_transaction(self, topic: str, name: str) -> Producer:
        """Leave a transaction open for as long as the broker allows one."""
        producer = Producer({"bootstrap.servers": self.settings.bootstrap, "transactional.id": name,
                             "transaction.timeout.ms": 900_000})  # fmt: skip
        producer.init_transactions(60)
        producer.begin_transaction()
        producer.produce(topic, b"open", partition=0)
        assert producer.flush(60) == 0
        return producer


def site_on(bootstrap: str, folder: Path, name: str, *, shadow: bool = False, **settings: Any) -> Site:
    bank = Bank(folder, name)
    document = bank.document(shadow=["retrained"] if shadow else [])
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    return Site(bank, document, KafkaSettings(bootstrap=bootstrap, **settings), admin)


@pytest.fixture
def site(kafka: Broker, tmp_path: Path, unique: Callable[[str], str]) -> Site:
    lanes = (unique("lane") for _ in itertools.count())
    lane = next(name for name in lanes if java_hash(f"muse.{name}.live") < 0)  # the harder half
    return site_on(kafka.bootstrap, tmp_path, lane)


def test_topics_that_are_missing_are_found_and_then_nothing(site: Site) -> None:
    everything = [*site.bank.topics(), f"muse.dlq.{site.bank.name}.unknown"]
    found = site.found()
    assert found.keys() == {"topic_missing"}
    assert set(site.bank.topics(["events", "scores", "dlq"])) <= set(found["topic_missing"])
    assert len(found["topic_missing"]) <= len(everything)
    site.topics()
    assert site.found() == {}
    assert site.look().well


def test_one_tenant_is_looked_at_alone(site: Site) -> None:
    found = site.found("t1")["topic_missing"]
    assert site.bank.topic("events", "t1") in found
    assert site.bank.topic("events", "t0") not in found


def test_the_command_shows_findings_and_ends_with_one(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", site.settings.bootstrap)
    assert main(["doctor", str(site.document), "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown.keys() == {"findings", "notes", "brokers", "topics", "groups"}
    assert {tuple(one) for one in shown["findings"]} == {("kind", "where", "what", "why", "cure")}
    assert main(["doctor", str(site.document)]) == 1
    assert f"> muse-stream topics {site.document}" in capsys.readouterr().out
    site.topics()
    assert main(["doctor", str(site.document)]) == 0
    assert "nothing was found" in capsys.readouterr().out
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_ports(1)[0]}")
    assert main(["doctor", str(site.document)]) == 3
    assert "nothing listens there" in capsys.readouterr().err


@contextmanager
def left_open(site: Site, unique: Callable[[str], str]) -> Iterator[tuple[list[Fault], tuple[Producer, Producer]]]:
    """One of answers and offsets, as a worker leaves it; one of an upstream producer's events.

    Yields what is found, and who could end them.
    """
    site.topics()
    scores, events = site.bank.topic("scores", "t0"), site.bank.topic("events", "t1")
    worker = site.open_transaction(scores, unique("worker"))
    member = Consumer({"bootstrap.servers": site.settings.bootstrap, "group.id": site.group})
    offset = TopicPartition(site.bank.topic("events", "t0"), 0, 0)
    worker.send_offsets_to_transaction([offset], member.consumer_group_metadata(), 30)
    upstream = site.open_transaction(events, unique("upstream"))
    found = site.look()
    open_ones = {fault.where: fault for fault in found.faults if fault.kind in ("transaction_open", "offsets_hidden")}
    (hidden,) = [fault for fault in open_ones.values() if fault.kind == "offsets_hidden"]
    assert hidden.where.startswith("__consumer_offsets[") and site.group in hidden.why
    assert open_ones.keys() == {f"{scores}[0]", f"{events}[0]", hidden.where}
    assert ", since 20" in open_ones[f"{scores}[0]"].what
    for fault in open_ones.values():
        instead, listing, abort = fault.cure
        assert instead.startswith("start the ")
        assert "--max-transaction-timeout 1" in listing
        assert shlex.split(abort)[0] in CLASSES
    yield list(open_ones.values()), (worker, upstream)
    member.close()


def test_open_transactions_are_found(site: Site, unique: Callable[[str], str]) -> None:
    with left_open(site, unique) as (faults, producers):
        assert len(faults) == 3
        for producer in producers:
            producer.abort_transaction(60)
        until(lambda: not site.found().keys() & {"transaction_open", "offsets_hidden"}, 20)


@pytest.mark.long  # a JVM for each; that they are found is the test before
@needs_java
def test_open_transactions_are_found_and_ended_by_the_printed_commands(
    site: Site, unique: Callable[[str], str]
) -> None:
    with left_open(site, unique) as (faults, _producers):
        for fault in faults:
            carry_out(fault.cure[-1])
        assert not site.found().keys() & {"transaction_open", "offsets_hidden"}


def test_the_partition_of_a_group_is_the_one_that_kafka_chooses() -> None:
    """By the absolute value of the hash: half of all names have a negative one."""
    names = [f"muse.lane-{number}.live" for number in range(200)]
    assert {kept_in(name, 50) == abs(java_hash(name)) % 50 for name in names} == {True}
    assert {java_hash(name) < 0 for name in names} == {True, False}
    assert kept_in("polygenelubricants", 50) == 0, "whose hash has no absolute value"


def test_an_honest_transaction_is_no_finding(site: Site, unique: Callable[[str], str]) -> None:
    site.topics()
    producer = site.open_transaction(site.bank.topic("scores", "t0"), unique("honest"))
    waited: list[str] = []

    def end(text: str) -> None:
        waited.append(text)
        producer.commit_transaction(60)
        await_decided(site.settings.bootstrap, site.bank.topic("scores", "t0"))

    found = diagnose(open_configuration(site.document), site.settings, None, Look(None, 60.0 * PATIENCE, end))
    assert found.well, found.faults
    assert len(waited) == 1


def test_offsets_against_what_the_topics_hold(site: Site) -> None:
    site.topics()
    topic = site.bank.topic("events", "t0")
    site.send(topic, 10)
    assert site.found() == {
        "offsets_missing": [f"group {site.group}, {topic}[0]"],
        "nobody_reads": [f"group {site.group}"],
    }
    site.commit({0: 10, 1: 0})
    assert site.found() == {}
    site.commit({0: 3})
    site.remove(topic, 5)
    assert site.found() == {
        "offsets_removed": [f"group {site.group}, {topic}[0]"],
        "nobody_reads": [f"group {site.group}"],
    }
    site.commit({0: 99})
    assert site.found() == {"offsets_beyond_end": [f"group {site.group}, {topic}[0]"]}


@pytest.mark.parametrize("asked", ["bounds", "group_state"])
def test_a_lane_that_works_meanwhile_has_lost_nothing(site: Site, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    """Its offsets go on between the two questions: past an end that was asked for first."""
    site.topics()
    topic = site.bank.topic("events", "t0")
    site.send(topic, 2)
    site.commit({0: 2})
    ask, worked = getattr(doctor_groups, asked), list[object]()

    def working(*about: Any) -> Any:
        answer = ask(*about)
        if topic in about or asked == "group_state":
            worked.append(answer)
            site.send(topic, 1)
            site.commit({0: 2 + len(worked)})
        return answer

    monkeypatch.setattr(doctor_groups, asked, working)
    assert "offsets_beyond_end" not in site.found()
    assert worked


def test_offsets_of_topics_that_no_tenant_has_are_said(site: Site, make_topic: Callable[..., str]) -> None:
    site.topics()
    left = make_topic("left")
    member = Consumer({"bootstrap.servers": site.settings.bootstrap, "group.id": site.group})
    member.commit(offsets=[TopicPartition(left, 0, 0)], asynchronous=False)
    member.close()
    assert any(left in note for note in site.look().notes)


def test_topics_that_are_kept_too_shortly_or_take_too_little(site: Site, make_topic: Callable[..., str]) -> None:
    events, dead = site.bank.topic("events", "t0"), site.bank.topic("dlq", "t0")
    make_topic(name=events, partitions=2, **{"retention.ms": "3600000"})
    make_topic(name=dead, partitions=2, **{"max.message.bytes": "250"})
    found = site.found()
    assert (found["retention_short"], found["topic_setting"]) == ([events], [dead])
    site.topics()
    until(lambda: site.found() == {"retention_short": [events]}, 10)


def test_a_clock_that_is_ahead(site: Site) -> None:
    site.topics()
    topic = site.bank.topic("events", "t1")
    site.send(topic, 1, timestamp=time.time_ns() // 1_000_000 + 3_600_000)
    faults = [fault for fault in site.look().faults if fault.kind == "clock_ahead"]
    assert [fault.where for fault in faults] == [topic]
    assert "minutes after this machine's time" in faults[0].what
    assert "a producer of events" in faults[0].why


def test_a_quota_that_holds_this_client_back(site: Site, unique: Callable[[str], str]) -> None:
    site.topics()
    client = unique("client")
    set_quota(site.settings.bootstrap, client, "consumer_byte_rate", 1_000)
    site.send(site.bank.topic("events", "t0"), 50, b"x" * 10_000)
    site.commit({0: 50})
    limited = Site(
        site.bank, site.document, KafkaSettings(bootstrap=site.settings.bootstrap, client_id=client), site.admin
    )
    until(lambda: "throttled" in limited.found(), 20)


@pytest.fixture(scope="module")
def two_brokers() -> Iterator[Forgetful]:
    made = Forgetful("4.3.1")
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def forgetful(two_brokers: Forgetful) -> Iterator[Forgetful]:
    yield two_brokers
    two_brokers.bring_back()


@pytest.mark.long  # two brokers and a controller; others above have transactions that are open
@needs_java
def test_a_transaction_whose_marker_was_dropped_is_ended_by_the_printed_commands(
    forgetful: Forgetful, tmp_path: Path
) -> None:
    """A really hanging one, of a worker that never comes back: in its answers and in its group's offsets."""
    lane = forgetful.lane(offsets_on=LOST)
    site = site_on(forgetful.bootstrap, tmp_path, lane)
    events, scores = site.bank.topic("events", "t0"), site.bank.topic("scores", "t0")
    forgetful.topic(events, [KEPT])
    forgetful.topic(scores, [LOST])
    site.topics(replication=1)
    site.send(events, 4)
    gone = Predecessor(forgetful, lane, events, Route(scores, scores))
    gone.sign([0])
    gone.answer(0, {0: range(2)})
    forgetful.outage(lambda: gone.producer(0).commit_transaction(60))
    found = site.look()
    kinds = {fault.kind for fault in found.faults}
    assert {"broker_forgets_markers", "transaction_open", "offsets_hidden"} <= kinds, found
    for fault in found.faults:
        if fault.kind in ("transaction_open", "offsets_hidden"):
            carry_out(fault.cure[-1])
    assert not {fault.kind for fault in site.look().faults} & {"transaction_open", "offsets_hidden"}


@pytest.mark.long
@needs_java
def test_partitions_without_a_leader_or_with_too_few_replicas(tmp_path: Path, forgetful: Forgetful) -> None:
    site = site_on(forgetful.bootstrap, tmp_path, "lane")
    lost = forgetful.topic(site.bank.topic("scores", "t0"), [LOST])
    site.topics(replication=1)
    held = site.bank.topic("dlq", "t0")
    pair = NewTopic(
        f"{held}-pair", num_partitions=1, replica_assignment=[[KEPT, LOST]], config={"min.insync.replicas": "2"}
    )
    site.admin.create_topics([pair])[f"{held}-pair"].result(60)
    site.document.write_text(site.document.read_text().replace(f"{lane_dlq(site)}", f"{lane_dlq(site)}-pair"))
    forgetful.kill()
    until(lambda: forgetful.leader(lost, 0) == -1, 40)
    found = site.look(stands_s=0.0)
    where = {fault.kind: fault.where for fault in found.faults}
    assert where["no_leader"]
    assert f"{lost}[0]" in {fault.where for fault in found.faults if fault.kind == "no_leader"}
    assert f"{held}-pair[0]" in {fault.where for fault in found.faults if fault.kind == "below_min_isr"}, found.faults
    assert "__consumer_offsets[1]" in {fault.where for fault in found.faults if fault.kind == "no_leader"}


def lane_dlq(site: Site) -> str:
    return f"{site.bank.name}.dlq.{{tenant}}"
