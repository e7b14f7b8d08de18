"""Where a fault is made: a broker, a Redis that is the store, workers as an operator runs them, events under way, and a
Prometheus server that looks at the workers' pages.
"""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muse_stream.control import Store, open_store
from muse_stream.testing import LocalRedis, LocalRegistry, local_kafka
from tests.alert_drill.account import Account, Reader, account, await_answers
from tests.alert_drill.load import Load
from tests.alert_drill.prometheus import Prometheus, commands, dying_with_us, section
from tests.calibrate.scores import stored
from tests.integration.bank import PARTITIONS
from tests.integration.secured import in_process
from tests.operations.scene import COMMAND_S, LANE, Tenants
from tests.patience import PATIENCE, until

MUSE = str(Path(sys.executable).with_name("muse-stream"))
SLOTS = 4
"""Ports beside each other that a run may need."""


class Payments(Tenants):
    """Tenants acme and globex; `model` is the one that answers."""

    model = "plain"

    def document(self, live: str = "", shadow: Sequence[str] = (), **own: Mapping[str, Any]) -> Path:
        return super().document(live or self.model, shadow, **own)


@dataclass
class Kafka:
    """A cluster, and how everybody reaches it."""

    bootstrap: str
    broker: Any = None
    """The broker itself, to be broken; None where it is somebody else's as well."""
    connection: dict[str, Any] = field(default_factory=dict)
    """librdkafka's settings of who sends and who counts."""
    operator: dict[str, str] = field(default_factory=dict)
    """Variables of an operator's commands."""
    workers: dict[str, str] = field(default_factory=dict)
    """Variables of workers."""

    def __post_init__(self) -> None:
        self.connection = {"bootstrap.servers": self.bootstrap, **self.connection}
        named = {"MUSE_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap}
        self.operator, self.workers = named | self.operator, named | self.workers


class Runner:
    """A `muse-stream run`, its log and its pages."""

    def __init__(self, role: str, command: Sequence[str], environment: Mapping[str, str], log: Path, page: int) -> None:
        self.role, self.log, self.page = role, log, page
        with log.open("ab") as out:
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines with this event."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [line for line in found if line.get("event") == event]

    def await_said(self, event: str) -> None:
        """Return when its log has a line with this event. AssertionError where it has ended."""
        until(
            lambda: self.lines(event) or self.process.poll() is not None,
            60,
            lambda: f"{event} in\n{self.log.read_text()[-3000:]}",
        )
        assert self.process.poll() is None, f"{self.role} has ended:\n{self.log.read_text()[-3000:]}"

    def stop(self) -> None:
        """Drain. AssertionError where it does not end well."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30 * PATIENCE)
        assert code == 0, f"{self.role} ended with {code}:\n{self.log.read_text()[-3000:]}"

    def kill(self) -> None:
        """End it, and its workers with it."""
        self.process.kill()
        self.process.wait()


class Stage:
    """One fault's. `registry`: events are in Confluent's frame, their schemas in a Schema Registry of this stage."""

    def __init__(self, folder: Path, kafka: Kafka, *, namespace: str = "muse", model: str = "plain") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.kafka = folder, kafka
        self.bank = Payments(folder / "bank", namespace, tenants=2)
        self.bank.namespace, self.bank.model = namespace, model
        self.runs: dict[str, Runner] = {}
        self.registry: LocalRegistry | None = None
        self.extra: dict[str, str] = {}
        """Further variables of workers."""
        self.before: list[str] = []
        """Words before a run's command."""
        self.loaded = False
        """Whether events are under way."""
        self.seen: set[str] = set()
        """Alerts that have fired."""
        self._stack = ExitStack()
        self._drains: list[Callable[[], None]] = []

    def __enter__(self) -> "Stage":
        self.redis = self._stack.enter_context(LocalRedis())
        return self

    def __exit__(self, *_: object) -> None:
        for run in self.runs.values():
            run.kill()
        self._stack.close()

    def prepare(self, change: Callable[[dict[str, Any]], None], shadow: bool) -> None:
        """Publish the configuration, and make its topics."""
        self.bank.shadow = ("retrained",) if shadow else ()

        def changed(document: dict[str, Any]) -> None:
            document["namespace"] = self.bank.namespace
            change(document)

        self.config = self.bank.write(self.folder / "bank" / "muse.yaml", changed)
        self.command("publish", str(self.config), self.redis.url, "--yes")
        self.command("topics", self.redis.url, "--partitions", str(PARTITIONS), "--replication", "1")

    def command(self, *words: str, codes: Sequence[int] = (0,)) -> str:
        """Run `muse-stream` as the operator; returns what it prints. AssertionError for another exit code."""
        environment = self._environment(self.kafka.operator, "operator")
        if self.loaded:  # variables must not be changed where other threads, of C libraries, read them
            environment = {**os.environ, **environment}
            done = subprocess.run(
                [MUSE, *words], env=environment, capture_output=True, text=True, timeout=COMMAND_S, check=False
            )
        else:
            done = in_process(environment, *words)
        told = f"muse-stream {' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.returncode in codes, told
        assert "Traceback" not in done.stderr, told
        return done.stdout

    def run(self, role: str, workers: int, *options: str) -> Runner:
        """Start a run; `observe` comes when all are there."""
        base, page = _neighbours(SLOTS), local_kafka.free_ports(1)[0]
        pages = ["--health-port", str(base), "--health-host", "127.0.0.1", "--metrics-port", str(page)]
        command = [*dying_with_us(), *self.before, MUSE, "run", "--role", role, "--store", self.redis.url]
        command += ["--lane", LANE, "--name", "drill", "--workers", str(workers), *pages, *options]
        environment = self._environment({**os.environ, **self.kafka.workers, **self.extra}, role)
        self.runs[role] = Runner(role, command, environment, self.folder / f"{role}.log", page)
        return self.runs[role]

    def observe(self) -> None:
        """Start Prometheus."""
        targets = [run.page for run in self.runs.values()]
        self.prometheus = self._stack.enter_context(Prometheus(self.folder, targets))

    def load(self, rates: Mapping[str, int]) -> Load:
        """Send events from now on, so many a second for each tenant."""
        self.events = Load(self.bank, self.kafka.connection, rates)
        self._stack.callback(self.events.abandon)
        self.loaded = True
        self.events.start()
        return self.events

    def await_answers(self, count: int, role: str = "live") -> None:
        """Return when Prometheus has seen that so many more events were answered."""
        of_role = f'* on (instance, slot) group_left () muse_worker_info{{role="{role}"}}'
        query = f"sum(muse_events_committed_total {of_role})"
        first: list[float] = []

        def answered() -> bool:
            now = self.prometheus.value(query)
            if not math.isnan(now):
                first.append(now)
            return bool(first) and now - min(first) >= count

        until(answered, 90, lambda: f"{count} more answers of {role}: {self.tails()}")

    def await_firing(self, alerts: Iterable[str]) -> float:
        """Return how long it took until all these alerts fired, in seconds."""
        began, wanted = time.monotonic(), set(alerts)

        def firing() -> bool:
            now = self.prometheus.firing()
            self.seen |= now
            return wanted <= self.seen

        until(firing, 60, lambda: f"{wanted - self.seen} did not fire; {self.seen} did: {self.tails()}")
        return time.monotonic() - began

    def await_quiet(self, alerts: Iterable[str]) -> None:
        """Return when none of these alerts fires, or is about to."""
        unwanted = set(alerts)

        def quiet() -> bool:
            self.seen |= self.prometheus.firing()
            return not unwanted & self.prometheus.pending_or_firing()

        until(quiet, 60, lambda: f"{unwanted & self.prometheus.pending_or_firing()} go on: {self.tails()}")

    def consult(self, alert: str) -> tuple[str, list[str]]:
        """Open the runbook that an alert that fires names, and run its commands; returns its address and the commands.

        They look, and change nothing: 1 is the answer of one that has found something, 3 that Kafka does not answer.
        """
        (url,) = {one["annotations"]["runbook_url"] for one in self._fired(alert)}
        ran = commands(section(url))
        for line in ran:
            words = [self.redis.url if word == "store" else word for word in line.split()]
            assert words[0] == "muse-stream", line
            self.command(*words[1:], codes=(0, 1, 3))
        return url, ran

    def finish(self, roles: Sequence[str]) -> Account:
        """Let everything be answered, end the workers, and count. An event has one answer, and one audit record."""
        self.events.stop()
        self.loaded = False
        readers = [self._reader(("scores",), ("dlq",), "score.avsc")]
        if "shadow" in roles:
            readers.append(self._reader(("audit",), (), "audit.avsc"))
        await_answers(readers, sum(self.events.sent.values()))
        if "calibrate" in roles:  # it counts each score and each audit record once, whatever happened to the store
            answers = sum("muse.reason" not in one.body for reader in readers for one in reader.seen)
            store = open_store(self.redis.url)
            until(lambda: self._counted(store) >= answers, 60, lambda: f"{self._counted(store)} of {answers} counted")
            assert self._counted(store) == answers, f"{self._counted(store)} counted of {answers}"
        for run in self.runs.values():
            run.stop()
        found = []
        for reader in readers:
            reader.close()
            found.append(account(reader.seen, self.events.sent, reader.written, self.events.stamps))
        for more in found[1:]:
            found[0].lost += more.lost
            found[0].doubled += more.doubled
            found[0].disorder += more.disorder
            found[0].foreign += more.foreign
        for tenant in self.bank.names():
            self.command(
                "verify", self.redis.url, tenant
            )  # which counts by itself; it ends with 1 where it finds something
        return found[0]

    @staticmethod
    def _counted(store: Store) -> int:
        return sum(one.events for one in stored(store))

    def tails(self) -> str:
        """Return the ends of the logs."""
        return "\n".join(f"{run.role}: {run.log.read_text(errors='replace')[-1500:]}" for run in self.runs.values())

    def _fired(self, alert: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []

        def there() -> bool:  # it may end for a moment, where workers are replaced
            found[:] = [one for one in self.prometheus.alerts() if one["labels"]["alertname"] == alert]
            return bool(found)

        until(there, 60, lambda: f"{alert} has ended by itself")
        return found

    def _reader(self, kinds: Sequence[str], dead: Sequence[str], schema: str) -> Reader:
        return Reader(self.kafka.connection, self.bank.topics(kinds), self.bank.topics(dead), schema, PARTITIONS)

    def _environment(self, whose: Mapping[str, str], name: str) -> dict[str, str]:
        named = {"MUSE_REGISTRY_URL": self.registry.url} if self.registry else {}
        return {**whose, **named, "MUSE_CACHE_DIR": str(self.folder / f"cache-{name}")}


def _neighbours(count: int) -> int:
    """Return the first of some free ports beside each other."""
    while True:
        (first,) = local_kafka.free_ports(1)
        if all(_free(port) for port in range(first, first + count)):
            return first


def _free(port: int) -> bool:
    with socket.socket() as probing:
        try:
            probing.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
