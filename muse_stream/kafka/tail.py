"""Follow a topic as it grows, without a group.

Gives its committed records, in order per partition, for as long as somebody listens. Nothing is joined, nothing
committed; records of open and aborted transactions are never shown. Partitions that are added meanwhile are picked up
from their first offset.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from msgspec import Struct

from muse_stream.config import KafkaSettings
from muse_stream.errors import Fatal, Retriable
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.errors import asked
from muse_stream.kafka.topic_reader import TIMEOUT_S, UNUSED_GROUP, Bounds, bounds, headers, reader, silence

Start = Literal["beginning", "end"]
WAIT_S = 0.2
REFRESH_S = 5.0
"""Seconds between two looks for new partitions."""
HIDDEN_S = 20.0
"""An honest transaction ends sooner."""


class Record(Struct, frozen=True):
    """One record as it is on the topic."""

    partition: int
    offset: int
    timestamp: int
    """Milliseconds since 1970."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


Wanted = Callable[[Sequence[Record]], Sequence[bool]]
"""Says of each record whether it counts."""
Hidden = Callable[[int, int, int], object]
"""Is told a partition, where its records begin that nobody can read yet, and where they end."""


def follow(
    settings: KafkaSettings,
    topic: str,
    start: Start | int = "end",
    *,
    wanted: Wanted | None = None,
    until_end: bool = False,
    hidden: Hidden = lambda _partition, _first, _end: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[list[Record]]:
    """Yield records as they come; `start` may be a number of records to go back to in each partition.

    That number counts records that are `wanted` (all, unless told otherwise: one answer for each record), and neither
    the markers of transactions nor records of aborted ones, which take offsets as well. What is not wanted is yielded
    all the same.

    Records behind an open transaction cannot be read. `hidden` is told of them when it stays open for 20 s, and at the
    end.

    Ends when `stop` says so (asked at least every 0.2 s), or, with `until_end`, at the end the topic had at the start.
    Raises `Fatal` when the topic does not exist.
    """
    client = reader(settings, **{"queued.min.messages": 1_000, "topic.metadata.refresh.interval.ms": 5_000})
    try:
        held = bounds(client, topic)
        if not held:
            raise Fatal(f"there is no topic {topic}; `muse-stream topics CONFIG` makes what a configuration needs")
        first = _first_offsets(client, topic, held, start, wanted or (lambda records: [True] * len(records)))
        client.assign([TopicPartition(topic, partition, offset) for partition, offset in first.items()])
        left = {partition for partition, bound in held.items() if bound.high > first[partition]}
        looked = time.monotonic()
        standing = _Standing(hidden)
        while not stop() and not (until_end and not left):
            records, ended = _poll(client)
            left -= ended
            if records:
                yield records
            elif not until_end and time.monotonic() - looked > REFRESH_S:
                looked = time.monotonic()
                _adopt(client, topic, held)
                standing.look(client, topic, held)
        if until_end and not left:
            standing.look(client, topic, held, at_once=True)
    finally:
        client.close()


class _Standing:
    """Partitions that are read to the last stable offset, with records behind it."""

    def __init__(self, hidden: Hidden) -> None:
        self._hidden = hidden
        self._since: dict[tuple[int, int], float] = {}
        self._said: set[tuple[int, int]] = set()

    def look(self, client: Consumer, topic: str, held: Mapping[int, Bounds], *, at_once: bool = False) -> None:
        """Say which partitions stand still behind an open transaction, each place once."""
        now, before = time.monotonic(), self._since
        self._since = {}
        try:
            positions = client.position([TopicPartition(topic, partition) for partition in held])
        except KafkaException:  # the next poll says why
            return
        for place in positions:
            _low, high = client.get_watermark_offsets(place, cached=True)
            offset = held[place.partition].high if place.offset < 0 else place.offset
            if offset < high:
                key = place.partition, offset
                self._since[key] = before.get(key, now)
                if key not in self._said and (at_once or now - self._since[key] >= HIDDEN_S):
                    self._said.add(key)
                    self._hidden(place.partition, offset, high)


def _first_offsets(
    client: Consumer, topic: str, held: Mapping[int, Bounds], start: Start | int, wanted: Wanted
) -> dict[int, int]:
    """Return where each partition is read from.

    Offsets do not count records: transactions put markers between them, aborted ones and compaction leave gaps. So for
    a number of records the end of each partition is read, and twice as much of it until there are enough.
    """
    if start == "beginning":
        return {partition: bound.low for partition, bound in held.items()}
    found = {partition: bound.high for partition, bound in held.items()}
    if start == "end":
        return found
    count, span = int(start), 2 * int(start)
    open_ones = {partition for partition, bound in held.items() if bound.high > bound.low}
    while open_ones:
        begin = {partition: max(held[partition].low, held[partition].high - span) for partition in open_ones}
        for partition, offsets in _wanted_offsets(client, topic, held, begin, count, wanted).items():
            found[partition] = offsets[0] if offsets else held[partition].high
            if len(offsets) == count or begin[partition] == held[partition].low:
                open_ones.discard(partition)
        span *= 2
    return found


def _wanted_offsets(
    client: Consumer, topic: str, held: Mapping[int, Bounds], begin: Mapping[int, int], count: int, wanted: Wanted
) -> dict[int, deque[int]]:
    """Return the offsets of the last `count` wanted records of each partition, from `begin` to its end."""
    client.assign([TopicPartition(topic, partition, offset) for partition, offset in begin.items()])
    found: dict[int, deque[int]] = {partition: deque(maxlen=count) for partition in begin}
    left, deadline = set(begin), Deadline(TIMEOUT_S)
    while left:
        records, ended = _poll(client)
        for record, keep in zip(records, wanted(records), strict=True):
            if record.offset >= held[record.partition].high - 1:
                ended.add(record.partition)
            if keep and record.offset < held[record.partition].high:
                found[record.partition].append(record.offset)
        left -= ended
        if records or ended:
            deadline = Deadline(TIMEOUT_S)
        elif deadline.over:
            raise Retriable(silence(topic, left))
    return found


def _poll(client: Consumer) -> tuple[list[Record], set[int]]:
    """Return the records that are there, and the partitions that were read to their end."""
    try:
        first = client.poll(WAIT_S)
        messages = [first, *client.consume(999, 0.0)] if first is not None else []
    except KafkaException as error:
        raise asked(error) from None
    records: list[Record] = []
    ended: set[int] = set()
    for message in messages:
        event = message.error()
        if event is None:
            records.append(_record(message))
        elif event.code() == KafkaError._PARTITION_EOF:
            ended.add(message.partition() or 0)
        elif event.code() != UNUSED_GROUP:
            raise asked(event, message.topic() or "", "READ")
    return records, ended


def _record(message: Message) -> Record:
    return Record(
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple(headers(message)),
    )


def _adopt(client: Consumer, topic: str, held: dict[int, Bounds]) -> None:
    new = {partition: bound for partition, bound in bounds(client, topic).items() if partition not in held}
    if new:
        held.update(new)
        client.incremental_assign([TopicPartition(topic, partition, bound.low) for partition, bound in new.items()])
