"""How a worker learns of a new generation without ever waiting for one.

A thread looks at a `Follower` of a store and calls a function that compiles a generation (loads, verifies, warms up:
seconds). `take()` gives the newest compiled one, once, between two batches.

There is one source of what to serve next. What was compiled first and what becomes current later go through the same
place, which holds one generation: a newer one replaces an older one that nobody took, so that nobody can take the older
one afterwards. Only what is still current when it has been compiled is offered. A spare compiles what has been current
for a while (`settle_s`), so as not to take the processor from the worker that compiles the same. When it takes a slot
over it looks once more before it serves (`catch_up`): since its last look its predecessor may have gone on to a newer
one.

The thread never dies and never blocks the worker. What cannot be compiled is refused, logged once, and stays refused
until `current` moves. What cannot be read (the store is away, a file is torn) is asked again, ever more slowly, and
logged once per text; so is a Schema Registry that does not tell the ids of a generation's answers. Meanwhile the worker
keeps scoring with what it has.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from muse_stream.control.records import Head
from muse_stream.control.store import Generation
from muse_stream.errors import RegistryError, StoreError

if TYPE_CHECKING:
    from muse_stream.telemetry import Log

T = TypeVar("T")
SLOWEST_S = 5.0  # between two looks at a store that does not answer: who publishes when it is back waits no longer
SLICE_S = 0.5
"""A wait is cut into such pieces, so that the thread ends soon when it is told to."""


HEAD_S, COMPILE_S, MOVES = 2.0, 60.0, 3
"""How long who takes a slot over waits for a store's answer and for a compilation, and how many moves it follows."""


