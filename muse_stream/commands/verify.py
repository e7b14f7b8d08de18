"""Verify tenants (all by default): joins the independent auditor with the Avro decoders.

Returns one report per event topic. Nothing of the workers is used but their output: the auditor decodes ids and tenants
by itself, and compares.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from muse_stream.avro import Decoded, Decoder, Fields, SchemaDirectory, audit_decoder, fixed_width, score_decoder
from muse_stream.commands.configuration import Configuration
from muse_stream.config import Document, KafkaSettings
from muse_stream.errors import ConfigError, Problem, Retriable
from muse_stream.kafka import AdminClient, Block, client, topic_ids, topic_settings
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.schema_registry import writers
from muse_stream.scoring import Categorical
from muse_stream.verify import (
    SETTLE_S,
    AuditDecoder,
    AuditKeys,
    Decoders,
    EventDecoder,
    EventKeys,
    Known,
    Progress,
    Report,
    ScoreDecoder,
    ScoreKeys,
    Span,
    Target,
    Verification,
    targets,
)
from muse_stream.worker import SlotName

UpTo = Literal["end", "committed"]


@dataclass(frozen=True, slots=True)
class Scope:
    """How far `verify` looks, and how long it waits for open transactions."""

    upto: UpTo = "end"
    settle_s: float = SETTLE_S
    audit: bool = True
    """Compare audit records with the scores as well."""
    span: Span = field(default_factory=Span)
    """From where on events and answers are judged."""


def verify(
    configuration: Configuration,
    settings: KafkaSettings,
    tenants: Sequence[str] | None = None,
    scope: Scope | None = None,
    progress: Progress = lambda _topic, _done, _total: None,
) -> list[Report]:
    """Read the tenants' topics from their first offset and judge them; see `verify.compare` for what is looked for.

    `upto="committed"` judges only events whose offsets the live group has committed, while workers run; `"end"` every
    event there is; `span` where to begin. Raises `StreamError` when Kafka does not answer.
    """
    scope = scope or Scope()
    document = configuration.loaded.document
    chosen = targets(document, [configuration.tenant(name) for name in tenants] if tenants else None)
    _check_span(scope.span, chosen)
    admin = client.reach(settings)
    topics = [target.topic for target in chosen]
    known = _known(admin, chosen)
    decoders = _decoders(configuration, chosen, audit=scope.audit)
    lanes: dict[str, list[Target]] = {}
    for target in chosen:
        lanes.setdefault(document.tenants[target.tenants[0]].lane, []).append(target)
    reports: list[Report] = []
    for lane, members in lanes.items():
        group = SlotName("live", lane, "", 0).group if scope.upto == "committed" else None
        run = Verification(
            settings,
            decoders,
            group=group,
            known=known,
            span=scope.span,
            settle_s=scope.settle_s,
            progress=progress,
        )
        reports += run.run(members)
    now = topic_ids(admin, topics)
    for topic, one in known.ids.items():
        if now.get(topic, one) != one:
            raise Retriable(f"{topic} was deleted and created again while it was read; verify it once more")
    return reports


def _check_span(span: Span, chosen: Sequence[Target]) -> None:
    """Refuse offsets of partitions where they could mean those of several topics."""
    if span.from_offset is not None and not isinstance(span.from_offset, int) and len(chosen) > 1:
        names = ", ".join(target.topic for target in chosen)
        message = "offsets by partition are those of one topic, and several are verified"
        raise ConfigError([Problem("--from-offset", message, f"name a tenant of one of: {names}")])


def _known(admin: AdminClient, chosen: Sequence[Target]) -> Known:
    """Look at the topics' settings and ids, as far as they are told."""
    names = [name for target in chosen for name in (target.topic, *target.scores, *target.dead)]
    denied: set[str] = set()
    told = topic_settings(admin, names, denied=denied)
    return Known(
        denied=frozenset(denied),
        compacted=frozenset(name for name, one in told.items() if "compact" in one.get("cleanup.policy", "")),
        retention_ms={name: int(one["retention.ms"]) for name, one in told.items() if "retention.ms" in one},
        ids=topic_ids(admin, [target.topic for target in chosen]),
    )


def _decoders(configuration: Configuration, chosen: Sequence[Target], *, audit: bool) -> Decoders:
    document = configuration.loaded.document
    schemas = SchemaDirectory.open(configuration.loaded.root / document.schemas)
    events = {
        target.topic: _event_decoder(schemas, document, document.tenants[target.tenants[0]].event, target)
        for target in chosen
    }
    return Decoders(events, _score_decoder(), _audit_decoder() if audit else None)


def _event_decoder(folder: SchemaDirectory, document: Document, event: str, target: Target) -> EventDecoder:
    spec, schemas = document.events[event], writers(folder, document, event)
    field = spec.tenant.field if spec.tenant is not None else None
    header = spec.tenant.header if spec.tenant is not None else None
    shared = len(target.tenants) > 1
    decoder = Decoder(schemas, schemas.by_file(spec.schema_file), Fields(spec.id, tenant=field if shared else None))

    def decode(block: Block) -> EventKeys:
        decoded = decoder.decode(block.values())
        tenants = decoded.tenants
        if shared and header is not None:
            headers = block.headers()
            tenants = Categorical.from_strings(_last(headers[row], header) for row in decoded.rows.tolist())
        return EventKeys(decoded.rows, fixed_width(decoded.ids), tenants)

    return decode


def _last(headers: Sequence[tuple[str, bytes | None]], wanted: str) -> str | None:
    return next(
        (value.decode("utf-8", "replace") for name, value in reversed(headers) if name == wanted and value), None
    )


def _score_decoder() -> ScoreDecoder:
    decoder = score_decoder(output_schemas())

    def decode(block: Block) -> ScoreKeys:
        decoded = decoder.decode(block.values())
        topics = decoded.columns["source_topic"]
        partitions, offsets = decoded.columns["source_partition"], decoded.columns["source_offset"]
        if decoded.tenants is None or not isinstance(topics, Categorical):
            raise TypeError("score.avsc no longer says tenant and source topic as strings")
        if isinstance(partitions, Categorical) or isinstance(offsets, Categorical):
            raise TypeError("score.avsc no longer says source partition and offset as numbers")
        live = _live_scores(decoded, "generation", "score")
        return ScoreKeys(decoded.rows, fixed_width(decoded.ids), decoded.tenants, topics, partitions, offsets, live)

    return decode


def _audit_decoder() -> AuditDecoder:
    decoder = audit_decoder(output_schemas())

    def decode(block: Block) -> AuditKeys:
        return _live_scores(decoder.decode(block.values()), "live_generation", "live_score")

    return decode


def _live_scores(decoded: Decoded, generation: str, score: str) -> AuditKeys:
    topics = decoded.columns["source_topic"]
    if not isinstance(topics, Categorical):
        raise TypeError("a record no longer says its source topic as a string")
    numbers = [decoded.columns[name] for name in ("source_partition", "source_offset", "generation", generation, score)]
    partitions, offsets, plain, stated, scores = (np.asarray(column) for column in numbers)
    # audit records of the first version did not state it: it was that of the record
    generations = np.where(np.isnan(stated), plain, stated) if stated.dtype.kind == "f" else stated
    return AuditKeys(topics, partitions, offsets, generations.astype(np.int64), scores, decoded.rows)
