"""Records that stay, as files: replaced in one step, and only by who knows what they say.

Who writes holds a lock, and has it on disk before it is told; who reads needs no write permission.
"""

from pathlib import Path

from muse_stream.control.content import guarded, locked, replace_file, sync_folder

LOCK_WAIT_S = 10.0
SUFFIX = ".bin"


class DurableFiles:
    """The records in a folder, which is made when the first is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        """Return what a record says; None where there is none."""
        with guarded(self._folder):
            try:
                return (self._folder / f"{name}{SUFFIX}").read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes | None, expected: bytes | None) -> bool:
        """Put a record (None: take it away) if it says what is expected; return whether it did."""
        path = self._folder / f"{name}{SUFFIX}"
        with guarded(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with locked(self._folder / "lock", LOCK_WAIT_S):
                if self.read(name) != expected:
                    return False
                if data is None:
                    path.unlink(missing_ok=True)
                    sync_folder(self._folder)
                else:
                    replace_file(path, data)
                return True

    def names(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the records that begin so, sorted."""
        with guarded(self._folder):
            if not self._folder.is_dir():
                return ()
            found = (path.name.removesuffix(SUFFIX) for path in self._folder.glob(f"*{SUFFIX}"))
            return tuple(sorted(name for name in found if name.startswith(prefix) and not name.startswith(".")))
