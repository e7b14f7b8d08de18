"""What this package asks of a log: an event's name and its facts.

Whoever starts the process decides where it is written. An event's name is snake_case (`tenant_paused`); the reason of a
failure stands under `error`.
"""

from typing import Any, Protocol


class Log(Protocol):
    """What this package asks of a log: an event's name and its facts."""

    def debug(self, event: str, **facts: Any) -> object: ...  # noqa: D102
    def info(self, event: str, **facts: Any) -> object: ...  # noqa: D102
    def warning(self, event: str, **facts: Any) -> object: ...  # noqa: D102
    def error(self, event: str, **facts: Any) -> object: ...  # noqa: D102
