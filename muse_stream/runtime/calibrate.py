"""`run --role calibrate`: processes that count scores (docs/sketches.md), under the supervisor of all roles.

Each is a member of a consumer group of its own, on the score and audit topics of a lane's tenants. This is its loop:

    score_intake   what was read is kept, and stored every so often
    drift_watch    one process of a lane looks for drift, in a thread of its own; has maps refreshed
    refreshing     what is asked of whoever refreshes them
"""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from muse_stream import telemetry
from muse_stream.config import Document, KafkaSettings, consumer_group, load_document
from muse_stream.control import Follower, Heartbeat, Pulse, open_store, short
from muse_stream.errors import MuseError, StoreError
from muse_stream.kafka import CountingConsumer, Message
from muse_stream.runtime import process_title, run_pages, watchdog
from muse_stream.runtime.calibrate_metrics import CalibrateMetrics
from muse_stream.runtime.drift_looks import Windows
from muse_stream.runtime.drift_watch import DriftWatch, Looked
from muse_stream.runtime.memory import resident_bytes
from muse_stream.runtime.refreshing import MakeRefresher, RefreshWith
from muse_stream.runtime.score_counter import ScoreCounter
from muse_stream.runtime.score_intake import ScoreIntake
from muse_stream.runtime.score_reader import Contents, ScoreReader
from muse_stream.runtime.supervisor import FAILED, LEAVE, LONGEST_BACKOFF_S, Supervisor
from muse_stream.telemetry import Log, last_error
from muse_stream.worker import InHand, failpoints

ROLE: Final = "calibrate"
STORE_S = 30.0
FOLLOW_S = 2.0
STALL_S = 110.0
LOOK_S = 900.0
"""Seconds between two looks for drift: a quarter of an hour, as counts have it."""


class CalibrateOptions(Struct, frozen=True):
    """What every process of a run shares."""

    store: str | Path
    lane: str = "main"
    host: str = field(default_factory=socket.gethostname)
    settings: KafkaSettings = field(default_factory=KafkaSettings.from_environment)
    log_level: str = "INFO"
    health_port: int | None = None
    health_host: str = "0.0.0.0"  # noqa: S104  # probes come from outside the pod
    store_s: float = STORE_S
    """Seconds between two times that what was read is stored."""
    longest_backoff_s: float = LONGEST_BACKOFF_S
    look_s: float = LOOK_S
    """Seconds between two looks for drift."""
    windows: Windows = field(default_factory=Windows)
    refresher: MakeRefresher | None = None
    """Makes what refreshes maps; None: nothing does."""
    metrics_port: int | None = None
    """Of the pages of the whole run."""
    trusted: Path | None = None
    """File of public keys; only a generation that one of them has signed is followed. None: whatever the store says."""


def run(options: CalibrateOptions, workers: int, *, spare: bool = True) -> int:
    """Keep `workers` processes counting until a signal ends it; returns the exit code."""
    from muse_stream.runtime.run import prepare  # noqa: PLC0415 - it imports what all roles need

    prepare()
    process_title.show("supervisor", ROLE, options.lane, options.host)
    log, longest = telemetry.logger("supervisor"), options.longest_backoff_s
    ports, whose = (options.metrics_port, options.health_port), (ROLE, options.lane, options.host)
    with run_pages.served(options.health_host, *ports, workers, whose) as scaled:
        supervisor = Supervisor(serve, options, workers, log, spare=spare, longest_backoff_s=longest, scaled=scaled)
        return supervisor.run()


def serve(options: CalibrateOptions, connection: Connection, _in_hand: InHand, _refused: frozenset[int]) -> None:
    """Be one process: say "ready", wait for a slot number, count, drain. The supervisor's `serve`."""
    parent = parent_process()
    watchdog.die_with(parent.pid if parent and parent.pid else os.getppid())
    telemetry.configure(level=options.log_level, role=ROLE, lane=options.lane, pid=os.getpid())
    log = telemetry.logger("worker")
    process_title.show("spare", ROLE, options.lane, options.host)
    try:
        connection.send("ready")
        number, _suspects, _restarts = connection.recv()
        process_title.show("worker", ROLE, options.lane, options.host, number)
        telemetry.configure(level=options.log_level, role=ROLE, lane=options.lane, pid=os.getpid(), slot=number)
        Worker(options, number, log).run(connection)
        with suppress(OSError):  # the supervisor may be gone
            connection.send("drained")
    except (MuseError, OSError) as error:
        log.error("worker_failed", error=str(error))
        with suppress(OSError):
            connection.send(f"{FAILED}{error}")
        raise SystemExit(1) from None


