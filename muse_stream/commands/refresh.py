"""Refresh of quantile maps: a new map is proposed where scores have drifted, and published as a promotion is.

    drift of a tenant and predictor -> days since it began -> nothing speaks against them -> map -> proposal (a record)
    proposal -> it still fits what is current -> check -> changes -> publish -> current

`propose` works a proposal out, `apply` and `reject` decide it, `reconcile` finds out what became of one that somebody
was killed over. `refresher` does all of it for the role `calibrate`. What is decided, and why, stands in
docs/refresh.md and docs/decisions/0038.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from muse_stream.calibration import (
    DayCounts,
    FittedMap,
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
from muse_stream.commands.refresh_record import (
    PREFIX,
    Applied,
    Fitted,
    Overtaken,
    Reason,
    RefreshRecord,
    Threshold,
    digest,
    digest_of,
    find,
    keep,
)
from muse_stream.config import KafkaSettings, Loaded, content_hash, load_document
from muse_stream.control import Conflict, Entry, Held, Note, Store, author
from muse_stream.errors import ConfigError, MuseError, Problem, StoreError
from muse_stream.runtime.drift_looks import TenantDrift
from muse_stream.runtime.refreshing import Refresher, RefreshState, RefreshWith
from muse_stream.runtime.score_counter import read_counts
from muse_stream.runtime.score_reader import content_of
from muse_stream.scoring import promised_rates, reference_from
from muse_stream.telemetry import Log

ROUNDS: Final = 10
SAME: Final = 1e-9
GROWN: Final = 1.25
"""A proposal is made anew when its window has so many times the events."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A tenant's map of a predictor, as it serves."""

    loaded: Loaded
    number: int
    tenant: str
    predictor: str
    content: str
    """Hash of the predictor up to its map."""
    map_id: str
    """How counts call the map."""
    reference: str
    """Its name."""
    served: QuantileMap
    promised: Mapping[float, float]

    @property
    def policy(self) -> str:
        """The tenant's."""
        return self.loaded.document.tenants[self.tenant].refresh

    @property
    def promise(self) -> str:
        """Hash of the reference."""
        return content_hash(self.loaded.document.references[self.reference])

    @property
    def present(self) -> str:
        """Digest of the map."""
        return digest_of(self.served.fitted)

    @property
    def where(self) -> str:
        """Which one it is, for a person."""
        return f"tenant {self.tenant}, {self.predictor}"


def target(loaded: Loaded, number: int, tenant: str, predictor: str) -> Target | None:
    """Return a tenant's map of a predictor; None where there is none."""
    document = loaded.document
    found = content_of(document, tenant, predictor) if tenant in document.tenants else None
    node = document.predictors[predictor].graph().nearest_map() if found is not None else None
    name = node.map_of(tenant) if node is not None else None
    if found is None or node is None or name is None or not found.map_id:
        return None
    spec = document.references[node.reference]
    served = QuantileMap(loaded.fitted.maps[name], reference_from(spec))
    return Target(
        *(loaded, number, tenant, predictor, found.content, found.map_id, node.reference, served),
        promised_rates(spec),
    )


def current(store: Store) -> tuple[int, Loaded]:
    """Return what is current; raises StoreError where nothing is, ConfigError where it is refused."""
    number = store.current()
    if number is None:
        raise StoreError(f"{store} holds no generation; publish one there with `muse-stream publish`")
    return number, load_document(store.open(number).path)


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
        **{"state": "waiting", "at": _text(now), "by": author(), "policy": wanted.policy, "generation": wanted.number},
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


def anchor(store: Store, wanted: Target) -> QuantileMap:
    """Return the map that a person has published last: the one that serves, unless the role has put it there.

    The generations say so, which only a publisher writes. Raises StoreError.
    """
    for entry in reversed(store.list()):
        told = (entry.evidence or {}).get("refreshed")
        if isinstance(told, dict) and told.get("map") == wanted.present and told.get("by_itself"):
            try:
                return QuantileMap(FittedMap.from_json(told["anchor"]), wanted.served.reference)
            except (ValueError, KeyError) as error:
                raise StoreError(
                    f"{store}: the evidence of generation {entry.number} cannot be read: {error}"
                ) from None
    return wanted.served


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
        begins=_text(window.begins),
        ends=_text(window.ends),
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


