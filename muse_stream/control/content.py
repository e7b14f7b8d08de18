"""The files of one generation on a disk: written durably, hashed as they are written, verified as they are read.

Also the lock among processes, and the errors of a disk as `StoreError`.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from hashlib import sha256
from pathlib import Path

from muse_stream.control.records import Manifest
from muse_stream.errors import StoreError

BLOCK = 1 << 20


def damaged(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Return each file of a generation's folder that is not what was published, and why; in the order of names."""
    inside = [path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
    found = {path.relative_to(folder).as_posix() for path in inside}
    wrong = dict.fromkeys(found - set(manifest.files), "was not published with this generation")
    wrong |= dict.fromkeys(set(manifest.files) - found, "is missing")
    for name, expected in manifest.files.items():
        if name in found and ((folder / name).is_symlink() or hash_file(folder / name) != expected):
            wrong[name] = "not the content that was published (sha256 differs)"
    return dict(sorted(wrong.items()))


def verify_content(folder: Path, manifest: Manifest) -> None:
    """Raise StoreError naming the first file of the folder that is not what was published."""
    for name, why in damaged(folder, manifest).items():
        raise StoreError(f"{folder / name}: {why}")


def verified(data: bytes, expected: str, where: str) -> bytes:
    """Return the content of a file; raises StoreError where it is not what was published."""
    if sha256(data).hexdigest() != expected:
        raise StoreError(f"{where}: not the content that was published (sha256 differs)")
    return data


def hash_file(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def copy_file(source: Path, target: Path) -> str:
    """Copy one file durably and return its sha256; the hash is of the bytes written, not of a second reading."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = sha256()
    with source.open("rb") as read, target.open("xb") as write:
        while block := read.read(BLOCK):
            digest.update(block)
            write.write(block)
        write.flush()
        os.fsync(write.fileno())
    return digest.hexdigest()


def write_file(path: Path, content: bytes) -> str:
    """Write a file durably and return its sha256."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return sha256(content).hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in place of another: whoever reads finds one of the two, whatever happens.

    Who calls it holds a lock: what a process that died has left aside is written over.
    """
    aside = path.with_name(f".{path.name}.incoming")
    write_file(aside, content)
    aside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, wait_s: float) -> Iterator[None]:
    """Hold a lock among processes; raises StoreError when another has it for longer than `wait_s`."""
    deadline = time.monotonic() + wait_s
    with path.open("ab") as file:
        while True:
            try:
                flock(file, LOCK_EX | LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(f"{path}: held by another process for {wait_s} s") from None
                time.sleep(0.02)
        yield


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Raise what a disk refuses as StoreError, naming the file."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename or path}: {error.strerror or error}") from error
