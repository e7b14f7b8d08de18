"""Gradual promotion: a predictor takes over the events of its routes step by step, and goes back by itself.

    share 1 % -> hold -> guard -> share 10 % -> hold -> guard -> 100 % -> hold -> done
                  \\ an alert rate leaves its band, dead letters rise, latency doubles -> the generation before it began

Each step is a generation whose evidence holds the whole plan (`Plan`), so nothing is lost with the process: `resume`
goes on from the current generation, and `rollback` goes back to the one before the first step. A lease keeps a second
one out; who publishes something else meanwhile has ended it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from msgspec import structs

from muse_stream.calibration import AlertWatch, Verdict
from muse_stream.commands.check import check_source
from muse_stream.commands.configuration import generation_or_none
from muse_stream.commands.difference import answers_alike
from muse_stream.commands.evidence import Evidence, Window, promises
from muse_stream.commands.live_pairs import LivePairs, concerned
from muse_stream.commands.promote import Prepared, prepare
from muse_stream.commands.publish import proposal
from muse_stream.commands.step_health import BEFORE_MS, DeadLetters, Latency, Trouble
from muse_stream.config import KafkaSettings, Loaded, Replaced, load_document
from muse_stream.control import BACK, Conflict, Head, Held, Lease, Note, Store
from muse_stream.errors import ConfigError, MuseError, Problem, Retriable, StoreError
from muse_stream.kafka import bounds, reader

LEASE = "promotion"
LOOK_S = 5.0
"""Between two looks, or a tenth of the hold where that is shorter."""
AWAY_S = 60.0
"""How long a store or a Kafka that does not answer is waited for."""
FALSE_ALARM = 0.05
"""Probability that any alert rate is found out of its band by chance, over all tenants, thresholds and looks."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a gradual promotion is to do, and how far it has come; kept as evidence of each of its generations."""

    predictor: str
    steps: tuple[float, ...]
    hold_s: float
    began_from: int = 0
    """The generation before the first step: what it goes back to."""
    when: Mapping[str, Sequence[str]] | None = None
    tolerance: float = 0.2
    events: int = 200_000
    force: str = ""
    step: int = 0
    """Which step this generation is, from 0."""
    first: int = 0
    """Number of the first step's generation; 0 in that one itself."""
    began_ms: int = 0
    """When the first step was published, by the clock of who did."""
    since_ms: int = 0
    """From when on records are counted: some time before the last one that was there when the first step was published,
    since that clock may be fast."""
    replaced: tuple[Mapping[str, Any], ...] = ()

    @property
    def share(self) -> float:
        """The predictor's share of the events in this step."""
        return self.steps[self.step]

    @property
    def last(self) -> bool:
        """Whether this is the last step."""
        return self.step == len(self.steps) - 1

    def __str__(self) -> str:
        return f"{self.predictor} step {self.step + 1} of {len(self.steps)}, {percent(self.share)}"

    @classmethod
    def read(cls, evidence: Mapping[str, Any] | None) -> "Plan | None":
        """Return the plan that a generation's evidence holds, if it is a step."""
        kept = (evidence or {}).get("gradual")
        if not isinstance(kept, dict):
            return None
        try:
            return cls(**{**kept, "steps": tuple(kept["steps"]), "replaced": tuple(kept["replaced"])})
        except (TypeError, KeyError):
            raise StoreError("this generation is a step that another version of muse-stream made") from None

    def where(self) -> tuple[Replaced, ...]:
        """Return the routes that it takes over, as they were."""
        return tuple(Replaced(0, one["when"], one["live"], True) for one in self.replaced)


@dataclass(frozen=True, slots=True)
class Report:
    """What is going on, for whoever looks."""

    what: str
    """`step`, `look`, `waiting`, `back`, `done`"""
    text: str
    generation: int = 0
    share: float = 0.0
    left_s: float = 0.0
    numbers: Mapping[str, Any] = field(default_factory=dict)


Tell = Callable[[Report], None]


class Ended(MuseError):
    """A gradual promotion came to an end that was not wanted."""


def percent(share: float) -> str:
    """Return a share for people."""
    return f"{100 * share:g} %"


def unfinished(store: Store) -> tuple[int, Plan] | None:
    """Return the current generation and its plan, where that is a step and not the last one."""
    head = store.head()
    if head is None:
        return None
    plan = Plan.read(store.manifest(head.number).evidence)
    return (head.number, plan) if plan is not None and not plan.last else None


