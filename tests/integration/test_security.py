"""Least privilege on a broker with SASL_SSL: what `muse-stream acl` prints is enough, and nothing more works.

One broker, one lane of three tenants and one live and one shadow supervisor serve the whole module; events add up, and
every test judges all that was sent so far.
"""

import json
import logging
import shlex
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from muse_stream import testing
from muse_stream.commands.refresh_incidents import letters_by_hour
from muse_stream.config import KafkaSettings
from muse_stream.control import DirectoryStore
from muse_stream.errors import MuseError, Retriable
from muse_stream.kafka import client
from muse_stream.kafka.offsets import committed_offsets, offsets_at
from muse_stream.testing import ToSend
from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.kafka_jars import jars, java, missing_tools
from tests.calibrate.scores import Counting, stored
from tests.integration.bank import PARTITIONS, Bank
from tests.integration.fleet import ROOT, Fleet, publish
from tests.integration.secured import Secured, binding, bindings, in_process
from tests.integration.witness import Seen, Witness, broken_promises
from tests.kafka.test_broker_release import Heard
from tests.patience import PATIENCE, until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(bool(missing_tools()), reason=f"a broker with passwords is run by the JVM: {missing_tools()}"),
]
LANE = "muse"
TENANTS = ("t0", "t1", "t2")
SHARED = (
    *("live", "shadow", "calibrate", "analyst", "reporter", "promoter", "watcher", "verifier"),
    *("doctor", "operator", "replayer", "mover"),
)
WORKERS = pytest.mark.long
"""What has workers that run as somebody: tests without them show what each command is told, what a role may not do, and
that clients take up a password; test_oauth.py has a login, tests/worker what a worker does that is refused."""
GROUPLESS = "groupless"
"""What is granted to `live`, but for the group."""
PREFIXED = ("live", "replayer")
"""Who is granted topics by prefixes; the others topic by topic."""
ROLES = (*(name for name in SHARED if name not in PREFIXED), "producer", "consumer")
DEBUG = ("--debug", "--log-level", "debug")
OWN = tuple(f"{kind}-{tenant}" for kind in ("producer", "consumer") for tenant in TENANTS)


