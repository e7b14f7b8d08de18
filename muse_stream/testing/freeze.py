"""Freezing a process: SIGSTOP, and back only once it has taken effect."""

import os
import signal
import time
from pathlib import Path

WITHIN_S = 60.0
ENDED_OR_STOPPED = frozenset("TtZX")


def freeze(pid: int) -> None:
    """Stop a process and return when none of its threads runs any more.

    The signal stops nothing until one of the threads is scheduled, which takes milliseconds on a busy machine: long
    enough for an answer. Raises TimeoutError. Where there is no /proc, it returns at once.
    """
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + WITHIN_S
    while any(state not in ENDED_OR_STOPPED for state in _states(pid)):
        if time.monotonic() > end:
            raise TimeoutError(f"process {pid} still runs {WITHIN_S:g} s after SIGSTOP")
        time.sleep(0.001)


def _states(pid: int) -> list[str]:
    """Return the state of each thread, one letter; see proc(5)."""
    found = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            found.append(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0])
        except OSError:  # ended meanwhile
            continue
    return found
