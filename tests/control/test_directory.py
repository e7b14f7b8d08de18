"""The directory store keeps what was published, whole, and notices when it is not."""

import json
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from muse_stream.config import Loaded, load_document
from muse_stream.control import DirectoryStore, Generation, directory
from muse_stream.errors import ConfigError, StoreError

Edited = Callable[[Loaded, str], Loaded]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def test_published_generation_is_a_complete_configuration_of_its_own(
    store: DirectoryStore, loaded: Loaded, folder: Path
) -> None:
    number = store.publish(loaded)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()  # what was published must not lean on it
    generation = store.open(number)
    again = load_document(generation.path)
    assert again.document == loaded.document
    assert generation.number == 1
    assert generation.parent is None


def test_publishing_does_not_make_current(store: DirectoryStore, loaded: Loaded) -> None:
    number = store.publish(loaded)
    assert store.current() is None
    store.move_current(None, number)
    assert store.current() == number


def test_same_content_as_current_gets_the_same_number(store: DirectoryStore, loaded: Loaded, edited: Edited) -> None:
    store.move_current(None, store.publish(loaded))
    assert store.publish(loaded) == 1
    assert store.publish(edited(loaded, "other")) == 2
    assert [entry.number for entry in store.list()] == [1, 2]


def test_numbers_grow_even_after_a_rollback_and_each_knows_its_parent(
    store: DirectoryStore, loaded: Loaded, edited: Edited
) -> None:
    store.move_current(None, store.publish(loaded))
    store.move_current(1, store.publish(edited(loaded, "second")))
    assert store.rollback() == 1
    assert store.current() == 1
    third = store.publish(edited(loaded, "third"))
    assert third == 3
    assert store.open(3).parent == 1
    assert store.rollback(to=2) == 2


def test_document_is_published_as_it_was_checked_not_as_it_is_now(store: DirectoryStore, loaded: Loaded) -> None:
    loaded.source.path.write_text("broken: [")
    generation = store.open(store.publish(loaded))
    assert generation.path.read_bytes() == loaded.source.data


@pytest.mark.parametrize("expected", [None, 2, 7])
def test_current_moves_only_from_what_the_caller_saw(
    store: DirectoryStore, loaded: Loaded, edited: Edited, expected: int | None
) -> None:
    store.move_current(None, store.publish(loaded))
    store.publish(edited(loaded, "second"))
    with pytest.raises(StoreError, match="moved meanwhile"):
        store.move_current(expected, 2)
    assert store.current() == 1


def test_of_many_who_move_current_at_once_one_wins(store: DirectoryStore, loaded: Loaded, edited: Edited) -> None:
    store.move_current(None, store.publish(loaded))
    for name in range(8):
        store.publish(edited(loaded, f"next {name}"))
    ready = threading.Barrier(8)

    def move(number: int) -> bool:
        ready.wait()
        try:
            store.move_current(1, number)
        except StoreError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(move, range(2, 10)))
    assert sum(won) == 1
    assert store.current() == 2 + won.index(True)


def test_many_publishers_get_different_numbers(
    store: DirectoryStore, loaded: Loaded, edited: Edited, tmp_path: Path
) -> None:
    copies = [edited(loaded, f"publisher {name}") for name in range(6)]
    with ThreadPoolExecutor(6) as pool:
        numbers = list(pool.map(store.publish, copies))
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]
    assert {store.open(number).path.read_bytes() for number in numbers} == {copy.source.data for copy in copies}


def test_unknown_generation_cannot_become_current(store: DirectoryStore, loaded: Loaded) -> None:
    store.publish(loaded)
    with pytest.raises(StoreError, match="there is no generation 9; there is: 1"):
        store.move_current(None, 9)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "add", "link"])
def test_damaged_file_is_refused_by_its_name(store: DirectoryStore, loaded: Loaded, damage: str) -> None:
    generation = store.open(store.publish(loaded))
    victim = sorted(generation.path.parent.rglob("*.onnx"))[0]
    content = victim.read_bytes()
    if damage == "flip":
        victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "truncate":
        victim.write_bytes(content[:-1])
    elif damage == "remove":
        victim.unlink()
    elif damage == "add":
        victim = victim.with_name("extra.avsc")
        victim.write_text("{}")
    else:
        victim.rename(victim.with_name("aside"))
        victim.symlink_to("aside")
    with pytest.raises(StoreError) as refused:
        store.open(generation.number)
    named = victim.name if damage != "link" else "aside"
    assert named in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest | {"number": 2},
        lambda manifest: manifest | {"files": {}},
        lambda manifest: {"number": 1},
        lambda manifest: [],
        lambda manifest: manifest | {"sha256": "0" * 64},
    ],
)
def test_damaged_manifest_is_refused_and_listed(store: DirectoryStore, loaded: Loaded, change: object) -> None:
    store.publish(loaded)
    path = store.path / "generations" / "000001" / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))  # type: ignore[operator]
    with pytest.raises(StoreError, match=r"manifest\.json"):
        store.open(1)
    (entry,) = store.list()
    assert "manifest.json" in entry.problem


