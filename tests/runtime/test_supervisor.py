"""The supervisor as a program of its own, with tiny workers: crash, back-off, signals, death, nothing left behind."""

import itertools
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from muse_stream.runtime import supervisor
from muse_stream.runtime.supervisor import SETTLING_S as SETTLED_S
from muse_stream.runtime.supervisor import TWICE_S, Child, Supervisor
from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker.poison import InHand
from tests.forked import Forked
from tests.patience import PATIENCE
from tests.worker.doubles import ListLog, await_true
from tests.worker.rig import expected, ledger, produce
from tests.worker.serving import GROWTH, SESSION_S


class Program:
    """A supervisor in a process; `events` are its log."""

    def __init__(self, serve: str, folder: Path, workers: int, *more: str) -> None:
        self.folder, self.events = folder, list[dict[str, Any]]()
        ours, theirs = os.pipe()
        self._said = os.fdopen(ours, encoding="utf-8")
        self.process = Forked(
            "tests.worker.serving:main", serve, str(folder), str(workers), *more, stdout=theirs, stderr=2
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._said:
            self.events.extend(json.loads(line) for line in self._said)

    def said(self, event: str) -> list[dict[str, Any]]:
        return [one for one in list(self.events) if one["event"] == event]

    def notes(self, what: str) -> list[tuple[int, int]]:
        """(slot, pid) of the workers that noted `what`."""
        found = [path.name.split("-") for path in self.folder.glob(f"{what}-*")]
        return sorted((int(slot), int(pid)) for _what, slot, pid in found)

    def serving(self, *slots: int) -> dict[int, int]:
        """Wait until living processes serve exactly these slots; slot -> pid."""

        def living() -> dict[int, int]:
            return {slot: pid for slot, pid in self.notes("serves") if alive(pid)}

        def fits() -> bool:
            found[:] = [living()]
            return sorted(found[0]) == sorted(slots)

        found: list[dict[int, int]] = []
        await_true(fits, lambda: f"slots {slots} are served, not {found[0]}; said: {self.events[-20:]}")
        return found[0]

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def with_spare(self, workers: int, times: int = 1) -> None:
        """Wait until the spare (the `times`-th of its kind) is ready."""
        ready = lambda: len(self.said("spare_ready")) >= times and len(self.workers()) == workers + 1  # noqa: E731
        await_true(ready, lambda: f"a spare is ready; said: {self.events[-20:]}")

    def tell(self, number: int) -> None:
        self.process.send_signal(number)

    def hear(self) -> None:
        """Return when the signals that were sent are heard: of two of a kind that wait, the second is lost."""
        before = len(self.said("signal_ignored"))
        self.tell(signal.SIGUSR2)
        await_true(lambda: len(self.said("signal_ignored")) > before, "it hears signals")

    def end(self, timeout_s: float = 15.0 * PATIENCE) -> int:
        code = self.process.wait(timeout_s)
        self._reader.join(60)
        return code


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Program] = []

    def run(serve: str, workers: int = 1, *more: str) -> Program:
        started.append(Program(serve, tmp_path, workers, *more))
        return started[-1]

    yield run
    for program in started:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()
        program._reader.join(60)


def gone(*pids: int) -> None:
    await_true(lambda: not any(alive(pid) for pid in pids), "the processes are gone")


@pytest.mark.parametrize(
    ("number", "how"),
    [
        (signal.SIGTERM, "drained"),
        (signal.SIGHUP, "drained"),
        (signal.SIGQUIT, "drained"),
        (signal.SIGINT, "left"),
    ],
)
def test_a_signal_drains_all_and_leaves_nothing(start: Start, number: int, how: str) -> None:
    program = start("obedient", 2)
    served = program.serving(0, 1)
    program.with_spare(2)
    everyone = [one.pid for one in psutil.Process(program.process.pid).children(recursive=True)]
    program.tell(number)
    assert program.end() == 0
    assert program.notes(how) == sorted(served.items())
    gone(*everyone)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_has_not_begun_is_no_failed_drain(start: Start, number: int) -> None:
    program = start("unarmed", 2)
    program.serving(0, 1)
    program.with_spare(2)
    program.tell(number)
    assert program.end() == 0


