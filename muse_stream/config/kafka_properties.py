"""A file of librdkafka properties, and which of them may be given.

The file has librdkafka's own form: `name=value` a line, `#` for comments. It gives properties, or every problem in it
with file and line.

Invariant: what exactly-once rests on cannot be set from outside, and a property that librdkafka does not know is never
passed on. No value is ever part of a message: any of them may be a secret, and so may a line that is no property at
all.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from muse_stream.config.librdkafka import CODE, NAMES, canonical
from muse_stream.errors import Problem

_TOGETHER = "a dead worker's transaction must end before its partitions move, so these times are set together"
_LOSSLESS = "no record may be lost, doubled or overtaken by another: transactions rest on it"
_HANDOVER = "how workers hand partitions over is a part of exactly-once"
_OFFSETS = "offsets are committed in one transaction with the scores, and in no other way"
_UNUSED = "only clients of another kind obey it; for the events of a batch see `limits.max_batch` of the configuration"
_PROGRAM = "it says how a program and the library talk to each other"

REFUSED: Mapping[str, str] = {
    "auto.offset.reset": "a worker sets each starting offset itself: a reset would score events twice, or skip them",
    "isolation.level": "only committed records may be read, and only stable offsets started from",
    "group.id": "a worker's group is named after its lane and role",
    "group.instance.id": "a worker's place in the group is named after `run --name` and its number",
    "transactional.id": "a worker's transactions are named after its lane, its role, `run --name` and its number",
    "partitioner": "equal keys must meet in one partition, also those of Java producers",
    "delivery.report.only.error": "each command asks for the delivery reports that it counts",
    "enable.partition.eof": "each command says itself whether it stops at the end of a topic",
    "topic.blacklist": "events of a topic that is hidden would never be scored",
    "allow.auto.create.topics": "topics are made by `muse-stream topics`, never by a misspelt name",
    "topic.metadata.propagation.max.ms": "it bounds how long a missing topic of one tenant holds up the others",
    **dict.fromkeys(("enable.auto.commit", "auto.commit.enable", "auto.commit.interval.ms"), _OFFSETS),
    **dict.fromkeys(("enable.auto.offset.store", "offset.store.method", "offset.store.path"), _OFFSETS),
    **dict.fromkeys(("offset.store.sync.interval.ms",), _OFFSETS),
    **dict.fromkeys(("partition.assignment.strategy", "group.protocol", "group.protocol.type"), _HANDOVER),
    **dict.fromkeys(("group.remote.assignor",), _HANDOVER),
    **dict.fromkeys(("session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms"), _TOGETHER),
    **dict.fromkeys(("transaction.timeout.ms", "message.timeout.ms", "delivery.timeout.ms"), _TOGETHER),
    **dict.fromkeys(("enable.idempotence", "acks", "request.required.acks", "enable.gapless.guarantee"), _LOSSLESS),
    **dict.fromkeys(("max.in.flight", "max.in.flight.requests.per.connection", "queuing.strategy"), _LOSSLESS),
    **dict.fromkeys(("retries", "message.send.max.retries"), _LOSSLESS),
    **dict.fromkeys(("max.poll.records", "share.acknowledgement.mode", "consume.callback.max.messages"), _UNUSED),
    **dict.fromkeys(("log.queue", "enabled_events", "internal.termination.signal"), _PROGRAM),
    **dict.fromkeys(CODE, _PROGRAM),
}
"""Properties that may not be given, and why."""

_LOGIN = "use sasl.username and sasl.password (PLAIN, SCRAM), sasl.oauthbearer.* or sasl.kerberos.*"
_OIDC = "use sasl.oauthbearer.method=oidc with client.id, client.secret and token.endpoint.url"
_CA = "use ssl.ca.location with its certificates as PEM: `keytool -list -rfc -keystore truststore.jks > ca.pem`"
_PKCS12 = "ssl.keystore.location takes PKCS#12 only: `keytool -importkeystore ... -deststoretype PKCS12`"
_AVRO = "leave it out: records are Avro, and muse-stream reads and writes them itself"

JAVA: Mapping[str, str] = {
    "sasl.jaas.config": _LOGIN,
    "sasl.login.class": _LOGIN,
    "sasl.login.callback.handler.class": _OIDC,
    "sasl.client.callback.handler.class": _OIDC,
    "sasl.oauthbearer.jwks.endpoint.url": "leave it out: it is a property of brokers",
    "sasl.oauthbearer.expected.audience": "leave it out: it is a property of brokers",
    "ssl.truststore.location": _CA,
    "ssl.truststore.password": _CA,
    "ssl.truststore.type": _CA,
    "ssl.truststore.certificates": "use ssl.ca.location with a file",
    "ssl.keystore.type": _PKCS12,
    "ssl.keystore.key": "use ssl.key.location with a file",
    "ssl.keystore.certificate.chain": "use ssl.certificate.location with a file",
    "ssl.protocol": "leave it out: OpenSSL chooses the newest that both sides know",
    "ssl.enabled.protocols": "leave it out: OpenSSL chooses the newest that both sides know",
    "key.serializer": _AVRO,
    "value.serializer": _AVRO,
    "key.deserializer": _AVRO,
    "value.deserializer": _AVRO,
    "buffer.memory": "use queue.buffering.max.kbytes",
    "max.request.size": "use message.max.bytes",
    "fetch.max.wait.ms": "use fetch.wait.max.ms",
    "send.buffer.bytes": "use socket.send.buffer.bytes",
    "receive.buffer.bytes": "use socket.receive.buffer.bytes",
    "reconnect.backoff.jitter": "use reconnect.backoff.ms and reconnect.backoff.max.ms",
}
"""Properties of Java clients that librdkafka does not have, and what it has in their place."""

_EMPTY = {"ssl.endpoint.identification.algorithm": "what is empty for Java is `none` here"}

CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat, Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)

_NAME = re.compile(r"[a-z][a-z0-9._]{0,63}")
"""What may be repeated in a message: a line of a private key is not a name."""
_FILES = re.compile(r".*\.(location|file|keytab)")
_URLS = re.compile(r".*\.url")


@dataclass(frozen=True, slots=True)
class Property:
    """One line of the file."""

    name: str
    value: SecretStr
    """Every value: which of them is a secret, somebody would forget to say."""
    line: int
    file: str

    def problem(self, message: str, hint: str = "") -> Problem:
        """Return a problem that points at this line."""
        return Problem(self.name, message, hint, self.line, self.file)


def read(file: Path) -> tuple[list[Property], list[Problem]]:
    """Return the properties of a file that may be given, and what is wrong with the rest of it."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "").lower() if isinstance(error, OSError) else "not UTF-8"
        return [], [Problem("MUSE_KAFKA_PROPERTIES_FILE", f"cannot be read: {why}", file=str(file))]
    good: list[Property] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), 1):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not equals or not _NAME.fullmatch(name):
            shown = f"line {number}"
            problems.append(Problem(shown, "is not name=value", "comments begin with #", number, str(file)))
            continue
        given = Property(name, SecretStr(value), number, str(file))
        found = [*_wrong(given, good)]
        problems += found
        good += [] if found else [given]
    return good, problems


