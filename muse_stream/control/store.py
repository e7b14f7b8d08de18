"""What a generation store is, wherever it keeps its generations.

Invariant: numbers only grow; a published generation never changes; publishing does not make it current, moving
`current` does, by compare-and-swap, so that two operators cannot overwrite each other's decision unseen.
"""

import getpass
import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from muse_stream import environment
from muse_stream.control.change import Change, change
from muse_stream.control.heartbeats import Beat, Heartbeat
from muse_stream.control.records import BEYOND, FORMER, LONGEST_TEXT, Head, Manifest
from muse_stream.control.signatures import Signer, signer
from muse_stream.errors import StoreError

if TYPE_CHECKING:  # what it loads is needed to publish, and not to look
    from muse_stream.config import Loaded

BACK = "goes_back_to"
"""In a generation's evidence: which one a rollback goes back to, where that is not its parent."""
HEARD_NUMBER = 50_000
"""Highest number that is believed of a worker."""
HEARD_SEQUENCE = BEYOND // 2
"""Highest sequence number that is believed of a worker: far above any time, and room for moves is left above it."""


def author() -> str:
    """Return who acts here: MUSE_AUTHOR, or else the user and the host."""
    if named := environment.read("MUSE_AUTHOR"):
        return named
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


@dataclass(frozen=True, slots=True)
class Note:
    """Who publishes or moves, and why."""

    message: str = ""
    author: str = field(default_factory=author)
    evidence: Mapping[str, Any] | None = None
    """What the decision rests on; kept with a published generation."""
    signer: Signer | None = field(default_factory=signer, repr=False)
    """Who signs what is written: the key that MUSE_SIGN_KEY_FILE names; None: nobody."""

    def __post_init__(self) -> None:
        for name in ("message", "author"):
            if len(getattr(self, name)) > LONGEST_TEXT:
                raise StoreError(f"the {name} has more than {LONGEST_TEXT} characters")


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
    manifest: Manifest | None = field(default=None, repr=False)
    """What it was verified against."""


class Entry(Struct, frozen=True):
    """One line of a store's list; a broken generation is listed too, with what is wrong with it."""

    number: int
    sha256: str = ""
    created: datetime | None = None
    parent: int | None = None
    files: int = 0
    author: str = ""
    message: str = ""
    evidence: Mapping[str, Any] | None = None
    version: str = ""
    """The muse-stream that wrote it."""
    signed_by: str = ""
    """Public key of whose signature it bears, not checked here; empty where it has none."""
    problem: str = ""

    @classmethod
    def of(cls, manifest: Manifest) -> "Entry":
        """Return the line of a generation."""
        return cls(
            manifest.number,
            manifest.sha256,
            manifest.created,
            manifest.parent,
            len(manifest.files),
            manifest.author,
            manifest.message,
            manifest.evidence,
            manifest.version,
            manifest.signature.key if manifest.signature else "",
        )


class Conflict(StoreError):
    """`current` was moved by somebody else meanwhile; nothing was changed."""

    def __init__(self, expected: int | None, winner: Head | None, change: Change | None) -> None:
        self.expected = expected
        """What the caller took for current; None: nothing."""
        self.winner = winner
        """What is current, who made it so and when; None: nothing is."""
        self.change = change
        """What differs between the two, where both can be read."""
        super().__init__(_told(expected, winner, change))

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.expected, self.winner, self.change)


def _told(expected: int | None, winner: Head | None, change: Change | None) -> str:
    now = "nothing is current" if winner is None else f"current is generation {winner.number}"
    text = f"{now}, not {'nothing' if expected is None else expected}: it was moved meanwhile"
    if winner is not None:
        text += f" by {winner.author}" if winner.author else ""
        text += f" at {winner.moved.isoformat(sep=' ', timespec='seconds')}" if winner.moved else ""
        text += f' ("{winner.message}")' if winner.message else ""
    text += f"; {change}" if change else ""
    return f"{text}. Nothing was changed: look again with `muse-stream generations`"


