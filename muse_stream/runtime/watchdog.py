"""A worker's life: it dies with its supervisor, and ends itself when it stands still.

An orphan never goes on (R8: it would fence its successor forever). A worker whose loop stands still, in a batch that
takes too long or in a call that does not return (R20), leaves with code `STALLED`, and its supervisor starts another.
"""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable

from muse_stream.telemetry import Log

PR_SET_PDEATHSIG = 1
STALLED = 70
STALL_S = 45.0
"""Below `max.poll.interval.ms`: the worker goes before the group throws it out."""


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; at once if it has ended already. Linux only."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def stalled(busy_since: float | None, limit_s: float) -> bool:
    """Whether the loop has gone on last more than `limit_s` ago; never before its first turn."""
    return busy_since is not None and time.monotonic() - busy_since > limit_s


def watch(busy_since: Callable[[], float | None], log: Log, stall_s: float = STALL_S) -> threading.Thread:
    """Start the watchdog: a thread that ends the process when the loop stands still for longer than `stall_s`."""

    def run() -> None:
        while not stalled(busy_since(), stall_s):
            time.sleep(min(1.0, stall_s / 4))
        log.error("stalled", limit_s=stall_s)
        os._exit(STALLED)

    thread = threading.Thread(target=run, name="watchdog", daemon=True)
    thread.start()
    return thread