def _wrong(given: Property, before: Sequence[Property]) -> Iterator[Problem]:
    name, value = given.name, given.value.get_secret_value()
    twice = [other for other in before if canonical(other.name) == canonical(name)]
    if name in REFUSED:
        yield given.problem(f"may not be set: {REFUSED[name]}", "leave it out")
    elif name in JAVA:
        yield given.problem("is a property of Java clients that librdkafka does not have", JAVA[name])
    elif name not in NAMES:
        yield given.problem("librdkafka has no such property", _nearest(name))
    elif not value:
        yield given.problem("has no value", _EMPTY.get(name, "leave the line out, or give one"))
    elif twice:
        yield given.problem(f"was given before, as {twice[0].name} in line {twice[0].line}", "keep one of them")
    elif _FILES.fullmatch(name) and value != "probe" and not Path(value).exists():
        yield given.problem("names a file that does not exist")
    elif _URLS.fullmatch(name) and (wrong := url_problem(value)):
        yield given.problem(wrong)


def url_problem(url: str) -> str:
    """Return what is wrong with the URL of a token endpoint, without repeating it; nothing if it will do."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return "is not a URL"
    if not sound:
        return "is not a URL: https://host/path"
    return "put no user into it: that is the client id and the client secret" if "@" in parts.netloc else ""


def machine_certificates() -> str | None:
    """Return the file with the certificates that this machine trusts, as the variable SSL_CERT_FILE or its system says.

    The wheels of librdkafka look for it where Red Hat keeps it, and refuse every HTTPS endpoint elsewhere; a folder, or
    `probe`, does not help them.
    """
    found = [path for path in (os.environ.get("SSL_CERT_FILE", ""), *CERTIFICATES) if Path(path).is_file()]
    return found[0] if found else None


def _nearest(name: str) -> str:
    close = get_close_matches(name, sorted(NAMES), n=1)
    return f"did you mean {close[0]}?" if close else "the names are in CONFIGURATION.md of librdkafka"
