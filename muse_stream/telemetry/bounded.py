"""A log of what may happen with every event: a line for the first, and then one a minute with how many there were."""

import time
from collections.abc import Callable, Hashable
from typing import Any

EVERY_S = 60.0
MOST = 1000
"""Keys that are remembered; who invents ever new ones makes all of them be forgotten, and gets a line each."""


class BoundedLog:
    """Writes about each key at most once in `every_s` seconds."""

    def __init__(
        self, write: Callable[..., object], *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`write`: a method of a logger, such as `log.warning`."""
        self._write, self._every_s, self._clock = write, every_s, clock
        self._next: dict[Hashable, float] = {}
        self._unsaid: dict[Hashable, int] = {}

    def note(self, event: str, key: Hashable, count: int = 1, **facts: Any) -> None:
        """Write `event` with its facts and how many there were since the last line about `key`, or keep silent."""
        count += self._unsaid.pop(key, 0)
        now = self._clock()
        if now < self._next.get(key, now):
            self._unsaid[key] = count
            return
        if len(self._next) >= MOST:
            self._next.clear()
            self._unsaid.clear()
        self._next[key] = now + self._every_s
        self._write(event, events=count, **facts)
