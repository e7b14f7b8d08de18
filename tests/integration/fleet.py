"""Worker processes as an operator runs them: a supervisor process that tests may signal, and its workers to kill.

The processes are the product's own (`runtime.run`); tests reach them by signals and by their log only.
"""

import json
import multiprocessing
import os
import random
import re
import signal
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from muse_stream import telemetry
from muse_stream.config import load_document
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.control import DirectoryStore
from muse_stream.kafka.membership import SESSION_MS
from muse_stream.runtime import supervisor, watchdog, worker_process
from muse_stream.runtime.batch_scorer import GenerationScorer
from muse_stream.runtime.run import RunOptions, run
from muse_stream.testing.freeze import freeze
from muse_stream.worker import failpoints, slot
from muse_stream.worker.batch import Batch, Records
from tests.failure_report import on_failure, tail
from tests.forked import Forked
from tests.patience import PATIENCE, until

ROOT = Path(__file__).resolve().parents[2]
STARTED = re.compile(r"failpoint ([a-z-]+): ")


def publish(document: Path, store: Path, *, spoil: str | None = None) -> int:
    """Make a document the current generation, one of its files spoilt before that; returns its number."""
    directory = DirectoryStore(store)
    number = directory.publish(load_document(document))
    if spoil:
        (path,) = (store / "generations" / f"{number:06}").rglob(spoil)
        path.write_bytes(b"not what was published")
    directory.move_current(directory.current(), number)
    return number


class Fleet:
    """A running `run --role ROLE --workers N`; without a spare where no test needs one, as each is one more start."""

    def __init__(
        self,
        bootstrap: str,
        store: Path | str,
        role: str,
        lane: str,
        log: Path,
        *,
        workers: int = 2,
        spare: bool = False,
        **options: Any,
    ) -> None:
        self.log = log
        self._read, self._entries = 0, defaultdict[str, list[dict[str, Any]]](list)
        given: dict[str, str] = options.pop("environment", {})
        payload = {"store": str(store), "role": role, "lane": lane, "workers": workers, "spare": spare, **options}
        environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": bootstrap} | given
        with log.open("ab") as out:
            self.process = Forked(
                "tests.integration.fleet:main",
                json.dumps(payload),
                stdout=out.fileno(),
                stderr=out.fileno(),
                environment=environment,
            )
        on_failure(str(log), partial(tail, log, leave_out='"committed"'), lambda: self.process.poll() is not None)

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 15 * PATIENCE) -> int:
        """Signal the supervisor and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def slots(self) -> dict[int, int]:
        """Slot -> process id of the worker that was given it last, if that process still lives."""
        found = {}
        for line in self.lines("slot"):
            if psutil.pid_exists(line["pid"]):
                found[line["number"]] = line["pid"]
        return found

    def kill(self, slot: int, number: int = signal.SIGKILL) -> int:
        """Send a signal to a slot's worker; returns its process id. A worker shows its slot before the log tells."""
        until(lambda: slot in self.slots(), 60, lambda: f"no process in slot {slot}: {self.lines('slot')}")
        pid = self.slots()[slot]
        os.kill(pid, number)
        return pid

    def freeze(self, slot: int) -> int:
        """Stop a slot's worker (SIGSTOP); returns its process id when it stands still, a moment after the signal."""
        pid = self.kill(slot, signal.SIGSTOP)
        freeze(pid)
        return pid

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines with this event."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break  # still being written
                self._read += len(line)
                if (entry := entry_of(line)) is not None:
                    self._entries[entry.get("event", "")].append(entry)
        return self._entries[event]

    def struck(self) -> list[str]:
        """Return the failpoints that were hit, in order."""
        return STARTED.findall(self.log.read_text(encoding="utf-8"))

    def wait_generation(self, number: int, timeout_s: float = 60) -> None:
        """Return when a worker serves this generation, be it its first one."""
        told = partial(self.lines, "generation")
        until(lambda: any(line["number"] == number for line in told()), timeout_s, lambda: f"{number}: {told()}")

    def wait_serving(self, timeout_s: float = 60) -> None:
        """Return when a worker has been assigned partitions."""
        until(lambda: bool(self.lines("assigned")), timeout_s, lambda: self.log.read_text(encoding="utf-8")[-2000:])


def entry_of(line: bytes) -> dict[str, Any] | None:
    """Return what a line of a log says; a process that was killed while it wrote leaves half a line before the next."""
    text = line.decode("utf-8", "replace")
    for start in (found.start() for found in re.finditer(r'\{"', text)):
        with suppress(json.JSONDecodeError):
            entry: dict[str, Any] = json.loads(text[start:])
            return entry if "event" in entry else None
    return None


def plant(abort_at: Sequence[str] = (), abort_compiling: int = 0) -> None:
    """Plant faults in native code, in this process, which workers are forked from: they abort.

    `abort_at`: when a record to be scored holds one of these texts; `abort_compiling`: at this generation.
    """
    score, warm = GenerationScorer.score, GenerationScorer.warm
    markers = [marker.encode() for marker in abort_at]

    def fatal_score(self: GenerationScorer, batch: Batch, attempt: int) -> Records:
        if any(marker in (value or b"") for value in batch.values for marker in markers):
            os.abort()
        return score(self, batch, attempt)

    def fatal_warm(self: GenerationScorer) -> None:
        if self.number == abort_compiling:
            os.abort()
        warm(self)

    GenerationScorer.score = fatal_score  # type: ignore[method-assign]
    GenerationScorer.warm = fatal_warm  # type: ignore[method-assign]


def strike_in_turn(probability: float) -> None:
    """Have each worker process, forked from this one, kill itself at one step of a transaction, the next at the next.

    So a few deaths meet every step, which they would not for sure if each process threw dice over all of them.
    """
    turn = multiprocessing.get_context("fork").Value("i", 0)

    def chosen() -> failpoints.Failpoint:
        with turn.get_lock():
            number, turn.value = turn.value, turn.value + 1
        dice, mine = random.Random(number), failpoints.STEPS[number % len(failpoints.STEPS)]

        def strike(step: str) -> None:
            if step == mine and dice.random() < probability:
                os.write(2, f"failpoint {step}: SIGKILL\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

        return strike

    failpoints.from_environment = chosen


def main(payload: str) -> int:
    """Be the supervisor process."""
    watchdog.die_with(os.getppid())  # a test run that is killed leaves no workers behind
    options = json.loads(payload)
    workers, spare = options.pop("workers"), options.pop("spare")
    supervisor.DRAIN_S *= PATIENCE
    slot.MEMBER["session.timeout.ms"] = options.pop("session_ms", SESSION_MS)
    worker_process.SPARE_POLL_STORE_S = options.pop("spare_poll_s", worker_process.SPARE_POLL_STORE_S)
    if strike := options.pop("strike", 0.0):
        strike_in_turn(strike)
    planted = {name: options.pop(name) for name in ("abort_at", "abort_compiling") if name in options}
    if planted:
        plant(**planted)
    telemetry.configure(level="DEBUG", human=False)
    chosen = RunOptions(
        options.pop("store"), host="test", settings=KafkaSettings.from_environment(), log_level="DEBUG", **options
    )
    return run(chosen, workers, spare=spare)
