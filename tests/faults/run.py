"""One run: live and shadow workers under load, faults on the brokers, and an independent reader's account.

A `Scenario` gives a `Result`: events, and how many answers are missing, doubled, out of order; partitions whose last
stable offset stands still; markers that the brokers' logs say they dropped. The account is a read_committed reader's,
from the first offset, after the faults are over and everything that could be answered is; it shares nothing with the
workers. What the same kind of reader saw while it happened counts too.
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from muse_stream import testing
from muse_stream.testing import CommittedReader, ToSend
from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.local_cluster import LocalCluster
from muse_stream.worker.slot import SlotName
from tests.faults.nemesis import FAULTS, Victims
from tests.integration.bank import Bank
from tests.integration.fleet import Fleet, publish
from tests.integration.witness import Decoding, Seen, Witness

DROPPED = "likely deleted already"
SAID = ("aborted", "worker_ended", "transaction_hanging", "transaction_ended", "offsets_ended", "slot_adopted")
PATIENCE_S = 90.0
"""How long nothing new may come, after the faults, before what is missing counts as missing."""


@dataclass(frozen=True)
class Scenario:
    """A configuration and its faults."""

    release: str
    nodes: int
    replication: int
    faults: tuple[str, ...]
    seed: int = 1
    seconds: float = 60.0
    """How long faults go on; at least one of each is done."""
    rate: int = 1_200
    tenants: int = 3
    partitions: int = 4
    workers: int = 2
    calm_s: tuple[float, float] = (4.0, 10.0)

    @property
    def name(self) -> str:
        return f"{self.release}, {self.nodes} broker{'s' * (self.nodes > 1)}, replication {self.replication}"


@dataclass
class Result:
    """What was found."""

    scenario: Scenario
    events: int = 0
    missing: int = 0
    unread: int = 0
    """Events that no live worker has come to when the patience is over: their offsets are not committed."""
    doubled: int = 0
    disorder: int = 0
    foreign: int = 0
    stuck: int = 0
    dropped: int = 0
    """Lines in the brokers' logs about markers not written."""
    faults: list[str] = field(default_factory=list)
    recovery_s: float = 0.0
    """From the last fault's end until everything was answered (or given up)."""
    examples: list[str] = field(default_factory=list)
    said: dict[str, int] = field(default_factory=dict)
    """How often the workers said what."""

    @property
    def ok(self) -> bool:
        return not (self.missing or self.doubled or self.disorder or self.foreign or self.stuck)


def run(scenario: Scenario, folder: Path, say: Any = print) -> Result:
    """Do it; `folder` keeps the logs."""
    result = Result(scenario)
    with cluster(scenario) as brokers:
        _run(scenario, brokers, folder, result, say)
        result.dropped = brokers.said(DROPPED)
    return result


@contextmanager
def cluster(scenario: Scenario) -> Iterator[LocalCluster]:
    """The brokers of a scenario: internal topics have its replication too."""
    count, in_sync = str(scenario.replication), str(max(1, scenario.replication - 1))
    over = {
        "offsets.topic.replication.factor": count,
        "transaction.state.log.replication.factor": count,
        "transaction.state.log.min.isr": in_sync,
        "min.insync.replicas": in_sync,
    }
    brokers = LocalCluster(PLACES, nodes=scenario.nodes, release=scenario.release, properties=over)
    try:
        brokers.start()
        yield brokers
    finally:
        brokers.close()


