"""Records between two offsets of partitions, as they come; and what a reader must know of a cluster before it asks."""

import time
from collections.abc import Callable, Iterator, Mapping

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from muse_stream.config import KafkaSettings
from muse_stream.errors import Retriable
from muse_stream.kafka import client
from muse_stream.kafka.errors import typed
from muse_stream.kafka.partition import TopicPartitionKey
from muse_stream.kafka.partition_ends import END_READER

BEGINNING, END = OFFSET_BEGINNING, OFFSET_END
"""Moments for `offsets_at`."""
STILL_S = 20.0
ASK_S = 5.0
AT_ONCE = 5_000

Spans = Mapping[TopicPartitionKey, tuple[int, int]]
"""Partition -> first offset wanted, and the one after the last."""


def span_reader(settings: KafkaSettings, group: str, stable: bool) -> Consumer:
    """Return a consumer that never joins its group and tells the ends of partitions; close it when done.

    `stable`: it reads committed records only, and sees what the group has committed in transactions that are over.
    """
    isolation = "read_committed" if stable else "read_uncommitted"
    return client.consumer(settings, **{"group.id": group, "isolation.level": isolation, **END_READER})


def partition_counts(consumer: Consumer) -> dict[str, int]:
    """Return topic -> partitions, of every topic that can be seen; raises `Retriable`."""
    try:
        topics = consumer.list_topics(timeout=ASK_S).topics
    except KafkaException as error:
        raise Retriable(f"cannot list topics: {typed(error)}") from error
    return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}


def read_spans(
    consumer: Consumer, spans: Spans, refused: Callable[[str], object]
) -> Iterator[tuple[TopicPartitionKey, list[Message]]]:
    """Yield the records of these spans in blocks, in order for each partition, as the consumer's isolation has it.

    `refused` is told of a topic that may not be read; its partitions are left out. The consumer must tell the ends of
    partitions. Raises `Retriable` when nothing comes.
    """
    waiting = set(spans)
    consumer.assign([TopicPartition(*place, spans[place][0]) for place in sorted(waiting)])
    moved = time.monotonic()
    try:
        while waiting:
            message = consumer.poll(0.1)
            taken = [message, *consumer.consume(AT_ONCE, 0)] if message is not None else []
            if taken:
                moved = time.monotonic()
            elif time.monotonic() - moved > STILL_S:
                topic, partition = min(waiting)
                raise Retriable(f"{topic}[{partition}] could not be read within {STILL_S:g} s")
            blocks: dict[TopicPartitionKey, list[Message]] = {}
            for one in taken:
                _sort(one, spans, waiting, blocks, refused)
            yield from blocks.items()
    except KafkaException as error:
        raise Retriable(f"records cannot be read: {typed(error)}") from error
    finally:
        consumer.unassign()


def _sort(
    message: Message,
    spans: Spans,
    waiting: set[TopicPartitionKey],
    blocks: dict[TopicPartitionKey, list[Message]],
    refused: Callable[[str], object],
) -> None:
    topic, partition, offset, error = message.topic(), message.partition(), message.offset(), message.error()
    if topic is None or partition is None:
        return
    place = (topic, partition)
    if error is None and offset is not None:
        if offset < spans[place][1]:
            blocks.setdefault(place, []).append(message)
        if offset >= spans[place][1] - 1:
            waiting.discard(place)
    elif error is not None and error.code() == KafkaError._PARTITION_EOF:
        waiting.discard(place)
    elif error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        waiting.difference_update([one for one in waiting if one[0] == topic])
        refused(topic)