class Site:
    """The running whole: broker, bank, workers, and what was sent."""

    def __init__(self, kafka: Secured, folder: Path) -> None:
        self.kafka, self.folder, self.store = kafka, folder, folder / "store"
        self.bank = Bank(folder / "bank", LANE, len(TENANTS))  # its topics: muse.events.t0, ...
        self.counts: Counter[tuple[str, int]] = Counter()
        self.broken = 0
        self.document = self.bank.document()
        publish(self.document, self.store)

    def fleet(self, role: str, principal: str) -> Fleet:
        options: dict[str, Any] = {"environment": self.kafka.environment(principal), "longest_backoff_s": 0.5}
        log = self.folder / f"{role}-as-{principal}.log"
        return Fleet(self.kafka.bootstrap, self.store, role, LANE, log, workers=1, **options)

    def command(self, principal: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `muse-stream` as somebody, in this process."""
        return in_process(self.kafka.environment(principal), *arguments)

    def program(self, principal: str, *arguments: str, password: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `muse-stream` as somebody, as a program: with what Kafka's client itself writes."""
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **self.kafka.environment(principal, password)}
        command = [str(Path(sys.executable).with_name("muse-stream")), *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False
        )

    def send(self, count: int, *, undecodable: int = 0) -> None:
        """Produce events of all tenants, each as its own producer; first some nobody can decode."""
        events = [(TENANTS[0], 0, b"not an event")] * undecodable + self.bank.events(count)
        for tenant in TENANTS:
            topic = self.bank.topic("events", tenant)
            records = [ToSend(topic, partition, value) for owner, partition, value in events if owner == tenant]
            settings = self.kafka.connection(f"producer-{tenant}") | {"enable.idempotence": True}
            testing.produce(self.kafka.bootstrap, records, settings)
        self.counts.update((self.bank.topic("events", tenant), partition) for tenant, partition, _ in events)
        self.broken += undecodable

    def scores(self, tenant: str) -> Witness:
        """Read a tenant's scores as that tenant."""
        secured = {**self.kafka.connection(f"consumer-{tenant}"), "group.id": f"{tenant}.decisions"}
        topic = self.bank.topic("scores", tenant)
        return Witness(self.kafka.bootstrap, [topic], [], PARTITIONS, "score.avsc", **secured)

    def sent(self, *tenants: str) -> int:
        return sum(n for (topic, _), n in self.counts.items() if topic.split(".")[-1] in tenants)

    def verify(self, upto: str) -> list[dict[str, Any]]:
        """What `muse-stream verify` says, run by who may."""
        done = self.command("verifier", "verify", str(self.store), "--json", "--upto", upto)
        assert done.returncode == 0, done.stdout + done.stderr
        reports: list[dict[str, Any]] = json.loads(done.stdout)
        return reports

    def assert_exactly_once(self, upto: str = "end") -> None:
        reports = self.verify(upto)
        assert all(report["ok"] for report in reports), reports
        assert {report["topic"]: report["events"] for report in reports} == {
            self.bank.topic("events", tenant): self.sent(tenant) for tenant in TENANTS
        }
        assert sum(report["dead_letters"] for report in reports) == self.broken


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The broker with its grants, and topics made by the operator."""
    folder = tmp_path_factory.mktemp("secured")
    with Secured(folder, [*SHARED, *OWN, GROUPLESS]) as kafka:
        made = Site(kafka, folder)
        roles = [word for role in ROLES for word in ("--role", role)]
        kafka.grant(*bindings(made.document, *roles))
        kafka.grant(*bindings(made.document, "--prefixed", *(w for role in PREFIXED for w in ("--role", role))))
        for name, operation in (("muse.events.", "READ"), ("muse.scores.", "WRITE"), ("muse.dlq.", "WRITE")):
            kafka.grant(binding(GROUPLESS, "topic", "prefixed", name, operation))
        kafka.grant(binding(GROUPLESS, "transactional id", "prefixed", f"muse-muse.{LANE}.live-", "WRITE"))
        topics = made.command("operator", "topics", str(made.store), "--partitions", str(PARTITIONS))
        assert topics.returncode == 0, topics.stdout + topics.stderr
        yield made


@pytest.fixture(scope="module")
def workers(site: Site) -> Iterator[dict[str, Fleet]]:
    """A live and a shadow supervisor, each with its own principal."""
    with site.fleet("live", "live") as live, site.fleet("shadow", "shadow") as shadow:
        live.wait_serving()
        shadow.wait_serving()
        yield {"live": live, "shadow": shadow}


def count(witnesses: Sequence[Witness]) -> int:
    return sum(len(witness.seen) for witness in witnesses)


def sources(seen: Sequence[Seen]) -> set[tuple[str, int, int]]:
    return {one.source for one in seen}


@WORKERS
def test_what_is_documented_is_enough(site: Site, workers: dict[str, Fleet]) -> None:
    """Scores, dead letters and audit records, exactly once; each read by who may read it."""
    site.send(600, undecodable=3)
    wanted = sum(site.counts.values()) - site.broken
    secured = {**site.kafka.connection("analyst"), "group.id": "analyst.look"}
    audited = site.bank.topics(["audit"])
    with ExitStack() as stack:
        scores = [stack.enter_context(site.scores(tenant)) for tenant in TENANTS]
        audit = stack.enter_context(Witness(site.kafka.bootstrap, audited, [], PARTITIONS, "audit.avsc", **secured))
        until(lambda: count(scores) >= wanted, 40, lambda: f"{count(scores)} of {wanted} scores")
        audit.wait_for(wanted, 40)
    assert len(audit.seen) == len(sources(audit.seen)) == wanted
    site.assert_exactly_once(upto="committed")
    tail = ("tail", str(site.store), "t0", "--kind", "audit", "--from-beginning", "--limit", "5")
    shown = site.command("analyst", *tail)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("retrained") == 5
    exported = site.command("reporter", "audit", str(site.store), "t0", "--to", str(site.folder / "t0.parquet"))
    assert exported.returncode == 0, exported.stderr
    assert {line["topic"] for fleet in workers.values() for line in fleet.lines("tenant_paused")} <= PAUSED_ON_PURPOSE


PAUSED_ON_PURPOSE = {"muse.events.t0", "muse.events.t1"}


def write(site: Site, principal: str, topic: str) -> str:
    """Try to write a record; returns the broker's word."""
    said: list[str] = []
    producer = Producer(site.kafka.connection(principal))
    producer.produce(topic, b"x", partition=0, on_delivery=lambda e, _: said.append(e.name() if e else "written"))
    assert producer.flush(60) == 0
    return said[0]


def read(site: Site, principal: str, topic: str) -> str:
    """Ask for a topic and try to read its first record; returns the broker's word (librdkafka itself keeps silent)."""
    group = f"{principal.removeprefix('consumer-')}.try"
    consumer = Consumer({**site.kafka.connection(principal), "group.id": group, "enable.partition.eof": True})
    try:
        refused = consumer.list_topics(topic, timeout=60).topics[topic].error
        if refused is not None:
            return str(refused.name())
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(20 * PATIENCE)
        assert message is not None
        error = message.error()
        return "read" if error is None or error.code() == KafkaError._PARTITION_EOF else error.name()
    finally:
        consumer.close()


