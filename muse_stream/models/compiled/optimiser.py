"""Optimises what has proved busy, in the background: one text at a time, in a process of the lowest priority.

The code that comes back takes the place of the fast-made code between two calls; it gives the same bits. When the
process fails, the code that is there goes on.
"""

import os
import queue
import subprocess
import sys
import threading
import weakref
from typing import Protocol

from muse_stream.models.compiled import native
from muse_stream.models.compiled.code_cache import CodeCache

LONGEST_S = 900.0


class Busy(Protocol):
    """What wants faster code."""

    text: str

    def exchange(self, code: bytes) -> None:
        """Take faster code."""


class _Optimiser:
    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[weakref.ref[Busy], CodeCache]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def later(self, busy: Busy, cache: CodeCache) -> None:
        self._waiting.put((weakref.ref(busy), cache))
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="optimiser", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            waiting, cache = self._waiting.get()
            busy = waiting()
            if busy is not None:  # else its generation is gone
                _try(busy, cache)
            del busy


def now(busy: Busy, cache: CodeCache) -> None:
    """Give something busy its faster code, from the cache if it is there; raises what went wrong."""
    with cache.alone():
        code = cache.find(busy.text)
        if code is None:
            code = optimised(busy.text)
            cache.keep(busy.text, code)
    busy.exchange(code)


def _try(busy: Busy, cache: CodeCache) -> None:
    try:
        now(busy, cache)
    except Exception as error:  # noqa: BLE001  # whatever it is, the code that is there goes on
        from muse_stream import telemetry  # noqa: PLC0415  # rare

        telemetry.logger("models").warning("code_not_optimised", error=f"{type(error).__name__}: {error}"[:500])


def optimised(text: str) -> bytes:
    """Return optimised object code, made by a process of its own."""
    # -P: the folder of that module has others whose names are those of the standard library
    command = [sys.executable, "-P", native.__file__]
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=LONGEST_S, check=False)
    if done.returncode or not done.stdout:
        raise RuntimeError(f"the compiler ended with {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}")
    return done.stdout


_optimiser = _Optimiser()


def later(busy: Busy, cache: CodeCache) -> None:
    """Optimise the code of something busy when nothing else is to be done, unless it is gone by then."""
    _optimiser.later(busy, cache)


def _forget() -> None:
    """A child has none of its parent's threads."""
    global _optimiser  # noqa: PLW0603
    _optimiser = _Optimiser()


os.register_at_fork(after_in_child=_forget)
