"""A worker process.

Everything slow (imports, loading, compiling, warming up) happens before a process says "ready"; a slot's clients are
opened only when it has its number. A generation that cannot be compiled is never served: at start the one that was
current before it serves instead, later the one that is running. What to serve comes from the watcher alone: a spare
that has waited through a promotion starts with what is current, never with what it compiled first.
"""

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

from muse_stream import telemetry
from muse_stream.config import load_document
from muse_stream.control import Generation, Store, Watcher, open_store
from muse_stream.errors import ConfigError, MuseError, Problem, StoreError
from muse_stream.models import ModelCache
from muse_stream.runtime import watchdog
from muse_stream.runtime.batch_scorer import GenerationScorer, build_scorer
from muse_stream.runtime.run import RunOptions
from muse_stream.runtime.supervisor import LEAVE
from muse_stream.runtime.worker_metrics import WorkerMeter
from muse_stream.telemetry import Log
from muse_stream.worker import Guard, InHand, Scorer, SlotName, Worker, failpoints, open_worker

POLL_STORE_S = 0.5
SWITCH_S = 0.0005
"""The committing thread answers to Kafka: it must not wait Python's usual 5 ms for the lock."""


def serve(options: RunOptions, connection: Connection, in_hand: InHand, refused: frozenset[int]) -> None:
    """Be one worker process: compile, say "ready", wait for a slot number, work, drain. The supervisor's `serve`."""
    parent = multiprocessing.parent_process()
    watchdog.die_with(parent.pid if parent and parent.pid else os.getppid())
    telemetry.configure(level=options.log_level, role=options.role, lane=options.lane, pid=os.getpid())
    log = telemetry.logger("worker")
    store = open_store(options.store)
    compile = _compiler(options, in_hand, refused)
    first = first_good(store, compile, log)
    with Watcher(store, compile, POLL_STORE_S, first=(first.number, first), log=log) as watcher:
        # what is loaded by now stays: a full collection over it would hold a batch up for tens of milliseconds
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(SWITCH_S)
        connection.send("ready")
        number, suspects = connection.recv()
        del first  # the watcher has it, or by now a newer one
        try:
            _work(options, number, watcher.take, Guard(in_hand, suspects), log, lambda: connection.send("serving"))
        except MuseError as error:  # meant for a person: one line of the log, not a traceback past it
            log.error("worker_failed", slot=number, error=str(error))
            raise SystemExit(1) from None


def first_good(store: Store, compile: Callable[[Generation], GenerationScorer], log: Log) -> GenerationScorer:
    """Compile the current generation, or else the latest of those that were current before; raises the first error.

    Not the highest number below it: that may be one that was rolled back because it was bad.
    """
    number = store.current()
    if number is None:
        raise StoreError(f"{store} holds no generation yet; publish one with `muse-stream publish`")
    problem: MuseError | None = None
    for candidate in (number, *store.former()):
        try:
            return compile(store.open(candidate))
        except MuseError as error:
            problem = problem or error
            log.error("generation_refused", generation=candidate, error=str(error))
    raise problem or StoreError(f"{store} holds no generation that can be read")


def _compiler(
    options: RunOptions, in_hand: InHand, refused: frozenset[int]
) -> Callable[[Generation], GenerationScorer]:
    cache: ModelCache | None = None

    def compile(generation: Generation) -> GenerationScorer:
        nonlocal cache
        if generation.number in refused:
            message = "a worker process died while it compiled this generation; restart the run to try it again"
            raise ConfigError([Problem("models", message, file=str(generation.path))])
        with in_hand.compiling(generation.number):
            scorer = build_scorer(load_document(generation.path), generation.number, options.role, options.lane, cache)
            cache = scorer.cache
            scorer.warm()
        return scorer

    return compile


def _work(
    options: RunOptions,
    number: int,
    next_scorer: Callable[[], GenerationScorer | None],
    guard: Guard,
    log: Log,
    serving: Callable[[], object],
) -> None:
    name = SlotName(options.role, options.lane, options.host, number)
    telemetry.configure(level=options.log_level, role=options.role, lane=options.lane, pid=os.getpid(), slot=number)
    first = next_scorer()
    assert first is not None  # noqa: S101  # the process compiled one before it said "ready"
    waiting: list[Scorer] = [first]
    meter = WorkerMeter(options.role, options.lane, number)
    asked = _Asked()
    signal.signal(signal.SIGTERM, asked.to_stop)  # before the clients open: that may take seconds
    signal.signal(LEAVE, asked.to_leave)
    worker = open_worker(
        options.settings,
        name,
        lambda: waiting.pop() if waiting else next_scorer(),
        meter=meter,
        log=log,
        failpoint=failpoints.from_environment(),
        guard=guard,
    )
    asked.tell(worker)
    watchdog.watch(lambda: worker.busy_since, log, options.stall_s)
    health = _health(options, number, worker, meter)
    serving()
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


def _health(options: RunOptions, number: int, worker: Worker, meter: WorkerMeter) -> telemetry.HealthServer | None:
    if options.health_port is None:
        return None

    def ready() -> bool | str:
        if watchdog.stalled(worker.busy_since, watchdog.UNREADY_S):
            return f"no progress for more than {watchdog.UNREADY_S:g} s"
        return worker.ready or "not started yet, or draining"

    port = options.health_port + number
    try:
        server = telemetry.HealthServer(port, lambda: True, ready, meter.registry, host=options.health_host)
    except (OSError, OverflowError) as error:
        raise MuseError(f"health pages: cannot listen on {options.health_host}, port {port}: {error}") from None
    server.start()
    return server
