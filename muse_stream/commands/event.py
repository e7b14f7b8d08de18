"""Try events out: what would workers answer?

A configuration and a file of events (as `produce` takes it, or one Kafka value as it is) give for each event what would
be published, or why it would be refused, without Kafka. The way is the workers' own: the same decoder, routes,
predictors and encoder.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from muse_stream.avro import Decoder, Fields, Schema, SchemaDirectory, decode_records
from muse_stream.commands.configuration import Configuration
from muse_stream.commands.produce import Sending
from muse_stream.config import Document, EventSpec
from muse_stream.errors import ConfigError, MuseError, Problem, Rejected
from muse_stream.files import EVENT_FILES, EventFile, InvalidRow, plain
from muse_stream.models import ModelCache
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.runtime.batch_scorer import GenerationScorer, scorer_of
from muse_stream.runtime.compile import Compiled, compile_generation
from muse_stream.runtime.event_reader import EventReader
from muse_stream.schema_registry import writers
from muse_stream.scoring import Categorical
from muse_stream.worker import Batch, Header

MOST = 20
"""Events that are tried unless more are asked for."""
VALUES = ("", ".bin", ".raw")
"""Names of files that hold one Kafka value as it is, frame and Avro."""
INTENT = "intent:"
Outcome = Literal["score", "dead-letter", "not-an-event", "no-tenant"]


@dataclass(frozen=True, slots=True)
class Tried:
    """What would become of one event."""

    place: str
    """Where it is: `events.jsonl:3`."""
    outcome: Outcome
    """not-an-event: `produce` would not send it; no-tenant: nobody knows on which topic it belongs."""
    reason: str | None = None
    """Of a dead letter, as in its header `muse.reason`."""
    stage: str | None = None
    message: str | None = None
    """Why it would be refused."""
    tenant: str | None = None
    sent_to: str | None = None
    """Event topic."""
    bytes: int | None = None
    """Of the value as it is on the topic."""
    event: Any = None
    """Its fields, as readers of its schema see them; of a row that is none, what the file has."""
    time: int | None = None
    """Milliseconds since 1970, as it is scored."""
    intent: Mapping[str, str | None] = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)
    """What models are given, by dotted field; None is missing."""
    route: int | None = None
    """Position in `routes`, from 0."""
    published_to: str | None = None
    record: Mapping[str, Any] | None = None
    """Score record."""
    shadow: Sequence[Mapping[str, Any]] = ()
    """Audit records of shadow predictors."""

    @property
    def ok(self) -> bool:
        """Whether it would be scored."""
        return self.outcome == "score"


@dataclass(frozen=True, slots=True)
class _Value:
    """One event as bytes."""

    place: str
    data: bytes


def try_events(
    configuration: Configuration, path: Path, sending: Sending | None = None, tenant: str | None = None
) -> list[Tried]:
    """Return what would become of the first events of a file (`sending.limit`, or `MOST`).

    Without `tenant` it is taken from the event, as the configuration says. Raises MuseError for the file, ConfigError
    for the configuration, or where the tenant must be given.
    """
    sending = sending or Sending()
    document = configuration.loaded.document
    format_name = _format(configuration, tenant)
    spec = document.events[format_name]
    schemas = SchemaDirectory.open(configuration.loaded.root / document.schemas)
    schema = schemas.by_file(spec.schema_file)
    values, refused = _read(path, schema, sending)
    senders = [name for name, one in document.tenants.items() if one.event == format_name]
    known_to = writers(schemas, document, format_name)
    tenants = [tenant] * len(values) if tenant else _stated(values, known_to, schema, spec, senders, sending.headers)
    known = [one if one in senders else None for one in tenants]
    tried: dict[str, Tried] = {}
    for lane, names in document.lanes().items():
        mine = [(value, one) for value, one in zip(values, known, strict=True) if one in names]
        if mine:
            answers = _Trial(configuration, lane, schemas, known_to).run(
                [v for v, _ in mine], [t or "" for _, t in mine], sending
            )
            tried |= {one.place: one for one in answers}
    for value, stated in zip(values, tenants, strict=True):
        if value.place not in tried:
            tried[value.place] = _homeless(value, known_to, stated, senders)
    in_order = [*refused, *(tried[value.place] for value in values)]
    return sorted(in_order, key=lambda one: _number(one.place))


def _number(place: str) -> int:
    digits = place.rpartition(" ")[2].rpartition(":")[2]
    return int(digits) if digits.isdigit() else 0


def _format(configuration: Configuration, tenant: str | None) -> str:
    document = configuration.loaded.document
    if tenant is not None:
        return document.tenants[configuration.tenant(tenant)].event
    formats = list(dict.fromkeys(one.event for one in document.tenants.values()))
    if len(formats) == 1:
        return formats[0]
    message = f"tenants have events of {len(formats)} formats: {', '.join(formats)}"
    raise ConfigError([Problem("tenants", message, "say whose event it is: --tenant", file=str(configuration.path))])


def _read(path: Path, schema: Schema, sending: Sending) -> tuple[list[_Value], list[Tried]]:
    """Return the events of a file as values, and the rows that are none."""
    if path.suffix.lower() in VALUES:
        if not path.is_file():
            raise MuseError(f"{path}: no such file")
        return [_Value(str(path), path.read_bytes())], []
    if path.suffix.lower() not in EVENT_FILES:
        known = ", ".join((*EVENT_FILES, *VALUES[1:]))
        raise MuseError(f"{path}: unknown kind of file {path.suffix}; expected one of {known}")
    invalid: list[InvalidRow] = []
    file = EventFile(path, schema, sending.frame, columns=sending.columns, encoding=sending.encoding)
    limit = sending.limit or MOST
    values: list[_Value] = []
    for events in file.events(1, first=sending.first, limit=limit, invalid=invalid.append):
        values += [_Value(file.place(row), value) for row, value in zip(events.rows, events.values, strict=True)]
        if len(values) + len(invalid) >= limit:
            break
    rows = [Tried(row.place, "not-an-event", message=row.reason, event=_content(row)) for row in invalid[:limit]]
    return values[: limit - len(rows)], rows


def _content(row: InvalidRow) -> Any:
    return row.content.strip() if isinstance(row.content, str) else plain(row.content)


def _stated(
    values: Sequence[_Value],
    schemas: SchemaDirectory,
    schema: Schema,
    spec: EventSpec,
    senders: Sequence[str],
    headers: Mapping[str, str],
) -> list[str | None]:
    """Return the tenant that each event names, or the only one there is; where it cannot be decoded, any of them."""
    if len(senders) == 1:
        return [senders[0]] * len(values)
    source = spec.tenant
    if source is None:
        hint = f"say whose event it is: --tenant, one of {', '.join(senders)}"
        raise ConfigError([Problem("events", "events of this format do not name their tenant", hint)])
    if source.field is None:
        return [headers.get(source.header or "")] * len(values)
    decoded = Decoder(schemas, schema, Fields(spec.id, tenant=source.field)).decode([value.data for value in values])
    found: list[str | None] = [senders[0]] * len(values)
    for row, tenant in zip(
        decoded.rows.tolist(), (decoded.tenants or Categorical.constant("", 0)).to_list(), strict=True
    ):
        found[row] = tenant
    return found


def _homeless(value: _Value, schemas: SchemaDirectory, stated: str | None, senders: Sequence[str]) -> Tried:
    said = "names no tenant" if stated is None else f"names the tenant '{stated}', which has no events of this format"
    message = f"the event {said}; there is: {', '.join(senders)}. --tenant says whose topic it is sent to"
    return Tried(value.place, "no-tenant", message=message, bytes=len(value.data), event=_fields(schemas, value))


def _fields(schemas: SchemaDirectory, value: _Value) -> Any:
    (record,) = decode_records(schemas, [value.data])
    return None if isinstance(record, Rejected) else record


class _Trial:
    """The workers of a lane, live and shadow, without Kafka."""

    def __init__(
        self, configuration: Configuration, lane: str, schemas: SchemaDirectory, known_to: SchemaDirectory
    ) -> None:
        """`known_to` has the schemas of events, be they the folder's or a registry's."""
        self._document, self._schemas = configuration.loaded.document, known_to
        cache = ModelCache()
        live, whole = (
            compile_generation(configuration.loaded, configuration.number, role, cache, schemas)
            for role in ("live", "shadow")
        )
        self._live = scorer_of(live, "live", lane)
        shadowed = any(route.shadow for route in self._document.routes)
        self._shadow: GenerationScorer | None = scorer_of(whole, "shadow", lane) if shadowed else None
        self._reader = _reader(whole, lane)

    def run(self, values: Sequence[_Value], tenants: Sequence[str], sending: Sending) -> list[Tried]:
        """Return what becomes of these events, each on its tenant's topic."""
        topics = [self._document.tenant_topics(tenant).events for tenant in tenants]
        batch = _batch([value.data for value in values], topics, sending.headers)
        tried = [
            Tried(value.place, "score", tenant=tenant, sent_to=topic, bytes=len(value.data))
            for value, tenant, topic in zip(values, tenants, topics, strict=True)
        ]
        for row, value in enumerate(values):
            tried[row] = replace(tried[row], event=_fields(self._schemas, value))
        self._note_events(batch, tried)
        self._note_answers(batch, tried)
        return tried

    def _note_events(self, batch: Batch, tried: list[Tried]) -> None:
        events = self._reader.read(batch, ids=False)
        for place, row in enumerate(events.rows.tolist()):
            tenant = events.tenant.to_list()[place]
            intent = {name: column.to_list()[place] for name, column in sorted(events.intent.items())}
            features = {
                name: _feature(column, place) for name, column in events.features.items() if not name.startswith(INTENT)
            }
            tried[row] = replace(
                tried[row],
                tenant=tenant,
                time=int(events.times[place]),
                intent=intent,
                features=features,
                route=_route(self._document, {**intent, "tenant": tenant}),
            )

    def _note_answers(self, batch: Batch, tried: list[Tried]) -> None:
        answers = self._live.score(batch, 0)
        for row, topic, record in zip(answers.rows, answers.topics, _records(answers.values), strict=True):
            tried[row] = replace(tried[row], published_to=topic, record=record)
        for letter in answers.dead:
            one, row = letter.rejected, letter.rejected.row
            tried[row] = replace(
                tried[row],
                outcome="dead-letter",
                reason=str(one.reason),
                stage=str(one.stage),
                message=one.message,
                published_to=letter.topic,
            )
        if self._shadow is None:
            return
        audits = self._shadow.score(batch, 0)
        for row, record in zip(audits.rows, _records(audits.values), strict=True):
            tried[row] = replace(tried[row], shadow=(*tried[row].shadow, record))


