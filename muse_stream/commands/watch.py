"""Watch what was promoted: does every alert rate stay where it was promised, now that the predictor answers?

    generations whose evidence names a promotion -> audit records since -> verdicts -> log, metrics, store, rollback

The predictor that was replaced goes on as a shadow, so each event tells both rates. What is decided, and how often it
is wrong, stands in docs/promotion.md and `calibration/alert_watch.py`. Nothing is remembered in the process: another
one that takes the lease over reads the same records again.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import groupby, product
from typing import Any, Literal

from msgspec import structs

from muse_stream.calibration import AlertWatch, Verdict
from muse_stream.commands.check import check_source
from muse_stream.commands.configuration import generation_or_none
from muse_stream.commands.difference import answers_alike
from muse_stream.commands.evidence import promises
from muse_stream.commands.gradual import FALSE_ALARM, LEASE, alert_rate
from muse_stream.commands.live_pairs import LivePairs, concerned
from muse_stream.commands.publish import proposal
from muse_stream.commands.verdicts import TenantVerdict, Watched
from muse_stream.config import Document, KafkaSettings, Loaded, Replaced, load_document, parse, promote
from muse_stream.control import Conflict, Held, Lease, Note, Store
from muse_stream.errors import ConfigError, Retriable, StoreError
from muse_stream.telemetry import Log

WATCH_LEASE = "watch"
CLOCKS_MS = 2 * 3_600_000
"""By so much the clock of who promoted may be ahead of those of the workers."""
VERDICTS_S = 60.0
"""How long a verdict is good for; three looks where they are further apart."""

Policy = Literal["alert", "rollback"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is watched, and what is done."""

    policy: Policy = "alert"
    policies: Mapping[str, Policy] = field(default_factory=dict)
    """Tenant -> another policy."""
    tolerance: float = 0.2
    """Share of a promised alert rate by which it may move."""
    within_s: float = 7 * 86_400.0
    """How long after a promotion."""
    look_s: float = 5.0

    def of(self, tenant: str) -> Policy:
        """Return what is done for a tenant."""
        return self.policies.get(tenant, self.policy)


