"""The state of a cluster as far as a configuration is concerned: brokers, topics, groups. Reads, and changes nothing.

What may not be seen is named as such, never taken for absent. For commands, not for workers (R7).
"""

import contextlib
import socket
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public names that the stubs forget to export
    AdminClient,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)
from msgspec import Struct, field

from muse_stream.kafka.admin import topic_settings
from muse_stream.kafka.admin_answers import answers_within, told
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.errors import asked
from muse_stream.kafka.explain import said
from muse_stream.kafka.partition import TopicPartitionKey
from muse_stream.kafka.topic_plan import Existing

ASK_S = 15.0
OFFSET_TAIL = -2000
"""librdkafka's name for places counted from the end: RD_KAFKA_OFFSET_TAIL_BASE."""
LAST, AT_ONCE = 100, 50
MOVED_S = 10.0
MOVING = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
CONNECT_S = 3.0


class PartitionState(Struct, frozen=True):
    """Who leads a partition, and who has it."""

    leader: int
    """-1: nobody."""
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


class ClusterState(Struct, frozen=True):
    """What was seen."""

    brokers: Mapping[int, tuple[str, int]]
    """Broker -> the address that it advertises."""
    unreachable: Mapping[int, str]
    """Broker whose address takes no connection -> why."""
    topics: Mapping[str, Mapping[int, PartitionState]]
    denied: frozenset[str]
    """Topics that this principal may not see."""
    settings: Mapping[str, Mapping[str, str]]
    """Of topics whose settings may be read."""

    def existing(self, name: str) -> Existing:
        """Return a topic as a plan wants it."""
        parts = self.topics[name]
        least = min((len(one.replicas) for one in parts.values()), default=0)
        return Existing(len(parts), least, self.settings.get(name, {}))


class GroupState(Struct, frozen=True):
    """A consumer group: its members now, and what it has committed."""

    members: int | None = None
    offsets: Mapping[TopicPartitionKey, int] | None = None
    unknown: tuple[str, ...] = field(default=())
    """Why something of it is not known."""


def cluster_state(admin: AdminClient, names: Iterable[str]) -> ClusterState:
    """Look at the brokers and at those of these topics that exist; raises `StreamError` when Kafka does not answer."""
    names = tuple(dict.fromkeys(names))
    try:
        seen = admin.list_topics(timeout=ASK_S)
    except KafkaException as error:
        raise asked(error, "brokers and topics") from None
    topics = {
        name: {
            number: PartitionState(one.leader, tuple(one.replicas), tuple(one.isrs))
            for number, one in seen.topics[name].partitions.items()
        }
        for name in names
        if name in seen.topics and seen.topics[name].partitions
    }
    brokers = {number: (one.host or "", one.port) for number, one in seen.brokers.items()}
    unreachable = _unreachable(brokers)
    if len(unreachable) == len(brokers):  # who would answer what comes next?
        return ClusterState(brokers, unreachable, topics, frozenset(), {})
    denied = frozenset(_denied(admin, [name for name in names if name not in topics]))
    return ClusterState(brokers, unreachable, topics, denied, topic_settings(admin, topics))


def _denied(admin: AdminClient, names: list[str]) -> list[str]:
    """Return those that may not be seen; they are not listed, and a request by name makes no topic here."""
    found = []
    answers = admin.describe_topics(TopicCollection(names), request_timeout=ASK_S) if names else {}
    for name, answer in answers.items():
        try:
            _told(answer)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                found.append(name)
    return found


def _unreachable(brokers: Mapping[int, tuple[str, int]]) -> dict[int, str]:
    def attempt(address: tuple[str, int]) -> str:
        try:
            socket.create_connection(address, CONNECT_S).close()
        except OSError as error:
            return (error.strerror or str(error)).lower()
        return ""

    with ThreadPoolExecutor(max(1, min(16, len(brokers)))) as pool:
        reasons = pool.map(attempt, brokers.values())
        return {number: reason for number, reason in zip(brokers, reasons, strict=True) if reason}


