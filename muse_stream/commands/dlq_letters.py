"""The records of a dead-letter topic: dead letters, receipts of replays, and what somebody else has put there.

A replay writes a receipt into the partition that its letters stand in, in the same transaction in which it sends them
(docs/decisions/0020). A receipt names events, not letters: an event that has two letters is sent once.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from muse_stream.avro import SchemaDirectory, decode_records
from muse_stream.config import Document, EventSpec
from muse_stream.errors import Rejected
from muse_stream.kafka import Record
from muse_stream.worker import dead_letter

RECEIPT = "muse.receipt"
"""Header of a receipt; its value says of what: `replay`."""
RECEIPT_TO = "muse.receipt.to"
"""Header of a receipt: the topic that the events were sent to."""
REPLAYS = "muse.replay.count"
"""Header of an event that was sent again: how many times by now."""
REPLAYED_FROM = "muse.replay.letter"
"""Header of an event that was sent again: where its dead letter stands."""
_MARK = "muse.replay."
_EVENT = struct.Struct(">iqqq")
_LARGEST = (1 << 63) - 1

Header = tuple[str, bytes | None]
EventKey = bytes
"""An event's topic (as a number), partition, offset and time: the same offset of a topic that was made again is
another event."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an event was when it was refused."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """Milliseconds since 1970; -1 where the letter does not say."""

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"

    def key(self, topics: dict[str, int]) -> EventKey:
        """Return what identifies the event; `topics` has a number for each topic, and gets new ones."""
        code = topics.setdefault(self.topic, len(topics))
        return _EVENT.pack(code, self.partition, self.offset, self.timestamp)


def place_and_time(key: EventKey) -> tuple[int, int, int, int]:
    """Return the number of the topic, the partition, the offset and the time of an event."""
    code, partition, offset, timestamp = _EVENT.unpack(key)
    return code, partition, offset, timestamp


@dataclass(frozen=True, slots=True)
class Letter:
    """What the headers of a dead letter say."""

    source: Source
    original: Sequence[Header]
    """The headers that the event had, without the marks of replays."""
    facts: dict[str, str]
    """Our headers, without `muse.`: reason, stage, message, ..."""
    replays: int
    """How often the event had been sent again before it was refused this time."""

    @property
    def reason(self) -> str:
        """Why the event was refused."""
        return self.facts.get("reason", "?")


@dataclass(frozen=True, slots=True)
class Receipt:
    """Which events have been sent again, and where to."""

    to: str
    events: Sequence[Source]


def opened(headers: Sequence[Header], value: bytes | None) -> Letter | Receipt | None:
    """Tell what a record of a dead-letter topic is; None: somebody else's."""
    divided = dead_letter.divided(headers)
    if divided is None:
        return _receipt(headers, value)
    original, facts = divided
    numbers = [facts.get(f"source.{name}", "") for name in ("partition", "offset")]
    if not all(_is_number(text) for text in numbers) or not facts["source.topic"]:
        return None
    partition, offset = map(int, numbers)
    time = facts.get("source.timestamp", "")
    source = Source(facts["source.topic"], partition, offset, int(time) if _is_number(time) else -1)
    replays = next((value or b"" for name, value in reversed(original) if name == REPLAYS), b"").decode(
        "ascii", "replace"
    )
    own = [header for header in original if not header[0].startswith(_MARK)]
    return Letter(source, own, facts, min(int(replays), 1_000_000) if _is_number(replays) else 0)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19  # fits 64 bits


def _receipt(headers: Sequence[Header], value: bytes | None) -> Receipt | None:
    named = dict(headers)
    if named.get(RECEIPT) != b"replay" or value is None:
        return None
    try:
        events = [
            Source(topic, *(_number(part) for part in place))
            for topic, places in json.loads(value)["events"].items()
            for place in places
        ]
        return Receipt((named[RECEIPT_TO] or b"").decode(), events)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _number(value: Any) -> int:
    if not isinstance(value, int) or not -1 <= value <= _LARGEST:
        raise ValueError(value)
    return value


