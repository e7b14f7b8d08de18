"""Follow a tenant's scores, audit records, dead letters or events, decoded: one dict a record, ready to print.

A record that cannot be decoded is shown as such, never dropped. On a topic that tenants share, a score or audit record
of another tenant is not shown.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from muse_stream.avro import SchemaDirectory, decode_records
from muse_stream.commands.configuration import Configuration
from muse_stream.config import KafkaSettings, TopicKind
from muse_stream.errors import Rejected
from muse_stream.kafka import Record, Start, client, follow
from muse_stream.runtime.batch_scorer import output_schemas

PROVENANCE = "muse."


def tail(
    configuration: Configuration,
    settings: KafkaSettings,
    tenant: str,
    kind: TopicKind = "scores",
    start: Start | int = "end",
    *,
    until_end: bool = False,
    told: Callable[[str], object] = lambda _text: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[list[dict[str, Any]]]:
    """Yield a tenant's records as they come, each a dict: the record's fields and, under `_kafka`, its place and key.

    Dead letters have `reason`, `stage`, `message` and `source`, and the `event` where it can be decoded; `unknown` are
    those of the tenant's lane whose tenant is unknown. `start` may be a number: of the tenant's records in each
    partition, from the end. `told` gets a sentence when records stay behind an open transaction.
    """
    document = configuration.loaded.document
    topics = document.tenant_topics(configuration.tenant(tenant))
    unknown = document.unknown_topic(document.tenants[tenant].lane)
    topic: str = unknown if kind == "unknown" else getattr(topics, kind)
    own = kind in ("scores", "audit")
    schemas = output_schemas() if own else SchemaDirectory.open(configuration.loaded.root / document.schemas)
    client.reach(settings)

    def wanted(records: Sequence[Record]) -> list[bool]:
        """On a topic that tenants share, only the tenant's own are counted and shown."""
        return [one.get("tenant", tenant) == tenant for one in _shown(records, schemas, kind)]

    def hidden(partition: int, first: int, end: int) -> None:
        told(
            f"{topic}[{partition}]: offsets {first} to {end} cannot be read yet, a transaction is still open; "
            "`muse-stream doctor CONFIG` says whether it hangs, and what ends it"
        )

    counted = wanted if own else None
    for records in follow(settings, topic, start, wanted=counted, until_end=until_end, hidden=hidden, stop=stop):
        shown = _shown(records, schemas, kind)
        kept = [one for one in shown if not own or one.get("tenant", tenant) == tenant]
        if kept:
            yield kept


def _shown(records: Sequence[Record], schemas: SchemaDirectory, kind: TopicKind) -> list[dict[str, Any]]:
    decoded = decode_records(schemas, [record.value for record in records])
    shape = _letter if kind in ("dlq", "unknown") else _plain
    return [shape(record, value) for record, value in zip(records, decoded, strict=True)]


def _plain(record: Record, value: dict[str, Any] | Rejected) -> dict[str, Any]:
    fields = {"undecodable": value.message} if isinstance(value, Rejected) else value
    return {**fields, "_kafka": _place(record)}


def _letter(record: Record, value: dict[str, Any] | Rejected) -> dict[str, Any]:
    named = {name: (content or b"").decode("utf-8", "replace") for name, content in record.headers}
    ours = {name.removeprefix(PROVENANCE): text for name, text in named.items() if name.startswith(PROVENANCE)}
    source = f"{ours.pop('source.topic', '?')}[{ours.pop('source.partition', '?')}]@{ours.pop('source.offset', '?')}"
    event = None if isinstance(value, Rejected) else value
    return {**ours, "source": source, "event": event, "bytes": len(record.value or b""), "_kafka": _place(record)}


def _place(record: Record) -> dict[str, Any]:
    key = None if record.key is None else record.key.decode("utf-8", "replace")
    return {"partition": record.partition, "offset": record.offset, "timestamp": record.timestamp, "key": key}
