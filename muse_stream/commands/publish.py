"""Publish a configuration as a generation, list generations, roll back.

Nothing is published that `check` refuses. Publishing makes current by compare-and-swap, so that of two operators who
publish at once one is told.
"""

from dataclasses import dataclass
from pathlib import Path

from muse_stream.commands.check import check
from muse_stream.control import open_store
from muse_stream.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Published:
    """What publishing did."""

    number: int
    before: int | None
    """What was current."""
    current: bool
    """Whether the new generation is current now."""

    @property
    def changed(self) -> bool:
        """False when the content is what was current already."""
        return self.number != self.before


def publish(path: str | Path, store: str | Path, *, activate: bool = True) -> Published:
    """Check a configuration, store it as a new generation and (unless told otherwise) make it current.

    Raises ConfigError with everything `check` finds, StoreError for the store.
    """
    target = open_store(store)
    checked = check(path)
    if checked.loaded is None or checked.problems:
        raise ConfigError(checked.problems)
    before = target.current()
    number = target.publish(checked.loaded)
    if activate and number != before:
        target.move_current(before, number)
    return Published(number, before, activate or number == before)