def test_nobody_does_what_was_not_granted(site: Site) -> None:
    """Roles do not write each other's topics, take each other's ids or see each other's groups; tenants are apart."""
    refused = "TOPIC_AUTHORIZATION_FAILED"
    forbidden = [("live", "audit"), ("live", "events"), ("shadow", "scores"), ("shadow", "dlq"), ("shadow", "events")]
    forbidden += [("analyst", "audit"), ("verifier", "scores"), ("producer-t0", "scores"), ("consumer-t0", "scores")]
    answers = {pair: write(site, pair[0], site.bank.topic(pair[1], "t0")) for pair in forbidden}
    assert answers == dict.fromkeys(forbidden, refused)
    assert write(site, "producer-t0", site.bank.topic("events", "t1")) == refused
    assert read(site, "consumer-t0", site.bank.topic("scores", "t0")) == "read"
    assert read(site, "consumer-t0", site.bank.topic("scores", "t1")) == refused
    assert read(site, "analyst", site.bank.topic("audit", "t1")) == "read"
    assert read(site, "analyst", site.bank.topic("scores", "t1")) == refused
    other = Producer({**site.kafka.connection("shadow"), "transactional.id": f"muse-muse.{LANE}.live-test-0-a"})
    with pytest.raises(KafkaException, match="TRANSACTIONAL_ID_AUTHORIZATION_FAILED"):
        other.init_transactions(60)
    taken = Consumer({**site.kafka.connection("shadow"), "group.id": f"muse.{LANE}.live"})
    taken.subscribe([site.bank.topic("events", "t0")])
    message = taken.poll(20 * PATIENCE)
    assert message is not None
    error = message.error()
    assert error is not None
    assert error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
    taken.close()


