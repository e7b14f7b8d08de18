"""A filter that lets the same log message through once in a while, with the number of its like that were held back.

Two messages are alike when they differ only in which client of the process says it and in how many milliseconds
something took. A broker that is away makes every client say so ten times a second, and an outage of an hour would bury
what else is in the log.
"""

import logging
import re
import time
from collections.abc import Callable

EVERY_S = 30.0
KEPT = 512
_VARIES = re.compile(r"(?<=-)\d+(?=\])|\d+(?=\s?ms\b)|, \d+ identical error\(s\) suppressed")


class Repeats(logging.Filter):
    """Lets a message pass when none like it has passed for `every_s`."""

    def __init__(self, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s, self._clock = every_s, clock
        self._passed: dict[str, tuple[float, int]] = {}
        """What passed -> when, and how many like it were held back since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record may pass; tells in it how many were held back before."""
        text, now = record.getMessage(), self._clock()
        like = _VARIES.sub("", text)
        at, held = self._passed.get(like, (now - self._every_s, 0))
        if now - at < self._every_s:
            self._passed[like] = at, held + 1
            return False
        if len(self._passed) >= KEPT:
            self._passed.clear()
        self._passed[like] = now, 0
        if held:
            record.msg, record.args = f"{text} (and {held} like it since)", ()
        return True
