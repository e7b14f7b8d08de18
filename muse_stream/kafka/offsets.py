"""The questions about offsets: what has a group committed, and which offset is there at a moment or an end.

They are asked here and nowhere else, through any consumer of the group, which need not have joined it. Who asks decides
how long. A consumer that reads committed records waits for pending transactions and sees the end before them; one that
reads all passes them over (docs/exactly-once.md, R6).
"""

from collections.abc import Collection, Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from msgspec import Struct

from muse_stream.errors import Retriable
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.errors import About, asked, concerns, lacks_leader, typed
from muse_stream.kafka.partition import TopicPartitionKey
from muse_stream.kafka.signature import Signature

AGAIN_S = 0.1
MADE_S = 2.0
"""How long a broker may not know a topic that another one has told of."""
SINGLY = 16
"""More topics than this are asked for all at once."""


class CommittedOffset(Struct, frozen=True):
    """Where the group goes on in a partition."""

    offset: int | None
    """The next record to read; None: nothing is committed."""
    signature: Signature | None = None
    """Who has committed it (R16)."""


def committed_offsets(
    consumer: Consumer, places: Iterable[TopicPartitionKey], timeout_s: float
) -> dict[TopicPartitionKey, CommittedOffset]:
    """Return what is committed of each partition.

    Raises KafkaException when Kafka refuses or does not answer in time; it is about `About.HIDDEN` also while a pending
    transaction hides an offset from a consumer that reads committed records.
    """
    asked = [TopicPartition(*place) for place in places]
    if not asked:  # librdkafka takes that for an invalid argument
        return {}
    try:
        answers = consumer.committed(asked, timeout=timeout_s)
    except KafkaException as error:
        heard = _hear(consumer)
        if heard is not None and heard.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise KafkaException(heard) from error  # nobody else hears it any more
        raise
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)
    return {
        (one.topic, one.partition): CommittedOffset(
            one.offset if one.offset >= 0 else None, Signature.parse(one.metadata)
        )
        for one in answers
    }


def offsets_at(
    consumer: Consumer, places: Collection[TopicPartitionKey], moment: int, timeout_s: float
) -> dict[TopicPartitionKey, int]:
    """Return the first offset at or after a moment, in milliseconds since 1970; -1 where there is none.

    OFFSET_BEGINNING and OFFSET_END are moments too. Partitions without a leader, or whose leader does not know their
    end, are left out. Raises `Retriable` when Kafka does not answer.
    """
    if not places:
        return {}
    try:
        answers = consumer.offsets_for_times([TopicPartition(*place, moment) for place in places], timeout=timeout_s)
    except KafkaException as error:
        _hear(consumer)
        if concerns(error, About.NO_LEADER):  # said of the whole request when it is so of every partition
            return {}
        if concerns(error, About.NO_END):  # said of the whole request when it is so of one
            if len(places) == 1:
                return {}
            ordered = sorted(places)
            halves = ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]
            return {k: v for half in halves for k, v in offsets_at(consumer, half, moment, timeout_s).items()}
        raise Retriable(f"cannot look offsets up: {typed(error)}") from error
    return {(answer.topic, answer.partition): answer.offset for answer in answers if answer.error is None}


def offsets_within(
    consumer: Consumer,
    places: Collection[TopicPartitionKey],
    moment: int,
    deadline: Deadline,
    timeout_s: float,
    least_s: float | None = None,
) -> dict[TopicPartitionKey, int]:
    """Return what `offsets_at` does, asked again for partitions without a leader while there is time.

    A request takes `timeout_s` at most, or what is left where that is less, but `least_s` (`timeout_s` if not given).
    Raises `Retriable` when Kafka does not answer the last one.
    """
    found: dict[TopicPartitionKey, int] = {}
    waiting, least_s = list(places), timeout_s if least_s is None else least_s
    for last in deadline.tries(AGAIN_S):
        try:
            found |= offsets_at(consumer, waiting, moment, min(timeout_s, max(deadline.left_s, least_s)))
        except Retriable as error:
            if last or (isinstance(error.__cause__, KafkaException) and concerns(error.__cause__, About.TOPIC)):
                raise
        waiting = [place for place in waiting if place not in found]
        if not waiting:
            break
        # after the last try, too: whoever looks again must not believe for minutes what was so a moment ago
        forget_leaders(consumer, {topic for topic, _ in waiting}, min(timeout_s, max(deadline.left_s, least_s)))
    return found


