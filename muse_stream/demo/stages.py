"""The story: four generations under a stream that never stops.

A scenario, and the machinery around it (store, workers, producers, follower), give the maps that were fitted and when
the promotion was published. This is what an operator does by hand with `muse-stream publish` and `promote`, and nothing
else: no worker is told anything, no producer is stopped. Each wait ends when the topics show what is waited for, or
with an error when nothing moves.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

from muse_stream.calibration import FittedMap, Floats
from muse_stream.commands import publish
from muse_stream.commands.evidence import Evidence, Window
from muse_stream.commands.promote import Prepared, prepare
from muse_stream.config import KafkaSettings
from muse_stream.control import Note, Store
from muse_stream.demo import configuration, periods
from muse_stream.demo.configuration import Tree
from muse_stream.demo.feed import Feed
from muse_stream.demo.follow import Follower
from muse_stream.demo.guarded import REASON, TOLERANCE, Guarded
from muse_stream.demo.periods import CALIBRATED, FIRST, PROMOTED, SHADOWED
from muse_stream.demo.scenario import BARE_NEW, BARE_OLD, NEW, OLD, Scenario
from muse_stream.demo.screen import Look, Screen
from muse_stream.demo.workers import Crews
from muse_stream.errors import MuseError, Problem

LOOK_S = 0.1
STALL_S = 60.0
"""Nothing new for so long is a failure; the slowest legitimate thing is a start on a busy machine."""
COMMAND = f"muse-stream promote {NEW} --tolerance {TOLERANCE:g}"
GLANCE, ENOUGH = 1_000, 5_000
"""Events of each tenant that the guard looks at, without maps and with them: it reads while the stream goes on."""
SAID = 3
"""Most lines of what speaks against a promotion."""


@dataclass(frozen=True, slots=True)
class Machinery:
    """What runs while the story is told."""

    store: Store
    address: str
    """Of the store."""
    crews: Crews
    follower: Follower
    feed: Feed
    settings: KafkaSettings


@dataclass(frozen=True, slots=True)
class Toured:
    """What the story leaves behind."""

    old: Mapping[str, FittedMap]
    new: Mapping[str, FittedMap]
    """Tenant -> the maps of generation 3, fitted to the same events."""
    published_ms: Mapping[int, int]
    """Generation -> the wall clock when it became current."""
    guarded: Guarded


class Tour:
    """Publishes the generations of a scenario one by one; use once."""

    def __init__(self, scenario: Scenario, machinery: Machinery, screen: Screen, first: Tree) -> None:
        """`first` is generation 1, which is current already."""
        self._scenario, self._machinery, self._screen = scenario, machinery, screen
        self._tree = first
        self._ledger = machinery.follower.ledger
        self._counts = self._ledger.counts
        self._published: dict[int, int] = {}
        self._rate, self._stall = _Rate(), _Stall()

    def run(self) -> Toured:
        """Tell the whole story; returns when every event that was sent has its answers."""
        plan = self._scenario.plan
        with self._screen.live():
            self._say(
                FIRST,
                "serve",
                "the old models answer; every tenant is promised the same alert rates, by a map of its own",
            )
            self._until(lambda: min(self._counts.scores, self._counts.audits), 1)
            self._machinery.feed.go()
            self._until(lambda: self._scored(FIRST), plan.first)
            self._publish(
                configuration.shadowed(self._tree),
                "shadow",
                "the retrained models score the same events; only the audit topics know",
            )
            self._until(lambda: self._audited(SHADOWED, NEW, BARE_OLD), plan.audited)
            refused = self._refused()
            old, new = self._fit()
            self._publish(
                configuration.calibrated(self._tree, self._scenario.folder, old, new),
                "calibrate",
                f"both get new maps, fitted to the same {sum(map(_samples, new.values())):,} audit records",
            )
            # the guard compares what both have said: the shadow workers may swap later than the live ones
            self._until(lambda: min(self._scored(CALIBRATED), self._audited(CALIBRATED, NEW)), plan.before)
            evidence, against = self._promote()
            if plan.after is not None:
                complete = lambda: min(self._scored(PROMOTED), self._audited(PROMOTED, OLD, BARE_NEW))  # noqa: E731
                self._until(complete, plan.after, or_end=True)
                self._machinery.feed.stop()
            self._until_ended()
        return Toured(old, new, self._published, Guarded(refused, evidence, against))

    def _publish(self, tree: Tree, name: str, text: str) -> None:
        store, folder = self._machinery.store, self._scenario.folder
        before = store.current()
        number = (before or 0) + 1
        path = configuration.write(tree, folder / f"generation-{number}.yaml")
        number = publish.publish(path, self._machinery.address, activate=False).number
        self._published[number] = time.time_ns() // 1_000_000
        store.move_current(before, number)
        self._tree = tree
        self._say(number, name, text)

    def _refused(self) -> list[Problem]:
        """Try to promote the retrained predictor without maps of its own, and say why that is refused."""
        with self._prepared() as prepared:
            against = prepared.refused(self._evidence(prepared, GLANCE), TOLERANCE)
        if not against:
            raise MuseError(f"`promote {NEW}` was not refused, though {NEW} has no quantile maps yet")
        self._screen.line(f"{COMMAND}: refused, and nothing is changed. Without maps of their own:", style="bold")
        self._object(against)
        return against

    def _promote(self) -> tuple[Sequence[Evidence], list[Problem]]:
        """Make the retrained predictor live, as `muse-stream promote` does."""
        with self._prepared() as prepared:
            found = self._evidence(prepared, ENOUGH)
            against = prepared.refused(found, TOLERANCE)
            kept = {"promoted": NEW, "replaced": prepared.where(), "evidence": [asdict(one) for one in found]}
            if against:
                kept |= {"force": REASON, "against": [one.message for one in against]}
            self._published[PROMOTED] = time.time_ns() // 1_000_000
            number = prepared.publish(Note(f"promote {NEW}", evidence=kept)).number
        self._say(number, "promote", "the retrained models answer: one change of the routes, and nobody is told")
        compared = f"{sum(one.events for one in found):,} events that both scored"
        if against:
            self._screen.line(f'{COMMAND} --force "{REASON}"; on {compared}:', style="bold")
            self._object(against)
        else:
            most = max((abs(at.change) / at.promised for one in found for at in one.comparisons), default=0.0)
            self._screen.line(f"{COMMAND}: agreed, on {compared}:", style="bold")
            self._screen.line(f"  no alert rate would move by more than {100 * most:.0f} % of what was promised")
        return found, against

    def _prepared(self) -> "closing[Prepared]":
        prepared = prepare(NEW, store=self._machinery.address)
        if prepared is None:
            raise MuseError(f"{NEW} is live already")
        return closing(prepared)

    def _evidence(self, prepared: Prepared, events: int) -> tuple[Evidence, ...]:
        self._screen.reading("reading what both predictors said of the same events", 0.0)
        return prepared.evidence(self._machinery.settings, Window(events))

    def _object(self, against: Sequence[Problem]) -> None:
        """Show what speaks against a promotion: first what would happen at the thresholds that tenants use."""
        used = [f"tenant {name}, threshold {at:g}:" for name, at in self._scenario.thresholds.items()]
        against = sorted(against, key=lambda one: not one.message.startswith(tuple(used)))
        for one in against[:SAID]:
            self._screen.line(f"  {one.message}", style="yellow")
        if len(against) > SAID:
            self._screen.line(f"  and {len(against) - SAID} more", style="yellow")

    def _say(self, number: int, name: str, text: str) -> None:
        self._screen.step(number, name, text)

    def _fit(self) -> tuple[dict[str, FittedMap], dict[str, FittedMap]]:
        answers = self._ledger.shadow(NEW)
        old: dict[str, Floats] = {}
        new: dict[str, Floats] = {}
        for tenant in self._scenario.events.tenants:
            rows = periods.calibration(self._ledger, self._scenario.events, tenant)
            if not len(rows):
                raise MuseError(f"{tenant} had no events while the new model shadowed: nothing to fit its map to")
            old[tenant], new[tenant] = answers.live_aggregate[rows], answers.aggregate[rows]
        folder = self._scenario.folder
        return configuration.fitted(self._tree, folder, OLD, old), configuration.fitted(self._tree, folder, NEW, new)

    def _scored(self, generation: int) -> int:
        """Live scores of a generation, or of all so far, as the plan counts."""
        if self._scenario.plan.from_start:
            return self._counts.scores
        return self._counts.live.get(generation, 0)

    def _audited(self, generation: int, *predictors: str) -> int:
        """Events that all of these predictors shadowed in a generation; or all that were audited so far."""
        if self._scenario.plan.from_start:
            return self._everything_audited()
        return min(self._counts.audit.get((generation, name), 0) for name in predictors)

    def _everything_audited(self) -> int:
        # every generation has exactly one of the two bare predictors as a shadow, so each event has one such record
        return sum(count for (_, name), count in list(self._counts.audit.items()) if name in (BARE_OLD, BARE_NEW))

    def _answered(self) -> int:
        """Events with a live answer and their audit record, or a dead letter."""
        return min(self._counts.scores, self._everything_audited()) + self._counts.dead_letters

    def _ended(self) -> bool:
        """Whether the stream is over and everything that was sent has its answers."""
        feed = self._machinery.feed
        return feed.done and self._answered() >= feed.sent

    def _until(self, done: Callable[[], int], total: int, *, or_end: bool = False) -> None:
        """Wait until `done` reaches `total`; with `or_end`, the end of the stream will do."""
        while (now := done()) < total:
            if self._ended():
                if or_end:
                    return
                raise MuseError(f"the stream ended after {now:,} of {total:,} events of this step: it is too short")
            self._wait(now / total)

    def _until_ended(self) -> None:
        while not self._ended():
            self._wait(self._answered() / max(self._machinery.feed.sent, 1))

    def _wait(self, share: float) -> None:
        """Look at everything once; raises MuseError when a part has failed, or nothing has moved for long."""
        machinery = self._machinery
        for part in (machinery.crews, machinery.follower, machinery.feed):
            part.check()
        if self._stall.over(self._counts.scores, self._counts.audits, machinery.feed.sent):
            raise MuseError(self._stalled())
        self._screen.look(self._look(share))
        time.sleep(LOOK_S)

    def _look(self, share: float) -> Look:
        scored = self._counts.scores
        return Look(
            self._machinery.feed.sent,
            scored,
            self._rate.of(scored),
            self._counts.dead_letters,
            max(list(self._counts.live), default=0),
            share,
        )

    def _stalled(self) -> str:
        logs = "\n".join(f"  {crew.role} workers:\n{crew.end_of_log()}" for crew in self._machinery.crews.members)
        counts = f"{self._machinery.feed.sent:,} sent, {self._counts.scores:,} scored, {self._counts.audits:,} audited"
        return f"nothing has moved for {STALL_S:.0f} s ({counts})\n{logs}"


def _samples(fitted: FittedMap) -> int:
    return fitted.samples


class _Stall:
    """Notices when no number has changed for STALL_S."""

    def __init__(self) -> None:
        self._seen: tuple[int, ...] = ()
        self._moved = time.monotonic()

    def over(self, *numbers: int) -> bool:
        if numbers != self._seen:
            self._seen, self._moved = numbers, time.monotonic()
        return time.monotonic() - self._moved > STALL_S


class _Rate:
    """Events a second over the last second or two."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def of(self, count: int) -> float:
        now = time.monotonic()
        self._seen = [one for one in self._seen if now - one[0] < 2.0] + [(now, count)]
        (then, old), span = self._seen[0], now - self._seen[0][0]
        return (count - old) / span if span > 0.3 and then else 0.0