class Source(Protocol):
    """What is watched: a `Follower`."""

    def head(self) -> Head | None:
        """Return what is current, None before the first."""

    def open(self, number: int, sha256: str = "") -> Generation:
        """Verify a generation and return it."""

    def remembered(self) -> Head | None:
        """Return the latest that any process of this machine has followed; None where the store keeps no copy here."""

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or sooner when something may have changed."""


class Watcher(Generic[T]):
    """Looks at what is current every `interval_s` seconds and compiles what it finds, in a daemon thread.

    `first` is a generation that its owner has compiled already: the first `take` returns it, unless a newer one has
    been compiled by then. `problem` is why that is not what the store says. Use as a context manager, or `start` and
    `stop`.
    """

    def __init__(
        self,
        source: Source,
        compile: Callable[[Generation], T],
        interval_s: float = 1.0,
        *,
        first: tuple[Head, T] | None = None,
        problem: str = "",
        log: "Log | None" = None,
        settle_s: float = 0.0,
    ) -> None:
        """`settle_s`: for how long a generation must be current before it is compiled; until `catch_up` is called."""
        self._source = source
        self._compile = compile
        self.interval_s = interval_s
        """How often to look; may be changed at any time."""
        self._settle_s = settle_s
        self._seen: tuple[Head, float] | None = None
        """What is current and not offered yet, and since when (monotonic seconds) it has been seen."""
        self._log = log
        self._offered = first[0] if first else None
        self._refused: tuple[Head, str] | None = None
        self._problem = problem
        self._fresh: list[T] = [first[1]] if first else []
        self._answered, self._moved, self._compiling = not problem, False, False
        """Whether the last look learned what is current; whether that changed while it was compiled."""
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="generation-watcher", daemon=True)

    def start(self) -> None:
        """Begin to look; call once."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End within `timeout_s`; a compilation still running is abandoned to the daemon thread, its result dropped."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def catch_up(self, head_s: float = HEAD_S, compile_s: float = COMPILE_S) -> None:
        """Look now, after a look that is under way: `take` gives what is current then.

        For who takes a slot over: between two looks a spare holds a generation that its predecessor has left already.
        Where the store cannot tell, what this machine remembers is compiled. Raises nothing; `problem` says why not.
        Returns after `head_s` where a store hangs, after `compile_s` more where a compilation does; what becomes of
        them is taken later.
        """
        self._settle_s = 0.0
        catching = threading.Thread(target=self._catch_up, name="catch-up", daemon=True)
        catching.start()
        catching.join(head_s)
        if catching.is_alive() and self._compiling:
            catching.join(compile_s)
        if catching.is_alive():
            self._tell(f"no answer within {head_s:g} s" if not self._compiling else f"compiling for {compile_s:g} s")

    def _catch_up(self) -> None:
        with self._looking:
            head = self._remembered() if not self._answered else None
            if head is None:
                for _ in range(MOVES):
                    self._attempt()
                    if not (self._answered and self._moved):
                        break
                if self._answered:
                    return
                head = self._remembered()
            if head is None or (self._offered is not None and head.sequence <= self._offered.sequence):
                return
            problem = self._problem
            try:
                self._offer(head, lambda: head)
                self._problem = self._problem or problem
            except BaseException as error:  # noqa: BLE001 - what it has is served
                self._tell(f"{error}" or type(error).__name__, of_schemas=isinstance(error, RegistryError))

    def _remembered(self) -> Head | None:
        with suppress(Exception):  # a file that is torn, or that no trusted key has signed
            return self._source.remembered()
        return None

    def take(self) -> T | None:
        """Return the newest compiled generation if there is one not taken yet; costs nothing when there is none."""
        if not self._fresh:
            return None
        with self._lock:
            return self._fresh.pop() if self._fresh else None

    @property
    def problem(self) -> str:
        """Why what is current is not served; empty while all is well. For the readiness page and `status`."""
        return self._problem

    @property
    def refused(self) -> int | None:
        """The generation that is current and cannot be compiled."""
        return self._refused[0].number if self._refused else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        pause = self.interval_s
        while not self._stopped_after(pause):
            with self._looking:
                self._attempt()
            pause = self.interval_s if self._answered else min(pause * 2, max(SLOWEST_S, self.interval_s))

    def _attempt(self) -> None:
        """Look; `_answered` says whether what is current is known now."""
        self._answered = False
        try:
            self._look()
            self._answered = True
        except RegistryError as error:
            self._tell(f"{error}", of_schemas=True)
        except StoreError as error:
            self._tell(f"{error}")
        except BaseException as error:  # noqa: BLE001 - a dead watcher would freeze the worker on its generation
            self._tell(f"{type(error).__name__}: {error}")

    def _stopped_after(self, seconds: float) -> bool:
        """Wait, and say whether to end; a hint of the store's ends the wait only while all is well."""
        began = time.monotonic()
        while not self._stopped.is_set():
            # a spare that takes a slot over looks more often from then on, not after its longer pause
            wanted = seconds if self._problem else min(seconds, self.interval_s)
            before = time.monotonic()
            if (left := began + wanted - before) <= 0:
                break
            try:
                self._source.wait(min(left, SLICE_S))
            except BaseException:  # noqa: BLE001 - as above
                self._stopped.wait(min(left, SLICE_S))
            if not self._problem and time.monotonic() - before < min(left, SLICE_S):
                break
        return self._stopped.is_set()

    def _look(self) -> None:
        head = self._source.head()
        if head is not None and self._settled(head):
            self._offer(head, self._source.head)

    def _settled(self, head: Head) -> bool:
        if head.same(self._offered) or not self._settle_s:
            self._seen = None
            return True
        now = time.monotonic()
        if self._seen is None or not head.same(self._seen[0]):
            self._seen = head, now
        return now - self._seen[1] >= self._settle_s

    def _offer(self, head: Head, current: Callable[[], Head | None]) -> None:
        """Compile what is current, and let it be taken if it is so still, as far as the store can tell."""
        self._moved = False
        if self._refused and head.same(self._refused[0]):
            self._problem = self._refused[1]  # the store may have been away in between
            return
        if not head.same(self._offered):
            generation = self._source.open(head.number, head.sha256)
            self._compiling = True
            try:
                compiled = self._compile(generation)
            except (StoreError, RegistryError):  # they may pass
                raise
            except BaseException as error:  # noqa: BLE001 - native code raises outside Exception (pyo3 panics)
                problem = f"{error}" or type(error).__name__
                self._refused = (head, problem)
                self._tell(problem, generation)
                return
            finally:
                self._compiling = False
            self._moved = not head.same(_told(current, head))
            if self._stopped.is_set() or self._moved:
                return  # rolled back while it was compiled: the next look finds what is current now
            with self._lock:
                self._fresh = [compiled]
            self._offered = head
        self._refused = None
        self._problem = ""

    def _serving(self) -> int | None:
        return self._offered.number if self._offered else None

    def _tell(self, problem: str, generation: Generation | None = None, *, of_schemas: bool = False) -> None:
        if problem == self._problem:
            return
        self._problem = problem
        if self._log is None:
            return
        with suppress(Exception):  # a full disk under the log must not end the watch
            if of_schemas:
                self._log.error("answer_schemas_unknown", error=problem, serving=self._serving())
            elif generation is None:
                self._log.error("generation_store_unreadable", error=problem, serving=self._serving())
            else:
                self._log.error(
                    "generation_refused",
                    generation=generation.number,
                    path=str(generation.path),
                    error=problem,
                    serving=self._serving(),
                )


def _told(current: Callable[[], Head | None], otherwise: Head) -> Head | None:
    """Return what is current; where a store is away just now, what it said before holds."""
    try:
        return current()
    except StoreError:
        return otherwise