def reconcile(store: Store, known: RefreshRecord, wanted: Target | None, now: datetime) -> RefreshRecord:
    """Return what has become of a record, whoever has done it; nothing is stored. Raises StoreError."""
    known = _taken_back(store, known, wanted, now)
    if not known.open:
        return known
    if wanted is None:
        return known.decided("withdrawn", _text(now), author(), "the tenant has no such map any more")
    if known.fitted is not None and wanted.present == digest(known.fitted.map):
        made = _made(store, known)
        return _applied(known, made.number if made else wanted.number, now, made)
    if known.state == "publishing":
        head = store.head()
        if head is None or head.sequence == known.sequence or _made(store, known) is None:
            return known.but(state="proposed", sequence=0)  # it never became current: who did it was stopped before
        return _no(known, "withdrawn", now, author(), "it was taken back as soon as it was current").but(person=True)
    return known


def _taken_back(store: Store, known: RefreshRecord, wanted: Target | None, now: datetime) -> RefreshRecord:
    """Return a record with what a rollback of the refresh that was applied last means."""
    if known.applied is None or (wanted is not None and wanted.present == known.applied.map):
        return known
    head = store.head()
    if head is None or known.applied.generation in (head.number, *store.former()):
        return known.but(applied=None) if wanted is not None and not known.open else known
    text = f"generation {known.applied.generation} was rolled back"
    who = head.author or author()
    return _no(known, "withdrawn", now, who, text).but(person=True, applied=None)


def _no(known: RefreshRecord, state: str, now: datetime, by: str, text: str) -> RefreshRecord:
    """Return a record that a person has decided against: a map may be fitted to later days only."""
    tomorrow = (now.date() + timedelta(days=1)).isoformat()
    return known.decided(state, _text(now), by, text).but(not_before=tomorrow)  # type: ignore[arg-type]


def _made(store: Store, known: RefreshRecord) -> Entry | None:
    """Return the last generation that was made of a proposal, current or not."""
    for entry in reversed(store.list()):
        told = (entry.evidence or {}).get("refreshed")
        if isinstance(told, dict) and (told.get("tenant"), told.get("predictor"), told.get("id")) == (
            *(known.tenant, known.predictor, known.id),
        ):
            return entry
    return None


def _applied(known: RefreshRecord, number: int, now: datetime, made: Entry | None = None) -> RefreshRecord:
    told = (made.evidence or {}).get("refreshed", {}) if made is not None else {}
    assert known.fitted is not None  # noqa: S101  # the caller has looked
    by_role = bool(told.get("by_itself"))
    applied = Applied(map=digest(known.fitted.map), generation=number)
    who, text = (made.author, made.message) if made is not None else (author(), "")
    done = known.decided("applied", _text(now), who, text, number)
    return done.but(
        applied=applied, person=known.person and by_role, not_before="" if not by_role else known.not_before
    )


def misfits(store: Store, known: RefreshRecord, wanted: Target | None) -> list[Problem]:
    """Return why a proposal cannot be applied to what is current. Raises StoreError, ConfigError."""
    path = f"tenants.{known.tenant}"
    if known.state != "proposed" or known.fitted is None:
        why = "; ".join(one.text for one in known.reasons)
        what = f"no map is proposed: {why}" if known.state == "waiting" else f"the proposal is {known.state}"
        return [Problem(path, f"{known.predictor}: {what}", "`muse-stream refresh show` has all that is known")]
    text = _misfit(store, known, wanted)
    return [Problem(path, text, "the role `calibrate` proposes anew at its next look")] if text else []


