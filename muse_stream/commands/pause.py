"""Pause and resume tenants: an operator's decision, as the next generation; and what waits meanwhile, and how long.

Workers stop reading the tenants' event topics and keep their offsets; on resume they go on there. What Kafka removes
before that (retention, compaction) is lost, so `waits` tells how long events are kept and how old the oldest unread is.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from muse_stream.commands.check import check_source
from muse_stream.commands.publish import Proposal, proposal
from muse_stream.config import Document, KafkaSettings, Loaded, Role, load_document, parse, pause
from muse_stream.control import Store, open_store
from muse_stream.errors import ConfigError, Problem, Retriable, StoreError
from muse_stream.kafka import (
    AdminClient,
    Consumer,
    Source,
    TopicPartitionKey,
    client,
    committed_offsets,
    record_at,
    sources,
    span_reader,
    topic_settings,
)

ROLES: tuple[Role, ...] = ("live", "shadow")
ASK_S = 10.0
SOON = timedelta(days=1)
"""Events that are removed sooner than this are said to be in danger."""


@dataclass(frozen=True, slots=True)
class Waits:
    """What waits in one event topic in one role, and how long Kafka keeps it."""

    topic: str
    role: Role
    events: int
    oldest: datetime | None
    """When the oldest unread event was written; None: none waits, or nobody can tell."""
    removed: int
    """Events that were removed before they were read."""
    retention_ms: int | None
    """-1: for ever; None: not told."""
    retention_bytes: int | None
    cleanup: str
    """`cleanup.policy`."""

    @property
    def lost_from(self) -> datetime | None:
        """When the oldest unread event is removed, were the tenant paused until then."""
        if self.retention_ms is None or self.retention_ms < 0:
            return None
        return (self.oldest or datetime.now(UTC)) + timedelta(milliseconds=self.retention_ms)

    @property
    def soon(self) -> bool:
        """Whether events are in danger within a day, or are lost already."""
        return bool(self.removed) or (self.lost_from is not None and self.lost_from - datetime.now(UTC) < SOON)

    def __str__(self) -> str:
        return f"{self.topic} ({self.role}): {'; '.join([self._waiting(), *self._kept()])}"

    def _waiting(self) -> str:
        if not self.events:
            return "nothing waits"
        since = "" if self.oldest is None else f", the oldest since {_moment(self.oldest)}"
        return f"{self.events:,} events wait{since}"

    def _kept(self) -> Iterator[str]:
        if self.removed:
            yield f"{self.removed:,} events were removed by retention before they were read"
        if self.retention_ms is None:
            yield "how long it keeps events is not known: its settings may not be read (DescribeConfigs)"
        elif self.lost_from is None:
            yield "it keeps events for ever (retention.ms -1)"
        else:
            kept = f"{timedelta(milliseconds=self.retention_ms)} (retention.ms {self.retention_ms})"
            yield f"it keeps events for {kept}: what is not read by {_moment(self.lost_from)} is lost"
        if (self.retention_bytes or -1) >= 0:
            yield f"it keeps {self.retention_bytes:,} bytes a partition (retention.bytes): more removes them sooner"
        if "compact" in self.cleanup:
            yield "it is compacted: of events with the same key only the last is kept"


def _moment(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A pause or resume that could be published."""

    tenants: tuple[str, ...]
    paused: bool
    base: Loaded
    """The current generation."""
    proposal: Proposal

    def waits(self, settings: KafkaSettings) -> tuple[Waits, ...]:
        """Ask Kafka what waits; raises what `client.reach` raises, and `Retriable`."""
        client.reach(settings)
        return tuple(_waits(self.base.document, self.tenants, settings))


def prepare(tenants: Sequence[str], store: str, *, paused: bool) -> Prepared | None:
    """Work out the generation in which these tenants are paused, or are not; None where they are so already.

    The store stays open: close it. Raises ConfigError and everything `check` finds, Conflict when somebody else has
    published meanwhile, StoreError.
    """
    opened = open_store(store)
    try:
        found = _prepared(tuple(dict.fromkeys(tenants)), opened, paused=paused)
        if found is None:
            opened.close()
        return found
    except BaseException:
        opened.close()
        raise


