"""A bank whose scores have drifted, and the part of the role `calibrate` that refreshes its maps, without the role."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from muse_stream import telemetry
from muse_stream.calibration import Arrivals, DayCounts
from muse_stream.commands.refresh import Target, refresher, target
from muse_stream.commands.refresh_record import RefreshRecord, find
from muse_stream.config import KafkaSettings, load_document
from muse_stream.control import Heartbeat, Store, TenantBeat, open_store
from muse_stream.runtime.drift_looks import drifts
from muse_stream.runtime.refreshing import RefreshWith
from tests.calibrate.scores import Scores

EVENTS = 30_000
MODERATE, STRONG = 0.75, 0.5
"""Levels to that power: alert rates at 0.8 of 6.6 % and 9.8 %, where 5 % is promised; a refresh moves the promise by
-25 % and -49 %."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing that the code does about errors is done."""


class Bank:
    """Tenants `acme` and `globex` of a `Scores`; days are counted back from today."""

    def __init__(self, scores: Scores, settings: KafkaSettings) -> None:
        self.scores, self.settings, self.store = scores, settings, scores.store

    def target(self, tenant: str = "acme", predictor: str = "cards") -> Target:
        """Return the map that serves."""
        number = self.store.current()
        assert number is not None
        found = target(load_document(self.store.open(number).path), number, tenant, predictor)
        assert found is not None
        return found

    def aggregates(self, levels: np.ndarray, tenant: str = "acme") -> np.ndarray:
        """Return the aggregates that stand at these levels of the first map: uniform ones keep the promise."""
        loaded = load_document(self.scores.document)
        first = target(loaded, 0, tenant, "cards")
        assert first is not None
        return np.asarray(np.interp(levels, first.served.fitted.levels, first.served.fitted.values))

    def count(self, aggregates: np.ndarray, back: int = 0, tenant: str = "acme", **own: np.ndarray) -> None:
        """Count what the map that serves makes of these, as the role does, on a day."""
        wanted = self.target(tenant)
        day = (datetime.now(UTC).date() - timedelta(days=back)).isoformat()
        counts, rows = DayCounts(tenant, wanted.content, day, "cards"), np.arange(len(aggregates))
        data = self.store.durable(counts.name)
        counts = DayCounts.from_bytes(data) if data else counts
        cells, groups = own.get("cells", rows * 96 // len(rows)), own.get("groups", rows % 128)
        arrived = aggregates, wanted.served.apply(aggregates), cells, groups, wanted.map_id, tuple(wanted.promised)
        counts.add([Arrivals(f"t/{len(counts.covered)}", rows, *arrived)])
        assert self.store.set_durable(counts.name, counts.to_bytes(), data)

    def drift(self, power: float = MODERATE, tenant: str = "acme", back: tuple[int, ...] = (2, 1)) -> None:
        """Count whole days of scores that have drifted."""
        for days in back:
            levels = np.random.default_rng(days).random(EVENTS) ** power
            self.count(self.aggregates(levels, tenant), days, tenant)

    def write(self, aggregates: np.ndarray, back: int, tenant: str = "acme") -> None:
        """Put scores of a whole day onto the tenant's topic, as the map that serves gives them, of many cards."""
        day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=back)
        spread = np.linspace(0, 86_399_000, len(aggregates)).astype(np.int64) + int(day.timestamp() * 1000)
        number, scores = self.store.current(), self.target(tenant).served.apply(aggregates)
        self.scores.write(
            *(self.settings.bootstrap, tenant, aggregates),
            partitions=2, keys=997, score=scores, scored_at=spread, generation=number,
        )  # fmt: skip

    def tells(self, tenant: str = "acme", **told: Any) -> None:
        """Let a live worker tell of itself, and of a tenant."""
        told = {"age_s": 0.5, **told}
        beat = Heartbeat("host", 0, "live", self.scores.name, 1, "0", "", 1, tenants={tenant: TenantBeat(**told)})
        self.store.beat(beat.name, beat.to_json())

    def record(self, tenant: str = "acme", predictor: str = "cards") -> RefreshRecord:
        """Return the record of a tenant and predictor."""
        found = find(self.store, tenant, predictor)
        assert found is not None
        return found

    def maps(self) -> int:
        """Return how many generations have become current since the first."""
        return len(self.store.former())

    def role(self, failpoint: Callable[[str], None] = lambda _step: None, store: Store | None = None) -> "Role":
        """Return one more process of the role."""
        return Role(self, failpoint, store)


class Role:
    """What one process of the role does about refresh."""

    def __init__(self, bank: Bank, failpoint: Callable[[str], None], store: Store | None) -> None:
        self._store = store or open_store(bank.scores.address)
        log = telemetry.logger("test")
        lane = bank.scores.name
        given = (self._store, bank.scores.address, bank.settings, lane, log, lambda: None, failpoint)
        self._refresher, self._tenants = refresher(RefreshWith(*given)), ["acme", "globex"]

    def look(self) -> None:
        """Look once, and work off what is found."""
        generation = self._store.current()
        self._refresher.look(drifts(self._store, None, self._tenants), generation)
        while self._refresher.turn():
            pass

    def states(self) -> dict[tuple[str, str], str]:
        """Return what the metrics say."""
        return {(one.tenant, one.predictor): one.state for one in self._refresher.states()}
