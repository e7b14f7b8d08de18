"""What topics a configuration needs, what is missing, and how to make it so.

A document, an operator's options and what the cluster has give a plan, a list of `Change`; `admin` carries it out. The
plan is pure and says everything before anything is done. Nothing is ever deleted, and partitions are never added to an
existing topic (that would move keys, and break order per key): what only a person can decide is a warning.

Answers of a partition keep their partition only where counts match, so outputs are made with as many partitions as the
widest event topic that feeds them.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct, field

from muse_stream.config import CROWDED_PARTITIONS, Document, TopicKind

Action = Literal["create", "set", "warn"]

HEADROOM = 64 * 1024
"""Bytes a record may have over its value: key, headers, batch overhead; a dead letter has them twice (`muse.*`)."""
BROKER_MAX_MESSAGE = 1_048_588
"""Kafka's default `max.message.bytes`."""

TIMESTAMP_MS = 60_000
"""How old an answer may be when the broker gets it: a clock that differs, and the time of a transaction."""
RECORD_BYTES: Mapping[TopicKind, int] = {"scores": 16 * 1024, "audit": 64 * 1024}
"""What one answer may take: the event's key and id, and for an audit record the scores of all experts."""


class Options(Struct, frozen=True):
    """What an operator chooses; None leaves it to the broker's default, or an existing topic as it is."""

    partitions: int = 6
    """Of event topics that do not exist yet."""
    output_partitions: int | None = None
    """Of output topics that do not exist yet; None takes the event topic's."""
    replication: int | None = None
    min_isr: int | None = None
    retention_ms: int | None = None
    """-1 keeps forever."""


class Needed(Struct, frozen=True):
    """One topic a document needs, however many tenants share it."""

    name: str
    kind: TopicKind
    lane: str
    tenants: tuple[str, ...]
    sources: tuple[str, ...] = ()
    """The event topics that feed it; empty for an event topic."""


class Existing(Struct, frozen=True):
    """One topic the cluster has."""

    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)

    def number(self, name: str) -> int | None:
        """Return a numeric setting, None when the broker did not say."""
        value = self.config.get(name)
        return None if value is None else int(value)


class Change(Struct, frozen=True):
    """One step of a plan: a topic to create, settings to set, or something only a person can decide."""

    action: Action
    topic: str
    kind: TopicKind
    why: str
    partitions: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)


def needed(document: Document, tenants: Sequence[str] | None = None) -> tuple[Needed, ...]:
    """Return the topics of these tenants (all by default), event topics first; a shared topic is listed once."""
    found: dict[tuple[TopicKind, str], Needed] = {}

    def add(kind: TopicKind, name: str, lane: str, tenant: str, source: str | None) -> None:
        old = found.get((kind, name), Needed(name, kind, lane, ()))
        sources = old.sources if source is None or source in old.sources else (*old.sources, source)
        found[kind, name] = Needed(name, kind, old.lane, (*old.tenants, tenant), sources)

    for tenant in tenants if tenants is not None else document.tenants:
        lane = document.tenants[tenant].lane
        topics = document.tenant_topics(tenant)
        add("events", topics.events, lane, tenant, None)
        add("scores", topics.scores, lane, tenant, topics.events)
        add("audit", topics.audit, lane, tenant, topics.events)
        add("dlq", topics.dlq, lane, tenant, topics.events)
        add("unknown", document.unknown_topic(lane), lane, tenant, topics.events)
    taken = {need.name for need in found.values() if need.kind != "unknown"}
    kinds: dict[TopicKind, int] = {"events": 0, "scores": 1, "audit": 2, "dlq": 3, "unknown": 4}
    needs = [need for need in found.values() if need.kind != "unknown" or need.name not in taken]
    return tuple(sorted(needs, key=lambda need: (kinds[need.kind], need.name)))


def plan(document: Document, existing: Mapping[str, Existing], options: Options | None = None) -> list[Change]:
    """Return what has to happen so that `existing` serves `document`; an empty list means that all is well."""
    options = options or Options()
    needs = needed(document)
    widths = {
        need.name: existing[need.name].partitions if need.name in existing else options.partitions
        for need in needs
        if need.kind == "events"
    }
    sizes = {name: _event_bytes(document, existing.get(name)) for name in widths}
    changes: list[Change] = []
    for need in needs:
        size: int | None
        if need.kind == "events":
            width, size = widths[need.name], sizes[need.name]
        else:
            width = options.output_partitions or max(widths[source] for source in need.sources)
            size = max(BROKER_MAX_MESSAGE, *(sizes[source] + HEADROOM for source in need.sources))
            size = size if need.kind in ("dlq", "unknown") else None
        there = existing.get(need.name)
        changes += (
            [_creation(need, width, size, options)] if there is None else _repairs(need, there, width, size, options)
        )
    return changes + _crowded(needs, existing, widths, options)


