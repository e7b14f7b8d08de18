"""Small records that end by themselves, as files: leases, and the last verdict of `watch`.

A record is a file with the seconds it is good for; its age is told by the file system's own clock, so that machines
that share a volume need not agree on the time. Who writes holds a lock; who reads needs no write permission.
"""

import json
import os
import time
from pathlib import Path

from muse_stream.control.content import guarded, locked, replace_file
from muse_stream.errors import StoreError

LOCK_WAIT_S = 5.0


class EphemeralFiles:
    """The records in a folder, which is made when the first is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        """Return what a record says; None where there is none, or its time is over."""
        with guarded(self._folder):
            return self._read(self._folder / f"{name}.json", time.time())

    def write(self, name: str, data: bytes | None, seconds: float, expected: bytes | None) -> bool:
        """Put a record (None: take it away) if it says what is expected; return whether it did."""
        path = self._folder / f"{name}.json"
        with guarded(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with locked(self._folder / "lock", LOCK_WAIT_S):
                os.utime(self._folder / "lock")
                if self._read(path, (self._folder / "lock").stat().st_mtime) != expected:
                    return False
                if data is None:
                    path.unlink(missing_ok=True)
                else:
                    replace_file(path, json.dumps({"seconds": seconds, "data": data.decode()}).encode())
                return True

    @staticmethod
    def _read(path: Path, now: float) -> bytes | None:
        try:
            with path.open("rb") as file:
                written, content = os.fstat(file.fileno()).st_mtime, file.read()
        except FileNotFoundError:
            return None
        try:
            found = json.loads(content)
            return str(found["data"]).encode() if now - written < float(found["seconds"]) else None
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{path}: not what this store writes; remove it") from None
