"""The worker processes of a guided run: `muse-stream run`, as an operator starts it.

They run for as long as the `with` block lasts, the product's own command in processes of their own, with nothing added;
what they log goes to a file per role, whose end is shown when one of them ends too soon.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from muse_stream.errors import MuseError

PROGRAM = """
import sys
from muse_stream.runtime.watchdog import die_with
die_with(int(sys.argv.pop(1)))
from muse_stream.cli.main import main
sys.exit(main())
"""
"""`muse-stream`, but no longer than its parent lives: whatever ends the demo, nothing of it is left behind."""
OPTIONS: Mapping[str, Sequence[str]] = {"calibrate": ("--look-every", "1", "--store-every", "0.5")}
"""What a role is told beside what all are."""
DRAIN_S = 15.0
LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Crew:
    """The processes of one role."""

    role: str
    process: subprocess.Popen[bytes]
    log: Path

    def end_of_log(self) -> str:
        """Return the last lines of the log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-LOG_LINES:]) or "    (nothing)"


@dataclass(frozen=True, slots=True)
class Crews:
    """All workers of the run."""

    members: Sequence[Crew]

    def check(self) -> None:
        """Raise MuseError, with the end of its log, when one has ended."""
        for crew in self.members:
            code = crew.process.poll()
            if code is not None:
                raise MuseError(
                    f"the {crew.role} workers ended with code {code}; the end of their log:\n{crew.end_of_log()}"
                )

    def drain(self) -> dict[str, int]:
        """Ask all to finish what they hold and end; returns the exit code of each role."""
        for crew in self.members:
            if crew.process.poll() is None:
                crew.process.send_signal(signal.SIGTERM)
        return {crew.role: _ended(crew.process) for crew in self.members}


@contextmanager
def running(store: Path | str, lane: str, counts: Mapping[str, int], logs: Path, bootstrap: str) -> Iterator[Crews]:
    """Start `counts` workers by role; they are gone when the block is left, however it is left."""
    with ExitStack() as open_files:
        crews = Crews(tuple(_start(open_files, store, lane, role, n, logs, bootstrap) for role, n in counts.items()))
        try:
            yield crews
        finally:
            crews.drain()


def _start(
    open_files: ExitStack, store: Path | str, lane: str, role: str, count: int, logs: Path, bootstrap: str
) -> Crew:
    log = logs / f"{role}.log"
    stream = open_files.enter_context(log.open("wb"))
    arguments = ["run", "--role", role, "--store", str(store), "--lane", lane, "--workers", str(count), "--no-spare"]
    arguments += OPTIONS.get(role, ())
    environment = {**os.environ, "MUSE_KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    # a session of its own: Ctrl-C at the terminal reaches the demo, which drains them, and not them as well
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(os.getpid()), *arguments],
        stdout=stream,
        stderr=stream,
        env=environment,
        start_new_session=True,
    )
    return Crew(role, process, log)


def _ended(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(DRAIN_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()
