"""The consuming side of a worker: a group member that knows its exact positions.

Batches are given out with the group metadata they were polled under. Invariants (docs/exactly-once.md):
  - every partition starts at an explicit offset that `committed()` gave, asked until it answers, or at its first offset
    when there is none (R1, R15: librdkafka would obey `auto.offset.reset` when a rebalance interrupts its own look-up);
  - only this thread touches the consumer (R2); no callback returns while a batch is neither committed nor lost (R13);
  - after a rebalance, what was collected is dropped and read again from the committed offsets: always right;
  - a topic that was unsubscribed gives no more messages, though its partitions go only with the next rebalance;
  - it never goes back below what this process has seen committed.
"""

import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from muse_stream.errors import Fatal, StreamError
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.errors import About, concerns, typed
from muse_stream.kafka.explain import said
from muse_stream.kafka.first_offsets import Unknown
from muse_stream.kafka.partition import Position, TopicPartitionKey
from muse_stream.kafka.signature import PAUSED, RELEASED, SET, Signature
from muse_stream.kafka.starting_offsets import StartingOffsets
from muse_stream.telemetry import Log

IDLE_POLL_S = 0.2
"""How often a worker that has nothing to do looks around: each time costs a quarter of a millisecond of CPU."""
POLL_UNIT_S = 0.001
"""The client waits for whole milliseconds."""
LITTLE = 500
"""So few records at once are fewer than a worker scores in a millisecond or two."""
NAP_S = 0.02
"""How long who is asked to hurry may have to wait for it."""
HEAD = 11
"""Bytes of the group metadata before the names."""
SERVED = 100
"""At most so many times in a row is taken what has come; a busy topic would go on for ever."""
FENCED_MEMBER = (
    "this slot's place in the group was taken (Static consumer fenced). After a broker's restart that is an echo of its"
    " own earlier request, and over with the next process; if no broker restarted, another run has this lane and"
    " --name: give it another --name, or its fleet a `namespace` of its own in the configuration"
)

Collected: TypeAlias = tuple[list[Message], Any] | None
"""Messages in the order Kafka gave them, and the group's metadata."""


