"""The Avro schemas of what workers write, for those who read it."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from muse_stream.avro import canonical_form, parse_schema, single_object_prefix
from muse_stream.errors import Reason, Stage
from muse_stream.runtime.answer_reader import output_schemas

RecordKind = Literal["score", "audit", "dlq"]
FILES: dict[RecordKind, str] = {"score": "score.avsc", "audit": "audit.avsc"}
DEAD_LETTER = {
    "type": "record",
    "name": "DeadLetter",
    "namespace": "muse",
    "doc": "A dead letter and what its headers say. It is not written in this form: on its topic its value, key and "
    "own headers are the event's, byte for byte (so its value has the event's schema), and each field that names a "
    "header stands there, as UTF-8 text. Who stores dead letters may store them as this record.",
    "fields": [
        {"name": "key", "type": ["null", "bytes"], "default": None},
        {"name": "value", "type": ["null", "bytes"], "default": None, "doc": "The event as it came."},
        {"name": "source_topic", "type": "string", "header": "muse.source.topic", "doc": "Where the event was."},
        {"name": "source_partition", "type": "int", "header": "muse.source.partition"},
        {"name": "source_offset", "type": "long", "header": "muse.source.offset"},
        {
            "name": "source_timestamp",
            "type": {"type": "long", "logicalType": "timestamp-millis"},
            "header": "muse.source.timestamp",
            "doc": "Kafka's timestamp of the event.",
        },
        {"name": "reason", "type": "string", "header": "muse.reason", "doc": f"One of {', '.join(Reason)}."},
        {"name": "stage", "type": "string", "header": "muse.stage", "doc": f"One of {', '.join(Stage)}."},
        {"name": "message", "type": "string", "header": "muse.message", "doc": "For a person; without payload."},
        {
            "name": "generation",
            "type": "long",
            "header": "muse.generation",
            "doc": "Of the configuration that refused it.",
        },
        {
            "name": "attempt",
            "type": "long",
            "header": "muse.attempt",
            "doc": "Of the worker's transaction; for diagnosis.",
        },
        {"name": "worker", "type": "string", "header": "muse.worker"},
        {
            "name": "tenant",
            "type": ["null", "string"],
            "default": None,
            "header": "muse.tenant",
            "doc": "Whose event it was; not there where nobody can tell.",
        },
    ],
}


@dataclass(frozen=True, slots=True)
class RecordSchema:
    """The schema of one kind of record."""

    record: RecordKind
    name: str
    """Full name."""
    text: str
    """As published: with documentation and logical types."""
    canonical: str
    """Avro's parsing canonical form: what the fingerprint is of."""
    fingerprint: str
    """CRC-64-AVRO of the canonical form in hexadecimal, byte for byte as in a frame."""
    frame: str
    """Hexadecimal bytes before each record on a topic; empty for dead letters, which have their event's."""

    @property
    def schema(self) -> Any:
        """The text as JSON."""
        return json.loads(self.text)


def record_schema(kind: RecordKind) -> RecordSchema:
    """Return the schema of a kind of record as this release writes it."""
    if kind == "dlq":
        schema, frame = parse_schema(json.dumps(DEAD_LETTER, indent=2)), b""
    else:
        schema = output_schemas().by_file(FILES[kind])
        frame = single_object_prefix(schema.fingerprint)
    return RecordSchema(kind, schema.name, schema.text, canonical_form(schema), schema.fingerprint.hex(), frame.hex())
