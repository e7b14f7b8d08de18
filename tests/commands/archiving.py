"""A process that archives and is killed at one of its steps on disk."""

import os
import signal
from pathlib import Path
from typing import Any

from muse_stream import __main__ as muse_stream


def dies(step: str, *arguments: str) -> int:
    """Be `muse-stream`, killed before it brings something to disk, or renames something, for the `step`th time."""
    left, fsync, replace = [int(step)], os.fsync, Path.replace

    def counted() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def synced(descriptor: int) -> None:
        counted()
        fsync(descriptor)

    def renamed(self: Path, target: Any) -> Path:
        counted()
        return replace(self, target)

    os.fsync, Path.replace = synced, renamed  # type: ignore[assignment, method-assign]
    return muse_stream.main(arguments)
