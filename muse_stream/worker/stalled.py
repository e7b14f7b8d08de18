"""When a consumer reads nothing of a partition though records wait there (docs/exactly-once.md, R25).

A topic that is deleted and made anew begins with leader epoch 0 again. A client that has seen a later epoch under this
name takes what it hears of the new topic's leaders for outdated, and asks the wrong brokers, or with an epoch that the
right one refuses: for ever, and without a word. Another client has no such memory.

So what another client can read and ours does not, although nothing that ours has fetched is left, is a reason to open
ours anew.
"""

import time
from collections.abc import Callable, Mapping

from muse_stream.kafka import TopicPartitionKey

STALLED_S = 10.0
"""Longer than a leader's move and the metadata that tell of it take."""
EMPTY_S = 5.0
"""So long after the first look the consumer must have been out of records: what it had fetched came before."""
AGAIN_S, LONGEST_S = 60.0, 600.0
"""Should it not help, it is tried less and less often."""


class Stalled:
    """One slot's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due, self._wait_s, self._last_s = 0.0, AGAIN_S, 0.0

    def found(self, unread: Mapping[TopicPartitionKey, float], empty_s: float) -> list[TopicPartitionKey]:
        """Return, once, the partitions for which the consumer must be opened anew.

        `unread` says since when another client reads what waits there; `empty_s` when nothing fetched was left.
        """
        now = self._clock()
        since = {place: max(at_s, self._last_s) for place, at_s in unread.items()}
        stalled = [p for p, at_s in since.items() if now - at_s >= STALLED_S and empty_s - at_s >= EMPTY_S]
        if not stalled or now < self._due:
            return []
        if now - self._last_s > LONGEST_S:
            self._wait_s = AGAIN_S
        self._last_s, self._due = now, now + self._wait_s
        self._wait_s = min(2 * self._wait_s, LONGEST_S)
        return sorted(stalled)
