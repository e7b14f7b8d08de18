"""What every benchmark on a broker shares: topics, a backlog, a worker process, and when its answers became visible.

The worker is the product's own supervised process, started as an operator starts it; visibility is what a
read_committed reader sees.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from muse_stream.config import load_document
from muse_stream.control import DirectoryStore


def create(bootstrap: str, partitions: dict[str, int]) -> None:
    """Create topics, replacing what stands under these names."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    there = set(admin.list_topics(timeout=10).topics) & set(partitions)
    if there:
        for answer in admin.delete_topics(list(there)).values():
            answer.result()
        while set(admin.list_topics(timeout=10).topics) & there:
            time.sleep(0.1)
    for answer in admin.create_topics([NewTopic(name, count, 1) for name, count in partitions.items()]).values():
        answer.result()


def publish(path: Path, store: Path) -> Path:
    """Make a configuration the current generation of a new store."""
    directory = DirectoryStore(store)
    directory.move_current(directory.current(), directory.publish(load_document(path)))
    return store


def send(
    bootstrap: str, topic: str, partitions: int, values: Sequence[bytes], producer: Producer | None = None
) -> Producer:
    """Send values flat out, round robin over the partitions in runs of 500."""
    producer = producer or Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": "lz4",
            "linger.ms": 20,
            "queue.buffering.max.messages": 2_000_000,
        }
    )
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=(number // 500) % partitions)
    producer.flush()
    return producer


@contextmanager
def worker(bootstrap: str, store: Path, log: Path, *, workers: int = 1, spare: bool = False) -> Iterator[int]:
    """Run `muse-stream run` on a store; yields the supervisor's process id."""
    command = [str(Path(sys.executable).parent / "muse-stream"), "run", "--role", "live", "--store", str(store)]
    command += ["--workers", str(workers), "--name", "perf", "--spare" if spare else "--no-spare"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": bootstrap}
        )
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(20)


def visible(
    bootstrap: str, topics: Sequence[str], partitions: int, want: int, limit_s: float
) -> list[tuple[float, int]]:
    """Read scores as they become visible; returns (monotonic seconds, how many so far) until `want` have come."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "perf-reader",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.queue.backoff.ms": 5,
            "queued.max.messages.kbytes": 65_536,
        }
    )
    consumer.assign([TopicPartition(topic, number, 0) for topic in topics for number in range(partitions)])
    seen, points, end = 0, [], time.monotonic() + limit_s
    while seen < want and time.monotonic() < end:
        messages = consumer.consume(10_000, 0.05)
        seen += sum(message.error() is None for message in messages)
        if messages:
            points.append((time.monotonic(), seen))
    consumer.close()
    return points
