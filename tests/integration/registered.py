"""Producers that know a Schema Registry, and nothing of the service's folder of schemas."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from ruamel.yaml import YAML

from muse_stream.testing import ToSend, produce
from tests.integration.bank import AT, PARTITIONS, Bank
from tests.patience import PATIENCE

ID = {"name": "id", "type": "string"}
WHEN = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}
TENANT = {"name": "tenant", "type": "string"}
AMOUNT = {"name": "amount", "type": "double"}
RISK = {"name": "risk", "type": "double"}
VERSIONS: Sequence[Sequence[dict[str, Any]]] = (
    (ID, WHEN, TENANT, AMOUNT, RISK),
    # a field more, in another order, a nullable one, a number of another type
    (TENANT, ID, {"name": "note", "type": ["null", "string"], "default": None}, WHEN, AMOUNT, {**RISK, "type": "int"}),
    (ID, TENANT, {**AMOUNT, "type": ["null", "double"]}, RISK, WHEN, {"name": "shop", "type": "int", "default": 7}),
)
"""How a producer's schema evolves."""


def schema(version: int, *more: dict[str, Any]) -> str:
    """Return the text of a version of a producer's schema, with further fields."""
    return json.dumps({"type": "record", "name": "Payment", "fields": [*VERSIONS[version], *more]})


def use_registry(document: Path, *, frame: str | None = None, **spec: Any) -> Path:
    """Have the events of a bank's configuration look for schema ids in the registry."""
    yaml = YAML(typ="safe")
    content = yaml.load(document.read_text())
    content["events"]["payment"] |= {"schema_ids": "registry", **spec}
    content["topics"] |= {} if frame is None else {"frame": frame}
    with document.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    return document


class Producer:
    """Sends events to a tenant's topic, as Confluent's serializer for Python writes them."""

    def __init__(self, bank: Bank, bootstrap: str, registry: str) -> None:
        self._bank, self._bootstrap, self.registry = bank, bootstrap, registry
        self.client = SchemaRegistryClient({"url": registry, "timeout": 60 * PATIENCE})
        self.counts: dict[tuple[str, int], int] = {}

    def __enter__(self) -> "Producer":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def event(self, tenant: str) -> dict[str, Any]:
        """Return a new event as fields of any version."""
        number = len(self._bank.sent)
        self._bank.sent.append(f"{self._bank.name}-{number}")
        return {"id": self._bank.sent[-1], "at": AT + number, "tenant": tenant, "amount": 1.5 + number, "risk": 0}

    def send(self, tenant: str, count: int, text: str) -> None:
        """Send new events, written with a schema that is registered where it is not yet."""
        self.send_values(tenant, self.written(tenant, count, text))

    def written(self, tenant: str, count: int, text: str) -> list[bytes]:
        """Return new events to send later."""
        serializer = AvroSerializer(self.client, text)
        place = SerializationContext(self._bank.topic("events", tenant), MessageField.VALUE)
        return [serializer(self.event(tenant), place) or b"" for _ in range(count)]

    def send_values(self, tenant: str, values: Sequence[bytes], headers: dict[str, Any] | None = None) -> None:
        """Send values as they are."""
        topic = self._bank.topic("events", tenant)
        for number in range(len(values)):
            place = (topic, number % PARTITIONS)
            self.counts[place] = self.counts.get(place, 0) + 1
        records = [ToSend(topic, number % PARTITIONS, value, None, headers) for number, value in enumerate(values)]
        produce(self._bootstrap, records, {"linger.ms": 5})

    def register(self, tenant: str, text: str) -> int:
        """Register a schema for a tenant's topic; returns its id."""
        return int(self.client.register_schema(f"{self._bank.topic('events', tenant)}-value", Schema(text, "AVRO")))
