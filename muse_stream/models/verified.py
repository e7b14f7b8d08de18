"""Reads a pinned file: the bytes that were hashed are the bytes that get loaded.

Takes a path, the sha256 its configuration promises and a size limit. The file is opened once and read once, into
memory; size, kind and hash are taken from that one open file, never from the path again, so nothing can be exchanged
between the check and the use. A symbolic link in the last place is refused: a link that points elsewhere tomorrow is
not a pinned artifact. Parent folders may be links, as volumes are.
"""

import hashlib
import os
import re
import stat
from pathlib import Path

from muse_stream.errors import ModelError

SHA256 = re.compile(r"[0-9a-f]{64}")
"""How a pin is written: 64 lower-case hex digits."""


def read_verified(path: Path, sha256: str, max_bytes: int) -> bytes:
    """Return the file's bytes if they are at most `max_bytes` long and hash to `sha256` (64 hex digits, any case).

    Raises ModelError when the file is missing, no regular file, a symbolic link, too large, or another file.
    """
    expected = sha256.lower()
    if not SHA256.fullmatch(expected):
        raise ModelError(f"{path}: sha256 must be 64 hex digits, not {sha256[:80]!r}")
    data = _read_once(path, max_bytes)
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise ModelError(f"{path}: sha256 is {actual}, the configuration pins {expected}: this is another file")
    return data


def _read_once(path: Path, max_bytes: int) -> bytes:
    # O_NONBLOCK: opening a FIFO for reading would otherwise wait for a writer forever; regular files ignore it.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if path.is_symlink():
            raise ModelError(f"{path}: is a symbolic link; name the file itself") from error
        raise ModelError(f"{path}: cannot be opened: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path}: is not a regular file")
        if status.st_size > max_bytes:
            raise ModelError(f"{path}: {status.st_size:,} bytes, the limit is {max_bytes:,} (limits.model_bytes)")
        return _read_all(descriptor, path, max_bytes)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, path: Path, max_bytes: int) -> bytes:
    # The file may grow while it is read, so the limit is held on what was read and not on what fstat said.
    chunks: list[bytes] = []
    size = 0
    while chunk := os.read(descriptor, 1 << 20):
        size += len(chunk)
        if size > max_bytes:
            raise ModelError(f"{path}: grew over the limit of {max_bytes:,} bytes while it was read")
        chunks.append(chunk)
    return b"".join(chunks)
