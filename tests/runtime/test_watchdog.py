"""The watchdog ends a process whose loop stands still, and none that was stopped itself."""

import threading
from collections.abc import Iterator

import pytest

from muse_stream.runtime import watchdog
from tests.worker.doubles import ListLog

LIMIT_S = 4.0
LOOK_S = 1.0


class Ended(BaseException):
    """Stands for the end of the process."""


def looks(monkeypatch: pytest.MonkeyPatch, turns: list[float | None], pauses: dict[int, float]) -> int:
    """Return at which look the process was ended; `turns`: when the loop went on last, `pauses`: how late a look is."""
    number, now = 0, 100.0

    def sleep(seconds: float) -> None:
        nonlocal number, now
        number += 1
        now += seconds + pauses.get(number, 0.0)

    def end(code: int) -> None:
        assert code == watchdog.STALLED
        raise Ended

    told: Iterator[float | None] = iter(turns)
    monkeypatch.setattr("muse_stream.runtime.watchdog.time.sleep", sleep)
    monkeypatch.setattr("muse_stream.runtime.watchdog.time.monotonic", lambda: now)
    monkeypatch.setattr("muse_stream.runtime.watchdog.os._exit", end)
    monkeypatch.setattr(threading.Thread, "start", lambda _thread: None)
    thread = watchdog.watch(lambda: next(told), ListLog(), LIMIT_S)
    with pytest.raises((Ended, RuntimeError, StopIteration)) as how:
        thread.run()
    return number if how.type is Ended else -1


def test_a_loop_that_stands_still_is_ended_after_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looks(monkeypatch, [1.0, *[2.0] * 20], {}) in range(int(LIMIT_S), int(LIMIT_S) + 4)


def test_a_loop_that_goes_on_or_has_not_begun_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looks(monkeypatch, [None] * 20, {}) == -1
    assert looks(monkeypatch, [float(number // 3) for number in range(30)], {}) == -1


def test_a_process_that_was_stopped_itself_is_not_ended_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGSTOP, a frozen machine: the loop stood still because everything did."""
    assert looks(monkeypatch, [1.0, 1.0, *[float(number) for number in range(2, 20)]], {2: 3_600.0}) == -1
