"""What a worker takes for current: what its store says, but never an older decision than one it has seen.

A store can be away, empty, full of garbage, or back from an older backup. None of these is an operator's decision, so
none changes what is served: `head` raises `StoreError` then, and whoever asks goes on with what it has. An operator's
decision always has a greater sequence number than every one before it (control/records.py), a rollback too, also in a
store that has lost its memory: so a publish or a rollback is all that is needed after such an accident.

What was seen last is remembered over restarts where the store keeps a copy on this machine. Then a start needs no store
at all: `first` says what to serve, and why it is not known from the store.

With a file of public keys (control/signatures.py), a decision that none of them has signed is none either, nor is a
generation. The file is read at every look, so that keys can be added and taken away meanwhile.
"""

from dataclasses import replace
from pathlib import Path

from muse_stream.control.content import copy_file
from muse_stream.control.local_copy import LocalCopy
from muse_stream.control.records import Head, Manifest
from muse_stream.control.signatures import TrustedKeys
from muse_stream.control.store import Generation, Store, ancestors
from muse_stream.errors import StoreError


class Follower:
    """Follows one store for one worker process; not safe for several threads at once."""

    def __init__(self, store: Store, trusted: Path | None = None) -> None:
        self._store, self._trusted = store, trusted
        self._seen = store.kept()
        self._told: Head | None = None
        """What the store said last; it is believed when its generation has been opened."""

    def __str__(self) -> str:
        return str(self._store)

    @property
    def sequence(self) -> int:
        """Of the last move that was followed; 0 before the first. Told in heartbeats, for a store that forgets."""
        return self._seen.sequence if self._seen else 0

    def head(self) -> Head | None:
        """Return what is current, None before the first; raises StoreError where that is no newer decision."""
        found, seen = self._store.head(), self._seen
        if found is None:
            if seen is not None:
                raise StoreError(
                    f"{self._store}: is empty, and generation {seen.number} was current: it was cleared, or another "
                    "store is at this address; publish there again"
                )
            return None
        if self._trusted is not None:
            self._check(found)
        if seen is not None and found.sequence:
            _refuse_older(self._store, found, seen)
        if seen is not None and found.same(seen):
            self._see(found)
        self._told = found
        return found

    def _check(self, head: Head) -> None:
        if self._trusted is not None:
            where = f"{self._store}: that generation {head.number} is current"
            TrustedKeys.read(self._trusted).check(head.to_json(), "current", where)

    def _see(self, head: Head) -> None:
        """Remember a decision; only one whose generation could be opened, so that garbage outlives nothing."""
        if head != self._seen:
            self._store.keep(head)
            self._seen = head

    def first(self) -> tuple[Head, str]:
        """Return what to start with, and why it is not what the store says; that is empty when it is.

        Raises StoreError when neither the store nor the copy on this machine can tell.
        """
        try:
            found = self.head()
        except StoreError as error:
            if self._seen is None:
                raise StoreError(f"{error}; and this machine has no copy of it to start from") from None
            self._check(self._seen)
            return self._seen, str(error)
        if found is None:
            raise StoreError(f"{self._store} holds no generation; publish one there with `muse-stream publish`")
        return found, ""

    def remembered(self) -> Head | None:
        """Return the latest decision that a process of this machine has followed; None where no copy is kept here."""
        kept = self._store.kept()
        if kept is None:
            return None
        self._check(kept)
        if self._seen is None or kept.sequence > self._seen.sequence:
            self._seen = kept
        return self._seen

    def candidates(self, head: Head) -> tuple[tuple[int, str], ...]:
        """Return what may be served at a start, best first: number, and hash where it is known.

        Not the highest number below: that may be one that was rolled back because it was bad.
        """
        former = ancestors(head.number, self._store.manifest) if head.former is None else head.former
        return ((head.number, head.sha256), *((number, "") for number in former))

    def open(self, number: int, sha256: str = "") -> Generation:
        """Open a generation; see `Store.open`. Where keys are trusted, a copy that nobody else writes."""
        generation = self._store.open(number, sha256)
        if self._trusted is not None:
            generation = self._signed(generation, TrustedKeys.read(self._trusted))
        told = self._told
        if told is not None and told.number == number and told.sha256 in ("", generation.sha256):
            self._see(told)
        return generation

    def _signed(self, generation: Generation, keys: TrustedKeys) -> Generation:
        manifest = generation.manifest
        if manifest is None:
            raise StoreError(f"{self._store}: generation {generation.number} has no manifest that could be signed")
        keys.check(manifest.to_json(), "generation", f"{self._store}: generation {generation.number}")
        if self._store.shared:  # it is a copy already
            return generation
        return replace(generation, path=_copied(str(Path(str(self._store)).resolve()), generation, manifest))

    def wait(self, seconds: float) -> None:
        """Wait as the store does."""
        self._store.wait(seconds)


def _copied(store: str, generation: Generation, manifest: Manifest) -> Path:
    """Return the document of a copy on this machine: whoever may write to the store may write between two readings."""
    folder = generation.path
    for _part in Path(manifest.document).parts:
        folder = folder.parent
    names = {sha256: name for name, sha256 in manifest.files.items()}

    def fetch(sha256: str, target: Path) -> None:
        copy_file(folder / names[sha256], target)

    return LocalCopy(store).complete(manifest, fetch)


def _refuse_older(store: Store, found: Head, seen: Head) -> None:
    if found.sequence < seen.sequence:
        raise StoreError(
            f"{store}: says that generation {found.number} is current, which is older than what was current here "
            f"(generation {seen.number}): it was restored from a backup, or fell back to a replica that lagged; "
            "publish, or roll back, to decide what is served"
        )
    if found.sequence == seen.sequence and not found.same(seen):
        raise StoreError(
            f"{store}: says that generation {found.number} is current, and said {seen.number} of the same moment; "
            "publish, or roll back, to decide what is served"
        )
