"""What a dead letter looks like on its topic: the headers it is sent with; key and value stay as they came.

The original bytes, key and headers are untouched and come first. The `muse.*` headers say where the record was, what
was wrong, at which stage, under which generation and in which transaction attempt, and whose it was where that is
known. No payload stands in the message.

What was sent back to the event topic with all its headers and is refused again keeps its first provenance: later
`muse.*` headers are appended. `divided` takes the last of them away.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from muse_stream.errors import Rejected
from muse_stream.telemetry import BoundedLog
from muse_stream.worker.batch import Batch, Header, Origin, Records, Refusal

MESSAGE_LIMIT = 500
"""Characters of the reason's text: enough for a person, too little to leak a payload."""


DIGITS = 20
"""An offset and an attempt are below 2**63."""
FIRST = "muse.source.topic"
"""The header that ours begin with."""
TENANT = "muse.tenant"
PREFIX = "muse."
Value = TypeVar("Value", bytes, bytes | str | None, bytes | None)


def headers(
    batch: Batch, rejected: Rejected, *, generation: int, attempt: int, worker: str, tenant: str | None = None
) -> list[Header]:
    """Return the headers of one dead letter: the record's own, then ours; without `tenant` it is not known whose."""
    row = rejected.row
    provenance = {
        FIRST: batch.topics[row],
        "muse.source.partition": batch.partitions[row],
        "muse.source.offset": batch.offsets[row],
        "muse.source.timestamp": batch.timestamps()[row],
        "muse.reason": rejected.reason,
        "muse.stage": rejected.stage,
        "muse.message": rejected.message[:MESSAGE_LIMIT],
        "muse.generation": generation,
        "muse.attempt": attempt,
        "muse.worker": worker,
    } | ({} if tenant is None else {TENANT: tenant})
    return [*batch.headers()[row], *((name, str(value).encode()) for name, value in provenance.items())]


def divided(headers: Sequence[tuple[str, Value]]) -> tuple[list[tuple[str, Value]], dict[str, str]] | None:
    """Return the headers that the record had on its event topic, and what ours say, without `muse.`.

    None for what is no dead letter.
    """
    begins = next((at for at in range(len(headers) - 1, -1, -1) if headers[at][0] == FIRST), None)
    if begins is None:
        return None
    ours: dict[str, str] = {}
    for name, value in headers[begins:]:
        if name.startswith(PREFIX):
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            ours[name.removeprefix(PREFIX)] = text or ""
    return list(headers[:begins]), ours


def refusals(batch: Batch, records: Records) -> list[Refusal]:
    """Return the batch's dead letters as they are logged: one line for each event topic and reason."""
    if not records.dead:
        return []
    counts = Counter((batch.topics[letter.rejected.row], str(letter.rejected.reason)) for letter in records.dead)
    found = []
    for letter in records.dead:
        row, reason = letter.rejected.row, str(letter.rejected.reason)
        if count := counts.pop((batch.topics[row], reason), 0):
            place = batch.topics[row], reason, count, batch.partitions[row], batch.offsets[row]
            found.append(Refusal(*place, letter.rejected.message[:MESSAGE_LIMIT]))
    return found


def note(log: BoundedLog, found: Iterable[Refusal]) -> None:
    """Log dead letters that are committed: a line for each event topic and reason, with the first, once a minute."""
    for one in found:
        log.note(
            "dead_letters",
            (one.topic, one.reason),
            one.count,
            topic=one.topic,
            reason=one.reason,
            partition=one.partition,
            offset=one.offset,
            error=one.error,
        )


def source_of(headers: Mapping[str, str | bytes | None]) -> Origin | None:
    """Return which event a dead letter is about, from its headers (the last of each name); None for other records."""
    parts = [headers.get(f"muse.{name}") for name in ("source.topic", "source.partition", "source.offset", "attempt")]
    topic, *numbers = (part.decode("utf-8", "replace") if isinstance(part, bytes) else part for part in parts)
    if topic is None or not all(number and number.isdecimal() and len(number) < DIGITS for number in numbers):
        return None  # anybody may write such a header
    partition, offset, attempt = (int(number or 0) for number in numbers)
    return Origin(topic, partition, offset, attempt)
