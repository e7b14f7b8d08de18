"""Isolates the record that Kafka refuses: batches are halved until it stands alone.

Takes batches that failed and why, and batches that were committed. Says how many events the next batch may hold, which
event topics must wait, and turns answers into dead letters.

An error that follows the data halves the batch, and it grows again only when what failed is committed or given up, so
that one record among n costs about log2(n) aborts. A record that fails alone becomes a dead letter. When that is
refused too, its topic waits, and no other: it costs the others neither a search at every retry nor small batches.
"""

from muse_stream.errors import Reason, StreamError
from muse_stream.kafka import About, TopicPartitionKey, names
from muse_stream.worker.batch import Batch, Records, Topology, given_up
from muse_stream.worker.commit import Pending

TOPIC_FAULTS = names(About.TOPIC)
RECORD_FAULTS = names(About.RECORD)


class Isolation:
    """Isolates one record at a time; `most` is what the next batch may hold."""

    def __init__(self, limit: int) -> None:
        self.most = self._limit = limit
        self._suspects: dict[TopicPartitionKey, int] = {}
        """Partition -> the offset after the last record of the batch that failed."""
        self._rejected: set[tuple[str, int, int]] = set()

    def limit(self, limit: int) -> None:
        """Take a new limit. It holds from the next batch on; a search under way goes on and grows up to it."""
        hunting = self.most < self._limit
        self.most = min(self.most, limit) if hunting else limit
        self._limit = limit

    def suspect(self, error: StreamError, failed: Pending, topology: Topology) -> frozenset[str]:
        """Take in a failed batch; returns the event topics that have to wait, since halving does not help them."""
        if error.code in TOPIC_FAULTS and error.topic is not None:
            return frozenset(event for event, outputs in topology.outputs.items() if error.topic in outputs)
        if error.code not in TOPIC_FAULTS | RECORD_FAULTS:
            return frozenset()
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
        self._rejected.add((topic, partition, offset))
        return frozenset()

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
        self._rejected = {(t, p, o) for t, p, o in self._rejected if o >= reached.get((t, p), 0)}
        if not self._suspects:
            self.most = min(self._limit, self.most * 2)

    def forget(self, topics: frozenset[str]) -> None:
        """Forget the suspects of topics that are not read now: they cannot be committed, and must not keep us small."""
        self._suspects = {place: end for place, end in self._suspects.items() if place[0] not in topics}

    def release(self) -> None:
        """Forget the suspects: the partitions may have gone to others."""
        self._suspects = {}

    def reject(self, batch: Batch, answer: Records, topology: Topology) -> Records:
        """Turn the answers that Kafka refused into dead letters; a role that writes none leaves them out."""
        if not self._rejected:
            return answer
        places = zip(batch.topics, batch.partitions, batch.offsets, strict=True)
        rows = {row for row, place in enumerate(places) if place in self._rejected}
        letters = given_up(batch, sorted(rows), topology, Reason.OVERSIZE, "Kafka refused this record's answer")
        return answer.without(rows, letters)
