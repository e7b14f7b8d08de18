"""Kafka's messages, all without errors, as parallel lists.

One of the two loops over events (the other is in `publish`), in C as far as Python can; timestamps and headers are read
when somebody asks, once.
"""

from functools import cache

from confluent_kafka import Message

from muse_stream.worker.batch import RawBatch


def raw_batch(messages: list[Message]) -> RawBatch:
    """Take messages apart into parallel lists: one of the two loops over events, in C as far as Python can."""
    return RawBatch(
        # a message without an error has a topic, a partition and an offset
        topics=[message.topic() for message in messages],  # type: ignore[misc]
        partitions=[message.partition() for message in messages],  # type: ignore[misc]
        offsets=[message.offset() for message in messages],  # type: ignore[misc]
        keys=[message.key() for message in messages],
        values=[message.value() for message in messages],
        timestamps=cache(lambda: [message.timestamp()[1] for message in messages]),
        headers=cache(lambda: [list(message.headers() or []) for message in messages]),  # type: ignore[arg-type]
    )
