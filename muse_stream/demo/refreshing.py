"""The last chapter of a guided run: a tenant's stream drifts, a new map is proposed, a person applies it.

A bank of its own, on topics and a store of its own, so that nothing of it stands between the events that `verify` has
counted: one live worker, and the role `calibrate`, which counts, looks for drift and proposes. What is shown is read
from what the role has counted and stored; the map is applied as `muse-stream refresh apply` does.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from muse_stream.calibration import DayCounts, FittedMap
from muse_stream.commands import publish
from muse_stream.commands.configuration import open_configuration
from muse_stream.commands.refresh import apply, current, target
from muse_stream.commands.refresh_record import RefreshRecord, find
from muse_stream.commands.topics import prepare_topics
from muse_stream.config import Document, KafkaSettings
from muse_stream.control import Heartbeat, Store, open_store
from muse_stream.demo import configuration
from muse_stream.demo.scenario import OLD, Later, Scenario
from muse_stream.demo.screen import Screen
from muse_stream.demo.workers import Crews, running
from muse_stream.errors import MuseError
from muse_stream.kafka import Chunk, Ingest, Options

WORKERS: Final = {"live": 1, "calibrate": 1}
RULES: Final = {"least_hours": 0.0, "least_events": 1_000, "most_of_one_entity": 0.5}
"""What is asked of events before a map is fitted: minutes must do here, where a bank has days."""
NEARLY_ALL: Final = 0.8
"""Share of the events sent that a proposal must rest on; it is made anew when it would grow by more."""
STALL_S: Final = 180.0
LOOK_S: Final = 0.1
TOLERANCE: Final = 0.25
"""Share of a promised alert rate by which it may be off after the refresh: the second half is a few days of a few
thousand customers, who are not those of the first."""


@dataclass(frozen=True, slots=True)
class Rate:
    """One threshold."""

    threshold: float
    promised: float
    drifted: float
    """Alert rate of the first events, under the map that served."""
    expected: float
    """Of the same under the proposed map."""
    after: float
    """Of the next events, under the refreshed map, as served."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What became of one tenant's drift."""

    tenant: str
    story: str
    events: int
    """Of the proposal."""
    events_after: int
    generation: int
    largest_move: float
    rates: Sequence[Rate]
    exit_codes: dict[str, int]

    def problems(self) -> list[str]:
        """Return what was promised and not kept."""
        found = [
            f"{self.tenant}: the alert rate at {one.threshold:g} is {100 * one.after:.2f} % after the refresh, and "
            f"{100 * one.promised:.2f} % was promised"
            for one in self.rates
            if abs(one.after / one.promised - 1.0) > TOLERANCE
        ]
        found += [f"the {role} workers ended with code {code}" for role, code in self.exit_codes.items() if code]
        return found


