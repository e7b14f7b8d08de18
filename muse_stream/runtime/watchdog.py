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


def watch(busy_since: Callable[[], float | None], log: Log, stall_s: float = STALL_S) -> threading.Thread:
    """Start the watchdog: a thread that ends the process when the loop stands still for longer than `stall_s`.

    `busy_since` is None before the loop's first turn, and another number after each. Time in which the whole process
    was stopped (SIGSTOP, a machine that was frozen) does not count: no record in hand is to blame for that.
    """

    def run() -> None:
        look_s = min(1.0, stall_s / 4)
        stood_s, before, looked = 0.0, None, time.monotonic()
        while stood_s <= stall_s:
            time.sleep(look_s)
            since, now = busy_since(), time.monotonic()
            still = since is not None and since == before
            stood_s = stood_s + min(now - looked, 2 * look_s) if still else 0.0
            before, looked = since, now
        log.error("stalled", limit_s=stall_s)
        os._exit(STALLED)

    thread = threading.Thread(target=run, name="watchdog", daemon=True)
    thread.start()
    return thread
