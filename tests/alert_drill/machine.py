"""What of this machine is used to make faults: a small file system, a group with little memory, a clock that lies."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
"""Where groups of version 1 limit memory."""
UNIFIED = Path("/sys/fs/cgroup")
LEFT = 4 << 20
PLENTY = 1 << 40
HUNGRY = f"open('/proc/self/oom_score_adj', 'w').write('-1000'); bytearray({4 * LEFT})[::4096]; b'x' * {4 * LEFT}"
"""Takes more than that, and is itself never killed for it."""
SOURCE = Path(__file__).with_name("clock.c")


class Unable(Exception):
    """This machine cannot make the fault; the text says what it lacks."""


def lives(pid: int) -> bool:
    """Whether a process is there that has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system in memory that holds so much, until the end. Raises Unable where none may be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="muse-drill-disk-"))
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Unable(f"no file system can be mounted (who is not root may not): {done.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
    finally:
        folder.rmdir()


def fill(folder: Path) -> Path:
    """Write a file until its file system is full."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    return ballast


class MemoryGroup:
    """A control group whose processes are killed by the kernel when together they take more than `limit`."""

    def __init__(self) -> None:
        self._old = MEMORY_GROUPS.is_dir()
        self._folder = (MEMORY_GROUPS if self._old else UNIFIED) / f"muse-drill-{os.getpid()}"
        try:
            self._folder.mkdir()
            self.limit(PLENTY)
        except OSError as error:
            raise Unable(f"no control group can be made that limits memory: {error}") from None

    @property
    def joining(self) -> list[str]:
        """The words before a command that have it run in the group."""
        return ["sh", "-c", f'echo $$ > {self._folder / "cgroup.procs"} && exec "$@"', "sh"]

    def taken(self) -> int:
        """Return how many bytes its processes take, less what the kernel would give back at once."""
        stat = dict(line.split() for line in (self._folder / "memory.stat").read_text().splitlines())
        return int(stat["total_rss" if self._old else "anon"])

    def limit(self, number: int) -> None:
        """Let them have no more than so many bytes; OSError where the kernel cannot take so much back."""
        file = self._folder / ("memory.limit_in_bytes" if self._old else "memory.max")
        file.write_text(str(number))

    def exhaust(self, victim: int) -> None:
        """Have a process of the group killed for want of memory: another one comes that takes what is left."""
        for pid in map(int, (self._folder / "cgroup.procs").read_text().split()):
            with suppress(OSError):  # it has ended meanwhile
                Path(f"/proc/{pid}/oom_score_adj").write_text("1000" if pid == victim else "-1000")
        with suppress(OSError):  # it is asked for again where what is taken has changed meanwhile
            self.limit(self.taken() + LEFT)
            with subprocess.Popen([*self.joining, sys.executable, "-I", "-S", "-c", HUNGRY]) as hungry:
                end = time.monotonic() + 60
                while lives(victim) and hungry.poll() is None and time.monotonic() < end:
                    time.sleep(0.01)
                hungry.kill()
                self.limit(PLENTY)  # or the next one that asks for memory waits, or is killed, as well

    def close(self) -> None:
        """Remove it; its processes must have ended."""
        with suppress(OSError):
            self._folder.rmdir()


class LyingClock:
    """A wall clock that processes with the variables of `environment` have, wrong by what `set` says; at first right.

    Raises Unable without a C compiler. (libfaketime 0.9.10, Debian's, has `time.sleep` of Python fail.)
    """

    def __init__(self, folder: Path) -> None:
        compiler, library = shutil.which("cc"), folder / "clock.so"
        if compiler is None:
            raise Unable("there is no C compiler (cc) to make a wrong clock with: apt-get install gcc libc6-dev")
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unable(f"no wrong clock can be compiled: {done.stderr.strip()}")
        self._file = folder / "clock"
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "DRILL_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        """Be wrong by so many seconds from now on."""
        with self._file.open("r+b", buffering=0) as file:  # mapped by the processes: it must stay the same file
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))
