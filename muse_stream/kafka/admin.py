"""The topics of a cluster: look at them (`survey`), change them as a plan says (`carry_out`). Who is in a group.

Only what the plan names is touched; who made a topic in the meantime is not an error; every failure is collected, so
that one refused topic does not hide another.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public names that the stubs forget to export
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
    TopicMetadata,
)

from muse_stream.config import KafkaSettings
from muse_stream.errors import Fatal
from muse_stream.kafka import client
from muse_stream.kafka.admin_answers import answers_within, told
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.errors import About, asked, concerns
from muse_stream.kafka.explain import said
from muse_stream.kafka.topic_plan import Change, Existing, Options

LISTED_S = 5.0
"""How long it is waited for that brokers list a topic that was created."""
SETTINGS = (
    "max.message.bytes",
    "min.insync.replicas",
    "retention.ms",
    "cleanup.policy",
    "message.timestamp.before.max.ms",
)


def survey(admin: AdminClient, names: Iterable[str], timeout_s: float = 15.0) -> dict[str, Existing]:
    """Return those of `names` that exist, with what a plan needs to know.

    Raises `StreamError`, also for a topic that this principal may not see: whether it exists is then not told.
    """
    topics = _seen(admin, names, timeout_s)
    place = ""
    try:
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        described = admin.describe_configs(resources, request_timeout=timeout_s) if resources else {}
        configs, until = {}, answers_within(timeout_s)
        for resource, answer in described.items():
            place = f"settings of {resource.name}"
            configs[resource.name] = told(answer, until)
    except KafkaException as error:
        raise asked(error, place, "DESCRIBE_CONFIGS") from None
    return {
        name: Existing(
            partitions=len(topic.partitions),
            replication=min((len(part.replicas) for part in topic.partitions.values()), default=0),
            config={key: configs[name][key].value for key in SETTINGS if key in configs[name]},
        )
        for name, topic in topics.items()
    }


def exists(admin: AdminClient, topic: str, lacks: str, timeout_s: float = 15.0) -> bool:
    """Whether a topic is there; raises `StreamError`, also where this principal may not see it for want of `lacks`."""
    return topic in _seen(admin, [topic], timeout_s, lacks)


def _seen(
    admin: AdminClient, names: Iterable[str], timeout_s: float, lacks: str = "DESCRIBE"
) -> dict[str, TopicMetadata]:
    place, wanted = "", tuple(dict.fromkeys(names))
    try:
        topics = admin.list_topics(timeout=timeout_s).topics
        unseen = [name for name in wanted if name not in topics]
        # asked by their names, by a request that makes no topic: those that may not be seen are not listed
        answers = admin.describe_topics(TopicCollection(unseen), request_timeout=timeout_s) if unseen else {}
        until = answers_within(timeout_s)
        for name, answer in answers.items():
            place = name
            try:
                told(answer, until)
            except KafkaException as error:
                if error.args[0].code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._TIMED_OUT):
                    raise
    except KafkaException as error:
        raise asked(error, place, lacks) from None
    return {name: topics[name] for name in wanted if name in topics and topics[name].error is None}


AS_KAFKA_PRINTS = str.maketrans("+/", "-_", "=")
"""The client writes an id in base64; Kafka's own tools write it so that it may stand in a URL."""


def topic_ids(admin: AdminClient, names: Iterable[str], timeout_s: float = 15.0) -> dict[str, str]:
    """Return the ids of those of `names` that tell theirs: a topic that is deleted and created again gets another."""
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return {}
    found: dict[str, str] = {}
    answers, until = (
        admin.describe_topics(TopicCollection(wanted), request_timeout=timeout_s),
        answers_within(timeout_s),
    )
    for name, answer in answers.items():
        with contextlib.suppress(KafkaException):  # not there, not for us, or a broker that is too old
            found[name] = str(told(answer, until).topic_id).translate(AS_KAFKA_PRINTS)
    return found