@WORKERS
def test_a_promotion_is_made_and_watched_by_who_may(site: Site, workers: dict[str, Fleet]) -> None:
    """Guard, steps and watch read what they are granted; without it, the topic is named and nothing is changed."""
    folder = site.folder / "promoted"
    publish(site.bank.document(), folder)  # the same content, and no worker follows
    site.send(30)
    where = ("retrained", "--store", str(folder), "--when", "tenant=t2", "--yes", "--json")
    by_steps = (*where, "--steps", "50%,100%", "--hold", "1s")
    for principal, words, topic in (
        ("watcher", by_steps, "muse.scores.t2"),
        ("verifier", (*where, "--dry-run"), ""),
        ("consumer-t0", (*where, "--dry-run"), "muse.audit.t2"),
    ):
        done = site.command(principal, "promote", *words)
        assert done.returncode == (1 if topic else 0), done.stdout + done.stderr
        assert topic in done.stderr
        assert not topic or "TOPIC_AUTHORIZATION_FAILED" in done.stderr
        assert DirectoryStore(folder).current() == 1
    done = site.command("promoter", "promote", *by_steps)
    assert done.returncode == 0, done.stdout + done.stderr
    done = site.command("watcher", "watch", str(folder), "--once", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    denied = binding("watcher", "topic", "literal", "muse.audit.t2", "READ", "DENY")
    site.kafka.grant(denied)
    done = site.command("watcher", "watch", str(folder), "--once")
    site.kafka.withdraw(denied)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "muse.audit.t2" in done.stderr


def letters(site: Site) -> int:
    """How many dead letters of t0 the replayer finds."""
    done = site.command("replayer", "dlq", "list", str(site.store), "t0", "--json")
    assert done.returncode == 0, done.stderr
    return sum(row["letters"] for row in json.loads(done.stdout)["reasons"])


@WORKERS
def test_dead_letters_are_replayed_by_who_may(site: Site, workers: dict[str, Fleet]) -> None:
    """What is granted is enough to send them again; others are told what they lack, and nothing is sent."""
    assert workers["live"].process.poll() is None
    site.send(30, undecodable=2)
    until(lambda: letters(site) == site.broken, 40, lambda: f"{letters(site)} of {site.broken}")
    replay = ("dlq", "replay", str(site.store), "t0", "--yes", "--json")
    for principal, word in (("analyst", site.bank.topic("events", "t0")), ("verifier", "muse-dlq-replay-")):
        refused = site.command(principal, *replay)
        assert refused.returncode == 1, refused.stdout + refused.stderr
        assert word in refused.stderr
        assert "AUTHORIZATION_FAILED" in refused.stderr
    done = site.command("replayer", *replay)
    assert done.returncode == 0, done.stderr
    sent = json.loads(done.stdout)["sent"]["sent"]
    assert sent >= 2
    site.counts[site.bank.topic("events", "t0"), 0] += sent
    site.broken += sent
    until(lambda: letters(site) == site.broken, 40, lambda: f"{letters(site)} of {site.broken}")
    site.assert_exactly_once()
    binding_of_events = binding("replayer", "topic", "prefixed", "muse.events.", "WRITE")
    site.kafka.withdraw(binding_of_events)
    refused = site.command("replayer", *replay, "--again")
    site.kafka.grant(binding_of_events)
    assert refused.returncode == 1
    assert "TOPIC_AUTHORIZATION_FAILED" in refused.stderr
    assert site.command("analyst", "dlq", "list", str(site.store), "t0").returncode == 1


@WORKERS
def test_scores_are_counted_by_who_may(site: Site, workers: dict[str, Fleet], monkeypatch: pytest.MonkeyPatch) -> None:
    assert workers
    site.send(60)
    environment = site.kafka.environment("calibrate")

    def counted() -> int:
        return sum(one.events for one in stored(DirectoryStore(site.store)) if one.predictor == "plain")

    with Counting(str(site.store), LANE, environment, site.kafka.folder / "calibrate.log") as counting:
        counting.wait(lambda: counted() == site.sent(*TENANTS) - site.broken)  # what is refused has no score
        assert counting.stop() == 0
    # and it may see whether there were dead letters, which nobody refreshes a map without
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = KafkaSettings.from_environment()
    begins = datetime.now(UTC) - timedelta(days=1)
    assert len(letters_by_hour(settings, site.bank.topic("dlq", "t0"), begins, 24)) == 25
    with pytest.raises(MuseError, match="TOPIC_AUTHORIZATION_FAILED"):
        letters_by_hour(settings, "other", begins, 24)


@WORKERS
def test_a_tenant_whose_permission_is_gone_waits_alone(site: Site, workers: dict[str, Fleet]) -> None:
    """One output may be seen but not written, one not even seen: both wait, the third goes on; then nothing is lost."""
    live = workers["live"]
    ended = live.lines("worker_ended")  # on a busy machine the first one may not reach the broker in time
    one_by_one = {
        name: binding("live", "topic", "literal", site.bank.topic("scores", name), "WRITE") for name in TENANTS
    }
    every = binding("live", "topic", "prefixed", "muse.scores.", "WRITE")
    denied = binding("live", "topic", "literal", site.bank.topic("scores", "t0"), "WRITE", "DENY")
    site.kafka.grant(denied, *one_by_one.values())
    site.kafka.withdraw(every, one_by_one["t1"])
    with ExitStack() as stack:
        scores = {tenant: stack.enter_context(site.scores(tenant)) for tenant in TENANTS}
        until(lambda: fed(site, live, "tenant_paused", PAUSED_ON_PURPOSE), 40, lambda: str(live.lines("tenant_paused")))
        until(lambda: len(scores["t2"].seen) >= site.sent("t2"), 30, lambda: f"{len(scores['t2'].seen)} of t2")
        assert len(scores["t0"].seen) < site.sent("t0")
        assert len(scores["t1"].seen) < site.sent("t1")
        site.kafka.withdraw(denied)
        site.kafka.grant(every)
        wanted = sum(site.counts.values()) - site.broken
        until(lambda: count(list(scores.values())) >= wanted, 40, lambda: f"{count(list(scores.values()))} of {wanted}")
    site.kafka.withdraw(one_by_one["t0"], one_by_one["t2"])
    site.assert_exactly_once()
    assert live.lines("worker_ended") == ended
    assert {line["topic"] for line in live.lines("tenant_paused")} <= PAUSED_ON_PURPOSE
    assert "TOPIC_AUTHORIZATION_FAILED" in {line["code"] for line in live.lines("aborted")}
    assert all("`muse-stream acl " in line["hint"] for line in live.lines("tenant_paused"))


@WORKERS
def test_a_shadow_that_may_not_write_one_audit_topic_audits_the_others(site: Site, workers: dict[str, Fleet]) -> None:
    """Nobody's scores wait for it; once it may again, the audit records that were held back are there, each once."""
    shadow, held = workers["shadow"], site.bank.topic("events", "t0")
    before = len(shadow.lines("tenant_paused"))
    denied = binding("shadow", "topic", "literal", site.bank.topic("audit", "t0"), "WRITE", "DENY")
    secured = {**site.kafka.connection("analyst"), "group.id": "analyst.look"}

    def paused() -> bool:
        if len(shadow.lines("tenant_paused")) == before:
            site.send(30)
        return len(shadow.lines("tenant_paused")) > before

    def audited(audit: Witness, *tenants: str) -> bool:
        found, broken = Counter(one.source[0] for one in audit.seen), {TENANTS[0]: site.broken}
        return all(found[site.bank.topic("events", name)] >= site.sent(name) - broken.get(name, 0) for name in tenants)

    site.kafka.grant(denied)
    with Witness(site.kafka.bootstrap, site.bank.topics(["audit"]), [], PARTITIONS, "audit.avsc", **secured) as audit:
        until(paused, 40, lambda: str(shadow.lines("aborted")[-3:]))
        until(lambda: audited(audit, "t1", "t2"), 40)
        assert not audited(audit, "t0")
        site.kafka.withdraw(denied)
        until(lambda: audited(audit, "t0", "t1", "t2"), 40)
        assert len(audit.seen) == len(sources(audit.seen)), "each once"
    (said, *_) = shadow.lines("tenant_paused")[before:]
    assert (said["topic"], "audit" in said["error"]) == (held, True)
    assert {line["topic"] for line in shadow.lines("tenant_paused")[before:]} == {held}
    site.assert_exactly_once()


def fed(site: Site, fleet: Fleet, event: str, topics: set[str]) -> bool:
    """Send a little to everybody until the log has said this of all these topics."""
    if topics <= {line["topic"] for line in fleet.lines(event)}:
        return True
    site.send(30)
    return False


@WORKERS
@pytest.mark.parametrize(
    ("principal", "named", "why"),
    [
        pytest.param("shadow", f"muse-muse.{LANE}.live-", "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", id="ids"),
        pytest.param(GROUPLESS, f"muse.{LANE}.live", "GROUP_AUTHORIZATION_FAILED", id="group"),
    ],
)
def test_a_run_that_may_not_work_gives_up_with_the_reason(site: Site, principal: str, named: str, why: str) -> None:
    """It is said in the log with what was refused, and no traceback past the log; the run does not go on in vain."""
    with site.fleet("live", principal) as mistaken:
        assert mistaken.process.wait(60 * PATIENCE) == 1
    (said, *_) = mistaken.lines("worker_failed")
    (end,) = mistaken.lines("gave_up")
    for text in (said["error"], end["error"]):
        assert named in text
        assert why in text
    assert "Traceback" not in mistaken.log.read_text(encoding="utf-8")


UNALLOWED = {
    ("consumer-t0", "tail STORE t1 --from-beginning --limit 1"): "TOPIC scores t1",
    ("consumer-t0", "verify STORE t1"): "TOPIC events t1",
    ("consumer-t0", "produce STORE t1 EVENTS"): "TOPIC events t1",
    ("consumer-t0", "topics STORE --dry-run"): "TOPIC",
    ("analyst", "tail STORE t0 --kind dlq --from-beginning --limit 1"): "TOPIC dlq t0",
}


@pytest.mark.parametrize(("principal", "line"), UNALLOWED)
def test_what_is_not_allowed_is_said_with_the_topic_and_what_to_grant(site: Site, principal: str, line: str) -> None:
    """Not that the topic does not exist: a broker does not list what may not be seen."""
    events = site.folder / "events.jsonl"
    events.write_text('{"id": "x", "tenant": "t1", "amount": 1.0, "risk": 0.5}\n', encoding="utf-8")
    words = [str({"STORE": site.store, "EVENTS": events}.get(word, word)) for word in line.split()]
    done = site.command(principal, *words)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "this principal may not use the topic (TOPIC_AUTHORIZATION_FAILED" in said, said
    assert "`muse-stream acl CONFIG`" in said
    _kind, *topic = UNALLOWED[principal, line].split()
    assert not topic or site.bank.topic(*topic) in said, said


def diagnosed(site: Site, principal: str, *options: str) -> dict[str, Any]:
    done = site.command(principal, "doctor", str(site.store), "--json", "--wait", "0", *options)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_doctor_sees_what_it_is_granted_and_says_what_it_may_not_see(site: Site) -> None:
    with closing(Consumer({**site.kafka.connection("live"), "group.id": f"muse.{LANE}.live"})) as member:
        until(lambda: coordinated(member, site.bank.topic("events", "t0")), 60)  # makes __consumer_offsets
    seen = diagnosed(site, "doctor")
    assert "not_allowed" not in {one["kind"] for one in seen["findings"]}, seen
    assert [note for note in seen["notes"] if "not looked at" in note] == [
        note for note in seen["notes"] if note.startswith("how long brokers keep offsets")
    ]
    blind = diagnosed(site, "consumer-t0")
    denied = {one["where"] for one in blind["findings"] if one["kind"] == "not_allowed"}
    assert f"topic {site.bank.topic('events', 't0')}" in denied
    assert f"topic {site.bank.topic('scores', 't0')}" not in denied
    assert "topic_missing" not in {one["kind"] for one in blind["findings"]}, "it may be there, for all we may see"
    assert any("__consumer_offsets was not looked at" in note for note in blind["notes"])
    refused = f"group muse.{LANE}.live, its members and its offsets: this principal may not use the consumer group"
    assert any(refused in note for note in blind["notes"]), "told at once, not as an answer that did not come in time"


def coordinated(member: Consumer, topic: str) -> bool:
    try:
        member.committed([TopicPartition(topic, 0)], timeout=60)
    except KafkaException as error:  # who coordinates the group has just been chosen
        assert error.args[0].code() == KafkaError.NOT_COORDINATOR, error
        return False
    return True


def test_doctor_says_what_a_role_lacks(site: Site) -> None:
    may = diagnosed(site, "live", "--role", "live", "t0")
    scores = f"topic {site.bank.topic('scores', 't0')}"
    group = f"group muse.{LANE}.live"
    assert not {one["where"] for one in may["findings"] if one["kind"] == "not_allowed"} & {scores, group}
    lacks = diagnosed(site, "shadow", "--role", "live", "t0")
    denied = {(one["where"], one["what"]) for one in lacks["findings"] if one["kind"] == "not_allowed"}
    assert (group, "this principal lacks READ") in denied
    assert scores in {where for where, _what in denied}
    (cure, *_rest) = next(one["cure"] for one in lacks["findings"] if one["where"] == group)
    assert cure.startswith("kafka-acls.sh --bootstrap-server") and cure.endswith(
        f"--operation Read --group {group[6:]}"
    )


def test_a_group_that_may_not_be_looked_at_is_said(site: Site) -> None:
    look = binding("verifier", "group", "literal", f"muse.{LANE}.live", "DESCRIBE")
    site.kafka.withdraw(look)
    try:
        done = site.command("verifier", "verify", str(site.store), "--upto", "committed")
        assert done.returncode == 1, done.stdout + done.stderr
        said = f"offsets of group muse.{LANE}.live: this principal may not use the consumer group"
        assert said in done.stderr
    finally:
        site.kafka.grant(look)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        pytest.param("run", (), id="run-plain"),
        # each is a start of the program: the first shows the line; test_oauth.py has one with --debug
        pytest.param("run", DEBUG, id="run-debug", marks=pytest.mark.long),
        pytest.param("verify", (), id="verify-plain", marks=pytest.mark.long),
        pytest.param("verify", DEBUG, id="verify-debug", marks=pytest.mark.long),
    ],
)
def test_a_wrong_password_is_said_in_one_line_and_never_shown(site: Site, command: str, options: tuple[str]) -> None:
    """Exit code 3 and the broker's reason within seconds; no password in it, not with --debug either."""
    wrong = "hush-but-wrong"
    words = {"run": ("run", "--role", "live", "--lane", LANE, "--store"), "verify": ("verify",)}
    began = time.monotonic()
    done = site.program("live", *options, *words[command], str(site.store), password=wrong)
    took = time.monotonic() - began
    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    assert took < 10 * PATIENCE, f"{took:.1f} s"
    assert "Invalid username or password" in done.stderr
    assert wrong not in said
    if not options:
        assert (done.stdout, len(done.stderr.splitlines())) == ("", 1), said


