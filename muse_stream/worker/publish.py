"""The loop that hands bytes to Kafka: one call a record, inside an open transaction.

Invariant: an answer keeps its event's key. It keeps its event's partition where the two topics have equally many; else
it goes by its key, and without a key to `partition mod count`, so that the order within a source partition is not lost.
"""

from collections.abc import Callable

from confluent_kafka import KafkaException

from muse_stream.errors import Abortable
from muse_stream.kafka import TransactionalProducer, client
from muse_stream.worker import dead_letter
from muse_stream.worker.batch import Answer, DeadLetter, Header, RawBatch

BY_KEY = -1
ROOM_S = 0.05

PartitionCount = Callable[[str], int]


def publish(
    producer: TransactionalProducer,
    batch: RawBatch,
    answer: Answer,
    count: PartitionCount,
    *,
    generation: int,
    attempt: int,
    worker: str,
) -> None:
    """Queue every answer and dead letter of a batch; raises `Abortable` naming the topic that refused one."""
    outgoing = answer.outgoing
    partitions = _partitions(batch, outgoing.rows, outgoing.topics, count)
    keys = batch.keys
    produce = producer.produce
    for row, topic, value, partition in zip(outgoing.rows, outgoing.topics, outgoing.values, partitions, strict=True):
        try:
            produce(topic, value, keys[row], partition)
        except (BufferError, KafkaException) as error:
            _again(producer, error, topic, value, keys[row], partition)
    for letter in answer.dead:
        _bury(producer, batch, letter, count, generation=generation, attempt=attempt, worker=worker)


def _partitions(batch: RawBatch, rows: list[int], topics: list[str], count: PartitionCount) -> list[int]:
    source, partitions = batch.topics, batch.partitions
    pairs = set(zip(map(source.__getitem__, rows), topics, strict=True))
    if all(count(event_topic) == count(topic) for event_topic, topic in pairs):
        return [partitions[row] for row in rows]
    return [_partition(batch, row, topic, count) for row, topic in zip(rows, topics, strict=True)]


def _partition(batch: RawBatch, row: int, topic: str, count: PartitionCount) -> int:
    available = count(topic)
    if available == count(batch.topics[row]):
        return batch.partitions[row]
    return BY_KEY if batch.keys[row] is not None or not available else batch.partitions[row] % available


def _bury(
    producer: TransactionalProducer,
    batch: RawBatch,
    letter: DeadLetter,
    count: PartitionCount,
    *,
    generation: int,
    attempt: int,
    worker: str,
) -> None:
    row = letter.rejected.row
    headers = dead_letter.headers(batch, letter.rejected, generation=generation, attempt=attempt, worker=worker)
    partition = _partition(batch, row, letter.topic, count)
    value, key = batch.values[row], batch.keys[row]
    try:
        producer.produce(letter.topic, value, key, partition, headers=headers)
    except (BufferError, KafkaException) as error:
        _again(producer, error, letter.topic, value, key, partition, headers)


def _again(
    producer: TransactionalProducer,
    error: Exception,
    topic: str,
    value: bytes | None,
    key: bytes | None,
    partition: int,
    headers: list[Header] | None = None,
) -> None:
    """Wait for room in the local queue, or say which topic refused the record."""
    while isinstance(error, BufferError):
        producer.make_room(ROOM_S)
        try:
            producer.produce(topic, value, key, partition, headers=headers or [])
            return
        except (BufferError, KafkaException) as following:
            error = following
    assert isinstance(error, KafkaException)  # noqa: S101  # the loop above leaves nothing else
    problem = client.typed(error)
    if fault := producer.fault():
        raise fault from error  # an earlier record of this transaction was refused: that one is the cause
    if error.args[0].fatal():
        raise problem from error  # the producer is done for: fenced, most likely
    raise Abortable(f"{topic}: {problem}", topic=topic, code=problem.code) from error
