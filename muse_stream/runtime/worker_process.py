"""A worker process.

Everything slow (imports, loading, compiling, warming up) happens before a process says "ready"; a slot's clients are
opened only when it has its number. A generation that cannot be compiled is never served: at start the one that was
current before it serves instead, later the one that is running. What to serve comes from the watcher alone: a spare
that has waited through a promotion starts with what is current, never with what it compiled first.
"""

import gc
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from multiprocessing.connection import Connection

from msgspec import Struct

from muse_stream import telemetry
from muse_stream.config import FittedData, Role, load_document
from muse_stream.control import Follower, Generation, Head, Pulse, Store, Watcher, open_store
from muse_stream.errors import ConfigError, MuseError, Problem, StoreError
from muse_stream.models import ModelCache
from muse_stream.runtime import process_title, watchdog
from muse_stream.runtime.answer_reader import groups_of
from muse_stream.runtime.batch_scorer import GenerationScorer, build_scorer
from muse_stream.runtime.heartbeat import Vitals
from muse_stream.runtime.run import RunOptions
from muse_stream.runtime.supervisor import FAILED, LEAVE
from muse_stream.runtime.worker_metrics import WorkerMeter
from muse_stream.schema_registry import open_registry
from muse_stream.telemetry import Log
from muse_stream.worker import Guard, InHand, Scorer, SlotName, Tracer, Worker, failpoints, open_worker

POLL_STORE_S, SPARE_POLL_STORE_S = 0.25, 1.0
SPARE_SETTLE_S = 1.0
"""A spare compiles what has been current for so long: the worker beside it has begun a second before."""
FORMER = 2
"""Generations before the current one that are asked which lanes they had."""
KNOWN = 10
"""Generations whose lanes are remembered."""
NAMESPACE_MOVE = "a change of namespace is a move: docs/operations.md"
LOOKED_FOR = 700
"""Python's own: objects that are made before cyclic garbage is looked for; a start looks less often."""
WAIT_FOR_SCHEMA_S = 0.3
"""How long a batch waits for what a Schema Registry says; then its topic is paused until it has said it."""
SWITCH_S = 0.0005
"""The committing thread answers to Kafka: it must not wait Python's usual 5 ms for the lock."""


def serve(options: RunOptions, connection: Connection, in_hand: InHand, refused: frozenset[int]) -> None:
    """Be one worker process: compile, say "ready", wait for a slot number, work, drain. The supervisor's `serve`."""
    parent = multiprocessing.parent_process()
    watchdog.die_with(parent.pid if parent and parent.pid else os.getppid())
    telemetry.configure(level=options.log_level, role=options.role, lane=options.lane, pid=os.getpid())
    log = telemetry.logger("worker")
    process_title.show("spare", options.role, options.lane, options.host)  # until it has a number
    with _failing_in_one_line(connection, log):
        _serve(options, connection, in_hand, refused, log)


@contextmanager
def _failing_in_one_line(connection: Connection, log: Log) -> Iterator[None]:
    """End the process with one line of the log, meant for a person; the supervisor is told the reason, too."""
    try:
        yield
    except (MuseError, OSError) as error:
        log.error("worker_failed", error=str(error))
        with suppress(OSError):  # the supervisor may be gone
            connection.send(f"{FAILED}{error}")
        raise SystemExit(1) from None


def _serve(options: RunOptions, connection: Connection, in_hand: InHand, refused: frozenset[int], log: Log) -> None:
    store = open_store(options.store)
    if (registry := open_registry()) is not None:
        registry.wait_s = WAIT_FOR_SCHEMA_S
    source = Follower(store, options.trusted)
    compile = compiler(options, source, in_hand, refused)
    first = first_good(source, compile, log)
    begun = first.head, first.scorer
    with Watcher(
        source, compile, SPARE_POLL_STORE_S, first=begun, problem=first.problem, log=log, settle_s=SPARE_SETTLE_S
    ) as watcher:
        # what is loaded by now stays: a full collection over it would hold a batch up for tens of milliseconds
        gc.collect()
        gc.freeze()
        gc.set_threshold(LOOKED_FOR)
        sys.setswitchinterval(SWITCH_S)
        connection.send("ready")
        number, suspects, memory_restarts = connection.recv()
        del first, begun  # the watcher has it, or by now a newer one
        watcher.interval_s = POLL_STORE_S
        watcher.catch_up()  # before it serves: since its last look its predecessor may have served a newer one
        process_title.show("worker", options.role, options.lane, options.host, number)
        place = Place(number, memory_restarts, Guard(in_hand, suspects), lambda: connection.send("serving"))
        _work(options, place, watcher, source, store, log)
        with suppress(OSError):  # the supervisor may be gone
            connection.send("drained")


