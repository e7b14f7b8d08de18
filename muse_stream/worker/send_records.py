"""The loop that hands bytes to Kafka: one call a record, inside an open transaction.

Invariant: an answer keeps its event's key, and the headers that its format names; of an event that has a span, the
`traceparent` among them names that span. It keeps its event's partition where
the two topics have equally many; else it goes by its key, and without a key to `partition mod count`, so that the order
within a source partition is not lost.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby

from muse_stream.kafka import NOT_QUEUED, TopicPartitionKey, TransactionalProducer
from muse_stream.worker import dead_letter
from muse_stream.worker.batch import Batch, DeadLetter, Header, Records
from muse_stream.worker.tracer import TRACEPARENT

BY_KEY = -1

PartitionCount = Callable[[str], int]


def send_records(
    producer: TransactionalProducer,
    batch: Batch,
    answer: Records,
    count: PartitionCount,
    *,
    generation: int,
    attempt: int,
    worker: str,
    traceparents: Mapping[int, bytes] | None = None,
) -> None:
    """Queue every answer and dead letter of a batch; raises `Abortable` naming the topic that refused one.

    `traceparents`: row -> the span of its event.
    """
    partitions = _partitions(batch, answer.rows, answer.topics, count)
    keys = batch.keys
    produce = producer.produce
    if answer.passed:
        _with_headers(producer, batch, answer, partitions, traceparents or {})
    else:
        of_rows = map(keys.__getitem__, answer.rows)
        for key, topic, value, partition in zip(of_rows, answer.topics, answer.values, partitions, strict=True):
            try:
                produce(topic, value, key, partition)
            except NOT_QUEUED as error:
                producer.retry(error, topic, value, key, partition)
    for letter in answer.dead:
        _bury(producer, batch, letter, count, generation=generation, attempt=attempt, worker=worker)


def written_to(batch: Batch, answer: Records, count: PartitionCount) -> dict[str, set[TopicPartitionKey]]:
    """Return event topic -> partitions that `send_records` may write to; all of a topic where a key decides."""
    rows = [*answer.rows, *(letter.rejected.row for letter in answer.dead)]
    topics = [*answer.topics, *(letter.topic for letter in answer.dead)]
    found: dict[str, set[TopicPartitionKey]] = {}
    sources, partitions = map(batch.topics.__getitem__, rows), _partitions(batch, rows, topics, count)
    for event_topic, topic, partition in set(zip(sources, topics, partitions, strict=True)):
        which = range(count(topic)) if partition == BY_KEY else (partition,)
        found.setdefault(event_topic, set()).update((topic, one) for one in which)
    return found


def _with_headers(
    producer: TransactionalProducer,
    batch: Batch,
    answer: Records,
    partitions: list[int],
    traceparents: Mapping[int, bytes],
) -> None:
    """Queue every answer with those headers of its event that go on to it."""
    given, keys = batch.headers(), batch.keys
    for row, topic, value, partition in zip(answer.rows, answer.topics, answer.values, partitions, strict=True):
        wanted = answer.passed.get(batch.topics[row], ())
        headers = [header for header in given[row] if header[0] in wanted]
        if row in traceparents:
            headers = _continued(headers, wanted, traceparents[row])
        try:
            producer.produce(topic, value, keys[row], partition, headers=headers)
        except NOT_QUEUED as error:
            producer.retry(error, topic, value, keys[row], partition, headers)


def _continued(headers: Sequence[Header], wanted: Collection[str], traceparent: bytes) -> list[Header]:
    """Return headers of an answer to an event that has a span: whoever reads it goes on from there."""
    if TRACEPARENT not in wanted:
        return list(headers)
    return [*(header for header in headers if header[0] != TRACEPARENT), (TRACEPARENT, traceparent)]


def _partitions(batch: Batch, rows: list[int], topics: list[str], count: PartitionCount) -> list[int]:
    source, partitions = batch.topics, batch.partitions
    # neighbours are alike as a rule, and cheaper to compare than to hash
    pairs = {pair for pair, _run in groupby(zip(map(source.__getitem__, rows), topics, strict=True))}
    if all(count(event_topic) == count(topic) for event_topic, topic in pairs):
        return list(map(partitions.__getitem__, rows))
    return [_partition(batch, row, topic, count) for row, topic in zip(rows, topics, strict=True)]


def _partition(batch: Batch, row: int, topic: str, count: PartitionCount) -> int:
    available = count(topic)
    if available == count(batch.topics[row]):
        return batch.partitions[row]
    return BY_KEY if batch.keys[row] is not None or not available else batch.partitions[row] % available


def _bury(
    producer: TransactionalProducer,
    batch: Batch,
    letter: DeadLetter,
    count: PartitionCount,
    *,
    generation: int,
    attempt: int,
    worker: str,
) -> None:
    row = letter.rejected.row
    headers = dead_letter.headers(
        batch, letter.rejected, generation=generation, attempt=attempt, worker=worker, tenant=letter.tenant
    )
    partition = _partition(batch, row, letter.topic, count)
    value, key = batch.values[row], batch.keys[row]
    try:
        producer.produce(letter.topic, value, key, partition, headers=headers)
    except NOT_QUEUED as error:
        producer.retry(error, letter.topic, value, key, partition, headers)
