"""N worker processes and a warm spare, until a signal.

A slot keeps its number, and so its group membership and its transactional ids, whichever process serves it. A crashed
worker is replaced at once by the spare, which has everything imported, compiled and warmed up; back-off only when the
same slot crashes again soon. Workers die with their supervisor (PR_SET_PDEATHSIG), so that no orphan fences its
successor (R8). Workers are forked from this process, which has imported what they use: a worker, its spare and every
successor cost the imports once. So this process must never have a Kafka client, which would not survive a fork, nor a
thread. A worker that takes more memory than it may (`memory_limit`) drains while a spare waits to take its slot over.

    SIGTERM, SIGHUP, SIGQUIT
             drain; slots keep their membership for their session (a restart or a rolling upgrade takes over unnoticed)
    SIGINT   drain and leave the group, so that others take the partitions at once; a second signal of these kills,
             unless it comes at once: then it is the same, heard twice
    SIGTTIN  one worker more            SIGTTOU  one worker less, which leaves the group
    SIGUSR1, SIGUSR2   logged, nothing else; a SIGHUP that was ignored at the start stays so (nohup)

A worker process: `serve(payload, connection, in_hand, refused)` sends "ready" when it could serve any slot, waits for
its slot number, the suspects (`poison`) and how often the slot was replaced because of its memory, and sends "serving"
when the group has assigned it something; where it fails it sends `FAILED` and the reason; "drained" when nothing of its
slot is open any more: the slot is given away then, and the process may end at leisure. `in_hand` is where it notes what
it does; `refused` are generations it must not compile. It drains on SIGTERM; on SIGUSR1 it leaves the group as well.
"""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from msgspec import Struct, field

from muse_stream.runtime.memory_limit import MemoryLimit
from muse_stream.telemetry import Log
from muse_stream.worker import InHand, PoisonSearch, Suspects

DRAIN_S = 10.0
TWICE_S = 0.5
"""A stop signal so soon after the first is the same one, heard twice: from a terminal and from a wrapper, say."""
QUIET_S = 10.0
"""A slot that served longer than this before it crashed is replaced at once."""
LONGEST_BACKOFF_S = 30.0
HOPELESS = 5
"""So many crashes before any worker has served: what is wrong does not pass, and a container must end."""
SETTLING_S = 5.0
"""The next spare is started once every slot serves, or so long after a slot was given: what it compiles would take the
processor from a worker that tenants wait for (a takeover on two cores: 0.58 s with, 0.36 s without)."""
CALM_S = 5.0
"""How often it looks around when all is as it should be: signals, deaths and what workers say wake it anyway."""
LEAVE = signal.SIGUSR1
FAILED = "failed: "
"""How the last word of a worker begins that ends with an error: what follows is the reason."""
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
IGNORED = (signal.SIGUSR1, signal.SIGUSR2)
WATCHED = (*STOPPING, signal.SIGTTIN, signal.SIGTTOU, *IGNORED)


Serve = Callable[[Any, Connection, InHand, frozenset[int]], None]
Assignment = tuple[int, Suspects, int]
"""What a worker process waits for: its slot, what is known of those that died before it, and how many of those were
replaced because of their memory."""


class Child(Struct, eq=False):
    """A worker process and our end of its pipe; `slot` is None while it is a spare."""

    process: BaseProcess
    pipe: Connection
    in_hand: InHand
    slot: int | None = None
    ready: bool = False
    serving: bool = False
    """Whether the group has assigned it something."""
    drained: bool = False
    """Whether nothing of its slot is open any more."""
    leaving: bool = False
    """Whether it was told to leave: its end is no crash, even when its slot exists again by then."""
    talks: bool = True
    """Whether its end of the pipe is open; a closed one would always be ready to be read."""
    since: float = field(default_factory=time.monotonic)
    drained_by: float | None = None
    """When it is killed unless it has ended by then; None: it was not told to leave."""

    @property
    def pid(self) -> int | None:
        """The process id."""
        return self.process.pid

    def settled(self, now: float) -> bool:
        """Whether a new process would not compete with this one while it takes its slot over."""
        return self.slot is None or self.serving or now - self.since > SETTLING_S


class Slot(Struct):
    """How often a slot (or the spare) has crashed in a row, and when it may be served again."""

    crashes: int = 0
    due: float = 0.0


