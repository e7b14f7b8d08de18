"""What each error of Kafka means here: one table, and what becomes of an error that is not in it.

`StreamError`'s subclass says what to do: call again (`Retriable`), give the transaction up (`Abortable`), leave the
process (`Fatal`). Where librdkafka's own flags say that, they are followed: `fatal`, `txn_requires_abort`, `retriable`,
in this order, and everything else is fatal. The table adds what flags do not tell: what an error is about.
"""

from enum import Enum, auto

from confluent_kafka import KafkaError, KafkaException
from msgspec import Struct

from muse_stream.errors import Abortable, Fatal, Fenced, Retriable, StreamError
from muse_stream.kafka.explain import said
from muse_stream.kafka.membership import SESSION_MS


class About(Enum):
    """What an error is about."""

    FENCED = auto()
    """Somebody else holds the transactional id now, or the broker ended a transaction that took too long. `Fenced`."""
    TOPIC = auto()
    """A topic that is not there, or not for us: no other topic is concerned, and no record is to blame."""
    RECORD = auto()
    """A record that the broker refuses: it is found by halving the batch, and becomes a dead letter."""
    GROUP = auto()
    """A group that is not for us: nothing will ever be assigned."""
    REFUSED_COMMIT = auto()
    """A commit of offsets that was not carried out and never will be."""
    NO_LEADER = auto()
    """A partition that nobody leads now, or that is not known yet."""
    MOVED = auto()
    """A partition that another broker leads now. One such partition makes librdkafka refuse a request about several."""
    NO_END = auto()
    """A partition whose new leader does not know yet where it ends for readers: too few replicas are in sync."""
    AWAY = auto()
    """No answer: the request may have been carried out or not. Asking for something again is safe."""
    HIDDEN = auto()
    """What hides a committed offset: a pending transaction, or no answer at all."""
    LOST_OFFSET = auto()
    """The offset to read from is no longer in the topic."""
    UNACKNOWLEDGED = auto()
    """A record that was given up without an answer: taken back, or too old. It may be an effect, never says a cause."""
    BATCH_MATE = auto()
    """A sound record that was refused with another one of its record batch."""
    STARTING = auto()
    """What `init_transactions` meets while an earlier holder of the id is being ended: asked again."""
    ENDING = auto()
    """The last transaction of the id is decided, and its markers are not written yet."""
    END = auto()
    """The end of a partition: no error at all."""


class Meaning(Struct, frozen=True):
    """One line of the table."""

    code: int
    about: tuple[About, ...]
    reason: str