def begin(
    store: Store,
    address: str,
    settings: KafkaSettings,
    plan: Plan,
    agreed: Callable[[Prepared, Sequence[Evidence], Sequence[Problem]], bool],
    tell: Tell,
    message: str = "",
) -> bool:
    """Walk through all steps. False when `agreed` says no: it sees changes, evidence, and what speaks against it.

    Raises Held when another one is under way, ConfigError for a plan that does not fit, Ended when it went back or was
    stopped, the errors of store and Kafka. Whatever ends it, the store says how far it came.
    """
    with Lease(store, LEASE, f"promote {plan.predictor} --steps") as lease:
        if (found := unfinished(store)) is not None:
            raise ConfigError([_under_way(*found)])
        walk = _Walk(store, address, settings, lease, tell, message)
        prepared = prepare(plan.predictor, plan.when, store=address, share=plan.steps[0])
        if prepared is None:
            raise ConfigError([Problem("--steps", f"{plan.predictor} is live there already", "nothing is to be done")])
        with closing(prepared):
            evidence = prepared.evidence(settings, Window(plan.events))
            _look_once(prepared, settings)
            against = prepared.refused(evidence, plan.tolerance)
            if not agreed(prepared, evidence, against):
                return False
            assert prepared.number is not None  # noqa: S101  # it starts from a store
            began_ms = time.time_ns() // 1_000_000
            since_ms = min(max([one.latest_ms for one in evidence], default=0) or began_ms, began_ms) - BEFORE_MS
            plan = replace(plan, replaced=tuple(prepared.where()), began_from=prepared.number, began_ms=began_ms,
                           since_ms=since_ms)  # fmt: skip
            number = walk.publish(prepared, plan, evidence, against)
        walk.go_on(number, plan)
    return True


def _look_once(prepared: Prepared, settings: KafkaSettings) -> None:
    """Ask the topics that tell whether a step goes wrong: that they cannot be read is to be known before the first."""
    document = prepared.base.document
    topics = [document.tenant_topics(name) for name in concerned(document, prepared.promotion.replaced)]
    with closing(reader(settings)) as client:
        for topic in dict.fromkeys(name for one in topics for name in (one.scores, one.dlq)):
            bounds(client, topic)


def resume(store: Store, address: str, settings: KafkaSettings, tell: Tell, message: str = "") -> None:
    """Go on with the step that is current; see `begin`."""
    with Lease(store, LEASE, "promote --resume") as lease:
        head = store.head()
        plan = None if head is None else Plan.read(store.manifest(head.number).evidence)
        if head is None or plan is None:
            raise ConfigError([_nothing(store, head)])
        _Walk(store, address, settings, lease, tell, message).go_on(head.number, plan)


