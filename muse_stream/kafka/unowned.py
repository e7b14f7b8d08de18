"""Finds partitions that the group has given to nobody (docs/exactly-once.md, R17).

A group that shares partitions cooperatively moves one in two steps: its owner gives it up and joins again, and only
then it is assigned to another. An owner that is killed between the two is replaced by a process that takes its static
place without a rebalance, with the assignment from which the partition is missing already. Nobody joins again, so the
second step never comes: until the next rebalance, days later perhaps, the partition is with nobody.

Every owner leaves its name where the partition's offset is kept before it reads. So a partition that bears a slot's
name and is not the slot's, although the group has not taken anything from it since it last assigned, is with nobody.
"""

import time
from collections.abc import Callable, Iterable

from muse_stream.kafka.partition import TopicPartitionKey

LOOKS = 2
"""In so many looks in a row, under the same assignment: a new owner signs within milliseconds."""
AGAIN_S, LONGEST_S = 60.0, 600.0
"""Joining again disturbs the group. Should it not help (an owner of an older release does not sign), it is tried less
and less often."""


class Unowned:
    """One slot's; `look` may be called by another thread than `found`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.held: frozenset[TopicPartitionKey] | None = None
        """What the slot had when `found` was called last."""
        self._seen: tuple[frozenset[TopicPartitionKey], frozenset[TopicPartitionKey], int] | None = None
        """What was held, which others bore our name, in how many looks."""
        self._due, self._wait_s = 0.0, AGAIN_S

    def look(self, held: frozenset[TopicPartitionKey] | None, ours: Iterable[TopicPartitionKey] = ()) -> None:
        """Take in which partitions bear our name; `held` is `self.held` as it was before that was asked."""
        strays = frozenset(ours) - held if held is not None else frozenset()
        if held is None or not strays or self.held is not held:
            self._seen = None
        elif self._seen is not None and self._seen[:2] == (held, strays):
            self._seen = (held, strays, self._seen[2] + 1)
        else:
            self._seen = (held, strays, 1)

    def found(self, held: frozenset[TopicPartitionKey] | None) -> frozenset[TopicPartitionKey]:
        """Return partitions that are with nobody, once: the caller has the group assign again.

        `held` are the partitions of this slot, the very same object until the group assigns again; None until it has.
        """
        changed, self.held = held is not self.held, held
        seen = self._seen
        if changed or seen is None or seen[2] < LOOKS or self._clock() < self._due:
            return frozenset()
        self._seen, self._due = None, self._clock() + self._wait_s
        self._wait_s = min(2 * self._wait_s, LONGEST_S)
        return seen[1]
