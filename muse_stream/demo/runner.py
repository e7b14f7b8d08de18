"""A guided run from nothing to its result.

Tells the story on the terminal (with `as_json` the facts on stdout) and returns an exit code. Whatever happens, Ctrl-C
included, the workers, the broker and the scratch folder are gone at the end; 0 only if every event was answered exactly
once, in order, and no alert rate moved.
"""

import json
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from muse_stream.commands import publish
from muse_stream.commands.configuration import Configuration, open_configuration
from muse_stream.commands.topics import prepare_topics
from muse_stream.commands.verify import verify
from muse_stream.config import Document, KafkaSettings
from muse_stream.control import open_store
from muse_stream.demo import comparison, configuration, periods, synthetic_scenario, table, transactions_scenario
from muse_stream.demo.configuration import Tree
from muse_stream.demo.feed import Feed
from muse_stream.demo.findings import Findings, Totals, promotion
from muse_stream.demo.follow import Follower
from muse_stream.demo.ledger import Ledger
from muse_stream.demo.refreshing import Chapter, Refreshed
from muse_stream.demo.scenario import OLD, Scenario
from muse_stream.demo.screen import Screen
from muse_stream.demo.stages import Machinery, Tour, Toured
from muse_stream.demo.workers import running
from muse_stream.errors import MuseError
from muse_stream.kafka import Options, client, needed
from muse_stream.testing import Broker, Cluster, broker, redis_server, remove_keys
from muse_stream.verify import Report

WORKERS = {"live": 2, "shadow": 1}
PARTITIONS = 2
"""Of every topic."""
REMOVE_S = 10.0

MakeScenario = Callable[[Path, Screen], Scenario]


def run(*, events: Path | None = None, mapping: Path | None = None, redis: bool = False, as_json: bool = False) -> int:
    """Run the guided demo and return its exit code: 0 when every promise was kept, 1 when one was broken.

    `events`: a Parquet file of somebody's own transactions, described by `mapping` (default: the Fraud Detection
    Handbook's columns); without it, the synthetic stream. `redis` keeps the generations in a Redis of the ladder.
    `as_json` prints the facts as one JSON document on stdout and tells the story on stderr. Raises MuseError for what
    prevents it (no broker, a mapping that does not fit), and lets KeyboardInterrupt through when everything is cleaned
    up.
    """
    screen = Screen(error=as_json)
    with _sigterm_unwinds():
        found = guided(_maker(events, mapping), screen, redis=redis)
    table.show(found, screen)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2) + "\n")
    return 1 if found.problems() else 0


def guided(make: MakeScenario, screen: Screen, *, redis: bool = False) -> Findings:
    """Take a broker (and a Redis) from the ladder, make a scenario, run it, clean up."""

    def say(line: str) -> None:
        screen.line(line, style="dim")

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="muse-demo-") as folder:
        screen.title("MUSE on a real Kafka")
        with broker(say=say) as kafka, store_address(Path(folder), say, redis=redis) as address:
            return Run(make(Path(folder), screen), kafka, Path(folder), screen, address).findings(started)


@contextmanager
def store_address(folder: Path, say: Callable[[str], object], *, redis: bool) -> Iterator[str]:
    """Where the generations are while the block runs; nothing is left of them."""
    if not redis:
        yield str(folder / "store")
        return
    prefix = f"muse-demo-{secrets.token_hex(3)}"
    with redis_server(say) as server, patched_environment("MUSE_CACHE_DIR", str(folder / "cache")):
        try:
            yield f"{server.url}?prefix={prefix}"
        finally:
            remove_keys(server, prefix)


@contextmanager
def patched_environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for this process and those that it starts, until the block is left."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