class _Walk:
    """One process that walks through the steps, from wherever it is."""

    def __init__(
        self, store: Store, address: str, settings: KafkaSettings, lease: Lease, tell: Tell, message: str
    ) -> None:
        self._store, self._address, self._settings, self._lease = store, address, settings, lease
        self._tell, self._message = tell, message

    def publish(self, prepared: Prepared, plan: Plan, evidence: Sequence[Evidence], against: Sequence[Problem]) -> int:
        """Make a step the current generation."""
        self._lease.check()
        kept = {
            "promoted": plan.predictor,
            "gradual": asdict(plan),
            BACK: plan.began_from,
            "tolerance": plan.tolerance,
            "evidence": [asdict(one) for one in evidence],
            "against": [one.message for one in against],
            **({"force": plan.force} if plan.force else {}),
        }
        note = Note(self._message or f"promote {plan}", evidence=kept)
        number = prepared.publish(note).number
        self._tell(Report("step", f"generation {number}: {plan}", number, plan.share, plan.hold_s))
        return number

    def go_on(self, number: int, plan: Plan) -> None:
        """Hold the step that is current, then the next, until the last."""
        while True:
            first = plan.first or number
            self._hold(number, plan, first)
            if plan.last:
                break
            plan = replace(plan, step=plan.step + 1, first=first)
            number = self._step(number, plan)
        self._tell(Report("done", f"{plan.predictor} answers all events; generation {number}", number, plan.share))

    def _step(self, number: int, plan: Plan) -> int:
        prepared = self._patiently(
            lambda: prepare(plan.predictor, plan.when, store=self._address, share=plan.share), number, plan
        )
        if prepared is None:
            raise Ended(f"{plan.predictor} is live there already")
        with closing(prepared):
            if prepared.number != number:
                raise self._stopped(number)
            evidence = self._patiently(lambda: prepared.evidence(self._settings, Window(plan.events)), number, plan)
            against = prepared.refused(evidence, plan.tolerance)
            if against and not plan.force:
                told = "; ".join(one.message for one in against)
                raise Ended(
                    f"stopped before {percent(plan.share)}: {told}. Generation {number} goes on; `muse-stream promote "
                    "--resume` asks again, `muse-stream rollback` goes back"
                )
            return self._carried_out(
                lambda: self.publish(prepared, plan, evidence, against),
                lambda found: Plan.read(found) == Plan.read({"gradual": asdict(plan)}),
                number,
                plan,
            )

    def _carried_out(
        self, publish: Callable[[], int], mine: Callable[[Mapping[str, Any]], bool], number: int, plan: Plan
    ) -> int:
        """Publish after `number`, and return the new number; where an answer was lost, what was published is found."""

        def once() -> int:
            head = self._store.head()
            if head is not None and head.number != number and mine(self._store.manifest(head.number).evidence or {}):
                return head.number
            return publish()

        found: int = self._patiently(once, number, plan)
        return found

    def _hold(self, number: int, plan: Plan, first: int) -> None:
        """Look until the hold is over. Raises Ended when it went back."""
        end = time.monotonic() + plan.hold_s
        pause = min(LOOK_S, plan.hold_s / 10)
        loaded = self._patiently(lambda: load_document(self._store.open(number).path), number, plan)
        with closing(_Signs(self._store, self._settings, loaded, plan, number, first)) as signs:
            while True:
                found = self._patiently(lambda: self._look(signs, number), number, plan)
                left = end - time.monotonic()
                if found:
                    self._back(number, plan, found)
                self._tell(Report("look", signs.told(), number, plan.share, max(left, 0.0), signs.numbers()))
                if left <= 0:
                    return
                time.sleep(min(pause, left))

    def _look(self, signs: "_Signs", number: int) -> list[Trouble]:
        self._lease.check()
        if self._store.current() != number:
            raise self._stopped(number)
        return signs.look()

    def _patiently(self, call: Callable[[], Any], number: int, plan: Plan) -> Any:
        """Call until store and Kafka answer; after a while say what is left to do."""
        until = time.monotonic() + AWAY_S
        while True:
            try:
                return call()
            except Conflict as error:
                raise Ended(f"stopped: {error}") from None
            except (StoreError, Retriable) as error:
                if isinstance(error, Held) or time.monotonic() > until:
                    hint = f"generation {number} ({plan}) goes on; `muse-stream promote --resume` or `rollback`"
                    raise Ended(f"{error}; {hint}") from error
                self._tell(Report("waiting", str(error), number, plan.share))
                time.sleep(1.0)

    def _stopped(self, number: int) -> Ended:
        head = self._store.head()
        if head is None:
            return Ended(f"stopped: nothing is current, generation {number} was")
        by = f" by {head.author}" if head.author else ""
        why = f' ("{head.message}")' if head.message else ""
        return Ended(f"stopped: generation {head.number}{by}{why} is current, not {number}; nothing was changed")

    def _back(self, number: int, plan: Plan, found: Sequence[Trouble]) -> None:
        """Publish what was current before the first step, with the reason, and raise Ended."""
        why = "; ".join(one.message for one in found)
        kept = {
            "rolled_back": plan.predictor,
            "by": "promote --steps",
            "from": number,
            "restores": plan.began_from,
            "reasons": [asdict(one) for one in found],
        }
        note = Note(f"back from {plan.predictor} at {percent(plan.share)}: {why}"[:1000], evidence=kept)

        def publish() -> int:
            self._lease.check()
            if self._store.current() != number:
                raise self._stopped(number)
            before = load_document(self._store.open(plan.began_from).path)
            return proposal(check_source(before.source, before.root), self._store, number).publish(note).number

        def mine(found: Mapping[str, Any]) -> bool:
            return (found.get("by"), found.get("from")) == (kept["by"], number)

        now = self._carried_out(publish, mine, number, plan)
        self._tell(Report("back", why, now, 0.0, 0.0, {"reasons": [asdict(one) for one in found]}))
        raise Ended(f"went back to generation {plan.began_from}, as generation {now}: {why}")


