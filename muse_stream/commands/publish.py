"""Publish a configuration as a generation, list generations, roll back.

Nothing is published that `check` refuses. Publishing makes current by compare-and-swap, so that of two operators who
publish at once one is told.
"""

from dataclasses import dataclass
from pathlib import Path

from muse_stream.commands.check import check
from muse_stream.control import Note, open_store
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


def publish(path: str | Path, store: str | Path, *, activate: bool = True, note: Note | None = None) -> Published:
    """Check a configuration, store it as a new generation and (unless told otherwise) make it current.

    `note` says who publishes and why; by default this user, and nothing. Raises ConfigError with everything `check`
    finds, Conflict when somebody else moved `current` meanwhile, StoreError for the store.
    """
    note = note or Note()
    target = open_store(store)
    try:
        before = target.current()  # before the check: whoever publishes meanwhile must be noticed
        checked = check(path)
        if checked.loaded is None or checked.problems:
            raise ConfigError(checked.problems)
        number = target.publish(checked.loaded, note)
        if activate and number != before:
            target.move_current(before, number, note)
    finally:
        target.close()
    return Published(number, before, activate or number == before)