def all_offsets_at(
    consumer: Consumer, places: Collection[TopicPartitionKey], moment: int, timeout_s: float
) -> dict[TopicPartitionKey, int]:
    """Return what `offsets_at` does, of every one of these partitions.

    Raises `StreamError` where one of them has not answered within `timeout_s`: `Retriable` when Kafka does not answer,
    or it has no leader for so long.
    """
    found = offsets_within(consumer, places, moment, Deadline(timeout_s), timeout_s, AGAIN_S)
    for place in places:
        if place not in found:
            watermarks(consumer, place, AGAIN_S)  # says why
            raise Retriable(f"no leader of {place[0]}[{place[1]}] said within {timeout_s:g} s what it holds")
    return found


def watermarks(consumer: Consumer, place: TopicPartitionKey, timeout_s: float) -> tuple[int, int]:
    """Return the first offset that a partition holds and the next to be written, open transactions included.

    A partition that has no leader for a moment, as one that was just made, is asked again, and for `MADE_S` one that
    its broker does not know. Raises `StreamError`, `Retriable` where nobody answers in time.
    """
    where, deadline, made = f"{place[0]}[{place[1]}]", Deadline(timeout_s), Deadline(MADE_S)
    for last in deadline.tries(AGAIN_S):
        try:
            marks = consumer.get_watermark_offsets(TopicPartition(*place), timeout=max(deadline.left_s, AGAIN_S))
        except KafkaException as error:
            passes = lacks_leader(error) or (concerns(error, About.NO_LEADER) and not made.over)
            if last or not passes:
                raise asked(error, where, "READ") from None
            forget_leaders(consumer, {place[0]}, AGAIN_S)
            continue
        if marks is not None:
            return marks
    raise Retriable(f"no leader of {where} said within {timeout_s:g} s where it ends")


def _hear(consumer: Consumer) -> KafkaError | None:
    """Let a consumer that only looks up, and so is never polled, hear of its errors: a password that was refused.

    Returns one that a reader of records would have been given.
    """
    message = None if consumer.assignment() else consumer.poll(0)
    return None if message is None else message.error()


def forget_leaders(consumer: Consumer, topics: Collection[str], timeout_s: float) -> None:
    """Ask who leads these topics now: that a partition had no leader is believed for minutes otherwise."""
    try:
        if len(topics) > SINGLY:
            consumer.list_topics(timeout=timeout_s)
        for topic in sorted(topics) if len(topics) <= SINGLY else ():
            consumer.list_topics(topic, timeout=timeout_s)
    except KafkaException:  # the next look will report it
        return


def record_at(consumer: Consumer, place: TopicPartitionKey, offset: int, timeout_s: float) -> Message | None:
    """Return the first record at or after an offset; None where none is. Raises `Retriable` without an answer.

    The consumer must tell the ends of partitions (`enable.partition.eof`).
    """
    consumer.assign([TopicPartition(*place, offset)])
    try:
        for _last in Deadline(timeout_s).tries():
            message = consumer.poll(0.1)
            error = message.error() if message is not None else None
            if message is None or message.topic() is None:
                continue
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                return message if error is None else None
            raise asked(error, place[0], "READ")
    finally:
        consumer.unassign()
    raise Retriable(f"{place[0]}[{place[1]}] could not be read within {timeout_s:g} s")
