"""Scenario `takeover`: `kill -9` of the only live worker until every partition answers again.

In: 500 events/s over 4 partitions. Out: seconds, median and worst of the kills, on the worst partition each.
Law: counted from the kill to the first score of every partition that a read_committed reader sees after it; a spare is
waiting, as it is by default, and the next kill comes only when the next spare waits.
"""

import json
import os
import signal
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from perf import rig, workload
from perf.drain import Figures

KILLS, PARTITIONS, RATE = 10, 4, 500


def run(bootstrap: str, folder: Path) -> Figures:
    """Measure KILLS kills."""
    data = workload.read_data()
    path = workload.configure(folder, data, 1)
    rig.create(bootstrap, {f"muse.{kind}.t000": PARTITIONS for kind in ("events", "scores", "dlq")})
    store, log = rig.publish(path, folder / "store"), folder / "takeover.log"
    values = next(workload.events(path, data, slice(0, 50_000)))
    ended = threading.Event()
    feeder = threading.Thread(target=_feed, args=(bootstrap, values, ended))
    with rig.worker(bootstrap, store, log, spare=True):
        feeder.start()
        reader = _Reader(bootstrap)
        took = [_kill(log, reader, number) for number in range(KILLS)]
        ended.set()
        feeder.join()
        reader.stop()
    return {
        "scenario": "takeover",
        "kills": KILLS,
        "median_s": round(statistics.median(took), 2),
        "worst_s": round(max(took), 2),
    }


def _kill(log: Path, reader: "_Reader", number: int) -> float:
    _until(lambda: len(_lines(log, "spare-ready")) > number)
    time.sleep(
        11.0 if number else 2.0
    )  # a slot that crashes again within 10 s waits before it is replaced: not measured
    pid = _lines(log, "slot")[-1]["pid"]
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    psutil.Process(pid).wait(5) if psutil.pid_exists(pid) else None
    settled = killed + 0.05  # what was committed before the kill has reached the reader by then
    _until(lambda: all(at > settled for at in reader.latest.values()))
    return max(reader.first_after(settled, partition) for partition in range(PARTITIONS)) - killed


class _Reader:
    """Notes when each partition showed scores."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "perf",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        self._consumer.assign([TopicPartition("muse.scores.t000", number, 0) for number in range(PARTITIONS)])
        self.seen: list[tuple[float, int]] = []
        self.latest: dict[int, float] = dict.fromkeys(range(PARTITIONS), 0.0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def first_after(self, moment: float, partition: int) -> float:
        """Return when this partition first showed a score after a moment."""
        return next(at for at, number in self.seen if number == partition and at > moment)

    def stop(self) -> None:
        """End and close."""
        self._ended.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                at, partition = time.monotonic(), message.partition() or 0
                self.seen.append((at, partition))
                self.latest[partition] = at


def _feed(bootstrap: str, values: list[bytes], ended: threading.Event) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    number = 0
    while not ended.wait(1 / RATE * 5):
        for value in values[number % 50_000 : number % 50_000 + 5]:
            producer.produce("muse.events.t000", value, partition=number % PARTITIONS)
            number += 1
        producer.poll(0)
    producer.flush()


def _lines(log: Path, event: str) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry.get("event") == event]


def _until(holds: Any, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("the worker did not do what was waited for")
        time.sleep(0.01)