class _Signs:
    """What tells that a step goes wrong."""

    def __init__(
        self, store: Store, settings: KafkaSettings, loaded: Loaded, plan: Plan, number: int, first: int
    ) -> None:
        document, where = loaded.document, plan.where()
        self._plan, self._first = plan, first
        old = {name for one in where for name in one.live}

        def alike(other: int) -> bool:
            then = generation_or_none(store, other)
            return then is not None and answers_alike(loaded, then, {*old, plan.predictor}, document.tenants)

        self._pairs = LivePairs(document, settings, plan.predictor, where, plan.since_ms, alike)
        tenants = self._pairs.tenants
        self._letters = DeadLetters(document, settings, tenants, plan.since_ms, plan.began_ms)
        self._latency = Latency(document, settings, tenants, plan.began_ms)
        promised = promises(document, plan.predictor, where)
        self._rates = {
            name: AlertWatch(promised, plan.tolerance, FALSE_ALARM / max(len(tenants), 1)) for name in tenants
        }
        self._before, self._after = Counter[str](), Counter[str]()
        self._verdicts: dict[str, list[Verdict]] = {}

    def close(self) -> None:
        """Let go of all connections."""
        for one in (self._pairs, self._letters, self._latency):
            one.close()

    def look(self) -> list[Trouble]:
        """Read what is new; return what speaks for going back."""
        for tenant, scored in self._pairs.read().items():
            since = scored.generation >= self._first
            self._after[tenant] += int(since.sum())
            self._before[tenant] += int((~since).sum())
            sound = scored.where(since).sound()
            self._rates[tenant].add(sound.new, sound.old, sound.entities)
            self._verdicts[tenant] = self._rates[tenant].verdicts()
        self._letters.read(self._first)
        self._latency.read(self._first)
        return [*self._moved(), *self._letters.troubles(self._after, self._before), *self._latency.troubles()]

    def _moved(self) -> Iterator[Trouble]:
        for tenant, verdicts in self._verdicts.items():
            yield from (alert_rate(tenant, one) for one in verdicts if one.moved)

    def told(self) -> str:
        """Return what was seen, for a line."""
        latency = "" if self._latency.after is None else f", {self._latency.after:,.0f} ms"
        letters = self._letters.after.total()
        return f"{self._after.total():,} events of {len(self._rates)} tenants, {letters:,} dead letters{latency}"

    def numbers(self) -> dict[str, Any]:
        """Return the same for machines."""
        return {
            "events": dict(self._after),
            "dead_letters": dict(self._letters.after),
            "latency_ms": self._latency.after,
            "latency_before_ms": self._latency.before,
        }


def alert_rate(tenant: str, found: Verdict) -> Trouble:
    """Return that an alert rate has left its band."""
    message = (
        f"tenant {tenant}, threshold {found.threshold:g}: alert rate {100 * found.new:.3g} %, promised "
        f"{100 * found.promised:.3g} %; the predictor before would give {100 * found.old:.3g} % "
        f"(difference known to {100 * found.margin:.2g} points, on {found.events:,} events)"
    )
    return Trouble("alert rate", tenant, message, structs.asdict(found))


def _under_way(number: int, plan: Plan) -> Problem:
    message = f"a gradual promotion is not finished: generation {number} is {plan}"
    return Problem("--steps", message, "go on with `promote --resume`, or go back with `rollback`")


def _nothing(store: Store, head: Head | None) -> Problem:
    if head is None:
        return Problem("--resume", f"{store} holds no generation", "publish one first")
    for number in head.former or ():
        try:
            plan = Plan.read(store.manifest(number).evidence)
        except StoreError:
            continue
        if plan is not None:
            by = f" by {head.author}" if head.author else ""
            message = f"generation {head.number}{by} was published after {plan} (generation {number}): that has ended"
            return Problem("--resume", message, "begin again with `promote PREDICTOR --steps`")
    return Problem(
        "--resume", f"generation {head.number} is no step of a gradual promotion", "nothing is to be resumed"
    )
