"""The eight faults: how each is made, which alerts it must bring, and how it ends."""

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from muse_stream.avro.framing import confluent_prefix
from muse_stream.testing import LocalRegistry, local_kafka
from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.local_kafka import HEAP, LocalKafka
from tests.alert_drill.account import Account
from tests.alert_drill.machine import PLENTY, LyingClock, MemoryGroup, fill, lives, small_disk
from tests.alert_drill.stage import Kafka, Runner, Stage
from tests.integration.bank import SCHEMA
from tests.integration.secured import Secured, binding, bindings
from tests.patience import PATIENCE, until

HOUR_S = 3_600
DISK_MB = 200
FRAME = 10
"""Bytes before an event's fields, in the single-object frame."""
EVERYBODY: Mapping[str, int] = {"acme": 50, "globex": 50}


class Situation:
    """A fault. `roles` are the runs, each with its number of workers; `rates` events a second of each tenant."""

    title: ClassVar[str]
    alerts: ClassVar[tuple[str, ...]]
    roles: ClassVar[Mapping[str, int]] = {"live": 1}
    options: ClassVar[tuple[str, ...]] = ("--no-spare",)
    """Of `run`, for the role live."""
    rates: ClassVar[Mapping[str, int]] = EVERYBODY
    model: ClassVar[str] = "plain"
    flows: ClassVar[int] = 100
    """So many more answers say that events are answered."""
    note = ""
    """What else was measured."""

    @contextmanager
    def kafka(self, folder: Path) -> Iterator[Kafka]:
        """The cluster."""
        broker = _started(folder)
        try:
            yield Kafka(broker.bootstrap, broker)
        finally:
            broker.close()

    def configure(self, document: dict[str, Any]) -> None:
        """Change the configuration."""

    def before(self, stage: Stage) -> None:
        """Prepare what the fault needs, before anything is published."""

    def ready(self, stage: Stage) -> None:
        """Prepare what workers need, after it is."""

    def strike(self, stage: Stage) -> None:
        """Make the fault."""
        raise NotImplementedError

    def meanwhile(self, stage: Stage) -> None:
        """See to it that what must go on while the alert fires does."""

    def end(self, stage: Stage) -> None:
        """End the fault as the runbook says."""
        raise NotImplementedError

    def check(self, stage: Stage, account: Account) -> None:
        """See to what else must be true at the end."""


class BrokerDown(Situation):
    """kill -9; then it is started on its data."""

    title = "broker down"
    alerts: ClassVar[tuple[str, ...]] = ("MuseLagUnknown",)
    roles: ClassVar = {"live": 2, "shadow": 1}

    def strike(self, stage: Stage) -> None:
        stage.kafka.broker.kill()

    def end(self, stage: Stage) -> None:
        stage.kafka.broker.restart()


class DiskFull(Situation):
    """The file system of the broker's log has no byte left, which ends the broker; room is made, and it is started."""

    title = "disk full"
    alerts: ClassVar[tuple[str, ...]] = ("MuseLagUnknown",)
    roles: ClassVar = {"live": 2, "shadow": 1}

    @contextmanager
    def kafka(self, folder: Path) -> Iterator[Kafka]:
        with small_disk(DISK_MB) as disk:
            self._disk = disk
            with patch.multiple(local_kafka, MEMORY=disk, MUCH=0):
                broker = _started(folder)  # the store has its data elsewhere
            try:
                yield Kafka(broker.bootstrap, broker)
            finally:
                broker.close()

    def strike(self, stage: Stage) -> None:
        self._ballast = fill(self._disk)

    def meanwhile(self, stage: Stage) -> None:
        until(lambda: not stage.kafka.broker.running(), 60, lambda: "a broker bears a full disk")

    def end(self, stage: Stage) -> None:
        self._ballast.unlink()
        stage.kafka.broker.restart()