class First(Struct, frozen=True):
    """What a worker starts with."""

    head: Head
    scorer: GenerationScorer
    problem: str
    """Why it is not known from the store; empty when it is."""


def first_good(source: Follower, compile: Callable[[Generation], GenerationScorer], log: Log) -> First:
    """Compile the current generation, or else the latest of those that were current before; raises the first error.

    Where the store cannot tell, the copy on this machine does.
    """
    head, away = source.first()
    if away:
        log.error("generation_store_unreadable", error=away, serving=head.number)
    problem: MuseError | None = None
    for number, sha256 in source.candidates(head):
        try:
            generation = source.open(number, sha256)
            return First(Head(number, generation.sha256), compile(generation), away)
        except MuseError as error:
            problem = problem or error
            log.error("generation_refused", generation=number, error=str(error))
    raise problem or StoreError(f"{source} holds no generation that can be read")


def former_groups(source: Follower, number: int, role: Role, known: dict[str, frozenset[str]]) -> frozenset[str]:
    """Return the groups of the generations that were current before, as far as these can be read.

    `known`: hash of a generation -> its groups; what is read here is added, since to parse a document takes seconds.
    """
    found = frozenset[str]()
    try:
        candidates = [one for one in source.candidates(source.first()[0]) if one[0] != number]
    except MuseError:
        return found
    for former, sha256 in candidates[:FORMER]:
        try:
            generation = source.open(former, sha256)
            if generation.sha256 not in known:
                known[generation.sha256] = groups_of(load_document(generation.path).document, role)
        except MuseError:  # it is broken: its lanes are not known
            continue
        found |= known[generation.sha256]
    return found


def compiler(
    options: RunOptions, source: Follower, in_hand: InHand, refused: frozenset[int]
) -> Callable[[Generation], GenerationScorer]:
    """Return what makes an opened generation ready to serve; it shares models with the one that it made before."""
    cache: ModelCache | None = None
    namespace = options.namespace
    fitted: FittedData | None = None
    known: dict[str, frozenset[str]] = {}  # hash of a generation -> its groups

    def compile(generation: Generation) -> GenerationScorer:
        if generation.number in refused:
            message = "a worker process died while it compiled this generation; restart the run to try it again"
            raise ConfigError([Problem("models", message, file=str(generation.path))])
        try:
            with in_hand.compiling(generation.number):
                return compiled(generation)
        except ConfigError as error:
            raise ConfigError([*error.problems, *newer(generation)]) from error

    def compiled(generation: Generation) -> GenerationScorer:
        nonlocal cache, namespace, fitted
        began = time.monotonic()
        loaded = load_document(generation.path)
        namespace = namespace or loaded.document.namespace
        if loaded.document.namespace != namespace:
            message = f"this run serves the namespace '{namespace}'"
            raise ConfigError([loaded.source.problem(("namespace",), message, NAMESPACE_MOVE)])
        number, role = generation.number, options.role
        former = former_groups(source, number, role, known)
        scorer = build_scorer(loaded, number, role, options.lane, cache, former_groups=former, serving=True)
        known[generation.sha256] = groups_of(loaded.document, role)
        while len(known) > KNOWN:
            del known[next(iter(known))]
        cache = scorer.cache
        scorer.warm()
        scorer.load_s = time.monotonic() - began
        _tell_backends(scorer)
        fitted = loaded.fitted  # held, so that the next generation parses only those that are new
        return scorer

    return compile


def newer(generation: Generation) -> list[Problem]:
    """Return what to say of a refused generation that a later release wrote: it may have what is new there."""
    own, writer = version("muse-stream"), generation.manifest.version if generation.manifest else ""
    if _ordered(writer) <= _ordered(own):
        return []
    message = f"muse-stream {writer} wrote this generation, and this is {own}"
    return [Problem("(document)", message, "what a later release has added needs workers of that release")]


def _ordered(release: str) -> tuple[int, ...]:
    """Return a release in the order of releases; that of no release is before all."""
    numbers = re.match(r"\d{1,9}(\.\d{1,9}){0,3}", release)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


def _tell_backends(scorer: GenerationScorer) -> None:
    """Log what runs each model, and why not native code; as a warning where only this installation is to blame."""
    log = telemetry.logger("models")
    for name, backend in scorer.backends.items():
        tell = log.warning if backend.lacking else log.info
        tell("model_backend", generation=scorer.number, model=name, backend=backend.name, why=backend.why)


class Place(Struct, frozen=True):
    """The slot that a process was given."""

    number: int
    memory_restarts: int
    """How often its worker was replaced because of its memory."""
    guard: Guard
    serving: Callable[[], object]
    """To be called when the group has assigned it something."""


