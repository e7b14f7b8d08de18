"""Where a situation happens: brokers, two tenants (acme and globex) on default topics, workers started by the command
line, and the account of an independent reader.

Everything is done as an operator does it, with `muse-stream` in a shell; the account shares nothing with the workers.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from ruamel.yaml import YAML

from muse_stream.testing import CommittedReader
from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.kafka_jars import jars, java
from muse_stream.testing.local_cluster import LocalCluster
from tests.integration.bank import PARTITIONS, Bank
from tests.integration.witness import Decoding
from tests.operations.page import commands, missing
from tests.patience import PATIENCE, until

NAMESPACE, LANE = "muse", "main"
TOOLS = {
    "kafka-transactions.sh": "org.apache.kafka.tools.TransactionsCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}
COMMAND_S = 60.0 * PATIENCE


class Tenants(Bank):
    """The bank of docs/operations.md: tenants acme and globex on lane main and default topics."""

    namespace = NAMESPACE
    shadow: tuple[str, ...] = ()
    """Predictors that are run as shadows."""

    def names(self) -> list[str]:
        return ["acme", "globex"]

    def topic(self, kind: str, tenant: str) -> str:
        return f"{self.namespace}.{kind}.{tenant}"

    def write(self, path: Path, change: Callable[[dict[str, Any]], None] = lambda _document: None) -> Path:
        """Write the configuration, changed by `change`."""
        yaml = YAML(typ="safe")
        document = yaml.load(self.document(shadow=self.shadow).read_text(encoding="utf-8"))
        del document["topics"]
        for tenant in document["tenants"].values():
            tenant["lane"] = LANE
        change(document)
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(document, file)
        return path


@dataclass
class Account:
    """What an independent reader found: every event that was sent against every answer that is committed."""

    sent: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    disorder: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    dead: int = 0
    """Dead letters; not counted as answers."""

    def __str__(self) -> str:
        return (
            f"{self.sent} events: {len(self.missing)} missing, {len(self.doubled)} doubled, "
            f"{len(self.disorder)} out of order"
        )

    @property
    def kept(self) -> bool:
        """Whether nothing is missing, doubled, out of order or an answer to nothing."""
        return not (self.missing or self.doubled or self.disorder or self.foreign)


class Run:
    """A `muse-stream run`, and what it logs."""

    def __init__(self, command: Sequence[str], scene: "Scene", log: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command, cwd=scene.folder, env=scene.environment(), stdout=out, stderr=out, start_new_session=True
            )

    def all_lines(self) -> list[dict[str, Any]]:
        """Return the log's lines."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines with this event."""
        return [line for line in self.all_lines() if line.get("event") == event]

    def await_said(self, event: str, timeout_s: float = 60.0, **values: Any) -> dict[str, Any]:
        """Return the first line with this event and these values, when it comes."""
        found: list[dict[str, Any]] = []

        def said() -> bool:
            found[:] = [line for line in self.lines(event) if values.items() <= line.items()]
            return bool(found)

        until(said, timeout_s, lambda: f"{event} {values} in\n{self.log.read_text(encoding='utf-8')[-3000:]}")
        return found[0]

    def stop(self) -> int:
        """Drain; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15 * PATIENCE)

    def kill(self) -> None:
        """End the whole process tree, as a power cut would."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            child.kill()
        self.process.kill()
        self.process.wait(10)