@WORKERS
def test_no_password_stands_in_any_log(site: Site, workers: dict[str, Fleet]) -> None:
    """The workers log at DEBUG; nothing of anybody's password is in it."""
    logs = [fleet.log.read_text(encoding="utf-8") for fleet in workers.values()]
    assert all('"assigned"' in log for log in logs)
    assert not [name for name, password in site.kafka.passwords.items() for log in logs if password in log]


def test_the_release_is_heard_through_a_password(site: Site) -> None:
    """No permission is needed for it: whoever may connect learns which requests a broker knows."""
    heard = Heard(logging.getLogger("muse_stream.kafka"))
    settings: dict[str, Any] = site.kafka.connection("producer-t0") | {"debug": "feature", "logger": heard}
    settings.pop("log_level")
    admin = AdminClient(settings)
    admin.list_topics(timeout=60)

    def told() -> bool:
        admin.poll(0.1)
        return any("ApiKey DescribeLogDirs (35)" in line for line in heard.lines)

    until(told, 20, lambda: str(heard.lines[-20:]))


@WORKERS
def test_a_worker_that_may_not_read_its_outputs_scores_nothing_twice(site: Site, workers: dict[str, Fleet]) -> None:
    """Without an offset it has to read them: the tenant waits, and topic, group and cure are named."""
    lane, topic = "second", site.bank.topic("events", "t1")
    denied = binding("live", "topic", "literal", site.bank.topic("scores", "t1"), "READ", "DENY")
    store = site.folder / "second-store"
    document = site.bank.document("plain", (), **{name: {"lane": lane} for name in TENANTS})
    own = [one for one in bindings(document, "--role", "live") if lane in one.name]
    publish(document, store)
    site.send(30)
    site.kafka.grant(denied, *own)
    log, environment = site.folder / "second.log", site.kafka.environment("live")
    with Fleet(site.kafka.bootstrap, store, "live", lane, log, workers=1, environment=environment) as second:
        until(lambda: refused(second, topic), 40, lambda: str(second.lines("tenant_paused")))
        said = next(one for one in second.lines("tenant_paused") if "no permission to READ" in one["error"])
        assert (said["topic"], said["group"], "grant READ" in said["hint"]) == (topic, f"muse.{lane}.live", True)
        assert topic not in {one["topic"] for one in second.lines("starting_offsets")}
        assert second.stop() == 0
    site.kafka.withdraw(denied, *own)
    site.assert_exactly_once()


