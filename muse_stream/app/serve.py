"""A worker process, and the supervisor that keeps N of them.

In: `RunOptions` (a generation store, a role, a lane, where Kafka is). Out: events scored until a signal says stop.
Law: everything slow (imports, loading, compiling, warming) happens before a process says "ready"; a slot's clients are
opened only when it has its number. A generation that cannot be compiled is never served: at start the newest older one
that can be compiled serves instead, later the one that is running.
"""

import gc
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from muse_stream import observe
from muse_stream.app.meter import WorkerMeter
from muse_stream.app.scorer import GenerationScorer, build_scorer
from muse_stream.control import DirectoryStore, Generation, Watcher
from muse_stream.errors import MuseError, StoreError
from muse_stream.models import ModelCache
from muse_stream.settings import KafkaSettings
from muse_stream.stream import failpoints, mortality
from muse_stream.stream.log import Log
from muse_stream.stream.records import Role, Scorer
from muse_stream.stream.slot import SlotName, open_worker
from muse_stream.stream.supervisor import LEAVE, LONGEST_BACKOFF_S, Supervisor
from muse_stream.stream.worker import Limits, Worker

POLL_STORE_S = 0.5
SWITCH_S = 0.0005
"""The committing thread answers to Kafka: it must not wait Python's usual 5 ms for the lock."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What every worker of a run shares."""

    store: Path
    role: Role
    lane: str = "main"
    host: str = field(default_factory=socket.gethostname)
    """Names this run's slots within their group; must be stable across restarts and unique among machines."""
    settings: KafkaSettings = field(default_factory=KafkaSettings.from_environment)
    log_level: str = "INFO"
    health_port: int | None = None
    """Slot n answers /live, /ready and /metrics on this port plus n."""
    health_host: str = "0.0.0.0"  # noqa: S104  # probes come from outside the pod
    stall_s: float = mortality.STALL_S
    longest_backoff_s: float = LONGEST_BACKOFF_S


def run(options: RunOptions, workers: int, *, spare: bool = True) -> int:
    """Keep `workers` slots of a role and lane served; returns the exit code. Blocks until SIGTERM or SIGINT."""
    log = observe.logger("supervisor")
    return Supervisor(serve, options, workers, log, spare=spare, longest_backoff_s=options.longest_backoff_s).run()


def serve(options: RunOptions, connection: Connection) -> None:
    """Be one worker process: compile, say "ready", wait for a slot number, work, drain. The supervisor's `serve`."""
    parent = multiprocessing.parent_process()
    mortality.die_with(parent.pid if parent and parent.pid else os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the supervisor decides what it means
    observe.configure(level=options.log_level, role=options.role, lane=options.lane, pid=os.getpid())
    log = observe.logger("worker")
    store = DirectoryStore(options.store)
    compile = _compiler(options)
    first = first_good(store, compile, log)
    with Watcher(store, compile, POLL_STORE_S, running=first.number, log=log) as watcher:
        # what is loaded by now stays: a full collection over it would hold a batch up for tens of milliseconds
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(SWITCH_S)
        connection.send("ready")
        number = connection.recv()
        waiting = [first]
        try:
            _work(options, number, lambda: watcher.take() or (waiting.pop() if waiting else None), log)
        except MuseError as error:  # meant for a person: one line of the log, not a traceback past it
            log.error("worker-failed", slot=number, why=str(error))
            raise SystemExit(1) from None


def first_good(store: DirectoryStore, compile: Callable[[Generation], GenerationScorer], log: Log) -> GenerationScorer:
    """Compile the current generation, or else the newest before it that compiles; raises the first error."""
    number = store.current()
    if number is None:
        raise StoreError(f"{store.path} holds no generation yet; publish one with `muse-stream publish`")
    problem: MuseError | None = None
    for candidate in sorted((e.number for e in store.list() if e.number <= number), reverse=True):
        try:
            return compile(store.open(candidate))
        except MuseError as error:
            problem = problem or error
            log.error("generation refused", generation=candidate, problem=str(error))
    raise problem or StoreError(f"{store.path} holds no generation that can be read")


def _compiler(options: RunOptions) -> Callable[[Generation], GenerationScorer]:
    cache: ModelCache | None = None

    def compile(generation: Generation) -> GenerationScorer:
        nonlocal cache
        scorer = build_scorer(generation.path, generation.number, options.role, options.lane, cache)
        cache = scorer.cache
        scorer.warm()
        return scorer

    return compile


def _work(options: RunOptions, number: int, next_scorer: Callable[[], GenerationScorer | None], log: Log) -> None:
    name = SlotName(options.role, options.lane, options.host, number)
    observe.configure(level=options.log_level, role=options.role, lane=options.lane, pid=os.getpid(), slot=number)
    first = next_scorer()
    assert first is not None  # noqa: S101  # the process compiled one before it said "ready"
    waiting: list[Scorer] = [first]
    meter = WorkerMeter()
    asked = _Asked()
    signal.signal(signal.SIGTERM, asked.to_stop)  # before the clients open: that may take seconds
    signal.signal(LEAVE, asked.to_leave)
    worker = open_worker(
        options.settings,
        name,
        lambda: waiting.pop() if waiting else next_scorer(),
        meter=meter,
        log=log,
        limits=Limits(first.limits.max_batch, first.limits.linger_ms / 1000),
        failpoint=failpoints.from_environment(),
    )
    asked.tell(worker)
    mortality.watch(lambda: worker.busy_since, log, options.stall_s)
    health = _health(options, number, worker, meter)
    try:
        worker.run(leave=lambda: asked.leaving)
    finally:
        if health:
            health.stop()


class _Asked:
    """What signals have asked of this process, and the worker to tell once there is one."""

    def __init__(self) -> None:
        self.leaving = self._stopping = False
        self._worker: Worker | None = None

    def to_stop(self, _signal: int, _frame: object) -> None:
        """Drain and keep the slot's membership."""
        self._stopping = True
        if self._worker:
            self._worker.stop()

    def to_leave(self, signal_number: int, frame: object) -> None:
        """Drain and leave the group."""
        self.leaving = True
        self.to_stop(signal_number, frame)

    def tell(self, worker: Worker) -> None:
        """Hand over the worker; what was asked before holds."""
        self._worker = worker
        if self._stopping:
            worker.stop()


def _health(options: RunOptions, number: int, worker: Worker, meter: WorkerMeter) -> observe.HealthServer | None:
    if options.health_port is None:
        return None

    def ready() -> bool | str:
        if mortality.stalled(worker.busy_since, mortality.UNREADY_S):
            return f"one batch has been in hand for more than {mortality.UNREADY_S:g} s"
        return worker.ready or "not started yet, or draining"

    port = options.health_port + number
    try:
        server = observe.HealthServer(port, lambda: True, ready, meter.text, host=options.health_host)
    except (OSError, OverflowError) as error:
        raise MuseError(f"health pages: cannot listen on {options.health_host}, port {port}: {error}") from None
    server.start()
    return server