def _event_bytes(document: Document, there: Existing | None) -> int:
    """Return the largest record the event topic takes: what it does, or what it will be created with."""
    wanted = max(BROKER_MAX_MESSAGE, document.limits.max_event_bytes + HEADROOM)
    return (there.number("max.message.bytes") or BROKER_MAX_MESSAGE) if there else wanted


def _creation(need: Needed, width: int, size: int | None, options: Options) -> Change:
    config: dict[str, str] = {}
    if options.min_isr is not None:
        config["min.insync.replicas"] = str(options.min_isr)
    if options.retention_ms is not None:
        config["retention.ms"] = str(options.retention_ms)
    if size is not None:  # said even where it is Kafka's default: the cluster's own default may be another
        config["max.message.bytes"] = str(size)
    return Change("create", need.name, need.kind, "does not exist", width, config)


def _repairs(need: Needed, there: Existing, width: int, size: int | None, options: Options) -> list[Change]:
    settings: dict[str, str] = {}
    reasons: list[str] = []

    def setting(name: str, wanted: int | None, at_least: bool = False) -> None:
        has = there.number(name)
        if wanted is not None and has is not None and (has < wanted if at_least else has != wanted):
            settings[name] = str(wanted)
            reasons.append(f"{name} is {has}, not {wanted}{' or more' if at_least else ''}")

    setting("min.insync.replicas", options.min_isr)
    setting("retention.ms", options.retention_ms)
    if need.kind in ("dlq", "unknown"):
        setting("max.message.bytes", size, at_least=True)
    takes = there.number("max.message.bytes")
    if takes is not None and takes < RECORD_BYTES.get(need.kind, 0):  # else its tenants would have to wait
        setting("max.message.bytes", BROKER_MAX_MESSAGE, at_least=True)
    changes = [Change("set", need.name, need.kind, "; ".join(reasons), config=settings)] if settings else []
    return changes + [Change("warn", need.name, need.kind, why) for why in _warnings(need, there, width, options)]


def _warnings(need: Needed, there: Existing, width: int, options: Options) -> list[str]:
    warnings: list[str] = []
    if need.kind != "events" and there.partitions != width:
        warnings.append(
            f"has {there.partitions} partitions where its event topic has {width}: "
            "answers go to a partition by key, not to their event's own"
        )
    if options.replication is not None and there.replication < options.replication:
        warnings.append(
            f"has {there.replication} replicas, not {options.replication}: reassign with kafka-reassign-partitions"
        )
    min_isr = options.min_isr or there.number("min.insync.replicas") or 1
    if min_isr > there.replication:
        warnings.append(f"min.insync.replicas {min_isr} exceeds its {there.replication} replicas: no write can succeed")
    takes = there.number("max.message.bytes") or BROKER_MAX_MESSAGE
    if RECORD_BYTES.get(need.kind, takes) <= takes < BROKER_MAX_MESSAGE and need.kind in RECORD_BYTES:
        warnings.append(
            f"max.message.bytes {takes} is less than a record batch of {BROKER_MAX_MESSAGE}: workers "
            "find that out by a few aborts, and make smaller record batches for all tenants of the lane"
        )
    if need.kind == "scores" and "compact" in there.config.get("cleanup.policy", ""):
        warnings.append(
            "is compacted: older scores of a key vanish, `verify` cannot count them, and answers to events without a "
            "key are refused"
        )
    before = there.number("message.timestamp.before.max.ms")
    if need.kind != "events" and before is not None and before < TIMESTAMP_MS:
        warnings.append(f"message.timestamp.before.max.ms {before} refuses answers that are on their way for so long")
    return warnings


def _crowded(
    needs: Sequence[Needed], existing: Mapping[str, Existing], widths: Mapping[str, int], options: Options
) -> list[Change]:
    """Warn where a lane's scores are spread over so many partitions that a single worker's transactions get slow."""
    lanes: dict[str, list[Needed]] = {}
    for need in needs:
        if need.kind == "scores":
            lanes.setdefault(need.lane, []).append(need)
    changes: list[Change] = []
    for lane, outputs in lanes.items():
        total = sum(
            existing[need.name].partitions
            if need.name in existing
            else options.output_partitions or max(widths[source] for source in need.sources)
            for need in outputs
        )
        if total > CROWDED_PARTITIONS and len(outputs) > 1:
            why = (
                f"lane '{lane}' writes scores to {total} partitions in {len(outputs)} topics, and a transaction costs "
                f"per partition: share a topic (muse.scores.{{lane}}), use fewer partitions, or more lanes"
            )
            changes.append(Change("warn", outputs[0].name, "scores", why))
    return changes