TAIL = ("--from-beginning", "--limit", "1")
MISSING = [
    (("verifier", "verify", "STORE", "--upto", "end"), ("topic", "muse.events.t1", "READ")),
    (("verifier", "verify", "STORE", "--upto", "end"), ("topic", "muse.scores.t1", "READ")),
    (("verifier", "verify", "STORE", "--upto", "end"), ("topic", "muse.dlq.t1", "READ")),
    (("verifier", "verify", "STORE", "--upto", "committed"), ("group", f"muse.{LANE}.live", "DESCRIBE")),
    (("analyst", "tail", "STORE", "t1", "--kind", "audit", *TAIL), ("topic", "muse.audit.t1", "READ")),
    (("consumer-t1", "tail", "STORE", "t1", *TAIL), ("topic", "muse.scores.t1", "READ")),
    (("reporter", "audit", "STORE", "t1", "--to", "FOLDER/x.parquet"), ("topic", "muse.scores.t1", "READ")),
    (("reporter", "audit", "STORE", "t1", "--to", "FOLDER/x.parquet"), ("topic", "muse.audit.t1", "READ")),
    (("producer-t1", "produce", "STORE", "t1", "EVENTS"), ("topic", "muse.events.t1", "WRITE")),
    (("mover", "offsets", "show", "STORE", "t1"), ("topic", "muse.events.t1", "READ")),
    (("operator", "topics", "STORE", "--dry-run"), ("topic", "muse.scores.t1", "DESCRIBE")),
    (("operator", "topics", "STORE", "--dry-run"), ("topic", "muse.scores.t1", "DESCRIBE_CONFIGS")),
    (("operator", "topics", "STORE", "--retention-hours", "99"), ("topic", "muse.", "ALTER_CONFIGS")),
]
NOT_SEEN = ("READ", "WRITE", "DESCRIBE")
"""Without these a topic cannot be seen: what is missing then is the right to DESCRIBE it, which they imply."""


