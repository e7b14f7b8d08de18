"""The way back to an older generation: which one, and what it changes for whom.

Nothing that is broken keeps anybody from going back: where one of the two cannot be read, only the changes are unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from muse_stream.commands.difference import Change, differences
from muse_stream.config import load_document
from muse_stream.control import Note, Store, way_back
from muse_stream.errors import MuseError


@dataclass(frozen=True, slots=True)
class Prepared:
    """A rollback that could be made."""

    store: Store
    before: int
    """What is current."""
    target: int
    changes: Sequence[Change] | None
    """From the one to the other; None where one of them cannot be read."""
    unknown: str = ""
    """Why they are not known."""

    def carry_out(self, note: Note) -> None:
        """Make it current. Raises Conflict when `current` has moved since, StoreError."""
        self.store.verify(self.target)
        self.store.move_current(self.before, self.target, note)


def prepare(store: Store, to: int | None = None) -> Prepared:
    """Work out the way back from what is current; raises StoreError where there is none."""
    before, target = way_back(store, to)
    store.manifest(target)
    try:
        current, then = (load_document(store.open(number).path) for number in (before, target))
        return Prepared(store, before, target, differences(current, then))
    except MuseError as error:
        return Prepared(store, before, target, None, str(error))