def _misfit(store: Store, known: RefreshRecord, wanted: Target | None) -> str:
    """Return what has changed since a map was fitted; empty where nothing has that matters to it."""
    if wanted is None:
        return f"the current generation has no map of {known.predictor} for it"
    changed = {
        f"{known.predictor} is another content than the map was fitted for": wanted.content != known.content,
        f"{known.predictor} keeps to another reference than the map was fitted for": wanted.promise != known.reference,
        f"{known.predictor}: the map that serves was changed since": wanted.present != known.present,
    }
    for text, differs in changed.items():
        if differs:
            return text
    if known.fitted is not None and not _says_what_it_does(store, known.fitted, wanted):
        return "the proposal does not say what its map does"
    if wanted.number == known.generation:
        return ""
    then = load_document(store.open(known.generation).path)
    told = refresh_incidents.answered_otherwise(then, wanted.loaded, known.tenant, known.predictor)
    return (
        f"generation {wanted.number} answers it otherwise than {known.generation} did: {'; '.join(told)}"
        if told
        else ""
    )


def _says_what_it_does(store: Store, held: Fitted, wanted: Target) -> bool:
    """Whether a map moves alert rates as far as its proposal says: who may write counts may not publish by that."""
    try:
        new = QuantileMap(FittedMap.from_json(held.map), wanted.served.reference)
    except ValueError:
        return False
    return abs(largest(moves(anchor(store, wanted), new, wanted.promised)) - held.largest_move) < SAME


def apply(
    store: Store,
    address: str,
    known: RefreshRecord,
    message: str = "",
    *,
    by_itself: bool = False,
    check: Callable[[], object] = lambda: None,
    failpoint: Callable[[str], None] = lambda _step: None,
) -> RefreshRecord:
    """Make a proposed map current, as the next generation, and return the record that says so.

    `check` is asked right before it becomes current; it raises Held where somebody else does this. Raises ConfigError
    for what speaks against it, Conflict where `current` moved meanwhile, Overtaken, StoreError.
    """
    number, loaded = current(store)
    wanted = target(loaded, number, known.tenant, known.predictor)
    against = misfits(store, known, wanted)
    if against or wanted is None or known.fitted is None:
        raise ConfigError(against)
    if by_itself and known.fitted.largest_move > loaded.document.refresh.step:
        text = f"{known.predictor}: the map moves an alert rate further than the step"
        raise ConfigError([Problem(f"tenants.{known.tenant}", text, "a person applies it, or rejects it")])
    head = store.head()
    if head is None or head.number != number:
        raise Conflict(number, head, None)
    publishing = keep(store, known, known.but(state="publishing", sequence=head.sequence))
    try:
        failpoint("refresh-decided")
        note = _note(store, wanted, known, message, by_itself=by_itself)
        made = _publish(store, address, wanted, known, note, check, failpoint)
    except MuseError:
        with suppress(Overtaken):  # a look of the role has found that out by itself
            keep(store, publishing, publishing.but(state="proposed", sequence=0))
        raise
    failpoint("refresh-current")
    return _settled(store, publishing, made)


def _settled(store: Store, publishing: RefreshRecord, made: int) -> RefreshRecord:
    """Say in the record that its map is current; whoever looked meanwhile may have changed it."""
    entry = next((one for one in store.list() if one.number == made), None)
    found: RefreshRecord | None = publishing
    for _ in range(ROUNDS):
        if found is None or not found.open or found.id != publishing.id:
            break
        with suppress(Overtaken):
            return keep(store, found, _applied(found, made, datetime.now(UTC), entry))
        found = find(store, publishing.tenant, publishing.predictor)
    return found or publishing


def _note(store: Store, wanted: Target, known: RefreshRecord, message: str, *, by_itself: bool) -> Note:
    assert known.fitted is not None  # noqa: S101  # the caller has looked
    kept: dict[str, Any] = {"id": known.id, "map": digest(known.fitted.map), "by_itself": by_itself}
    left_out = ("past", "decision", "applied", "version", "format", "state", "sequence")
    kept |= {name: value for name, value in asdict(known).items() if name not in left_out}
    kept["fitted"] = {name: value for name, value in kept["fitted"].items() if name != "map"}
    if by_itself:
        kept["anchor"] = anchor(store, wanted).fitted.to_json()
    text = message or f"refresh {known.tenant}, {known.predictor}: map fitted on {known.fitted.events:,} events"
    return Note(text, evidence={"refreshed": kept})