class GroupConsumer:
    """A consumer group member. `settle(lost)` must leave nothing in flight: committed, or given up when `lost`."""

    def __init__(
        self,
        consumer: Consumer,
        offsets: StartingOffsets,
        settle: Callable[[bool], None],
        log: Log,
        owner: str = "",
    ) -> None:
        """`owner` signs partitions that others have had; nobody does without one."""
        self._consumer, self._offsets, self._settle, self._log = consumer, offsets, settle, log
        self._owner = owner
        self._floor: dict[TopicPartitionKey, int] = {}
        self._answered: dict[TopicPartitionKey, int] = {}
        """Assigned partition -> its committed offset; where it begins before the first commit."""
        self._paused: frozenset[str] = frozenset()
        self._subscribed: frozenset[str] = frozenset()
        self._rebalanced = False
        self._without_offset: set[str] = set()
        self.marked: frozenset[str] = frozenset()
        """Topics beside whose offsets it stands that nobody reads them now."""
        self.unknown_starts: dict[TopicPartitionKey, Unknown] = {}
        """Assigned partitions of which nobody can say yet where they start: nothing of them is read."""
        self.held: frozenset[TopicPartitionKey] | None = None
        """What the group has assigned; None before that, and after a revocation until it assigns again."""
        self.taken_since: float | None = None
        """Since when (monotonic seconds) the group has taken partitions and assigned nothing again."""
        self.lost_offsets: set[str] = set()
        """Topics whose committed offset no longer exists: somebody has to decide, the worker must not."""
        self.restarted: set[str] = set()
        """Topics of which nothing was committed, and that start now where was found out."""
        self.outdated = False
        """Whether the group has given this slot what its last process read, and that read other topics (R21)."""
        self.generation: int | None = None
        """What is served, for those who read what is committed (R24)."""
        self._signed: tuple[tuple[frozenset[str], int | None] | None, str] = None, ""
        """What the signature is of, and its text."""
        self._batch_at = time.monotonic()
        """When the last batch was complete."""
        self.empty_s = 0.0
        """When nothing that was fetched was left (monotonic seconds)."""
        self.rebalances = Counter[str]()
        """How often the group has assigned, revoked and lost partitions since somebody counted."""
        self._leaving = False
        """Whether nothing is taken up any more."""

    @property
    def paused(self) -> frozenset[str]:
        """Topics that are paused."""
        return self._paused

    @property
    def signature(self) -> str:
        """What is committed beside every offset; empty without an owner."""
        of = self._subscribed, self.generation
        if self._signed[0] != of:
            self._signed = of, str(self._signature) if self._owner else ""
        return self._signed[1]

    @property
    def _signature(self) -> Signature:
        return Signature.of(self._owner, self._subscribed, self.generation)

    def subscribe(self, topics: Iterable[str]) -> None:
        """Read these topics and, from now on, no others; a change of subscription rebalances the group.

        Without any this member leaves the group, until it is told to read some again.
        """
        self._read(frozenset(topics), self._paused)
        if not self._subscribed:  # librdkafka refuses an empty subscription
            self._consumer.unsubscribe()
            return
        self._consumer.subscribe(
            sorted(self._subscribed), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def collect(self, most: int, linger_s: float, hurry: Callable[[], bool] = lambda: False) -> Collected:
        """Return up to `most` messages: all that are there, and what comes until `linger_s` after the last batch.

        Where much comes at once, what comes within `linger_s` from now. None without any.

        With them comes the group's metadata as it was when the first was polled: what they are committed with.
        `hurry()` ends the waiting, and so does a rebalance: a linger may be seconds long.
        """
        if self.unknown_starts and self._offsets.changed():
            self._rebalanced = True
        # poll, then consume what is there: `consume(n, t)` would wait the full t for n messages
        first = self._consumer.poll(IDLE_POLL_S)
        if first is None:
            self.empty_s = time.monotonic()
            return self._after_rebalance(None)
        metadata = self._consumer.consumer_group_metadata()
        messages = [first]
        deadline = Deadline(linger_s - (time.monotonic() - self._batch_at))
        while len(messages) < most:
            taken = self._consumer.consume(most - len(messages), 0)
            if len(taken) >= LITTLE and len(messages) == 1:  # a backlog, as a rule: full batches cost less an event
                deadline = Deadline(linger_s)
            messages += taken
            if len(messages) >= most or self._rebalanced or hurry():
                break
            # Where little comes, one look at the end of the wait is enough: to be woken for each record costs more than
            # to score it. A wait below the client's unit would be none, and be made again and again until it is over.
            left_s, little = deadline.left_s, len(taken) < LITTLE
            following = self._consumer.poll(0 if little else min(left_s, IDLE_POLL_S))
            if following is not None:
                messages.append(following)
            else:
                self.empty_s = time.monotonic()
            if left_s < POLL_UNIT_S or self._rebalanced:
                break
            if little:
                time.sleep(min(left_s, NAP_S))
        self._batch_at = time.monotonic()
        return self._after_rebalance(self._checked(messages, metadata))

    def committed(self, following: dict[TopicPartitionKey, int]) -> None:
        """Note that these offsets are committed: nothing here ever goes below them again."""
        self._floor.update(following)
        self._answered.update({place: offset for place, offset in following.items() if place in self._answered})

    def answered(self, following: dict[TopicPartitionKey, int]) -> bool:
        """Whether a batch that ends at these offsets is committed, as the last look at the committed offsets told."""
        return any((self._answered.get(place) or 0) >= offset for place, offset in following.items())

    def rewind(self) -> None:
        """Go back to the committed offsets on every assigned partition; nothing may be in flight.

        Should the group take or give partitions meanwhile, that is done instead, and the next `collect` goes back.
        """
        self._rebalanced = False
        partitions = self._consumer.assignment()
        if not partitions:
            return
        starts = self._starts(partitions)
        self._serve()
        if not self._rebalanced:
            self._consumer.incremental_unassign(partitions)
            self._place(starts)

    def pause(self, topics: frozenset[str]) -> None:
        """Pause exactly these topics; those paused before and not named now go on where they stood."""
        self._read(self._subscribed, topics)
        if (self._without_offset | self.marked) - topics:
            # librdkafka fetches no more after an offset was lost, until the partition is assigned again; and somebody
            # may have set the offsets of what was paused
            self._without_offset &= topics
            self.marked &= topics
            self._rebalanced = True

    def let_go(self, topics: Iterable[str], *, released: bool) -> None:
        """Note beside the committed offsets of these topics that nobody of the group reads them (R23).

        `released`: another group does. Nothing of them may be in flight. Where the group is about to assign anew, or
        refuses it, nothing is noted: `marked` says of which topics it was.
        """
        mark, wanted = RELEASED if released else PAUSED, set(topics)
        if self._rebalanced:
            return
        text = str(self._signature.marked(mark))
        places = [(p.topic, p.partition) for p in self._consumer.assignment() if p.topic in wanted]
        offsets = {place: self._answered[place] for place in places if place in self._answered}
        if self._owner and offsets:
            marked = [TopicPartition(*place, offset, text) for place, offset in offsets.items()]
            try:
                self._consumer.commit(offsets=marked, asynchronous=False)
            except KafkaException as error:
                if concerns(error, About.REFUSED_COMMIT):
                    return
                if not concerns(error, About.TOPIC):  # one that is gone has no offsets that could be marked
                    # carried out late, it would take offsets back
                    raise Fatal(f"{len(marked)} paused partitions could not be marked: {typed(error)}") from error
        self.marked |= wanted

    def take_set(self, places: Iterable[TopicPartitionKey]) -> None:
        """Go to the committed offsets of these, or hold them where others read them; nothing may be in flight."""
        places = list(places)
        for place in places:
            self._floor.pop(place, None)
        self._offsets.forget(places)
        self._rebalanced = True

    def worked_on(self) -> dict[TopicPartitionKey, str]:
        """Return, once, which partitions of this slot are another group's to answer, and which group (R24)."""
        held = self._answered.keys()
        return self._offsets.worked_on(
            held - self.unknown_starts.keys() if self.unknown_starts else held, self.generation
        )

    def give_way(self, places: Iterable[TopicPartitionKey]) -> None:
        """Hold these until nobody else answers them any more; nothing may be in flight."""
        places = list(places)
        self.take_set(places)
        self._offsets.give_way(places)

    def leave(self) -> None:
        """Leave the group now, so that others take the partitions at once.

        A static member that only closes stays a member until its session ends: librdkafka sends no LeaveGroup for it.
        After `unsubscribe()` it does. What is assigned meanwhile is not taken up: a look-up may take 20 s.
        """
        self._leaving = True
        self._consumer.unsubscribe()
        deadline = Deadline(1.0)
        while not deadline.over and self._consumer.poll(0.05) is not None:
            pass

    def rejoin(self) -> None:
        """Leave the group and join it again: there is no other way to have it assign again."""
        self.outdated = False
        self.leave()
        self._leaving = False
        self.subscribe(self._subscribed)

    def close(self) -> None:
        """Close the consumer; a static member keeps its place for its session."""
        self._leaving = True
        # An assignment that waits is served before: a consumer that is served one while it closes does not tell what it
        # has, or hangs when that is given up again. What is wrong with the group no longer matters.
        with suppress(StreamError):
            self._serve()
        self._consumer.close()
        self._offsets.close()

    @property
    def assigned(self) -> bool:
        """Whether the group has assigned something, be it no partition; between two assignments what stays counts."""
        return self.held is not None or bool(self._consumer.assignment())

    def positions(self) -> dict[TopicPartitionKey, Position]:
        """Return the positions in the assigned partitions, by cached watermarks; no request is sent."""
        found = {}
        for partition in self._consumer.assignment():
            if partition.topic not in self._subscribed:
                continue
            low, high = self._consumer.get_watermark_offsets(partition, cached=True)
            place = (partition.topic, partition.partition)
            flows = partition.topic not in self._paused and place not in self.unknown_starts
            found[place] = Position(self._answered.get(place), low, high, flows)
        return found

    def _read(self, subscribed: frozenset[str], paused: frozenset[str]) -> None:
        """Read what is subscribed and not paused; a topic that the group has not taken yet may be neither."""
        assigned = self._consumer.assignment()
        before = self._subscribed - self._paused
        self._subscribed, self._paused = subscribed, paused
        now = subscribed - paused
        # only what changes: where a partition is resumed librdkafka drops answers to what it has asked (R15)
        self._consumer.resume([p for p in assigned if p.topic in now - before and not self._held(p)])
        self._consumer.pause([p for p in assigned if p.topic in before - now])

    def _flows(self, partition: TopicPartition) -> bool:
        read = partition.topic in self._subscribed and partition.topic not in self._paused
        return read and not self._held(partition)

    def _held(self, partition: TopicPartition) -> bool:
        return (partition.topic, partition.partition) in self.unknown_starts

    def _checked(self, messages: list[Message], metadata: Any) -> Collected:
        sound = [message for message in messages if message.error() is None]
        if len(sound) < len(messages):
            self._report([message for message in messages if message.error() is not None])
        if sound and not joined(metadata):
            # generation -1 skips the broker's check of transactional commits: such a batch must never be committed
            self._rebalanced = True
            return None
        return (sound, metadata) if sound else None

    def _after_rebalance(self, collected: Collected) -> Collected:
        if not self._rebalanced:
            return collected
        self._settle(False)
        self.rewind()
        return None

    def _report(self, faults: list[Message]) -> None:
        for message in faults:
            error, topic = message.error(), message.topic()
            if error is not None and concerns(error, About.LOST_OFFSET) and topic:
                self.lost_offsets.add(topic)
                self._without_offset.add(topic)
                self._log.error("offsets_lost", topic=topic, partition=message.partition(), error=said(error))
            elif error is not None and (error.fatal() or error.code() == KafkaError._FATAL):
                # a message's error carries no flags: a fenced static member says `_FATAL` with `fatal()` false
                raise Fatal(FENCED_MEMBER if "fenced" in error.str() else f"consumer: {said(error)}")
            elif error is not None and concerns(error, About.GROUP):
                group = group_of(self._consumer.consumer_group_metadata())
                raise Fatal(said(error, f"consumer group {group}", "READ"), code=error.name())
            elif error is not None:
                told = said(error, topic or "", "READ")
                self._log.warning("consume_error", topic=topic, code=error.name(), error=told)

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalanced = True  # the group's generation moved, also for partitions that stayed
        self.rebalances["assigned"] += 1
        if self._leaving:
            return  # the binding assigns; nothing of it is read
        self._log.info("assigned", partitions=len(partitions))
        if partitions:
            self._place(self._starts(partitions))
        self.taken_since = None
        self.held = frozenset((p.topic, p.partition) for p in self._consumer.assignment())

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalanced = True
        self.rebalances["revoked"] += 1
        self._log.info("revoked", partitions=len(partitions))
        self._settle(False)
        self._give_up(partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalanced = True
        self.rebalances["lost"] += 1
        self._log.warning("lost", partitions=len(partitions))
        self._settle(True)
        self._give_up(partitions)

    def _give_up(self, partitions: list[TopicPartition]) -> None:
        # who subscribes to nothing is assigned nothing again
        self.held, self.taken_since = None, time.monotonic() if self._subscribed else None
        for partition in partitions:
            # others may go on from here, and an operator may set offsets back: the floor holds while we own it
            self._floor.pop((partition.topic, partition.partition), None)
            self._answered.pop((partition.topic, partition.partition), None)
            self.unknown_starts.pop((partition.topic, partition.partition), None)
        self._offsets.forget([(partition.topic, partition.partition) for partition in partitions])
        self._consumer.incremental_unassign(partitions)

    def _serve(self) -> None:
        """Take in what the group has sent, and drop the records: their places are about to change.

        An assignment that is changed while a revocation waits to be heard of counts as the answer to it: librdkafka
        then never joins the group again. The look-up of offsets may have taken many seconds.
        """
        # or a backlog would be fetched as fast as it is dropped
        reading = [p for p in self._consumer.assignment() if self._flows(p)]
        self._consumer.pause(reading)
        try:
            for _ in range(SERVED):
                messages = self._consumer.consume(10_000, 0)
                if not messages:
                    return
                self._report([message for message in messages if message.error() is not None])
        finally:
            # before their places change: one that is resumed in its new place is now and then never read again
            self._consumer.resume(reading)

    def _starts(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Look up where partitions start, and sign those that others have had."""
        found = self._offsets.starts(partitions, self._subscribed.__contains__)
        own = self._signature
        if self.held is None and self.taken_since is None:  # the first assignment of this process
            before = {one.topics for one in found.signatures.values() if one.owner == self._owner}
            self.outdated = bool(before - {own.topics, ""})
        self.unknown_starts = found.held
        for place in found.held:  # what was committed may be an offset of an earlier topic of that name
            self._answered.pop(place, None)
        self.restarted |= {topic for topic, _ in found.chosen}
        starts = [start for start in found.offsets if not self._held(start)]
        for start in starts:
            place = (start.topic, start.partition)
            signature = found.signatures.get(place)
            self._check_floor(start, moved=place in found.chosen or (signature is not None and signature.mark == SET))
        paused = own.marked(PAUSED)
        ours = {
            place
            for place, one in found.signatures.items()
            if one.of_same(own) or (one.of_same(paused) and place[0] in self._paused)
        } | found.guessed
        others = [start for start in starts if (start.topic, start.partition) not in ours]
        if self._owner and others:
            self.marked -= {start.topic for start in others}
            self._sign(others)
        self._answered |= {(start.topic, start.partition): start.offset for start in starts}
        return found.offsets

    def _check_floor(self, start: TopicPartition, *, moved: bool) -> None:
        """Refuse to start below what this process has seen committed, unless the offset was set by somebody.

        Or unless nothing is committed any more: a topic that was made anew begins again.
        """
        place = (start.topic, start.partition)
        floor = self._floor.get(place)
        if floor is None or start.offset >= floor:
            return
        if not moved:
            raise Fatal(f"{place} would start at {start.offset}, below the committed {floor}")
        self._floor.pop(place)
        self._log.warning("offset_set_back", topic=start.topic, partition=start.partition, to=start.offset, was=floor)

    def _place(self, starts: list[TopicPartition]) -> None:
        self._consumer.incremental_assign(starts)
        # a partition comes back as it went: paused, though its topic may have been freed in the meantime
        flowing = [start for start in starts if self._flows(start)]
        self._consumer.resume(flowing)
        self._consumer.pause([start for start in starts if start not in flowing])

    def _sign(self, partitions: list[TopicPartition]) -> None:
        """Commit where these partitions start once more, with our name, before anything of them is read.

        Should our first transaction hang and hide their offsets, the next owner learns whose it is; and a
        partition that bears our name without being ours is with nobody (`ownership`).
        """
        signed = [TopicPartition(p.topic, p.partition, p.offset, self.signature) for p in partitions]
        try:
            self._consumer.commit(offsets=signed, asynchronous=False)
        except KafkaException as error:
            if not concerns(error, About.REFUSED_COMMIT):
                # it may still be carried out, and must not when a transaction has gone further: another process is
                # another member, whose predecessor's requests are refused
                raise Fatal(f"{len(signed)} partitions could not be signed: {typed(error)}") from error
            self._rebalanced = True  # refused for certain: the group assigns again, or the coordinator moves
            return
        self._offsets.decided((p.topic, p.partition) for p in partitions)


def group_of(metadata: Any) -> str:
    """The group's name in the opaque group metadata."""
    return bytes(metadata)[HEAD:].split(b"\0")[0].decode()


def joined(metadata: Any) -> bool:
    """Whether the opaque group metadata is that of a member: generation >= 0 and a member id.

    `Consumer.memberid()` is not enough: when the group refuses a SyncGroup, the member keeps its id while its
    generation becomes -1. And it would be asked at another moment than the metadata that is committed with.
    """
    text = bytes(metadata)
    magic = b"CGMDv2:"
    if not text.startswith(magic):
        raise Fatal("consumer group metadata has an unknown form; this release of librdkafka must be checked first")
    (generation,) = struct.unpack_from("=i", text, len(magic))
    _group, member, *_rest = text[HEAD:].split(b"\0")
    return generation >= 0 and member != b""