class Supervisor:
    """Keeps `workers` slots served by processes that run `serve`."""

    def __init__(
        self,
        serve: Serve,
        payload: Any,
        workers: int,
        log: Log,
        *,
        spare: bool = True,
        longest_backoff_s: float = LONGEST_BACKOFF_S,
        max_memory: int | None = None,
        scaled: Callable[[int], object] = lambda _workers: None,
    ) -> None:
        """`scaled` is told how many slots there are whenever a signal has made them more or fewer."""
        self._serve, self._payload, self._log, self._spare = serve, payload, log, spare
        self._longest_backoff_s = longest_backoff_s
        self._scaled = scaled
        self._slots = {number: Slot() for number in range(workers)}
        self._bench = Slot()
        self._limit = MemoryLimit(max_memory, log) if max_memory else None
        self._relieved: int | None = None
        """The slot whose worker was replaced because of its memory last, until its successor serves."""
        self._children: list[Child] = []
        self._context = multiprocessing.get_context("fork")
        self._search = PoisonSearch()
        self._served = False
        """Whether any worker has served; until then crashes may mean that none ever will."""
        self._vain = 0
        """Crashes until then."""
        self._reason = ""
        """What the last worker that failed said."""
        self._signals: list[int] = []

    def run(self) -> int:
        """Serve until one of `STOPPING`; returns 0 when every worker drained, 1 when one had to be killed.

        Returns 1 as well when no worker could serve at all (`HOPELESS`).
        """
        with self._listening() as wakeup:
            while not self._stop_signal() and self._vain < HOPELESS:
                self._fill()
                wait(
                    [
                        *(c.process.sentinel for c in self._children),
                        *(c.pipe for c in self._children if c.talks),
                        wakeup,
                    ],
                    self._patience(),
                )
                with contextlib.suppress(BlockingIOError):
                    os.read(wakeup, 64)
                self._scale()
                self._hear()
                self._reap()
                self._end_late()
                self._relieve()
            return max(self._drain(leave=self._stop_signal() == signal.SIGINT), int(self._vain >= HOPELESS))

    def _fill(self) -> None:
        now = time.monotonic()
        served = {child.slot for child in self._children if not child.drained}
        for number, slot in self._slots.items():
            if number not in served and slot.due <= now:
                self._give(number)
        settled = all(child.ready and child.settled(now) for child in self._children)
        spare = self._spare or (self._limit is not None and self._limit.wants_spare)
        wanted = spare and self._bench.due <= now and not any(child.slot is None for child in self._children)
        if wanted and settled:
            self._start()

    def _give(self, number: int) -> None:
        child = next((c for c in self._children if c.slot is None and c.ready), None) or self._start()
        child.slot, child.since = number, time.monotonic()
        with contextlib.suppress(OSError):  # it has died since we looked; `_reap` finds out
            child.pipe.send((number, self._search.suspects, self._limit.replaced(number) if self._limit else 0))
        self._log.info("slot", number=number, pid=child.process.pid, from_spare=child.ready)

    def _start(self) -> Child:
        ours, theirs = self._context.Pipe()
        in_hand = InHand(self._context)
        arguments = (self._serve, self._payload, theirs, in_hand, self._search.refused)
        process = self._context.Process(target=_child, args=arguments, name="muse-worker")
        process.start()
        theirs.close()
        child = Child(process, ours, in_hand)
        self._children.append(child)
        return child

    def _hear(self) -> None:
        for child in self._children:
            try:
                while child.talks and child.pipe.poll():
                    self._heard(child, child.pipe.recv())
            except (EOFError, ConnectionError):
                child.talks = False

    def _heard(self, child: Child, said: str) -> None:
        if said == "serving":
            self._served = child.serving = True
        elif said == "drained":
            child.drained = child.leaving
        elif said.startswith(FAILED):
            self._reason = said.removeprefix(FAILED)
        elif said == "ready":
            child.ready = True
            if child.slot is None:
                self._log.info("spare_ready", pid=child.process.pid)

    def _reap(self) -> None:
        ended = [c for c in self._children if not c.process.is_alive()]
        self._hear()  # their last words
        for child in ended:
            self._children.remove(child)
            child.pipe.close()
            if child.leaving:
                continue
            pid, code = child.process.pid, child.process.exitcode
            found = self._search.died(child.in_hand.read(), code) if code else None
            if found:
                self._log.error("died_while_at_work", pid=pid, code=code, **found)
            if child.slot is None:
                facts = self._schedule(self._bench, child, at_once=bool(found))
                self._log.warning("spare_ended", pid=pid, code=code, **facts)
            elif child.slot in self._slots:
                facts = self._schedule(self._slots[child.slot], child, at_once=bool(found))
                self._log.error("worker_ended", slot=child.slot, pid=pid, code=code, **facts)

    def _end_late(self) -> None:
        """Kill who was told to leave and does not end: a client that hangs while it closes keeps its partitions."""
        now = time.monotonic()
        for child in self._children:
            if child.drained_by is not None and child.drained_by < now and child.process.is_alive():
                error = f"not drained within {DRAIN_S:g} s"
                self._log.error("killed", slot=child.slot, pid=child.pid, error=error)
                child.process.kill()
                child.drained_by = None

    def _relieve(self) -> None:
        """Let a spare take over from a worker that takes too much memory; one at a time."""
        if self._limit is None:
            return
        now = time.monotonic()
        serving = [child for child in self._children if child.slot is not None and child.serving and not child.leaving]
        if self._relieved is not None:
            if self._relieved in self._slots and not any(child.slot == self._relieved for child in serving):
                return
            self._relieved = None
        spare = next((child for child in self._children if child.slot is None and child.ready), None)
        chosen = self._limit.choose(serving, spare)
        if chosen is None:
            return
        child = next(one for one in serving if one is chosen[0])
        self._relieved, child.leaving, child.drained_by = child.slot, True, now + DRAIN_S
        facts = {"resident_bytes": chosen[1], "max_memory_bytes": self._limit.most}
        times = self._limit.replaced(child.slot or 0)
        self._log.warning("worker_replaced", slot=child.slot, pid=child.pid, times=times, **facts)
        self._signal([child], signal.SIGTERM)

    def _schedule(self, slot: Slot, child: Child, *, at_once: bool) -> dict[str, Any]:
        """Say when a slot is served again; return that as facts for the log.

        `at_once`: what the process had in hand brings the search for a poison record forward, so there is no back-off.
        """
        now = time.monotonic()
        if at_once:
            slot.due = now
            return {"again_in_s": 0.0}
        slot.crashes = 1 if now - child.since > QUIET_S else slot.crashes + 1
        self._vain += not self._served
        if self._vain == HOPELESS:
            why = f"the last reason: {self._reason}" if self._reason else "see above"
            self._log.error("gave_up", error=f"{HOPELESS} crashes and no worker has served yet; {why}")
        delay_s = 0.0 if slot.crashes <= 1 else min(0.5 * 2 ** (slot.crashes - 2), self._longest_backoff_s)
        slot.due = now + delay_s
        if not delay_s:
            return {"again_in_s": delay_s}
        return {"again_in_s": delay_s, "backing_off": f"crash {slot.crashes} in a row within {QUIET_S:g} s of a start"}

    def _patience(self) -> float:
        now = time.monotonic()
        served = {child.slot for child in self._children}
        waits = [slot.due - now for number, slot in self._slots.items() if number not in served]
        complete = len(served) == len(self._slots) + self._spare and len(served) == len(self._children)
        calm = complete and self._limit is None and not any(child.leaving for child in self._children)
        return max(0.0, min([CALM_S if calm else 1.0, *waits]))

    def _scale(self) -> None:
        for number in [s for s in self._signals if s not in STOPPING]:
            self._signals.remove(number)
            if number in IGNORED:
                self._log.warning("signal_ignored", signal=signal.Signals(number).name)
            elif number == signal.SIGTTIN:
                self._slots[len(self._slots)] = Slot()
                self._scaled(len(self._slots))
            elif len(self._slots) > 1:
                last = len(self._slots) - 1
                del self._slots[last]
                self._scaled(last)
                leaving = [child for child in self._children if child.slot == last]
                for child in leaving:
                    child.leaving, child.drained_by = True, time.monotonic() + DRAIN_S
                self._signal(leaving, LEAVE)

    def _drain(self, *, leave: bool) -> int:
        self._signals.clear()
        self._hear()  # who said meanwhile that it is ready may have begun to work
        working = [child for child in self._children if child.slot is not None and child.ready]
        for child in self._children:
            if child not in working:
                child.process.kill()
        number, began = LEAVE if leave else signal.SIGTERM, time.monotonic()
        self._signal(working, number)
        while time.monotonic() < began + DRAIN_S and any(c.process.is_alive() for c in working):
            heard = len(self._signals)  # before the clock is read: what comes later may be the second one
            if time.monotonic() < began + TWICE_S:
                del self._signals[:heard]
            elif self._stop_signal():
                break
            wait([c.process.sentinel for c in working if c.process.is_alive()], 0.2)
        late = [child for child in working if child.process.is_alive()]
        why = (
            "told to stop once more, and not drained yet"
            if self._stop_signal()
            else f"not drained within {DRAIN_S:g} s"
        )
        for child in late:
            self._log.error("killed", slot=child.slot, pid=child.process.pid, error=why)
            child.process.kill()
        for child in self._children:
            child.process.join()
        # one that was given its slot a moment ago does not handle the signal yet: ended by it, it had nothing to drain
        return 1 if late or any(child.process.exitcode not in (0, -number) for child in working) else 0

    def _signal(self, children: list[Child], number: int) -> None:
        for child in children:
            if child.process.is_alive() and child.process.pid:
                os.kill(child.process.pid, number)

    def _stop_signal(self) -> int | None:
        return next((s for s in self._signals if s in STOPPING), None)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[int]:
        """Note signals and wake `wait` up; the handlers of before are put back."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        heeded = [one for one in WATCHED if one != signal.SIGHUP or signal.getsignal(one) is not signal.SIG_IGN]
        before = {number: signal.signal(number, lambda got, _frame: self._signals.append(got)) for number in heeded}
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reader)
            os.close(writer)


def _child(serve: Serve, payload: Any, pipe: Connection, in_hand: InHand, refused: frozenset[int]) -> None:
    """Run `serve` in a forked process, without the supervisor's signal handlers.

    A terminal sends its signals to all processes: what they mean the supervisor decides, and tells by SIGTERM or
    `LEAVE`.
    """
    signal.set_wakeup_fd(-1)
    for number in WATCHED:
        theirs = number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2)
        signal.signal(number, signal.SIG_IGN if theirs else signal.SIG_DFL)
    serve(payload, pipe, in_hand, refused)
