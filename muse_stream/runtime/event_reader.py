"""A batch of raw records, of any mix of tenants, formats and writer schemas, becomes one table that can be scored.

What is not an event of a tenant of this lane is `Rejected`.

Invariant: every row of the batch is in the table once or rejected once. Formats are decoded in one call each, not
tenants; a topic's tenant is believed only as far as the event agrees with it.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from muse_stream.avro import (
    Decoded,
    Decoder,
    Fields,
    Schema,
    SchemaDirectory,
    TextColumn,
    column_type,
    concat,
    fixed_width,
    keep,
    missing,
)
from muse_stream.config import AttributeSource, Document, EventSpec
from muse_stream.errors import Reason, Rejected, SchemaPending, Stage
from muse_stream.runtime.event_time import EventTimes
from muse_stream.schema_registry import writers
from muse_stream.scoring import AS_TEXT, Categorical, EventTable
from muse_stream.worker import Batch, Header

Headers = list[list[Header]]
Codes = NDArray[np.int32]
_ATTRIBUTE = "intent:"
"""Before an intent attribute's name among the columns; no Avro field has a colon."""


class Events(EventTable, frozen=True, eq=False, kw_only=True):
    """The events of a batch that can be scored, and where each stands in the batch."""

    rows: NDArray[np.int64]
    """Row in the batch, ascending."""
    event_ids: TextColumn
    times: NDArray[np.int64]
    """Milliseconds since 1970."""
    topics: Categorical
    """Event topic of each."""
    rejected: list[Rejected]
    """Rows of the batch."""


class Format(Struct, frozen=True, eq=False):
    """One event format, ready to decode."""

    spec: EventSpec
    schema: Schema
    """What its events are read as."""
    decoder: Decoder
    features: tuple[str, ...]
    texts: tuple[str, ...]
    """Those of them that are decoded as texts, too."""
    times: EventTimes
    reads_headers: bool


