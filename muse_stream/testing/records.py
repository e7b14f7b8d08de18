"""Records onto topics, and what is committed on topics, for tests and measurements.

Nothing here uses `muse_stream.kafka` or a consumer group: what proves exactly-once shares no code with what it checks.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

Place = tuple[str, int]
"""A topic and the number of one of its partitions."""


class ToSend(NamedTuple):
    """A record for `produce`."""

    topic: str
    partition: int
    value: bytes | None
    key: bytes | None = None
    headers: dict[str, str | bytes | None] | None = None


def spread(topic: str, values: Iterable[bytes | None], partitions: int = 1, *, run: int = 1) -> Iterator[ToSend]:
    """Yield records of a topic, round robin over its partitions in runs of `run`."""
    return (ToSend(topic, number // run % partitions, value) for number, value in enumerate(values))


def produce(
    bootstrap: str, records: Iterable[ToSend], settings: Mapping[str, Any] | None = None, *, timeout_s: float = 60.0
) -> None:
    """Write records in order and return when the broker has them all.

    `settings` are further librdkafka settings of the producer. Raises KafkaException for a record that is refused, and
    TimeoutError when records are still not taken `timeout_s` after the last one was handed over.
    """
    refused: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            refused.append(error)

    own = {"bootstrap.servers": bootstrap, "message.max.bytes": 20_000_000, "delivery.report.only.error": True}
    producer = Producer(own | dict(settings or {}))
    for topic, partition, value, key, headers in records:
        while True:
            try:
                producer.produce(topic, value, key, partition, delivered, headers=headers)
                break
            except BufferError:  # the queue is full: wait until some are taken
                producer.poll(0.1)
    if left := producer.flush(timeout_s):
        raise TimeoutError(f"{left} records are not taken after {timeout_s:g} s")
    if refused:
        raise KafkaException(refused[0])


class CommittedReader:
    """Reads what is committed on some topics, from their first offset, in the order of each partition.

    `topics` says how many partitions each has; they must exist. `settings` are further librdkafka settings of the
    consumer. `tolerant` waits faults of the brokers out, which are raised as KafkaException otherwise.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Mapping[str, int],
        settings: Mapping[str, Any] | None = None,
        *,
        tolerant: bool = False,
    ) -> None:
        self._tolerant = tolerant
        self._places = [(name, number) for name, count in topics.items() for number in range(count)]
        self._empty_from: dict[Place, int] = {}
        """Where a partition had nothing more when it was last read to its end; markers may stand before it."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "reader",  # never joined: librdkafka asks for a name
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",  # records that are gone must not go unnoticed
                "fetch.queue.backoff.ms": 5,
            }
            | dict(settings or {})
        )
        self._consumer.assign([TopicPartition(*place, 0) for place in self._places])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the consumer; whatever was read stays."""
        self._consumer.close()

    def read(self, timeout_s: float = 0.1, most: int = 10_000) -> list[Message]:
        """Return records that are new; waits until `most` have come, and for `timeout_s` at the longest."""
        messages = self._consumer.consume(most, timeout_s)
        records = [message for message in messages if message.error() is None]
        if len(records) < len(messages):
            self._note([message for message in messages if message.error() is not None])
        return records

    def read_to_end(self, ends: Mapping[Place, int] | None = None, *, timeout_s: float = 60.0) -> list[Message]:
        """Read up to `ends`, without them up to what is committed by now; returns the new records.

        Raises TimeoutError naming the partitions that were not read so far within `timeout_s`.
        """
        goal = self.ends() if ends is None else ends
        found, until = list[Message](), time.monotonic() + timeout_s
        while missing := self._short_of(goal):
            if time.monotonic() > until:
                raise TimeoutError(f"not read to the end within {timeout_s:g} s: {missing}")
            found += self.read(0.05)
        return found

    def ends(self, timeout_s: float = 10.0) -> dict[Place, int]:
        """Return where each partition ends now for a reader of committed records: its last stable offset.

        Brokers hear of a new topic one after the other, so one that does not know it yet is asked again.
        """
        return {place: self._end(place, time.monotonic() + timeout_s) for place in self._places}

    def _end(self, place: Place, until: float) -> int:
        while True:
            try:
                left_s = max(until - time.monotonic(), 0.1)
                return int(self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=left_s)[1])
            except KafkaException as error:
                if error.args[0].code() != KafkaError._UNKNOWN_PARTITION or time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def _note(self, faults: list[Message]) -> None:
        for message in faults:
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                self._empty_from[message.topic() or "", message.partition() or 0] = message.offset() or 0
            elif not self._tolerant:
                raise KafkaException(error)

    def _short_of(self, goal: Mapping[Place, int]) -> list[Place]:
        standing = self._consumer.position([TopicPartition(*place) for place in goal])
        reached = {(one.topic, one.partition): one.offset for one in standing}
        return [place for place, end in goal.items() if max(reached[place], self._empty_from.get(place, 0)) < end]
