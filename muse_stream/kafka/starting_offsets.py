"""Where a partition starts: what its group has committed (docs/exactly-once.md, R1, R6, R15, R23).

`committed()` is asked until it answers, for stable offsets only (librdkafka does so under
`isolation.level=read_committed`). A partition without any starts where `first_offsets` says, by its number: librdkafka
looks OFFSET_BEGINNING up by itself, and when it drops an answer as outdated (any resume, pause or assignment in between
makes it so) it asks again half a second later and goes back there, whatever was assigned since.

Offsets are asked through a consumer that never joins the group: a member's own request would wait behind its JoinGroup,
which the broker answers only when every other member has joined, and a dead static member is waited for until its
session ends.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from msgspec import Struct, field

from muse_stream.errors import Fatal, Retriable
from muse_stream.kafka.coordinators import OFFSETS, leaderless
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.errors import typed
from muse_stream.kafka.first_offsets import FirstOffsets, Unknown
from muse_stream.kafka.offsets import CommittedOffset, committed_offsets, forget_leaders, offsets_at
from muse_stream.kafka.partition import TopicPartitionKey
from muse_stream.kafka.signature import RELEASED, SET, Signature
from muse_stream.telemetry import Log

COMMITTED_S = 20.0
"""How long to ask: a dead worker's open transaction hides the offsets for its timeout plus the broker's scan."""
BEGINNING_S, AGAIN_S = 3.0, 0.1
"""How long to ask where partitions begin that were never committed."""
FIRST_S = 3.0
"""How long partitions are waited for of which nothing is committed: then they are held, and the others go on."""
FIRST_ASK_S, ASK_S = 0.7, 2.0
"""Offsets that are hidden for longer than the first may be so forever: by a transaction of ours that hangs."""

HIDDEN = (
    "if brokers answer, a transaction that nobody ends hides them: kafka-transactions.sh find-hanging --topic "
    "__consumer_offsets, then abort"
)

Free = Callable[[Sequence[TopicPartitionKey]], None]
Heard = Callable[[Mapping[TopicPartitionKey, str]], None]


class Starts(Struct, frozen=True):
    """Where to start, and who has signed these partitions (those that were never committed: nobody)."""

    offsets: list[TopicPartition]
    signatures: dict[TopicPartitionKey, Signature]
    guessed: frozenset[TopicPartitionKey]
    """Those of which nobody told where they begin."""
    chosen: frozenset[TopicPartitionKey] = frozenset()
    """Those that start where the group has committed nothing."""
    held: dict[TopicPartitionKey, Unknown] = field(default_factory=dict)
    """Those of which it is not known yet where they start: nothing of them may be read."""


class StartingOffsets:
    """Looks offsets up; `lookup` has the group's id and never subscribes.

    `free` is called once when offsets stay hidden: it ends what may hide them. `heard` is told who has committed them,
    before anything is read.
    """

    def __init__(
        self,
        lookup: Consumer,
        log: Log,
        free: Free = lambda _partitions: None,
        heard: Heard = lambda _committers: None,
        first: FirstOffsets | None = None,
        given_up: Callable[[], bool] = lambda: False,
        group: str = "",
    ) -> None:
        """Without `first`, what was never committed starts at its beginning; `given_up()` ends a look-up under way."""
        self._lookup, self._log, self._free, self._heard, self._first = lookup, log, free, heard, first
        self._given_up, self._group = given_up, group
        self._sound: frozenset[TopicPartitionKey] = frozenset()
        """Partitions that nobody else of the fleet can have read since they became ours."""
        self._started = False
        self._given_way: set[TopicPartitionKey] = set()
        """Partitions that another group answers: not ours until it has stopped."""

    def starts(self, partitions: list[TopicPartition], wanted: Callable[[str], bool] = lambda _topic: True) -> Starts:
        """Return the partitions with the offsets to start at; raises `Fatal` when none are told in time.

        Those of topics that are not wanted are not looked for when nothing is committed: they are held.
        """
        found = self._committed([(p.topic, p.partition) for p in partitions])
        signatures = {place: one.signature for place, one in found.items() if one.signature}
        self._heard({place: one.owner for place, one in signatures.items()})
        if self._first is None:
            known = [TopicPartition(*place, one.offset) for place, one in found.items() if one.offset is not None]
            new, guessed = self._beginnings([place for place, one in found.items() if one.offset is None])
            return Starts([*known, *new, *guessed], signatures, frozenset((p.topic, p.partition) for p in guessed))
        return self._decided(self._first, found, signatures, wanted)

    def _decided(
        self,
        first: FirstOffsets,
        found: Mapping[TopicPartitionKey, CommittedOffset],
        signatures: dict[TopicPartitionKey, Signature],
        wanted: Callable[[str], bool],
    ) -> Starts:
        ours = {place: one for place, one in found.items() if wanted(place[0])}
        fresh = {
            place: one
            for place, one in ours.items()
            if place not in self._sound and (one.signature is None or one.signature.mark != SET)
        }
        undecided = {
            place: one
            for place, one in ours.items()
            if one.offset is None or (one.signature is not None and one.signature.mark == RELEASED)
        }
        undecided |= {place: found[place] for place in self._given_way | first.others.overtaken(fresh) if place in ours}
        chosen, held = first.decide(undecided, FIRST_S)
        held |= {place: Unknown("its topic is not read") for place in found.keys() - ours.keys()}
        known = {place: one.offset for place, one in ours.items() if place not in undecided and one.offset is not None}
        if not self._started:
            first.say_unused(known)
        self._started = True
        self._sound |= known.keys() | chosen.keys()
        starts = known | {place: one.offset for place, one in chosen.items()}
        signatures = {place: one for place, one in signatures.items() if place not in chosen}
        offsets = [TopicPartition(*place, offset) for place, offset in starts.items()]
        offsets += [TopicPartition(*place, 0) for place in held]
        return Starts(offsets, signatures, frozenset(), frozenset(chosen), held)

    def changed(self) -> bool:
        """Whether it is known by now where something starts that was held."""
        return self._first is not None and self._first.changed()

    def worked_on(
        self, held: Collection[TopicPartitionKey], generation: int | None = None
    ) -> dict[TopicPartitionKey, str]:
        """Return, once, which of these another group of the fleet answers, and which: one that ranks before us (R24).

        `generation` is what we serve.
        """
        return self._first.others.working(held, generation) if self._first is not None else {}

    def give_way(self, places: Iterable[TopicPartitionKey]) -> None:
        """Another group answers these: they are held until nothing of them has moved for a while."""
        self._given_way |= set(places)

    def decided(self, places: Iterable[TopicPartitionKey]) -> None:
        """These have been committed where they start."""
        places = set(places)
        self._given_way -= places
        if self._first is not None:
            self._first.forget(places)

    def forget(self, places: Iterable[TopicPartitionKey]) -> None:
        """These belong to somebody else now."""
        gone = set(places)
        self._sound -= gone
        self._given_way -= gone
        if self._first is not None:
            self._first.forget(gone)

    def close(self) -> None:
        """Let the consumer go."""
        if self._first is not None:
            self._first.close()
        self._lookup.close()

    def _committed(self, places: list[TopicPartitionKey]) -> dict[TopicPartitionKey, CommittedOffset]:
        deadline = Deadline(COMMITTED_S)
        patience_s = FIRST_ASK_S
        problem: object = None
        for _ in deadline.tries():
            try:
                return committed_offsets(self._lookup, places, min(patience_s, max(deadline.left_s, 0.1)))
            except KafkaException as error:
                problem = typed(error)
            if self._given_up():
                raise Retriable(f"no committed offsets yet: {problem}")
            if patience_s < ASK_S:
                patience_s = ASK_S
                self._free(places)
        away = leaderless(self._lookup, OFFSETS, self._group) if self._group else ""
        why = f"group {self._group}: {away}" if away else f"{problem}; {HIDDEN}"
        raise Fatal(f"no committed offsets within {COMMITTED_S:g} s: {why}")

    def _beginnings(self, places: list[TopicPartitionKey]) -> tuple[list[TopicPartition], list[TopicPartition]]:
        """Return the first offsets of these partitions, and offset 0 for those that nobody tells in time.

        Where that is too low, the broker says so, and the topic is paused and looked up again: nothing is passed over,
        and a partition without a leader does not hold up the others.
        """
        found: dict[TopicPartitionKey, int] = {}
        waiting = places
        for last in Deadline(BEGINNING_S).tries(AGAIN_S):
            found |= self._first_offsets(waiting)
            waiting = [place for place in waiting if place not in found]
            if not waiting:
                break
            if not last:
                forget_leaders(self._lookup, {topic for topic, _ in waiting}, ASK_S)
        for topic, partition in waiting:
            self._log.warning("beginning_unknown", topic=topic, partition=partition)
        for (topic, partition), low in found.items():
            if low > 0:
                # an expired commit looks like a new topic; records before this offset are gone either way
                self._log.warning("starts_without_commit", topic=topic, partition=partition, low=low)
        guessed = [TopicPartition(*place, 0) for place in waiting]
        return [TopicPartition(*place, low) for place, low in found.items()], guessed

    def _first_offsets(self, places: list[TopicPartitionKey]) -> dict[TopicPartitionKey, int]:
        with suppress(Retriable):
            found = offsets_at(self._lookup, places, OFFSET_BEGINNING, ASK_S)
            return {place: offset for place, offset in found.items() if offset >= 0}
        return {}