class PermissionRevoked(Situation):
    """Workers may not write one tenant's scores any more; then they may again. The other tenant goes on."""

    title = "permission revoked"
    alerts: ClassVar[tuple[str, ...]] = ("MuseTenantPaused",)

    @contextmanager
    def kafka(self, folder: Path) -> Iterator[Kafka]:
        folder.mkdir(parents=True, exist_ok=True)
        with Secured(folder, ["live"]) as secured:
            self._secured = secured
            ours = {name: value for name, value in secured.connection("admin").items() if name != "bootstrap.servers"}
            operator, workers = secured.environment("admin"), secured.environment("live")
            yield Kafka(secured.bootstrap, None, ours, operator, workers)

    def ready(self, stage: Stage) -> None:
        self._secured.grant(*bindings(stage.config, "--role", "live"))
        names = {one: stage.bank.topic("scores", one) for one in stage.bank.names()}
        self._acme, globex = (binding("live", "topic", "literal", names[one], "WRITE") for one in ("acme", "globex"))
        known = self._secured._known()
        if self._acme not in known:  # granted for all topics of a prefix
            self._secured.grant(self._acme, globex)
            self._secured.withdraw(binding("live", "topic", "prefixed", "muse.scores.", "WRITE"))

    def strike(self, stage: Stage) -> None:
        self._secured.withdraw(self._acme)

    def meanwhile(self, stage: Stage) -> None:
        stage.await_answers(self.flows)

    def end(self, stage: Stage) -> None:
        self._secured.grant(self._acme)


class RegistryDown(Situation):
    """kill -9 while events with ids that are known and, of one tenant, with one that is not arrive.

    This registry keeps nothing over its end: what it knew is registered again in the same order, and has the same ids.
    """

    title = "registry down"
    alerts: ClassVar[tuple[str, ...]] = ("MuseSchemaRegistryAway", "MuseTenantPaused")

    def configure(self, document: dict[str, Any]) -> None:
        document["events"]["payment"]["schema_ids"] = "registry"

    def before(self, stage: Stage) -> None:
        self._registry = LocalRegistry(lambda _line: None)
        self._registry.start()
        stage.registry = self._registry
        stage._stack.callback(self._registry.close)

    def ready(self, stage: Stage) -> None:
        self._ids = self._register(stage)

    def _register(self, stage: Stage) -> tuple[int, int]:
        """Register what producers write; returns the ids of the schema from the beginning, and of the new one."""
        client = SchemaRegistryClient({"url": self._registry.url, "timeout": 60 * PATIENCE})
        new = f'{SCHEMA.removesuffix("]}")}, {{"name": "shop", "type": "int"}}]}}'
        try:
            old, newer = (
                client.register_schema(f"{stage.bank.topic('events', tenant)}-value", Schema(text, "AVRO"))
                for tenant, text in (("globex", SCHEMA), ("acme", new))
            )
        finally:
            client.close()
        return old, newer

    def strike(self, stage: Stage) -> None:
        new = confluent_prefix(self._ids[1])
        self._registry.kill()
        stage.events.rewrite["acme"] = lambda value: new + value[FRAME:] + b"\x0e"

    def meanwhile(self, stage: Stage) -> None:
        stage.await_answers(self.flows)

    def end(self, stage: Stage) -> None:
        self._registry.restart()
        assert self._register(stage) == self._ids

    def check(self, stage: Stage, account: Account) -> None:
        assert account.dead == 0, f"{account.dead} dead letters"
        assert stage.runs["live"].lines("schema_registry_away")
        assert stage.runs["live"].lines("schema_registry_answers")


class RedisDown(Situation):
    """kill -9 of the store; scoring, auditing and counting go on, and what was counted is stored when it is back."""

    title = "Redis down"
    alerts: ClassVar[tuple[str, ...]] = ("MuseGenerationRefused", "MuseHeartbeatsSkipped")
    roles: ClassVar = {"live": 1, "shadow": 1, "calibrate": 1}

    def strike(self, stage: Stage) -> None:
        stage.redis.kill()

    def meanwhile(self, stage: Stage) -> None:
        stage.await_answers(self.flows)

    def end(self, stage: Stage) -> None:
        stage.redis.restart()


