"""What a generation store is, wherever it keeps its generations.

Invariant: numbers only grow; a published generation never changes; publishing does not make it current, moving
`current` does, by compare-and-swap, so that two operators cannot overwrite each other's decision unseen.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from muse_stream.config import Loaded
from muse_stream.errors import StoreError


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation that was opened: every file is there and has the hash it was published with."""

    number: int
    sha256: str
    """Hash over the names and hashes of all its files."""
    path: Path
    """The document; the files it names are relative to its folder."""
    created: datetime
    parent: int | None
    """What was current when this one was published."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a store's list; a broken generation is listed too, with what is wrong with it."""

    number: int
    sha256: str = ""
    created: datetime | None = None
    parent: int | None = None
    files: int = 0
    problem: str = ""


class Store(Protocol):
    """Where generations live; as text, its address. A method raises `StoreError` when it cannot read or write."""

    def publish(self, loaded: Loaded) -> int:
        """Store a document with its files and return its number; the current one's when nothing differs."""

    def current(self) -> int | None:
        """Return the number of the current generation, None before the first."""

    def former(self) -> tuple[int, ...]:
        """Return the numbers that were current before and were not rolled back, the latest first."""

    def move_current(self, expected: int | None, new: int) -> None:
        """Make `new` current if `expected` still is; else `StoreError`, and nothing changes."""

    def open(self, number: int) -> Generation:
        """Verify every file of a generation against its hash and return it."""

    def list(self) -> tuple[Entry, ...]:
        """Return all generations, oldest first, without reading their files."""


def rollback(store: Store, to: int | None = None) -> int:
    """Make an older generation current again and return its number; by default the current one's parent.

    Raises `StoreError` when there is none, when it is broken, or when `current` moved meanwhile.
    """
    current = store.current()
    if current is None:
        raise StoreError("nothing was published yet: there is no generation to go back to")
    target = store.open(current).parent if to is None else to
    if target is None:
        raise StoreError(f"generation {current} is the first: there is none before it")
    if target == current:
        raise StoreError(f"generation {current} is current already")
    store.open(target)
    store.move_current(current, target)
    return target