class Scene:
    """One situation's brokers, folder and tenants. Commands are run in `folder`: `muse.yaml` and `store` lie in it."""

    def __init__(self, brokers: LocalCluster, folder: Path) -> None:
        self.brokers, self.folder = brokers, folder
        self.replication = len(brokers.nodes)
        self.bank = Tenants(folder, "e", tenants=2)
        self.config = self.configure()
        _tools(folder / "bin")
        self.lost: set[str] = set()
        """Ids of events that the page says are lost."""
        self.again: set[str] = set()
        """Ids of events that are answered twice on purpose."""
        self.findings: dict[str, dict[str, int]] = {}
        """Tenant -> what `verify` finds, as the page says: kind -> count."""
        self.printed: list[str] = []
        """What commands have printed."""
        self.bin = Path(sys.executable).parent
        """Where `muse-stream` is: another release's can be used."""
        self.consent = "--yes"
        """Has `publish` ask nothing; releases before it asked have no such option."""
        self._bootstrap = brokers.bootstrap
        self._tenants: dict[str, str] = {}
        self._sending = threading.Lock()
        """Held where what was sent is changed, or read as a whole: a thread may send meanwhile."""
        self._runs: list[Run] = []

    @property
    def bootstrap(self) -> str:
        return self._bootstrap

    def move(self, bootstrap: str) -> None:
        """Use another cluster from now on."""
        self._bootstrap = bootstrap

    def environment(self) -> dict[str, str]:
        """An operator's: the commands, and where Kafka and the store are."""
        path = f"{self.folder / 'bin'}:{self.bin}:{os.environ['PATH']}"
        return {
            "PATH": path,
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "MUSE_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
        }

    def configure(self, change: Callable[[dict[str, Any]], None] = lambda _document: None) -> Path:
        """Write muse.yaml."""
        return self.bank.write(self.folder / "muse.yaml", change)

    def attempt(self, script: str, bootstrap: str = "") -> subprocess.CompletedProcess[str]:
        """Run commands in bash until one fails."""
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=self.folder,
            env=self.environment() | ({"MUSE_KAFKA_BOOTSTRAP_SERVERS": bootstrap} if bootstrap else {}),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        self.printed += [done.stdout, done.stderr]
        return done

    def shell(self, script: str, *, code: int = 0) -> str:
        """Run commands in bash until one fails; returns their stdout; AssertionError for another exit code."""
        done = self.attempt(script)
        assert done.returncode == code, f"{script}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def publish(self) -> None:
        """Publish muse.yaml."""
        self.shell(f"muse-stream publish muse.yaml store {self.consent}")

    def prepare(self) -> None:
        """Publish muse.yaml and make its topics."""
        self.publish()
        self.shell(f"muse-stream topics store --partitions {PARTITIONS} --replication {self.replication}")

    def run(self, role: str = "live", lane: str = LANE, *options: str, name: str = "ops", before: str = "") -> Run:
        """Start a `muse-stream run` and return when it serves; `before` is a variable for it alone, NAME=VALUE."""
        command = ["env", before] if before else []
        command += ["muse-stream", "run", "--role", role, "--store", "store", "--lane", lane, "--name", name, *options]
        started = Run(command, self, self.folder / f"{role}-{lane}-{len(self._runs)}.log")
        self._runs.append(started)
        started.await_said("assigned")
        return started

    def commands(self, title: str, which: str = "") -> None:
        """Run the commands of a section of the page, line by line, as they stand; 1 is the answer of one that found."""
        for line in (line for script in commands(title) for line in script.splitlines() if which in line):
            done = self.attempt(line)
            assert done.returncode in (0, 1), f"{line}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            assert "Error" not in done.stderr, f"{line}: {done.stderr}"

    def unsaid(self, title: str) -> list[str]:
        """Return what the page's section shows and nobody has logged or printed here."""
        logged = [line for run in self._runs for line in run.all_lines()]
        return missing(title, logged, "\n".join(self.printed))

    def verdict(self, tenant: str, options: str = "") -> dict[str, int]:
        """Return what `verify` finds wrong with a tenant: kind -> count."""
        (found,) = json.loads(self.shell(f"muse-stream verify store {tenant} {options} --json || test $? = 1"))
        return {one["kind"]: one["count"] for one in found["findings"]}

    def events(self, count: int, tenants: Sequence[str] | None = None) -> list[tuple[str, int, bytes]]:
        """Make events, spread over the tenants and their partitions; only those of `tenants` count as sent."""
        with self._sending:
            before, every = list(self.bank.sent), self.bank.events(count)
            kept = [tenants is None or one[0] in tenants for one in every]
            self._tenants |= zip(self.bank.sent[len(before) :], (one[0] for one in every), strict=True)
            self.bank.sent[:] = before + list(compress(self.bank.sent[len(before) :], kept))
            return list(compress(every, kept))

    def count(self, identity: str, tenant: str) -> None:
        """Count an event as sent that a command of the page sends."""
        self.bank.sent.append(identity)
        self._tenants[identity] = tenant

    def of(self, tenant: str) -> set[str]:
        """Return the ids of a tenant's events that were sent."""
        return {one for one in self.bank.sent if self._tenants[one] == tenant}

    def feed(self, count: int, tenants: Sequence[str] | None = None) -> None:
        """Send events, spread over the tenants and their partitions; only those of `tenants`."""
        self.bank.produce(self.bootstrap, self.events(count, tenants))

    def await_answers(self, timeout_s: float = 60.0) -> None:
        """Return when every event that was sent has an answer."""
        until(lambda: not self.account().missing, timeout_s, lambda: str(self.account()))

    def account(self, *bootstraps: str, tenant: str = "") -> Account:
        """Read all committed answers of the tenants (or one), on these clusters (this scene's by default)."""
        with self._sending:
            mine = [one for one in self.bank.sent if tenant in ("", self._tenants[one])]
        account = Account(sent=len(mine))
        counts, last = Counter[str](), dict[Any, int]()
        read = [(place, one) for place in bootstraps or (self.bootstrap,) for one in self._answers(place, tenant)]
        with self._sending:  # after the answers were read: all that they answer is there
            numbers = {identity: number for number, identity in enumerate(self.bank.sent)}
        for bootstrap, one in read:
            if "event_id" not in one.body:
                account.dead += 1
                continue
            identity = one.body["event_id"]
            counts[identity] += 1
            place = (bootstrap, one.topic, one.partition, *one.source[:2])
            number = numbers.get(identity, -1)
            if number < 0:
                account.foreign.append(identity)
            elif number < last.get(place, -1) and identity not in self.again:
                account.disorder.append(identity)
            last[place] = max(number, last.get(place, -1))
        account.missing = [one for one in mine if not counts[one] and one not in self.lost]
        account.foreign += [one for one in self.lost if counts[one]]
        account.doubled = [one for one, count in counts.items() if count > (2 if one in self.again else 1)]
        return account

    def last_generations(self) -> dict[tuple[str, int], int]:
        """Return which generation the last answer to each event partition was made by."""
        answers = [one for one in self._answers(self.bootstrap, "") if "event_id" in one.body]
        return {one.source[:2]: one.body["generation"] for one in answers}

    def audited(self) -> Counter[str]:
        """Count the audit records of each event."""
        return Counter(one.body["event_id"] for one in self._answers(self.bootstrap, "", ("audit",), "audit.avsc"))

    def await_no_members(self, bootstrap: str, group: str) -> None:
        """Return when a group has no members: static ones stay for the session of 9 s."""
        admin = AdminClient({"bootstrap.servers": bootstrap})
        until(lambda: not admin.describe_consumer_groups([group])[group].result(20).members, 30, lambda: group)

    def forget_group(self, group: str) -> None:
        """Have Kafka forget a group's offsets, as it does after offsets.retention.minutes without members."""
        self.await_no_members(self.bootstrap, group)
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.delete_consumer_groups([group])[group].result(30)

    def await_topic(self, name: str, *, there: bool) -> None:
        """Return when a topic is there, or gone, on every broker."""
        until(lambda: (name in self._topics(self.bootstrap, ("events",))) == there, 30, lambda: f"{name}: {there}")

    def mirror(self, source: str, topics: Sequence[str]) -> int:
        """Copy topics from another cluster as a mirror does: other offsets, same partitions; returns the count."""
        with CommittedReader(source, dict.fromkeys(topics, PARTITIONS), {"log_level": 0}) as reader:
            records = reader.read_to_end(timeout_s=30 * PATIENCE)
        producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True})
        for one in records:
            stamp = one.timestamp()[1]
            producer.produce(one.topic() or "", one.value(), one.key(), one.partition() or 0, timestamp=stamp)
        assert producer.flush(30 * PATIENCE) == 0
        return len(records)

    def _answers(
        self, bootstrap: str, tenant: str, kinds: Sequence[str] = ("scores", "dlq"), schema: str = "score.avsc"
    ) -> Iterator[Any]:
        topics = self._topics(bootstrap, kinds)
        topics = {name: count for name, count in topics.items() if name.endswith(tenant)}
        decode = Decoding([topic for topic in topics if ".dlq." in topic], schema)
        with CommittedReader(
            bootstrap, topics, {"log_level": 0, "auto.offset.reset": "earliest"}, tolerant=True
        ) as reader:
            ends = reader.ends(30.0 * PATIENCE)
            yield from map(decode, reader.read_to_end(ends, timeout_s=30 * PATIENCE))

    def _topics(self, bootstrap: str, kinds: Sequence[str]) -> dict[str, int]:
        client = Consumer({"bootstrap.servers": bootstrap, "group.id": "topics"})
        try:
            known = client.list_topics(timeout=30).topics
            return {name: len(topic.partitions) for name, topic in known.items() if f".{name}".split(".")[-2] in kinds}
        finally:
            client.close()

    def close(self) -> None:
        """End what was started."""
        for run in self._runs:
            if run.process.poll() is None:
                run.kill()


def _tools(folder: Path) -> None:
    """Kafka's own tools, under the names that they have in its distribution."""
    folder.mkdir()
    for name, main in TOOLS.items():
        tool = folder / name
        tool.write_text(f'#!/bin/sh\nexec {shlex.join(java(jars(PLACES), main))} "$@"\n', encoding="utf-8")
        tool.chmod(0o755)


@contextmanager
def scene(brokers: int, folder: Path, **properties: str) -> Iterator[Scene]:
    """Brokers of their own (everything replicated on three), and what runs on them, until the end."""
    cluster = LocalCluster(PLACES, lambda _line: None, nodes=brokers, properties=properties)
    try:
        cluster.start()
        made = Scene(cluster, folder)
        try:
            yield made
        finally:
            made.close()
    finally:
        cluster.close()