def _work(
    options: RunOptions, place: Place, watcher: Watcher[GenerationScorer], source: Follower, store: Store, log: Log
) -> None:
    number = place.number
    waiting: list[Scorer] = []
    name = SlotName(options.role, options.lane, options.host, number, _taken(watcher, waiting))
    telemetry.configure(level=options.log_level, role=options.role, lane=options.lane, pid=os.getpid(), slot=number)
    meter = WorkerMeter(options.role, options.lane, number, memory_restarts=place.memory_restarts)
    meter.refuses(lambda: watcher.problem)
    if (registry := open_registry()) is not None:
        meter.asks(registry)
    meter.expects(waiting[0])
    asked = _Asked()
    signal.signal(signal.SIGTERM, asked.to_stop)  # before the clients open: that may take seconds
    signal.signal(LEAVE, asked.to_leave)
    vitals = Vitals(
        options,
        number,
        meter,
        refused=lambda: watcher.refused,
        sequence=lambda: source.sequence,
        problem=lambda: watcher.problem,
        unready=asked.why_unready,
        memory_restarts=place.memory_restarts,
    )
    pulse = Pulse(store, vitals, lambda why: log.warning("heartbeats_not_written", error=why), meter.heartbeat_skipped)
    # before the clients open, too: a broker may be away for long
    health = _health(options, number, asked, meter, lambda: watcher.problem)
    with health, pulse, _tracing(options, name, meter) as tracer:
        worker = open_worker(
            options.settings,
            name,
            lambda: waiting.pop() if waiting else watcher.take(),
            meter=meter,
            log=log,
            failpoint=failpoints.from_environment(),
            guard=place.guard,
            start_at=options.start_at,
            config=str(options.store),
            tracer=tracer,
        )
        asked.tell(worker)
        watchdog.watch(lambda: worker.busy_since, log, options.stall_s)
        worker.run(leave=lambda: asked.leaving, serving=place.serving)


@contextmanager
def _tracing(options: RunOptions, name: SlotName, meter: WorkerMeter) -> Iterator[Tracer | None]:
    """Have sampled events traced meanwhile, if that is wanted; the SDK's thread starts here, after the fork."""
    if options.trace_ratio is None:
        yield None
        return
    from muse_stream.runtime.tracing import tracing  # noqa: PLC0415 - `run` has imported it, where it is wanted

    with tracing(options.trace_ratio, name) as tracer:
        if tracer is not None:
            meter.traces(tracer.counts)
        yield tracer


def _taken(watcher: Watcher[GenerationScorer], waiting: list[Scorer]) -> str:
    """Put the first generation where the worker takes it from, and return its namespace.

    Nothing else may hold it: a name of a frame that lives as long as the process would keep its models for ever.
    """
    first = watcher.take()
    assert first is not None  # noqa: S101  # the process compiled one before it said "ready"
    waiting.append(first)
    return first.namespace


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

    def why_unready(self) -> str:
        """Return why this process does not do its work; empty when it does."""
        return self._worker.why_unready() if self._worker else "opening its Kafka clients"

    def why_not_started(self) -> str:
        """Return why this process has not begun its work; empty when it has."""
        begun = self._worker is not None and self._worker.busy_since is not None
        return "" if begun else "opening its Kafka clients"

    def why_not_live(self, stall_s: float) -> str:
        """Return why this process makes no progress; empty when it does, or has not begun."""
        since = self._worker.busy_since if self._worker else None
        stood_s = time.monotonic() - since if since is not None else 0.0
        return f"no progress for {stood_s:.0f} s" if stood_s > stall_s else ""

    def tell(self, worker: Worker) -> None:
        """Hand over the worker; what was asked before holds."""
        self._worker = worker
        if self._stopping:
            worker.stop()


@contextmanager
def _health(
    options: RunOptions, number: int, asked: _Asked, meter: WorkerMeter, store_problem: Callable[[], str]
) -> Iterator[None]:
    """Answer the health pages meanwhile, if they are wanted."""

    def detail() -> str:  # no reason to be unready: the last good generation is served
        problem = store_problem()
        return f"generation store: {problem}" if problem else ""

    if options.health_port is None:
        yield
        return
    port = options.health_port + number
    try:
        server = telemetry.HealthServer(
            port,
            lambda: asked.why_not_live(options.stall_s) or True,
            lambda: asked.why_unready() or True,
            meter.registry,
            host=options.health_host,
            detail=detail,
            started=lambda: asked.why_not_started() or True,
        )
    except (OSError, OverflowError) as error:
        raise MuseError(f"health pages: cannot listen on {options.health_host}, port {port}: {error}") from None
    with server:
        yield