class EventReader:
    """Reads the events of one lane under one generation."""

    def __init__(
        self,
        document: Document,
        lane: str,
        schemas: SchemaDirectory,
        needed: Mapping[str, tuple[str, ...]],
        texts: Collection[str] = (),
    ) -> None:
        """Raises SchemaError.

        `needed`: event format -> the feature fields to decode, which its schema must have; `texts`: those of all
        formats that are read as texts.
        """
        self.tenants = document.lanes().get(lane, ())
        self._codes = {name: code for code, name in enumerate(self.tenants)}
        self._limit = document.limits.max_event_bytes
        self._topic_of = [document.tenant_topics(name).events for name in self.tenants]
        self._topic_codes = {topic: code for code, topic in enumerate(dict.fromkeys(self._topic_of))}
        self._topics = tuple(self._topic_codes)
        sharing = Counter(self._topic_of)
        owner = {topic: -1 if sharing[topic] > 1 else code for code, topic in enumerate(self._topic_of)}
        self._owner_of_code = np.array([owner[topic] for topic in self._topic_codes], dtype=np.int32)
        self._homes = np.array([*(self._topic_codes[topic] for topic in self._topic_of), -1])
        """Tenant -> its topic; the last entry is nobody's."""
        self._format_of = {
            topic: document.tenants[name].event for name, topic in zip(self.tenants, self._topic_of, strict=True)
        }
        names = dict.fromkeys(self._format_of.values())
        read = {name: schemas.by_file(document.events[name].schema_file) for name in names}
        whole = [
            field
            for field in texts
            if _whole_with_nulls([schema for name, schema in read.items() if field in needed.get(name, ())], field)
        ]
        self._formats = {
            name: _format(name, document.events[name], writers(schemas, document, name), needed.get(name, ()), whole)
            for name in names
        }
        place = {name: code for code, name in enumerate(self._formats)}
        self._format_codes = np.array([place[self._format_of[topic]] for topic in self._topic_codes], dtype=np.int32)
        """Topic -> its event format."""
        self._attributes = sorted({name for kind in self._formats.values() for name in kind.spec.intent})

    @property
    def formats(self) -> Mapping[str, Format]:
        """The event formats of this lane, by name."""
        return self._formats

    def senders(self, name: str) -> list[tuple[str, str]]:
        """Return the tenants of this lane whose events have a format, each with its event topic."""
        named = zip(self.tenants, self._topic_of, strict=True)
        return [(tenant, topic) for tenant, topic in named if self._format_of[topic] == name]

    def read(self, batch: Batch, *, ids: bool) -> Events:
        """Decode and check a batch; `ids` asks for the event ids as fixed-width bytes too.

        Raises SchemaPending, with the topics, while a Schema Registry is asked what some events were written with.
        """
        values, rejected = self._within_limit(batch)
        topics = self._codes_of(batch.topics)
        parts, pending = [], list[SchemaPending]()
        for name, rows in self._groups(batch, topics):
            try:
                parts.append(self._part(batch, values, topics, self._formats[name], rows))
            except SchemaPending as error:
                pending.append(_of_topics(error, batch, rows))
        if pending:
            raise _joined(pending)
        decoded = concat(parts)
        too_large = {one.row for one in rejected}
        rejected += [one for one in decoded.rejected if one.row not in too_large]
        assert decoded.tenants is not None  # noqa: S101  # every part was given its tenants
        assert decoded.times is not None  # noqa: S101  # and its times
        nobody = Categorical((), np.full(len(decoded.rows), -1, dtype=np.int32))
        return Events(
            count=len(decoded.rows),
            tenant=decoded.tenants,
            intent={name: _texts(decoded, _ATTRIBUTE + name, nobody) for name in self._attributes},
            features=decoded.columns,
            ids=fixed_width(decoded.ids) if ids else None,
            rows=decoded.rows,
            event_ids=decoded.ids,
            times=decoded.times,
            topics=Categorical(self._topics, topics[decoded.rows]),
            rejected=rejected,
        )

    def _codes_of(self, topics: list[str]) -> Codes:
        codes = self._topic_codes
        if topics and topics.count(topics[0]) == len(topics):  # to compare costs a fifth of looking each up
            return np.full(len(topics), codes[topics[0]], dtype=np.int32)
        return np.fromiter(map(codes.__getitem__, topics), np.int32, len(topics))

    def _within_limit(self, batch: Batch) -> tuple[list[bytes | None], list[Rejected]]:
        if max(map(len, filter(None, batch.values)), default=0) <= self._limit:
            return batch.values, []
        large = [row for row, value in enumerate(batch.values) if value is not None and len(value) > self._limit]
        message = f"larger than limits.max_event_bytes, {self._limit:,} bytes"
        hidden = set(large)
        values = [None if row in hidden else value for row, value in enumerate(batch.values)]
        return values, [Rejected(row, Reason.OVERSIZE, Stage.DECODE, message) for row in large]

    def _groups(self, batch: Batch, topics: Codes) -> list[tuple[str, NDArray[np.int64]]]:
        """Return the rows of each event format that occurs; most lanes have one format."""
        if len(self._formats) == 1:
            return [(name, np.arange(len(batch))) for name in self._formats]
        formats = self._format_codes[topics]
        found = {name: np.flatnonzero(formats == code) for code, name in enumerate(self._formats)}
        return sorted((name, rows) for name, rows in found.items() if len(rows))

    def _part(
        self, batch: Batch, values: list[bytes | None], topics: Codes, kind: Format, rows: NDArray[np.int64]
    ) -> Decoded:
        whole = len(rows) == len(values)
        decoded = kind.decoder.decode(values if whole else [values[row] for row in rows.tolist()])
        if not whole:
            decoded = decoded.renumbered(rows)
        headers = batch.headers() if kind.reads_headers else []
        columns = {name: decoded.columns[name] for name in kind.features}
        columns |= {AS_TEXT + name: _texts(decoded, kind.decoder.name_of_text(name)) for name in kind.texts}
        for name, source in kind.spec.intent.items():
            columns[_ATTRIBUTE + name] = _attribute(source, kind.decoder, decoded, headers)
        tenants, faults = self._tenants(topics[decoded.rows], decoded, kind, headers)
        times, out_of_range = kind.times.of(decoded, batch)
        faults = out_of_range | faults
        decoded = replace(decoded, columns=columns, times=times, tenants=Categorical(self.tenants, tenants))
        faults |= {
            row: Rejected(row, Reason.MISSING_ID, Stage.VALIDATE, f"no event id in {kind.spec.id}")
            for row in decoded.rows[missing(decoded.ids)].tolist()
        }
        if faults:
            good = ~np.isin(decoded.rows, list(faults))
            decoded = keep(replace(decoded, rejected=(*decoded.rejected, *faults.values())), good)
        return decoded

    def _tenants(
        self, topics: Codes, decoded: Decoded, kind: Format, headers: Headers
    ) -> tuple[Codes, dict[int, Rejected]]:
        """Return each row's tenant, and the rows whose topic and event do not agree on one."""
        source, owners = kind.spec.tenant, self._owner_of_code[topics]
        if source is None:
            return owners, {}
        stated = decoded.tenants if source.field is not None else _attribute(source, kind.decoder, decoded, headers)
        assert stated is not None  # noqa: S101  # the decoder was asked for the tenant field
        known = np.array([*(self._codes.get(value or "", -1) for value in stated.values), -1], dtype=np.int32)
        said = known[stated.codes]
        shared = owners < 0
        elsewhere = shared & (self._homes[said] != topics)
        wrong = ~shared & (said != owners)
        faults = {
            row: Rejected(row, Reason.UNKNOWN_TENANT, Stage.VALIDATE, "the event names no tenant of its topic")
            for row in decoded.rows[elsewhere].tolist()
        }
        faults |= {
            row: Rejected(row, Reason.WRONG_TENANT, Stage.VALIDATE, "the event names another tenant than its topic's")
            for row in decoded.rows[wrong].tolist()
        }
        return np.where(shared, said, owners), faults


