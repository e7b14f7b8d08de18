"""What `tail` and `dlq` show with --redact: where a record is and what became of it, and nothing of what is in it.

Kept is what this program itself has written about an event, field by field; everything else is masked, so that a field
that comes later is masked until somebody decides otherwise. Ids and keys become pseudonyms: equal ones stay equal
within one call, and nobody can try out which they are, since the key of the hash is made for the call and thrown away.
"""

import hmac
import secrets
from collections.abc import Mapping
from typing import Any

MASK = "**********"
PLACE = frozenset({"partition", "offset", "timestamp"})
OURS = frozenset(
    {
        # scores and audit records
        *("tenant", "predictor", "predictor_version", "score", "aggregate", "generation", "event_time", "scored_at"),
        *("source_topic", "source_partition", "source_offset", "attempt"),
        *("live_predictor", "live_predictor_version", "live_score", "live_aggregate", "live_generation", "experts"),
        # dead letters and receipts
        *("reason", "stage", "source", "worker", "replays", "bytes", "state", "receipt", "events", "to"),
    }
)
"""Fields that hold nothing of an event but its place, its time and its tenant."""
IDS = frozenset({"event_id", "id", "key"})


class Redaction:
    """For one call of a command."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def __call__(self, record: Mapping[str, Any], *, ours: bool) -> dict[str, Any]:
        """Return a record as it may be shown; `ours`: it has the fields of this program's own records."""
        place = record.get("_kafka", {})
        shown: dict[str, Any] = {
            name: self._shown(name, value, ours=ours) for name, value in record.items() if name != "_kafka"
        }
        kept = {name: value if name in PLACE else self._pseudonym(value) for name, value in place.items()}
        return {**shown, "_kafka": kept}

    def _shown(self, name: str, value: Any, *, ours: bool) -> Any:
        if value is None or (ours and name in OURS):
            return value
        if name in IDS:
            return self._pseudonym(value)
        if name == "headers" and isinstance(value, list):
            return [(header, None if text is None else MASK) for header, text in value]
        return _masked(value)

    def _pseudonym(self, value: Any) -> str | None:
        if value is None:
            return None
        return f"~{hmac.digest(self._key, str(value).encode(errors='replace'), 'sha256').hex()[:16]}"


def _masked(value: Any) -> Any:
    """Return the shape of a value: names of fields, which its schema has, and no values."""
    if isinstance(value, Mapping):
        return {name: _masked(one) for name, one in value.items()}
    return MASK