def receipt(to: str, events: Iterable[Source], run: str) -> tuple[bytes, list[Header]]:
    """Return the value and headers of a receipt; `run` tells which call of the command has written it."""
    places: dict[str, list[tuple[int, int, int]]] = {}
    for event in events:
        places.setdefault(event.topic, []).append((event.partition, event.offset, event.timestamp))
    value = json.dumps({"run": run, "events": places}, separators=(",", ":")).encode()
    return value, [(RECEIPT, b"replay"), (RECEIPT_TO, to.encode())]


def marked(letter: Letter, place: str) -> list[Header]:
    """Return the headers that a letter's event is sent again with; `place` is where the letter stands."""
    return [*letter.original, (REPLAYS, str(letter.replays + 1).encode()), (REPLAYED_FROM, place.encode())]


class Owners:
    """Tells which letters of a topic are a tenant's.

    Written beside the letter (`muse.tenant`); or its event topic, or the dead-letter topic, is this tenant's alone; or
    its event says so. With `unknown`, those are meant of which nobody says whose they are, from the tenant's event
    topic.
    """

    def __init__(self, document: Document, schemas: SchemaDirectory, tenant: str, topic: str, *, unknown: bool) -> None:
        self._tenant, self._unknown, self._schemas = tenant, unknown, schemas
        topics = {name: document.tenant_topics(name) for name in document.tenants}
        self._sharing: dict[str, list[str]] = {}
        for name, one in topics.items():
            self._sharing.setdefault(one.events, []).append(name)
        self.events = topics[tenant].events
        homes = [name for name, one in topics.items() if one.dlq == topic]
        lanes = [lane for lane in document.lanes() if document.unknown_topic(lane) == topic]
        self._home = homes[0] if len(homes) == 1 and not lanes else None
        self._spec = document.events[document.tenants[tenant].event]

    @property
    def shares(self) -> bool:
        """Whether other tenants use the event topic too."""
        return len(self._sharing[self.events]) > 1

    def belong(self, letters: Sequence[Letter], values: Sequence[bytes | None]) -> list[bool]:
        """Say of each letter whether it is one of those that are meant."""
        return [self._belongs(letter, value) for letter, value in zip(letters, values, strict=True)]

    def _belongs(self, letter: Letter, value: bytes | None) -> bool:
        sharing = self._sharing.get(letter.source.topic, [])
        owner = letter.facts.get("tenant") or (sharing[0] if len(sharing) == 1 else None) or self._home
        if self._unknown:
            return owner is None and letter.source.topic == self.events
        if owner is None and self._tenant in sharing:
            owner = stated_tenant(self._spec, self._schemas, letter.original, value)
        return owner == self._tenant


def stated_tenant(
    spec: EventSpec, schemas: SchemaDirectory, headers: Sequence[Header], value: bytes | None
) -> str | None:
    """Return the tenant that an event names, in the header or field that its format says."""
    if spec.tenant is None:
        return None
    if spec.tenant.header is not None:
        found = next(
            (text for name, text in reversed(headers) if name == spec.tenant.header and text is not None), None
        )
        return None if found is None else found.decode("utf-8", "replace")
    (event,) = decode_records(schemas, [value])
    part: Any = None if isinstance(event, Rejected) else event
    for name in (spec.tenant.field or "").split("."):
        part = part.get(name) if isinstance(part, dict) else None
    return None if part is None else str(part)


def shown(record: Record, event: dict[str, Any] | Rejected) -> dict[str, Any]:
    """Return a record of a dead-letter topic as `tail` and `dlq` print it."""
    letter = opened(record.headers, record.value)
    if isinstance(letter, Receipt):
        return {"receipt": "replay", "events": len(letter.events), "to": letter.to, "_kafka": place_of(record)}
    facts = {} if letter is None else {k: text for k, text in letter.facts.items() if not k.startswith("source.")}
    return {
        **facts,
        "source": "?" if letter is None else str(letter.source),
        "replays": 0 if letter is None else letter.replays,
        "event": None if isinstance(event, Rejected) else event,
        "bytes": len(record.value or b""),
        "_kafka": place_of(record),
    }


def place_of(record: Record) -> dict[str, Any]:
    """Return where a record stands, as `tail` and `dlq` print it."""
    key = None if record.key is None else record.key.decode("utf-8", "replace")
    return {"partition": record.partition, "offset": record.offset, "timestamp": record.timestamp, "key": key}