class Worker:
    """One process's loop."""

    def __init__(self, options: CalibrateOptions, number: int, log: Log) -> None:
        self._options, self._number, self._log = options, number, log
        self._store = open_store(options.store)
        self._source = Follower(self._store, options.trusted)
        self._failpoint = failpoints.from_environment()
        self._generation, document = self._current()
        group = consumer_group(document.namespace, options.lane, ROLE)
        self._reader = ScoreReader(Contents(self._store), ())
        instance = f"{options.host}-{number}"
        self._counter = ScoreCounter(self._store, group, instance, self._reader.keys, log, self._failpoint)
        self._intake = ScoreIntake(self._reader, self._counter, options.store_s, log)
        starts, settle, owners = self._counter.starts, self._intake.settle, self._counter.owners
        self._consumer = CountingConsumer(options.settings, group, instance, starts, settle, owners, log)
        self._metrics = CalibrateMetrics(options.lane, number)
        self._drift = DriftWatch(
            *(open_store(options.store), options.lane, options.windows, options.look_s),
            lambda: Looked(self._reader.tenants, self._refreshed),
            self._metrics,
            log,
        )
        if (make := options.refresher) is not None:
            given = self._drift.store, str(options.store), options.settings, options.lane, log
            self._drift.make_refresher = lambda: make(RefreshWith(*given, self._drift.check, self._failpoint))
        self._refreshed = False
        self._stopping = self._leaving = False
        self._busy_since: float | None = None
        self._followed = 0.0
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._serve_document(document)

    def run(self, connection: Connection) -> None:
        """Count until a signal; what was read is stored then."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(LEAVE, self._leave)
        told = False
        with ExitStack() as stack:
            stack.enter_context(
                Pulse(self._store, self._beat, lambda why: self._log.warning("heartbeats_not_written", error=why))
            )
            stack.enter_context(self._health())
            watchdog.watch(lambda: self._busy_since, self._log, STALL_S)
            watchdog.watch(lambda: self._drift.busy_since, self._log, STALL_S)
            self._drift.start()
            while not self._stopping:
                self._busy_since = time.monotonic()
                self._follow()
                messages = self._consumer.collect(0.2)
                if self._consumer.assigned and not told:
                    told = True
                    connection.send("serving")
                self._turn(messages)
            self._intake.store_all()
            self._consumer.close(leave=self._leaving)
            self._drift.close()
        self._store.close()

    def _turn(self, messages: list[Message]) -> None:
        if messages:
            self._intake.take(messages)
            self._failpoint("after-read")
        full = self._intake.full
        self._intake.store_due()
        if self._intake.full:
            self._consumer.pause(on=True)
            time.sleep(0.1)
        elif full:
            self._consumer.pause(on=False)
        self._drift.raise_failed()
        self._metrics.tell(self._counter, self._reader, self._consumer.lag())

    def _follow(self) -> None:
        now = time.monotonic()
        if now - self._followed < FOLLOW_S:
            return
        self._followed = now
        try:
            number = self._store.current()
            if number is not None and number != self._generation:
                self._generation, document = self._current()
                self._serve_document(document)
        except MuseError as error:  # the last good generation is served
            self._log.warning("generation_refused", error=str(error))

    def _current(self) -> tuple[int, Document]:
        head = self._source.head()
        if head is None:
            raise StoreError(f"{self._store} holds no generation; publish one there with `muse-stream publish`")
        return head.number, load_document(self._source.open(head.number, head.sha256).path).document

    def _serve_document(self, document: Document) -> None:
        tenants = document.lanes().get(self._options.lane, ())
        topics = [document.tenant_topics(name) for name in tenants]
        self._reader.tenants = frozenset(tenants)
        self._refreshed = any(document.tenants[name].refresh != "off" for name in tenants)
        self._intake.audit = frozenset(one.audit for one in topics)
        self._consumer.subscribe({one.scores for one in topics} | self._intake.audit)
        self._log.info("generation", number=self._generation, tenants=len(tenants))

    def _stop(self, _signal: int, _frame: object) -> None:
        self._stopping = self._intake.stopping = True

    def _leave(self, _signal: int, _frame: object) -> None:
        self._leaving = self._stopping = self._intake.stopping = True

    def _why_not_live(self) -> str:
        stood_s = time.monotonic() - self._busy_since if self._busy_since is not None else 0.0
        return f"no progress for {stood_s:.0f} s" if stood_s > STALL_S else ""

    def _why_unready(self) -> str:
        if not self._consumer.assigned:
            return "the group has assigned nothing yet"
        return f"generation store: {self._intake.problem}" if self._intake.problem else ""

    def _beat(self) -> Heartbeat:
        return Heartbeat(
            host=self._options.host,
            slot=self._number,
            role=ROLE,
            lane=self._options.lane,
            pid=os.getpid(),
            version=version("muse-stream"),
            started=self._started,
            generation=self._generation,
            problem=short(self._intake.problem),
            unready=short(self._why_unready()),
            rate=self._metrics.rate(),
            lag=self._metrics.lag,
            memory_bytes=resident_bytes(os.getpid()) or 0,
            error=short(last_error.text),
            error_at=last_error.at,
        )

    @contextmanager
    def _health(self) -> Iterator[None]:
        options = self._options
        if options.health_port is None:
            yield
            return
        port = options.health_port + self._number
        try:
            server = telemetry.HealthServer(
                port,
                lambda: self._why_not_live() or True,
                lambda: self._why_unready() or True,
                self._metrics.registry,
                host=options.health_host,
                started=lambda: self._busy_since is not None or "opening its Kafka client",
            )
        except (OSError, OverflowError) as error:
            raise MuseError(f"health pages: cannot listen on {options.health_host}, port {port}: {error}") from None
        with server:
            yield
