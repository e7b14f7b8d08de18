"""Which worker is replaced because of its memory: one at a time, a spare first, and never in a loop.

The runtime of models does not give all memory back (docs/worker-processes.md, "Memory"), so a process that has served
many generations may have to make room. A limit that is too small for any process would replace workers for ever: a
spare that has served nothing yet, and takes as much, is proof of that, and nobody is replaced. A slot that passes the
limit soon after its last replacement waits, ever longer.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from muse_stream.runtime.memory import resident_bytes
from muse_stream.telemetry import Log

LOOK_S = 1.0
SOON_S = 600.0
"""A slot that passes the limit sooner after its last replacement waits."""
LONGEST_WAIT_S = 6 * 3600.0


class Process(Protocol):
    """What is asked of a worker process."""

    @property
    def pid(self) -> int | None:
        """Its process id."""

    slot: int | None
    since: float
    """Since when it serves its slot (monotonic seconds)."""


class _Slot(Struct):
    """What became of a slot because of memory."""

    replaced: int = 0
    soon: int = 0
    """How often in a row it passed the limit soon after a replacement."""
    waits: bool = False
    """Whether it was said that it waits."""


class MemoryLimit:
    """For one supervisor; `most` bytes of resident memory for each worker."""

    def __init__(
        self,
        most: int,
        log: Log,
        *,
        resident: Callable[[int], int | None] = resident_bytes,
        ticks: Callable[[], float] = time.monotonic,
        soon_s: float = SOON_S,
    ) -> None:
        self.most, self._log, self._resident, self._ticks, self._soon_s = most, log, resident, ticks, soon_s
        self.wants_spare = False
        """Whether a worker waits for a spare to take its slot over."""
        self._slots: dict[int, _Slot] = {}
        self._next = 0.0
        self._too_small = False

    def replaced(self, slot: int) -> int:
        """Return how often a slot was replaced."""
        return self._slots[slot].replaced if slot in self._slots else 0

    def choose(self, workers: Sequence[Process], spare: Process | None) -> tuple[Process, int] | None:
        """Return the worker to replace now, and what it takes; None when there is none. Counts it."""
        now = self._ticks()
        if now < self._next:
            return None
        self._next = now + LOOK_S
        above = [(size, one) for one in workers if (size := self._size(one)) > self.most]
        above = [(size, one) for size, one in above if self._may(one, size, now)]
        self.wants_spare = bool(above)
        if not above or spare is None or self._is_too_small(spare):
            return None
        size, chosen = max(above, key=lambda one: one[0])
        slot = self._slots.setdefault(self._number(chosen), _Slot())
        slot.soon = slot.soon + 1 if slot.replaced and now - chosen.since < self._wait_s(slot) * 2 else 0
        slot.replaced += 1
        slot.waits = False
        self.wants_spare = False
        return chosen, size

    def _size(self, one: Process) -> int:
        return (self._resident(one.pid) if one.pid else None) or 0

    @staticmethod
    def _number(one: Process) -> int:
        assert one.slot is not None  # noqa: S101  # only those that serve a slot are weighed
        return one.slot

    def _wait_s(self, slot: _Slot) -> float:
        return float(min(self._soon_s * 2**slot.soon, LONGEST_WAIT_S))

    def _may(self, one: Process, size: int, now: float) -> bool:
        """Whether a worker may be replaced; the first time at once, again soon after that only later."""
        slot = self._slots.get(self._number(one))
        if slot is None or now - one.since >= self._wait_s(slot):
            return True
        if not slot.waits:
            slot.waits = True
            self._log.warning(
                "memory_limit_waits",
                slot=one.slot,
                pid=one.pid,
                resident_bytes=size,
                max_memory_bytes=self.most,
                again_in_s=round(self._wait_s(slot) - (now - one.since)),
                hint="it passed --max-memory soon after it was replaced: the limit may be too small",
            )
        return False

    def _is_too_small(self, spare: Process) -> bool:
        size = self._size(spare)
        too_small = size >= self.most
        if too_small and not self._too_small:
            self._log.error(
                "memory_limit_too_small",
                error=f"a process that has served nothing yet takes {size:,} bytes, and --max-memory is {self.most:,}: "
                "no worker is replaced",
                hint="raise --max-memory to at least twice that",
            )
        self._too_small = too_small
        return too_small
