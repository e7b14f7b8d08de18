"""A file (Parquet, Avro or JSON lines) becomes framed, keyed Avro events on the tenant's topic.

The whole file is checked against the event schema before anything is sent, unless rows that are no events are to be
left out. Its order is the order per key. What ends the sending early says exactly which rows have been sent.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from muse_stream.avro import Frame, Schema, SchemaDirectory
from muse_stream.commands import schemas as registered
from muse_stream.commands.configuration import Configuration
from muse_stream.config import EventSpec, KafkaSettings
from muse_stream.errors import MuseError, SchemaError, StreamError
from muse_stream.files import Encoding, EventFile, FileChunk, InvalidRow
from muse_stream.kafka import Chunk, Ingest, Sent, client, exists
from muse_stream.schema_registry import subjects

CHUNK = 5_000
SHOWN = 10
"""Rows that are no events, described one by one."""


@dataclass(frozen=True, slots=True)
class Sending:
    """How to send a file."""

    rate: float | None = None
    """Events a second; None is flat out."""
    key: str | None = None
    """Dotted field to key by; None takes the event's id."""
    limit: int | None = None
    """Of events; rows that are left out do not count, and none after the last is looked at."""
    frame: Frame = "single-object"
    """A Confluent frame has the id of `ids.json`, or of the Schema Registry where the format says so."""
    register: bool = False
    """Whether the Schema Registry is given the schema where it does not have it, as Confluent's serializers do."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field of the schema -> column of the file, where the names differ."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Kafka headers that every event gets."""
    first: int = 1
    """Row to begin with; of JSON lines the line."""
    encoding: Encoding | None = None
    """How JSON lines write Avro values; None: the file tells."""
    skip_invalid: Path | None = None
    """Where rows that are no events are written, while the others are sent; None refuses the file."""


@dataclass(frozen=True, slots=True)
class Produced:
    """What became of a file."""

    sent: Sent
    skipped: int
    """Rows that were left out."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Who is told how far it is."""

    checked: Callable[[int], object] = lambda _events: None
    """Events of the file that have been found right so far."""
    sent: Callable[[int], object] = lambda _events: None
    """Events sent so far."""
    interrupted: Callable[[str], object] = lambda _report: None
    """Gets a sentence about what was sent before Ctrl-C."""


def event_file(
    configuration: Configuration, tenant: str, path: Path, sending: Sending, most_bytes: int | None = None
) -> EventFile:
    """Return the file, to be read as events of the tenant, none larger; raises MuseError when it cannot be.

    Where a Schema Registry gives the ids of frames, it is asked for that of the schema.
    """
    spec = _spec(configuration, tenant)
    schemas = SchemaDirectory.open(configuration.loaded.root / configuration.loaded.document.schemas)
    schema = schemas.by_file(spec.schema_file)
    if sending.frame == "confluent" and spec.schema_ids == "registry":
        schema = _with_id(configuration, tenant, schema, register=sending.register)
    elif sending.register:
        unused = "--register needs --frame confluent, and events whose schema_ids are the registry's"
        raise MuseError(f"events of {tenant}: nothing is to be registered: {unused}")
    return EventFile(
        path,
        schema,
        sending.frame,
        columns=sending.columns,
        encoding=sending.encoding,
        most_bytes=most_bytes,
    )


def produce(
    configuration: Configuration,
    settings: KafkaSettings,
    tenant: str,
    path: Path,
    sending: Sending | None = None,
    progress: Progress | None = None,
) -> Produced:
    """Send a file's events to a tenant's topic.

    Raises MuseError for the file, before anything is sent, and `StreamError` for Kafka, with what was sent. Ctrl-C
    flushes what was sent and goes on to the caller.
    """
    sending, progress = sending or Sending(), progress or Progress()
    document = configuration.loaded.document
    file = event_file(configuration, tenant, path, sending, document.limits.max_event_bytes)
    topic = document.tenant_topics(tenant).events
    if not exists(client.reach(settings), topic, "WRITE"):
        raise StreamError(f"there is no topic {topic}; `muse-stream topics` makes what a configuration needs")
    key = sending.key or _spec(configuration, tenant).id
    checker = _Checker(file, sending)
    if sending.skip_invalid is None:
        checker.check(progress.checked)
    sender = _Sender(Ingest(settings, topic, rate=sending.rate, headers=sending.headers, progress=progress.sent), topic)
    with _Skipped(sending.skip_invalid, path) as skipped:
        try:
            return Produced(sender.run(checker.chunks(key, skipped.add)), skipped.count)
        except KeyboardInterrupt:
            progress.interrupted(sender.report())
            raise
        except StreamError as error:
            raise type(error)(f"{error}; {sender.report()}", topic=error.topic, code=error.code) from None
        except MuseError as error:  # the file has changed since it was checked, or cannot be read on
            raise type(error)(f"{error}; {sender.report()}") from None