TABLE = (
    Meaning(KafkaError._FENCED, (About.FENCED, About.STARTING), "also a late init of a producer just thrown away"),
    Meaning(KafkaError.PRODUCER_FENCED, (About.FENCED,), "also where a transaction timed out"),
    Meaning(KafkaError.INVALID_PRODUCER_EPOCH, (About.FENCED,), "the same, in answer to a produce request"),
    Meaning(
        KafkaError.CONCURRENT_TRANSACTIONS,
        (About.STARTING, About.ENDING),
        "the predecessor's transaction is being aborted",
    ),
    Meaning(KafkaError.UNKNOWN_TOPIC_OR_PART, (About.TOPIC, About.NO_LEADER), "deleted, or not made yet"),
    Meaning(KafkaError._UNKNOWN_TOPIC, (About.TOPIC, About.NO_LEADER), "the same, found by the client"),
    Meaning(KafkaError._UNKNOWN_PARTITION, (About.TOPIC, About.NO_LEADER), "fewer partitions than were counted"),
    Meaning(KafkaError._NOENT, (About.TOPIC, About.NO_LEADER), "the topic is not in the client's metadata"),
    Meaning(KafkaError.LEADER_NOT_AVAILABLE, (About.NO_LEADER,), "the broker that leads it is away"),
    Meaning(KafkaError.NOT_LEADER_FOR_PARTITION, (About.MOVED,), "it has moved, or was made a moment ago"),
    Meaning(KafkaError.FENCED_LEADER_EPOCH, (About.MOVED,), "it has moved, and the client does not know it yet"),
    Meaning(KafkaError.UNKNOWN_LEADER_EPOCH, (About.MOVED,), "it has moved, and the broker does not know it yet"),
    Meaning(KafkaError.OFFSET_NOT_AVAILABLE, (About.NO_END,), "its leader has changed, and replicas are missing"),
    Meaning(KafkaError.TOPIC_AUTHORIZATION_FAILED, (About.TOPIC,), "a permission was taken away"),
    Meaning(KafkaError.GROUP_AUTHORIZATION_FAILED, (About.GROUP,), "no READ on the group"),
    Meaning(KafkaError.INCONSISTENT_GROUP_PROTOCOL, (About.GROUP,), "its members divide partitions in another way"),
    Meaning(
        KafkaError.INVALID_SESSION_TIMEOUT, (About.GROUP,), f"the broker's bounds exclude a session of {SESSION_MS} ms"
    ),
    Meaning(KafkaError.GROUP_MAX_SIZE_REACHED, (About.GROUP,), "the broker's group.max.size"),
    Meaning(KafkaError.INVALID_TIMESTAMP, (About.TOPIC,), "outside message.timestamp.before.max.ms or after.max.ms"),
    Meaning(KafkaError.TOPIC_EXCEPTION, (About.TOPIC,), "a topic that nobody may write to"),
    Meaning(KafkaError.POLICY_VIOLATION, (About.TOPIC,), "the cluster's own policy refuses what is written there"),
    Meaning(KafkaError.UNSUPPORTED_COMPRESSION_TYPE, (About.TOPIC,), "its brokers do not know our compression.type"),
    Meaning(KafkaError.MSG_SIZE_TOO_LARGE, (About.RECORD,), "larger than max.message.bytes of its topic"),
    Meaning(KafkaError.RECORD_LIST_TOO_LARGE, (About.RECORD,), "larger than a segment of its topic"),
    Meaning(KafkaError.INVALID_RECORD, (About.RECORD,), "a compacted topic refuses a record without a key"),
    Meaning(KafkaError._INVALID_DIFFERENT_RECORD, (About.BATCH_MATE,), "one of its batch was refused"),
    Meaning(KafkaError.INVALID_MSG, (About.RECORD,), "the broker's check of the record failed"),
    Meaning(KafkaError.INVALID_MSG_SIZE, (About.RECORD,), "the same"),
    Meaning(KafkaError._BAD_MSG, (About.RECORD,), "the same, found by the client"),
    Meaning(KafkaError.ILLEGAL_GENERATION, (About.REFUSED_COMMIT,), "the group has moved on"),
    Meaning(KafkaError.UNKNOWN_MEMBER_ID, (About.REFUSED_COMMIT,), "the group has removed this member"),
    Meaning(KafkaError.REBALANCE_IN_PROGRESS, (About.REFUSED_COMMIT,), "partitions are being assigned"),
    Meaning(KafkaError.FENCED_INSTANCE_ID, (About.REFUSED_COMMIT,), "another process bears this slot's name"),
    Meaning(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, (About.REFUSED_COMMIT,), "the coordinator has just moved"),
    Meaning(KafkaError.COORDINATOR_NOT_AVAILABLE, (About.REFUSED_COMMIT,), "no broker coordinates the group now"),
    Meaning(KafkaError.NOT_COORDINATOR, (About.REFUSED_COMMIT,), "another broker coordinates the group now"),
    Meaning(KafkaError._TRANSPORT, (About.AWAY, About.STARTING), "the connection broke"),
    Meaning(KafkaError._TIMED_OUT, (About.AWAY, About.STARTING, About.HIDDEN), "no answer in time"),
    Meaning(KafkaError.UNSTABLE_OFFSET_COMMIT, (About.HIDDEN,), "a transaction of the group is pending"),
    Meaning(KafkaError._ALL_BROKERS_DOWN, (About.AWAY, About.STARTING), "no connection is left"),
    Meaning(KafkaError._RESOLVE, (About.AWAY,), "the host's name is not known"),
    Meaning(KafkaError._AUTO_OFFSET_RESET, (About.LOST_OFFSET,), "under auto.offset.reset=error"),
    Meaning(KafkaError.OFFSET_OUT_OF_RANGE, (About.LOST_OFFSET,), "retention, or somebody, has deleted the records"),
    Meaning(KafkaError._PURGE_QUEUE, (About.UNACKNOWLEDGED,), "it was not sent yet"),
    Meaning(KafkaError._PURGE_INFLIGHT, (About.UNACKNOWLEDGED,), "it was on its way"),
    Meaning(KafkaError._MSG_TIMED_OUT, (About.UNACKNOWLEDGED,), "older than message.timeout.ms"),
    Meaning(KafkaError._PARTITION_EOF, (About.END,), "only where enable.partition.eof is set"),
)
_ABOUT = {one.code: frozenset(one.about) for one in TABLE}


