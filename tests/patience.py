"""How long tests wait for something to come true before they give up.

Times in tests are written for an idle machine; a busy one is given this many times as long. Waiting longer costs
nothing where the condition comes, so no test fails because others use the machine.
"""

import time
from collections.abc import Callable

PATIENCE = 5


def until(holds: Callable[[], object], timeout_s: float, what: Callable[[], str] = lambda: "condition") -> None:
    """Poll a condition that nothing announces; AssertionError with `what()` when it does not come."""
    end = time.monotonic() + PATIENCE * timeout_s
    pause_s = 0.005
    while not holds():
        assert time.monotonic() < end, f"not within {PATIENCE * timeout_s} s: {what()}"
        time.sleep(pause_s)
        pause_s = min(1.2 * pause_s, 0.05)  # what takes long is asked for less often: other tests need the machine
