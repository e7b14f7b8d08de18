"""The generation store in a directory: no server needed.

`publish` puts a loaded document under the store's folder, complete or not at all:

    STORE/current                       {"number": 2, "former": [1]}
    STORE/lock                          flock, held while publishing and while moving `current`
    STORE/generations/000002/content/   the document and every file it names, under the same relative names
    STORE/generations/000002/manifest.json    {number, sha256, created, parent, document, files: {name: sha256}}

Invariant: write aside, fsync, rename, fsync the folder; a crash at any moment leaves either the old state or the new
one. Readers take no lock and need no write permission. What does not match its hash is a `StoreError` naming the file.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from hashlib import sha256
from pathlib import Path
from typing import Any

from muse_stream.config import Loaded, referenced_files
from muse_stream.control import store
from muse_stream.control.store import Entry, Generation
from muse_stream.errors import StoreError

MANIFEST = "manifest.json"
CONTENT = "content"
INCOMING = ".incoming-"
FORMER = 100  # how many moves of `current` are remembered
LOCK_WAIT_S = 10.0  # a publisher copies megabytes, not gigabytes; who holds the lock longer hangs


def _now() -> datetime:
    return datetime.now(UTC)


class DirectoryStore:
    """Generations in `path`, which is created by the first `publish`."""

    def __init__(self, path: Path | str, *, clock: Callable[[], datetime] = _now) -> None:
        self.path = Path(path)
        self._generations = self.path / "generations"
        self._clock = clock

    def __str__(self) -> str:
        return str(self.path)

    def publish(self, loaded: Loaded) -> int:
        """Copy the document and all its files; returns the new number, or the current one's if nothing differs.

        Does not make it current: `move_current` does.
        """
        names = [path.as_posix() for path in referenced_files(loaded)]
        document = loaded.source.path.name
        with _guarded(self.path), self._locked():
            self._sweep()
            parent = self.current()
            staging = self._generations / f"{INCOMING}{os.getpid()}"
            content = staging / CONTENT
            content.mkdir(parents=True)
            hashes = {name: _copy(loaded.root / name, content / name) for name in names}
            # the bytes that were checked, whatever the file says by now
            hashes[document] = _write(content / document, loaded.source.data)
            digest = _digest(document, hashes)
            if parent is not None and self._manifest(parent)["sha256"] == digest:
                shutil.rmtree(staging)
                return parent
            number = max(self._numbers(), default=0) + 1
            manifest = {"number": number, "sha256": digest, "created": self._clock().isoformat(), "parent": parent}
            _write(
                staging / MANIFEST, json.dumps(manifest | {"document": document, "files": hashes}, indent=1).encode()
            )
            for folder in [staging, *(path for path in staging.rglob("*") if path.is_dir())]:
                _sync(folder)
            staging.rename(self._folder(number))
            _sync(self._generations)
            return number

    def current(self) -> int | None:
        """Return the current generation's number; None before the first `move_current`."""
        found = self._current()
        return found[0] if found else None

    def former(self) -> tuple[int, ...]:
        """Return the numbers that were current before and not rolled back, the latest first."""
        found = self._current()
        if found is None:
            return ()
        number, former = found
        return tuple(former) if former is not None else self._ancestors(number)

    def _current(self) -> tuple[int, list[int] | None] | None:
        """Return the current number and the former ones; those are None in a file of version 0.1."""
        path = self.path / "current"
        with _guarded(path):
            try:
                content = json.loads(path.read_bytes())
                number, former = content["number"], content.get("former")
            except FileNotFoundError:
                return None
            except (ValueError, KeyError, TypeError, AttributeError):
                raise StoreError(f"{path}: not what this store writes; expected a number") from None
        if not isinstance(former, list | None):
            raise StoreError(f"{path}: not what this store writes; `former` is a list of numbers")
        for one in [number, *(former or [])]:
            if not isinstance(one, int) or one < 1:
                raise StoreError(f"{path}: {one!r} is not the number of a generation")
        return number, former

    def _ancestors(self, number: int) -> tuple[int, ...]:
        parents: list[int] = []
        with suppress(StoreError):  # a broken manifest ends the line
            while (parent := self._manifest(number)["parent"]) is not None:
                parents.append(parent)
                number = parent
        return tuple(parents)

    def move_current(self, expected: int | None, new: int) -> None:
        """Make `new` current if `expected` still is; raises `StoreError` and changes nothing otherwise."""
        with _guarded(self.path), self._locked():
            found = self.current()
            if found != expected:
                raise StoreError(f"current is generation {found}, not {expected}: it was moved meanwhile, look again")
            self._manifest(new)
            before = [] if found is None else [found, *self.former()]
            if new in before:  # a way back: whatever has been current since was rolled back
                before = before[before.index(new) + 1 :]
            former = before[:FORMER]
            aside = self.path / f".current-{os.getpid()}"
            _write(aside, json.dumps({"number": new, "former": former}).encode())
            aside.replace(self.path / "current")
            _sync(self.path)

    def open(self, number: int) -> Generation:
        """Verify all files of a generation; raises `StoreError` naming the first that is not what was published."""
        folder = self._folder(number) / CONTENT
        manifest = self._manifest(number)
        with _guarded(folder):
            found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
            for name in sorted(found ^ set(manifest["files"])):
                what = "was not published with this generation" if name in found else "is missing"
                raise StoreError(f"{folder / name}: {what}")
            for name, expected in manifest["files"].items():
                if (folder / name).is_symlink() or _hash(folder / name) != expected:
                    raise StoreError(f"{folder / name}: not the content that was published (sha256 differs)")
        created = datetime.fromisoformat(manifest["created"])
        path = folder / manifest["document"]
        return Generation(number, manifest["sha256"], path, created, manifest["parent"])

    def list(self) -> tuple[Entry, ...]:
        """Return all generations, oldest first; one whose manifest cannot be read has a `problem`."""
        return tuple(self._entry(number) for number in sorted(self._numbers()))

    def rollback(self, to: int | None = None) -> int:
        """Make `to` current again, by default the current one's parent; see `control.rollback`."""
        return store.rollback(self, to)

    def _entry(self, number: int) -> Entry:
        try:
            seen = self._manifest(number)
        except StoreError as error:
            return Entry(number, problem=str(error))
        created = datetime.fromisoformat(seen["created"])
        return Entry(number, seen["sha256"], created, seen["parent"], len(seen["files"]))

    def _folder(self, number: int) -> Path:
        return self._generations / f"{number:06d}"

    def _numbers(self) -> set[int]:
        if not self._generations.is_dir():
            return set()
        return {int(entry.name) for entry in self._generations.iterdir() if entry.name.isdigit()}

    def _manifest(self, number: int) -> dict[str, Any]:
        path = self._folder(number) / MANIFEST
        if not self._folder(number).is_dir():
            known = ", ".join(map(str, sorted(self._numbers()))) or "none"
            raise StoreError(f"{self.path}: there is no generation {number}; there is: {known}")
        with _guarded(path):
            try:
                manifest: dict[str, Any] = json.loads(path.read_bytes())
                datetime.fromisoformat(manifest["created"])
                sound = manifest["sha256"] == _digest(manifest["document"], manifest["files"])
                sound = sound and manifest["number"] == number and "parent" in manifest
            except (ValueError, KeyError, TypeError, AttributeError):
                raise StoreError(f"{path}: torn or not a manifest") from None
        if not sound:
            raise StoreError(f"{path}: does not match its own hash or number")
        return manifest

    def _sweep(self) -> None:
        """Remove what publishers that died left behind; the lock says that none is at work."""
        for left in self._generations.glob(f"{INCOMING}*"):
            shutil.rmtree(left)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + LOCK_WAIT_S
        with (self.path / "lock").open("ab") as file:
            while True:
                try:
                    flock(file, LOCK_EX | LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StoreError(f"{self.path / 'lock'}: held by another process for {LOCK_WAIT_S} s") from None
                    time.sleep(0.02)
            yield


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename or path}: {error.strerror or error}") from error


def _digest(document: str, hashes: dict[str, str]) -> str:
    canonical = json.dumps({"document": document, "files": hashes}, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _copy(source: Path, target: Path) -> str:
    """Copy one file durably and return its sha256; the hash is of the bytes written, not of a second reading."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = sha256()
    with source.open("rb") as read, target.open("xb") as write:
        while block := read.read(1 << 20):
            digest.update(block)
            write.write(block)
        write.flush()
        os.fsync(write.fileno())
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> str:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return sha256(content).hexdigest()


def _sync(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