def _of_topics(error: SchemaPending, batch: Batch, rows: NDArray[np.int64]) -> SchemaPending:
    """Return the same for a batch of which `rows` were decoded."""
    topics = {batch.topics[row] for row in rows[list(error.rows)].tolist()}
    return SchemaPending(str(error), error.ready, topics=dict.fromkeys(sorted(topics), str(error)))


def _joined(pending: Sequence[SchemaPending]) -> SchemaPending:
    topics = {topic: why for one in pending for topic, why in one.topics.items()}
    return SchemaPending(str(pending[0]), lambda: all(one.ready() for one in pending), topics=topics)


def _attribute(source: AttributeSource, decoder: Decoder, decoded: Decoded, headers: Headers) -> Categorical:
    rows = len(decoded.rows)
    if source.value is not None:
        return Categorical.constant(source.value, rows)
    if source.field is not None:
        return _texts(decoded, decoder.name_of_text(source.field))
    wanted = source.header
    return Categorical.from_strings(_header(headers[row], wanted) for row in decoded.rows.tolist())


def _header(headers: list[Header], wanted: str | None) -> str | None:
    # the last one wins: a proxy that adds a header of its own appends it
    for name, value in reversed(headers):
        if name == wanted and value is not None:
            return value if isinstance(value, str) else value.decode("utf-8", "replace")
    return None


def _texts(decoded: Decoded, name: str, otherwise: Categorical | None = None) -> Categorical:
    column = decoded.columns.get(name, otherwise)
    assert isinstance(column, Categorical)  # noqa: S101  # the decoder was asked for text
    return column


def _whole_with_nulls(schemas: Sequence[Schema], field: str) -> bool:
    """Tell whether a field is of whole numbers or booleans in all of some schemas, and null may stand among them."""
    found = [column_type(schema.type, field)[:2] for schema in schemas]
    return all(kind in ("integer", "boolean") for kind, _ in found) and any(nullable for _, nullable in found)


def _format(
    name: str, spec: EventSpec, schemas: SchemaDirectory, features: tuple[str, ...], whole: Collection[str]
) -> Format:
    intent = tuple(source.field for source in spec.intent.values() if source.field is not None)
    tenant = spec.tenant.field if spec.tenant else None
    texts = tuple(field for field in features if field in whole)
    fields = Fields(spec.id, spec.time, tenant, features, tuple(dict.fromkeys((*intent, *texts))), spec.time_unit)
    sources = [*spec.intent.values(), *([spec.tenant] if spec.tenant else [])]
    schema = schemas.by_file(spec.schema_file)
    decoder = Decoder(schemas, schema, fields)
    reads_headers = any(source.header is not None for source in sources)
    return Format(spec, schema, decoder, features, texts, EventTimes(name, spec), reads_headers)
