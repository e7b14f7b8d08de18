"""A member of a consumer group that shares partitions, and whose offsets are kept elsewhere.

`starts` says where assigned partitions begin; `settle` is called before partitions are given up. Nothing is committed
to Kafka: the group's offsets say nothing of what was counted.

A topic that is deleted and made anew is read on from the old offset, and no client says so (docs/exactly-once.md, R23).
So records are held until the brokers say that their topic is still the one that was assigned, and given out then. Where
it is another one, what was given out is settled, and the process ends: the next one begins the new topic.

Whoever is killed in a rebalance may leave partitions with nobody. `owners` says whose they were, and who finds its own
name joins the group again (`unowned`).
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from muse_stream.config import KafkaSettings
from muse_stream.errors import Fatal, MuseError, Retriable
from muse_stream.kafka import client
from muse_stream.kafka.admin import topic_ids
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.errors import About, asked, concerns
from muse_stream.kafka.explain import said
from muse_stream.kafka.membership import MEMBERSHIP
from muse_stream.kafka.offsets import watermarks
from muse_stream.kafka.partition import TopicPartitionKey
from muse_stream.kafka.topic_reader import Bounds
from muse_stream.kafka.unowned import Unowned
from muse_stream.telemetry import Log

MEMBER: dict[str, Any] = {
    **MEMBERSHIP,
    "max.poll.interval.ms": 120_000,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
}
ASK_S = 10.0
BATCH = 10_000
CHECK_S = 1.0
"""Seconds that records are held at most before their topics are asked for; a full batch is not held."""
CHECKED_S = 3.0
"""How long is waited for the answer."""
LOOK_S = 5.0
"""Seconds between two questions for all topics, and two looks for partitions that are with nobody."""
LEAVE_S = 10.0
MOST_HELD = 10 * BATCH

Starts = Callable[[Mapping[TopicPartitionKey, Bounds], Mapping[str, str]], Mapping[TopicPartitionKey, int]]
"""Partitions with their ends, topics with their ids -> where each partition begins."""
Settle = Callable[[Iterable[TopicPartitionKey]], object]
Owners = Callable[[Iterable[str]], Mapping[TopicPartitionKey, str]]
"""Topics -> which instance has taken up each of their partitions last (`starts`), where somebody has."""


class CountingConsumer:
    """Polls committed records of the partitions that the group has given to this process."""

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        instance: str,
        starts: Starts,
        settle: Settle,
        owners: Owners,
        log: Log,
    ) -> None:
        names = {"group.id": group, "group.instance.id": instance}
        self._consumer: Consumer = client.consumer(settings, **names, **MEMBER)
        self._settings, self._group, self._instance, self._log = settings, group, instance, log
        self._starts, self._settle, self._owners = starts, settle, owners
        self._topics: tuple[str, ...] = ()
        self._admin: AdminClient | None = None
        self._failed: MuseError | None = None
        """What kept an assignment from being taken up; it is tried again by another process of this slot."""
        self._given: set[TopicPartitionKey] = set()
        self._taken: set[TopicPartitionKey] = set()
        self._has: set[TopicPartitionKey] = set()
        self._known: dict[str, str] = {}
        """Topic -> its id when its partitions were assigned; nothing where it was not told."""
        self._held: list[Message] = []
        """Records that are not given out yet."""
        self._checked = self._looked = 0.0
        self._unowned = Unowned()
        self._assigned: frozenset[TopicPartitionKey] | None = None
        """What the group has given to this process; None before that, and after a revocation until it assigns again."""
        self.assigned = False

    def subscribe(self, topics: Iterable[str]) -> None:
        """Read exactly these topics."""
        wanted = tuple(sorted(topics))
        if wanted != self._topics:
            self._topics = wanted
            self._join()

    def _join(self) -> None:
        self._consumer.subscribe(list(self._topics), self._on_assign, self._on_revoke, self._on_lost)

    def collect(self, seconds: float) -> list[Message]:
        """Return what is there, waiting at most so long for the first; raises what Kafka has found wrong.

        Raises Retriable where a topic was deleted and made anew: all that was read of the old one is settled.
        """
        if unowned := self._unowned.found(self._assigned):
            self._claim(unowned)
        self._given.clear()
        self._taken.clear()
        try:
            first = self._consumer.poll(seconds)  # consume() would wait its whole time for a full batch
            polled = [first, *self._consumer.consume(BATCH - 1, 0.005)] if first is not None else []
        except KafkaException as error:
            raise asked(error, "scores") from None
        if self._failed is not None:
            raise self._failed
        sound = [message for message in polled if message.error() is None]
        if len(sound) < len(polled):
            self._report([message for message in polled if message.error() is not None])
        self._held += self._own(sound) if self._taken else sound
        now = time.monotonic()
        if now - self._looked >= LOOK_S:  # of a topic that was made anew nothing may ever be read (R25)
            self._looked = now
            self._check({topic for topic, _ in self._has})
            self._look()
        if not self._held or (len(self._held) < BATCH and now - self._checked < CHECK_S):
            return []
        return self._same()

    def _look(self) -> None:
        """Look once which partitions bear our name and are not ours."""
        given = self._unowned.held
        if given is None:
            self._unowned.look(None)
            return
        with suppress(MuseError):  # who keeps the names does not answer: the next look
            ours = {place for place, owner in self._owners(self._topics).items() if owner == self._instance}
            self._unowned.look(given, {place for place in ours - given if self._there(place)})

    def _there(self, place: TopicPartitionKey) -> bool:
        """Whether a partition still exists: the name of its owner outlives a topic that is deleted."""
        try:
            found = self._consumer.list_topics(place[0], timeout=CHECKED_S).topics.get(place[0])
        except KafkaException:
            return False
        return found is not None and found.error is None and place[1] in found.partitions

    def _claim(self, unowned: Iterable[TopicPartitionKey]) -> None:
        """Leave the group and join it again: there is no other way to have it assign again."""
        names = [f"{topic}[{partition}]" for topic, partition in sorted(unowned)]
        self._log.warning("partitions_unowned", partitions=names, hint="joins the group again")
        self._consumer.unsubscribe()
        deadline = Deadline(LEAVE_S)
        while (dropped := self._consumer.consume(BATCH, 0.05)) or self._consumer.assignment():
            self._report([message for message in dropped if message.error() is not None])
            if deadline.over:  # of what stays assigned, records that were dropped here would be missing
                raise Retriable(f"the group has not let go of this process within {LEAVE_S:g} s")
        self._assigned = None
        self._join()

    def _same(self) -> list[Message]:
        """Return what is known to be of the topics that were assigned, and hold what nobody tells."""
        unknown = self._check({message.topic() or "" for message in self._held})
        self._checked = time.monotonic()
        found = [message for message in self._held if message.topic() not in unknown]
        self._held = [message for message in self._held if message.topic() in unknown]
        if len(self._held) >= MOST_HELD:
            raise Retriable(f"nobody says whether these topics were made anew: {', '.join(sorted(unknown))}")
        return found

    def _check(self, topics: set[str]) -> set[str]:
        """Return those of which nobody tells the id; raises Retriable where one is another topic now."""
        asked = {topic for topic in topics if self._known.get(topic)}
        told = self._ids(asked, CHECKED_S)
        self._refuse_others(asked, told)
        return asked - set(told)

    def _refuse_others(self, topics: Iterable[str], told: Mapping[str, str]) -> None:
        """Where topics were made anew: settle what was given out of the old ones, and raise Retriable."""
        others = sorted(
            one for one in topics if self._known.get(one) and told.get(one, self._known[one]) != self._known[one]
        )
        if others:
            self._settle([place for place in self._has if place[0] in others])
            said = "was" if len(others) == 1 else "were"
            raise Retriable(f"{', '.join(others)} {said} deleted and made anew: begun again by the next process")

    def _own(self, messages: list[Message]) -> list[Message]:
        """Leave out records of partitions that were given up meanwhile."""
        places = [(message.topic() or "", message.partition() or 0) for message in messages]
        if any(place in self._taken & self._given for place in places):
            # records from before and after stand in one row: only a new start knows from where they are complete
            raise Retriable("a partition left and came back while its records were on their way")
        return [message for message, place in zip(messages, places, strict=True) if place not in self._taken]

    def pause(self, *, on: bool) -> None:
        """Read nothing for a while, and stay a member of the group; or go on."""
        held = self._consumer.assignment()
        if on:  # what is fetched already and was not given out comes again
            self._consumer.pause(held)
        else:
            self._consumer.resume(held)

    def lag(self) -> int | None:
        """Return how many offsets are ahead in the partitions it has; None where nobody knows."""
        total = 0
        with suppress(KafkaException):
            for place in self._consumer.position(self._consumer.assignment()):
                one = TopicPartition(place.topic, place.partition)
                _low, high = self._consumer.get_watermark_offsets(one, cached=True)
                if high < 0:
                    return None
                total += max(high - place.offset, 0) if place.offset >= 0 else 0
            return total
        return None

    def close(self, *, leave: bool) -> None:
        """Close it; with `leave`, others take its partitions at once, else they wait for its session to end."""
        if leave:
            self._consumer.unsubscribe()
            for _ in range(20):
                if self._consumer.poll(0.05) is None and not self._consumer.assignment():
                    break
        self._consumer.close()

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._log.info("assigned", partitions=len(partitions))
        self.assigned = True
        if partitions:
            self._take_up(partitions)
        self._assigned = frozenset(self._has)

    def _take_up(self, partitions: list[TopicPartition]) -> None:
        try:
            # ids first: of a topic that is made anew after this question the first record tells
            told = self._ids({one.topic for one in partitions}, ASK_S)
            self._refuse_others({one.topic for one in partitions} & {topic for topic, _ in self._has}, told)
            begins = self._starts(self._bounds(partitions), told)
        except MuseError as error:
            self._failed = error
            return
        self._known |= {one.topic: told.get(one.topic, "") for one in partitions}
        self._has |= set(begins)
        self._given |= set(begins)
        self._consumer.incremental_assign([TopicPartition(*place, offset) for place, offset in begins.items()])

    def _bounds(self, partitions: list[TopicPartition]) -> dict[TopicPartitionKey, Bounds]:
        places = [(one.topic, one.partition) for one in partitions]
        return {place: Bounds(*watermarks(self._consumer, place, ASK_S)) for place in places}

    def _ids(self, topics: Iterable[str], timeout_s: float) -> dict[str, str]:
        # should this client end the process (R7), nothing is counted wrongly by that
        if self._admin is None:
            self._admin = client.admin(self._settings)
        return topic_ids(self._admin, topics, timeout_s)

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._log.info("revoked", partitions=len(partitions))
        places = [(one.topic, one.partition) for one in partitions]
        self._assigned = None
        self._taken |= set(places)
        self._has -= set(places)
        self._held = [one for one in self._held if (one.topic() or "", one.partition() or 0) not in self._taken]
        self._settle(places)
        self._consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._log.warning("lost", partitions=len(partitions))
        self._on_revoke(consumer, partitions)

    def _report(self, faults: list[Message]) -> None:
        for message in faults:
            error, topic = message.error(), message.topic()
            if error is None:
                continue
            if concerns(error, About.LOST_OFFSET):
                self._settle([(topic or "", message.partition() or 0)])
                raise Fatal(f"{topic}[{message.partition()}] no longer has the offset to read on from: {said(error)}")
            if error.fatal() or "fenced" in error.str():
                raise Fatal(f"consumer: {said(error)}")
            if concerns(error, About.GROUP):
                raise Fatal(f"consumer group {self._group}: {said(error)}")
            self._log.warning("consume_error", topic=topic, code=error.name(), error=said(error))