def allowed(admin: AdminClient, names: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return topic -> the operations that this principal may do, of those topics that tell."""
    found: dict[str, frozenset[str]] = {}
    names = list(names)
    if not names:
        return found
    answers = admin.describe_topics(TopicCollection(names), include_authorized_operations=True, request_timeout=ASK_S)
    for name, answer in answers.items():
        with contextlib.suppress(KafkaException):
            found[name] = _operations(_told(answer).authorized_operations)
    return found


def allowed_on_group(admin: AdminClient, group: str) -> frozenset[str] | None:
    """Return the operations that this principal may do with a group; None where that is not told."""
    (answer,) = admin.describe_consumer_groups(
        [group], include_authorized_operations=True, request_timeout=ASK_S
    ).values()
    try:
        return _operations(_told(answer).authorized_operations)
    except KafkaException as error:
        return frozenset() if error.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED else None


def _told(answer: Any) -> Any:
    return told(answer, answers_within(ASK_S))


def _operations(given: Any) -> frozenset[str]:
    return frozenset(one.name for one in given or ())


def newest_stamps(admin: AdminClient, places: Iterable[TopicPartitionKey]) -> dict[TopicPartitionKey, int]:
    """Return the greatest timestamp of each partition, in milliseconds; partitions without a leader are left out."""
    asked_for = {TopicPartition(*place): OffsetSpec.max_timestamp() for place in places}  # type: ignore[no-untyped-call]
    answers = admin.list_offsets(asked_for, request_timeout=ASK_S) if asked_for else {}
    found: dict[TopicPartitionKey, int] = {}
    for place, answer in answers.items():
        with contextlib.suppress(KafkaException):
            stamp = _told(answer).timestamp
            if stamp > 0:
                found[place.topic, place.partition] = stamp
    return found


def broker_settings(admin: AdminClient, broker: int) -> dict[str, str]:
    """Return a broker's settings; empty where they may not be read."""
    resource = ConfigResource(ResourceType.BROKER, str(broker))
    (answer,) = admin.describe_configs([resource], request_timeout=ASK_S).values()
    with contextlib.suppress(KafkaException):
        return {name: one.value for name, one in _told(answer).items()}
    return {}


def read_some(client: Consumer, places: list[TopicPartitionKey], patience_s: float) -> None:
    """Read a little from the end of some partitions; brokers tell in their answers whether they made us wait."""
    left = set(places[:AT_ONCE])
    client.assign([TopicPartition(*place, OFFSET_TAIL - LAST) for place in left])
    end = time.monotonic() + patience_s
    while left and time.monotonic() < end:
        for message in client.consume(1_000, 0.1):
            if message.error() is not None:  # the end of a partition, or nothing to be read there
                left.discard((message.topic() or "", message.partition() or 0))
    client.unassign()


def group_state(admin: AdminClient, member: Consumer, group: str) -> GroupState:
    """Look at a group: members and committed offsets, those that a transaction hides as they were before it.

    `member` is a consumer of the group that has not joined it and reads all records. Waits for a coordinator that has
    just moved.
    """
    state = GroupState()
    for _ in Deadline(MOVED_S).tries(0.2):
        state, moving = _group_state(admin, member, group)
        if not moving:
            break
    return state


def _group_state(admin: AdminClient, member: Consumer, group: str) -> tuple[GroupState, bool]:
    faults: list[tuple[KafkaError, str]] = []
    members: int | None = None
    (answer,) = admin.describe_consumer_groups([group], request_timeout=ASK_S).values()
    try:
        members = len(_told(answer).members)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            # the same permission is needed for its offsets, and a consumer that lacks it asks until its time is over
            return GroupState(unknown=(said(error.args[0], f"group {group}, its members and its offsets"),)), False
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            members = 0
        else:
            faults.append((error.args[0], f"group {group}"))
    offsets: dict[TopicPartitionKey, int] | None = None
    try:
        offsets = _committed(member)
    except KafkaException as error:
        faults.append((error.args[0], f"offsets of group {group}"))
    unknown = tuple(dict.fromkeys(said(error, where) for error, where in faults))
    return GroupState(members, offsets, unknown), any(error.code() in MOVING for error, _where in faults)


def _committed(member: Consumer) -> dict[TopicPartitionKey, int]:
    """Return what the group has committed of the topics that may be seen.

    Not by AdminClient.list_consumer_group_offsets, which ends the process (segmentation fault, librdkafka 2.16) where
    the coordinator has moved or is loading: it then asks the consumer group of a client that has none.
    """
    topics = member.list_topics(timeout=ASK_S).topics
    places = [TopicPartition(name, number) for name, topic in topics.items() for number in topic.partitions]
    if not places:
        return {}
    answers = member.committed(places, timeout=ASK_S)
    return {(one.topic, one.partition): one.offset for one in answers if one.error is None and one.offset >= 0}
