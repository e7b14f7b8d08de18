"""The copy of a store's generations on this machine's disk: what a worker restarts from when the store is away.

    CACHE/stores/ID/head.json                     what was current when the store was last seen
    CACHE/stores/ID/files/SHA256                  each file once, whatever generations use it
    CACHE/stores/ID/generations/000041-1f0c.../   manifest.json and content/, linked to the files

CACHE is MUSE_CACHE_DIR, ID stands for the store's address. All workers of a machine share it, under a lock. Whatever is
given out was verified against its hashes; what is damaged is fetched again. It is bounded (MUSE_CACHE_MAX_MB): what was
used longest ago goes first, and never what is current, was current before it, or was used a moment ago.
"""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from muse_stream import environment
from muse_stream.control.content import (
    damaged,
    guarded,
    hash_file,
    locked,
    replace_file,
    sync_folder,
    write_file,
)
from muse_stream.control.records import Head, Manifest
from muse_stream.errors import StoreError

LOCK_WAIT_S = 60.0  # another worker of this machine fetches what this one wants as well
IN_USE_S = 600.0
"""How long what was opened is left alone: a worker may be loading it."""
KEPT_FORMER = 1

Fetch = Callable[[str, Path], None]
"""Writes the file with this sha256 to a path."""


class LocalCopy:
    """What this machine keeps of the store with this address."""

    def __init__(self, address: str, root: Path | None = None, *, max_bytes: int | None = None) -> None:
        identity = sha256(address.encode()).hexdigest()[:16]
        self.path = (root or environment.cache_dir()) / "stores" / identity
        self._max_bytes = max_bytes if max_bytes is not None else environment.cache_bytes()
        self._files = self.path / "files"
        self._generations = self.path / "generations"

    def head(self) -> Head | None:
        """Return what was current when the store was last seen; None where it never was, or nobody can tell."""
        path = self.path / "head.json"
        try:
            return Head.read(path.read_bytes(), str(path))
        except (OSError, StoreError):
            return None

    def keep(self, head: Head) -> None:
        """Remember what is current, unless another worker has seen something later."""
        with guarded(self.path):
            if head == self.head():
                return
            self._make()
            with locked(self.path / "lock", LOCK_WAIT_S):
                known = self.head()
                if known is None or known.sequence < head.sequence:
                    replace_file(self.path / "head.json", head.to_json())

    def find(self, number: int, sha256: str = "") -> Manifest | None:
        """Return the manifest of a generation that is here; the one used last where several bear the number."""
        found: list[tuple[float, Manifest]] = []
        for folder in self._generations.glob(f"{number:06d}-*"):
            path = folder / "manifest.json"
            with suppress(OSError, StoreError):
                manifest = Manifest.read(path.read_bytes(), number, str(path))
                if not sha256 or manifest.sha256 == sha256:
                    found.append((path.stat().st_mtime, manifest))
        return max(found, key=lambda one: one[0])[1] if found else None

    def complete(self, manifest: Manifest, fetch: Fetch) -> Path:
        """Return the path of a generation's document; fetches what is not here, or is not what was published.

        Raises StoreError when that fails; nothing half-done is left then.
        """
        folder = self._folder(manifest)
        with guarded(self.path):
            self._make()
            with locked(self.path / "lock", LOCK_WAIT_S):
                if not folder.is_dir():
                    self._assemble(folder, manifest, fetch)
                else:
                    self._mend(folder, manifest, fetch)
                os.utime(folder / "manifest.json")
                self._evict(folder)
        return folder / "content" / manifest.document

    def _make(self) -> None:
        try:
            for folder in (self._files, self._generations):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = error.strerror or str(error)
            raise StoreError(f"{self.path}: {why}; MUSE_CACHE_DIR names a folder that may be written") from error

    def _folder(self, manifest: Manifest) -> Path:
        return self._generations / f"{manifest.number:06d}-{manifest.sha256[:16]}"

    def _assemble(self, folder: Path, manifest: Manifest, fetch: Fetch) -> None:
        staging = self._generations / f".incoming-{folder.name}"
        shutil.rmtree(staging, ignore_errors=True)  # of a process that died; the lock says that none is at work
        try:
            for name, digest in manifest.files.items():
                self._place(staging / "content" / name, digest, fetch)
            write_file(staging / "manifest.json", manifest.to_json())
            for one in [staging, *(path for path in staging.rglob("*") if path.is_dir())]:
                sync_folder(one)
            staging.rename(folder)
            sync_folder(self._generations)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _mend(self, folder: Path, manifest: Manifest, fetch: Fetch) -> None:
        content = folder / "content"
        for name in damaged(content, manifest):
            if name in manifest.files:
                self._place(content / name, manifest.files[name], fetch)
            else:
                (content / name).unlink()
        replace_file(folder / "manifest.json", manifest.to_json())

    def _place(self, target: Path, digest: str, fetch: Fetch) -> None:
        """Put a verified file in its place."""
        kept = self._files / digest
        if not (kept.is_file() and not kept.is_symlink() and hash_file(kept) == digest):
            aside = self._files / f".incoming-{digest}"
            aside.unlink(missing_ok=True)
            try:
                fetch(digest, aside)
                if hash_file(aside) != digest:
                    raise StoreError(f"{digest}: fetched other content than its sha256 says")
                aside.replace(kept)
            finally:
                aside.unlink(missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        link = target.with_name(f".link-{target.name}")
        link.unlink(missing_ok=True)
        try:
            os.link(kept, link)
        except OSError:  # a file system without links
            shutil.copyfile(kept, link)
        link.replace(target)

    def _evict(self, used: Path) -> None:
        """Remove what was used longest ago until the bound is kept."""
        for left in (*self._generations.glob(".incoming-*"), *self._files.glob(".incoming-*")):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        size = sum(file.stat().st_size for file in self._files.iterdir())
        for _, folder in sorted((self._used(one), one) for one in self._generations.iterdir() if self._free(one, used)):
            if size <= self._max_bytes:
                return
            shutil.rmtree(folder)
            for file in list(self._files.iterdir()):
                if file.stat().st_nlink == 1:  # no generation has it any more
                    size -= file.stat().st_size
                    file.unlink()

    def _free(self, folder: Path, used: Path) -> bool:
        head = self.head()
        needed = {head.number, *(head.former or ())[:KEPT_FORMER]} if head else set()
        if folder == used or time.time() - self._used(folder) < IN_USE_S:
            return False
        return not any(folder.name.startswith(f"{number:06d}-") for number in needed)

    @staticmethod
    def _used(folder: Path) -> float:
        try:
            return (folder / "manifest.json").stat().st_mtime
        except OSError:
            return 0.0
