"""How long each stage of a batch takes."""

import time


class StageTimes:
    """A clock that is read at the end of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def done(self, stage: str) -> dict[str, float]:
        """Note that a stage has ended now, and return all so far."""
        now = time.monotonic()
        self.seconds[stage], self._last = now - self._last, now
        return self.seconds