class Run:
    """One scenario on one broker; use once."""

    def __init__(self, scenario: Scenario, kafka: Broker, folder: Path, screen: Screen, address: str = "") -> None:
        self._scenario, self._kafka, self._screen = scenario, kafka, screen
        self._settings = KafkaSettings.from_environment().model_copy(update={"bootstrap": kafka.bootstrap})
        self._address = address or str(folder / "store")
        self._store = open_store(self._address)
        self._logs = folder
        shared = isinstance(kafka, Cluster)
        mark = secrets.token_hex(3)
        self._prefix, self._lane = (f"muse-demo-{mark}", f"demo-{mark}") if shared else ("muse", "main")
        self._first: Tree = {}
        self._later: list[Document] = []
        """What the chapter on drift was served by."""
        self._ledger = Ledger(scenario.events)

    def findings(self, started: float) -> Findings:
        """Run everything; `started` is when the clock began (monotonic)."""
        document = self._prepared()
        try:
            toured, totals, codes = self._toured(document)
            reports, refreshed = self._ended(toured)
            promises = [
                comparison.Promise(
                    tenant,
                    self._scenario.thresholds[tenant],
                    configuration.reference(self._first),
                    toured.old[tenant],
                    toured.new[tenant],
                )
                for tenant in self._scenario.events.tenants
            ]
            return Findings(
                title=self._scenario.title,
                kafka=f"{self._kafka.rung}, {self._kafka.bootstrap}",
                seconds=time.monotonic() - started,
                rows=comparison.compare(self._ledger, self._scenario.events, promises, drifts=self._scenario.drifts),
                promotion=promotion(self._ledger, periods.PROMOTED, toured.published_ms[periods.PROMOTED]),
                totals=totals,
                reports=reports,
                exit_codes=codes,
                guarded=toured.guarded,
                refreshed=refreshed,
            )
        finally:
            if isinstance(self._kafka, Cluster):
                self._remove_topics([document, *self._later])

    def _ended(self, toured: Toured) -> tuple[list[Report], Refreshed | None]:
        """Verify all that was answered; then tell the chapter on drift, whose workers start meanwhile."""
        if self._scenario.later is None:
            return self._verified(), None
        later = self._scenario.later()
        chapter = Chapter(self._scenario, self._settings, self._logs, self._prefix, self._screen)
        document = chapter.prepared(later, toured.old)
        self._later.append(document)
        with chapter.crews() as crews:
            return self._verified(), chapter.told(later, document, crews)

    def _remove_topics(self, documents: Sequence[Document]) -> None:
        """Somebody's own cluster gets back what it lent; what cannot be removed is named."""
        names = [need.name for document in documents for need in needed(document)]
        admin = client.admin(self._settings)  # must outlive its answers
        for name, answer in admin.delete_topics(names).items():
            try:
                answer.result(REMOVE_S)
            except Exception as error:  # noqa: BLE001 - nothing here may hide how the run went
                self._screen.line(f"topic {name} was not removed: {error}", style="yellow")

    def _prepared(self) -> Document:
        """Publish generation 1 and make the topics."""
        scenario = self._scenario
        base = configuration.named(scenario.base, self._prefix, self._lane)
        maps = configuration.fitted(base, scenario.folder, OLD, scenario.first_aggregates)
        self._first = configuration.served(base, scenario.folder, maps)
        path = configuration.write(self._first, scenario.folder / "generation-1.yaml")
        publish.publish(path, self._address)
        current: Configuration = open_configuration(self._address)
        prepare_topics(current, self._settings, Options(partitions=PARTITIONS))
        self._introduce()
        return current.loaded.document

    def _introduce(self) -> None:
        scenario, screen = self._scenario, self._screen
        screen.fact("stream", f"{scenario.title}: {scenario.story[0]}")
        for line in scenario.story[1:]:
            screen.fact("", line)
        rate = f"{scenario.rate:,.0f} events a second" if scenario.rate else "flat out"
        screen.fact("rate", f"{rate}, {PARTITIONS} partitions a topic")
        workers = " + ".join(f"{count} {role}" for role, count in WORKERS.items())
        screen.fact("store", str(self._store) if "://" in self._address else "a folder")
        screen.fact("workers", f"{workers}: processes of `muse-stream run`, exactly once")
        screen.title("Four generations under one stream")

    def _toured(self, document: Document) -> tuple[Toured, Totals, dict[str, int]]:
        scenario, ledger = self._scenario, self._ledger
        topics = {tenant: document.tenant_topics(tenant).events for tenant in scenario.events.tenants}
        group = f"{self._prefix}.follower.{secrets.token_hex(3)}"
        with (
            running(self._address, self._lane, WORKERS, self._logs, self._settings.bootstrap) as crews,
            Follower(self._settings, document, group, ledger) as follower,
            Feed(self._settings, topics, scenario.slices, scenario.rate) as feed,
        ):
            machinery = Machinery(self._store, self._address, crews, follower, feed, self._settings)
            toured = Tour(scenario, machinery, self._screen, self._first).run()
            codes = crews.drain()
        both, same = comparison.same_bits(ledger)
        totals = Totals(
            sent=feed.sent,
            broken=int((scenario.events.ids[: feed.sent] == b"").sum()),
            scored=ledger.counts.scores,
            audited=ledger.counts.audits,
            dead_letters=ledger.counts.dead_letters,
            shadowed=both,
            same_bits=same,
            strangers=ledger.counts.strangers,
            late_s=feed.late_s,
        )
        return toured, totals, codes

    def _verified(self) -> list[Report]:
        screen = self._screen
        screen.step(5, "verify", "an independent reader counts all topics of all tenants from their first record")
        with screen.live():
            return verify(
                open_configuration(self._address),
                self._settings,
                progress=lambda topic, done, total: screen.reading(f"reading {topic}", done / max(total, 1)),
            )


def _maker(events: Path | None, mapping: Path | None) -> MakeScenario:
    if events is not None:
        return lambda folder, screen: transactions_scenario.scenario(events, mapping, folder, screen)
    if mapping is not None:
        raise MuseError("a mapping describes a file of events: give --events as well")
    return lambda folder, _screen: synthetic_scenario.scenario(folder)


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that everything is cleaned up."""
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not mine:
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