def _publish(
    store: Store,
    address: str,
    wanted: Target,
    known: RefreshRecord,
    note: Note,
    check: Callable[[], object],
    failpoint: Callable[[str], None],
) -> int:
    from muse_stream.commands.fit import Fit, FittedTenant  # noqa: PLC0415 - it loads much, and is rarely needed

    assert known.fitted is not None  # noqa: S101  # the caller has looked
    fitted = FittedMap.from_json(known.fitted.map)
    one = FittedTenant(known.tenant, fitted, "own", fitted.samples, 0, None, None, 0, ())
    fit = Fit(
        *(known.predictor, known.content, wanted.reference, wanted.served.reference, {known.tenant: one}, None, {}),
        wanted.loaded,
    )
    with fit.proposed(address) as proposed:
        if proposed.before != wanted.number:
            raise Conflict(wanted.number, store.head(), None)
        others = [one for one in proposed.changes if one.harm or one.area != "tenant" or one.names != (known.tenant,)]
        if others:
            hint = "give the tenant a map of its own in the configuration, and publish it"
            raise ConfigError([Problem(f"tenants.{known.tenant}", f"more would change: {one}", hint) for one in others])
        number = proposed.publish(note, activate=False).number
        failpoint("refresh-stored")
        check()
        store.move_current(wanted.number, number, note)
    return number


def reject(store: Store, known: RefreshRecord, message: str = "") -> RefreshRecord:
    """Say no to a proposal: no map is fitted to the days up to today any more. Raises ConfigError, Overtaken."""
    if not known.open:
        hint = "`muse-stream refresh list` shows what waits for a decision"
        text = f"{known.predictor}: the proposal is {known.state} already"
        raise ConfigError([Problem(f"tenants.{known.tenant}", text, hint)])
    return keep(store, known, _no(known, "rejected", datetime.now(UTC), author(), message))


def refresher(given: RefreshWith) -> Refresher:
    """Return what refreshes maps for the role `calibrate`."""
    return _Role(given)


