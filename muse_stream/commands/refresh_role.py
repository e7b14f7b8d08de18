"""What the role `calibrate` does about drift: propose a map, and apply it where that is the tenant's policy."""

from collections.abc import Container, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from muse_stream.commands import refresh_incidents
from muse_stream.commands.refresh_decision import apply
from muse_stream.commands.refresh_outcome import reconcile
from muse_stream.commands.refresh_proposal import propose
from muse_stream.commands.refresh_record import PREFIX, Overtaken, Reason, RefreshRecord, find, keep, text_of
from muse_stream.commands.refresh_target import current, target
from muse_stream.config import Loaded
from muse_stream.control import Conflict, Held, author
from muse_stream.errors import ConfigError, MuseError
from muse_stream.runtime.drift_looks import TenantDrift
from muse_stream.runtime.refreshing import Refresher, RefreshState, RefreshWith
from muse_stream.telemetry import Log

GROWN: Final = 1.25
"""A proposal is made anew when its window has so many times the events."""


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
        head = store.head()
        if one is None or one.tenant not in mine or head is None or head.number != number:
            return  # another generation became current meanwhile: the next look
        after = reconcile(store, one, target(loaded, number, one.tenant, one.predictor), head, now)
        if after.open and loaded.document.tenants[one.tenant].refresh == "off":
            after = after.decided("withdrawn", text_of(now), author(), "the tenant's policy is off")
        if after.open and (one.tenant, one.predictor) not in drifted:
            after = after.decided("withdrawn", text_of(now), author(), "the scores have not drifted any more")
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
