"""Isolates the records that Kafka refuses, and decides what becomes of them and of their topics.

Takes batches that failed and why, and batches that were committed. Says how many events the next batch may hold, how
large the record batches may be that producers make, which event topics must wait, and turns answers into dead letters.

  - Where delivery reports name the records, these alone are given up: each becomes a dead letter.
  - Kafka refuses a record batch whole when it is larger than `max.message.bytes` of its topic. So record batches become
    smaller first, until a record that is refused stands alone in one. That is learned: the next one as large becomes a
    dead letter without another trial, and an abort, for a minute.
  - Where most answers of a topic are refused it is the topic that is wrong, not the records: its tenants wait.
  - An error that follows the data and names no record halves the batch, and it grows again only when what failed is
    committed or given up: one record among n costs about log2(n) aborts. A record that fails alone becomes a dead
    letter. When that is refused too, its topic waits, and no other.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from msgspec import Struct

from muse_stream.errors import Abortable, Reason, StreamError
from muse_stream.kafka import About, TopicPartitionKey, Undelivered, names
from muse_stream.worker.batch import Batch, Origin, Records, Topology, given_up
from muse_stream.worker.commit import Pending

TOPIC_FAULTS = names(About.TOPIC)
RECORD_FAULTS = names(About.RECORD)
TOO_LARGE, INVALID = "MSG_SIZE_TOO_LARGE", "INVALID_RECORD"
BATCH_BYTES = 1_000_000
"""librdkafka's default `batch.size`: less than Kafka's default `max.message.bytes`."""
SMALLER = 8
LEARNED_S = 60.0
"""For how long a size that was refused is not tried again."""
MANY = 10
"""More refused answers than this, and more than half of all, are the topic's fault."""
BROKERS = "where the topic has no max.message.bytes, message.max.bytes of its broker counts"
CHECKS = (
    "a compacted topic takes no record without a key (cleanup.policy), and a topic may refuse our timestamps "
    "(message.timestamp.before.max.ms, message.timestamp.after.max.ms)"
)

Event = tuple[str, int, int]


class Refusing(Abortable):
    """Most of what an output topic is to take is refused."""


class _Output(Struct):
    """What is known of an output topic that has refused records."""

    limit: int = 0
    """The smallest size that was refused alone; 0 when none is known now."""
    until: float = 0.0
    refused: int = 0
    answers: int = 0
    why: str = ""