class Chapter:
    """One tenant on one broker; use once."""

    def __init__(self, scenario: Scenario, settings: KafkaSettings, folder: Path, prefix: str, screen: Screen) -> None:
        self._scenario, self._settings, self._screen = scenario, settings, screen
        self._folder, self._prefix = folder / "later", f"{prefix}-later"
        self._folder.mkdir()
        self._address = str(self._folder / "store")
        self._store: Store = open_store(self._address)

    def prepared(self, later: Later, maps: Mapping[str, FittedMap]) -> Document:
        """Publish the bank's only generation and make its topics."""
        base = configuration.named(self._scenario.base, self._prefix, self._prefix)
        tree = configuration.served(base, self._scenario.folder, {later.tenant: maps[later.tenant]})
        tenants = {name: {**one, "refresh": "propose"} for name, one in tree["tenants"].items() if name == later.tenant}
        tree = {**tree, "routes": [{"live": OLD}], "tenants": tenants, "refresh": RULES}
        path = configuration.write(tree, self._scenario.folder / "later.yaml")
        publish.publish(path, self._address)
        opened = open_configuration(self._address)
        prepare_topics(opened, self._settings, Options(partitions=2))
        return opened.loaded.document

    @contextmanager
    def crews(self) -> Iterator[Crews]:
        """Run the bank's workers while the block lasts."""
        with running(self._address, self._prefix, WORKERS, self._folder, self._settings.bootstrap) as crews:
            yield crews

    def told(self, later: Later, document: Document, crews: Crews) -> Refreshed:
        """Tell the chapter; returns what was found."""
        topic = document.tenant_topics(later.tenant).events
        half = len(later.values) // 2
        self._send(topic, later, 0, half)
        self._screen.step(6, "drift", f"{later.tenant}, on a store and topics of its own: {later.story}")
        proposed = self._proposal(later.tenant, NEARLY_ALL * half, crews)
        assert proposed.fitted is not None  # noqa: S101  # as `_proposal` says
        text = f"the role calibrate proposes a map, fitted to the {proposed.fitted.events:,} scores that it has counted"
        self._screen.step(7, "propose", text)
        with closing(open_store(self._address)) as store:
            done = apply(store, self._address, proposed, f"{later.story}: applied in the guided run")
        number = done.applied.generation if done.applied else 0
        self._screen.step(8, "refresh", f"muse-stream refresh apply: generation {number}, by a person; workers swap")
        self._wait(lambda: self._serving() >= number, crews)
        self._send(topic, later, half, len(later.values))
        counted = self._counted(later.tenant, len(later.values) - half, crews)
        rates = tuple(
            Rate(at.threshold, at.promised, at.rate, at.expected, after)
            for at, after in zip(proposed.fitted.thresholds, counted, strict=True)
        )
        move = proposed.fitted.largest_move
        events = proposed.fitted.events, len(later.values) - half
        return Refreshed(later.tenant, later.story, *events, number, move, rates, crews.drain())

    def _send(self, topic: str, later: Later, start: int, end: int) -> None:
        chunk = Chunk(later.values[start:end], later.keys[start:end])
        Ingest(self._settings, topic, progress=lambda _sent: None).run(iter([chunk]))

    def _proposal(self, tenant: str, events: float, crews: Crews) -> RefreshRecord:
        """Return the proposal, once there is one whose map was fitted to so many events."""
        found: list[RefreshRecord] = []

        def look() -> bool:
            one = find(self._store, tenant, OLD)
            if one is not None and one.state == "proposed" and one.fitted and one.fitted.events >= events:
                found.append(one)
            return bool(found)

        self._wait(look, crews)
        return found[0]

    def _serving(self) -> int:
        """Return the generation that the live worker tells it serves."""
        told = [Heartbeat.read(one.data, one.name) for one in self._store.beats()]
        return min((one.generation or 0 for one in told if one.role == "live"), default=0)

    def _counted(self, tenant: str, events: int, crews: Crews) -> list[float]:
        """Return the alert rates under the map that serves, once all these events are counted."""
        number, loaded = current(self._store)
        wanted = target(loaded, number, tenant, OLD)
        assert wanted is not None  # noqa: S101  # it was just refreshed
        sums: list[int] = []

        def look() -> bool:
            days = [DayCounts.from_bytes(self._store.durable(name) or b"") for name in self._store.durables("counts~")]
            cells = [day.maps[wanted.map_id].cells.sum(axis=0) for day in days if wanted.map_id in day.maps]
            sums[:] = [int(count) for count in sum(cells)] if cells else [0]
            return sums[0] >= events

        self._wait(look, crews)
        if sums[0] != events:
            raise MuseError(f"{sums[0]:,} scores of the refreshed map are counted, and {events:,} events were sent")
        return [count / events for count in sums[1:]]

    def _wait(self, done: Callable[[], Any], crews: Crews) -> None:
        end = time.monotonic() + STALL_S
        while not done():
            crews.check()
            if time.monotonic() > end:
                logs = "\n".join(f"  {crew.role}:\n{crew.end_of_log()}" for crew in crews.members)
                raise MuseError(f"the refresh has not come on for {STALL_S:.0f} s\n{logs}")
            time.sleep(LOOK_S)
