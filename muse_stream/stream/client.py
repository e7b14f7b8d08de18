"""Kafka clients with our settings, and Kafka's errors as our types.

In: `KafkaSettings`. Out: librdkafka configuration, `Consumer`, `Producer`, `AdminClient`; `typed` turns a vendor error
into `Retriable`, `Abortable` or `Fatal`. This is the one place that knows librdkafka's names of our settings.
Law: an error's type is decided by librdkafka's three flags alone (fatal, transaction requires abort, retriable), never
by its code; an error with no flag is fatal. Nothing here connects: clients connect when first used.
"""

import logging
import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from muse_stream.errors import Abortable, ConfigError, Fatal, Problem, Retriable, StreamError
from muse_stream.settings import KafkaSettings
from muse_stream.stream.release import Listening
from muse_stream.stream.repeats import Repeats

LOG = logging.getLogger("muse_stream.kafka")
"""librdkafka's own messages go here, not to stderr past the structured log."""
LOG.addFilter(Repeats())

FIRST_ASK_S = 1.0
"""librdkafka reports a refused password only between two requests, so the first are short."""

CONSUMER: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    # on_assign gives explicit offsets; out of range must stop the worker, not replay the topic (R1)
    "auto.offset.reset": "error",
    "fetch.queue.backoff.ms": 5,  # the default of 1000 caps a fast consumer near 130,000/s
    "topic.metadata.refresh.interval.ms": 15_000,
    "queued.min.messages": 2_000,
    "queued.max.messages.kbytes": 16_384,
    "fetch.wait.max.ms": 100,
    "allow.auto.create.topics": False,
}
PRODUCER: dict[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "linger.ms": 5,
    # the default of 1 MB refuses what topics may allow, dead letters of oversize events above all; the broker decides
    "message.max.bytes": 64 * 1024 * 1024,
    "compression.type": "lz4",
    "partitioner": "murmur2_random",  # what Java producers do: equal keys meet in one partition whoever wrote them
}


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every client needs to reach the cluster, under librdkafka's names. Holds secrets: never print it."""
    password = settings.password()
    given = {
        "bootstrap.servers": settings.bootstrap,
        "client.id": settings.client_id,
        "security.protocol": settings.security_protocol,
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.sasl_username,
        "sasl.password": password and password.get_secret_value(),
        "ssl.ca.location": settings.ssl_ca_location and str(settings.ssl_ca_location),
        "ssl.certificate.location": settings.ssl_certificate_location and str(settings.ssl_certificate_location),
        "ssl.key.location": settings.ssl_key_location and str(settings.ssl_key_location),
        "ssl.key.password": settings.ssl_key_password and settings.ssl_key_password.get_secret_value(),
    }
    return {name: value for name, value in given.items() if value is not None}


def admin(settings: KafkaSettings) -> AdminClient:
    """Return an admin client. Not for workers: it has aborted a process whose broker was killed (R7)."""
    return AdminClient(connection(settings) | {"logger": LOG})


def consumer(settings: KafkaSettings, **overrides: Any) -> Consumer:
    """Return a consumer; `overrides` are librdkafka settings, `**{"group.id": ...}` the least of them."""
    return Consumer(connection(settings) | CONSUMER | {"logger": LOG} | overrides)


def producer(settings: KafkaSettings, **overrides: Any) -> Producer:
    """Return a producer; transactional when `overrides` holds a `transactional.id`."""
    return Producer(connection(settings) | PRODUCER | {"logger": LOG} | overrides)


def typed(error: KafkaError | KafkaException) -> StreamError:
    """Say what to do about a Kafka error, by its flags (kafka.md 2.4): Fatal, Abortable or Retriable."""
    if isinstance(error, KafkaException):
        inner = error.args[0] if error.args else None
        if not isinstance(inner, KafkaError):
            return Fatal(str(error))
        error = inner
    message = f"{error.name()}: {error.str()}"
    if error.fatal():
        return Fatal(message, code=error.name())
    if error.txn_requires_abort():
        return Abortable(message, code=error.name())
    if error.retriable():
        return Retriable(message, code=error.name())
    return Fatal(message, code=error.name())


def reach(settings: KafkaSettings, timeout_s: float = 10.0) -> AdminClient:
    """Return an admin client that a broker has answered; warns of a release with a fault that matters here.

    Raises `Retriable` when none does within `timeout_s`, and at once when a broker refuses who we say we are;
    `ConfigError` when the client library itself refuses the settings (a mechanism it lacks, a file that is no
    certificate).
    """
    heard: list[KafkaError] = []  # the request itself says only that it failed; why (refused, TLS, password) comes here
    listening = Listening(LOG)
    told: dict[str, Any] = {"logger": listening, "debug": "feature", "error_cb": heard.append}
    try:
        client = AdminClient(connection(settings) | told)
    except KafkaException as error:
        problem = Problem("MUSE_KAFKA_*", str(typed(error)), "see the variables in `muse-stream --help`")
        raise ConfigError([problem]) from None
    end, patience_s = time.monotonic() + timeout_s, FIRST_ASK_S
    while True:
        left_s = end - time.monotonic()
        try:
            client.list_topics(timeout=max(0.01, min(patience_s, left_s)))
            client.poll(0)  # what was said while connecting is handed over here
            listening.report(settings.bootstrap)
            return client
        except KafkaException as error:
            client.poll(0)
            refused = [one for one in heard if one.code() == KafkaError._AUTHENTICATION]
            if refused or left_s <= patience_s:
                why = (refused or heard)[0].str() if heard else str(typed(error))
                raise Retriable(f"Kafka cannot be reached at {settings.bootstrap}: {why}") from None
        patience_s *= 2  # a slow cluster needs longer to answer; it is not asked more often for that
