"""What `watch` found last, as it stands in the store for `status`.

    ephemeral:watch-verdicts   {at, policy, rolled_back, verdicts: [one for each promotion and tenant]}

The record ends by itself: where nobody watches there is none. Whoever reads it does not trust it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from muse_stream.control import Store, short
from muse_stream.errors import StoreError

NAME = "watch-verdicts"
STATES = ("kept", "moved", "stream")


@dataclass(frozen=True, slots=True)
class TenantVerdict:
    """What is known of one tenant since a promotion, at the threshold that says most."""

    generation: int
    """The one that promoted."""
    predictor: str
    tenant: str
    state: str
    """`moved`: the predictor has moved the alert rate; `stream`: the stream has; `kept`."""
    policy: str
    threshold: float
    promised: float
    new: float
    """Alert rate of the predictor that was promoted."""
    old: float
    """What the one before would give on the same events."""
    margin: float
    events: int
    entities: int

    def __str__(self) -> str:
        did = "it has moved" if self.state == "moved" else "the stream has moved" if self.state == "stream" else "kept"
        return (
            f"tenant {self.tenant}: {self.predictor}, promoted by generation {self.generation}: {did} the alert rate "
            f"at threshold {self.threshold:g}: {100 * self.new:.3g} %, promised {100 * self.promised:.3g} %, "
            f"{100 * self.old:.3g} % by the predictor before, on {self.events:,} events (policy {self.policy})"
        )


@dataclass(frozen=True, slots=True)
class Watched:
    """One look of `watch`."""

    at: str
    """When, ISO 8601."""
    policy: str
    rolled_back: tuple[int, ...]
    """Generations that this look has made."""
    verdicts: tuple[TenantVerdict, ...]

    @classmethod
    def read(cls, store: Store) -> "Watched | None":
        """Return what was found last; None where nobody watches. Raises StoreError for what is no such record."""
        data = store.ephemeral(NAME)
        if data is None:
            return None
        try:
            found = json.loads(data)
            verdicts = tuple(_verdict(one) for one in found["verdicts"])
            return cls(short(found["at"]), short(found["policy"]), tuple(map(int, found["rolled_back"])), verdicts)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise StoreError(f"{store}: what `watch` found last cannot be read: not what this version writes") from None

    def keep(self, store: Store, seconds: float) -> None:
        """Put it into the store, for so long."""
        before = store.ephemeral(NAME)
        store.set_ephemeral(NAME, json.dumps(asdict(self)).encode(), seconds, expected=before)


def _verdict(found: Mapping[str, Any]) -> TenantVerdict:
    kinds: dict[str, Any] = {name: field.type for name, field in TenantVerdict.__dataclass_fields__.items()}
    values: dict[str, Any] = {name: short(found[name]) if k is str else k(found[name]) for name, k in kinds.items()}
    made = TenantVerdict(**values)
    if made.state not in STATES:
        raise ValueError(made.state)
    return made


def in_trouble(found: Sequence[TenantVerdict]) -> list[TenantVerdict]:
    """Return those whose alert rate is not what was promised."""
    return [one for one in found if one.state != "kept"]
