"""The generation store in a directory: no server needed.

`publish` puts a loaded document under the store's folder, complete or not at all:

    STORE/current                       what is current (control/records.py)
    STORE/lock                          flock, held while publishing and while moving `current`
    STORE/ephemeral/NAME.json           leases and verdicts, which end by themselves (control/ephemeral_files.py)
    STORE/durable/NAME.bin              what the role `calibrate` has counted (control/durable_files.py)
    STORE/generations/000002/content/   the document and every file it names, under the same relative names
    STORE/generations/000002/manifest.json
    STORE/heartbeats/                   what workers tell of themselves; nothing else is written by them

A generation is a folder of its own that leans on no other: a file that is damaged costs one generation, and the one
before it still serves.

Invariant: write aside, fsync, rename, fsync the folder; a crash at any moment leaves either the old state or the new
one. Readers take no lock and need no write permission. What does not match its hash is a `StoreError` naming the file.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from muse_stream.control import store
from muse_stream.control.content import (
    copy_file,
    guarded,
    locked,
    replace_file,
    sync_folder,
    verified,
    verify_content,
    write_file,
)
from muse_stream.control.durable_files import DurableFiles
from muse_stream.control.ephemeral_files import EphemeralFiles
from muse_stream.control.heartbeat_files import HeartbeatFiles
from muse_stream.control.heartbeats import Beat
from muse_stream.control.records import Head, Manifest, digest_of
from muse_stream.control.store import Entry, Generation, Note, Store
from muse_stream.errors import StoreError

if TYPE_CHECKING:
    from muse_stream.config import Loaded

MANIFEST = "manifest.json"
CONTENT = "content"
INCOMING = ".incoming-"
SETTLED_NS = 2_000_000_000
"""So old a file is, by its times, when it is taken to be what it was: file systems count in up to 2 s."""
LOCK_WAIT_S = 10.0  # a publisher copies megabytes, not gigabytes; who holds the lock longer hangs


class DirectoryStore(Store):
    """Generations in `path`, which is created by the first `publish`."""

    shared = False

    def __init__(self, path: Path | str, *, clock: Callable[[], datetime] = store.now_utc) -> None:
        self.path = Path(path)
        self._generations = self.path / "generations"
        self._clock = clock
        self._current = str(self.path / "current")
        self._known: tuple[tuple[int, int, int, int], Head] | None = None
        """What `current` said, and what the file was like: workers look four times a second, each of them."""
        self._ephemeral = EphemeralFiles(self.path / "ephemeral")
        self._durable = DurableFiles(self.path / "durable")
        self._heartbeats = HeartbeatFiles(self.path / "heartbeats")

    def __str__(self) -> str:
        return str(self.path)

    def publish(self, loaded: "Loaded", note: Note | None = None) -> int:
        """Copy the document and all its files; returns the new number, or the current one's if nothing differs.

        Does not make it current: `move_current` does.
        """
        from muse_stream.config import content_files  # noqa: PLC0415 - whoever only looks needs none of it

        note = note or Note()
        sources = content_files(loaded)
        document = loaded.source.path.name
        with guarded(self.path), self._locked():
            self._sweep()
            found = self.head()
            parent = found.number if found else None
            staging = self._generations / f"{INCOMING}{os.getpid()}"
            content = staging / CONTENT
            content.mkdir(parents=True)
            hashes = {name: copy_file(source, content / name) for name, source in sources.items()}
            store.refuse_changed(loaded, hashes)
            # the bytes that were checked, whatever the file says by now
            hashes[document] = write_file(content / document, loaded.source.data)
            digest = digest_of(document, hashes)
            last = max(self._numbers(), default=0)
            same = parent if store.has_content(self, parent, digest, note) else None
            if same is not None or store.taken_up(self, found, last, digest, note):
                shutil.rmtree(staging)
                return same or last
            number = 1 + max(last, parent or 0, store.remembered(self).number)
            manifest = Manifest(
                *(number, digest, self._clock(), parent, document, hashes),
                *(note.author, note.message, note.evidence, version("muse-stream")),
                lanes=loaded.document.lanes(),
            )
            write_file(staging / MANIFEST, store.signed_manifest(manifest, note).to_json())
            for folder in [staging, *(path for path in staging.rglob("*") if path.is_dir())]:
                sync_folder(folder)
            staging.rename(self._folder(number))
            sync_folder(self._generations)
            return number

    def head(self) -> Head | None:
        """Return what is current; None before the first `move_current`."""
        try:
            descriptor = os.open(self._current, os.O_RDONLY | os.O_CLOEXEC)  # opened, so that NFS asks its server
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{error.filename or self._current}: {error.strerror or error}") from error
        try:
            state = os.fstat(descriptor)
            known, stamp = self._known, (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
            return known[1] if known is not None and known[0] == stamp else self._read(descriptor, stamp)
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, stamp: tuple[int, int, int, int]) -> Head:
        with guarded(Path(self._current)), open(descriptor, "rb", closefd=False) as file:
            head = Head.read(file.read(), self._current)
        # one that was written a moment ago may be written again with the same times
        self._known = (stamp, head) if time.time_ns() - max(stamp[2:]) > SETTLED_NS else None
        return head

    def move_current(self, expected: int | None, new: int, note: Note | None = None) -> None:
        """Make `new` current if `expected` still is; raises `Conflict` and changes nothing otherwise."""
        note = note or Note()
        with guarded(self.path), self._locked():
            found = self.head()
            if (found.number if found else None) != expected:
                raise store.conflict(expected, found, self.manifest)
            known = store.remembered(self)
            head = store.next_head(found, self._former(found), self.manifest(new), note, self._clock(), known)
            replace_file(self.path / "current", store.signed_head(head, note).to_json())

    def open(self, number: int, sha256: str = "") -> Generation:
        """Verify all files of a generation; raises `StoreError` naming the first that is not what was published."""
        folder = self._folder(number) / CONTENT
        manifest = self.manifest(number)
        if sha256 and manifest.sha256 != sha256:
            raise StoreError(f"{self._folder(number)}: holds another generation {number} than the one that is current")
        with guarded(folder):
            verify_content(folder, manifest)
        document = folder / manifest.document
        return Generation(number, manifest.sha256, document, manifest.created, manifest.parent, manifest)

    def document(self, number: int) -> bytes:
        """Return the document of a generation, verified."""
        manifest = self.manifest(number)
        path = self._folder(number) / CONTENT / manifest.document
        with guarded(path):
            return verified(path.read_bytes(), manifest.files[manifest.document], str(path))

    def verify(self, number: int) -> None:
        """Verify all files of a generation, as `open` does."""
        self.open(number)

    def list(self) -> tuple[Entry, ...]:
        """Return all generations, oldest first; one whose manifest cannot be read has a `problem`."""
        return tuple(self._entry(number) for number in sorted(self._numbers()))

    def kept(self) -> Head | None:
        """Return None: the store itself is on a disk."""

    def keep(self, head: Head) -> None:
        """Do nothing: the store itself is on a disk."""

    def ephemeral(self, name: str) -> bytes | None:
        """Return a small record whose time is not over."""
        return self._ephemeral.read(name)

    def set_ephemeral(self, name: str, data: bytes | None, seconds: float, expected: bytes | None) -> bool:
        """Put a small record if it says what is expected."""
        return self._ephemeral.write(name, data, seconds, expected)

    def durable(self, name: str) -> bytes | None:
        """Return a record that stays."""
        return self._durable.read(name)

    def set_durable(self, name: str, data: bytes | None, expected: bytes | None) -> bool:
        """Put a record that stays if it says what is expected."""
        return self._durable.write(name, data, expected)

    def durables(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the records that stay and begin so."""
        return self._durable.names(prefix)

    def beat(self, name: str, data: bytes) -> None:
        """Keep a worker's heartbeat."""
        self._heartbeats.write(name, data)

    def forget(self, name: str) -> None:
        """Take a heartbeat away."""
        self._heartbeats.remove(name)

    def beats(self) -> tuple[Beat, ...]:
        """Return the heartbeats that there are."""
        return self._heartbeats.read()

    def wait(self, seconds: float) -> None:
        """Return after `seconds`: a directory gives no hint."""
        time.sleep(seconds)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def rollback(self, to: int | None = None) -> int:
        """Make `to` current again, by default the current one's parent; see `control.rollback`."""
        return store.rollback(self, to)

    def _entry(self, number: int) -> Entry:
        try:
            return Entry.of(self.manifest(number))
        except StoreError as error:
            return Entry(number, problem=str(error))

    def _folder(self, number: int) -> Path:
        return self._generations / f"{number:06d}"

    def _numbers(self) -> set[int]:
        if not self._generations.is_dir():
            return set()
        return {int(entry.name) for entry in self._generations.iterdir() if entry.name.isdigit()}

    def manifest(self, number: int) -> Manifest:
        """Return what a generation consists of; raises StoreError for one that is not there or damaged."""
        path = self._folder(number) / MANIFEST
        if not self._folder(number).is_dir():
            raise StoreError(store.absent(self, number, self._numbers()))
        with guarded(path):
            return Manifest.read(path.read_bytes(), number, str(path))

    def _sweep(self) -> None:
        """Remove what publishers that died left behind; the lock says that none is at work."""
        for left in self._generations.glob(f"{INCOMING}*"):
            shutil.rmtree(left)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / "lock", LOCK_WAIT_S):
            yield
