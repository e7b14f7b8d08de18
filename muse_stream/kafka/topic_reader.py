"""A topic read from its beginning, without a group: what `verify` and `tail` share.

Tells where the topic's partitions begin and end, and gives its records in order per partition. Nothing is joined and
nothing committed; only committed records are given out (read_committed), and offsets are those of the log: control
records and aborted ones leave gaps.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from msgspec import Struct

from muse_stream.config import KafkaSettings
from muse_stream.errors import Fatal, Retriable
from muse_stream.kafka.client import consumer
from muse_stream.kafka.errors import About, asked, concerns
from muse_stream.kafka.offsets import CommittedOffset, all_offsets_at, committed_offsets, watermarks
from muse_stream.kafka.partition import TopicPartitionKey

TIMEOUT_S = 15.0
SINGLE_S = 1.0
BATCH = 10_000
READER: dict[str, Any] = {
    "group.id": "muse-stream-reader",  # librdkafka wants a name; with assign() and no commit it is never used
    "enable.partition.eof": True,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
}


UNUSED_GROUP = KafkaError.GROUP_AUTHORIZATION_FAILED
"""librdkafka looks for the coordinator of every group it is given; who may read topics needs no right to this one."""


class Bounds(Struct, frozen=True):
    """The offsets a partition held when it was looked at: `low` is the first, `high` the next to be written."""

    low: int
    high: int


def reader(settings: KafkaSettings, **overrides: Any) -> Consumer:
    """Return a consumer for `assign()`; close it when done."""
    return consumer(settings, **(READER | overrides))


def bounds(client: Consumer, topic: str, timeout_s: float = TIMEOUT_S) -> dict[int, Bounds]:
    """Return partition -> offsets; empty when the topic does not exist. `high` counts unstable records as well."""
    try:
        described = client.list_topics(topic, timeout=timeout_s).topics[topic]
        if described.error is not None:
            if described.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return {}
            raise asked(described.error, topic, "READ")
    except KafkaException as error:
        raise asked(error, topic, "READ") from None
    return {
        partition: Bounds(*watermarks(client, (topic, partition), timeout_s))
        for partition in sorted(described.partitions)
    }


def between(
    client: Consumer, topic: str, held: Mapping[int, Bounds], since_ms: int | None, until_ms: int | None
) -> dict[int, Bounds]:
    """Return what of a topic was written from one moment on and before the other, in ms since 1970; None: no bound.

    Raises `Retriable` when Kafka does not answer, or a partition has no leader for as long.
    """
    found: list[Mapping[int, int]] = []
    for moment in (since_ms, until_ms):
        places = [(topic, partition) for partition in held] if moment is not None else []
        answer = all_offsets_at(client, places, moment or 0, TIMEOUT_S)
        found.append({p: held[p].high if offset < 0 else offset for (_, p), offset in answer.items()})
    first, last = found
    return {
        p: Bounds(
            min(max(bound.low, first.get(p, bound.low)), bound.high),
            max(min(bound.high, last.get(p, bound.high)), bound.low),
        )
        for p, bound in held.items()
    }


class Block(Struct, frozen=True, eq=False):
    """Some committed records of one topic; every list has one entry a record, in order per partition."""

    topic: str
    messages: list[Message]
    partitions: list[int]
    offsets: list[int]

    def values(self) -> list[bytes | None]:
        """Return the payloads."""
        return [message.value() for message in self.messages]

    def timestamps(self) -> list[int]:
        """Return when they were sent, or written where the topic says so, in milliseconds since 1970."""
        return [message.timestamp()[1] for message in self.messages]

    def headers(self) -> list[list[tuple[str, bytes | None]]]:
        """Return the headers; costs as much as everything else about a record."""
        return [headers(message) for message in self.messages]


def headers(message: Message) -> list[tuple[str, bytes | None]]:
    """Return a record's headers in order, values as bytes."""
    found: Any = message.headers() or []
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in found]


