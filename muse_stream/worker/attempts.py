"""Numbers for transaction attempts that say whose transaction a record belongs to.

The owner's name (group and slot) and which of its producers writes give a number below 2^63 that stands in every
record, unique and ascending for its owner; and there is the way back from it. Kafka tells a reader neither the producer
nor the transactional id of a record, and who ends hanging transactions (`recovery`) must know which of the records
behind the last stable offset are its own, and of which producer.

    22 bits: hash of the owner | 40 bits: milliseconds since 2026, at least one more than the last | 1 bit: the producer
"""

import hashlib
import time
from collections.abc import Callable

OWNER_BITS, TIME_BITS = 22, 40
EPOCH_MS = 1_767_225_600_000  # 2026-01-01


def owner_tag(group: str, instance: str) -> int:
    """Return the hash of a slot, named by its group and its place in it, that its attempts carry."""
    digest = hashlib.blake2b(f"{group}/{instance}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> (32 - OWNER_BITS)


def owner_of(attempt: int) -> int:
    """Return the owner's hash."""
    return attempt >> (TIME_BITS + 1)


def half_of(attempt: int) -> int:
    """Return which of the two producers wrote it."""
    return attempt & 1


class Attempts:
    """The numbers of one owner."""

    def __init__(self, group: str, instance: str, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.tag = owner_tag(group, instance)
        self._clock_ns = clock_ns
        self._last = 0

    @property
    def last(self) -> int:
        """The greatest number that was given out, or could have been by a predecessor; never given out again."""
        self._last = self._now()
        return self._number(self._last, 1)

    def next(self, half: int) -> int:
        """Return the number of the next attempt, to be written by this producer (0 or 1)."""
        self._last = max(self._last + 1, self._now())
        return self._number(self._last, half)

    def _now(self) -> int:
        return max(self._last, self._clock_ns() // 1_000_000 - EPOCH_MS)

    def _number(self, count: int, half: int) -> int:
        return (self.tag << TIME_BITS | count & ((1 << TIME_BITS) - 1)) << 1 | half
