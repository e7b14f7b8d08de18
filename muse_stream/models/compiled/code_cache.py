"""Keeps optimised object code between processes, in the user's cache folder.

Code that is loaded from a file runs: whoever can write the file can do what this process can. So the folder and its
files must belong to this process's user and be writable by nobody else, and so must the folders above (root's, or
sticky as /tmp is, are as good); else the cache is not used. A file holds the hash of what it was made of and of its
code, so that code of another text, compiler or processor, or a damaged one, is not loaded.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER = "compiled"
FORMAT = "1"
MOST_FILES = 200
LEFT = 16 << 20
"""Bytes that are left free: a folder in memory (/dev/shm) is used by others, too, whom a full one would kill."""
OTHERS = stat.S_IWGRP | stat.S_IWOTH


class CodeCache:
    """Object code by the text it was compiled from and what compiled it. Never raises for what is in the folder."""

    def __init__(self, root: Path, compiler: str) -> None:
        self._folder = root / FOLDER
        self._compiler = compiler

    def unusable(self) -> str:
        """Return why nothing may be loaded from the folder; empty where it may, or where it is not there."""
        try:
            return _unsafe(self._folder)
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{self._folder}: {error.strerror}"

    def find(self, text: str) -> bytes | None:
        """Return the code that was made of a text here; None where there is none that may be loaded."""
        if self.unusable():
            return None
        key = self._key(text)
        try:
            data = _read_own(self._folder / key)
        except OSError:
            return None
        return data[32:] if data[:32] == _seal(key, data[32:]) else None

    def keep(self, text: str, code: bytes) -> None:
        """Keep the code of a text, and forget the oldest where there is too much."""
        key = self._key(text)
        with suppress(OSError):  # a full disk costs the next process its optimisation, nothing else
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.unusable() or shutil.disk_usage(self._folder).free < LEFT + len(code):
                return
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as file:
                file.write(_seal(key, code) + code)
            os.replace(file.name, self._folder / key)
            self._forget()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one process at a time compile: the others find its code afterwards."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            yield
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _key(self, text: str) -> str:
        return hashlib.sha256(f"{FORMAT}\n{self._compiler}\n{text}".encode()).hexdigest()

    def _forget(self) -> None:
        files = sorted(self._folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in files[MOST_FILES:]:
            file.unlink()


def _seal(key: str, code: bytes) -> bytes:
    return hashlib.sha256(key.encode() + code).digest()


def _read_own(path: Path) -> bytes:
    """Return the bytes of a file of our own; raises OSError for any other."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & OTHERS:
            raise PermissionError(f"{path} is not this user's own")
        return file.read()


def _unsafe(folder: Path) -> str:
    """Return why somebody else might put code into a folder; empty where nobody can."""
    own = folder.lstat()
    if not stat.S_ISDIR(own.st_mode) or own.st_uid != os.geteuid() or own.st_mode & OTHERS:
        return f"{folder} is not a folder that belongs to this user and that nobody else may write"
    for above in folder.resolve().parents:
        found = above.stat()
        open_to_all = found.st_mode & OTHERS and not found.st_mode & stat.S_ISVTX
        if open_to_all or found.st_uid not in (0, os.geteuid()):
            return f"{folder}: others may write {above}, and so exchange it"
    return ""
