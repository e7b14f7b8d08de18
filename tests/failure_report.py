"""What stands beside a failed test in pytest's output: the ends of the logs of the processes that it ran.

Who starts a process with a log says so by `on_failure(name, read)`; `read` gives the text. tests/conftest.py adds to
the report of each failed test what was said since the test began, and what lives on from before it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LAST = 60
"""So many lines of each log."""


@dataclass
class _Source:
    name: str
    read: Callable[[], str]
    over: Callable[[], bool]


_SOURCES: list[_Source] = []


def on_failure(name: str, read: Callable[[], str], over: Callable[[], bool] = lambda: True) -> None:
    """Have a text shown if this test fails, and if a later one fails that begins before `over()`."""
    _SOURCES.append(_Source(name, read, over))


def forget() -> None:
    """A test is over: forget what ended with it."""
    _SOURCES[:] = [source for source in _SOURCES if not source.over()]


def sections() -> list[tuple[str, str]]:
    """Return titles and texts for pytest's report."""
    return [(f"end of {source.name}", _text(source)) for source in _SOURCES]


def _text(source: _Source) -> str:
    try:
        return source.read()
    except Exception as error:  # noqa: BLE001  a report of a failure must not fail
        return f"cannot be read: {error}"


def tail(path: Path, *, leave_out: str | None = None) -> str:
    """Return the last lines of a log, but for those with a text that would fill it."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([line for line in lines if leave_out is None or leave_out not in line][-LAST:])
