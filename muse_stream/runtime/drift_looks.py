"""Drift of every tenant and predictor, from what the role `calibrate` has counted in the store.

    current generation -> its predictors' contents and maps -> counts of the last days -> drift of each

Reads the store alone. `docs/drift.md` says what is decided, and how often it is wrong.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from muse_stream.calibration import DayCounts, Drift, DriftLimits, QuantileMap, ScoreSketch, counts_name, drift
from muse_stream.config import Loaded, load_document
from muse_stream.control import Store
from muse_stream.errors import ConfigError, StoreError
from muse_stream.runtime.score_counter import read_counts
from muse_stream.runtime.score_reader import content_of
from muse_stream.scoring import promised_rates, reference_from

FALSE_ALARM = 0.01
"""How probable a false alarm is, of all tenants and predictors together, in as many days as are looked at."""
VERDICTS = "drift-verdicts"
"""How the records of the store begin that `status` reads, one of each lane."""
DRIFT_LEASE = "drift"
"""Who has it looks; the others only count."""


@dataclass(frozen=True, slots=True)
class Windows:
    """What is looked at."""

    days: int = 30
    """Days of alert rates."""
    recent: int = 7
    """Days of the stability index and the distance."""
    limits: DriftLimits = field(default_factory=DriftLimits)


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A tenant's map that serves, and what was counted of it."""

    tenant: str
    predictor: str
    content: str
    map_id: str
    map: QuantileMap
    promised: Mapping[float, float]
    days: tuple[DayCounts, ...]


@dataclass(frozen=True, slots=True)
class TenantDrift:
    """What is known of one tenant and predictor."""

    tenant: str
    predictor: str
    first_day: str
    last_day: str
    drift: Drift

    @property
    def state(self) -> str:
        """`drifted`, `kept`, or `no events` since the map serves."""
        return "drifted" if self.drift.drifted else "kept" if self.drift.events else "no events"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        found = asdict(self.drift)
        rates = [{**asdict(one), "error": one.error} for one in self.drift.rates if one.events]
        return {
            "tenant": self.tenant,
            "predictor": self.predictor,
            "state": self.state,
            "first_day": self.first_day,
            "last_day": self.last_day,
            **{name: value if value == value else None for name, value in found.items() if name != "rates"},  # noqa: PLR0124 - NaN
            "thresholds": rates,
        }


def drifts(
    store: Store, windows: Windows | None = None, tenants: Sequence[str] | None = None, today: date | None = None
) -> list[TenantDrift]:
    """Return the drift of each tenant and mapped predictor of the current generation that has counts.

    Raises StoreError, also for counts that are damaged; ConfigError for a tenant that there is not.
    """
    windows, today = windows or Windows(), today or datetime.now(UTC).date()
    number = store.current()
    if number is None:
        raise StoreError(f"{store} holds no generation; publish one there with `muse-stream publish`")
    loaded = load_document(store.open(number).path)
    for name in tenants or ():
        if name not in loaded.document.tenants:
            hint = f"there is: {', '.join(loaded.document.tenants)}"
            raise ConfigError([loaded.source.problem(("tenants",), f"there is no tenant '{name}'", hint)])
    found = list(served(store, loaded, windows.days, today))
    alpha = FALSE_ALARM / max(len(found), 1)
    recent = (today - timedelta(days=windows.recent)).isoformat()
    return [
        TenantDrift(one.tenant, one.predictor, one.days[0].day, one.days[-1].day, _drift(one, recent, windows, alpha))
        for one in found
        if tenants is None or one.tenant in tenants
    ]


def _drift(one: Served, recent: str, windows: Windows, alpha: float) -> Drift:
    sketch = ScoreSketch()
    maps = []
    for day in one.days:
        own = day.maps.get(one.map_id)
        if own is not None:
            maps.append(own)
            if day.day > recent:
                sketch.merge(day.sketch)
    return drift(maps, sketch, one.map, one.promised, windows.limits, alpha, windows.days)


def served(store: Store, loaded: Loaded, days: int, today: date) -> Iterator[Served]:
    """Yield every tenant's map that serves, with the counts of its predictor's days, where there are any."""
    document = loaded.document
    named = set(store.durables("counts~"))
    wanted = [(today - timedelta(days=back)).isoformat() for back in range(days, -1, -1)]
    for tenant in document.tenants:
        for predictor, spec in document.predictors.items():
            content = content_of(document, tenant, predictor)
            node = spec.graph().nearest_map()
            if content is None or node is None or not content.map_id:
                continue
            names = [counts_name(tenant, content.content, day) for day in wanted]
            counts = [_counts(store, name) for name in names if name in named]
            if not counts:
                continue
            reference = document.references[node.reference]
            fitted = loaded.fitted.maps[node.map_of(tenant) or ""]
            mapped = QuantileMap(fitted, reference_from(reference))
            yield Served(
                *(tenant, predictor, content.content, content.map_id, mapped),
                promised_rates(reference),
                tuple(counts),
            )


def _counts(store: Store, name: str) -> DayCounts:
    data = store.durable(name)
    if data is None:
        raise StoreError(f"{store}: {name} was removed meanwhile; look again")
    return read_counts(name, data)


def keep_verdicts(store: Store, lane: str, found: Sequence[TenantDrift], seconds: float) -> None:
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