@pytest.mark.parametrize(
    ("command", "lacks"),
    [
        # to be refused a group takes half a minute: test_a_group_that_may_not_be_looked_at_is_said is the short one
        pytest.param(c, one, id=f"{c[0]}-{' '.join(one)}", marks=pytest.mark.long if one[0] == "group" else ())
        for c, one in MISSING
    ],
)
def test_what_is_missing_is_named_and_what_to_grant(
    site: Site, command: tuple[str, ...], lacks: tuple[str, str, str]
) -> None:
    """A command that a person runs, with everything that its role needs but one right."""
    events = site.folder / "one.jsonl"
    events.write_text('{"id": "x", "at": 1780000000000, "tenant": "t1", "amount": 1.0, "risk": 0.5}\n')
    meant = {"STORE": str(site.store), "EVENTS": str(events), "FOLDER/x.parquet": str(site.folder / "x.parquet")}
    principal, *words = (meant.get(word, word) for word in command)
    resource, name, operation = lacks
    granted = binding(principal, resource, "literal", name, operation)
    denied = binding(principal, resource, "prefixed" if name == "muse." else "literal", name, operation, "DENY")
    if operation in NOT_SEEN:
        site.kafka.withdraw(granted)
    else:
        site.kafka.grant(denied)
    try:
        done = site.command(principal, *words)
    finally:
        if operation in NOT_SEEN:
            site.kafka.grant(granted)
        else:
            site.kafka.withdraw(denied)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert name in said, said
    assert "AUTHORIZATION_FAILED" in said, said
    assert f"grant it {operation}: `muse-stream acl CONFIG`" in said or "grant it READ to read" in said, said


class Changed(NamedTuple):
    """Settings whose password file is out of date."""

    settings: KafkaSettings
    file: Path
    topic: str


def ends(consumer: Consumer, places: Sequence[tuple[str, int]], timeout_s: float) -> dict[tuple[str, int], int]:
    return offsets_at(consumer, places, OFFSET_END, timeout_s)


