"""Scenarios `takeover-*`: how long the worst partition is silent after a `kill -9`.

500 events/s over 4 partitions; seconds, median and worst of the kills, on the worst partition each: from the kill to
the end of the longest time in which a read_committed reader sees no score of it. What was committed before the kill and
is seen after it ends no silence. A spare waits, as it does by default, and the next kill comes only when the next spare
waits. The first kill does not count: it is the first that this broker, a JVM just started, ever sees.

    takeover             the only worker; the spare takes its slot over
    takeover-supervisor  the supervisor, which is started again at once; its workers die with it
    takeover-run         all processes of the run, which is started again at once
    takeover-host        all processes of one of two runs, which is not started again: the other waits for its session
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from muse_stream import testing
from muse_stream.testing import CommittedReader, ToSend
from perf import rig, workload
from perf.figures import Figures

WARM_UP, KILLS, PARTITIONS, RATE = 1, 10, 4, 500
LATE_S, FRESH_S = 1.0, 0.2
"""What was committed before the kill is seen so soon after it; and a partition has scores again when the last is no
older than this."""
QUIET_S = 11.0
"""A slot that crashes again within 10 s waits before it is replaced: not measured."""


class Run:
    """A `muse-stream run` with one worker and a spare, in a session of its own."""

    def __init__(self, bootstrap: str, store: Path, folder: Path, name: str, *options: str) -> None:
        self._command = [str(Path(sys.executable).parent / "muse-stream"), "run", "--role", "live"]
        self._command += ["--store", str(store), "--name", name, *options]
        self._environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": bootstrap}
        self._folder, self._name, self._starts = folder, name, 0
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        self._starts += 1
        self._log = self._folder / f"{self._name}-{self._starts}.log"
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                self._command, stdout=out, stderr=out, env=self._environment, start_new_session=True
            )

    def wait_ready(self, spares: int = 1) -> None:
        """Return when the worker has partitions and so many spares have been ready."""
        _until(lambda: len(self.lines("spare_ready")) >= spares and bool(self.lines("assigned")))

    def kill_worker(self) -> None:
        """Kill the worker alone."""
        os.kill(self.lines("slot")[-1]["pid"], signal.SIGKILL)

    def kill_supervisor(self) -> None:
        """Kill the supervisor alone, and start again at once."""
        self._process.kill()
        self.start()

    def kill_all(self) -> None:
        """Kill every process at once."""
        everyone = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        for one in everyone:
            one.kill()
        self._process.wait()

    def restart_all(self) -> None:
        """Kill every process, and start again at once."""
        self.kill_all()
        self.start()

    def stop(self) -> None:
        """Drain and leave the group."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines with this event."""
        text = self._log.read_text(encoding="utf-8")
        entries = [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
        return [entry for entry in entries if entry.get("event") == event]


def run(bootstrap: str, folder: Path, scenario: str = "takeover") -> Figures:
    """Measure the kills of a scenario."""
    data = workload.read_data()
    path = workload.configure(folder, data, 1)
    rig.create(bootstrap, {f"muse.{kind}.t000": PARTITIONS for kind in ("events", "scores", "dlq")})
    store = rig.publish(path, folder / "store")
    values = next(workload.events(path, data, slice(0, 50_000)))
    ended = threading.Event()
    feeder = threading.Thread(target=_feed, args=(bootstrap, values, ended))
    reader = _Reader(bootstrap)
    feeder.start()
    try:
        took = _host(bootstrap, store, folder, reader) if scenario == "takeover-host" else None
        took = took or _kills(Run(bootstrap, store, folder, scenario), reader, scenario)
    finally:
        ended.set()
        feeder.join()
        reader.stop()
    return {
        "scenario": scenario,
        "kills": len(took),
        "median_s": round(statistics.median(took), 2),
        "worst_s": round(max(took), 2),
        "all_s": " ".join(f"{one:.2f}" for one in took),
    }


def _kills(ours: Run, reader: "_Reader", scenario: str) -> list[float]:
    act = {"takeover": ours.kill_worker, "takeover-supervisor": ours.kill_supervisor, "takeover-run": ours.restart_all}
    took = []
    try:
        for number in range(WARM_UP + KILLS):
            ours.wait_ready(number + 1 if scenario == "takeover" else 1)
            time.sleep(QUIET_S if number and scenario == "takeover" else 2.0)
            took.append(_silence(reader, act[scenario]))
    finally:
        ours.stop()
    return took[WARM_UP:]


def _host(bootstrap: str, store: Path, folder: Path, reader: "_Reader") -> list[float]:
    took = []
    stays = Run(bootstrap, store, folder, "stays")
    try:
        stays.wait_ready()
        for _ in range(WARM_UP + KILLS):
            lost = Run(bootstrap, store, folder, "lost")
            lost.wait_ready()
            time.sleep(3.0)
            took.append(_silence(reader, lost.kill_all))
    finally:
        stays.stop()
    return took[WARM_UP:]


def _silence(reader: "_Reader", act: Callable[[], None]) -> float:
    killed = time.monotonic()
    act()

    def answering() -> bool:
        now = time.monotonic()
        return now > killed + LATE_S and all(at > now - FRESH_S for at in reader.latest.values())

    _until(answering)
    return max(reader.silent_until(killed, partition) for partition in range(PARTITIONS)) - killed


class _Reader:
    """Notes when each partition showed scores."""

    def __init__(self, bootstrap: str) -> None:
        self._reader = CommittedReader(bootstrap, {"muse.scores.t000": PARTITIONS}, tolerant=True)
        self.seen: list[tuple[float, int]] = []
        self.latest: dict[int, float] = dict.fromkeys(range(PARTITIONS), 0.0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def silent_until(self, moment: float, partition: int) -> float:
        """Return when the longest time without a score of this partition ended, of those since a moment."""
        times = [moment, *(at for at, number in list(self.seen) if number == partition and at > moment)]
        return max(pairwise(times), key=lambda pair: pair[1] - pair[0])[1]

    def stop(self) -> None:
        """End and close."""
        self._ended.set()
        self._thread.join()
        self._reader.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            for message in self._reader.read(0.1, most=1):
                at, partition = time.monotonic(), message.partition() or 0
                self.seen.append((at, partition))
                self.latest[partition] = at


def _feed(bootstrap: str, values: list[bytes], ended: threading.Event) -> None:
    def paced() -> Iterator[ToSend]:
        number = 0
        while not ended.wait(1 / RATE * 5):
            for value in values[number % 50_000 : number % 50_000 + 5]:
                yield ToSend("muse.events.t000", number % PARTITIONS, value)
                number += 1

    testing.produce(bootstrap, paced(), {"linger.ms": 0})


def _until(holds: Any, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("the worker did not do what was waited for")
        time.sleep(0.01)
