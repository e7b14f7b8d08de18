"""Topics: legal names, no collisions, shared event topics that can be told apart.

Invariant: a topic has one kind of record. Nothing is ever written to an event topic, and scores, audit records and dead
letters are never mixed. Tenants share an event topic only with one event format that names the tenant, and in one lane
(each lane is a consumer group of its own and would answer the others' events as unknown).
"""

import re
from collections.abc import Iterator

from msgspec import Struct

from muse_stream.config.fields import TOPIC_LENGTH
from muse_stream.config.source import YamlPath
from muse_stream.config.structure import Draft
from muse_stream.config.tenant import TOPIC_KINDS
from muse_stream.errors import Problem

CROWDED_PARTITIONS = 32
"""Score partitions of one lane beyond which its transactions get slow, since each is paid for: 4 ms at 4 partitions, 9
at 13, 22 at 34; p99 of the answers 102 ms at 20 topics, 287 at 100 (measured, November 2026)."""

_LEGAL = re.compile(r"[a-zA-Z0-9._-]+")


class _Use(Struct, frozen=True):
    topic: str
    kind: str
    tenant: str
    path: YamlPath


def topic_problems(draft: Draft) -> Iterator[Problem]:
    """Yield a problem for every topic that is illegal, collides, or is shared by tenants that cannot share it."""
    uses = [*_uses(draft)]
    yield from _illegal(draft, uses)
    yield from _mixed(draft, uses)
    yield from _twins(draft, uses)
    yield from _shared(draft, uses)


def _uses(draft: Draft) -> Iterator[_Use]:
    for name, tenant in draft.document.tenants.items():
        topics = draft.document.tenant_topics(name)
        for kind in TOPIC_KINDS:
            own = getattr(tenant.topics, kind) is not None
            path: YamlPath = ("tenants", name, "topics", kind) if own else ("tenants", name)
            yield _Use(getattr(topics, kind), kind, name, path)
    for lane, tenants in draft.document.lanes().items():
        yield _Use(draft.document.unknown_topic(lane), "dlq", tenants[0], ("topics", "unknown"))


def _first_uses(uses: list[_Use]) -> dict[str, _Use]:
    first: dict[str, _Use] = {}
    for use in uses:
        first.setdefault(use.topic, use)
    return first


def _illegal(draft: Draft, uses: list[_Use]) -> Iterator[Problem]:
    for topic, use in _first_uses(uses).items():
        if len(topic) > TOPIC_LENGTH:
            message = f"topic '{topic[:40]}...' has {len(topic)} characters"
            yield draft.problem(use.path, message, f"Kafka allows {TOPIC_LENGTH}: shorten the template or the name")
        elif topic in {".", ".."} or not _LEGAL.fullmatch(topic):
            yield draft.problem(use.path, f"'{topic}' is not a legal topic name", "letters, digits, '.', '_' and '-'")


def _mixed(draft: Draft, uses: list[_Use]) -> Iterator[Problem]:
    first: dict[str, _Use] = {}
    told: set[tuple[str, str]] = set()
    for use in sorted(uses, key=lambda use: TOPIC_KINDS.index(use.kind)):
        other = first.setdefault(use.topic, use)
        if other.kind != use.kind and (use.topic, use.kind) not in told:
            told.add((use.topic, use.kind))
            message = (
                f"topic '{use.topic}' for {use.kind} is also the topic for {other.kind} of tenant '{other.tenant}'"
            )
            yield draft.problem(use.path, message, "give every kind of record a topic of its own")


def _twins(draft: Draft, uses: list[_Use]) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for topic, use in _first_uses(uses).items():
        other = first.setdefault(topic.replace(".", "_"), topic)
        if other != topic:
            message = f"topics '{other}' and '{topic}' differ only in '.' and '_'"
            yield draft.problem(use.path, message, "Kafka refuses to create both: rename one")


def _shared(draft: Draft, uses: list[_Use]) -> Iterator[Problem]:
    document = draft.document
    sharers: dict[str, list[_Use]] = {}
    for use in uses:
        if use.kind == "events":
            sharers.setdefault(use.topic, []).append(use)
    for topic, together in sharers.items():
        first = document.tenants[together[0].tenant]
        for use in together[1:]:
            tenant = document.tenants[use.tenant]
            both = f"tenants '{together[0].tenant}' and '{use.tenant}' share the event topic '{topic}'"
            if tenant.event != first.event and {tenant.event, first.event} <= draft.declared["events"]:
                path: YamlPath = ("tenants", use.tenant, "event")
                yield draft.problem(path, f"{both}, but not its format", f"both need `event: {first.event}`")
            if tenant.lane != first.lane:
                path = ("tenants", use.tenant, "lane")
                yield draft.problem(path, f"{both}, but not a lane", f"both need `lane: {first.lane}`")
            if tenant.paused != first.paused:
                path = ("tenants", use.tenant, "paused")
                yield draft.problem(path, f"{both}, but only one is paused", "pause both or none: a topic waits whole")
        event = document.events.get(first.event)
        if len(together) > 1 and event is not None and event.tenant is None:
            names = ", ".join(use.tenant for use in together[:5])
            yield draft.problem(
                ("events", first.event),
                f"tenants {names} share the event topic '{topic}', but nothing tells whose an event is",
                "add `tenant: {field: NAME}` or `tenant: {header: NAME}`",
            )


def topic_warnings(draft: Draft) -> Iterator[Problem]:
    """Yield a warning for every lane with many output topics."""
    for lane, tenants in draft.document.lanes().items():
        for kind in ("scores", "audit"):
            topics = {getattr(draft.document.tenant_topics(tenant), kind) for tenant in tenants}
            if len(topics) > CROWDED_PARTITIONS:  # each topic has one at least
                yield draft.problem(
                    ("topics", kind),
                    f"lane '{lane}' writes to {len(topics)} {kind} topics: a transaction costs per partition touched",
                    f"share them (`{kind}: muse.{kind}.{{lane}}`), or spread the tenants over lanes",
                )