def _reader(compiled: Compiled, lane: str) -> EventReader:
    needed = {name: compiled.snapshot.needs(name).fields for name in compiled.document.events}
    return EventReader(compiled.document, lane, compiled.schemas, needed, compiled.snapshot.texts)


def _route(document: Document, intent: Mapping[str, str | None]) -> int | None:
    """Return the first rule whose conditions all hold."""
    for position, route in enumerate(document.routes):
        if all(intent.get(name) in values for name, values in route.when.items()):
            return position
    return None


def _feature(column: Any, place: int) -> Any:
    value = column.to_list()[place] if isinstance(column, Categorical) else column[place].item()
    return None if value != value else value  # noqa: PLR0124 - NaN is a feature that is missing


def _records(values: Sequence[bytes]) -> list[dict[str, Any]]:
    decoded = decode_records(output_schemas(), values)
    refused = next((one for one in decoded if isinstance(one, Rejected)), None)
    if refused is not None:
        raise MuseError(f"an answer cannot be read back: {refused.message}")
    return [one for one in decoded if not isinstance(one, Rejected)]


def _batch(values: list[bytes], topics: list[str], headers: Mapping[str, str]) -> Batch:
    count, now = len(values), time.time_ns() // 1_000_000
    shared: list[Header] = [(name, value.encode()) for name, value in headers.items()]
    return Batch(
        topics,
        [0] * count,
        list(range(count)),
        [None] * count,
        list(values),
        lambda: [now] * count,
        lambda: [shared] * count,
    )
