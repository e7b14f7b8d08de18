"""The watcher offers what became current, refuses what is broken, and outlives everything."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from muse_stream.control import Follower, Generation, Head, Watcher
from muse_stream.errors import ConfigError, Problem, RegistryError, StoreError
from tests.patience import PATIENCE
from tests.worker.doubles import await_true, threads


class Scripted:
    """A store whose answers a test writes; its watcher counts the looks."""

    def __init__(self) -> None:
        self.answer: int | Exception | None = None
        self.memory: Head | None = None
        self.asked = 0
        self.broken: dict[int, Exception] = {}
        self.looks, self.unguarded = threading.Semaphore(0), 0

    def head(self) -> Head | None:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return None if self.answer is None else Head(self.answer)

    def open(self, number: int, sha256: str = "") -> Generation:
        if number in self.broken:
            raise self.broken[number]
        return Generation(number, "0" * 64, Path(f"{number}.yaml"), datetime(2026, 7, 1, tzinfo=UTC), None)

    def remembered(self) -> Head | None:
        return self.memory

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def looked(self, times: int = 2) -> None:
        """Wait until the watcher has begun so many looks from now on; the last one but one is complete then."""
        while self.looks.acquire(blocking=False):
            pass
        for _ in range(times):
            assert self.looks.acquire(timeout=10 * PATIENCE)


class Counted(Watcher[str]):
    """A watcher that tells its store of each look: in one look the store may be asked twice."""

    def _look(self) -> None:
        assert isinstance(self._source, Scripted)
        self._source.looks.release()
        self._source.unguarded += not self._looking.locked()
        super()._look()


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, /, **values: Any) -> None:
        self.lines.append((event, values))

    error = info


class Panic(BaseException):
    """What pyo3 raises when Rust panics: no Exception."""


@contextmanager
def watching(
    store: Scripted, compile: Callable[[Generation], str], log: Any = None, first: int | None = None
) -> Iterator[Watcher[str]]:
    """A watcher whose owner has taken what it compiled first."""
    begun = None if first is None else (Head(first), f"compiled {first}")
    with Counted(store, compile, 0.005, first=begun, log=log) as watcher:
        if begun:
            assert watcher.take() == begun[1]
        yield watcher


def named(generation: Generation) -> str:
    return f"compiled {generation.number}"


def test_new_current_is_offered_once() -> None:
    store = Scripted()
    with watching(store, named) as watcher:
        store.looked()
        assert watcher.take() is None
        store.answer = 1
        store.looked()
        assert watcher.take() == "compiled 1"
        store.looked()
        assert watcher.take() is None


def test_only_the_newest_is_offered_and_what_runs_is_not_compiled_again() -> None:
    store = Scripted()
    store.answer = 1
    compiled: list[int] = []

    def compile(generation: Generation) -> str:
        compiled.append(generation.number)
        return named(generation)

    with watching(store, compile, first=1) as watcher:
        for number in (2, 3):
            store.answer = number
            store.looked()
        assert watcher.take() == "compiled 3"
        store.answer = 2
        store.looked()
        assert watcher.take() == "compiled 2"
    assert compiled == [2, 3, 2]


def test_what_was_compiled_first_is_not_offered_after_something_newer() -> None:
    """A spare that waits through a promotion must not serve the old generation, at once or later."""
    store = Scripted()
    store.answer = 2
    with Counted(store, named, 0.005, first=(Head(1), "compiled 1")) as watcher:
        store.looked(3)
        assert watcher.take() == "compiled 2"
        assert watcher.take() is None


def test_a_generation_rolled_back_while_it_was_compiled_is_not_offered() -> None:
    store = Scripted()

    def compile(generation: Generation) -> str:
        if generation.number == 2:
            store.answer = 1
        return named(generation)

    store.answer = 2
    with watching(store, compile, first=1) as watcher:
        store.looked(5)
        assert watcher.take() is None


def idle(store: Scripted, compile: Callable[[Generation], str] = named, first: int = 1) -> Watcher[str]:
    """A watcher that looks only when it is told to."""
    return Watcher(store, compile, 3_600.0, first=(Head(first, sequence=first), f"compiled {first}"))


def test_a_spare_that_takes_over_between_two_looks_serves_what_is_current() -> None:
    store = Scripted()
    store.answer = 2
    with idle(store) as watcher:
        watcher.catch_up()
        assert watcher.take() == "compiled 2"
        watcher.catch_up()
        assert watcher.take() is None


def test_a_spare_compiles_only_what_has_been_current_for_a_while() -> None:
    """While generations come and go it takes no processor from the worker that compiles each."""
    store = Scripted()
    compiled: list[int] = []

    def compile(generation: Generation) -> str:
        compiled.append(generation.number)
        return named(generation)

    begun = Head(1), "compiled 1"
    with Counted(store, compile, 0.005, first=begun, settle_s=3_600.0) as watcher:
        for number in (2, 3, 1, 4):
            store.answer = number
            store.looked()
        assert (watcher.take(), watcher.take(), compiled) == ("compiled 1", None, [])
        watcher.catch_up()  # it takes a slot over: from now on it is a worker
        assert watcher.take() == "compiled 4"
        store.answer = 5
        store.looked()
        assert watcher.take() == "compiled 5"
    with Counted(store, compile, 0.005, first=begun, settle_s=0.02) as watcher:
        await_true(lambda: watcher.take() == "compiled 5", "what has settled is not offered")
    assert compiled == [4, 5, 5]


def test_the_thread_and_who_catches_up_never_look_at_the_same_time() -> None:
    store = Scripted()
    store.answer = 1
    with watching(store, named, first=1) as watcher:
        watcher.catch_up()
        store.looked()
        assert (store.asked > 0, store.unguarded) == (True, 0)


def test_catching_up_waits_for_a_compilation_under_way() -> None:
    store, go_on, begun = Scripted(), threading.Event(), threading.Event()
    store.answer = 2

    def compile(generation: Generation) -> str:
        begun.set()
        assert go_on.wait(10 * PATIENCE)
        return named(generation)

    with Watcher(store, compile, 0.005, first=(Head(1), "compiled 1")) as watcher:
        assert begun.wait(10 * PATIENCE)
        catching = threading.Thread(target=watcher.catch_up)
        catching.start()
        catching.join(0.1)
        assert catching.is_alive()
        go_on.set()
        catching.join(10 * PATIENCE)
        assert watcher.take() == "compiled 2"


def test_catching_up_while_the_store_is_away_takes_what_this_machine_remembers() -> None:
    """The predecessor may have followed a promotion that the spare had not seen when the store went away."""
    store = Scripted()
    store.answer, store.memory = StoreError("away"), Head(2, sequence=2)
    with idle(store) as watcher:
        watcher.catch_up()
        assert (watcher.take(), watcher.problem, store.asked) == ("compiled 2", "away", 1)
        store.memory = Head(3, sequence=3)
        watcher.catch_up()
        assert (watcher.take(), watcher.problem) == ("compiled 3", "away")
        assert store.asked == 1, "a store that is known to be away holds no takeover up"
        store.memory = Head(2, sequence=2)
        watcher.catch_up()
        assert watcher.take() is None, "older than what is served"


def test_what_becomes_current_while_it_catches_up_is_caught_up_with() -> None:
    store = Scripted()
    store.answer = 2

    def compile(generation: Generation) -> str:
        if generation.number == 2:
            store.answer = 3
        return named(generation)

    with idle(store, compile) as watcher:
        watcher.catch_up()
        assert watcher.take() == "compiled 3"


def test_a_store_that_goes_away_while_it_catches_up_has_said_what_is_current() -> None:
    store = Scripted()
    store.answer = 2

    def compile(generation: Generation) -> str:
        store.answer = StoreError("away")
        return named(generation)

    with idle(store, compile) as watcher:
        watcher.catch_up()
        assert watcher.take() == "compiled 2"


def test_neither_a_store_that_hangs_nor_a_compilation_holds_a_takeover_up_for_ever() -> None:
    go_on = threading.Event()

    class Hanging(Scripted):
        def head(self) -> Head | None:
            assert go_on.wait(30 * PATIENCE)
            return super().head()

    def compile(generation: Generation) -> str:
        assert go_on.wait(30 * PATIENCE)
        return named(generation)

    for store in (Hanging(), Scripted()):
        go_on.clear()
        store.answer = 2
        with idle(store, compile) as watcher:
            watcher.catch_up(head_s=0.1, compile_s=0.1)
            assert watcher.problem
            assert watcher.take() == "compiled 1"
            go_on.set()
            await_true(lambda watcher=watcher: not watcher.problem, "what was waited for")  # type: ignore[misc]
            assert watcher.take() == "compiled 2"


def test_after_a_refusal_a_store_that_went_away_holds_no_takeover_up() -> None:
    store = Scripted()
    store.answer, store.broken = 2, {2: ConfigError([Problem("models", "no such model")])}
    store.memory = Head(2, sequence=2)
    with idle(store) as watcher:
        watcher.catch_up()
        store.answer = StoreError("away")
        watcher.catch_up()
        asked = store.asked
        watcher.catch_up()
        assert store.asked == asked
        assert watcher.take() == "compiled 1"


def test_what_a_machine_remembers_is_never_older_than_what_a_process_has_followed() -> None:
    class Kept:
        """A store of which only the copy on this machine is asked."""

        def __init__(self, *numbers: int) -> None:
            self._numbers = list(numbers)

        def kept(self) -> Head:
            return Head(number := self._numbers.pop(0), sequence=number)

    follower = Follower(Kept(5, 4, 6))  # type: ignore[arg-type]
    assert [follower.remembered(), follower.remembered()] == [Head(5, sequence=5), Head(6, sequence=6)]


def test_a_decision_that_no_trusted_key_has_signed_is_not_remembered(tmp_path: Path) -> None:
    class Kept:
        def kept(self) -> Head:
            return Head(5, sequence=5)

    keys = tmp_path / "keys"
    keys.write_text("", encoding="utf-8")
    with pytest.raises(StoreError):
        Follower(Kept(), keys).remembered()  # type: ignore[arg-type]


def test_what_cannot_be_caught_up_with_leaves_what_was_compiled() -> None:
    store = Scripted()
    store.broken = {2: ConfigError([Problem("models", "no such model")]), 3: StoreError("torn")}
    for number in (2, 3):
        store.answer = number
        with idle(store) as watcher:
            watcher.catch_up()
            assert watcher.take() == "compiled 1"
            assert watcher.problem
    store.answer, store.memory = StoreError("away"), Head(3, sequence=3)
    with idle(store) as watcher:
        watcher.catch_up()
        assert watcher.take() == "compiled 1"
        assert watcher.problem


@pytest.mark.parametrize(
    "error", [ConfigError([Problem("predictors.cards", "unknown model", line=7, file="muse.yaml")]), Panic("rust")]
)
def test_broken_generation_is_refused_and_said_once(error: BaseException) -> None:
    store, log, tries = Scripted(), Lines(), []

    def compile(generation: Generation) -> str:
        if generation.number == 2:
            tries.append(generation.number)
            raise error
        return named(generation)

    store.answer = 2
    with watching(store, compile, log, first=1) as watcher:
        store.looked(5)
        assert watcher.take() is None
        assert watcher.problem == str(error)
        assert tries == [2]
        assert [(event, values["generation"], values["error"]) for event, values in log.lines] == [
            ("generation_refused", 2, str(error))
        ]
        assert log.lines[0][1]["serving"] == 1
        store.answer = 1
        store.looked()
        assert watcher.problem == ""
        assert watcher.take() is None
        store.answer = 3
        store.looked()
        assert watcher.take() == "compiled 3"


def test_refusal_survives_a_store_that_was_away() -> None:
    store, log = Scripted(), Lines()

    def compile(generation: Generation) -> str:
        raise ConfigError([Problem("models.a", "no")])

    store.answer = 2
    with watching(store, compile, log, first=1) as watcher:
        store.looked()
        store.answer = StoreError("gone")
        store.looked()
        assert watcher.problem == "gone"
        store.answer = 2
        store.looked(3)
        assert watcher.problem == "models.a: no"
    assert [event for event, _ in log.lines] == ["generation_refused", "generation_store_unreadable"]


def test_unreadable_store_is_asked_again_until_it_answers() -> None:
    store, log = Scripted(), Lines()
    store.answer = OSError("disk")
    with watching(store, named, log) as watcher:
        store.looked(4)
        store.answer = 1
        store.broken[1] = StoreError("models/a.onnx: not the content that was published")
        store.looked(3)
        assert "a.onnx" in watcher.problem
        store.broken.clear()
        store.looked(3)
        assert watcher.take() == "compiled 1"
    problems = [values["error"] for _, values in log.lines]
    assert problems == ["OSError: disk", "models/a.onnx: not the content that was published"]


def test_a_registry_that_does_not_tell_ids_is_no_unreadable_store_and_is_asked_again() -> None:
    store, log, away = Scripted(), Lines(), [RegistryError("registry:8081 does not answer")]

    def compile(generation: Generation) -> str:
        if away:
            raise away[0]
        return named(generation)

    store.answer = 1
    with watching(store, compile, log) as watcher:
        store.looked(4)
        assert watcher.problem == "registry:8081 does not answer"
        assert [event for event, _ in log.lines] == ["answer_schemas_unknown"]
        away.clear()
        store.looked(3)
        assert watcher.take() == "compiled 1"


def test_log_that_raises_does_not_end_the_watch() -> None:
    class Full:
        def info(self, event: str, /, **values: Any) -> None:
            raise OSError("no space left on device")

        error = info

    store = Scripted()
    store.answer = StoreError("away")
    with watching(store, named, Full()) as watcher:
        store.looked()
        store.answer = 1
        store.looked(3)
        assert watcher.take() == "compiled 1"


def test_stop_is_prompt_while_a_compilation_hangs_and_its_result_is_dropped() -> None:
    store, hang, entered = Scripted(), threading.Event(), threading.Event()

    def compile(generation: Generation) -> str:
        entered.set()
        hang.wait(250)
        return named(generation)

    store.answer = 1
    watcher = Counted(store, compile, 0.005)
    watcher.start()
    assert entered.wait(10 * PATIENCE)
    watcher.stop(timeout_s=0.05)
    assert all(one.daemon for one in threads("generation-watcher")), "it would hold up the end of the process"
    hang.set()
    await_true(lambda: not threads("generation-watcher"), "the thread ends")
    assert watcher.take() is None


def test_stop_does_not_wait_for_a_long_interval() -> None:
    watcher = Watcher(Scripted(), named, 3600)
    watcher.start()
    before = time.monotonic()
    watcher.stop()
    assert time.monotonic() - before < 60, "the interval is an hour"
    await_true(lambda: not threads("generation-watcher"), "the thread ends")
