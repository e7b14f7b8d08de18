"""Models that a document names by a URL: fetched when the document is read, and kept by their hash.

`uri: s3://models/card-v2.onnx` (gs, https, anything fsspec reads; the extra `remote`) is fetched once into a cache on
this machine and must have the sha256 that the document pins. A generation holds the file itself, in `fetched` under
its hash: workers fetch nothing and need no credentials but the store's. Credentials are those that fsspec's clients
find by themselves (environment, profile, instance), never part of the document. fsspec is imported here only.
"""

import hashlib
import logging
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from muse_stream import environment
from muse_stream.extras import missing_extra

FETCHED = "fetched"
"""Folder of a generation, and of the cache, with files by their hash."""
BLOCK = 1 << 20
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LOCAL = ("file", "local")
CLIENTS = ("fsspec", "gcsfs", "s3fs")
"""Loggers of fsspec and of its clients."""
NO_HANDLER = logging.NullHandler()
_IN_USE_S = 3600.0


class NotFetched(Exception):
    """A file that could not be fetched; `hint` says what would be right."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def is_remote(uri: str) -> bool:
    """Whether `uri` is a URL, and no path."""
    return _URL.match(uri) is not None


def fetched_path(root: Path, sha256: str) -> Path:
    """Return where a fetched file is: in the generation whose folder `root` is, else in this machine's cache."""
    inside = root / FETCHED / sha256
    return inside if inside.is_file() else environment.cache_dir() / FETCHED / sha256


def fetch(root: Path, uri: str, sha256: str, max_bytes: int) -> Path:
    """Return the path of a remote file, fetched unless it is here. Raises NotFetched."""
    path = fetched_path(root, sha256)
    if path.is_relative_to(root / FETCHED):
        return path  # of a generation: verified when that was opened
    if path.is_file() and not path.is_symlink() and _hash(path) == sha256:
        os.utime(path)
        return path
    scheme = uri.partition("://")[0].lower()
    if scheme in _LOCAL or "::" in uri:
        raise NotFetched(
            f"'{uri}' is not fetched", "give a path inside the document's folder, or a URL such as s3:// or https://"
        )
    aside = path.with_name(f".incoming-{os.getpid()}-{sha256}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = _download(uri, aside, max_bytes)
        if found != sha256:
            raise NotFetched(
                f"'{uri}' is another file than the one pinned: its sha256 is {found[:12]}...",
                "put back the file that was pinned; for a retrained model pin the new file",
            )
        aside.replace(path)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
    _bound(path)
    return path


def _download(uri: str, target: Path, max_bytes: int) -> str:
    """Write what stands at `uri` to a file and return its sha256."""
    for client in CLIENTS:  # Python prints what nobody handles, tracebacks too: what is wrong is raised as well
        logging.getLogger(client).addHandler(NO_HANDLER)
    try:
        import fsspec  # noqa: PLC0415 - an extra

        digest, size = hashlib.sha256(), 0
        with fsspec.open(uri, "rb") as source, target.open("wb") as file:
            while block := source.read(BLOCK):
                size += len(block)
                if size > max_bytes:
                    raise NotFetched(f"'{uri}' has more than {max_bytes:,} bytes", "raise limits.model_bytes")
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except NotFetched:
        raise
    except ModuleNotFoundError as error:
        raise NotFetched(f"'{uri}' cannot be fetched", str(missing_extra(error) or error)) from error
    except Exception as error:  # every kind of storage has errors of its own
        why = _reason(error)
        hint = (
            "pip install 'muse-stream[remote]'"
            if isinstance(error, ImportError)
            else "see that it is there and may be read"
        )
        raise NotFetched(f"'{uri}' cannot be fetched: {type(error).__name__}: {why}", hint) from error
    return digest.hexdigest()


def _reason(error: BaseException) -> str:
    """Return what an error says, and what lies behind it: fsspec calls a refused certificate a file not found."""
    first = error
    while (behind := first.__cause__ or first.__context__) is not None:
        first = behind
    said = dict.fromkeys(" ".join(str(one).split())[:200] or type(one).__name__ for one in (error, first))
    return "; ".join(said)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bound(newest: Path) -> None:
    """Remove what was used longest ago until the cache is within its bound."""
    with suppress(OSError):
        files = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in newest.parent.iterdir())
        size = sum(one[1] for one in files)
        for used, bytes, file in files:
            if size <= environment.cache_bytes() or file == newest or time.time() - used < _IN_USE_S:
                continue
            file.unlink()
            size -= bytes
