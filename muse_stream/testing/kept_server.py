"""What servers of this machine have in common that are started for a run: a broker, a Redis, a Schema Registry.

Each is the child of a small process of its own, the keeper, and has a folder of its own; both are gone with us, however
we end. Handles break it for tests of faults.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from muse_stream.errors import MuseError
from muse_stream.testing import keeper
from muse_stream.testing.freeze import freeze

READY_WITHIN_S = 180.0
"""A broker: 5 s on an idle machine, more than 60 under a load of 18."""
TAKEN = ("Address already in use", "seems to be in use")
"""What servers say of a port; between its choice and its use somebody else may have taken it."""


class KeptServer:
    """One server: it answers from `start()` to `close()`, but for faults asked for."""

    called = "the local server"
    """How messages name it."""
    ready_within_s = READY_WITHIN_S

    def __init__(self) -> None:
        self._keeper: subprocess.Popen[bytes] | None = None
        self._run = Path()
        self._pid = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it on free ports; returns when it answers, raises MuseError with the end of its log if never."""
        for attempts_left in (2, 1, 0):
            try:
                self._prepare()
                self.restart()
                return
            except MuseError as error:
                self.close()
                if not attempts_left or not any(text in str(error) for text in TAKEN):
                    raise

    def _prepare(self) -> None:
        """Choose ports, claim a run folder and `_keep` what is to run there."""
        raise NotImplementedError

    def _answers(self) -> bool:
        """Whether it does what it is there for."""
        raise NotImplementedError

    def _keep(self, run: Path, lock: int, command: Sequence[str]) -> None:
        """Make the keeper of a command in a claimed folder; the lock is the keeper's from then on."""
        self._run = run
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, str(run), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us; the server stays until we have left it
                pass_fds=[lock],  # the run folder is locked for as long as the keeper lives
            )
        finally:
            os.close(lock)

    def running(self) -> bool:
        """Whether its process lives."""
        return self._order("status") != 0

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL); its files stay for `restart()`."""
        self._pid = self._order("kill")

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nobody answers."""
        freeze(self._alive())

    def resume(self) -> None:
        """Let a paused one go on (SIGCONT)."""
        os.kill(self._alive(), signal.SIGCONT)

    def stop(self) -> None:
        """Shut it down in order (SIGTERM), as a restart for new software does; its files stay."""
        self._pid = self._order("stop")

    def restart(self) -> None:
        """Start it on the same ports and files, killing it first if it runs; returns when it answers."""
        self.launch()
        self.await_answer()

    def launch(self) -> None:
        """Start its process, killing it first if it runs; `await_answer` comes next."""
        self._pid = self._order("start")

    def await_answer(self) -> None:
        """Return when it answers; MuseError with the end of its log if never."""
        deadline = time.monotonic() + self.ready_within_s
        while not self._answers():
            if not self.running():
                raise MuseError(f"{self.called} ended at once; the end of its log:\n{self.log_end()}")
            if time.monotonic() > deadline:
                raise MuseError(f"no answer from {self.called} in {self.ready_within_s:.0f} s:\n{self.log_end()}")
            time.sleep(0.05)

    def close(self) -> None:
        """Stop it and remove its folder; may be called twice."""
        running, self._keeper = self._keeper, None
        if running is not None:
            running.communicate()  # closes stdin, which is the keeper's order to clear up
            shutil.rmtree(self._run, ignore_errors=True)

    @property
    def log(self) -> Path:
        """What it says; not there before its first start, and gone after `close`."""
        return self._run / "broker.log"

    def said(self, text: str) -> int:
        """Count the lines of its log that hold a text."""
        return sum(text in line for line in self._lines())

    def log_end(self, lines: int = 15) -> str:
        """Return the last lines of its log."""
        return "\n".join(self._lines()[-lines:]) or "(no log)"

    def _lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []

    def _alive(self) -> int:
        if not self._pid:
            raise MuseError(f"{self.called} is not running")
        return self._pid

    def _order(self, word: str) -> int:
        if self._keeper is None or self._keeper.stdin is None or self._keeper.stdout is None:
            raise MuseError(f"{self.called} was not started")
        try:
            self._keeper.stdin.write(word.encode() + b"\n")
            self._keeper.stdin.flush()
            return int(self._keeper.stdout.readline())
        except (OSError, ValueError):
            raise MuseError(f"the process that keeps {self.called} is gone, and that with it") from None