def concerns(error: KafkaError | KafkaException, about: About) -> bool:
    """Whether an error is about this."""
    inner = _inner(error)
    return inner is not None and about in _ABOUT.get(inner.code(), ())


def lacks_leader(error: KafkaError | KafkaException) -> bool:
    """Whether a partition that exists cannot be asked now, since its leader is not known, or does not know its end."""
    gone = concerns(error, About.TOPIC)
    return not gone and any(concerns(error, one) for one in (About.NO_LEADER, About.MOVED, About.NO_END))


def names(about: About) -> frozenset[str]:
    """Return the names that `StreamError.code` has for errors about this."""
    return frozenset(KafkaError(one.code).name() for one in TABLE if about in one.about)


def typed(
    error: KafkaError | KafkaException, topic: str | None = None, where: str = "", lacks: str = ""
) -> StreamError:
    """Say what to do about an error, by its flags.

    `topic` is the one it is about, where that is known; `where` names what else it is about (a group, a partition);
    `lacks` is the permission that was needed.
    """
    inner = _inner(error)
    if inner is None:
        return Fatal(": ".join(filter(None, (where, str(error) or "Kafka refused, and said nothing"))), topic=topic)
    kind: type[StreamError] = Fenced if concerns(inner, About.FENCED) else Fatal
    if not inner.fatal():
        kind = Abortable if inner.txn_requires_abort() else Retriable if inner.retriable() else kind
    return kind(said(inner, where or topic or "", lacks), topic=topic, code=inner.name())


def asked(error: KafkaError | KafkaException, where: str = "", lacks: str = "") -> StreamError:
    """Say what to do about an error of a request that changes nothing: one without an answer may be asked again.

    Flags do not say so: librdkafka sets them for transactional producers only.
    """
    inner = _inner(error)
    if inner is not None and concerns(inner, About.AWAY):
        return Retriable(f"Kafka does not answer: {said(inner, where)}", code=inner.name())
    if inner is not None and lacks_leader(inner):
        return Retriable(said(inner, where), code=inner.name())
    return typed(error, where=where, lacks=lacks)


def delivered(error: KafkaError, topic: str | None) -> StreamError:
    """Say what to do about a record that the broker did not take: its transaction is lost, or the producer is."""
    if concerns(error, About.FENCED):
        return Fenced(said(error, topic or ""), topic=topic, code="_FENCED")
    return Abortable(said(error, topic or "", "WRITE"), topic=topic, code=error.name())


def _inner(error: KafkaError | KafkaException) -> KafkaError | None:
    if isinstance(error, KafkaError):
        return error
    inner = error.args[0] if error.args else None
    return inner if isinstance(inner, KafkaError) else None