def test_signals_without_a_meaning_are_logged_and_end_nothing(start: Start) -> None:
    program = start("obedient", 1)
    served = program.serving(0)
    program.with_spare(1)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        program.tell(number)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2):  # as a terminal sends them, to all
        for worker in program.workers():
            worker.send_signal(number)
    await_true(lambda: len(program.said("signal_ignored")) == 2, "they are logged")
    assert [one["signal"] for one in program.said("signal_ignored")] == ["SIGUSR1", "SIGUSR2"]
    assert program.serving(0) == served
    program.tell(signal.SIGTERM)
    assert program.end() == 0
    assert program.said("worker_ended") == []


def test_a_crashed_worker_is_replaced_at_once_by_the_spare(start: Start) -> None:
    program = start("obedient", 2)
    before = program.serving(0, 1)
    program.with_spare(2)
    spare = {one.pid for one in program.workers()} - set(before.values())
    os.kill(before[1], signal.SIGKILL)
    gone(before[1])
    after = program.serving(0, 1)
    assert (after[0], {after[1]}) == (before[0], spare)
    await_true(lambda: program.said("worker_ended"), "the log says that it ended")
    (ended,) = program.said("worker_ended")
    assert (ended["slot"], ended["code"], ended["again_in_s"]) == (1, -signal.SIGKILL, 0.0)
    await_true(lambda: bool(program.said("slot")[-1]["from_spare"]), "the log says that it was the spare")
    assert not any(one.status() == psutil.STATUS_ZOMBIE for one in program.workers())


def looked_around(program: Program, times: int) -> bool:
    return len(program.said("signal_ignored")) == times


def test_the_next_spare_waits_until_the_slot_is_served(start: Start) -> None:
    """What it compiles would take the processor from the worker that tenants wait for."""
    program = start("hesitant")
    await_true(lambda: program.notes("slotted"), "the worker has its slot")
    for turn in (1, 2):
        program.tell(signal.SIGUSR1)
        await_true(partial(looked_around, program, turn), "the supervisor has looked around")
    assert len(program.workers()) == 1
    (program.folder / "go").touch()
    program.with_spare(1)
    assert program.notes("early") == []
    program.tell(signal.SIGTERM)
    assert program.end() == 0


@pytest.mark.parametrize(
    ("slot", "serving", "since_s", "settled"),
    [(None, False, 0.0, True), (0, True, 0.0, True), (0, False, 1.0, False), (0, False, SETTLED_S + 1, True)],
)
def test_one_that_never_serves_does_not_leave_the_others_without_a_spare(
    slot: int | None, serving: bool, since_s: float, settled: bool
) -> None:
    child = Child(Held(living=True), None, None, slot, serving=serving, since=100.0)  # type: ignore[arg-type]
    assert child.settled(100.0 + since_s) is settled


def test_repeated_crashes_are_backed_off(start: Start) -> None:
    program = start("crashing")
    await_true(lambda: len(program.said("worker_ended")) >= 4, "four crashes")
    assert [ended["again_in_s"] for ended in program.said("worker_ended")[:4]] == [0.0, 0.5, 1.0, 2.0]
    program.tell(signal.SIGTERM)
    program.end()


def test_a_run_whose_workers_can_never_serve_ends_with_a_reason(start: Start) -> None:
    program = start("hopeless", 2)
    assert program.end(60 * PATIENCE) == 1
    (said,) = program.said("gave_up")
    assert said["error"] == "5 crashes and no worker has served yet; the last reason: port 9100 is taken"
    assert psutil.pid_exists(program.process.pid) is False


