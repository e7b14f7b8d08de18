"""One time budget for several calls: how many seconds are left for the next one.

Calls that share a `Deadline` cannot together take longer than its budget; waiting inside a rebalance callback or a
transaction always has one.
"""

import time
from collections.abc import Callable, Iterator


class Deadline:
    """A moment on the monotonic clock."""

    def __init__(self, budget_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + budget_s

    @property
    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - self._clock())

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.left_s == 0.0

    def tries(self, every_s: float = 0.0, sleep: Callable[[float], object] = time.sleep) -> Iterator[bool]:
        """Yield for each try whether it is the last, at least once; between two of them `every_s` pass.

        A loop over it that has not succeeded by the last try must raise or go on with what it has.
        """
        while not self.over:
            yield False
            sleep(min(every_s, self.left_s))
        yield True
