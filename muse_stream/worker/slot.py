"""One slot's Kafka clients, joined to a worker.

A slot's names are stable across restarts: the group instance (a static member) and the two transactional ids, which
share the prefix `muse-<group>`, so that one prefixed ACL covers them. A successor that bears the names ends what its
predecessor left open.
"""

import threading
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from muse_stream.config import KafkaSettings, Role, consumer_group
from muse_stream.kafka import (
    MEMBERSHIP,
    READER,
    Consumer,
    Deadline,
    Ends,
    FirstOffsets,
    Free,
    GroupConsumer,
    LagReader,
    StartAt,
    StartingOffsets,
    TransactionalProducer,
    client,
    open_producer,
    span_reader,
)
from muse_stream.telemetry import Log
from muse_stream.worker.backlog import Backlog
from muse_stream.worker.batch import Scorer
from muse_stream.worker.commit import Committed, Committer
from muse_stream.worker.cures import About, Cures
from muse_stream.worker.failpoints import Failpoint
from muse_stream.worker.id_pairs import IdPairs
from muse_stream.worker.isolate import BATCH_BYTES
from muse_stream.worker.last_answers import LastAnswers
from muse_stream.worker.loop import Worker
from muse_stream.worker.meter import Meter
from muse_stream.worker.pace import Pace
from muse_stream.worker.poison import Guard
from muse_stream.worker.recovery import Recovery
from muse_stream.worker.tracer import Tracer

MAX_POLL_MS = 60_000
MEMBER: dict[str, Any] = {
    **MEMBERSHIP,
    "max.poll.interval.ms": MAX_POLL_MS,
    # in rounds, and not with a request for each record that comes (docs/decisions/0067); less than what is fetched of a
    # partition, so that a backlog in one is answered at once
    "fetch.wait.max.ms": 10,
    "fetch.min.bytes": 32_768,
    # what was fetched of one partition goes before all that comes later, of whichever tenant: the default, 1 MB, is two
    # to four batches (docs/decisions/0064)
    "max.partition.fetch.bytes": 262_144,
}
"""Settings of a member of the group."""
OPEN_S = 10.0


class SlotName(Struct, frozen=True):
    """Who a worker is: namespace, lane and role make the consumer group, host name and number its place in it."""

    role: Role
    lane: str
    host: str
    number: int
    namespace: str = "muse"

    @property
    def group(self) -> str:
        """The consumer group: live and shadow workers of a lane have offsets of their own."""
        return consumer_group(self.namespace, self.lane, self.role)

    @property
    def instance(self) -> str:
        """The static member; also what a dead letter calls its worker."""
        return f"{self.host}-{self.number}"

    def transactional_id(self, half: int, instance: str | None = None) -> str:
        """The id of one of the two producers, or of those that only recovery uses (2, 3); of this slot or another."""
        return f"muse-{self.group}-{instance or self.instance}-{'abcd'[half]}"


def open_worker(
    settings: KafkaSettings,
    name: SlotName,
    next_scorer: Callable[[], Scorer | None],
    *,
    meter: Meter,
    log: Log,
    failpoint: Failpoint,
    guard: Guard,
    start_at: StartAt = "answers",
    config: str = "CONFIG",
    tracer: Tracer | None = None,
) -> Worker:
    """Build a slot's worker; both transactional ids are initialised before its first poll.

    `start_at`: where partitions start of which nothing is committed; `config`: how commands in the log name the store.
    """
    doubt, pace = threading.Event(), Pace(log)
    ends = Ends(settings, name.group)
    ends.connect()

    def producer(half: int, instance: str = name.instance, batch_bytes: int = BATCH_BYTES) -> TransactionalProducer:
        identity = name.transactional_id(half, instance)
        own = {"batch.size": batch_bytes} if batch_bytes < BATCH_BYTES else {}
        return open_producer(settings, identity, Deadline(OPEN_S), lambda _error: doubt.set(), pace.writing, own)

    def intake(settle: Callable[[bool], None], free: Free) -> GroupConsumer:
        names = {"group.id": name.group, "group.instance.id": name.instance}
        its = (lambda: worker.scorer), (lambda: worker.stopping)
        starting = starting_offsets(settings, name, start_at, recovery, free, log, *its)
        member = client.consumer(settings, **names, **MEMBER, throttle_cb=pace.reading)
        return GroupConsumer(member, starting, settle, log, name.instance)

    def committer(landed: Callable[[Committed], None], batch_bytes: int) -> Committer:
        return Committer(lambda half: ids.open(half, batch_bytes), failpoint, landed, recovery.acknowledged)

    def reader(own: dict[str, str]) -> Consumer:
        return client.consumer(settings, **{"group.id": name.group, **READER, **own})

    ids = IdPairs(name.instance, producer, log)
    recovery = Recovery(name.group, name.instance, ends, producer, doubt, meter, log)
    backlog = Backlog(LagReader(reader, log))
    says = About(name.group, Cures(config, name.role))
    own = recovery, meter, log, guard, backlog, pace, says, failpoint, tracer
    worker = Worker(name.instance, intake, committer, ids, next_scorer, *own)
    return worker


def starting_offsets(
    settings: KafkaSettings,
    name: SlotName,
    start_at: StartAt,
    recovery: Recovery,
    free: Free,
    log: Log,
    scorer: Callable[[], Scorer],
    stopping: Callable[[], bool],
) -> StartingOffsets:
    """Return what looks up where a slot's partitions start."""

    def open_reader(group: str, stable: bool) -> Consumer:
        return span_reader(settings, group, stable)

    answers = LastAnswers(lambda stable: open_reader(name.group, stable), scorer, recovery.attempts.tag)
    first = FirstOffsets(open_reader, name.group, start_at, answers, log, lambda: scorer().topology.groups)
    lookup = client.consumer(settings, **{"group.id": name.group}, **client.CONNECTED)
    return StartingOffsets(lookup, log, free, recovery.heard, first, stopping, name.group)
