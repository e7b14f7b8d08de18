"""How much memory a process takes, as the kernel counts it, and that large blocks go back to it."""

import ctypes
import os

PAGE = os.sysconf("SC_PAGE_SIZE")
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Parameters of glibc's mallopt(3)."""
LARGE, KEPT = 256 << 10, 4 << 20
SET_ELSEWHERE = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process, pages it shares with its parent included; None when it has ended."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return None


def give_back_large_blocks() -> None:
    """Have every block of `LARGE` bytes returned to the system when it is freed; for this process and its forks.

    glibc raises that bound to the size of whatever was freed, up to 32 MB. What is fetched and the columns of batches
    then lie among small objects that stay, and memory grows for millions of events (docs/decisions/0070). Who has set
    glibc's own variables keeps what they say; other C libraries have no such call, and no need of it.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None and not any(name in os.environ for name in SET_ELSEWHERE):
        set_option(MMAP_THRESHOLD, LARGE)
        set_option(TRIM_THRESHOLD, KEPT)  # or each small batch would give back, and ask for, the end of the heap