def _prepared(tenants: tuple[str, ...], store: Store, *, paused: bool) -> Prepared | None:
    number = store.current()
    if number is None:
        raise StoreError(f"{store} holds no generation; publish one there with `muse-stream publish`")
    base = load_document(store.open(number).path)
    text = base.source.data.decode()
    changed = pause(text, tenants, paused=paused, name=str(base.source.path))
    if changed == text:
        return None
    _refuse_shared(base.document, tenants, paused=paused)
    checked = check_source(parse(base.source.path, changed.encode()), base.root)
    return Prepared(tenants, paused, base, proposal(checked, store, number))


def _refuse_shared(document: Document, tenants: Sequence[str], *, paused: bool) -> None:
    """Refuse to pause a part of an event topic: a topic waits whole."""
    topics = {document.tenant_topics(tenant).events for tenant in tenants}
    others = [n for n in document.tenants if n not in tenants and document.tenant_topics(n).events in topics]
    others = [name for name in others if document.tenants[name].paused != paused]
    if others:
        verb = "pause" if paused else "resume"
        message = f"shares its event topic with {', '.join(others)}: a topic waits whole"
        hint = f"name all of them: muse-stream {verb} {' '.join([*tenants, *others])}"
        raise ConfigError([Problem(f"tenants.{tenants[0]}", message, hint)])


def _waits(document: Document, tenants: Sequence[str], settings: KafkaSettings) -> Iterator[Waits]:
    admin = client.admin(settings)
    for topic in dict.fromkeys(document.tenant_topics(tenant).events for tenant in tenants):
        tenant = next(name for name in tenants if document.tenant_topics(name).events == topic)
        for role in ROLES:
            group = document.group(document.tenants[tenant].lane, role)
            found = _of_topic(topic, role, group, settings, admin)
            if found is not None:
                yield found


def _of_topic(topic: str, role: Role, group: str, settings: KafkaSettings, admin: AdminClient) -> Waits | None:
    """Return how a topic stands in a group; None where a shadow group has never read it."""
    told = topic_settings(admin, [topic], ASK_S).get(topic, {})
    stable, every = span_reader(settings, group, True), span_reader(settings, group, False)
    with contextlib.closing(stable), contextlib.closing(every):
        described = every.list_topics(topic, timeout=ASK_S).topics[topic]
        if described.error is not None:
            raise Retriable(f"{topic}: {described.error.str()}", topic=topic)
        places = [(topic, number) for number in sorted(described.partitions)]
        held = sources(stable, every, places, dated=False)
        committed = {place: one.offset for place, one in committed_offsets(stable, places, ASK_S).items()}
        if role == "shadow" and all(offset is None for offset in committed.values()):
            return None
        starts = {place: _start(committed.get(place), one) for place, one in held.items()}
        return Waits(
            topic,
            role,
            sum(max(0, one.high - starts[place]) for place, one in held.items()),
            _oldest(stable, held, starts),
            sum(max(0, one.low - (committed.get(place) or one.low)) for place, one in held.items()),
            _number(told.get("retention.ms")),
            _number(told.get("retention.bytes")),
            told.get("cleanup.policy", ""),
        )


def _start(committed: int | None, source: Source) -> int:
    return source.low if committed is None else max(committed, source.low)


def _oldest(
    reader: Consumer, held: dict[TopicPartitionKey, Source], starts: dict[TopicPartitionKey, int]
) -> datetime | None:
    stamps = []
    for place, one in held.items():
        if starts[place] < one.stable:
            record = record_at(reader, place, starts[place], ASK_S)
            if record is not None and record.timestamp()[1] > 0:
                stamps.append(record.timestamp()[1])
    return datetime.fromtimestamp(min(stamps) / 1000, UTC) if stamps else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.lstrip("-").isdigit() else None