def test_torn_manifest_is_refused(store: DirectoryStore, loaded: Loaded) -> None:
    store.publish(loaded)
    path = store.path / "generations" / "000001" / "manifest.json"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StoreError, match=r"manifest\.json: torn"):
        store.open(1)


@pytest.mark.parametrize("content", ["", "x", "{}", '{"number": "1"}', '{"number": 0}', "[1]"])
def test_unreadable_current_is_an_error_not_a_first_start(store: DirectoryStore, content: str) -> None:
    store.path.mkdir()
    (store.path / "current").write_text(content)
    with pytest.raises(StoreError, match="current"):
        store.current()


def _die_while_publishing(path: Path, document: Path, after: int) -> None:
    real = directory._copy
    calls = 0

    def copy(source: Path, target: Path) -> str:
        nonlocal calls
        calls += 1
        if calls > after:
            os._exit(9)
        return real(source, target)

    directory._copy = copy
    DirectoryStore(path).publish(load_document(document))
    os._exit(0)


@pytest.mark.parametrize("after", [0, 2])
def test_publisher_killed_half_way_leaves_nothing_behind(store: DirectoryStore, loaded: Loaded, after: int) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_die_while_publishing, args=(store.path, loaded.source.path, after)
    )
    process.start()
    process.join(30)
    assert process.exitcode == 9
    assert store.list() == ()
    assert store.publish(loaded) == 1
    assert [path.name for path in (store.path / "generations").iterdir()] == ["000001"]
    assert isinstance(store.open(1), Generation)


def test_reading_needs_no_lock_and_who_holds_it_too_long_is_named(
    store: DirectoryStore, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.move_current(None, store.publish(loaded))
    monkeypatch.setattr(directory, "LOCK_WAIT_S", 0.05)
    with (store.path / "lock").open("ab") as held:
        flock(held, LOCK_EX)
        assert store.current() == 1
        assert store.open(1).number == 1
        with pytest.raises(StoreError, match="lock: held by another process"):
            store.publish(loaded)
    assert store.publish(loaded) == 1


def test_file_that_vanished_since_the_check_is_named(store: DirectoryStore, loaded: Loaded) -> None:
    victim = sorted(loaded.root.rglob("*.onnx"))[0]
    victim.unlink()
    with pytest.raises(ConfigError, match=victim.name):
        store.publish(loaded)
    assert store.list() == ()


def test_rollback_with_nowhere_to_go(store: DirectoryStore, loaded: Loaded) -> None:
    with pytest.raises(StoreError, match="nothing was published"):
        store.rollback()
    store.move_current(None, store.publish(loaded))
    with pytest.raises(StoreError, match="is the first"):
        store.rollback()
    with pytest.raises(StoreError, match="current already"):
        store.rollback(to=1)


def test_rollback_to_a_broken_generation_is_refused(store: DirectoryStore, loaded: Loaded, edited: Edited) -> None:
    store.move_current(None, store.publish(loaded))
    store.move_current(1, store.publish(edited(loaded, "second")))
    sorted((store.path / "generations" / "000001").rglob("*.onnx"))[0].write_bytes(b"")
    with pytest.raises(StoreError, match=r"\.onnx"):
        store.rollback()
    assert store.current() == 2


def test_store_that_cannot_be_written_is_a_store_error(tmp_path: Path, loaded: Loaded) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        DirectoryStore(tmp_path / "file").publish(loaded)


def test_former_generations_are_those_that_were_current_and_not_rolled_back(
    store: DirectoryStore, loaded: Loaded, edited: Edited
) -> None:
    assert store.former() == ()
    store.move_current(None, store.publish(loaded))
    assert store.former() == ()
    store.move_current(1, store.publish(edited(loaded, "second")))
    store.rollback()
    store.move_current(1, store.publish(edited(loaded, "third")))
    assert store.current() == 3
    assert store.former() == (1,), "2 was rolled back"
    store.move_current(3, store.publish(edited(loaded, "fourth")))
    store.move_current(4, store.publish(edited(loaded, "fifth")))
    assert store.former() == (4, 3, 1)
    store.rollback(to=3)
    assert store.former() == (1,), "4 and 5 were rolled back"


def test_a_current_file_of_version_0_1_names_no_former_ones_so_the_parents_tell(
    store: DirectoryStore, loaded: Loaded, edited: Edited
) -> None:
    store.move_current(None, store.publish(loaded))
    store.publish(edited(loaded, "never current"))
    store.move_current(1, store.publish(edited(loaded, "third")))
    (store.path / "current").write_text('{"number": 3}')
    assert store.former() == (1,)


@pytest.mark.parametrize("content", ['{"number": 1, "former": 3}', '{"number": 1, "former": ["2"]}', "[1]", '"x"'])
def test_a_current_file_with_other_content_is_refused(store: DirectoryStore, loaded: Loaded, content: str) -> None:
    store.move_current(None, store.publish(loaded))
    (store.path / "current").write_text(content)
    with pytest.raises(StoreError, match="current"):
        store.current()
    with pytest.raises(StoreError, match="current"):
        store.former()