@dataclass(frozen=True, slots=True)
class Promoted:
    """A promotion that is watched."""

    generation: int
    predictor: str
    replaced: tuple[Replaced, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one tenant's threshold."""

    promoted: Promoted
    tenant: str
    verdict: Verdict

    @property
    def state(self) -> str:
        """`moved`: the predictor did it; `stream`: the stream did; `kept`."""
        return "moved" if self.verdict.moved else "stream" if self.verdict.stream else "kept"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at everything."""

    seen: tuple[Seen, ...]
    rolled_back: tuple[int, ...] = ()
    """Generations that were made."""


def promotions(store: Store, within_s: float) -> list[Promoted]:
    """Return the recent promotions that are part of what is current, oldest first."""
    head = store.head()
    if head is None:
        return []
    line = {head.number, *(head.former or ())}
    found: list[Promoted] = []
    for entry in store.list():
        if entry.number in line and entry.created is not None and entry.evidence and "promoted" in entry.evidence:
            with suppress(KeyError, TypeError, ValueError, AttributeError):  # another version's evidence
                where = _where(entry.evidence)
                found.append(Promoted(entry.number, str(entry.evidence["promoted"]), where, entry.created))
    age = datetime.now(UTC).timestamp() - within_s
    recent = [one for one in found if one.replaced and one.at.timestamp() >= age]
    # of the steps of one gradual promotion, the first: events count since then
    groups = groupby(recent, key=lambda one: (one.predictor, [(one.when, set(one.live)) for one in one.replaced]))
    return [next(group) for _, group in groups]


def _where(evidence: Mapping[str, Any]) -> tuple[Replaced, ...]:
    kept = (evidence.get("gradual") or {}).get("replaced") or evidence.get("replaced") or ()
    return tuple(Replaced(0, {name: tuple(v) for name, v in one["when"].items()}, one["live"], True) for one in kept)


def still_live(document: Document, promoted: Promoted) -> list[str]:
    """Return the tenants that the promoted predictor answers where it was promoted, with the old one as a shadow."""

    def answers(intent: Mapping[str, str]) -> bool:
        for route in document.routes:
            if all(intent.get(name) in values for name, values in route.when.items()):
                beside = {one.predictor for one in route.shadow} | set(route.live_shares)
                return promoted.predictor in route.live_shares and any(
                    old in beside for rule in promoted.replaced for old in rule.live
                )
        return False

    return [
        tenant
        for tenant in concerned(document, promoted.replaced)
        if any(
            answers({**dict(zip(rule.when, values, strict=True)), "tenant": tenant})
            for rule in promoted.replaced
            if tenant in rule.when.get("tenant", (tenant,))
            for values in product(*rule.when.values())
        )
    ]


class Watch:
    """Looks again and again, while it has the lease; `look` is one look."""

    def __init__(self, store: Store, settings: KafkaSettings, rules: Rules, log: Log, lease: Lease) -> None:
        self._store, self._settings, self._rules, self._log, self._lease = store, settings, rules, log, lease
        self._current: int | None = None
        self._watched: dict[int, _Rates] = {}
        self._said: dict[tuple[int, str, float], str] = {}

    def close(self) -> None:
        """Let go of all connections."""
        for one in self._watched.values():
            one.close()

    def look(self) -> Look:
        """Read what is new, tell, and act. Raises Held when another one watches, and the errors of store and Kafka."""
        self._lease.check()
        self._follow()
        seen = [one for watched in self._watched.values() for one in watched.look()]
        for one in seen:
            self._tell(one)
        made = list(self._act([one for one in seen if one.verdict.moved]))
        self._keep(seen, made)
        return Look(tuple(seen), tuple(made))

    def _follow(self) -> None:
        """Take up what was promoted since, and drop what is no longer watched."""
        number = self._store.current()
        if number is None:
            return
        wanted = {one.generation: one for one in promotions(self._store, self._rules.within_s)}
        if number != self._current:
            loaded = load_document(self._store.open(number).path)
            for watched in self._watched.values():
                watched.close()
            known: dict[int, _Rates] = {}
            for generation, one in wanted.items():
                tenants = still_live(loaded.document, one)
                if not tenants:
                    continue
                known[generation] = _Rates(one, tenants, self._store, self._settings, loaded, self._rules)
                if generation not in self._watched:
                    self._log.info("promotion_watched", generation=generation, predictor=one.predictor)
            self._watched, self._current = known, number
        for generation in self._watched.keys() - wanted.keys():  # its time is over
            self._watched.pop(generation).close()

    def _tell(self, one: Seen) -> None:
        key = one.promoted.generation, one.tenant, one.verdict.threshold
        if self._said.get(key, "kept") == one.state:
            return
        self._said[key] = one.state
        facts = {"tenant": one.tenant, "predictor": one.promoted.predictor, "generation": one.promoted.generation}
        numbers = _numbers(one.verdict)
        if one.state == "kept":
            self._log.info("alert_rate_back", **facts, **numbers)
            return
        if one.verdict.moved:
            self._log.warning("alert_rate_moved", policy=self._rules.of(one.tenant), **facts, **numbers)
        else:
            self._log.warning("alert_rate_moved_by_stream", policy=self._rules.of(one.tenant), **facts, **numbers)

    def _act(self, moved: Sequence[Seen]) -> Iterator[int]:
        """Take back what has moved a tenant's rate, where that is the policy; yield the generations that are made."""
        by_promotion: dict[int, list[Seen]] = {}
        for one in moved:
            if self._rules.of(one.tenant) == "rollback":
                by_promotion.setdefault(one.promoted.generation, []).append(one)
        for found in by_promotion.values():
            try:
                number = self._back(found)
            except Conflict as error:
                self._log.warning("rollback_overtaken", error=str(error))  # the next look sees what is current now
                return
            if number is not None:
                yield number

    def _back(self, found: Sequence[Seen]) -> int | None:
        promoted = found[0].promoted
        tenants = list(dict.fromkeys(one.tenant for one in found))
        if self._store.head() is not None and self._store.ephemeral(LEASE) is not None:
            return None  # `promote --steps` is at it, and goes back by itself
        before = self._store.current()
        assert before is not None  # noqa: S101  # something is promoted
        loaded = load_document(self._store.open(before).path)
        text = loaded.source.data.decode()
        changed = text
        for rule in promoted.replaced:
            own = [name for name in tenants if name in rule.when.get("tenant", (name,))]
            for old in rule.live if own else ():
                changed = promote(changed, old, {**rule.when, "tenant": own}, replacing=promoted.predictor).text
        if changed == text:
            return None  # somebody has done so already
        reasons = [asdict(alert_rate(one.tenant, one.verdict)) for one in found]
        kept = {
            "rolled_back": promoted.predictor,
            "by": "watch",
            "from": promoted.generation,
            "tenants": tenants,
            "reasons": reasons,
        }
        message = f"back from {promoted.predictor}: " + "; ".join(str(one["message"]) for one in reasons)
        checked = check_source(parse(loaded.source.path, changed.encode()), loaded.root)
        proposed = proposal(checked, self._store, before)
        self._lease.check()
        number = proposed.publish(Note(message[:1000], evidence=kept)).number
        self._log.warning("promotion_rolled_back", generation=number, predictor=promoted.predictor, tenants=tenants,
                          reasons=[one["message"] for one in reasons])  # fmt: skip
        return number

    def _keep(self, seen: Sequence[Seen], made: Sequence[int]) -> None:
        """Put the last verdicts into the store: of each route and tenant the threshold that speaks loudest."""
        rows: dict[tuple[int, str], Seen] = {}
        for one in seen:
            key = one.promoted.generation, one.tenant
            if key not in rows or _loud(one) > _loud(rows[key]):
                rows[key] = one
        verdicts = tuple(
            TenantVerdict(
                *(one.promoted.generation, one.promoted.predictor, one.tenant, one.state, self._rules.of(one.tenant)),
                **_numbers(one.verdict),
            )
            for one in rows.values()
        )
        found = Watched(datetime.now(UTC).isoformat(timespec="seconds"), self._rules.policy, tuple(made), verdicts)
        found.keep(self._store, max(VERDICTS_S, 3 * self._rules.look_s))


def _numbers(verdict: Verdict) -> dict[str, Any]:
    return {name: value for name, value in structs.asdict(verdict).items() if name not in ("moved", "stream")}


def _loud(one: Seen) -> tuple[bool, bool, float]:
    found = one.verdict
    return found.moved, found.stream, abs(found.new - found.old) / max(found.margin, 1e-12)


class _Rates:
    """One promotion: its tenants' rates since it was made."""

    def __init__(
        self,
        promoted: Promoted,
        tenants: Sequence[str],
        store: Store,
        settings: KafkaSettings,
        loaded: Loaded,
        rules: Rules,
    ) -> None:
        self._promoted = promoted
        document, where = loaded.document, promoted.replaced
        predictors = {promoted.predictor, *(name for one in where for name in one.live)}
        promised = promises(document, promoted.predictor, where)

        def alike(number: int) -> bool:
            if number < promoted.generation:
                return False
            then = generation_or_none(store, number)
            return then is not None and answers_alike(loaded, then, predictors, document.tenants)

        since = int(promoted.at.timestamp() * 1000) - CLOCKS_MS  # its generation says what counts
        self._pairs = LivePairs(document, settings, promoted.predictor, where, since, alike)
        self._rates = {
            name: AlertWatch(promised, rules.tolerance, FALSE_ALARM / max(len(tenants), 1)) for name in tenants
        }
        self._seen: dict[str, list[Verdict]] = {}

    def close(self) -> None:
        """Let go of the connection."""
        self._pairs.close()

    def look(self) -> list[Seen]:
        """Read what is new, and say what is known."""
        for tenant, scored in self._pairs.read().items():
            if tenant not in self._rates:
                continue
            sound = scored.sound()
            self._rates[tenant].add(sound.new, sound.old, sound.entities)
            self._seen[tenant] = self._rates[tenant].verdicts()
        return [Seen(self._promoted, tenant, one) for tenant, found in self._seen.items() for one in found]


def watch(
    store: Store,
    settings: KafkaSettings,
    rules: Rules,
    log: Log,
    told: Callable[[Look], None],
    ended: Callable[[float], bool],
) -> None:
    """Look every `look_s` until `ended` says so (it waits that long); stand by while another process has the lease."""
    standing_by = False
    while True:
        try:
            with Lease(store, WATCH_LEASE, "watch") as lease:
                log.info("watching", store=str(store), policy=rules.policy)
                standing_by = False
                if _looking(Watch(store, settings, rules, log, lease), rules, log, told, ended):
                    return
        except Held as held:
            if not standing_by:
                log.info("standing_by", error=str(held))
            standing_by = True
        except StoreError as error:
            log.warning("watch_waits", error=str(error))
        if ended(rules.look_s):
            return


def _looking(
    watching: Watch, rules: Rules, log: Log, told: Callable[[Look], None], ended: Callable[[float], bool]
) -> bool:
    """Look until it is over (True); an error of store or Kafka is waited for. Raises Held."""
    waits = ""
    try:
        while True:
            started = time.monotonic()
            try:
                told(watching.look())
                waits = ""
            except Held:
                raise
            except (StoreError, ConfigError, Retriable) as error:  # somebody else's next generation may be sound
                if str(error) != waits:
                    log.warning("watch_waits", error=str(error))
                waits = str(error)
            if ended(max(0.0, rules.look_s - (time.monotonic() - started))):
                return True
    finally:
        watching.close()
