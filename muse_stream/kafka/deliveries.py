"""What became of a transaction's records, as librdkafka's delivery reports tell it.

Takes the reports of records that were not written; gives the error that ends the transaction, with those records: the
partitions they were for, and through their content the events they answer. Only failures are reported, since a callback
for each record would cost as much as scoring it.
"""

from collections.abc import Sequence

from confluent_kafka import KafkaError, Message

from muse_stream.errors import Abortable, StreamError
from muse_stream.kafka.errors import About, concerns, delivered, typed
from muse_stream.kafka.partition import TopicPartitionKey


class Undelivered(Abortable):
    """Records of a transaction were refused (`code`, `topic`), or not acknowledged in time (code `_TIMED_OUT`)."""

    def __init__(
        self, message: str, records: Sequence[Message], *, topic: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, topic=topic, code=code)
        self.records = tuple(records)
        """As they were to be written. Kafka refuses a record batch whole, and often does not say for which of them."""

    @property
    def places(self) -> frozenset[TopicPartitionKey]:
        """The partitions they were for."""
        return frozenset((record.topic() or "", record.partition() or 0) for record in self.records)


class Deliveries:
    """One producer's; its delivery reports come while something waits for them."""

    def __init__(self) -> None:
        self._refused: list[tuple[KafkaError, Message]] = []
        self._late: list[Message] = []

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        """Take a delivery report (only failures are reported)."""
        if error is None:
            return
        if concerns(error, About.UNACKNOWLEDGED):
            self._late.append(message)
        else:
            self._refused.append((error, message))

    @property
    def late(self) -> int:
        """How many records were given up without an answer: taken back, or too old."""
        return len(self._late)

    def first(self) -> StreamError | None:
        """Return what was refused first, with all records of its topic that met the same; None while nothing was."""
        # a sound record in the batch of a broken one is refused too, and says so
        blamed = [one for one in self._refused if not concerns(one[0], About.BATCH_MATE)] or self._refused
        if not blamed:
            return None
        error, message = blamed[0]
        problem = delivered(error, message.topic())
        if not isinstance(problem, Abortable):
            return problem
        same = [one for why, one in blamed if why.code() == error.code() and one.topic() == message.topic()]
        return Undelivered(str(problem), same, topic=problem.topic, code=problem.code)

    def unacknowledged(self, cause: KafkaError | None = None) -> StreamError:
        """Return that records were not acknowledged in time, naming the topics they were for.

        `cause` is what failed the whole transaction: then no record was late. Where all that was not written is for one
        topic, it is about this one.
        """
        topics = sorted({message.topic() or "" for message in self._late})
        if cause is not None:
            return typed(cause, topics[0] if len(topics) == 1 else None, lacks="WRITE")
        where = f" of {', '.join(topics[:NAMED])}{' and others' if len(topics) > NAMED else ''}" if topics else ""
        text = f"{len(self._late)} records{where} not acknowledged in time"
        return Undelivered(text, self._late, topic=topics[0] if len(topics) == 1 else None, code="_TIMED_OUT")

    def check(self) -> None:
        """Raise what went wrong first, if anything did."""
        if problem := self.first():
            raise problem


NAMED = 5
"""Topics that are named when records of many are late."""
