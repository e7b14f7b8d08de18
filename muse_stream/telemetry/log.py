"""What this package asks of a log.

In: an event's name and its facts. Out: nothing. Law: the room says what happened; the composition root decides where it
is written.
"""

from typing import Any, Protocol


class Log(Protocol):
    """What this package asks of a log: an event's name and its facts."""

    def debug(self, event: str, **facts: Any) -> object: ...  # noqa: D102
    def info(self, event: str, **facts: Any) -> object: ...  # noqa: D102
    def warning(self, event: str, **facts: Any) -> object: ...  # noqa: D102
    def error(self, event: str, **facts: Any) -> object: ...  # noqa: D102
