"""A file (Parquet, Avro or JSON lines) becomes framed, keyed Avro events on the tenant's topic.

The file is checked against the event schema chunk by chunk before it is sent. Its order is the order per key.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from muse_stream.avro import Frame, SchemaDirectory
from muse_stream.commands.configuration import Configuration
from muse_stream.config import EventSpec, KafkaSettings
from muse_stream.errors import StreamError
from muse_stream.files import EventFile
from muse_stream.kafka import Chunk, Ingest, Sent, client, survey

CHUNK = 5_000


@dataclass(frozen=True, slots=True)
class Sending:
    """How to send a file."""

    rate: float | None = None
    """Events a second; None is flat out."""
    key: str | None = None
    """Dotted field to key by; None takes the event's id."""
    limit: int | None = None
    frame: Frame = "single-object"
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field of the schema -> column of the file, where the names differ."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Kafka headers that every event gets."""


def event_file(configuration: Configuration, tenant: str, path: Path, sending: Sending) -> EventFile:
    """Return the file, to be read as events of the tenant; raises MuseError when it cannot be."""
    schema = _spec(configuration, tenant).schema_file
    schemas = SchemaDirectory.open(configuration.loaded.root / configuration.loaded.document.schemas)
    return EventFile(path, schemas.by_file(schema), sending.frame, columns=sending.columns)


def produce(
    configuration: Configuration,
    settings: KafkaSettings,
    tenant: str,
    path: Path,
    sending: Sending | None = None,
    progress: Callable[[int], object] = lambda _sent: None,
) -> Sent:
    """Send a file's events to a tenant's topic; `progress` gets the number sent so far.

    Raises MuseError for the file, `StreamError` for Kafka; Ctrl-C flushes what was sent and goes on to the caller.
    """
    sending = sending or Sending()
    file = event_file(configuration, tenant, path, sending)
    topic = configuration.loaded.document.tenant_topics(tenant).events
    if topic not in survey(client.reach(settings), [topic]):
        raise StreamError(f"there is no topic {topic}; `muse-stream topics` makes what a configuration needs")
    key = sending.key or _spec(configuration, tenant).id
    ingest = Ingest(settings, topic, rate=sending.rate, headers=sending.headers, progress=progress)
    return ingest.run(_chunks(file, key, sending.limit))


def _spec(configuration: Configuration, tenant: str) -> EventSpec:
    document = configuration.loaded.document
    return document.events[document.tenants[configuration.tenant(tenant)].event]


def _chunks(file: EventFile, key: str, limit: int | None) -> Iterator[Chunk]:
    left = limit
    for chunk in file.chunks(key, chunk=CHUNK):
        count = len(chunk.values) if left is None else min(left, len(chunk.values))
        yield Chunk(chunk.values[:count], list(islice(chunk.keys(), count)))
        if left is not None:
            left -= count
            if left <= 0:
                return
