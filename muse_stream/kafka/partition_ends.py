"""Where partitions end, for readers of committed records and for everyone: is anything undecided?

Tells of partitions their last stable offset and high watermark, the records between the two, committed ones near the
end, and the group's offsets, stable or as last known. It uses two consumers that never join a group, and no AdminClient
(R7). Any thread may call; one at a time is served. A look costs two requests to each broker, whatever the number of
partitions.
"""

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition
from msgspec import Struct

from muse_stream.config import KafkaSettings
from muse_stream.errors import Retriable, StreamError
from muse_stream.kafka import client
from muse_stream.kafka.broker_release import Listening
from muse_stream.kafka.coordinators import OFFSETS
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.errors import About, concerns, typed
from muse_stream.kafka.explain import GRANT
from muse_stream.kafka.offsets import CommittedOffset, all_offsets_at, committed_offsets, offsets_within
from muse_stream.kafka.partition import TopicPartitionKey

LOOK_S = 1.0
CALM_S, LOOK_EVERY_S = 0.05, 0.005
"""How long others' open transactions are waited for before anybody looks whose they are: most end in milliseconds."""
READ_S = 10.0
END_READER: dict[str, Any] = client.CONNECTED | {
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 5,  # the end of a partition is told by an empty answer
}

Spans = Mapping[TopicPartitionKey, tuple[int, int]]
"""Partition -> first offset wanted, and the one after the last."""
Records = dict[TopicPartitionKey, list[Message]]


class End(Struct, frozen=True):
    """Records below `stable` are decided; between it and `high` is at least one open transaction."""

    stable: int
    high: int

    @property
    def undecided(self) -> bool:
        """Whether some transaction is open here."""
        return self.stable < self.high


class Unreadable(StreamError):
    """These records may not be read: nobody can tell whose they are."""


