"""Works a proposal out: the days since the scores have drifted, what speaks against them, and the map.

drift of a tenant and predictor -> days since it began -> nothing speaks against them -> map -> proposal (a record)
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from muse_stream.calibration import (
    DayCounts,
    Incident,
    QuantileMap,
    RateMove,
    RefreshWindow,
    SketchMap,
    counts_name,
    days_since,
    entity_share,
    incidents,
    largest,
    map_from_counts,
    moves,
    refresh_window,
    window_rates,
)
from muse_stream.commands import refresh_incidents
from muse_stream.commands.refresh_record import Fitted, Reason, RefreshRecord, Threshold, text_of
from muse_stream.commands.refresh_target import Target, anchor
from muse_stream.config import KafkaSettings
from muse_stream.control import Store, author
from muse_stream.runtime.drift_looks import TenantDrift
from muse_stream.runtime.score_counter import read_counts


def propose(
    store: Store,
    settings: KafkaSettings,
    wanted: Target,
    drift: TenantDrift,
    known: RefreshRecord | None,
    now: datetime,
) -> RefreshRecord:
    """Work out a proposal for a map whose scores have drifted, or why there is none now. Nothing is stored.

    Raises StoreError for the store.
    """
    rules, today = wanted.loaded.document.refresh, now.date()
    since = (today - timedelta(days=rules.days - 1)).isoformat()
    days = _counts(store, wanted, [(today - timedelta(days=n)).isoformat() for n in range(rules.days - 1, -1, -1)])
    behind = min((one.events for one in drift.drift.rates if one.drifted), default=0)
    first = max(since, known.not_before if known else "")
    chosen = days_since(days, wanted.map_id, behind, first)
    window = refresh_window(chosen)
    made = (known or RefreshRecord(tenant=wanted.tenant, predictor=wanted.predictor)).but(
        **{
            "state": "waiting",
            "at": text_of(now),
            "by": author(),
            "policy": wanted.policy,
            "generation": wanted.number,
        },
        **{"content": wanted.content, "reference": wanted.promise, "present": wanted.present, "step": rules.step},
        **{"fitted": None, "reasons": (), "decision": None, "sequence": 0, "drift": _plain(drift.to_json())},
    )
    against = list(_evidence(wanted, window, known))
    if window is not None and not against:
        against = list(_against(store, settings, wanted, chosen, window))
    if window is None or against:
        return made.but(reasons=_reasons(against))
    try:
        fitted = map_from_counts(chosen, wanted.served.reference, list(wanted.promised))
    except ValueError as error:
        return made.but(reasons=(Reason(kind="evidence", text=str(error)),))
    moved = moves(anchor(store, wanted), QuantileMap(fitted.map, wanted.served.reference), wanted.promised)
    held = _fitted(wanted, chosen, fitted, moved, window)
    return made.but(state="proposed", fitted=held, reasons=_reasons(_by_itself(wanted, held, known)))


def _counts(store: Store, wanted: Target, days: Sequence[str]) -> list[DayCounts]:
    found = []
    for day in days:
        name = counts_name(wanted.tenant, wanted.content, day)
        data = store.durable(name)
        if data is not None:
            found.append(read_counts(name, data))
    return found


def _evidence(wanted: Target, window: RefreshWindow | None, known: RefreshRecord | None) -> Iterator[Incident]:
    """Yield that there are too few events."""
    rules = wanted.loaded.document.refresh
    needed = f"{rules.least_events:,} events in {rules.least_hours:g} hours are needed"
    after = f", from {known.not_before} on, after a person said no" if known and known.not_before else ""
    if window is None:
        yield Incident("evidence", f"no whole day of events since the scores have drifted{after}; {needed}")
    elif window.events < rules.least_events or window.hours < rules.least_hours:
        text = f"{window.events:,} events in {window.hours:.1f} hours since the scores have drifted{after}; {needed}"
        yield Incident("evidence", text)


def _against(
    store: Store, settings: KafkaSettings, wanted: Target, days: Sequence[DayCounts], window: RefreshWindow
) -> Iterator[Incident]:
    """Yield what speaks against fitting a map to a window."""
    document, tenant = wanted.loaded.document, wanted.tenant
    lane, rules = document.tenants[tenant].lane, document.refresh
    yield from incidents(days, window, rules.most_of_one_entity)
    waits = refresh_incidents.waits(store, document, lane)
    now = waits.tenants.get(tenant) or waits.unknown.get(tenant)
    if now:
        yield Incident("lag", f"now: {now}")
    else:
        yield from refresh_incidents.waited(store, lane, tenant, window)
    yield from refresh_incidents.not_counted(store, document, lane, tenant, window)
    yield from refresh_incidents.watched(store, tenant)
    yield from refresh_incidents.promoted(store, tenant, wanted.predictor, window)
    yield from refresh_incidents.dead_letters(settings, document, tenant, window, rules.most_dead_letters)


def _fitted(
    wanted: Target, days: Sequence[DayCounts], fitted: SketchMap, moved: Sequence[RateMove], window: RefreshWindow
) -> Fitted:
    new = QuantileMap(fitted.map, wanted.served.reference)
    thresholds = list(wanted.promised)
    rates = window_rates(days, fitted.sketch, wanted.served, wanted.map_id, thresholds)
    expected = fitted.sketch.alert_rates(new, thresholds).tolist()
    rows = zip(fitted.trust, moved, rates, expected, strict=True)
    return Fitted(
        map=fitted.map.to_json(),
        begins=text_of(window.begins),
        ends=text_of(window.ends),
        hours=window.hours,
        events=fitted.events,
        entity_share=entity_share(days),
        thresholds=tuple(
            Threshold(
                threshold=at.threshold,
                promised=at.promised,
                rate=rate,
                rate_low=low,
                rate_high=high,
                expected=reached,
                low=at.low,
                high=at.high,
                enough=at.enough,
                tied=at.tied,
                score=one.before,
                move=one.move,
            )
            for at, one, (rate, low, high), reached in rows
        ),
        largest_move=largest(moved),
    )


def _by_itself(wanted: Target, held: Fitted, known: RefreshRecord | None) -> Iterator[Incident]:
    """Yield why a map is not applied without a person."""
    step = wanted.loaded.document.refresh.step
    for one in held.thresholds:
        if abs(one.move) > step:
            text = f"the alert rate at threshold {one.threshold:g} would move by {one.move:+.0%} of what is promised"
            yield Incident("step", f"{text}, for those whose events have not changed; by itself at most {step:.0%}")
        if not one.enough:
            text = f"too little evidence at threshold {one.threshold:g}: {_percent(one.promised)} is promised"
            yield Incident("evidence", f"{text}, the true rate lies in {_percent(one.low)} to {_percent(one.high)}")
        if one.tied:
            text = f"ties keep threshold {one.threshold:g} from its alert rate"
            yield Incident("ties", f"{text}: {_percent(one.expected)} reach it, {_percent(one.promised)} is promised")
    if known is not None and known.person:
        yield Incident("person", "a person took the last refresh back: the next one is applied by a person")


def _reasons(found: Sequence[Incident] | Iterator[Incident]) -> tuple[Reason, ...]:
    return tuple(Reason(kind=one.kind, text=one.text) for one in found)


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `drift` says without numbers that JSON does not have."""
    return {name: value for name, value in found.items() if value is not None}


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"