def _run(scenario: Scenario, brokers: LocalCluster, folder: Path, result: Result, say: Any) -> None:
    bank = Bank(folder / "bank", "bank", tenants=scenario.tenants)
    make_topics(brokers.bootstrap, bank.topics(), scenario.partitions, scenario.replication)
    publish(bank.document(), folder / "store")
    dice = random.Random(scenario.seed)
    names = [SlotName("live", bank.name, "test", slot) for slot in range(scenario.workers)]
    ids = [name.transactional_id(half) for name in names for half in (0, 1)]
    victims = Victims(brokers, bank.topics(["scores"]), ids, names[0].group, dice)
    options: dict[str, Any] = {"longest_backoff_s": 1.0}
    with ExitStack() as stack:
        live, shadow = (
            stack.enter_context(
                Fleet(
                    brokers.bootstrap, folder / "store", role, bank.name, folder / f"{role}.log", workers=w, **options
                )
            )
            for role, w in (("live", scenario.workers), ("shadow", 1))
        )
        witness = stack.enter_context(tolerant(brokers, bank, scenario.partitions, ["scores"], ["dlq"], "score.avsc"))
        audit = stack.enter_context(tolerant(brokers, bank, scenario.partitions, ["audit"], [], "audit.avsc"))
        feeder = Feeder(bank, brokers.bootstrap, scenario.rate, scenario.partitions, folder / "feeder.log")
        with feeder:
            witness.wait_for(scenario.rate, 240)
            audit.wait_for(scenario.rate, 240)
            strike(scenario, victims, result, say)
            time.sleep(dice.uniform(*scenario.calm_s))
        healed = time.monotonic()
        inputs = ends(brokers.bootstrap, bank.topics(["events"]), scenario.partitions)
        result.events = sum(inputs.values())
        patient(lambda: len({s.source for s in witness.seen}) + len({s.source for s in audit.seen}), 2 * result.events)
        result.recovery_s = round(time.monotonic() - healed, 1)
        read = committed(brokers.bootstrap, names[0].group, inputs)
        result.unread = sum(count - read[place] for place, count in inputs.items())
        for fleet in (live, shadow):
            for event in SAID:
                result.said[event] = result.said.get(event, 0) + len(fleet.lines(event))
            fleet.stop()
    for kinds, schema, seen in (
        (("scores", "dlq"), "score.avsc", witness.seen),
        (("audit",), "audit.avsc", audit.seen),
    ):
        topics = bank.topics(kinds)
        found, stuck = read_all(brokers, bank, topics, scenario.partitions, schema)
        judge(result, found, inputs)
        for place in stuck:
            result.examples.append(f"stuck {place}")
        result.stuck += len(stuck)
        judge_live(result, found, seen)


def strike(scenario: Scenario, victims: Victims, result: Result, say: Any) -> None:
    """Fault after fault until the time is over; every kind at least once."""
    end, waiting = time.monotonic() + scenario.seconds, list(scenario.faults)
    while waiting or time.monotonic() < end:
        name = waiting.pop(0) if waiting else victims.dice.choice(scenario.faults)
        time.sleep(victims.dice.uniform(*scenario.calm_s))
        say(f"  {name}")
        FAULTS[name](victims)
        result.faults.append(name)


def patient(count: Any, wanted: int) -> None:
    """Wait until so many have been seen, or nothing has come for PATIENCE_S."""
    last, moved = count(), time.monotonic()
    while last < wanted and time.monotonic() - moved < PATIENCE_S:
        time.sleep(0.5)
        now = count()
        if now != last:
            last, moved = now, time.monotonic()


