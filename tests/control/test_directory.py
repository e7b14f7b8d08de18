"""The directory store keeps what was published, whole, and notices when it is not."""

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from muse_stream.config import Loaded, load_document
from muse_stream.control import DirectoryStore, Follower, Generation, Head, content, directory
from muse_stream.errors import StoreError

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


@pytest.mark.parametrize("age_s", [0.0, 3600.0], ids=["written a moment ago", "known"])
def test_what_is_current_is_seen_whichever_way_the_file_was_changed(store: DirectoryStore, age_s: float) -> None:
    """Looks are many, so one that finds the same file does not read it again; one written anew has another stamp."""
    store.path.mkdir()
    current = store.path / "current"
    past = time.time() - age_s
    for number in (1, 2, 3, 4):
        if number % 2:
            current.with_name("new").write_text(json.dumps({"number": number}))
            current.with_name("new").replace(current)  # as `move_current` does
        else:
            current.write_text(json.dumps({"number": number}))  # as a restore from a backup may
        os.utime(current, (past, past))  # the same times and the same size
        assert [store.current() for _ in range(3)] == [number] * 3
    current.unlink()
    assert store.current() is None


def test_a_file_that_has_not_changed_is_not_read_again(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.path.mkdir()
    (store.path / "current").write_text(json.dumps({"number": 1}))
    monkeypatch.setattr(directory, "SETTLED_NS", -1)
    assert store.current() == 1
    monkeypatch.setattr(Head, "read", None)
    assert store.current() == 1


def _die_while_publishing(path: Path, document: Path, after: int) -> None:
    real = content.copy_file
    calls = 0

    def copy(source: Path, target: Path) -> str:
        nonlocal calls
        calls += 1
        if calls > after:
            os._exit(9)
        return real(source, target)

    directory.copy_file = copy  # type: ignore[attr-defined]
    DirectoryStore(path).publish(load_document(document))
    os._exit(0)


@pytest.mark.parametrize("after", [0, 2])
def test_publisher_killed_half_way_leaves_nothing_behind(store: DirectoryStore, loaded: Loaded, after: int) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_die_while_publishing, args=(store.path, loaded.source.path, after)
    )
    process.start()
    process.join(250)
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


def test_clocks_of_operators_that_differ_by_an_hour_change_nothing(
    store: DirectoryStore, loaded: Loaded, edited: Edited
) -> None:
    """Moves follow each other whatever the clock of who made them says, and workers take each of them."""
    now, worker, seen = datetime(2026, 11, 26, 12, tzinfo=UTC), Follower(store), []
    for minutes, name in ((60, "fast"), (-60, "slow"), (0, "right"), (-60, "slow again")):
        operator = DirectoryStore(store.path, clock=lambda minutes=minutes: now + timedelta(minutes=minutes))  # type: ignore[misc]
        operator.move_current(operator.current(), operator.publish(edited(loaded, name)))
        head = worker.head()
        assert head is not None
        seen.append(head.number)
    assert seen == [1, 2, 3, 4]
    assert operator.rollback() == 3
    head = worker.head()
    assert head is not None
    assert head.number == 3


def test_a_folder_restored_from_a_backup_does_not_take_a_worker_back(
    store: DirectoryStore, loaded: Loaded, edited: Edited
) -> None:
    store.move_current(None, store.publish(loaded))
    backup = (store.path / "current").read_bytes()
    store.move_current(1, store.publish(edited(loaded, "second")))
    worker = Follower(store)
    head = worker.head()
    assert head is not None
    worker.open(head.number, head.sha256)
    (store.path / "current").write_bytes(backup)
    with pytest.raises(StoreError, match="generation 1 is current, which is older"):
        worker.head()
    (store.path / "current").unlink()
    with pytest.raises(StoreError, match="is empty, and generation 2 was current"):
        worker.head()
    store.move_current(None, 1)
    head = worker.head()
    assert head is not None
    assert head.number == 1, "an operator has decided"
