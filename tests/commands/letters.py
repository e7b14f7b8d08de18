"""A desk with dead letters: the example's configuration with topics of its own, letters on them, and the program.

`bury` writes what a worker writes; `arrived` reads the event topic with nothing of the product's.
"""

import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from muse_stream.cli.main import main
from muse_stream.config import Document, load_document
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Reason, Rejected, Stage
from muse_stream.testing import CommittedReader
from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker import Batch, dead_letter
from tests.forked import Forked
from tests.patience import PATIENCE, until

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config"
PARTITIONS = 2
START_MS = 1_780_000_000_000
Header = tuple[str, bytes | None]


def example(folder: Path, mark: str) -> Path:
    """The example with topics that no other test has."""
    shutil.copytree(EXAMPLE, folder / "config")
    path = folder / "config" / "muse.yaml"
    path.write_text(path.read_text().replace("muse.", f"{mark}.").replace("globex.risk", f"{mark}.risk"))
    return path


@cache
def document(path: Path, _text: str) -> Document:
    return load_document(path).document


@dataclass
class Desk:
    config: Path
    bootstrap: str
    make_topic: Callable[..., str]
    folder: Path
    capture: pytest.CaptureFixture[str]
    tenant: str = "acme"
    buried: list[tuple[bytes | None, bytes | None]] = field(default_factory=list)
    """Value and key of each letter."""
    said: dict[int, Path] = field(default_factory=dict)
    """What each process that was started has said, by its id."""
    began: int = field(default_factory=lambda: time.time_ns() // 1_000_000 - 60_000)
    """Time of letter 0, in milliseconds; each later one is a millisecond newer."""

    def topic(self, kind: str, tenant: str = "") -> str:
        return str(getattr(document(self.config, self.config.read_text()).tenant_topics(tenant or self.tenant), kind))

    @property
    def settings(self) -> KafkaSettings:
        return KafkaSettings(bootstrap=self.bootstrap)

    def make(self, *tenants: str, partitions: int = PARTITIONS) -> None:
        """Make the topics of events and dead letters."""
        names = {self.topic(kind, tenant) for tenant in tenants for kind in ("events", "dlq")}
        names |= {self.topic("dlq", "acme").replace("acme", "small") for tenant in tenants if tenant == "initech"}
        for name in sorted(names):
            self.make_topic(name=name, partitions=partitions)

    def bury(
        self,
        count: int = 1,
        reason: Reason = Reason.UNKNOWN_SCHEMA,
        *,
        value: Callable[[int], bytes | None] = lambda number: f"event {number}".encode(),
        headers: Sequence[Header] = (("region", b"pt"),),
        topic: str = "",
        source: str = "",
        owner: str | None = None,
        first: int | None = None,
        partition: int | None = None,
        producer: Producer | None = None,
    ) -> None:
        """Write letters: event number i was at offset i of partition i mod 2, unless told otherwise."""
        start = len(self.buried) if first is None else first
        letters = topic or self.topic("dlq")
        made = producer or Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 20})
        for number in range(start, start + count):
            at = number % PARTITIONS if partition is None else partition
            key = f"key {number % 7}".encode()
            batch = Batch(
                [source or self.topic("events")],
                [at],
                [number],
                [key],
                [value(number)],
                lambda number=number: [START_MS + number],  # type: ignore[misc]
                lambda: [list(headers)],
            )
            rejected = Rejected(0, reason, Stage.DECODE, f"letter {number}")
            sent = dead_letter.headers(batch, rejected, generation=3, attempt=4, worker="host-0", tenant=owner)
            made.produce(letters, value(number), key, at % PARTITIONS, timestamp=self.began + number, headers=sent)
            if number % 1_000 == 0:
                made.poll(0)
            self.buried.append((value(number), key))
        assert made.flush(60) == 0

    def again(self, message: Message, reason: Reason = Reason.UNKNOWN_SCHEMA) -> None:
        """Refuse an event that was sent again, as a worker would."""
        headers: Any = message.headers() or []
        batch = Batch(
            [message.topic() or ""],
            [message.partition() or 0],
            [message.offset() or 0],
            [message.key()],
            [message.value()],
            lambda: [message.timestamp()[1]],
            lambda: [list(headers)],
        )
        rejected = Rejected(0, reason, Stage.DECODE, "refused again")
        sent = dead_letter.headers(batch, rejected, generation=3, attempt=5, worker="host-0", tenant=self.tenant)
        producer = Producer({"bootstrap.servers": self.bootstrap})
        producer.produce(self.topic("dlq"), message.value(), message.key(), message.partition() or 0, headers=sent)
        assert producer.flush(60) == 0

    def arrived(self, topic: str = "", partitions: int = PARTITIONS) -> list[Message]:
        """What is committed on a topic of events, in the order of each partition; waits for what is being decided."""
        name = topic or self.topic("events")
        ends = {(name, number): end_of(self.bootstrap, name, number) for number in range(partitions)}
        with CommittedReader(self.bootstrap, {name: partitions}) as reader:
            return reader.read_to_end(ends, timeout_s=60 * PATIENCE)

    def assert_once(self, expected: Sequence[bytes | None], topic: str = "", partitions: int = PARTITIONS) -> None:
        """Each of these events has arrived once, and nothing else has."""
        counts = Counter(message.value() for message in self.arrived(topic, partitions))
        wanted = Counter(expected)
        assert counts == wanted, f"lost {list(wanted - counts)[:5]}, doubled {list(counts - wanted)[:5]}"

    def command(self, word: str, *options: str) -> list[str]:
        return ["dlq", word, str(self.config), self.tenant, *options]

    def start(self, *options: str, failpoints: str = "") -> Forked:
        """Start a replay as a process."""
        environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap, "MUSE_FAILPOINTS": failpoints}
        said = self.folder / f"said-{len(self.said)}"
        with said.open("w", encoding="utf-8") as out:
            given = self.command("replay", *(options or ("--yes",)))
            process = Forked(
                "tests.forked:program", *given, stdout=out.fileno(), stderr=out.fileno(), environment=environment
            )
        self.said[process.pid] = said
        return process

    def ended(self, process: Forked) -> tuple[int, str]:
        """Wait for a process; returns its exit code and all it said."""
        return process.wait(60 * PATIENCE), self.said[process.pid].read_text(encoding="utf-8")

    def until_stopped(self, process: Forked) -> None:
        """Wait until a failpoint, which says so before, has stopped a process."""
        program, said = psutil.Process(process.pid), self.said[process.pid]

        def stopped() -> bool:
            assert process.poll() is None, said.read_text(encoding="utf-8")
            return "failpoint" in said.read_text(encoding="utf-8") and program.status() == psutil.STATUS_STOPPED

        until(stopped, 60, lambda: f"{program.status()}: {said.read_text(encoding='utf-8')}")

    def resume(self, process: Forked) -> None:
        os.kill(process.pid, signal.SIGCONT)

    def replay(self, *options: str, code: int = 0) -> dict[str, Any]:
        """Replay in this process, without asking; returns what --json says."""
        said: dict[str, Any] = self.json("replay", "--yes", *options, code=code)
        return said

    def json(self, word: str, *options: str, code: int = 0) -> Any:
        status, out, err = self.call(word, *options, "--json")
        assert status == code, f"{status}: {out}\n{err}"
        return json.loads(out) if out and word != "show" else [json.loads(line) for line in out.splitlines()]

    def call(self, word: str, *options: str) -> tuple[int, str, str]:
        """Run a command in this process; returns exit code, stdout and stderr."""
        self.capture.readouterr()
        code = main(self.command(word, *options))
        out, err = self.capture.readouterr()
        return code, out, err

    def states(self) -> dict[str, int]:
        """Letters by state, over all reasons."""
        found: Counter[str] = Counter()
        for row in self.json("list")["reasons"]:
            found.update({state: row[state] for state in ("waiting", "replayed", "failed again", "duplicate")})
        return {state: count for state, count in found.items() if count}

    def open_transaction(self, topic: str, partition: int, name: str) -> Producer:
        """Leave a transaction open in a partition."""
        lasting = {"transaction.timeout.ms": 900_000}  # it is the test that ends it
        producer = Producer({"bootstrap.servers": self.bootstrap, "transactional.id": name, **lasting})
        producer.init_transactions(20 * PATIENCE)
        producer.begin_transaction()
        producer.produce(topic, b"somebody else's", partition=partition)
        assert producer.flush(20 * PATIENCE) == 0
        return producer


def headers_of(message: Message) -> list[tuple[str, bytes | None]]:
    found: Any = message.headers() or []
    return list(found)


def end_of(bootstrap: str, topic: str, partition: int) -> int:
    """Return where a partition ends for everybody."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "end", "isolation.level": "read_uncommitted"})
    try:
        _, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=60)
        return int(high)
    finally:
        consumer.close()


def made_desk(
    kafka: Broker,
    folder: Path,
    unique: Callable[[str], str],
    make_topic: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Desk:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    return Desk(example(folder, unique("t")), kafka.bootstrap, make_topic, folder, capsys)
