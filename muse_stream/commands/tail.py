"""Follow a tenant's scores, audit records, dead letters or events, decoded: one dict a record, ready to print.

A record that cannot be decoded is shown as such, never dropped. On a topic that tenants share, a score, audit record or
dead letter of another tenant is not shown.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from muse_stream.avro import SchemaDirectory, decode_records
from muse_stream.commands.configuration import Configuration
from muse_stream.commands.dlq_letters import Letter, Owners, opened, place_of, shown
from muse_stream.config import KafkaSettings, TopicKind
from muse_stream.errors import Rejected
from muse_stream.kafka import Record, Start, client, follow
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.schema_registry import writers


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
    folder = SchemaDirectory.open(configuration.loaded.root / document.schemas)
    schemas = writers(folder, document, document.tenants[tenant].event)
    if kind in ("scores", "audit"):
        schemas = output_schemas()
    owners = Owners(document, schemas, tenant, topic, unknown=False)
    client.reach(settings)

    def belongs(record: Record, one: dict[str, Any]) -> bool:
        return _ours(record, owners) if kind == "dlq" else one.get("tenant", tenant) == tenant

    def wanted(records: Sequence[Record]) -> list[bool]:
        """On a topic that tenants share, only the tenant's own are counted and shown."""
        return [belongs(record, one) for record, one in zip(records, _shown(records, schemas, kind), strict=True)]

    def hidden(partition: int, first: int, end: int) -> None:
        told(
            f"{topic}[{partition}]: offsets {first} to {end} cannot be read yet, a transaction is still open; "
            "`muse-stream doctor CONFIG` says whether it hangs, and what ends it"
        )

    own = kind in ("scores", "audit", "dlq")
    counted = wanted if own else None
    for records in follow(settings, topic, start, wanted=counted, until_end=until_end, hidden=hidden, stop=stop):
        decoded = _shown(records, schemas, kind)
        kept = [one for record, one in zip(records, decoded, strict=True) if not own or belongs(record, one)]
        if kept:
            yield kept


def _ours(record: Record, owners: Owners) -> bool:
    """Tell whether a record of a dead-letter topic is to be shown: what is no letter is, whoever it is of."""
    letter = opened(record.headers, record.value)
    return not isinstance(letter, Letter) or owners.belong([letter], [record.value])[0]


def _shown(records: Sequence[Record], schemas: SchemaDirectory, kind: TopicKind) -> list[dict[str, Any]]:
    decoded = decode_records(schemas, [record.value for record in records])
    shape = shown if kind in ("dlq", "unknown") else _plain
    return [shape(record, value) for record, value in zip(records, decoded, strict=True)]


def _plain(record: Record, value: dict[str, Any] | Rejected) -> dict[str, Any]:
    fields = {"undecodable": value.message} if isinstance(value, Rejected) else value
    return {**fields, "_kafka": place_of(record)}
