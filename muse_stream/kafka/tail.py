"""Follow a topic as it grows, without a group.

Gives its committed records, in order per partition, for as long as somebody listens. Nothing is joined, nothing
committed; records of open and aborted transactions are never shown. Partitions that are added meanwhile are picked up
from their first offset.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from muse_stream.config import KafkaSettings
from muse_stream.errors import Fatal
from muse_stream.kafka.errors import asked
from muse_stream.kafka.topic_reader import UNUSED_GROUP, Bounds, bounds, headers, reader

Start = Literal["beginning", "end"]
WAIT_S = 0.2
REFRESH_S = 5.0
"""Seconds between two looks for new partitions."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it is on the topic."""

    partition: int
    offset: int
    timestamp: int
    """Milliseconds since 1970."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def follow(
    settings: KafkaSettings,
    topic: str,
    start: Start | int = "end",
    *,
    until_end: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[list[Record]]:
    """Yield records as they come; `start` may be a number of records to go back to in each partition.

    Ends when `stop` says so (asked at least every 0.2 s), or, with `until_end`, at the end the topic had at the start.
    Raises `Fatal` when the topic does not exist.
    """
    client = reader(settings, **{"queued.min.messages": 1_000, "topic.metadata.refresh.interval.ms": 5_000})
    try:
        held = bounds(client, topic)
        if not held:
            raise Fatal(f"there is no topic {topic}")
        client.assign([TopicPartition(topic, partition, _first(bound, start)) for partition, bound in held.items()])
        left = {partition for partition, bound in held.items() if bound.high > _first(bound, start)}
        looked = time.monotonic()
        while not stop() and not (until_end and not left):
            records, ended = _poll(client)
            left -= ended
            if records:
                yield records
            elif not until_end and time.monotonic() - looked > REFRESH_S:
                looked = time.monotonic()
                _adopt(client, topic, held)
    finally:
        client.close()


def _first(bound: Bounds, start: Start | int) -> int:
    if start == "beginning":
        return bound.low
    return bound.high if start == "end" else max(bound.low, bound.high - int(start))


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
            raise asked(event)
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
