"""Heartbeats in a folder of a store: a file for each worker, the only thing there that workers write.

Nothing is synced: what a power cut takes away is written again within seconds. A worker that may write removes what was
left behind long ago. Ages are by the modification times of the files and this machine's clock.
"""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from muse_stream.control.content import guarded
from muse_stream.control.heartbeats import GONE_S, LARGEST, Beat, NotAllowed

SWEEP_S = 60.0
MOST = 10_000


class HeartbeatFiles:
    """The heartbeats in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._swept = 0.0

    def write(self, name: str, data: bytes) -> None:
        """Keep a heartbeat; raises NotAllowed where this user may not write, StoreError for anything else."""
        aside = self._folder / f".{name}"
        with guarded(self._folder):
            try:
                try:
                    aside.write_bytes(data)
                except FileNotFoundError:
                    self._folder.mkdir(exist_ok=True)
                    aside.write_bytes(data)
                aside.replace(self._folder / name)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                    why = f"{self._folder}: {(error.strerror or str(error)).lower()}"
                    raise NotAllowed(f"{why}; workers write their heartbeats there, and nowhere else") from None
                raise
        if time.monotonic() - self._swept > SWEEP_S:
            self._swept = time.monotonic()
            self._sweep()

    def remove(self, name: str) -> None:
        """Take a heartbeat away."""
        with guarded(self._folder):
            (self._folder / name).unlink(missing_ok=True)

    def read(self) -> tuple[Beat, ...]:
        """Return the heartbeats that are not too old."""
        with guarded(self._folder):
            return tuple(self._found())

    def _found(self) -> Iterator[Beat]:
        now = time.time()
        for path in self._paths()[:MOST]:
            with suppress(OSError):  # gone meanwhile, or a link or a folder, which no worker makes
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                with open(descriptor, "rb") as file:
                    about = os.fstat(descriptor)
                    age_s = max(0.0, now - about.st_mtime)
                    if stat.S_ISREG(about.st_mode) and age_s <= GONE_S:
                        yield Beat(path.name, file.read(LARGEST + 1), age_s)

    def _paths(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if not path.name.startswith("."))

    def _sweep(self) -> None:
        for path in self._folder.iterdir():
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > GONE_S:
                    path.unlink()