class Ends:
    """Looks through one consumer that reads committed records and one that reads all; both bear the group's name."""

    def __init__(self, settings: KafkaSettings, group: str) -> None:
        own = {"group.id": group} | END_READER
        self._listening = Listening(client.LOG)
        self._committed = client.consumer(settings, self._listening, **own)
        self._all = client.consumer(settings, **own | {"isolation.level": "read_uncommitted"})
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def _serving(self) -> Iterator[None]:
        """One at a time, and nobody once it is closed: a thread that looks may be late."""
        with self._lock:
            if self._closed:
                raise Retriable("closed: nothing is looked up any more")
            yield

    @property
    def forgetful(self) -> bool:
        """Whether a broker has answered that may forget the markers of transactions; known with the first look."""
        return self._listening.forgetful

    def connect(self) -> None:
        """Connect in the background: the first look is part of a takeover."""
        for consumer in (self._committed, self._all):
            threading.Thread(target=_connect, args=(consumer,), name="connect-ends", daemon=True).start()

    def look(self, places: Iterable[TopicPartitionKey], patience_s: float = 0.0) -> dict[TopicPartitionKey, End]:
        """Return the ends of these partitions; one that has no leader within `patience_s` is left out.

        `stable` is asked after `high`: where it is not less, everything that stood there is decided. Raises `Retriable`
        when a broker does not answer.
        """
        wanted = sorted(set(places))
        if not wanted:
            return {}
        deadline = Deadline(patience_s)
        with self._serving():
            high = offsets_within(self._all, wanted, OFFSET_END, deadline, LOOK_S)
            stable = offsets_within(self._committed, sorted(high), OFFSET_END, deadline, LOOK_S)
            self._committed.poll(0)  # it reads nothing now; what it has heard of the brokers is handed over here
        return {place: End(min(end, high[place]), high[place]) for place, end in stable.items()}

    def wait_decided(
        self, places: Collection[TopicPartitionKey], patience_s: float = CALM_S, leader_s: float = 0.0
    ) -> tuple[set[TopicPartitionKey], dict[TopicPartitionKey, End]]:
        """Wait until everything that stands in these partitions now is decided.

        Returns which partitions could be looked at all the time, and those of them where it is not so in the end.
        `leader_s` is how long they may be without a leader at first.
        """
        deadline = Deadline(patience_s)
        ends = self.look(places, leader_s)
        seen, waiting = set(ends), {place: end for place, end in ends.items() if end.undecided}
        while waiting and not deadline.over:
            time.sleep(LOOK_EVERY_S)
            now = self.look(waiting)
            seen -= waiting.keys() - now.keys()  # its leader has gone: nobody knows whether it was decided
            waiting = {
                place: End(now[place].stable, end.high)
                for place, end in waiting.items()
                if place in now and now[place].stable < end.high
            }
        return seen, waiting

    def high(self, places: Collection[TopicPartitionKey]) -> dict[TopicPartitionKey, int]:
        """Return where these partitions end, open transactions included; those without a leader are left out.

        Raises `Retriable` when a broker does not answer.
        """
        with self._serving():
            return offsets_within(self._all, sorted(places), OFFSET_END, Deadline(0.0), LOOK_S)

    def wait_stable(
        self,
        ends: Mapping[TopicPartitionKey, int],
        patience_s: float,
        known: Mapping[TopicPartitionKey, int] = MappingProxyType({}),
    ) -> dict[TopicPartitionKey, int]:
        """Wait until everything below these offsets is decided; return where it is not, and the last stable offset.

        That is -1 without a leader. Partitions that stand at a `known` offset are not waited for. Raises `Retriable`
        when a broker does not answer.
        """
        waiting = dict.fromkeys(ends, -1)
        for _last in Deadline(patience_s).tries(LOOK_EVERY_S):
            with self._serving():
                stable = offsets_within(self._committed, sorted(waiting), OFFSET_END, Deadline(0.0), LOOK_S)
            waiting = {
                place: stable.get(place, -1)
                for place in waiting
                if stable.get(place, -1) < ends[place] and stable.get(place) != known.get(place, -2)
            }
            if not waiting:
                break
        return waiting

    def undecided(self, ends: Mapping[TopicPartitionKey, End]) -> Records:
        """Return the records of each partition between its last stable offset and its high watermark."""
        with self._serving():
            return _read(self._all, {place: (end.stable, end.high) for place, end in ends.items()})

    def latest(self, ends: Mapping[TopicPartitionKey, End], most: int) -> Records:
        """Return the committed records on the last `most` offsets below each partition's stable end."""
        with self._serving():
            return _read(self._committed, {p: (max(0, end.stable - most), end.stable) for p, end in ends.items()})

    def between(self, spans: Spans) -> Records:
        """Return the committed records in these spans, which must be decided."""
        with self._serving():
            return _read(self._committed, spans)

    def since(self, ends: Mapping[TopicPartitionKey, End], moment_ms: int) -> Records:
        """Return the committed records of each partition that were written at or after a moment."""
        with self._serving():
            # of all or of none: whose answers are not looked at would be answered again
            found = all_offsets_at(self._committed, sorted(ends), moment_ms, LOOK_S)
            return _read(self._committed, {p: (at, ends[p].stable) for p, at in found.items() if at >= 0})

    def group_offsets(
        self, partitions: Iterable[TopicPartitionKey], timeout_s: float, *, stable: bool = True
    ) -> dict[TopicPartitionKey, int] | None:
        """Return the group's committed offsets (0 where there are none); None while pending ones hide them.

        With `stable=False` the offsets of open transactions are passed over.
        """
        with self._serving():
            try:
                found = committed_offsets(self._committed if stable else self._all, set(partitions), timeout_s)
            except KafkaException as error:
                if concerns(error, About.HIDDEN):
                    return None
                raise Retriable(f"no committed offsets: {typed(error)}") from error
        return {place: one.offset or 0 for place, one in found.items()}

    def committed(self, partitions: Iterable[TopicPartitionKey]) -> dict[TopicPartitionKey, CommittedOffset]:
        """Return what the group has committed last, open transactions passed over; empty without an answer."""
        try:
            with self._serving():
                return committed_offsets(self._all, partitions, LOOK_S)
        except (KafkaException, Retriable):  # no answer, or it has been closed meanwhile
            return {}

    def signatures(self, partitions: Iterable[TopicPartitionKey]) -> dict[TopicPartitionKey, str]:
        """Return who has committed the group's offsets of these partitions last, as far as it is known."""
        return {place: one.signature.owner for place, one in self.committed(partitions).items() if one.signature}

    def metadata(self) -> Any:
        """Return the group's metadata as of one who has not joined: the broker compares no generation with it."""
        return self._committed.consumer_group_metadata()

    def close(self) -> None:
        """Let the consumers go."""
        with self._lock:
            self._closed = True
            self._committed.close()
            self._all.close()


def _connect(consumer: Consumer) -> None:
    try:
        consumer.list_topics(OFFSETS, timeout=LOOK_S)  # of one topic: a cluster may have thousands
    except (KafkaException, RuntimeError):  # the look itself will report it
        return


def _read(consumer: Consumer, spans: Spans) -> Records:
    """Return the records in these spans, as the consumer's isolation has it; control records leave gaps."""
    found: Records = {place: [] for place in spans}
    waiting = {place for place, (first, end) in spans.items() if first < end}
    if not waiting:
        return found
    consumer.assign([TopicPartition(*place, spans[place][0]) for place in sorted(waiting)])
    try:
        deadline = Deadline(READ_S)
        while waiting:
            message = consumer.poll(0.1)
            if deadline.over:
                raise Retriable(f"the end of {sorted(waiting)[0]} could not be read within {READ_S:g} s")
            for one in [message, *consumer.consume(1_000, 0)] if message is not None else []:
                _sort_in(one, spans, waiting, found)
    except KafkaException as error:
        raise Retriable(f"cannot read the end of a partition: {typed(error)}") from error
    finally:
        consumer.unassign()
    return found


def _sort_in(message: Message, spans: Spans, waiting: set[TopicPartitionKey], found: Records) -> None:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None:
        return  # a broker is away: the deadline decides
    place, error = (topic, partition), message.error()
    if error is None and offset is not None:
        if offset < spans[place][1]:
            found[place].append(message)
        if offset >= spans[place][1] - 1:
            waiting.discard(place)
    elif error is not None and error.code() == KafkaError._PARTITION_EOF:
        waiting.discard(place)
    elif error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise Unreadable(f"no permission to READ {topic}: {GRANT}", topic=topic)