def topic_settings(
    admin: AdminClient, names: Iterable[str], timeout_s: float = 15.0, denied: set[str] | None = None
) -> dict[str, dict[str, str]]:
    """Return the settings of those of `names` whose settings may be read; `denied` gets those that there may be."""
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in dict.fromkeys(names)]
    found: dict[str, dict[str, str]] = {}
    answers = admin.describe_configs(resources, request_timeout=timeout_s) if resources else {}
    until = answers_within(timeout_s)
    for resource, answer in answers.items():
        try:
            found[resource.name] = {name: one.value for name, one in told(answer, until).items()}
        except KafkaException as error:
            if denied is not None and error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                denied.add(resource.name)
    return found


def carry_out(admin: AdminClient, changes: Sequence[Change], options: Options, timeout_s: float = 30.0) -> list[Change]:
    """Create topics and set settings; returns the changes made. Raises `Fatal` listing every one that was refused."""
    creations = {change.topic: change for change in changes if change.action == "create"}
    alterations = {change.topic: change for change in changes if change.action == "set"}
    refused: list[str] = []
    made: list[Change] = []
    if creations:
        specs = [
            NewTopic(
                name,
                num_partitions=change.partitions or -1,
                replication_factor=options.replication or -1,
                config=dict(change.config),
            )
            for name, change in creations.items()
        ]
        answers = admin.create_topics(specs, operation_timeout=timeout_s, request_timeout=timeout_s)
        for name, answer in answers.items():
            problem = _problem(answer, timeout_s, "CREATE", KafkaError.TOPIC_ALREADY_EXISTS)
            if problem:
                refused.append(f"{name}: {problem}")
            else:
                made.append(creations[name])
        _await_listed(admin, [change.topic for change in made], timeout_s)
    if alterations:
        resources = [_resource(name, change.config) for name, change in alterations.items()]
        for resource, answer in admin.incremental_alter_configs(resources, request_timeout=timeout_s).items():
            problem = _problem(answer, timeout_s, "ALTER_CONFIGS")
            if problem:
                refused.append(f"{resource.name}: {problem}")
            else:
                made.append(alterations[resource.name])
    if refused:
        raise Fatal("Kafka refused: " + "; ".join(refused))
    return made


def _await_listed(admin: AdminClient, names: Sequence[str], timeout_s: float) -> None:
    """Return when a broker lists these topics with a leader for each partition, or `LISTED_S` later.

    A topic is made when the controllers have noted it; brokers hear of it a moment later, and whoever sends meanwhile
    is told that there is no such topic.
    """
    for last in Deadline(LISTED_S).tries(0.05):
        with contextlib.suppress(KafkaException):
            topics = admin.list_topics(timeout=timeout_s).topics
            found = [topics[name] for name in names if name in topics]
            led = [all(part.leader >= 0 for part in one.partitions.values()) for one in found if one.error is None]
            if last or (all(led) and len(led) == len(names)):
                return


def _resource(name: str, config: Mapping[str, str]) -> ConfigResource:
    entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()]
    return ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)


class _Answer(Protocol):
    def result(self, timeout: float | None = None) -> object: ...


def _problem(answer: _Answer, timeout_s: float, lacks: str, *harmless: int) -> str:
    try:
        told(answer, answers_within(timeout_s))
    except KafkaException as error:
        inner = error.args[0]
        return "" if inner.code() in harmless else said(inner, lacks=lacks)
    return ""


def has_members(settings: KafkaSettings, group: str, timeout_s: float = 15.0) -> bool:
    """Whether a group has members; one that has ended stays one for its session. Raises `StreamError`."""
    admin = client.admin(settings)
    for last in Deadline(timeout_s).tries(0.2):
        try:
            described = admin.describe_consumer_groups([group], request_timeout=timeout_s)
            return bool(told(described[group], answers_within(timeout_s)).members)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return False
            if last or not concerns(error, About.REFUSED_COMMIT):  # nobody coordinates it yet
                raise asked(error, f"group {group}", "READ") from None
    return False
