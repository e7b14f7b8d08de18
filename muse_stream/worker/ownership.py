"""Finds partitions that the group has given to nobody (docs/exactly-once.md, R17).

A group that shares partitions cooperatively moves one in two steps: its owner gives it up and joins again, and only
then it is assigned to another. An owner that is killed between the two is replaced by a process that takes its static
place without a rebalance, with the assignment from which the partition is missing already. Nobody joins again, so the
second step never comes: until the next rebalance, days later perhaps, the partition is with nobody.

Every owner commits its name beside the offset before it reads (R16). So a partition that bears a slot's name and is not
the slot's, although the group has not taken anything from it since it last assigned, is with nobody.
"""

import time
from collections.abc import Callable, Collection, Iterable

from muse_stream.kafka import SET, Ends, TopicPartitionKey

LOOKS = 2
"""In so many looks in a row, under the same assignment: a new owner signs within milliseconds."""
AGAIN_S, LONGEST_S = 60.0, 600.0
"""Joining again disturbs the group. Should it not help (an owner of an older release does not sign), it is tried less
and less often."""


class Ownership:
    """One slot's; `look` is called by a thread of the background, `unowned` by the worker."""

    def __init__(
        self,
        ends: Ends,
        instance: str,
        places: Callable[[], Iterable[TopicPartitionKey]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ends, self._instance, self._places, self._clock = ends, instance, places, clock
        self._held: frozenset[TopicPartitionKey] | None = None
        self._started: frozenset[TopicPartitionKey] = frozenset()
        """Those that the worker has committed where they start: of others a look tells nothing new."""
        self._seen: tuple[frozenset[TopicPartitionKey], frozenset[TopicPartitionKey], int] | None = None
        """What was held, which others bore our name, in how many looks."""
        self._due, self._wait_s = 0.0, AGAIN_S
        self._set: frozenset[TopicPartitionKey] = frozenset()
        self._gone: frozenset[TopicPartitionKey] = frozenset()

    def look(self) -> None:
        """Look once which partitions bear our name."""
        held, started = self._held, self._started
        if held is None:
            self._seen = None
            return
        committed = self._ends.committed(self._places())
        signed = {place: one.signature for place, one in committed.items() if one.signature is not None}
        strays = frozenset(place for place, one in signed.items() if one.owner == self._instance) - held
        if self._held is not held:  # what was started before may have to be started again
            started = frozenset()
        self._set = frozenset(place for place, one in signed.items() if one.mark == SET) & started
        self._gone = frozenset(place for place, one in committed.items() if one.offset is None) & started
        if not strays or self._held is not held:
            self._seen = None
        elif self._seen is not None and self._seen[:2] == (held, strays):
            self._seen = (held, strays, self._seen[2] + 1)
        else:
            self._seen = (held, strays, 1)

    def news(self, unknown: Collection[TopicPartitionKey]) -> frozenset[TopicPartitionKey]:
        """Return, once, partitions of this slot whose offsets somebody else has set.

        Or of which nothing is committed any more, though this slot committed where it started: with a topic that is
        deleted, its offsets go; it may have been made anew since. `unknown` are those that have not started yet.
        """
        held = self._held or frozenset()
        self._started = held.difference(unknown) if unknown else held
        if not self._set and not self._gone:
            return frozenset()
        found = (self._set | self._gone) - set(unknown)
        if found:
            self._set = self._gone = frozenset()
        return found & held

    def unowned(self, held: frozenset[TopicPartitionKey] | None) -> frozenset[TopicPartitionKey]:
        """Return partitions that are with nobody, once: the caller has the group assign again.

        `held` are the partitions of this slot, the very same object until the group assigns again; None until it has.
        """
        changed, self._held = held is not self._held, held
        seen = self._seen
        if changed or seen is None or seen[2] < LOOKS or self._clock() < self._due:
            return frozenset()
        self._seen, self._due = None, self._clock() + self._wait_s
        self._wait_s = min(2 * self._wait_s, LONGEST_S)
        return seen[1]
