"""Which generation a worker process starts with: the current one, or else the last good one before it."""

import gc
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from muse_stream.config import KafkaSettings, Loaded, load_document
from muse_stream.control import DirectoryStore, Follower, Generation
from muse_stream.errors import ConfigError, Problem, StoreError
from muse_stream.models import Backend
from muse_stream.runtime import heartbeat, worker_process
from muse_stream.runtime.run import RunOptions
from muse_stream.worker import InHand
from tests.worker.doubles import ListLog

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """A store with generations 1 to 4; all were current, in that order."""
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "config"))
    document, content = folder / "muse.yaml", (folder / "muse.yaml").read_bytes()
    store, current = DirectoryStore(tmp_path / "store"), None
    for number in range(1, 5):
        document.write_bytes(content + f"# {number}\n".encode())
        loaded: Loaded = load_document(document)
        assert store.publish(loaded) == number
        store.move_current(current, number)
        current = number
    return store


def first_good(store: DirectoryStore, compile: Callable[[Generation], Any], log: ListLog) -> Any:
    return worker_process.first_good(Follower(store), compile, log).scorer


def compiling(*bad: int) -> tuple[Callable[[Generation], Any], list[int]]:
    """A compiler that refuses some generations, and what it was asked for."""
    asked: list[int] = []

    def compile(generation: Generation) -> Any:
        asked.append(generation.number)
        if generation.number in bad:
            raise ConfigError([Problem("models", f"generation {generation.number} has no such model")])
        return f"scorer of {generation.number}"

    return compile, asked


def damage(store: DirectoryStore, number: int) -> None:
    (document,) = (store.path / "generations" / f"{number:06}" / "content").glob("*.yaml")
    document.write_bytes(document.read_bytes() + b"# not what was published\n")


def test_the_current_generation_serves_and_no_other_is_compiled(store: DirectoryStore) -> None:
    compile, asked = compiling()
    log = ListLog()
    assert first_good(store, compile, log) == "scorer of 4"
    assert asked == [4]
    assert log.said("generation_refused") == []


def test_where_the_current_one_is_refused_the_latest_good_one_before_it_serves(store: DirectoryStore) -> None:
    compile, asked = compiling(4, 3)
    log = ListLog()
    assert first_good(store, compile, log) == "scorer of 2"
    assert asked == [4, 3, 2]
    assert [one["generation"] for one in log.said("generation_refused")] == [4, 3]


def test_the_one_before_is_the_one_that_was_current_before_not_the_number_below(store: DirectoryStore) -> None:
    """Generation 4 was rolled back because it was bad; what served when 5 was promoted is 3."""
    assert store.rollback() == 3
    document = store.open(4).path
    assert store.publish(load_document(document)) == 5
    store.move_current(3, 5)
    compile, asked = compiling(5)
    assert first_good(store, compile, ListLog()) == "scorer of 3"
    assert asked == [5, 3]


def test_a_generation_that_is_not_what_was_published_is_passed_over(store: DirectoryStore) -> None:
    damage(store, 4)
    compile, asked = compiling()
    log = ListLog()
    assert first_good(store, compile, log) == "scorer of 3"
    assert asked == [3]
    (said,) = log.said("generation_refused")
    assert said["generation"] == 4


def test_where_all_are_refused_the_current_one_s_error_is_raised(store: DirectoryStore) -> None:
    compile, asked = compiling(1, 2, 3, 4)
    with pytest.raises(ConfigError, match="generation 4 has no such model"):
        first_good(store, compile, ListLog())
    assert asked == [4, 3, 2, 1]


def test_an_empty_store_says_how_to_publish(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no generation; publish one there with `muse-stream publish`"):
        first_good(DirectoryStore(tmp_path / "empty"), compiling()[0], ListLog())


@pytest.mark.parametrize(
    ("wrote", "own", "said"),
    [
        ("0.10.0", "0.9.1", True),
        ("2.0", "1.9.9", True),
        ("0.9.1", "0.9.1", False),
        ("0.9", "0.10", False),
        ("", "1", False),
    ],
)
def test_what_is_refused_and_was_written_by_a_later_release_says_so(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, wrote: str, own: str, said: bool
) -> None:
    """An older worker in a rolling upgrade meets what it does not know: the cure is a newer worker."""
    monkeypatch.setattr(worker_process, "version", lambda _package: own)
    opened = store.open(4)
    assert opened.manifest is not None
    generation = replace(opened, manifest=replace(opened.manifest, version=wrote))
    generation.path.write_bytes(generation.path.read_bytes() + b"what_is_new: 1\n")
    compile = worker_process.compiler(
        RunOptions(str(store.path), "live", settings=KafkaSettings(bootstrap="none:1")),
        Follower(store),
        InHand(get_context("fork")),
        frozenset(),
    )
    with pytest.raises(ConfigError, match="what_is_new") as refused:
        compile(generation)
    assert (f"muse-stream {wrote} wrote this generation, and this is {own}" in str(refused.value)) == said


class Served:
    """What a compiled generation is to a worker process, as far as it looks at it."""

    namespace, number, topology = "muse", 1, None


def test_a_process_lets_its_first_generation_go_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that lived as long as the process kept the models of the first generation for ever."""
    found: list[bool] = []

    class Watching:
        problem, refused = "", None
        waiting = [Served(), Served()]  # noqa: RUF012

        def take(self) -> Served | None:
            return self.waiting.pop(0) if self.waiting else None

    class Working:
        def __init__(self, _settings: object, _name: object, next_scorer: Callable[[], Any], **_: object) -> None:
            self._next, self.busy_since = next_scorer, None

        def run(self, **_: object) -> None:
            serving = self._next()
            first = weakref.ref(serving)
            serving = self._next()
            gc.collect()
            found.append(first() is None)
            assert serving is not None

        def why_unready(self) -> str:
            return ""

    monkeypatch.setattr(worker_process, "open_worker", Working)
    monkeypatch.setattr(f"{worker_process.__name__}.signal.signal", lambda *_: None)
    monkeypatch.setattr(f"{worker_process.__name__}.watchdog.watch", lambda *_: None)
    monkeypatch.setattr(f"{worker_process.__name__}.telemetry.configure", lambda **_: None)
    options = RunOptions(tmp_path, "live", settings=KafkaSettings(bootstrap="nowhere:1"))
    place: Any = worker_process.Place(0, 0, None, lambda: None)  # type: ignore[arg-type]
    store = DirectoryStore(tmp_path)
    worker_process._work(options, place, Watching(), Follower(store), store, ListLog())  # type: ignore[arg-type]
    assert found == [True]


def test_a_worker_tells_what_runs_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    backends = {
        "cards": Backend("compiled", "100 trees"),
        "meta": Backend("onnxruntime", "it has no tree ensemble"),
        "risk": Backend("onnxruntime", "llvmlite cannot be imported", lacking=True),
    }
    log, scorer = ListLog(), SimpleNamespace(number=3, backends=backends)
    monkeypatch.setattr(f"{worker_process.__name__}.telemetry.logger", lambda _name: log)
    worker_process._tell_backends(scorer)  # type: ignore[arg-type]
    assert [(level, facts["model"], facts["backend"]) for level, _, facts in log.events] == [
        ("info", "cards", "compiled"),
        ("info", "meta", "onnxruntime"),
        ("warning", "risk", "onnxruntime"),
    ]
    assert heartbeat._backends(scorer.backends) == (
        "compiled: cards; meta by onnxruntime (it has no tree ensemble); "
        "risk by onnxruntime (llvmlite cannot be imported)"
    )
