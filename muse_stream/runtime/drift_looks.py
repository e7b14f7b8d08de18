"""Drift of every tenant and predictor, from what the role `calibrate` has counted in the store.

    current generation -> its predictors' contents and maps -> counts of the last days -> drift of each

Reads the store alone. `docs/drift.md` says what is decided, and how often it is wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict

from muse_stream.calibration import DayCounts, Drift, DriftLimits, QuantileMap, Recent, ScoreSketch, counts_name, drift
from muse_stream.config import Document, DriftSpec, Loaded, consumer_group, load_document
from muse_stream.control import Store
from muse_stream.errors import ConfigError, MuseError, StoreError
from muse_stream.runtime.score_counter import TopicOffsets, offsets_name, read_counts
from muse_stream.runtime.score_reader import content_of
from muse_stream.scoring import promised_rates, reference_from

DRIFT_LEASE = "drift"
"""Who has it looks; the others only count."""


class Windows(Struct, frozen=True):
    """What is looked at, and what is allowed; None: as the configuration says (`drift`)."""

    days: int | None = None
    """Days of alert rates."""
    recent: int | None = None
    """Days of the stability index and the distance."""
    tolerance: float | None = None
    psi: float | None = None
    ks: float | None = None
    false_alarm: float | None = None
    """How probable a false alarm is in these days, of all tenants and predictors together."""

    def over(self, configured: DriftSpec) -> DriftSpec:
        """Return what holds; raises MuseError for a window of days that are not looked at."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        found = configured.model_copy(update=given)
        if found.recent > found.days:
            what = "of the stability index and the distance"
            raise MuseError(f"{found.recent} days {what} (recent), and only {found.days} are looked at (days)")
        return found


class Served(Struct, frozen=True, eq=False):
    """A tenant's map that serves, and what was counted of it."""

    tenant: str
    predictor: str
    content: str
    map_id: str
    map: QuantileMap
    promised: Mapping[float, float]
    days: tuple[DayCounts, ...]


class TenantDrift(Struct, frozen=True):
    """What is known of one tenant and predictor."""

    tenant: str
    predictor: str
    first_day: str
    last_day: str
    drift: Drift
    missing: tuple[str, ...] = ()
    """Days since the first one of which nothing is counted, yesterday at the latest."""
    removed: Mapping[str, int] = field(default_factory=dict)
    """Day -> offsets of the tenant's topics that were gone before they were counted, when that was noticed."""

    @property
    def gaps(self) -> list[str]:
        """What the counts do not have, for people."""
        found = []
        if self.missing:
            days = ", ".join(self.missing[:3]) + (f" and {len(self.missing) - 3} more" if self.missing[3:] else "")
            found.append(f"nothing is counted of {days}: no scores then, or the role calibrate did not run")
        if self.removed:
            days = ", ".join(self.removed)
            found.append(f"{sum(self.removed.values()):,} records were gone before they were counted ({days})")
        return [f"tenant {self.tenant}, {self.predictor}: {one}" for one in found]

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
            "missing_days": list(self.missing),
            "removed_unread": dict(self.removed),
            **{name: value if value == value else None for name, value in found.items() if name != "rates"},  # noqa: PLR0124 - NaN
            "thresholds": rates,
        }


def drifts(
    store: Store, windows: Windows | None = None, tenants: Sequence[str] | None = None, today: date | None = None
) -> list[TenantDrift]:
    """Return the drift of each tenant and mapped predictor of the current generation that has counts.

    Raises StoreError, also for counts that are damaged; ConfigError for a tenant that there is not.
    """
    asked, today = windows or Windows(), today or datetime.now(UTC).date()
    number = store.current()
    if number is None:
        raise StoreError(f"{store} holds no generation; publish one there with `muse-stream publish`")
    loaded = load_document(store.open(number).path)
    document = loaded.document
    for name in tenants or ():
        if name not in document.tenants:
            hint = f"there is: {', '.join(document.tenants)}"
            raise ConfigError([loaded.source.problem(("tenants",), f"there is no tenant '{name}'", hint)])
    specs = {name: asked.over(document.drift_of(name)) for name in document.tenants}
    found = list(served(store, loaded, max(one.days for one in specs.values()), today))
    share = 1 / max(len(found), 1)
    removed = removed_unread(store, document)
    return [
        _tenant_drift(one, specs[one.tenant], share, today, removed)
        for one in found
        if tenants is None or one.tenant in tenants
    ]


def uncounted(store: Store, found: Sequence[TenantDrift], tenants: Sequence[str] | None = None) -> list[str]:
    """Return the tenants, of these or of all, that have a quantile map and of which nothing is counted."""
    number = store.current()
    document = load_document(store.open(number).path).document if number is not None else None
    seen = {one.tenant for one in found}
    nodes = [spec.graph().nearest_map() for spec in document.predictors.values()] if document is not None else []
    mapped = [
        name
        for name in (document.tenants if document is not None else ())
        if any(node is not None and node.map_of(name) for node in nodes)
    ]
    return [name for name in mapped if name not in seen and (tenants is None or name in tenants)]


def _tenant_drift(
    one: Served, spec: DriftSpec, share: float, today: date, removed: Mapping[str, Mapping[str, int]]
) -> TenantDrift:
    """Return the drift of a tenant; `share`: its part of the probability of a false alarm."""
    first, recent = ((today - timedelta(days=back)).isoformat() for back in (spec.days, spec.recent))
    within = [day for day in one.days if day.day >= first]
    sketch = ScoreSketch()
    maps = []
    for day in within:
        own = day.maps.get(one.map_id)
        if own is not None:
            maps.append(own)
            if day.day > recent:
                sketch.merge(day.sketch)
    limits = DriftLimits(spec.tolerance, spec.psi, spec.ks)
    recent_days = Recent.of(sketch, one.map)
    alpha = spec.false_alarm * share
    found = drift(maps, recent_days, one.map.fitted.samples, one.promised, limits, alpha, spec.days)
    days = within or one.days[-1:]
    return TenantDrift(
        *(one.tenant, one.predictor, days[0].day, days[-1].day, found),
        missing_days([day.day for day in days], today),
        {day: count for day, count in removed.get(one.tenant, {}).items() if day >= days[0].day},
    )


def missing_days(days: Sequence[str], until: date) -> tuple[str, ...]:
    """Return the days from the first of some to the last before `until` that are not among them."""
    start = date.fromisoformat(min(days))
    wanted = ((start + timedelta(days=on)).isoformat() for on in range((until - start).days))
    return tuple(day for day in wanted if day not in days)


def removed_unread(store: Store, document: Document) -> dict[str, dict[str, int]]:
    """Return of each tenant: day -> offsets of its topics that were gone before they were counted."""
    known: dict[str, TopicOffsets] = {}
    names = set(store.durables("offsets~"))
    found: dict[str, dict[str, int]] = {}
    for tenant, spec in document.tenants.items():
        topics = document.tenant_topics(tenant)
        group = consumer_group(document.namespace, spec.lane, "calibrate")
        for topic in dict.fromkeys((topics.scores, topics.audit)):
            name = offsets_name(group, topic)
            if name not in names:
                continue
            if name not in known:
                known[name] = TopicOffsets.read(store.durable(name))
            for day, count in known[name].gaps.items():
                own = found.setdefault(tenant, {})
                own[day] = own.get(day, 0) + count
    return found


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