class Store(Protocol):
    """Where generations live; as text, its address without a secret. A method raises `StoreError` when it cannot."""

    shared: bool
    """Whether it is a server, that may be emptied while workers on other machines serve from it."""

    def publish(self, loaded: "Loaded", note: Note | None = None) -> int:
        """Store a document with its files and return its number; the current one's when nothing differs."""

    def head(self) -> Head | None:
        """Return what is current, None before the first."""

    def current(self) -> int | None:
        """Return the current generation's number; None before the first `move_current`."""
        found = self.head()
        return found.number if found else None

    def former(self) -> tuple[int, ...]:
        """Return the numbers that were current before and not rolled back, the latest first."""
        return self._former(self.head())

    def _former(self, found: Head | None) -> tuple[int, ...]:
        if found is None:
            return ()
        return ancestors(found.number, self.manifest) if found.former is None else found.former

    def move_current(self, expected: int | None, new: int, note: Note | None = None) -> None:
        """Make `new` current if `expected` still is; else `Conflict`, and nothing changes."""

    def manifest(self, number: int) -> Manifest:
        """Return what a generation consists of, without reading its files."""

    def open(self, number: int, sha256: str = "") -> Generation:
        """Verify every file of a generation against its hash and return it.

        `sha256` is the generation's hash where the caller knows it: another content under the number is refused. A
        store that other machines share may give out a copy on this machine's disk, verified as well.
        """

    def document(self, number: int) -> bytes:
        """Return the document of a generation, verified, without reading its other files."""

    def verify(self, number: int) -> None:
        """Verify every file in the store itself, whatever copies this machine has."""

    def list(self) -> tuple[Entry, ...]:
        """Return all generations, oldest first, without reading their files."""

    def kept(self) -> Head | None:
        """Return what was current when this machine last saw the store, where it keeps a copy; else None."""

    def keep(self, head: Head) -> None:
        """Remember what is current for a restart while the store is away; does nothing where no copy is kept."""

    def ephemeral(self, name: str) -> bytes | None:
        """Return a small record that ends by itself; None where there is none, or its time is over."""

    def set_ephemeral(self, name: str, data: bytes | None, seconds: float, expected: bytes | None) -> bool:
        """Put it for so many seconds (None: take it away) if it still says what is expected (None: there is none).

        Return whether it did; by the store's own clock.
        """

    def durable(self, name: str) -> bytes | None:
        """Return a record that stays; None where there is none."""

    def set_durable(self, name: str, data: bytes | None, expected: bytes | None) -> bool:
        """Put it (None: take it away) if it still says what is expected (None: there is none); return whether it did.

        After a StoreError it may have been put, or not: whoever asks again reads it first.
        """

    def durables(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the records that stay and begin so, sorted."""

    def beat(self, name: str, data: bytes) -> None:
        """Keep a worker's heartbeat (control/heartbeats.py); raises NotAllowed where this user may not."""

    def forget(self, name: str) -> None:
        """Take a heartbeat away."""

    def beats(self) -> tuple[Beat, ...]:
        """Return the heartbeats that there are; what they say is not checked."""

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or sooner when the store hints that `current` may have moved."""

    def close(self) -> None:
        """Let go of connections; the store can be used again."""


def rollback(store: Store, to: int | None = None, note: Note | None = None) -> int:
    """Make an older generation current again and return its number; see `way_back`.

    Raises `StoreError` when there is none, when it is broken, or when `current` moved meanwhile.
    """
    current, target = way_back(store, to)
    store.verify(target)
    store.move_current(current, target, note)
    return target


def way_back(store: Store, to: int | None = None) -> tuple[int, int]:
    """Return what is current, and the generation to go back to: by default the current one's parent.

    From a step of a gradual promotion the way back is what was current before the first step.
    Raises `StoreError` when there is none.
    """
    current = store.current()
    if current is None:
        raise StoreError("nothing was published yet: there is no generation to go back to")
    target = _before(store, current) if to is None else to
    if target is None:
        raise StoreError(f"generation {current} is the first: there is none before it")
    if target == current:
        raise StoreError(f"generation {current} is current already")
    return current, target


def _before(store: Store, current: int) -> int | None:
    try:
        return _way_back(store.manifest(current))
    except StoreError:  # what is broken keeps nobody from going back
        return next(iter(store.former()), None)


def refuse_changed(loaded: "Loaded", hashes: Mapping[str, str]) -> None:
    """Raise StoreError for a file that is not what the document pins: it changed after the check."""
    from muse_stream.config import pinned_hashes  # noqa: PLC0415 - whoever only looks needs none of it

    for name, sha256 in pinned_hashes(loaded).items():
        if hashes.get(name, sha256) != sha256:
            raise StoreError(
                f"{loaded.root / name}: changed while it was published: its sha256 is {hashes[name][:12]}..., and "
                f"{sha256[:12]}... is pinned; nothing was published"
            )


def has_content(store: Store, number: int | None, sha256: str, note: Note) -> bool:
    """Whether a generation has this hash, and the signature that it would get now.

    One that cannot be read keeps nobody from publishing another.
    """
    try:
        found = None if number is None else store.manifest(number)
    except StoreError:
        return False
    if found is None or found.sha256 != sha256:
        return False
    return note.signer is None or (found.signature is not None and found.signature.key == note.signer.key)


def taken_up(store: Store, found: Head | None, last: int, sha256: str, note: Note) -> bool:
    """Whether the last generation is what is to be published now, and was never current: its publisher died, say."""
    parent, moved = (found.number, found.moved) if found else (None, None)
    if last < 1 or (found is not None and moved is None) or not has_content(store, last, sha256, note):
        return False
    one = store.manifest(last)
    same = (one.parent, one.author, one.message) == (parent, note.author, note.message)
    return same and one.evidence == _plain(note.evidence) and (moved is None or moved < one.created)


def _plain(evidence: Mapping[str, Any] | None) -> Any:
    return json.loads(json.dumps(evidence))


def _way_back(manifest: Manifest) -> int | None:
    named = (manifest.evidence or {}).get(BACK)
    return named if isinstance(named, int) and not isinstance(named, bool) else manifest.parent


class Remembered(Struct, frozen=True):
    """What is known of generations beside what the store says: it may have been emptied, or restored."""

    number: int = 0
    """Greatest number of a generation; 0 where none is known."""
    sequence: int = 0
    """Greatest sequence number of a move."""
    workers: int = 0
    """Workers that serve a generation."""


def remembered(store: Store) -> Remembered:
    """Return what this machine's copy and the workers' heartbeats tell (docs/decisions/0032).

    Heartbeats are written by those who may write nothing else: what they tell is bounded. Where they cannot be read
    they tell nothing.
    """
    kept = store.kept()
    number, sequence, workers = (kept.number, kept.sequence, 0) if kept else (0, 0, 0)
    beats: tuple[Beat, ...] = ()
    with suppress(StoreError):
        beats = store.beats()
    for beat in beats:
        with suppress(StoreError):
            told = Heartbeat.read(beat.data, beat.name)
            workers += told.generation is not None
            heard = max(told.generation or 0, told.refused or 0)
            number = max(number, heard if heard <= HEARD_NUMBER else 0)
            sequence = max(sequence, told.sequence if told.sequence <= HEARD_SEQUENCE else 0)
    return Remembered(number, sequence, workers)


def next_head(
    found: Head | None, former: Sequence[int], target: Manifest, note: Note, now: datetime, known: Remembered
) -> Head:
    """Return the record that makes `target` current after `found`, whose `former` generations these are."""
    before = [] if found is None else [found.number, *former]
    if target.number in before:  # a way back: whatever has been current since was rolled back
        before = before[before.index(target.number) + 1 :]
    return Head(
        number=target.number,
        sha256=target.sha256,
        former=tuple(before[:FORMER]),
        sequence=max(1 + (found.sequence if found else 0), 1 + known.sequence, int(now.timestamp() * 1000)),
        moved=now,
        author=note.author,
        message=note.message,
        version=version("muse-stream"),
    )


def signed_manifest(manifest: Manifest, note: Note) -> Manifest:
    """Return the manifest with the signature of whoever signs; as it is where nobody does."""
    if note.signer is None:
        return manifest
    return Manifest.read(note.signer.sign(manifest.to_json(), "generation"), manifest.number, "what was signed")


def signed_head(head: Head, note: Note) -> Head:
    """Return what is to be current with the signature of whoever signs; as it is where nobody does."""
    if note.signer is None:
        return head
    return Head.read(note.signer.sign(head.to_json(), "current"), "what was signed")


def conflict(expected: int | None, found: Head | None, manifest: Callable[[int], Manifest]) -> Conflict:
    """Return the refusal of a move, with who won and what changed."""
    differs = None
    if expected is not None and found is not None:
        try:
            differs = change(manifest(expected), manifest(found.number))
        except StoreError:  # a broken manifest must not hide who won
            differs = None
    return Conflict(expected, found, differs)


def absent(store: Store, number: int, known: Iterable[int]) -> str:
    """Return what to say of a generation that is not there."""
    return f"{store}: there is no generation {number}; there is: {', '.join(map(str, sorted(known))) or 'none'}"


def ancestors(number: int, manifest: Callable[[int], Manifest]) -> tuple[int, ...]:
    """Return the parents of a generation, its own first, as far as manifests can be read."""
    parents: list[int] = []
    try:
        while (parent := manifest(number).parent) is not None and parent not in parents:
            parents.append(parent)
            number = parent
    except StoreError:  # a broken manifest ends the line
        pass
    return tuple(parents)


def now_utc() -> datetime:
    """Return the time of this machine."""
    return datetime.now(UTC)