class Reading:
    """Reads one topic from its first offset up to `ends`; iterate over it once.

    `unstable` names, afterwards, the partitions whose end stayed behind an open transaction for `settle_s` seconds.
    """

    def __init__(self, client: Consumer, topic: str, ends: Mapping[int, Bounds], settle_s: float) -> None:
        self._client = client
        self._topic = topic
        self._ends = ends
        self._settle_s = settle_s
        self._open = {partition for partition, bound in ends.items() if bound.high > bound.low}
        self._waiting: dict[int, int] = {}
        """Partitions read up to their stable end, which is not the end wanted; and where that is."""
        self.unstable: dict[int, int] = {}

    def __iter__(self) -> Iterator[Block]:
        parts = [TopicPartition(self._topic, partition, self._ends[partition].low) for partition in sorted(self._open)]
        self._client.assign(parts)
        if parts:  # an earlier reading by this client may have left them paused, which outlives an assignment
            self._client.resume(parts)
        moved = time.monotonic()
        try:
            while self._open:
                block = self._next()
                if block is not None:
                    moved = time.monotonic()
                    yield block
                elif self._open <= self._waiting.keys():
                    if time.monotonic() - moved > self._settle_s:
                        self.unstable = {partition: self._waiting[partition] for partition in sorted(self._open)}
                        return
                elif time.monotonic() - moved > TIMEOUT_S:
                    raise Retriable(silence(self._topic, self._open - self._waiting.keys()))
        finally:
            self._client.unassign()

    def _next(self) -> Block | None:
        try:
            first = self._client.poll(0.2)  # consume() would wait its whole time for a full batch
            polled = [first, *self._client.consume(BATCH - 1, 0.01)] if first is not None else []
        except KafkaException as error:
            raise asked(error, self._topic) from None
        messages = [message for message in polled if message.error() is None]
        partitions = [message.partition() or 0 for message in messages]  # None only in a message never sent
        offsets = [message.offset() or 0 for message in messages]
        last = dict(zip(partitions, offsets, strict=True))  # the last of each partition wins
        for partition in last:
            self._waiting.pop(partition, None)
        self._finish({partition for partition, offset in last.items() if offset >= self._ends[partition].high - 1})
        for message in polled if len(messages) < len(polled) else ():
            if message.error() is not None:
                self._event(message, last)
        if any(offset >= self._ends[partition].high for partition, offset in last.items()):
            kept = [row for row, offset in enumerate(offsets) if offset < self._ends[partitions[row]].high]
            messages = [messages[row] for row in kept]
            partitions, offsets = [partitions[row] for row in kept], [offsets[row] for row in kept]
        return Block(self._topic, messages, partitions, offsets) if messages else None

    def _event(self, message: Message, last: Mapping[int, int]) -> None:
        """Note the end of a partition, if no record of it stands behind: `last` are those that came with it."""
        error = message.error()
        partition, offset = message.partition(), message.offset()
        if error is not None and error.code() == UNUSED_GROUP:
            return
        if error is None or error.code() != KafkaError._PARTITION_EOF:
            place = self._topic if partition is None or partition < 0 else f"{self._topic}[{partition}]"
            raise asked(error, place, "READ") if error is not None else Fatal("an event without an error")
        if partition is None or offset is None:
            return
        if offset >= self._ends[partition].high:
            self._finish({partition})
        elif last.get(partition, -1) < offset:
            self._waiting[partition] = offset

    def _finish(self, partitions: set[int]) -> None:
        ended = partitions & self._open
        self._open -= ended
        if ended and self._open:  # a busy writer would go on filling the queue
            self._client.pause([TopicPartition(self._topic, partition) for partition in ended])


def silence(topic: str, partitions: Collection[int]) -> str:
    """Say that nothing came from these partitions, though their end has not been reached."""
    places = ", ".join(f"{topic}[{partition}]" for partition in sorted(partitions))
    return (
        f"no records of {places} arrived within {TIMEOUT_S:.0f} s, though there are some: its leader may be away or "
        "standing still, or a quota holds it back; `muse-stream doctor CONFIG` looks for the cause"
    )


def committed(
    settings: KafkaSettings, group: str, topics: Mapping[str, Mapping[int, Bounds]], settle_s: float = TIMEOUT_S
) -> tuple[dict[str, dict[int, int]], set[tuple[str, int]]]:
    """Return topic -> partition -> the next offset `group` will read; a partition without a commit stands at its low.

    Waits `settle_s` for pending transactions of the group. Partitions whose offset such a one still hides are returned
    beside, and stand where they were committed before it.
    """
    client = consumer(settings, **{"group.id": group})  # never subscribes, so it never joins
    regardless = consumer(settings, **{"group.id": group, "isolation.level": "read_uncommitted"})
    places = [(topic, partition) for topic, held in topics.items() for partition in held]
    hidden: set[TopicPartitionKey] = set()
    try:
        try:
            answers = _settled(client, places, settle_s)
        except KafkaException as error:
            if not concerns(error, About.HIDDEN):
                raise
            answers = committed_offsets(regardless, places, TIMEOUT_S)
            hidden = {place for place in places if _hidden(client, place)}
    except KafkaException as error:
        raise asked(error, f"offsets of group {group}", "DESCRIBE") from None
    finally:
        client.close()
        regardless.close()
    found: dict[str, dict[int, int]] = {topic: {} for topic in topics}
    for (topic, partition), answer in answers.items():
        low = topics[topic][partition].low
        found[topic][partition] = low if answer.offset is None else answer.offset
    return found, hidden


def _settled(
    client: Consumer, places: list[TopicPartitionKey], settle_s: float
) -> dict[TopicPartitionKey, CommittedOffset]:
    """Return what is committed once no pending transaction hides it; raises KafkaException after `settle_s`.

    A request for a group that may not be used is asked again until its time is over, and then says only that no answer
    came: the first is short, and the client has heard why meanwhile.
    """
    try:
        return _asked(client, places, SINGLE_S)
    except KafkaException as error:
        if settle_s <= SINGLE_S or error.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise
    return _asked(client, places, settle_s - SINGLE_S)


def _asked(
    client: Consumer, places: list[TopicPartitionKey], patience_s: float
) -> dict[TopicPartitionKey, CommittedOffset]:
    try:
        return committed_offsets(client, places, patience_s)
    except KafkaException as error:
        raise KafkaException(_refused(client) or error.args[0]) from error


def _refused(client: Consumer) -> KafkaError | None:
    """Return that the group may not be used, if that is what the client has heard."""
    for message in client.consume(10, 0.1):
        error = message.error()
        if error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return error
    return None


def _hidden(client: Consumer, place: TopicPartitionKey) -> bool:
    try:
        committed_offsets(client, [place], SINGLE_S)
    except KafkaException:
        return True
    return False
