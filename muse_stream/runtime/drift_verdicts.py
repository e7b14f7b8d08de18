"""What a look for drift has found last: one record of the store for each lane, which `status` reads.

Apart from the look, which loads scoring and Arrow: `status` has a second.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from muse_stream.control import Store

if TYPE_CHECKING:
    from muse_stream.runtime.drift_looks import TenantDrift

VERDICTS = "drift-verdicts"
"""How the names of the records begin."""


def keep_verdicts(store: Store, lane: str, found: "Sequence[TenantDrift]", seconds: float) -> None:
    """Put the last verdicts into the store, for `status`; they are good for so long."""
    record = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "verdicts": [one.to_json() for one in found if one.drift.drifted],
        "looked_at": len(found),
    }
    name = f"{VERDICTS}-{lane}"
    store.set_ephemeral(name, json.dumps(record).encode(), seconds, expected=store.ephemeral(name))


def last_verdicts(store: Store, lane: str) -> Mapping[str, Any] | None:
    """Return what was found last of a lane; None where nobody looks."""
    data = store.ephemeral(f"{VERDICTS}-{lane}")
    try:
        found = json.loads(data) if data else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
