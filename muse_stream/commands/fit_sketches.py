"""Maps of what the role `calibrate` has counted in a store: whole days (UTC) of a predictor's content, by tenant.

A day counts that begins within the window. Nothing is fitted to a window with a gap (days of which nothing is counted,
records that were gone before they were counted) unless that is meant.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from muse_stream.calibration import DayCounts, FittedMap, Reference, SketchMap, counts_name, map_from_counts
from muse_stream.commands.fit_samples import SHOWN, FitError
from muse_stream.config import Document, pre_map_hash
from muse_stream.control import Store
from muse_stream.errors import StoreError
from muse_stream.runtime.drift_looks import missing_days, removed_unread
from muse_stream.runtime.score_counter import read_counts

Window = tuple[int | None, int | None]
"""Milliseconds since 1970."""


class Counted:
    """The counts of one predictor content in a store."""

    def __init__(self, store: Store, document: Document, predictor: str, window: Window, *, gaps: bool) -> None:
        """`gaps`: fit although days or records are missing."""
        self._store, self._document, self._predictor, self._gaps = store, document, predictor, gaps
        self._content = pre_map_hash(document, predictor)
        self._window = window
        self._names = frozenset(store.durables("counts~"))
        self._removed = removed_unread(store, document)

    def maps(
        self, tenants: Sequence[str], promise: Reference, thresholds: Sequence[float], told: Callable[[int], object]
    ) -> dict[str, SketchMap]:
        """Return tenant -> its map, of those that have counts. Raises FitError, StoreError for damaged counts."""
        found: dict[str, SketchMap] = {}
        events = 0
        for tenant in tenants:
            days = self._days(tenant)
            if days:
                found[tenant] = _fitted(tenant, days, promise, thresholds)
                events += found[tenant].events
                told(events)
        return found

    def common(self, tenants: Sequence[str], promise: Reference) -> FittedMap:
        """Return one map of all tenants together."""
        days = [day for tenant in tenants for day in self._days(tenant)]
        if not days:
            raise FitError(f"nothing is counted of {self._predictor}: there is nothing to fit a map of all tenants to")
        sketch = days[0].sketch
        for one in days[1:]:
            sketch.merge(one.sketch)
        try:
            return sketch.fit(promise, self._content, tuple(dict.fromkeys(one.tenant for one in days)))
        except ValueError as error:
            raise FitError(str(error)) from None

    def why_none(self, tenants: Sequence[str]) -> FitError:
        """Return what is to be said where none of these has counts."""
        others: dict[str, str] = {}
        for name in self._names:
            tenant = name.split("~")[1]
            if tenant in tenants:
                counts = self._read(name)
                if counts.predictor == self._predictor and counts.content != self._content:
                    others[counts.content[:12]] = counts.day
        named = f"nothing is counted of {', '.join(tenants[:5])} for {self._predictor} in {self._store}"
        if others:
            seen = ", ".join(f"{content}... (on {day})" for content, day in sorted(others.items())[:SHOWN])
            what = "what is counted is of another content of it: other models, inputs, betas or aggregation"
            return FitError(f"{named}, which is {self._content[:12]}... here; {what}: {seen}")
        window = " in this window" if self._window != (None, None) else ""
        return FitError(f"{named}{window}: `muse-stream run --role calibrate` counts")

    def _days(self, tenant: str) -> list[DayCounts]:
        since, until = self._window
        begin, end = counts_name(tenant, self._content, ""), []
        for name in sorted(one for one in self._names if one.startswith(begin)):
            day = date.fromisoformat(name.removeprefix(begin))
            starts = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000
            if (since is None or starts >= since) and (until is None or starts < until):
                end.append(self._read(name))
        days = [one for one in end if one.content == self._content and one.events]
        if days and not self._gaps:
            self._refuse_gap(tenant, [one.day for one in days])
        return days

    def _refuse_gap(self, tenant: str, days: Sequence[str]) -> None:
        missing = missing_days(days, date.fromisoformat(days[-1]))
        hint = "choose a window without it (--since, --until), or say --gaps if it is meant"
        if missing:
            some = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if missing[SHOWN:] else "")
            said = f"tenant {tenant}: the window has a gap: nothing is counted of {some}, between {days[0]} and"
            raise FitError(f"{said} {days[-1]}; {hint}")
        removed = {day: count for day, count in self._removed.get(tenant, {}).items() if days[0] <= day <= days[-1]}
        if removed:
            said = f"{sum(removed.values()):,} records were gone before they were counted ({', '.join(removed)})"
            raise FitError(f"tenant {tenant}: the window has a gap: {said}; {hint}")

    def _read(self, name: str) -> DayCounts:
        data = self._store.durable(name)
        if data is None:
            raise StoreError(f"{self._store}: {name} was removed meanwhile; look again")
        return read_counts(name, data)


def _fitted(tenant: str, days: Sequence[DayCounts], promise: Reference, thresholds: Sequence[float]) -> SketchMap:
    try:
        return map_from_counts(days, promise, thresholds)
    except ValueError as error:
        raise FitError(f"tenant {tenant}: {error}") from None


def moments(one: SketchMap) -> Mapping[str, int]:
    """Return the first and the last millisecond of the days that a map was fitted to, today's as far as it has come."""
    first, after = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (one.first_day, one.last_day))
    last = min(after + timedelta(days=1), datetime.now(UTC))
    return {"first_ms": int(first.timestamp() * 1000), "last_ms": int(last.timestamp() * 1000)}