def _with_id(configuration: Configuration, tenant: str, schema: Schema, *, register: bool) -> Schema:
    """Return the schema with its id under the subject of the tenant's topic. Raises MuseError where it has none."""
    topic = configuration.loaded.document.tenant_topics(tenant).events
    (subject,) = subjects(_spec(configuration, tenant).subjects, [topic], schema.name)
    with registered.client() as registry:
        number = registry.id_of(subject, schema)
        if number is None and register:
            number = registry.register(subject, schema.text)
        if number is None:
            hint = "--register registers it; or send without --frame confluent"
            raise MuseError(f"{schema} is not registered as {subject} in {registry.url}: {hint}")
    return replace(schema, id=number)


def _spec(configuration: Configuration, tenant: str) -> EventSpec:
    document = configuration.loaded.document
    return document.events[document.tenants[configuration.tenant(tenant)].event]


class _Checker:
    """The events of a file that are to be sent, and what is none."""

    def __init__(self, file: EventFile, sending: Sending) -> None:
        self._file, self._sending = file, sending

    def check(self, checked: Callable[[int], object]) -> None:
        """Read everything that is to be sent; raises SchemaError that lists the first rows that are no events."""
        found: list[InvalidRow] = []
        count = good = 0

        def note(row: InvalidRow) -> None:
            nonlocal count
            count += 1
            if len(found) < SHOWN:
                found.append(row)

        for events in self._file.events(CHUNK, first=self._sending.first, limit=self._sending.limit, invalid=note):
            good += len(events.values)
            checked(good)
        if count:
            rows = "row is no event" if count == 1 else "rows are no events"
            more = f"\n... and {count - len(found):,} more" if count > len(found) else ""
            raise SchemaError(
                "\n".join(map(str, found))
                + more
                + f"\n{count:,} {rows} of {self._file.schema}; nothing was sent. --skip-invalid FILE sends the others"
            )

    def chunks(self, key: str, invalid: Callable[[InvalidRow], object]) -> Iterator[FileChunk]:
        """Return what is to be sent; rows that are no events go to `invalid`."""
        sending = self._sending
        return self._file.chunks(key, chunk=CHUNK, first=sending.first, limit=sending.limit, invalid=invalid)


class _Sender:
    """Sends chunks, and knows the row of each event."""

    def __init__(self, ingest: Ingest, topic: str) -> None:
        self._ingest, self._topic = ingest, topic
        self._rows = array("q")

    def run(self, chunks: Iterator[FileChunk]) -> Sent:
        return self._ingest.run(self._noted(chunks))

    def _noted(self, chunks: Iterator[FileChunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            self._rows.extend(chunk.rows)
            yield Chunk(chunk.values, chunk.keys())

    def report(self) -> str:
        """Say which rows are on the topic, and how to send the rest."""
        missing, sent = self._ingest.missing, self._ingest.sent
        arrived = sent - len(missing)
        if not arrived:
            return "nothing was sent"
        before = missing[0] if missing else sent
        rest = self._rows[before] if before < len(self._rows) else self._rows[before - 1] + 1
        upto = [f"all up to row {self._rows[before - 1]}"] if before else []
        later = [f"{arrived - before:,} of row {rest} and later"] if arrived > before else []
        again = f", and the {arrived - before:,} once more" if later else ""
        which = " and ".join(upto + later)
        return f"{arrived:,} events are on {self._topic}: {which}; --from-row {rest} sends the rest{again}"


class _Skipped:
    """Writes rows that are no events to a file, one JSON object a line; without a file it raises for the first."""

    def __init__(self, path: Path | None, events: Path) -> None:
        if path is not None and path.exists() and path.samefile(events):
            raise MuseError(f"{path}: these are the events; give --skip-invalid another file")
        self._path = path
        self.count = 0

    def __enter__(self) -> Self:
        try:
            self._file = None if self._path is None else self._path.open("w", encoding="utf-8")
        except OSError as error:
            raise MuseError(f"{self._path}: cannot be written: {error.strerror}") from None
        return self

    def add(self, row: InvalidRow) -> None:
        if self._file is None:
            raise SchemaError(str(row))
        self._file.write(row.to_json() + "\n")
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
