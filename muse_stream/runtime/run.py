"""`run`: a supervisor and its worker processes, for one role and lane.

Importing this loads little, so that a command that is refused answers at once. `prepare` loads what workers need, once
for all of them.
"""

import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from muse_stream import telemetry
from muse_stream.config import KafkaSettings, Role
from muse_stream.errors import Fatal, MuseError
from muse_stream.kafka import StartAt
from muse_stream.runtime import process_title, run_pages, watchdog
from muse_stream.runtime.supervisor import LONGEST_BACKOFF_S, Supervisor
from muse_stream.worker import InHand

COLLECT_THRESHOLD = 50_000
"""Objects that are made before cyclic garbage is looked for, once all is imported; workers look more often."""


class RunOptions(Struct, frozen=True):
    """What every worker of a run shares."""

    store: str | Path
    """Folder or URL of the generation store."""
    role: Role
    lane: str = "main"
    host: str = field(default_factory=socket.gethostname)
    """Names this run's slots within their group; must be stable across restarts and unique among machines."""
    settings: KafkaSettings = field(default_factory=KafkaSettings.from_environment)
    log_level: str = "INFO"
    health_port: int | None = None
    """Slot n answers /started, /ready, /live and /metrics on this port plus n."""
    health_host: str = "0.0.0.0"  # noqa: S104  # probes come from outside the pod
    metrics_port: int | None = None
    """The pages of the whole run, of all its workers as one, are on this port; needs `health_port`."""
    stall_s: float = watchdog.STALL_S
    longest_backoff_s: float = LONGEST_BACKOFF_S
    start_at: StartAt = "answers"
    """Where partitions start of which the group has committed nothing."""
    max_memory: int | None = None
    """Bytes of resident memory at which a worker is replaced; None: no matter how many."""
    namespace: str | None = None
    """The fleet's; a generation with another one is refused. None: that of the first generation."""
    trusted: Path | None = None
    """File of public keys; only what one of them has signed is served. None: whatever the store says."""
    trace_ratio: float | None = None
    """Share of the events that get a span (docs/tracing.md). None: no event does, and nothing of it is imported."""


def prepare() -> None:
    """Import what workers need; they are forked from this process, which must not start a thread by it.

    The libraries start threads for work that a worker never gives them: linear algebra, and an allocator's cleaning.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    import_module("muse_stream.runtime.worker_process")
    gc.freeze()  # what is shared with the workers stays shared: no collection of theirs writes to it
    gc.set_threshold(COLLECT_THRESHOLD)


@contextmanager
def apart(work: Callable[..., Any], *arguments: Any) -> Iterator[Callable[[], Any]]:
    """Run `work(*arguments)` in another process meanwhile; what is yielded waits for its result, or raises its error.

    This process must not do itself what starts a thread (a Kafka client, decoding): workers are forked from it, and a
    forked process lacks such threads and would wait for them forever.
    """
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_apart, args=(theirs, work, arguments), name="muse-apart")
    child.start()
    theirs.close()

    def result() -> Any:
        try:
            value, error = ours.recv()
        except EOFError:
            raise Fatal("a process that prepares this run ended without an answer") from None
        if error is not None:
            raise error
        return value

    try:
        yield result
    finally:
        child.kill()
        child.join()
        ours.close()


def _apart(pipe: Connection, work: Callable[..., Any], arguments: Sequence[Any]) -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):  # a terminal sends them to both
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        pipe.send((work(*arguments), None))
    except (MuseError, OSError) as error:
        pipe.send((None, error))


@contextmanager
def reaching(settings: KafkaSettings) -> Iterator[None]:
    """See whether Kafka can be reached while the block runs; raises what `client.reach` raises."""
    with apart(_reach, settings) as result:
        yield
        result()


def _reach(settings: KafkaSettings) -> None:
    from muse_stream.kafka import reach  # noqa: PLC0415 - in a process of its own only

    reach(settings)


def run(options: RunOptions, workers: int, *, spare: bool = True) -> int:
    """Keep `workers` slots of a role and lane served; returns the exit code. Blocks until a signal ends it.

    This process must not have a Kafka client.
    """
    prepare()
    process_title.show("supervisor", options.role, options.lane, options.host)
    log = telemetry.logger("supervisor")
    backoff_s, most = options.longest_backoff_s, options.max_memory
    ports, whose = (options.metrics_port, options.health_port), (options.role, options.lane, options.host)
    with run_pages.served(options.health_host, *ports, workers, whose) as scaled:
        return Supervisor(
            _serve,
            options,
            workers,
            log,
            spare=spare,
            longest_backoff_s=backoff_s,
            max_memory=most,
            scaled=scaled,
        ).run()


def _serve(options: RunOptions, connection: Connection, in_hand: InHand, refused: frozenset[int]) -> None:
    from muse_stream.runtime.worker_process import serve  # noqa: PLC0415 - `prepare` has imported it

    serve(options, connection, in_hand, refused)