def test_a_massacre_is_survived(start: Start) -> None:
    program = start("obedient", 2)
    program.serving(0, 1)
    program.with_spare(2)
    killed = [one.pid for one in program.workers()]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    gone(*killed)
    after = program.serving(0, 1)
    assert not set(after.values()) & set(killed)
    await_true(lambda: len(program.workers()) == 3, "there is a spare again")
    program.tell(signal.SIGTERM)
    assert program.end() == 0


def test_scaling_by_signals(start: Start) -> None:
    program = start("obedient")
    program.serving(0)
    program.tell(signal.SIGTTIN)
    two = program.serving(0, 1)
    program.tell(signal.SIGTTOU)
    program.serving(0)
    await_true(lambda: program.notes("left") == [(1, two[1])], "the last slot left the group")
    program.tell(signal.SIGTTIN)
    program.serving(0, 1)
    assert alive(two[0])
    assert program.said("worker_ended") == [], "leaving is no crash"
    program.tell(signal.SIGTERM)
    assert program.end() == 0


def test_a_removed_worker_that_does_not_end_is_killed(start: Start) -> None:
    """A client that hangs while it closes would keep the partitions of a slot that nobody serves any more."""
    program = start("stubborn", 2, "", "", "0.2")
    served = program.serving(0, 1)
    program.tell(signal.SIGTTOU)
    gone(served[1])
    await_true(lambda: program.said("killed"), "it is told")
    assert [(one["slot"], one["pid"]) for one in program.said("killed")] == [(1, served[1])]
    assert program.serving(0) == {0: served[0]}
    assert program.said("worker_ended") == []


def test_never_scales_below_one(start: Start) -> None:
    program = start("obedient")
    before = program.serving(0)
    for _ in range(2):
        program.tell(signal.SIGTTOU)
        program.hear()
    program.tell(signal.SIGTTIN)
    assert program.serving(0, 1)[0] == before[0], "the slot kept its process"
    assert program.notes("left") == []
    program.tell(signal.SIGTERM)
    assert program.end() == 0


def test_workers_die_with_their_supervisor(start: Start) -> None:
    program = start("stubborn", 2)
    program.serving(0, 1)
    everyone = [one.pid for one in program.workers()]
    program.process.kill()
    program.process.wait()
    gone(*everyone)


def test_a_second_interrupt_kills_who_does_not_drain(start: Start) -> None:
    program = start("stubborn", 1)
    served = program.serving(0)
    program.tell(signal.SIGINT)
    await_true(lambda: program.notes("told"), "the drain has begun: two signals at once would be one")
    assert alive(served[0])
    time.sleep(TWICE_S)  # before, it would be the first one, heard twice
    program.tell(signal.SIGINT)
    assert program.end() == 1
    gone(served[0])
    assert "once more" in program.said("killed")[0]["error"]


class Held:
    """A process that lives until it is killed, or has drained already."""

    def __init__(self, *, living: bool) -> None:
        self.living, self.killed, self.exitcode, self.pid = living, False, 0, None
        self.sentinel, self._other = os.pipe()

    def is_alive(self) -> bool:
        return self.living

    def kill(self) -> None:
        self.living, self.killed = False, True

    def join(self) -> None:
        os.close(self.sentinel)
        os.close(self._other)


def draining(process: Held) -> tuple[Supervisor, Any]:
    """A supervisor of one worker that has been given its slot, and the worker's end of the pipe."""
    made = Supervisor(lambda *_: None, None, 1, ListLog())
    ours, theirs = multiprocessing.Pipe()
    made._children.append(Child(process, ours, InHand(get_context("fork")), 0))  # type: ignore[arg-type]
    return made, theirs


def test_a_worker_that_has_just_said_that_it_is_ready_drains() -> None:
    """It may have begun to work: the stop came before the supervisor had heard of it."""
    process = Held(living=False)
    program, worker = draining(process)
    worker.send("ready")
    assert program._drain(leave=False) == 0
    assert not process.killed


