"""How fast a process works a backlog off: from committed offsets alone, with no reader that competes for the cores.

The same measurement for the worker, the echo floor and the peers: whatever joins a consumer group and commits. CPU is
that of its processes and of the broker apart, between the first and the last committed event that were seen.
"""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from muse_stream.errors import MuseError

LOOK_S = 0.02
GONE_S = 60.0


@dataclass(frozen=True, slots=True)
class Drained:
    """What one process did with a backlog."""

    events: int
    events_per_s: float
    cpu_s_per_million: float
    broker_cpu_s_per_million: float | None
    """None where the broker is no process of this machine."""
    rss_mb: float
    """The most that its largest process took: forked ones share most of it."""
    began_ns: int
    """When the first commit was seen, in monotonic nanoseconds."""
    ended_ns: int


@contextmanager
def serving(command: Sequence[str], log: Path, environment: Mapping[str, str], stop: int) -> Iterator[psutil.Process]:
    """Run a command; it is sent the signal `stop` in the end."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=dict(environment))
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(stop)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def broker_process(bootstrap: str) -> psutil.Process | None:
    """Return the JVM of this machine that listens on the address, if one does."""
    port = int(bootstrap.split(",", maxsplit=1)[0].rpartition(":")[2])
    for one in psutil.process_iter(["name"]):
        if one.info["name"] == "java":
            try:
                held = one.net_connections("tcp")
            except (psutil.AccessDenied, psutil.NoSuchProcess):
                continue
            if any(place.status == psutil.CONN_LISTEN and place.laddr.port == port for place in held):
                return one
    return None


class Offsets:
    """The committed offsets of a group: asked without joining it."""

    def __init__(self, bootstrap: str, group: str, topics: Mapping[str, int]) -> None:
        settings = {"bootstrap.servers": bootstrap, "group.id": group, "isolation.level": "read_uncommitted"}
        self._consumer = Consumer(settings)
        self._places = [TopicPartition(name, number) for name, count in topics.items() for number in range(count)]

    def done(self) -> int:
        """Return how many events are committed, where partitions begin at offset 0 and hold no markers."""
        try:
            found = self._consumer.committed(self._places, 10)
        except KafkaException:  # the group's coordinator is not there yet
            return 0
        return sum(max(place.offset, 0) for place in found)

    def close(self) -> None:
        """Close the client."""
        self._consumer.close()


def drain(
    bootstrap: str,
    group: str,
    topics: Mapping[str, int],
    count: int,
    process: psutil.Process,
    limit_s: float = 300.0,
    look: Callable[[int], None] = lambda _done: None,
) -> Drained:
    """Watch a process until the group has committed `count` events; `look` is told how many it is, each time."""
    broker, offsets = broker_process(bootstrap), Offsets(bootstrap, group, topics)
    end, most = time.monotonic() + limit_s, 0.0
    first = last = (time.monotonic(), 0, cpu_s(process), cpu_s(broker))
    while last[1] < count:
        if time.monotonic() > end or not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            raise MuseError(f"group {group}: {last[1]} of {count} events are committed, and no more come")
        time.sleep(LOOK_S)
        if (done := offsets.done()) > last[1]:
            last = (time.monotonic(), done, cpu_s(process), cpu_s(broker))
            most = max(most, largest_rss(process))
            look(done)
            if not first[1] and done < count:
                first = last
    offsets.close()
    events, seconds = last[1] - first[1], last[0] - first[0]
    per_million = [(late - early) / events * 1e6 for early, late in zip(first[2:], last[2:], strict=True)]
    return Drained(
        count,
        events / seconds,
        per_million[0],
        per_million[1] if broker else None,
        most / 1e6,
        int(first[0] * 1e9),
        int(last[0] * 1e9),
    )


def forget(bootstrap: str, group: str) -> None:
    """Delete a group, as soon as nobody is in it."""
    admin, end = AdminClient({"bootstrap.servers": bootstrap}), time.monotonic() + GONE_S
    while True:
        # a broker that never had a group has no coordinator to be asked to delete one
        listed = admin.list_consumer_groups(request_timeout=10).result()
        if not listed.errors and group not in {one.group_id for one in listed.valid}:
            return
        with suppress(KafkaException):  # not empty yet
            admin.delete_consumer_groups([group], request_timeout=10)[group].result()
            return
        if time.monotonic() > end:
            raise MuseError(f"group {group} still has members after {GONE_S:g} s")
        time.sleep(0.2)


def tree(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all below it."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s(process: psutil.Process | None) -> float:
    """Return the CPU time of a process and all below it that live."""
    total = 0.0
    for one in tree(process) if process else ():
        with suppress(psutil.NoSuchProcess):
            total += sum(one.cpu_times()[:2])
    return total


def largest_rss(process: psutil.Process) -> float:
    """Return the resident memory of the largest process of a run, in bytes."""
    return float(max(one.memory_info().rss for one in tree(process)))
