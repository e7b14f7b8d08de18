"""When to look for transactions that a broker has left open, and whose (docs/exactly-once.md, R18).

Kafka 4.3 forgets the markers of partitions that have no leader at that moment. The client is told that its transaction
was committed or aborted; the partition keeps it open until the next marker of the same producer, which then decides
over both: answers lost or doubled.

Invariant: no transaction of this slot hangs where one of its producers writes. Looking costs two requests. It is done
after every initialisation; once a broker was away or a commit was slow, before a producer is used again; and every few
seconds in the background. A partition that could not be looked at (its only broker is away) is looked at before
anything is written to it. How a transaction is ended: `end_transactions`.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from muse_stream.errors import Abortable, Retriable, StreamError
from muse_stream.kafka import End, Ends, TopicPartitionKey, TransactionalProducer, Unreadable
from muse_stream.telemetry import Log
from muse_stream.worker import attempts
from muse_stream.worker.batch import Scorer
from muse_stream.worker.commit import SLOW_COMMIT_S, Committed, Pending
from muse_stream.worker.end_transactions import RESOLVED_S, Counts, Ending, Owed, Tools, output_places
from muse_stream.worker.hanging_transactions import Answered, answered
from muse_stream.worker.markers import Markers
from muse_stream.worker.meter import Meter
from muse_stream.worker.open_transactions import OpenTransactionWatch
from muse_stream.worker.ownership import Ownership

HOLD_S = 1.0
"""How long a producer waits, after a broker was away, for everything to be decided."""
LEADER_S = 5.0
"""How long partitions may be without a leader before the others go on without them."""
AGAIN_S = 2.0
KNOWN = 256
UNREADABLE = "grant READ on the output topics, or transactions that a broker left open cannot be ended"

OpenProducer = Callable[[int, str], TransactionalProducer]
"""Open a producer of a slot, named by its instance: 0 and 1 are the two it works with, the others are for copies."""


class Recovery:
    """One slot's, for the worker's thread but for `committed`; `doubt` is set when a client hears of a broker's end."""

    def __init__(
        self,
        group: str,
        instance: str,
        ends: Ends,
        open_producer: OpenProducer,
        doubt: threading.Event,
        meter: Meter,
        log: Log,
    ) -> None:
        self._holder, self._other_pairs = instance, frozenset[str]()
        self.attempts = attempts.Attempts(group, instance)
        """The numbers of the pair of ids in use."""
        self._numbers = {instance: self.attempts}
        self.unwritable: frozenset[TopicPartitionKey] = frozenset()
        """Partitions that take no records now: nobody waits for what is open there."""
        self.unseen: frozenset[TopicPartitionKey] = frozenset()
        """Partitions that could not be looked at: one of ours may hang there, so `look_at` them before writing."""
        self._group, self._instance, self._ends, self._open_producer = group, instance, ends, open_producer
        self._doubt, self._meter, self._log = doubt, meter, log
        self.ownership = Ownership(ends, instance, self._event_places)
        self._watch = OpenTransactionWatch(ends, self._places, meter, log, also=self.ownership.look)
        self._known: deque[Pending] = deque(maxlen=KNOWN)
        """Transactions that this process was told are committed."""
        self._owed: dict[int, Owed] = {}
        """Owner -> answers that were being written again when it failed."""
        self._predecessors: set[str] = set()
        """Slots that have committed the partitions which are ours now: they may never come back to end their own."""
        self._scorer: Scorer | None = None
        self._counts: Counts = lambda _topic: 0
        self._markers = Markers(ends)
        self._over = 0
        """No attempt up to this one is under way."""
        self._hold_after = 0.0
        self._examined: dict[TopicPartitionKey, int] = {}
        """Partition -> the last stable offset at which it was looked whose transaction stands there."""
        self._unreadable: set[str | None] = set()

    def hold(self, holder: str, others: frozenset[str]) -> None:
        """Take in under which pair of ids the slot works, and which others it may have worked under before."""
        self._holder, self._other_pairs = holder, others
        self.attempts = self._numbers.setdefault(holder, attempts.Attempts(self._group, holder))
        self._predecessors = (self._predecessors - {holder}) | others

    def heard(self, committers: Mapping[TopicPartitionKey, str]) -> None:
        """Take in who has committed event partitions that are ours from now on; end what they left open of these.

        Whoever is alive has nothing open of a partition that it gave away.
        """
        others = {place: name for place, name in committers.items() if name != self._instance}
        self._predecessors |= set(others.values())
        if others:
            self._end_others(lambda: self._ends.wait_decided(self._places())[1], others)

    @property
    def tracks_outputs(self) -> bool:
        """Whether it matters where an answer goes: something has not been looked at, or a broker forgets markers."""
        return bool(self.unseen) or self._ends.forgetful

    def acknowledged(self, pending: Pending) -> None:
        """Take in, from the committing thread, that a broker has every record of a batch."""
        self._markers.acknowledged(pending)

    def committed(self, committed: Committed) -> None:
        """Remember a committed transaction: should its markers be lost, this process still knows the outcome.

        From the committing thread, before its producer is used again and the next batch is committed. Raises
        `Abortable` when a broker that may forget markers has not written all of them.
        """
        self._known.append(committed.pending)
        self._over = max(self._over, committed.pending.attempt)
        if committed.cost_s > SLOW_COMMIT_S:
            self._doubt.set()
        self._markers.check(committed.pending)

    def cover(self, scorer: Scorer, counts: Counts) -> None:
        """Look after the outputs of this scorer from now on; what hangs there may be older than the last look."""
        self._scorer, self._counts = scorer, counts
        self._doubt.set()

    def begin(self, producers: Sequence[TransactionalProducer], scorer: Scorer, counts: Counts) -> None:
        """End this slot's hanging transactions on the scorer's outputs, and look after them from now on.

        The two producers must have been initialised and not used since: what they have open then hangs for certain.
        Raises `Retriable` when it cannot be done now.
        """
        self.cover(scorer, counts)
        self._over = self.attempts.last
        self._doubt.clear()
        seen, looking = self._ends.wait_decided(self._places(), leader_s=LEADER_S)
        try:
            with self._ending(self._holder, producers) as ending:
                seen -= ending.run(looking)
        except Unreadable as error:
            self._tell_unreadable(error)
            self._owed.clear()  # nobody can look whether readers see it
        self._saw(seen)
        self._watch.start()

    def free_offsets(self, partitions: Iterable[TopicPartitionKey], producers: Sequence[TransactionalProducer]) -> None:
        """End what hides the group's offsets of these partitions: left by this slot, or by one that had them before.

        Who had them before and is alive has ended its own within the moment that is waited for.
        """
        wanted = frozenset(partitions)
        with self._ending(self._holder, producers) as ending:
            ending.free_offsets(wanted, ())
        if self._ends.group_offsets(wanted, RESOLVED_S) is None:
            before = {*self._ends.signatures(wanted).values()} - {self._instance}
            for instance in sorted(before | self._other_pairs):
                self._adopt(instance, wanted)

    def check(self) -> None:
        """Raise `Abortable` when a transaction of this slot that is over still holds a partition up.

        Once a broker was away it is waited a moment until everything is decided.
        """
        if self._doubt.is_set() and time.monotonic() >= self._hold_after:
            self._doubt.clear()
            try:
                seen, looking = self._ends.wait_decided(self._places(), HOLD_S)
            except Retriable:
                seen, looking = set(), {}
            self._saw(seen)
            self._examine(looking)
            self._check_missing(seen - looking.keys())
        if standing := self._watch.standing():
            self._examine(standing)
        if self._predecessors and (hanging := self._watch.hanging()):
            self._end_others(lambda: hanging)

    def look_at(self, places: Iterable[TopicPartitionKey]) -> frozenset[TopicPartitionKey]:
        """Look at those of these partitions that have not been seen; return which of them have no leader still.

        Nothing may be written to these: the transaction's marker would decide what hangs there, too. Raises `Abortable`
        as `check` does, `Retriable` when no broker answers.
        """
        wanted = self.unseen.intersection(places)
        if not wanted:
            return wanted
        seen, looking = self._ends.wait_decided(wanted, HOLD_S, leader_s=HOLD_S)
        for topic, partition in looking.keys() - self._examine(looking):
            raise Abortable(f"whose transaction is open in {topic}[{partition}] cannot be told now", code="HANGING")
        self._check_missing(seen - looking.keys())
        self.unseen -= seen
        return wanted - seen

    def look_again(self) -> None:
        """Look at everything before a producer is used again."""
        self._doubt.set()

    def close(self) -> None:
        """Look no more."""
        self._watch.stop()
        self._ends.close()

    def _places(self) -> list[TopicPartitionKey]:
        places = self._all_places()
        return [place for place in places if place not in self.unwritable] if self.unwritable else places

    def _all_places(self) -> list[TopicPartitionKey]:
        return output_places(self._scorer, self._counts) if self._scorer else []

    def _event_places(self) -> list[TopicPartitionKey]:
        topics = self._scorer.topology.outputs if self._scorer else ()
        return [(topic, partition) for topic in topics for partition in range(self._counts(topic))]

    def _saw(self, seen: Collection[TopicPartitionKey]) -> None:
        """Note which partitions were not seen, and look at them again soon."""
        self.unseen = frozenset(self._all_places()).difference(seen)
        if self.unseen - self.unwritable or self._owed.get(self.attempts.tag):
            self._doubt.set()
            self._hold_after = time.monotonic() + AGAIN_S

    def _examine(self, looking: Mapping[TopicPartitionKey, End]) -> set[TopicPartitionKey]:
        """Look, once for each last stable offset, whether what is there is ours and over; return where it is known."""
        fresh = {place: end for place, end in looking.items() if self._examined.get(place) != end.stable}
        known = looking.keys() - fresh.keys()
        if not fresh:
            return known
        try:
            heads = self._heads(fresh)
        except Retriable:
            return known
        except Unreadable as error:
            self._tell_unreadable(error)
            self._examined |= {place: end.stable for place, end in fresh.items()}
            return known | fresh.keys()
        # what is ours and under way may hang at that very offset later
        others = [head.place for head in heads if not head.of(self.attempts.tag)]
        self._examined |= {place: fresh[place].stable for place in others}
        for head in heads:
            if head.of(self.attempts.tag) and head.origin and head.origin.attempt <= self._over:
                topic, partition = head.place
                where = f"{topic}[{partition}] at offset {fresh[head.place].stable}"
                raise Abortable(f"a transaction of ours that is over holds up readers of {where}", code="HANGING")
        return known | {head.place for head in heads}

    def _check_missing(self, decided: Collection[TopicPartitionKey]) -> None:
        """Start again where answers were being written again, and can be now."""
        for topic, partition in self._owed.get(self.attempts.tag, {}).keys() & decided:
            raise Abortable(f"answers of a committed transaction are missing in {topic}[{partition}]", code="HANGING")

    def _heads(self, looking: Mapping[TopicPartitionKey, End]) -> list[Answered]:
        """Return the records that hold readers up there, where they still do."""
        now = self._ends.look(looking).items()
        still = {place: End(end.stable, end.stable + 1) for place, end in now if end.undecided}
        found = self._ends.undecided({p: end for p, end in still.items() if end.stable == looking[p].stable})
        return [head for place, messages in found.items() for head in answered(place, messages, self._scored.origins)]

    def _end_others(
        self,
        looking: Callable[[], Mapping[TopicPartitionKey, End]],
        sources: Mapping[TopicPartitionKey, str] | None = None,
    ) -> None:
        """End transactions of slots that had our partitions before, where they hold readers up; each is tried once.

        With `sources`, only those that hold answers to events of these partitions.
        """
        known = {attempts.owner_tag(self._group, name): name for name in self._predecessors}
        try:
            origins = [head.origin for head in self._heads(looking()) if head.origin]
            if sources is not None:
                origins = [one for one in origins if (one.topic, one.partition) in sources]
            for owner in {attempts.owner_of(one.attempt) for one in origins} & known.keys():
                self._predecessors.discard(known[owner])
                self._adopt(known[owner], frozenset())
        except StreamError as error:
            self._log.warning("adoption_failed", error=str(error))

    def _adopt(self, instance: str, partitions: frozenset[TopicPartitionKey]) -> None:
        """End what a slot that is gone has left open; should it be alive, it is fenced and starts again by itself."""
        self._log.warning("slot_adopted", instance=instance)
        producers: list[TransactionalProducer] = []
        try:
            producers += [self._open_producer(half, instance) for half in (0, 1)]
            with self._ending(instance, producers) as ending:
                ending.run(self._ends.wait_decided(self._places())[1])
                if partitions:
                    ending.free_offsets(partitions, ())
        finally:
            for producer in producers:
                producer.discard()

    def _ending(self, instance: str, producers: Sequence[TransactionalProducer]) -> Ending:
        tools = Tools(self._ends, self._scored, self._counts, self._meter, self._log)
        owner = attempts.owner_tag(self._group, instance)
        known = [pending for pending in list(self._known) if attempts.owner_of(pending.attempt) == owner]
        owed = self._owed.setdefault(owner, {})
        return Ending(tools, owner, producers, lambda half: self._open_producer(half, instance), known, owed)

    @property
    def _scored(self) -> Scorer:
        assert self._scorer is not None  # noqa: S101  # `begin` comes first
        return self._scorer

    def _tell_unreadable(self, error: Unreadable) -> None:
        """Say once a topic that nobody can tell whose transaction holds its readers up."""
        if error.topic not in self._unreadable:
            self._unreadable.add(error.topic)
            self._log.error("outputs_unreadable", topic=error.topic, error=str(error), hint=UNREADABLE)