class _Role:
    """Takes up drift look by look, and works it off piece by piece."""

    def __init__(self, given: RefreshWith) -> None:
        self._with = given
        self._left: list[tuple[TenantDrift, str]] = []
        """What has drifted, and how counts call the map that it has drifted under."""
        self._known: dict[tuple[str, str], RefreshRecord] = {}
        self._said: dict[tuple[str, str], object] = {}
        self._applied = 0

    @property
    def applied(self) -> int:
        return self._applied

    def states(self) -> list[RefreshState]:
        return [
            RefreshState(
                *(one.tenant, one.predictor, one.state, tuple(dict.fromkeys(why.kind for why in one.reasons))),
                one.fitted.largest_move if one.fitted else None,
            )
            for one in self._known.values()
        ]

    def look(self, found: Sequence[TenantDrift], generation: int | None) -> None:
        store, now = self._with.store, datetime.now(UTC)
        number, loaded = current(store)
        if number != generation:
            return  # drift was looked for before it became current: the next look
        tenants = loaded.document.tenants
        mine = {name for name, one in tenants.items() if one.lane == self._with.lane}
        watched = {name for name in mine if tenants[name].refresh != "off"}
        if watched:
            waiting = refresh_incidents.waits(store, loaded.document, self._with.lane).tenants
            refresh_incidents.remember_waits(
                store, self._with.lane, {n: w for n, w in waiting.items() if n in watched}, now
            )
        drifted = {(one.tenant, one.predictor) for one in found if one.drift.drifted}
        self._known = {}
        for name in store.durables(PREFIX):
            try:
                self._reconcile(name, loaded, number, mine, drifted)
            except (MuseError, OSError) as error:  # one that cannot be read keeps no other from being looked at
                self._with.log.error("refresh_failed", record=name, error=str(error))
        self._left = [
            (one, wanted.map_id)
            for one in found
            if one.drift.drifted and one.tenant in watched
            if (wanted := target(loaded, number, one.tenant, one.predictor)) is not None
        ]

    def _reconcile(
        self, name: str, loaded: Loaded, number: int, mine: Container[str], drifted: Container[tuple[str, str]]
    ) -> None:
        store, now = self._with.store, datetime.now(UTC)
        data = store.durable(name)
        one = None if data is None else RefreshRecord.read(data, name)
        if one is None or one.tenant not in mine:
            return
        after = reconcile(store, one, target(loaded, number, one.tenant, one.predictor), now)
        if after.open and loaded.document.tenants[one.tenant].refresh == "off":
            after = after.decided("withdrawn", _text(now), author(), "the tenant's policy is off")
        if after.open and (one.tenant, one.predictor) not in drifted:
            after = after.decided("withdrawn", _text(now), author(), "the scores have not drifted any more")
        self._keep(one, after)

    def turn(self) -> bool:
        if not self._left:
            return False
        one, map_id = self._left.pop(0)
        try:
            self._refresh(one, map_id)
        except (Conflict, Overtaken, Held) as error:
            self._with.log.warning("refresh_overtaken", tenant=one.tenant, predictor=one.predictor, error=str(error))
        except MuseError as error:
            self._with.log.error("refresh_failed", tenant=one.tenant, predictor=one.predictor, error=str(error))
        return True

    def _refresh(self, one: TenantDrift, map_id: str) -> None:
        store = self._with.store
        number, loaded = current(store)
        wanted = target(loaded, number, one.tenant, one.predictor)
        if wanted is None or wanted.policy == "off" or wanted.map_id != map_id:
            return  # changed since it was looked at
        known = find(store, one.tenant, one.predictor)
        made = propose(store, self._with.settings, wanted, one, known, datetime.now(UTC))
        made = self._keep(known, made) if known is None or _news(known, made) else known
        if wanted.policy != "apply" or made.state != "proposed" or made.reasons:
            return
        self._with.failpoint("refresh-proposed")
        check, failpoint = self._with.check, self._with.failpoint
        try:
            done = apply(store, self._with.address, made, by_itself=True, check=check, failpoint=failpoint)
        except ConfigError as error:
            found = find(store, one.tenant, one.predictor)
            if found is not None and found.state == "proposed":
                why = tuple(Reason(kind="refused", text=problem.message) for problem in error.problems)
                self._keep(found, found.but(reasons=why))
            raise
        self._applied += 1
        self._told(done)

    def _keep(self, before: RefreshRecord | None, after: RefreshRecord) -> RefreshRecord:
        if before is None or after != before:
            after = keep(self._with.store, before, after)
        self._told(after)
        return after

    def _told(self, one: RefreshRecord) -> None:
        key = one.tenant, one.predictor
        self._known[key] = one
        news = one.state, one.id, tuple(why.kind for why in one.reasons)
        if self._said.get(key) == news:
            return
        first, self._said[key] = key not in self._said, news
        if first and not one.open:
            return  # decided before this process came
        facts: dict[str, Any] = {"tenant": one.tenant, "predictor": one.predictor, "policy": one.policy, "id": one.id}
        if one.fitted is not None:
            facts |= {"events": one.fitted.events, "largest_move": round(one.fitted.largest_move, 4)}
        if one.decision is not None:
            facts |= {"by": one.decision.by, "message": one.decision.message, "generation": one.decision.generation}
        _say(self._with.log, one.state, **facts, reasons=[why.text for why in one.reasons])


def _say(log: Log, state: str, **facts: Any) -> None:
    match state:
        case "proposed":
            log.warning("refresh_proposed", **facts)
        case "waiting":
            log.warning("refresh_waiting", **facts)
        case "publishing":
            log.warning("refresh_publishing", **facts)
        case "applied":
            log.warning("refresh_applied", **facts)
        case "rejected":
            log.warning("refresh_rejected", **facts)
        case "withdrawn":
            log.warning("refresh_withdrawn", **facts)


def _news(known: RefreshRecord, made: RefreshRecord) -> bool:
    """Whether a proposal says something else than the one that is stored."""
    basis = [(one.state, one.policy, one.content, one.reference, one.present, one.step) for one in (known, made)]
    if basis[0] != basis[1] or [one.kind for one in known.reasons] != [one.kind for one in made.reasons]:
        return True
    if known.fitted is None or made.fitted is None:
        return known.reasons != made.reasons
    same_days = known.fitted.ends[:10] == made.fitted.ends[:10] and known.fitted.begins == made.fitted.begins
    return not same_days or made.fitted.events >= GROWN * known.fitted.events


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `drift` says without numbers that JSON does not have."""
    return {name: value for name, value in found.items() if value is not None}


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"