def test_a_second_interrupt_is_not_lost_though_it_comes_while_the_clock_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Held(living=True)
    program, worker = draining(process)
    worker.send("ready")
    times = itertools.chain([0.0, 0.0, TWICE_S - 0.01], [TWICE_S + 0.01] * 9, itertools.repeat(1e9))

    def clock() -> float:
        now = next(times)
        if now == TWICE_S - 0.01:
            program._signals.append(signal.SIGINT)
        return now

    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=clock))
    assert program._drain(leave=True) == 1
    assert process.killed
    (said,) = program._log.said("killed")  # type: ignore[attr-defined]
    assert "once more" in said["error"]


def test_a_worker_that_closes_its_pipe_costs_nothing(start: Start) -> None:
    program = start("mute")
    program.serving(0)
    program.with_spare(1)
    us = psutil.Process(program.process.pid)
    before = us.cpu_times().user
    time.sleep(1.0)  # the span that is measured
    assert us.cpu_times().user - before < 0.3


def test_crashes_leave_no_descriptors_and_no_zombies(start: Start) -> None:
    program = start("obedient")
    counts = []
    for times in range(1, 4):
        (pid,) = program.serving(0).values()
        program.with_spare(1, times)
        counts.append(psutil.Process(program.process.pid).num_fds())
        os.kill(pid, signal.SIGKILL)
        gone(pid)
    assert len(set(counts)) == 1, counts


def test_a_spare_that_cannot_start_is_tried_again_with_patience(start: Start) -> None:
    program = start("stillborn", 0)
    await_true(lambda: len(program.said("spare_ended")) >= 3, "three spares")
    first = program.said("spare_ended")[:3]
    assert [ended["again_in_s"] for ended in first] == [0.0, 0.5, 1.0]
    assert "backing_off" not in first[0]
    assert first[1]["backing_off"] == "crash 2 in a row within 300 s of a start"
    program.tell(signal.SIGTERM)
    program.end()


def test_a_worker_and_a_spare_that_die_at_once_are_both_replaced(start: Start) -> None:
    """The spare may be given the slot before its death is known."""
    program = start("obedient")
    before = program.serving(0)
    program.with_spare(1)
    killed = program.workers()
    for one in killed:
        one.kill()
    gone(*(one.pid for one in killed))
    after = program.serving(0)
    assert set(after.values()).isdisjoint(before.values())
    await_true(lambda: program.said("worker_ended"), "the log says that it ended")
    assert program.said("worker_ended")[0]["again_in_s"] == 0.0
    program.tell(signal.SIGTERM)
    assert program.end() == 0


def test_r4_a_killed_workers_partitions_do_not_wait_for_its_session(
    kafka: Broker, unique: Callable[[str], str], make_topic: Callable[..., str], start: Start, tmp_path: Path
) -> None:
    names = {name: make_topic(name, partitions=4) for name in ("events", "scores", "dlq")}
    told = {"bootstrap": kafka.bootstrap, "lane": unique("lane"), **names}
    (tmp_path / "echo.json").write_text(json.dumps(told))
    program = start("echo", 2)
    total, took = 0, list[float]()
    with ledger(kafka.bootstrap, **{names["scores"]: 4}) as found:
        for times, victim in enumerate((None, 0, 1), start=1):
            served = program.serving(0, 1)
            program.with_spare(2, max(1, times - 1))
            if victim is not None:
                os.kill(served[victim], signal.SIGKILL)
            began, total = time.monotonic(), total + 400
            produce(kafka.bootstrap, names["events"], [b"x"] * 400, partitions=4)
            found.until(total)  # the killed one's partitions too
            took.append(time.monotonic() - began)
        assert min(took[1:]) < SESSION_S - 10, took
        program.tell(signal.SIGTERM)
        assert program.end() == 0
        assert found.to_end().answers() == expected(names["events"], total, 4)
        assert found.disorder() == []


