"""Running `muse_stream.worker` on the real broker: records in, a worker in a thread, an independent reader.

`produce`, `Ledger` (who was answered, how often, in which order), `running` (a worker in a thread), `open_echo` (a
worker as `slot.open_worker` makes it). The reader shares no code with what it checks (`testing.CommittedReader`).
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from confluent_kafka import Message

from muse_stream import testing
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.kafka import StartAt, client
from muse_stream.kafka.group_consumer import GroupConsumer
from muse_stream.kafka.starting_offsets import StartingOffsets
from muse_stream.testing import CommittedReader, ToSend
from muse_stream.worker import failpoints
from muse_stream.worker.batch import BatchLimits, Scorer
from muse_stream.worker.loop import Worker
from muse_stream.worker.poison import Guard, InHand, Suspects
from muse_stream.worker.slot import SlotName, open_worker
from muse_stream.worker.tracer import Tracer
from tests.failure_report import on_failure
from tests.patience import PATIENCE
from tests.worker.doubles import CountingMeter, Echo, ListLog, await_true

Source = tuple[str, int, int]


def produce(
    bootstrap: str, topic: str, values: Iterable[bytes | None], *, partitions: int = 1, keyed: bool = True
) -> None:
    """Write records in order, record `i` into partition `i % partitions`; keys are `k<i>` or null."""
    records = (
        ToSend(topic, i % partitions, value, f"k{i}".encode() if keyed else None, {"n": str(i)})
        for i, value in enumerate(values)
    )
    testing.produce(bootstrap, records, {"linger.ms": 1})


@dataclass
class Ledger:
    """What a read_committed reader finds on some topics, as it comes."""

    bootstrap: str
    topics: dict[str, int]
    """Topic -> partitions."""
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = CommittedReader(self.bootstrap, self.topics, {"fetch.wait.max.ms": 50})

    def until(self, count: int, timeout_s: float = 30.0) -> "Ledger":
        """Read until so many records are there."""
        await_true(lambda: self.take(0.1) >= count, lambda: self._so_far(count), timeout_s)
        return self

    def _so_far(self, count: int) -> str:
        ends = Counter((message.topic(), message.partition()) for message in self.messages)
        return f"{count} records on {self.topics}; there are {len(self.messages)}: {dict(ends)}"

    def to_end(self) -> "Ledger":
        """Read all that is committed now."""
        self.messages += self._reader.read_to_end(timeout_s=20.0 * PATIENCE)
        return self

    def take(self, timeout_s: float) -> int:
        """Read what comes within the time; returns how many records there are now."""
        self.messages += self._reader.read(timeout_s)
        return len(self.messages)

    def close(self) -> None:
        self._reader.close()

    def answers(self) -> Counter[Source]:
        """How often each source record was answered, be it by a score or by a dead letter."""
        return Counter(source(message) for message in self.messages)

    def on(self, topic: str) -> list[Message]:
        return [message for message in self.messages if message.topic() == topic]

    def disorder(self) -> list[tuple[Source, Source]]:
        """Neighbours on an output partition whose sources, of one partition, stand in the wrong order."""
        last: dict[tuple[Any, ...], Source] = {}
        wrong = []
        for message in self.messages:
            mine = source(message)
            lane = (message.topic(), message.partition(), mine[0], mine[1])
            if lane in last and last[lane][2] >= mine[2]:
                wrong.append((last[lane], mine))
            last[lane] = mine
        return wrong


def open_group_consumer(
    bootstrap: str,
    group: str,
    settle: Callable[[bool], None],
    log: ListLog,
    *,
    kind: type[GroupConsumer] = GroupConsumer,
    overrides: Mapping[str, Any],
) -> GroupConsumer:
    """An intake of its own, without a worker: a dynamic member of a cooperative group, unless `overrides` say more."""
    settings = KafkaSettings(bootstrap=bootstrap)
    own = {"group.id": group, "partition.assignment.strategy": "cooperative-sticky"}
    pace = {"heartbeat.interval.ms": 300, "session.timeout.ms": 60_000}
    lookup = StartingOffsets(client.consumer(settings, **{"group.id": group}), log)
    return kind(client.consumer(settings, **(own | pace | dict(overrides))), lookup, settle, log)


def headers_of(message: Message) -> dict[str, bytes]:
    return {name: value for name, value in dict(message.headers() or []).items() if isinstance(value, bytes)}


def source(message: Message) -> Source:
    """Which event a score or dead letter answers."""
    headers = headers_of(message)
    if "muse.source.topic" in headers:
        found = [headers[f"muse.source.{part}"] for part in ("topic", "partition", "offset")]
    else:
        found = bytes(message.value() or b"").split(b"|")  # random padding follows
    return found[0].decode(), int(found[1]), int(found[2])


def expected(topic: str, count: int, partitions: int = 1) -> Counter[Source]:
    """Each of `count` records of a topic once; as `produce` spreads them."""
    return Counter((topic, i % partitions, i // partitions) for i in range(count))


@contextmanager
def ledger(bootstrap: str, **topics: int) -> Iterator[Ledger]:
    """A reader of topics, given with their numbers of partitions."""
    reader = Ledger(bootstrap, topics)
    try:
        yield reader
    finally:
        reader.close()


@dataclass
class Scorers:
    """A source of generations for a worker: what was put is taken at the next turn."""

    waiting: list[Scorer] = field(default_factory=list)

    def put(self, scorer: Scorer) -> None:
        self.waiting.append(scorer)

    def __call__(self) -> Scorer | None:
        return self.waiting.pop(0) if self.waiting else None


@dataclass
class Running:
    """A worker in a thread, with all that it said and counted."""

    worker: Worker
    scorers: Scorers
    log: ListLog
    meter: CountingMeter
    thread: threading.Thread | None = None
    failure: BaseException | None = None
    leave: bool = True

    def start(self) -> "Running":
        self.thread = threading.Thread(target=self._run, name=self.worker.name, daemon=True)
        self.thread.start()
        on_failure(f"what {self.worker.name} said", self.log.tail, lambda: not self.alive)
        return self

    @property
    def alive(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def _run(self) -> None:
        try:
            self.worker.run(leave=lambda: self.leave)
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            self.failure = error

    def stop(self, timeout_s: float = 15.0) -> None:
        self.worker.stop()
        self.join(timeout_s)
        assert self.failure is None, self.failure

    def join(self, timeout_s: float = 15.0) -> None:
        assert self.thread is not None
        self.thread.join(PATIENCE * timeout_s)
        assert not self.thread.is_alive(), f"the worker did not end; said: {self.log.events[-5:]}"

    def abandon(self) -> None:
        """Free what a worker that died by an exception still holds."""
        self.worker._group_consumer.close()
        self.worker._committer.close()
        self.worker._accounts.close()


def open_echo(
    bootstrap: str,
    lane: str,
    scorer: Scorer,
    *,
    number: int = 0,
    limits: BatchLimits | None = None,
    failpoint: Callable[[str], None] = failpoints.nothing,
    guard: Guard | None = None,
    client_id: str = "muse-stream",
    start_at: StartAt = "answers",
    namespace: str = "muse",
    tracer: Tracer | None = None,
) -> Running:
    """A worker of a lane, made as the application makes it."""
    if limits is not None:
        assert isinstance(scorer, Echo)
        scorer.limits = limits
    scorers, log, meter = Scorers([scorer]), ListLog(), CountingMeter()
    worker = open_worker(
        KafkaSettings(bootstrap=bootstrap, client_id=client_id),
        SlotName("live", lane, "test", number, namespace),
        scorers,
        meter=meter,
        log=log,
        failpoint=failpoint,
        guard=guard or Guard(InHand(get_context("spawn")), Suspects()),
        start_at=start_at,
        tracer=tracer,
    )
    return Running(worker, scorers, log, meter)


@contextmanager
def running(bootstrap: str, lane: str, scorer: Scorer, **options: Any) -> Iterator[Running]:
    """A worker at work; stopped at the end if the test has not done so."""
    ours = open_echo(bootstrap, lane, scorer, **options).start()
    try:
        yield ours
    finally:
        if ours.thread is not None and ours.thread.is_alive():
            ours.stop()
