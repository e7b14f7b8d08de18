"""What other groups of the same fleet have committed of partitions that may be ours (docs/exactly-once.md, R23, R24).

A tenant that moves to another lane is read by another group. Its old owner notes that it has let go; but one that does
not see the configuration any more goes on with what it knows, and no broker refuses it: groups know nothing of each
other. So owners keep looking whether another group works on what they hold, and one of the two stops: the one that
serves the older generation, which stands beside every offset; of the same generation, the one whose group is named
later. Both know the same, so it is one of them and never both. Where a generation is not known (a worker of an older
release) the one that is behind stops.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from confluent_kafka import Consumer, KafkaException
from msgspec import Struct

from muse_stream.kafka.errors import typed
from muse_stream.kafka.offsets import CommittedOffset, committed_offsets
from muse_stream.kafka.partition import TopicPartitionKey
from muse_stream.kafka.signature import RELEASED
from muse_stream.telemetry import Log

ASK_S = 3.0
LOOK_EVERY_S = 2.0
"""One other group a look, in turn: opening a client costs 20 ms of CPU."""

OpenReader = Callable[[str, bool], Consumer]
"""`(group, committed)`: open a consumer that never joins, and reads committed records only, or all."""


class Carried(Struct, frozen=True):
    """The greatest offset that another group has committed."""

    offset: int
    group: str
    released: bool
    """Whether that group has let the partition go."""


class OtherGroups:
    """For one slot. `others` are the groups of the fleet that read, or may have read, the same partitions."""

    def __init__(
        self,
        open_reader: OpenReader,
        group: str,
        others: Callable[[], Iterable[str]],
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_reader, self._group, self._others, self._log, self._clock = open_reader, group, others, log, clock
        self._said: dict[str, str] = {}
        self._lock = threading.Lock()
        self._looking, self._closing, self._due, self._turn = False, False, 0.0, 0
        self._before: dict[str, dict[TopicPartitionKey, int]] = {}
        """Group -> what it had committed at the last look."""
        self._found: dict[TopicPartitionKey, str] = {}

    def overtaken(self, committed: Mapping[TopicPartitionKey, CommittedOffset]) -> frozenset[TopicPartitionKey]:
        """Return those of which another group of the fleet has committed more: our offsets are of an earlier time."""
        own = {place: one.offset for place, one in committed.items() if one.offset is not None}
        if not own or not self._groups():
            return frozenset()
        return frozenset(place for place, one in self.carried(own).items() if one.offset > own[place])

    def carried(self, places: Collection[TopicPartitionKey]) -> dict[TopicPartitionKey, Carried]:
        """Return the greatest offset that any of the others has committed of each of these."""
        found: dict[TopicPartitionKey, Carried] = {}
        for group in self._groups():
            for place, one in self._committed(group, places, stable=True).items():
                if one.offset is not None and (place not in found or one.offset > found[place].offset):
                    released = one.signature is not None and one.signature.mark == RELEASED
                    found[place] = Carried(one.offset, group, released)
        return found

    def working(
        self, held: Collection[TopicPartitionKey], generation: int | None = None
    ) -> dict[TopicPartitionKey, str]:
        """Return, once, which of our partitions are another group's to answer, and which; looks from time to time.

        `generation` is what we serve; without it, it is what we have committed with.
        """
        with self._lock:
            found, self._found = self._found, {}
            due = held and not self._looking and not self._closing and self._clock() >= self._due
            if due and self._groups():  # a fleet of one lane has no others: no thread every two seconds for that
                self._looking = True
                places = list(held)
                threading.Thread(target=self._look, args=(places, generation), name="other-groups", daemon=True).start()
        return {place: group for place, group in found.items() if place in held}

    def close(self) -> None:
        """Look no more; does not wait for a look under way."""
        with self._lock:
            self._closing = True

    def _look(self, places: list[TopicPartitionKey], generation: int | None) -> None:
        found: dict[TopicPartitionKey, str] = {}
        try:
            if groups := self._groups():
                self._turn += 1
                found = self._moving(groups[self._turn % len(groups)], places, generation)
        finally:
            with self._lock:
                self._found |= found
                self._looking, self._due = False, self._clock() + LOOK_EVERY_S

    def _moving(
        self, group: str, places: list[TopicPartitionKey], generation: int | None
    ) -> dict[TopicPartitionKey, str]:
        """Return what a group has gone further in since the last look, and is to answer instead of us."""
        # an offset that only stands there is of the time before it let go, or before ours was set back
        seen = {
            place: one
            for place, one in self._committed(group, places, stable=False).items()
            if one.offset is not None and (one.signature is None or not one.signature.mark)
        }
        now = {place: one.offset or 0 for place, one in seen.items()}
        before, self._before[group] = self._before.get(group, {}), now
        moved = {place for place, offset in now.items() if offset > before.get(place, offset)}
        if not moved:
            return {}
        own = self._committed(self._group, moved, stable=False)  # asked later: it can only be ahead of what theirs was
        return {place: group for place, one in own.items() if self._theirs(group, seen[place], one, generation)}

    def _theirs(self, group: str, other: CommittedOffset, own: CommittedOffset, generation: int | None) -> bool:
        """Whether a partition that both groups read is the other's; the other asks the same about us."""
        theirs, ours = _generation(other), _generation(own) if generation is None else generation
        if theirs is None or ours is None:
            return own.offset is not None and own.offset < (other.offset or 0)
        return theirs > ours if theirs != ours else group < self._group

    def _groups(self) -> list[str]:
        return sorted({*self._others()} - {self._group})

    def _committed(
        self, group: str, places: Collection[TopicPartitionKey], *, stable: bool
    ) -> dict[TopicPartitionKey, CommittedOffset]:
        reader = self._open_reader(group, stable)
        try:
            return committed_offsets(reader, places, ASK_S)
        except KafkaException as error:
            if stable:  # a look is repeated, and may fail while brokers are away
                self._say_unreadable(group, str(typed(error)))
            return {}
        finally:
            reader.close()

    def _say_unreadable(self, group: str, error: str) -> None:
        if self._said.get(group) != error:
            self._said[group] = error
            hint = "grant DESCRIBE on it, so that a tenant that comes from its lane starts where it ended"
            self._log.warning("other_group_unreadable", group=group, error=error, hint=hint)


def _generation(one: CommittedOffset) -> int | None:
    return one.signature.generation if one.signature is not None else None