class Feeder:
    """Sends events at a steady pace; what the brokers do is borne. What its producer does about it stands in `log`."""

    def __init__(self, bank: Bank, bootstrap: str, per_s: int, partitions: int, log: Path) -> None:
        self._bank, self._per_s, self._partitions = bank, per_s, partitions
        self._bootstrap = bootstrap
        self._stop = threading.Event()
        self._executor = ThreadPoolExecutor(1, "feeder")
        self._log, self._handler = logging.Logger("feeder"), logging.FileHandler(log)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._log.addHandler(self._handler)

    def __enter__(self) -> "Feeder":
        settings = {
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.timeout.ms": 300_000,
            "reconnect.backoff.max.ms": 500,
            "logger": self._log,
            "debug": "eos",  # a producer that stopped for good could say nothing otherwise
        }
        self._sent = self._executor.submit(testing.produce, self._bootstrap, self._paced(), settings, timeout_s=120)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._executor.shutdown()
        self._handler.close()
        self._sent.result()  # raises when the brokers do not take events

    def _paced(self) -> Iterator[ToSend]:
        step = 0.1
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + step, time.monotonic() - 1.0)
            for number, (tenant, _, value) in enumerate(self._bank.events(int(self._per_s * step))):
                yield ToSend(self._bank.topic("events", tenant), number // self._bank.tenants % self._partitions, value)


def tolerant(
    brokers: LocalCluster, bank: Bank, partitions: int, answers: Sequence[str], dead: Sequence[str], schema: str
) -> Witness:
    """A witness that bears an absent broker."""
    return Witness(
        brokers.bootstrap,
        bank.topics(answers),
        bank.topics(dead),
        partitions,
        schema,
        tolerant=True,
        **{"reconnect.backoff.max.ms": "500"},
    )


def make_topics(bootstrap: str, topics: Sequence[str], partitions: int, replication: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    made = admin.create_topics([NewTopic(topic, partitions, replication) for topic in topics], operation_timeout=60)
    for answer in made.values():
        answer.result(timeout=40)


def ends(bootstrap: str, topics: Sequence[str], partitions: int, isolation: str = "read_uncommitted") -> dict[Any, int]:
    """(topic, partition) -> where it ends for a reader of this isolation level."""
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": "ends", "isolation.level": isolation})
    try:
        found = {}
        for topic in topics:
            for partition in range(partitions):
                for _ in range(20):
                    try:
                        found[topic, partition] = client.get_watermark_offsets(
                            TopicPartition(topic, partition), timeout=5
                        )[1]
                        break
                    except KafkaException:
                        time.sleep(0.5)
        return found
    finally:
        client.close()


def committed(bootstrap: str, group: str, inputs: dict[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    """How far a group has come."""
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "isolation.level": "read_uncommitted"})
    try:
        answers = client.committed([TopicPartition(*place) for place in inputs], timeout=60)
        return {(one.topic, one.partition): max(one.offset, 0) for one in answers}
    finally:
        client.close()


def read_all(
    brokers: LocalCluster, bank: Bank, topics: Sequence[str], partitions: int, schema: str
) -> tuple[list[Seen], list[str]]:
    """Everything committed, and the partitions whose end is not stable 20 s after the workers have gone."""
    high = ends(brokers.bootstrap, topics, partitions)
    stable: dict[Any, int] = {}

    def settled() -> bool:
        stable.update(ends(brokers.bootstrap, topics, partitions, "read_committed"))
        return stable == high

    deadline = time.monotonic() + 20
    while not settled() and time.monotonic() < deadline:
        time.sleep(0.5)
    decode = Decoding([topic for topic in topics if ".dlq." in topic], schema)
    with CommittedReader(
        brokers.bootstrap, dict.fromkeys(topics, partitions), {"log_level": 0}, tolerant=True
    ) as reader:
        found = [decode(message) for message in reader.read_to_end(stable, timeout_s=120)]
    stuck = [place for place in high if stable[place] < high[place]]
    return found, [f"{place} at {stable[place]} of {high[place]}" for place in stuck]


def judge(result: Result, seen: Sequence[Seen], inputs: dict[tuple[str, int], int]) -> None:
    """Count what is wrong."""
    counts = Counter(one.source for one in seen)
    there = {(topic, partition, offset) for (topic, partition), count in inputs.items() for offset in range(count)}
    missing = sorted(there - counts.keys())
    doubled = sorted(source for source, count in counts.items() if count > 1)
    result.missing += len(missing)
    result.doubled += sum(counts[source] - 1 for source in doubled)
    result.foreign += len(counts.keys() - there)
    late = disorder(seen)
    result.disorder += len(late)
    for kind, sources in (("missing", missing), ("doubled", doubled), ("out of order", late)):
        result.examples += [f"{kind} {source}" for source in sources[:3]]


def disorder(seen: Sequence[Seen]) -> list[tuple[str, int, int]]:
    """Answers that stand behind one to a later event."""
    last: dict[tuple[Any, ...], int] = {}
    late = []
    for one in seen:
        topic, partition, offset = one.source
        lane = (one.topic, one.partition, topic, partition)
        if offset < last.get(lane, -1):
            late.append(one.source)
        last[lane] = max(offset, last.get(lane, -1))
    return late


def judge_live(result: Result, found: Sequence[Seen], seen: Sequence[Seen]) -> None:
    """What the reader saw while it happened must be what stands there in the end."""
    extra = Counter(one.source for one in seen) - Counter(one.source for one in found)
    result.foreign += len(extra)
    result.examples += [f"seen and gone {source}" for source in list(extra)[:3]]


def row(result: Result) -> dict[str, Any]:
    """A result as one line for machines."""
    told = asdict(result)
    return told | {"scenario": result.scenario.name, "seed": result.scenario.seed, "faults": Counter(result.faults)}
