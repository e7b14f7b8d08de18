"""Publish a configuration as a generation: propose, look at what changes and whom it can hurt, publish.

Nothing is published that `check` refuses. `propose` compares with what is current: the changes in the words of the
domain, those that can hurt a tenant, and those that take back what a former generation brought (a file that is older
than a promotion made meanwhile). Publishing makes current by compare-and-swap with the generation that was compared,
so that of two operators who publish at once one is told.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from muse_stream.commands.check import Checked, check
from muse_stream.commands.difference import Change, changes, grouped
from muse_stream.commands.taken_back import Undone, taken_back
from muse_stream.config import Loaded, load_document
from muse_stream.control import BEAT_S, Note, Store, TrustedKeys, conflict, open_store, remembered, signer, trusted_keys
from muse_stream.errors import ConfigError, MuseError, Problem

LISTEN_S = BEAT_S + 0.5
"""How long workers are listened for where nothing is current: they may serve from a store that was emptied just now."""


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


@dataclass(frozen=True, slots=True)
class Proposal:
    """A checked configuration, and what would change if it became current."""

    loaded: Loaded
    store: Store
    before: int | None
    """The generation that it was compared with."""
    changes: tuple[Change, ...]
    warnings: tuple[Problem, ...]
    undone: tuple[Undone, ...] = ()

    @property
    def harmful(self) -> tuple[Change, ...]:
        """The changes that can hurt a tenant: they take a reason."""
        return tuple(change for change in self.changes if change.harm)

    def refused(self, *, force: str | None, replace: bool) -> list[Problem]:
        """Return why it is not published like this: what takes a reason (`force`), what takes `replace`."""
        problems: list[Problem] = []
        if not (force or "").strip():
            problems += [
                Problem(_place(change), str(change), f"{change.harm}; if it is meant: --force REASON", None, self._file)
                for change in self.harmful
            ]
        if not replace:
            for undone in self.undone:
                hint = (
                    f"generation {undone.generation} brought it: take it over into the file; if it is meant: --replace"
                )
                problems += [
                    Problem(_place(change), f"takes back: {change}", hint, None, self._file)
                    for change in undone.changes
                ]
        return problems

    @property
    def _file(self) -> str:
        return str(self.loaded.source.path)

    def publish(self, note: Note | None = None, *, activate: bool = True) -> Published:
        """Store it and (unless told otherwise) make it current; `note` says who, why and on what evidence.

        Raises Conflict when somebody else moved `current` since it was compared, StoreError for the store.
        """
        note = note or Note()
        number = self.store.publish(self.loaded, note)
        if activate and number != self.before:
            self.store.move_current(self.before, number, note)
        return Published(number, self.before, activate or number == self.before)


def _place(change: Change) -> str:
    section = {"tenant": "tenants", "category table": "categories", "event format": "events", "file": "schemas"}
    return f"{section.get(change.area, f'{change.area}s')}.{change.names[0]}" if change.names else change.area


def propose(path: str | Path, store: str | Path) -> Proposal:
    """Check a configuration and compare it with what is current.

    The store stays open: close it. Raises ConfigError with everything `check` finds, StoreError for the store.
    """
    target = open_store(store)
    began = time.monotonic()
    try:
        checked = check(path)
        if checked.loaded is not None and not checked.problems:
            _listen(target, began + LISTEN_S)
        return proposal(checked, target)
    except BaseException:
        target.close()
        raise


def proposal(checked: Checked, store: Store, made_from: int | None = None) -> Proposal:
    """Compare a checked configuration with what is current; raises ConfigError with what was found.

    `made_from` is the generation that it was made from, where it was: Conflict when that is current no longer, since
    publishing it would take back what somebody else has done meanwhile.
    """
    if checked.loaded is None or checked.problems:
        raise ConfigError(checked.problems)
    before = store.current()
    if made_from is not None:
        if before != made_from:
            raise conflict(made_from, store.head(), store.manifest)
        _refuse_unsigned(store, made_from)
    if before is None:
        found = (*_forgotten(store), *grouped(changes(None, checked.loaded)))
        return Proposal(checked.loaded, store, None, found, checked.warnings)
    try:
        current = load_document(store.open(before).path)
    except MuseError as error:
        text = f"generation {before} cannot be read: {error}"
        unknown = Change("generation", (str(before),), text, harm="nobody can tell what changes")
        return Proposal(checked.loaded, store, before, (unknown,), checked.warnings)
    found = tuple(changes(current, checked.loaded))
    back = tuple(taken_back(store, before, current, checked.loaded, found)) if made_from is None else ()
    return Proposal(checked.loaded, store, before, grouped(found), checked.warnings, back)


def _refuse_unsigned(store: Store, number: int) -> None:
    """Refuse to sign what is made from a generation that nobody trusted has signed: it would be signed with the rest.

    Trusted are the keys of MUSE_TRUSTED_KEYS_FILE, and the one that signs.
    """
    own = signer()
    if own is None:
        return
    known = trusted_keys()
    keys = TrustedKeys({**(known.names if known else {}), own.key: "the key that signs here"})
    manifest = store.manifest(number)
    keys.check(manifest.to_json(), "generation", f"{store}: generation {number}, which this is made from,")


def _listen(store: Store, until: float) -> None:
    """Give workers the time to tell of themselves, where a server holds nothing: their numbers are not given twice."""
    while store.shared and time.monotonic() < until and store.current() is None and not remembered(store).workers:
        time.sleep(0.1)


def _forgotten(store: Store) -> Iterator[Change]:
    """Yield that a store without a current generation had one: it was emptied, or another one is at this address."""
    known = remembered(store)
    if not known.number:
        return
    seen = f"generation {known.number} was current when this machine saw it last"
    if known.workers:
        count = "1 worker serves" if known.workers == 1 else f"{known.workers} workers serve"
        seen = f"{count} from it, up to generation {known.number}"
    text = f"nothing is current in the store, and {seen}: it was emptied, or another store is at this address"
    harm = "nobody can tell what changes" if known.workers else ""
    yield Change("generation", (str(known.number),), text, harm=harm)


def publish(path: str | Path, store: str | Path, *, activate: bool = True, note: Note | None = None) -> Published:
    """Check a configuration, store it as a new generation and (unless told otherwise) make it current.

    `note` says who publishes and why; by default this user, and nothing. It does not ask whom it can hurt: `propose`
    tells, and its `publish` goes on. Raises ConfigError with everything `check` finds, Conflict when somebody else
    moved `current` meanwhile, StoreError for the store.
    """
    target = open_store(store)
    try:
        before = target.current()  # before the check: whoever publishes meanwhile must be noticed
        checked = check(path)
        if checked.loaded is None or checked.problems:
            raise ConfigError(checked.problems)
        return Proposal(checked.loaded, target, before, (), ()).publish(note, activate=activate)
    finally:
        target.close()