@pytest.fixture
def changed(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Changed]:
    """A user whose password is another by now than the one in the file, which clients have read; a topic of its own."""
    user, file = "rotated", site.folder / "rotated.password"
    file.write_text("hush-first\n")
    environment = site.kafka.environment("live") | {
        "MUSE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "MUSE_KAFKA_SASL_USERNAME": user,
        "MUSE_KAFKA_SASL_PASSWORD_FILE": str(file),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    topic = f"rotated.{uuid.uuid4().hex}"  # nobody else's: what is written here is no record
    site.kafka.admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(60)
    grants = [binding(user, "topic", "literal", topic, operation) for operation in ("READ", "WRITE")]
    grants.append(binding(user, "group", "literal", "unused", "READ"))
    site.kafka.grant(*grants)
    # nobody has the first password any more: so it is for a client whose connection breaks after the change
    site.kafka.scram(user, "hush-second")
    yield Changed(KafkaSettings.from_environment(), file, topic)
    site.kafka.withdraw(*grants)
    site.kafka.admin.delete_topics([topic])[topic].result(60)


def test_a_password_that_changes_in_its_file_is_taken_up(changed: Changed) -> None:
    """By all clients that there are, of each kind, once a broker refuses one of them (SCRAM over TLS)."""
    heard: list[KafkaError] = []
    producer = client.producer(changed.settings, error_cb=heard.append)
    consumer = client.consumer(changed.settings, **{"group.id": "unused"})
    silent = client.consumer(changed.settings, **{"group.id": "unused"})  # nobody polls it: it hears nothing itself

    def refused() -> bool:
        producer.poll(0.05)
        return any(error.code() == KafkaError._AUTHENTICATION for error in heard)

    until(refused, 60, lambda: str(heard))
    changed.file.unlink()  # it is being replaced
    heard.clear()
    until(refused, 60)
    changed.file.write_text("hush-second\n")
    written: list[str] = []
    producer.produce(
        changed.topic, b"x", on_delivery=lambda error, _: written.append(error.name() if error else "written")
    )
    until(lambda: producer.poll(0.1) > 0 and bool(written), 60, lambda: str(heard[-3:]))
    assert written == ["written"]
    places = [TopicPartition(changed.topic, partition, 0) for partition in range(PARTITIONS)]
    assert len(silent.committed(places, timeout=60)) == PARTITIONS
    consumer.assign(places)
    until(lambda: (one := consumer.poll(0.1)) is not None and one.error() is None, 60)
    consumer.close()
    silent.close()


@pytest.mark.parametrize("ask", [committed_offsets, ends])
def test_a_client_that_only_looks_up_takes_up_a_password(changed: Changed, ask: Callable[..., object]) -> None:
    """It is never polled, and no other client is refused meanwhile: its connection was the only one that broke."""
    lookup = client.consumer(changed.settings, **{"group.id": "unused"})
    places = [(changed.topic, partition) for partition in range(PARTITIONS)]
    with pytest.raises((KafkaException, Retriable)):
        ask(lookup, places, 2)
    changed.file.write_text("hush-second\n")

    def answered() -> bool:
        with suppress(KafkaException, Retriable):
            ask(lookup, places, 2)
            return True
        return False

    until(answered, 60)
    lookup.close()


@WORKERS
def test_a_running_worker_takes_up_a_password_that_changes_in_its_file(site: Site, tmp_path: Path) -> None:
    """Its open connections are asked again, and refused, before the file has the new one: no event is lost by it."""
    user, file, lane = "scorer", tmp_path / "password", "rotated"
    bank, store = Bank(tmp_path / "bank", lane, 1), tmp_path / "store"
    document = bank.document("plain", ())
    publish(document, store)
    for made in site.kafka.admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in bank.topics()]).values():
        made.result(60)
    site.kafka.scram(user, "hush-one")
    site.kafka.grant(*bindings(document, "--role", "live", "--principal", user))
    file.write_text("hush-one\n")
    environment = site.kafka.environment("live") | {
        "MUSE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "MUSE_KAFKA_SASL_USERNAME": user,
        "MUSE_KAFKA_SASL_PASSWORD_FILE": str(file),
    }
    log, counts = tmp_path / "live.log", Counter[tuple[str, int]]()
    admin = site.kafka.connection("admin")

    def send() -> None:
        events = [ToSend(bank.topic("events", "t0"), partition, value) for _, partition, value in bank.events(30)]
        counts.update((one.topic, one.partition) for one in events)
        testing.produce(site.kafka.bootstrap, events, admin | {"enable.idempotence": True})

    scores = [bank.topic("scores", "t0")]
    secured: dict[str, Any] = {**admin, "group.id": lane}
    with (
        Fleet(site.kafka.bootstrap, store, "live", lane, log, workers=1, environment=environment) as live,
        Witness(site.kafka.bootstrap, scores, [], PARTITIONS, "score.avsc", **secured) as witness,
    ):
        send()
        witness.wait_for(30, 60)
        site.kafka.scram(user, "hush-two")
        until(lambda: "Authentication failed" in log.read_text(encoding="utf-8"), 60)
        send()
        file.write_text("hush-two\n")
        witness.wait_for(60, 60)
        assert not live.lines("worker_ended")
        assert live.stop() == 0
    assert broken_promises(witness.seen, dict(counts)) == []
    assert "hush-" not in log.read_text(encoding="utf-8")


@pytest.mark.long  # a JVM for each; tests/kafka/test_permissions.py has what is printed
def test_kafkas_own_tool_takes_what_is_printed(site: Site) -> None:
    """The commands of one role with all kinds of resources, for a principal that nobody else is."""
    settings = site.folder / "admin.properties"
    connection = site.kafka.connection("admin")
    login = f'username="admin" password="{connection["sasl.password"]}"'
    module = f"org.apache.kafka.common.security.plain.PlainLoginModule required {login};"
    lines = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": module}
    lines |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(site.kafka.ca)}
    settings.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    options = ("--role", "mover", "--principal", "CN=some one,O=bank")
    done = site.command("operator", "acl", str(site.document), "--prefixed", *options)
    printed = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [line[0] for line in printed] == ["kafka-acls.sh"] * 6
    sample = [printed[0], printed[-2], printed[-1]]  # a topic, the group, the transactional ids
    home = jars(PLACES, say=lambda _text: None)
    tool = [str(settings) if word == "admin.properties" else word for word in sample[0][1:]]
    subprocess.run(java(home, "org.apache.kafka.tools.AclCommand", *tool), check=True, capture_output=True, timeout=280)
    rest = {tuple(words[words.index("--add") + 1 : words.index("--resource-pattern-type")]) for words in sample[1:]}
    who = ("--allow-principal", "User:CN=some one,O=bank")
    assert rest == {
        (*who, "--operation", "Read", "--group", f"muse.{LANE}."),
        (*who, "--operation", "Write", "--transactional-id", f"muse-muse.{LANE}."),
    }
    added = binding("CN=some one,O=bank", "topic", "prefixed", "muse.events.", "READ")
    site.kafka.withdraw(added)  # fails where it is not there


def refused(fleet: Fleet, topic: str) -> bool:
    return any(one["topic"] == topic and "READ" in one["error"] for one in fleet.lines("tenant_paused"))
