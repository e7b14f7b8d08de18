"""What every store promises, held by each of them: a directory, and a real Redis."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from muse_stream.config import Loaded, load_document
from muse_stream.control import Change, Conflict, DirectoryStore, Follower, Head, Note, Store, rollback
from muse_stream.errors import ConfigError, StoreError

Edited = Callable[[Loaded, str], Loaded]


def test_a_generation_is_a_complete_configuration_of_its_own(store: Store, loaded: Loaded, folder: Path) -> None:
    number = store.publish(loaded)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()  # what was published must not lean on it
    generation = store.open(number)
    assert load_document(generation.path).document == loaded.document
    assert (generation.number, generation.parent) == (1, None)
    store.verify(number)


def test_who_when_why_and_on_what_evidence_is_kept(store: Store, loaded: Loaded, edited: Edited) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    evidence = {"events": 184_220, "alert_rates": {"acme": 0.049}}
    number = store.publish(loaded, Note("a first one", "ana@bank", evidence))
    store.move_current(None, number, Note("go", "ben@bank"))
    (entry,) = store.list()
    assert (entry.author, entry.message, entry.evidence) == ("ana@bank", "a first one", evidence)
    assert entry.version
    assert entry.created is not None
    assert before < entry.created < datetime.now(UTC) + timedelta(seconds=5)
    manifest = store.manifest(number)
    assert manifest.files["muse.yaml"]
    assert manifest.format == 2
    head = store.head()
    assert head is not None
    assert (head.number, head.author, head.message, head.sha256) == (1, "ben@bank", "go", manifest.sha256)


def test_the_loser_is_told_who_won_and_what_changed(store: Store, loaded: Loaded, edited: Edited) -> None:
    store.move_current(None, store.publish(loaded, Note(author="ana")), Note(author="ana"))
    mine = store.publish(edited(loaded, "mine"), Note(author="ben"))
    theirs = store.publish(edited(loaded, "theirs"), Note("card-v2 for acme", "ana@bank"))
    store.move_current(1, theirs, Note("card-v2 for acme", "ana@bank"))
    with pytest.raises(Conflict) as refused:
        store.move_current(1, mine, Note(author="ben"))
    told = refused.value
    assert (told.expected, told.change) == (1, Change(changed=("muse.yaml",)))
    assert told.winner is not None
    assert (told.winner.number, told.winner.author) == (theirs, "ana@bank")
    for said in ("by ana@bank at 2", '("card-v2 for acme")', "changed: muse.yaml", "Nothing was changed"):
        assert said in str(told)
    assert store.current() == theirs


def test_every_move_is_later_than_the_one_before_a_rollback_too(store: Store, loaded: Loaded, edited: Edited) -> None:
    seen = []
    store.move_current(None, store.publish(loaded))
    seen.append(store.head())
    store.move_current(1, store.publish(edited(loaded, "second")))
    seen.append(store.head())
    rollback(store)
    seen.append(store.head())
    sequences = [head.sequence for head in seen if head]
    assert sequences == sorted(set(sequences))
    assert len(sequences) == 3


def test_a_broken_current_generation_can_be_rolled_back(store: Store, loaded: Loaded, edited: Edited) -> None:
    """Going back must not depend on reading what is broken."""
    store.move_current(None, store.publish(loaded))
    second = edited(loaded, "second")
    store.move_current(1, store.publish(second))
    if isinstance(store, DirectoryStore):
        (store.path / "generations" / "000002" / "content" / "muse.yaml").write_text("")
    assert rollback(store) == 1


def test_a_generation_of_another_hash_is_not_given_out(store: Store, loaded: Loaded) -> None:
    number = store.publish(loaded)
    assert store.open(number, store.manifest(number).sha256).number == number
    with pytest.raises(StoreError, match="another generation 1"):
        store.open(number, "0" * 64)


def test_a_note_is_bounded() -> None:
    with pytest.raises(StoreError, match="message has more than 1000"):
        Note("x" * 1001)


def test_publishing_does_not_make_current(store: Store, loaded: Loaded) -> None:
    number = store.publish(loaded)
    assert store.current() is None
    store.move_current(None, number)
    assert store.current() == number


def test_same_content_as_current_gets_the_same_number(store: Store, loaded: Loaded, edited: Edited) -> None:
    store.move_current(None, store.publish(loaded))
    assert store.publish(loaded) == 1
    assert store.publish(edited(loaded, "other")) == 2
    assert [entry.number for entry in store.list()] == [1, 2]


def test_numbers_grow_even_after_a_rollback_and_each_knows_its_parent(
    store: Store, loaded: Loaded, edited: Edited
) -> None:
    store.move_current(None, store.publish(loaded))
    store.move_current(1, store.publish(edited(loaded, "second")))
    assert rollback(store) == 1
    assert store.current() == 1
    third = store.publish(edited(loaded, "third"))
    assert third == 3
    assert store.open(3).parent == 1
    assert rollback(store, to=2) == 2


def test_document_is_published_as_it_was_checked_not_as_it_is_now(store: Store, loaded: Loaded) -> None:
    loaded.source.path.write_text("broken: [")
    generation = store.open(store.publish(loaded))
    assert generation.path.read_bytes() == loaded.source.data


@pytest.mark.parametrize("expected", [None, 2, 7])
def test_current_moves_only_from_what_the_caller_saw(
    store: Store, loaded: Loaded, edited: Edited, expected: int | None
) -> None:
    store.move_current(None, store.publish(loaded))
    store.publish(edited(loaded, "second"))
    with pytest.raises(StoreError, match="moved meanwhile"):
        store.move_current(expected, 2)
    assert store.current() == 1


def test_of_many_who_move_current_at_once_one_wins(store: Store, loaded: Loaded, edited: Edited) -> None:
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


def test_many_publishers_get_different_numbers(store: Store, loaded: Loaded, edited: Edited, tmp_path: Path) -> None:
    copies = [edited(loaded, f"publisher {name}") for name in range(6)]
    with ThreadPoolExecutor(6) as pool:
        numbers = list(pool.map(store.publish, copies))
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]
    assert {store.open(number).path.read_bytes() for number in numbers} == {copy.source.data for copy in copies}


def test_unknown_generation_cannot_become_current(store: Store, loaded: Loaded) -> None:
    store.publish(loaded)
    with pytest.raises(StoreError, match="there is no generation 9; there is: 1"):
        store.move_current(None, 9)


@pytest.mark.parametrize("kind", ["models/*.onnx", "maps/*.json"])
@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_a_file_that_changed_since_the_check_is_refused(
    store: Store, loaded: Loaded, folder: Path, kind: str, damage: str
) -> None:
    """Workers would refuse such a generation: better nobody publishes it."""
    file = sorted(folder.glob(kind))[0]
    file.write_bytes(file.read_bytes()[:-10] if damage == "truncated" else file.read_bytes() + b" ")
    with pytest.raises(StoreError, match=f"{file.name}: changed while it was published"):
        store.publish(loaded)
    assert store.list() == ()


def test_file_that_vanished_since_the_check_is_named(store: Store, loaded: Loaded) -> None:
    victim = sorted(loaded.root.rglob("*.onnx"))[0]
    victim.unlink()
    with pytest.raises(ConfigError, match=victim.name):
        store.publish(loaded)
    assert store.list() == ()


def test_rollback_with_nowhere_to_go(store: Store, loaded: Loaded) -> None:
    with pytest.raises(StoreError, match="nothing was published"):
        rollback(store)
    store.move_current(None, store.publish(loaded))
    with pytest.raises(StoreError, match="is the first"):
        rollback(store)
    with pytest.raises(StoreError, match="current already"):
        rollback(store, to=1)


def test_former_generations_are_those_that_were_current_and_not_rolled_back(
    store: Store, loaded: Loaded, edited: Edited
) -> None:
    assert store.former() == ()
    store.move_current(None, store.publish(loaded))
    assert store.former() == ()
    store.move_current(1, store.publish(edited(loaded, "second")))
    rollback(store)
    store.move_current(1, store.publish(edited(loaded, "third")))
    assert store.current() == 3
    assert store.former() == (1,), "2 was rolled back"
    store.move_current(3, store.publish(edited(loaded, "fourth")))
    store.move_current(4, store.publish(edited(loaded, "fifth")))
    assert store.former() == (4, 3, 1)
    rollback(store, to=3)
    assert store.former() == (1,), "4 and 5 were rolled back"


@pytest.mark.parametrize("damage", ["manifest", "sequence"])
def test_garbage_that_looks_like_a_decision_is_forgotten_with_the_garbage(
    store: Store, loaded: Loaded, edited: Edited, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """A later publish has a smaller sequence number than it, and is followed all the same."""
    store.move_current(None, store.publish(loaded))
    worker = Follower(store)
    head = worker.head()
    assert head is not None
    worker.open(head.number, head.sha256)
    garbage = Head(2, sequence=1 << 42) if damage == "manifest" else Head(1, head.sha256, sequence=1 << 50)
    with monkeypatch.context() as patch:
        patch.setattr(store, "head", lambda: Head.read(garbage.to_json(), "current"))
        with pytest.raises(StoreError, match=r"there is no generation 2|is not a sequence number"):
            worker.open(worker.head().number)  # type: ignore[union-attr]
    store.move_current(1, store.publish(edited(loaded, "second")))
    assert Follower(store).first()[0].number == 2
    found = worker.head()
    assert found is not None
    assert found.number == 2
