"""What the role `calibrate` asks of whoever refreshes maps; `commands/refresh.py` does it.

A refresh is published as a promotion is, by what stands above the runtime. So it is handed to the role, which knows
only this.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from muse_stream.config import KafkaSettings
from muse_stream.control import Store
from muse_stream.runtime.drift_looks import TenantDrift
from muse_stream.telemetry import Log


class RefreshState(Struct, frozen=True):
    """How the refresh of a tenant's map of a predictor stands, for metrics."""

    tenant: str
    predictor: str
    state: str
    """proposed, waiting, publishing, applied, rejected or withdrawn."""
    reasons: tuple[str, ...]
    """Kinds of what keeps it from being fitted, or applied."""
    largest_move: float | None


class Refresher(Protocol):
    """Proposes maps where scores have drifted, and applies them where that is the policy."""

    def look(self, found: Sequence[TenantDrift], generation: int | None) -> None:
        """Take up what a look for drift has found under a generation; raises StoreError, ConfigError."""

    def turn(self) -> bool:
        """Do one piece of the work that is left, if any; return whether there was any. Raises no MuseError."""

    def states(self) -> Sequence[RefreshState]:
        """Return how things stand, as far as this process knows."""

    @property
    def applied(self) -> int:
        """How many maps this process has made current."""


class RefreshWith(Struct, frozen=True):
    """What a refresher works with."""

    store: Store
    address: str
    """Of the store."""
    settings: KafkaSettings
    lane: str
    log: Log
    check: Callable[[], object]
    """Raises Held where another process looks."""
    failpoint: Callable[[str], None]


MakeRefresher = Callable[[RefreshWith], Refresher]
