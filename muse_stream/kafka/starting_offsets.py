"""Where a partition starts: what its group has committed.

In: partitions. Out: the same with explicit offsets.
Law: `committed()` is asked until it answers, for stable offsets only (librdkafka does so under
`isolation.level=read_committed`); a partition without any starts at the first offset it has, by its number:
librdkafka looks OFFSET_BEGINNING up by itself, and when it drops an answer as outdated (any resume, pause or
assignment in between makes it so) it asks again half a second later and goes back there, whatever was assigned since.
Offsets are asked through a consumer that never joins the group: a member's own request would wait behind its JoinGroup,
which the broker answers only when every other member has joined, and a dead static member is waited for until its
session ends.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from muse_stream.errors import Fatal
from muse_stream.kafka import client
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.partition import TopicPartitionKey
from muse_stream.telemetry.log import Log

COMMITTED_S = 20.0
"""How long to ask: a dead worker's open transaction hides the offsets for its timeout plus the broker's scan."""
FIRST_ASK_S, ASK_S = 0.7, 2.0
"""Offsets that are hidden for longer than the first may be so for ever: by a transaction of ours that hangs."""

HIDDEN = (
    "; if brokers answer, a transaction that nobody ends hides them: kafka-transactions.sh find-hanging --topic "
    "__consumer_offsets, then abort"
)

Free = Callable[[Sequence[TopicPartition]], None]
Heard = Callable[[Mapping[TopicPartitionKey, str]], None]


@dataclass(frozen=True, slots=True)
class Starts:
    """Where to start, and who has signed these partitions (those that were never committed: nobody)."""

    offsets: list[TopicPartition]
    signatures: dict[TopicPartitionKey, str]


class StartingOffsets:
    """Looks offsets up; `lookup` has the group's id and never subscribes.

    `free` is called once when offsets stay hidden: it ends what may hide them. `heard` is told who has committed them,
    before anything is read.
    """

    def __init__(
        self,
        lookup: Consumer,
        log: Log,
        free: Free = lambda _partitions: None,
        heard: Heard = lambda _committers: None,
    ) -> None:
        self._lookup, self._log, self._free, self._heard = lookup, log, free, heard

    def starts(self, partitions: list[TopicPartition]) -> Starts:
        """Return the partitions with the offsets to start at; raises `Fatal` when none are told in time."""
        plain = [TopicPartition(p.topic, p.partition) for p in partitions]
        answers = self._ask(lambda timeout: self._lookup.committed(plain, timeout=timeout), "committed offsets", plain)
        signatures = {(answer.topic, answer.partition): answer.metadata for answer in answers if answer.metadata}
        self._heard(signatures)
        known = [TopicPartition(one.topic, one.partition, one.offset) for one in answers if one.offset >= 0]
        new = self._beginnings(
            [TopicPartition(a.topic, a.partition, OFFSET_BEGINNING) for a in answers if a.offset < 0]
        )
        return Starts([*known, *new], signatures)

    def close(self) -> None:
        """Let the consumer go."""
        self._lookup.close()

    def _beginnings(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Return the first offsets of these partitions; warns where records before it are gone."""
        if not partitions:
            return []
        answers = self._ask(lambda timeout: self._lookup.offsets_for_times(partitions, timeout=timeout), "beginnings")
        for answer in answers:
            if answer.offset > 0:
                # an expired commit looks like a new topic; records before this offset are gone either way
                place = {"topic": answer.topic, "partition": answer.partition}
                self._log.warning("starts-without-commit", **place, low=answer.offset)
        return [TopicPartition(answer.topic, answer.partition, answer.offset) for answer in answers]

    def _ask(
        self, ask: Callable[[float], list[TopicPartition]], what: str, hidden: Sequence[TopicPartition] = ()
    ) -> list[TopicPartition]:
        """Ask until all partitions are answered; after the first patience what may hide `hidden` is ended."""
        deadline = Deadline(COMMITTED_S)
        patience_s = FIRST_ASK_S
        while True:
            try:
                answers = ask(min(patience_s, max(deadline.left_s, 0.1)))
            except KafkaException as error:
                problem: object = client.typed(error)
            else:
                problem = next((answer.error for answer in answers if answer.error), None)
                if problem is None:
                    return answers
            if deadline.over:
                raise Fatal(f"no {what} within {COMMITTED_S:g} s: {problem}{HIDDEN if hidden else ''}")
            if patience_s < ASK_S:
                patience_s = ASK_S
                if hidden:
                    self._free(hidden)
