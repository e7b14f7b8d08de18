"""Kafka's errors in words, for who has not read librdkafka: what happened, and what would be right.

`said` makes one sentence of an error: where it happened, what that means, Kafka's own name for it, and what to do.
Where the table has no line, librdkafka's own text stands in its place. Nothing is decided here: `errors` does that.
"""

from confluent_kafka import KafkaError
from msgspec import Struct

from muse_stream.kafka.membership import SESSION_MS

GRANT = "`muse-stream acl CONFIG` prints what each role needs"

REFUSALS = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)


class Words(Struct, frozen=True):
    """What an error means, and what would be right."""

    meaning: str
    cure: str = ""


_AWAY = "see that the broker runs, and that its port is open from here"
_TOPIC_GONE = "`muse-stream topics CONFIG` makes the topics of a configuration"
_WAITS = "it passes when the cluster has settled; if it stays, `muse-stream doctor CONFIG` looks for the cause"
_LEADER = "see whether the brokers that hold it run: `muse-stream doctor CONFIG` names them"
_OTHER = (
    "see whether another run has the same --name; if none has, a broker was restarted and the run goes on by itself"
)
_TOO_LARGE = "raise max.message.bytes of the topic (`muse-stream topics CONFIG` says what is needed), or send less"

WORDS: dict[int, Words] = {
    # what a broker does not say
    KafkaError.UNKNOWN: Words(
        "the broker failed, and does not say why",
        "see its log; offsets that cannot be committed may be larger than message.max.bytes of the brokers, or than "
        "max.message.bytes of __consumer_offsets",
    ),
    # reaching a broker
    KafkaError._TRANSPORT: Words("the connection to the broker broke, or could not be made", _AWAY),
    KafkaError.NETWORK_EXCEPTION: Words("the connection to the broker broke", _AWAY),
    KafkaError._ALL_BROKERS_DOWN: Words("no broker can be reached", _AWAY),
    KafkaError._RESOLVE: Words(
        "the broker's host name is not known here", "correct MUSE_KAFKA_BOOTSTRAP_SERVERS, or the name service"
    ),
    KafkaError._TIMED_OUT: Words("no answer came in time", _AWAY),
    KafkaError.REQUEST_TIMED_OUT: Words(
        "the broker did not finish in time, replicas may be slow or away", "`muse-stream doctor CONFIG` looks for them"
    ),
    KafkaError._TIMED_OUT_QUEUE: Words("it was not sent in time: the broker is slow, away, or limits us", _AWAY),
    KafkaError._MSG_TIMED_OUT: Words(
        "the record was not acknowledged in time: its partition has no leader, or its broker is slow or away",
        _LEADER,
    ),
    # who we are
    KafkaError._AUTHENTICATION: Words(
        "the broker does not accept who we say we are", "correct MUSE_KAFKA_SASL_USERNAME and MUSE_KAFKA_SASL_PASSWORD"
    ),
    KafkaError.SASL_AUTHENTICATION_FAILED: Words(
        "the broker does not accept this user and password",
        "correct MUSE_KAFKA_SASL_USERNAME and MUSE_KAFKA_SASL_PASSWORD (or ..._PASSWORD_FILE)",
    ),
    KafkaError.UNSUPPORTED_SASL_MECHANISM: Words(
        "the broker does not offer this way to log in", "set MUSE_KAFKA_SASL_MECHANISM to one that it offers"
    ),
    KafkaError.ILLEGAL_SASL_STATE: Words(
        "the broker did not expect a login here", "set MUSE_KAFKA_SECURITY_PROTOCOL to what the broker's port speaks"
    ),
    KafkaError._SSL: Words(
        "no encrypted connection could be made",
        "see whether the port speaks TLS, and MUSE_KAFKA_SSL_CA_LOCATION names the CA that signed its certificate",
    ),
    # what we may
    KafkaError.TOPIC_AUTHORIZATION_FAILED: Words(
        "this principal may not use the topic", f"grant it READ to read, WRITE to write: {GRANT}"
    ),
    KafkaError.GROUP_AUTHORIZATION_FAILED: Words(
        "this principal may not use the consumer group", f"grant it READ (DESCRIBE to look at its offsets): {GRANT}"
    ),
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Words(
        "this principal may not use the transactional id", f"grant it WRITE on the id's prefix: {GRANT}"
    ),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: Words(
        "this principal may not do that to the cluster", f"grant what is missing: {GRANT}"
    ),
    # topics and partitions
    KafkaError.UNKNOWN_TOPIC_OR_PART: Words("the topic or partition does not exist", _TOPIC_GONE),
    KafkaError._UNKNOWN_TOPIC: Words("the topic does not exist", _TOPIC_GONE),
    KafkaError._UNKNOWN_PARTITION: Words(
        "the topic has no such partition", "see whether it was created again, smaller"
    ),
    KafkaError._NOENT: Words("the topic is not known to the cluster", _TOPIC_GONE),
    KafkaError.TOPIC_EXCEPTION: Words(
        "Kafka allows no topic of this name", "use letters, digits, dots, underscores and hyphens, at most 249"
    ),
    KafkaError.LEADER_NOT_AVAILABLE: Words("the partition has no leader now", _LEADER),
    KafkaError.NOT_LEADER_FOR_PARTITION: Words("another broker leads the partition now", _WAITS),
    KafkaError.FENCED_LEADER_EPOCH: Words("another broker leads the partition now", _WAITS),
    KafkaError.UNKNOWN_LEADER_EPOCH: Words("the broker does not know yet that it leads the partition", _WAITS),
    KafkaError.REPLICA_NOT_AVAILABLE: Words("a broker that holds the partition is away", _LEADER),
    KafkaError.NOT_ENOUGH_REPLICAS: Words(
        "fewer replicas are in sync than min.insync.replicas asks for, so nothing is written", _LEADER
    ),
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND: Words(
        "fewer replicas are in sync than min.insync.replicas asks for", _LEADER
    ),
    KafkaError.KAFKA_STORAGE_ERROR: Words("the broker cannot write to its disk", "see the broker's log and its disk"),
    # offsets
    KafkaError.OFFSET_OUT_OF_RANGE: Words(
        "the records at this offset are no longer in the topic: removed by retention, or the topic was created again",
        "`muse-stream verify CONFIG` says what was never answered; start again behind it",
    ),
    KafkaError._AUTO_OFFSET_RESET: Words(
        "the records at this offset are no longer in the topic: removed by retention, or the topic was created again",
        "`muse-stream verify CONFIG` says what was never answered; start again behind it",
    ),
    KafkaError.UNSTABLE_OFFSET_COMMIT: Words(
        "an open transaction hides the group's offsets",
        "most end within seconds; `muse-stream doctor CONFIG` says which one hangs, and what ends it",
    ),
    # records
    KafkaError.MSG_SIZE_TOO_LARGE: Words("the record is larger than the topic takes", _TOO_LARGE),
    KafkaError.RECORD_LIST_TOO_LARGE: Words("the batch is larger than a segment of the topic", _TOO_LARGE),
    KafkaError._INVALID_DIFFERENT_RECORD: Words(
        "another record of the same record batch was refused, and this one with it", "the record is sent again alone"
    ),
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE: Words(
        "the topic does not take records that are compressed this way", "set compression.type of the topic to producer"
    ),
    KafkaError.OFFSET_NOT_AVAILABLE: Words(
        "the partition's new leader does not know yet where its records end", _WAITS
    ),
    KafkaError.INVALID_SESSION_TIMEOUT: Words(
        f"the broker does not allow a session of {SESSION_MS} ms",
        f"set group.min.session.timeout.ms of the brokers to {SESSION_MS} or less",
    ),
    KafkaError.INVALID_RECORD: Words(
        "the topic refuses the record",
        "a compacted topic takes only records with a key, and a topic may check timestamps",
    ),
    KafkaError.INVALID_TIMESTAMP: Words(
        "the topic refuses the record's time", "see message.timestamp.before.max.ms and ...after.max.ms of the topic"
    ),
    KafkaError._QUEUE_FULL: Words("more records wait to be sent than there is room for", _AWAY),
    # groups
    KafkaError.COORDINATOR_NOT_AVAILABLE: Words("no broker coordinates the group or the transaction now", _WAITS),
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS: Words("the coordinator has just moved to another broker", _WAITS),
    KafkaError.NOT_COORDINATOR: Words("another broker coordinates the group or the transaction now", _WAITS),
    KafkaError.ILLEGAL_GENERATION: Words(
        "the group has assigned its partitions anew meanwhile", "the run goes on by itself"
    ),
    KafkaError.REBALANCE_IN_PROGRESS: Words("the group is assigning its partitions", "the run goes on by itself"),
    KafkaError.UNKNOWN_MEMBER_ID: Words("the group has removed this member", "the run joins it again by itself"),
    KafkaError.FENCED_INSTANCE_ID: Words("another process bears this slot's name in the group", _OTHER),
    KafkaError.GROUP_MAX_SIZE_REACHED: Words(
        "the group has as many members as the broker allows", "see group.max.size"
    ),
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: Words(
        "other members of the group assign partitions in another way", "no other program may use this group"
    ),
    KafkaError._MAX_POLL_EXCEEDED: Words("a batch took longer than the group waits", "see the log for what held it up"),
    # transactions
    KafkaError._FENCED: Words("another process uses this transactional id, or the transaction took too long", _OTHER),
    KafkaError.PRODUCER_FENCED: Words(
        "another process uses this transactional id, or the transaction took too long", _OTHER
    ),
    KafkaError.INVALID_PRODUCER_EPOCH: Words(
        "another process uses this transactional id, or the transaction took too long", _OTHER
    ),
    KafkaError.CONCURRENT_TRANSACTIONS: Words("the transaction before this one is still being ended", _WAITS),
    KafkaError.INVALID_TRANSACTION_TIMEOUT: Words(
        "the broker allows only shorter transactions", "raise transaction.max.timeout.ms of the brokers"
    ),
    # versions
    KafkaError.UNSUPPORTED_VERSION: Words(
        "the broker is too old for this request", "muse_stream needs Kafka 4.0 or newer"
    ),
    KafkaError._UNSUPPORTED_FEATURE: Words("the broker is too old for this", "muse_stream needs Kafka 4.0 or newer"),
    KafkaError.POLICY_VIOLATION: Words("a policy of the cluster refuses it", "ask who runs the cluster"),
    KafkaError.THROTTLING_QUOTA_EXCEEDED: Words(
        "a quota of the cluster refuses it for now", "ask who runs the cluster"
    ),
    KafkaError.INVALID_REPLICATION_FACTOR: Words(
        "the cluster has fewer brokers than the topic would have replicas", "give --replication a smaller number"
    ),
    KafkaError.INVALID_PARTITIONS: Words("Kafka allows no such number of partitions", "give --partitions another one"),
    KafkaError.INVALID_CONFIG: Words("Kafka refuses a setting of the topic", "see the setting that it names"),
}


def said(error: KafkaError, where: str = "", lacks: str = "") -> str:
    """Return one sentence: `where` it happened, what that means, Kafka's name for it, what would be right.

    `lacks` is the permission that was needed, such as WRITE; said where one is missing.
    """
    words = WORDS.get(error.code())
    own = _plain(error.str() or "")
    meaning = words.meaning if words else own or "an error without a text"
    place = f"{where}: " if where else ""
    detail = f": {own}" if words and own and own != _plain(KafkaError(error.code()).str() or "") else ""
    cure = f"; {words.cure}" if words and words.cure else ""
    if lacks and error.code() in REFUSALS:
        cure = f"; grant it {lacks}: {GRANT}"
    return f"{place}{meaning} ({error.name()}{detail}){cure}"


def _plain(text: str) -> str:
    for prefix in ("Broker: ", "Local: "):
        text = text.removeprefix(prefix)
    return " ".join(text.split())
