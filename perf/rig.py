"""What every benchmark on a broker shares: topics, a backlog, a worker process, and when its answers became visible.

The worker is the product's own supervised process, started as an operator starts it; visibility is what a
read_committed reader sees.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from muse_stream import testing
from muse_stream.config import load_document
from muse_stream.control import open_store

Address = TypeVar("Address", Path, str)
"""Of a store: a folder, or any address as text."""


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


def publish(path: Path, store: Address) -> Address:
    """Make a configuration the current generation of a new store."""
    opened = open_store(store)
    opened.move_current(opened.current(), opened.publish(load_document(path)))
    opened.close()
    return store


def send(bootstrap: str, topic: str, partitions: int, values: Iterable[bytes]) -> None:
    """Send values flat out, round robin over the partitions in runs of 500."""
    pace = {"compression.type": "lz4", "linger.ms": 20, "queue.buffering.max.messages": 2_000_000}
    testing.produce(bootstrap, testing.spread(topic, values, partitions, run=500), pace, timeout_s=300)


@contextmanager
def worker(bootstrap: str, store: Path | str, log: Path, *, workers: int = 1, spare: bool = False) -> Iterator[int]:
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
    seen, points, end = 0, [], time.monotonic() + limit_s
    more = {"queued.max.messages.kbytes": 65_536}
    with testing.CommittedReader(bootstrap, dict.fromkeys(topics, partitions), more, tolerant=True) as reader:
        while seen < want and time.monotonic() < end:
            if messages := reader.read(0.05):
                seen += len(messages)
                points.append((time.monotonic(), seen))
    return points