ROOM = str(GROWTH // 2)


def grow(program: Program, *slots: int) -> None:
    for slot in slots:
        (program.folder / f"grow-{slot}").touch()


def test_a_worker_that_takes_too_much_memory_is_replaced_by_the_spare(start: Start) -> None:
    """It drains, and keeps its membership; the others are left alone, and a new spare waits."""
    program = start("growing", 2, ROOM)
    served = program.serving(0, 1)
    program.with_spare(2)
    grow(program, 1)
    await_true(lambda: program.said("worker_replaced"), "it is replaced")
    await_true(lambda: (1, served[1]) in program.notes("drained"), "it has drained")
    program.with_spare(2, times=2)
    assert program.serving(0, 1)[0] == served[0]
    (told,) = program.said("worker_replaced")
    assert (told["slot"], told["pid"], told["times"]) == (1, served[1], 1)
    assert told["resident_bytes"] > told["max_memory_bytes"]
    assert program.said("slot")[-1]["from_spare"]
    assert program.said("worker_ended") == []
    program.tell(signal.SIGTERM)
    assert program.end() == 0


def test_of_two_that_take_too_much_one_is_replaced_after_the_other(start: Start) -> None:
    program = start("growing", 2, ROOM)
    served = program.serving(0, 1)
    program.with_spare(2)
    grow(program, 0, 1)
    await_true(lambda: len(program.said("worker_replaced")) == 2, "both are replaced", 60)
    both = [one["pid"] for one in program.said("worker_replaced")]
    assert sorted(both) == sorted(served.values())
    order = [(one["event"], one.get("slot", one.get("number"))) for one in program.events]
    first, second = (one["slot"] for one in program.said("worker_replaced"))
    taken = [place for place, one in enumerate(order) if one == ("slot", first)]
    assert taken[-1] < order.index(("worker_replaced", second)), "the second waits for the first one's successor"
    await_true(lambda: len(program.notes("drained")) == 2, "both have drained")


def test_a_spare_is_started_for_it_where_none_is_kept(start: Start) -> None:
    program = start("growing", 1, ROOM, "")
    served = program.serving(0)
    grow(program, 0)
    await_true(lambda: program.said("worker_replaced"), "it is replaced", 60)
    assert program.said("spare_ready")
    gone(served[0])
    assert program.serving(0)[0] != served[0]


def test_a_limit_that_no_process_keeps_replaces_nobody(start: Start, tmp_path: Path) -> None:
    (tmp_path / "grow-always").touch()
    program = start("growing", 1, ROOM)
    served = program.serving(0)
    await_true(lambda: program.said("memory_limit_too_small"), "it is said", 60)
    await_true(lambda: program.said("spare_ready"), "a spare waits")
    assert "that has served nothing yet takes" in program.said("memory_limit_too_small")[0]["error"]
    program.tell(signal.SIGTTIN)  # whatever else happens meanwhile
    program.serving(0, 1)
    assert program.serving(0, 1)[0] == served[0]
    assert program.said("worker_replaced") == []
    assert len(program.said("memory_limit_too_small")) == 1


def test_a_successor_that_passes_the_limit_soon_waits(start: Start) -> None:
    program = start("growing", 1, ROOM)
    (first,) = program.serving(0).values()
    program.with_spare(1)
    grow(program, 0)
    await_true(lambda: program.said("worker_replaced"), "it is replaced", 60)
    gone(first)  # it would grow once more otherwise
    program.with_spare(1, times=2)
    successor = program.serving(0)
    grow(program, 0)
    await_true(lambda: program.said("memory_limit_waits"), "it is said that it waits", 60)
    assert program.serving(0) == successor
    assert len(program.said("worker_replaced")) == 1


def test_the_spare_takes_over_as_soon_as_nothing_is_open_any_more(start: Start, tmp_path: Path) -> None:
    """The end of a process (its threads, its libraries) is no part of the silence."""
    (tmp_path / "linger").touch()
    program = start("growing", 1, ROOM)
    served = program.serving(0)
    program.with_spare(1)
    grow(program, 0)
    await_true(lambda: program.said("worker_replaced"), "it is replaced", 60)
    await_true(lambda: len(program.notes("serves")) == 2, "the spare serves the slot", 60)
    assert alive(served[0])
