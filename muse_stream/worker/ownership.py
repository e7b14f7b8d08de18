"""What a slot learns from what is committed of its group's partitions (docs/exactly-once.md, R16 and R17).

Every owner commits its name beside the offset before it reads. So the slot finds partitions that are with nobody, and
those of its own whose offsets somebody else has set or which were made anew.
"""

import time
from collections.abc import Callable, Collection, Iterable

from muse_stream.kafka import SET, Ends, TopicPartitionKey, Unowned


class Ownership:
    """One slot's; `look` is called by a thread of the background, `unowned` by the worker."""

    def __init__(
        self,
        ends: Ends,
        instance: str,
        places: Callable[[], Iterable[TopicPartitionKey]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ends, self._instance, self._places = ends, instance, places
        self._unowned = Unowned(clock)
        self._started: frozenset[TopicPartitionKey] = frozenset()
        """Those that the worker has committed where they start: of others a look tells nothing new."""
        self._set: frozenset[TopicPartitionKey] = frozenset()
        self._gone: frozenset[TopicPartitionKey] = frozenset()

    def look(self) -> None:
        """Look once which partitions bear our name."""
        held, started = self._unowned.held, self._started
        if held is None:
            self._unowned.look(None)
            return
        committed = self._ends.committed(self._places())
        signed = {place: one.signature for place, one in committed.items() if one.signature is not None}
        if self._unowned.held is not held:  # what was started before may have to be started again
            started = frozenset()
        self._set = frozenset(place for place, one in signed.items() if one.mark == SET) & started
        self._gone = frozenset(place for place, one in committed.items() if one.offset is None) & started
        self._unowned.look(held, (place for place, one in signed.items() if one.owner == self._instance))

    def news(self, unknown: Collection[TopicPartitionKey]) -> frozenset[TopicPartitionKey]:
        """Return, once, partitions of this slot whose offsets somebody else has set.

        Or of which nothing is committed any more, though this slot committed where it started: with a topic that is
        deleted, its offsets go; it may have been made anew since. `unknown` are those that have not started yet.
        """
        held = self._unowned.held or frozenset()
        self._started = held.difference(unknown) if unknown else held
        if not self._set and not self._gone:
            return frozenset()
        found = (self._set | self._gone) - set(unknown)
        if found:
            self._set = self._gone = frozenset()
        return found & held

    def unowned(self, held: frozenset[TopicPartitionKey] | None) -> frozenset[TopicPartitionKey]:
        """Return partitions that are with nobody, once; `held` as `Unowned.found` has it."""
        return self._unowned.found(held)
