"""What goes back to the system: in processes of their own, since an allocator's settings are a process's."""

import os
import subprocess
import sys

import pytest

from muse_stream.runtime.memory import SET_ELSEWHERE, resident_bytes

MB = 1_000_000
GROWS = """
import os
import numpy as np
from muse_stream.runtime.memory import give_back_large_blocks, resident_bytes
{set}
before = resident_bytes(os.getpid())
del_first = np.ones(20_000_000, np.uint8)
del del_first  # from now on glibc takes blocks up to this size from its heap
blocks = [np.ones(5_000_000, np.uint8) for _ in range(8)]
kept = [bytearray(1_000) for _ in range(1_000)]  # lies above them
del blocks
print(resident_bytes(os.getpid()) - before)
"""


def _grows(set_option: str, **variables: str) -> int:
    clean = {name: value for name, value in os.environ.items() if name not in SET_ELSEWHERE}
    command = [sys.executable, "-c", GROWS.format(set=set_option)]
    return int(subprocess.run(command, env=clean | variables, capture_output=True, check=True, text=True).stdout)


def test_freed_arrays_go_back_to_the_system() -> None:
    if _grows("") < 20 * MB:
        pytest.skip("this C library gives large blocks back by itself")
    assert _grows("give_back_large_blocks()") < 10 * MB


def test_what_an_operator_has_set_holds() -> None:
    if _grows("") < 20 * MB:
        pytest.skip("this C library gives large blocks back by itself")
    assert _grows("give_back_large_blocks()", MALLOC_MMAP_THRESHOLD_=str(32 * MB)) > 20 * MB


def test_memory_of_a_process_that_has_ended_is_not_known() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert resident_bytes(ended.pid) is None
    assert (resident_bytes(os.getpid()) or 0) > MB