class ClockBehind(Situation):
    """The clock of the workers' machine is set back by an hour while they run, and put right again."""

    title = "a worker's clock 1 h behind"
    alerts: ClassVar[tuple[str, ...]] = ("MuseProducerClockAhead",)
    off_s = -HOUR_S

    def before(self, stage: Stage) -> None:
        self._clock = LyingClock(stage.folder)
        stage.extra = self._clock.environment

    def strike(self, stage: Stage) -> None:
        self._clock.set(self.off_s)

    def meanwhile(self, stage: Stage) -> None:
        stage.await_answers(self.flows)

    def end(self, stage: Stage) -> None:
        self._clock.set(0)


class ClockAhead(ClockBehind):
    """It is set an hour ahead."""

    title = "a worker's clock 1 h ahead"
    alerts: ClassVar[tuple[str, ...]] = ("MuseProducerClockBehind",)
    off_s = HOUR_S


class OutOfMemory(Situation):
    """The kernel kills workers for want of memory, twice; then they have enough."""

    title = "a worker out of memory"
    alerts: ClassVar[tuple[str, ...]] = ("MuseWorkerRestarting",)

    def before(self, stage: Stage) -> None:
        self._group = MemoryGroup()
        stage._stack.callback(self._group.close)
        stage.before = self._group.joining

    def strike(self, stage: Stage) -> None:
        run = stage.runs["live"]
        for times in (1, 2):
            until(partial(self._killed, run, times), 60, lambda: "nothing was killed")
            self._group.limit(PLENTY)
            stage.await_answers(20)

    def _killed(self, run: Runner, times: int) -> bool:
        """Whether so many have been; it is made so where the newest worker lives, and not twice for one."""
        (*_, newest) = run.lines("slot")
        if len(run.lines("worker_ended")) < times and lives(newest["pid"]):
            self._group.exhaust(newest["pid"])
        return len(run.lines("worker_ended")) >= times

    def end(self, stage: Stage) -> None:
        self._group.limit(PLENTY)

    def check(self, stage: Stage, account: Account) -> None:
        ended = stage.runs["live"].lines("worker_ended")
        assert {one["code"] for one in ended} == {-signal.SIGKILL}, ended


class TenantFlood(Situation):
    """One tenant sends 100 times its rate, far more than the workers answer; the other is answered meanwhile."""

    title = "tenant flood"
    alerts: ClassVar[tuple[str, ...]] = ("MuseTenantFlood",)
    rates: ClassVar = {"acme": 40, "globex": 40}
    model = "slow"
    times = 100

    def strike(self, stage: Stage) -> None:
        self._began = time.time()
        stage.events.rates["acme"] *= self.times

    def end(self, stage: Stage) -> None:
        """It passes: the runbook has nothing done."""
        stage.events.rates["acme"] //= self.times

    def check(self, stage: Stage, account: Account) -> None:
        waited = sorted(account.waited_s[stage.bank.topic("events", "globex")])
        flooded = sorted(account.waited_s[stage.bank.topic("events", "acme")])
        self.note = (
            f"globex waited {waited[len(waited) // 2]:.2f} s (median), {waited[int(len(waited) * 0.99)]:.2f} s (99 %), "
            f"{waited[-1]:.2f} s at most; acme {flooded[-1]:.0f} s at most"
        )


SITUATIONS: tuple[type[Situation], ...] = (
    BrokerDown,
    DiskFull,
    PermissionRevoked,
    RegistryDown,
    RedisDown,
    ClockBehind,
    ClockAhead,
    OutOfMemory,
    TenantFlood,
)


def _started(folder: Path) -> LocalKafka:
    """Return a broker that answers."""
    folder.mkdir(parents=True, exist_ok=True)
    broker = LocalKafka(PLACES, lambda _line: None, jvm=(*HEAP, f"-XX:ErrorFile={folder / 'broker-died.log'}"))
    try:
        broker.start()
    except BaseException:
        broker.close()
        raise
    return broker