class Isolation:
    """`most` is what the next batch may hold, `batch_bytes` what a producer may put into one record batch."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = self._limit = limit
        self.batch_bytes = BATCH_BYTES
        self._clock = clock
        self._suspects: dict[TopicPartitionKey, int] = {}
        """Partition -> the offset after the last record of the batch that failed."""
        self._rejected: dict[Event, tuple[Reason, str]] = {}
        self._outputs: defaultdict[str, _Output] = defaultdict(_Output)

    def limit(self, limit: int) -> None:
        """Take a new limit. It holds from the next batch on; a search under way goes on and grows up to it."""
        hunting = self.most < self._limit
        self.most = min(self.most, limit) if hunting else limit
        self._limit = limit

    def suspect(
        self, error: StreamError, failed: Pending, topology: Topology, origins: Sequence[Origin | None] = ()
    ) -> frozenset[str]:
        """Take in a failed batch; returns the event topics that have to wait, since halving does not help them.

        `origins` says of each record of an `Undelivered` which event it answers; None for a dead letter.
        """
        if isinstance(error, Refusing):
            return self._wait(error.topic or "", topology)
        if error.code in TOPIC_FAULTS and error.topic is not None:
            return _writing(error.topic, topology)
        if isinstance(error, Undelivered) and any(origins):
            return self._refused(error, origins, topology)
        return self._halve(error, failed, topology) if error.code in TOPIC_FAULTS | RECORD_FAULTS else frozenset()

    def _halve(self, error: StreamError, failed: Pending, topology: Topology) -> frozenset[str]:
        if unrecoverable := self._unrecoverable(error, failed, topology):
            return unrecoverable
        if failed.events > 1:
            self.most = max(1, failed.events // 2)
            self._suspects = dict(failed.following)
            return frozenset()
        (((topic, partition), offset),) = failed.first.items()
        self._suspects = {}
        if error.code in TOPIC_FAULTS or (topic, partition, offset) in self._rejected:
            return frozenset({topic})
        self._rejected[topic, partition, offset] = _reason(error)
        return frozenset()

    def _refused(self, error: Undelivered, origins: Sequence[Origin | None], topology: Topology) -> frozenset[str]:
        """Give up records that were refused by themselves; where that cannot be told, make record batches smaller."""
        sizes = [len(record.value() or b"") + len(record.key() or b"") for record in error.records]
        per_place: dict[TopicPartitionKey, list[int]] = {}
        for record, size in zip(error.records, sizes, strict=True):
            per_place.setdefault((record.topic() or "", record.partition() or 0), []).append(size)
        alone = {place for place, found in per_place.items() if len(found) == 1}
        output, given = self._outputs[error.topic or ""], 0
        for record, size, origin in zip(error.records, sizes, origins, strict=True):
            single = (record.topic(), record.partition()) in alone or size >= self.batch_bytes
            if origin is None or not (single or error.code != TOO_LARGE):
                continue
            given += 1
            self._rejected[origin.event] = _reason(error, size)
            if error.code == TOO_LARGE and not (0 < output.limit <= size):
                output.limit, output.until = size, self._clock() + LEARNED_S
        if not given:
            together = max(per_place.values(), key=sum)
            self.batch_bytes = max(min(sizes), min(self.batch_bytes, sum(together)) // SMALLER, 1)
            return frozenset()
        output.why = _why(error)
        if output.refused > MANY and 2 * output.refused > output.answers:
            return self._wait(error.topic or "", topology)
        return frozenset()

    def _wait(self, topic: str, topology: Topology) -> frozenset[str]:
        """Blame an output topic: the next trial is a real one, also for records that were given up before."""
        self._outputs[topic].limit = 0
        waiting = _writing(topic, topology)
        self._rejected = {event: why for event, why in self._rejected.items() if event[0] not in waiting}
        return waiting

    def why(self, error: StreamError) -> str:
        """Return what to say of a topic that has to wait for this."""
        known = self._outputs[error.topic].why if error.topic and error.topic in self._outputs else ""
        return known or _why(error)

    def _unrecoverable(self, error: StreamError, failed: Pending, topology: Topology) -> frozenset[str]:
        """Return the event topics of rejected records of this batch whose dead letter is what was refused."""
        return frozenset(
            topic
            for topic, partition, offset in self._rejected
            if failed.first.get((topic, partition), offset + 1) <= offset < failed.following.get((topic, partition), 0)
            and topology.dead_letters.get(topic) == error.topic
        )

    def committed(self, committed: Pending) -> None:
        """Take in a committed batch: grow again when nothing suspicious is left."""
        reached = committed.following
        self._suspects = {place: end for place, end in self._suspects.items() if reached.get(place, 0) < end}
        if self._rejected:
            self._rejected = {e: why for e, why in self._rejected.items() if e[2] >= reached.get(e[:2], 0)}
        if not self._suspects:
            self.most = min(self._limit, self.most * 2)

    def forget(self, topics: frozenset[str]) -> None:
        """Forget the suspects of topics that are not read now: they cannot be committed, and must not keep us small."""
        self._suspects = {place: end for place, end in self._suspects.items() if place[0] not in topics}

    def release(self) -> None:
        """Forget the suspects: the partitions may have gone to others."""
        self._suspects = {}

    def reject(self, batch: Batch, answer: Records, topology: Topology) -> Records:
        """Turn the answers that Kafka refuses into dead letters; a role that writes none leaves them out.

        Raises `Refusing` when it refuses most of a topic's.
        """
        if not self._rejected and not self._outputs:
            return answer
        places = zip(batch.topics, batch.partitions, batch.offsets, strict=True)
        rows = {row: self._rejected[place] for row, place in enumerate(places) if place in self._rejected}
        if self._outputs:
            rows |= self._too_large(batch, answer)
            self._count(answer, rows)
        if not rows:
            return answer
        letters = [
            letter for row in sorted(rows) for letter in given_up(batch, [row], topology, rows[row][0], rows[row][1])
        ]
        return answer.without(rows.keys(), letters)

    def _too_large(self, batch: Batch, answer: Records) -> dict[int, tuple[Reason, str]]:
        """Return the rows whose answers are as large as one that was refused a short while ago."""
        now = self._clock()
        limits = {topic: one.limit for topic, one in self._outputs.items() if one.limit and one.until > now}
        if not limits:
            return {}
        found = {}
        for row, topic, value in zip(answer.rows, answer.topics, answer.values, strict=True):
            limit = limits.get(topic)
            if limit is not None and (size := len(value) + len(batch.keys[row] or b"")) >= limit:
                found[row] = (Reason.OVERSIZE, f"its answer of {size} bytes is too large for {topic}")
        return found

    def _count(self, answer: Records, rows: dict[int, tuple[Reason, str]]) -> None:
        now = self._clock()
        for topic, output in list(self._outputs.items()):
            output.limit = output.limit if output.until > now else 0
            mine = [row for row, name in zip(answer.rows, answer.topics, strict=True) if name == topic]
            refused = sum(row in rows for row in mine)
            if mine and not refused and not output.limit:
                del self._outputs[topic]  # it has not refused anything lately
                continue
            output.refused += refused
            output.answers += len(mine)
            if refused > MANY and 2 * refused > len(mine):
                output.limit = 0  # the next trial is a real one
                raise Refusing(output.why, topic=topic, code=TOO_LARGE)


def _writing(output: str, topology: Topology) -> frozenset[str]:
    """Return the event topics whose answers go there."""
    return frozenset(event for event, outputs in topology.outputs.items() if output in outputs)


def _reason(error: StreamError, size: int | None = None) -> tuple[Reason, str]:
    if error.code == TOO_LARGE:
        of = "" if size is None else f" of {size} bytes"
        return Reason.OVERSIZE, f"its answer{of} is too large for {error.topic}"
    return Reason.REFUSED, f"Kafka refuses its answer: {_why(error)}"


def _why(error: StreamError) -> str:
    hint = {TOO_LARGE: BROKERS, INVALID: CHECKS}.get(error.code or "")
    return f"{error}; {hint}" if hint else str(error)
