"""What every benchmark on a broker shares: topics, a backlog, a worker process.

The worker is the product's own supervised process, started as an operator starts it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from muse_stream import testing
from muse_stream.config import load_document
from muse_stream.control import open_store
from perf import draining

Address = TypeVar("Address", Path, str)
"""Of a store: a folder, or any address as text."""


FLAT_OUT = {"compression.type": "lz4", "linger.ms": 20, "queue.buffering.max.messages": 2_000_000}
"""Settings of a producer that sends a backlog."""


_made: set[str] = set()


def create(bootstrap: str, partitions: dict[str, int]) -> None:
    """Create topics, replacing what stands under these names."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    there = set(admin.list_topics(timeout=10).topics) & set(partitions)
    if there:
        for answer in admin.delete_topics(list(there)).values():
            answer.result()
        while set(admin.list_topics(timeout=10).topics) & there:
            time.sleep(0.1)
    _made.update(partitions)
    for answer in admin.create_topics([NewTopic(name, count, 1) for name, count in partitions.items()]).values():
        answer.result()


def remove_topics(bootstrap: str) -> None:
    """Delete the topics that were created here: their records take gigabytes."""
    if _made:
        for answer in AdminClient({"bootstrap.servers": bootstrap}).delete_topics(sorted(_made)).values():
            with suppress(KafkaException):  # gone already, or the broker itself is
                answer.result()
    _made.clear()


def forget(bootstrap: str) -> None:
    """Delete the groups of the workers of earlier scenarios, as soon as nobody is in them."""
    for role in ("live", "shadow"):
        draining.forget(bootstrap, f"muse.main.{role}")


def publish(path: Path, store: Address) -> Address:
    """Make a configuration the current generation of a new store."""
    opened = open_store(store)
    opened.move_current(opened.current(), opened.publish(load_document(path)))
    opened.close()
    return store


def send(bootstrap: str, topic: str, partitions: int, values: Iterable[bytes]) -> None:
    """Send values flat out, round robin over the partitions in runs of 500."""
    testing.produce(bootstrap, testing.spread(topic, values, partitions, run=500), FLAT_OUT, timeout_s=300)


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
            process.send_signal(signal.SIGINT)  # leaves the group at once: the next one finds it empty
            process.wait(20)
