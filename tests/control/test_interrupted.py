"""A publisher that dies, or loses what it has written: what is left, and what the same command does; each store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muse_stream.config import Loaded
from muse_stream.control import DirectoryStore, Note, Store, rollback
from muse_stream.control.redis_store import RedisStore
from muse_stream.errors import StoreError

Edited = Callable[[Loaded, str], Loaded]
NOTE = Note("card-v2 shadows acme", "ana@bank", {"force": "agreed"})


def damage_manifest(store: Store, number: int) -> None:
    if isinstance(store, DirectoryStore):
        (store.path / "generations" / f"{number:06d}" / "manifest.json").write_text("{}")
    else:
        assert isinstance(store, RedisStore)
        store._client.set(f"{store._address.prefix}:generation:{number}", "{}")


def test_the_same_publish_takes_up_what_was_not_made_current(store: Store, loaded: Loaded, edited: Edited) -> None:
    """As after a kill between the two steps: no second generation, and no first one that nobody knows of."""
    store.move_current(None, store.publish(loaded))
    second = edited(loaded, "second")
    assert store.publish(second, NOTE) == 2
    assert store.publish(second, NOTE) == 2
    store.move_current(1, 2, NOTE)
    rollback(store)
    assert store.publish(second, NOTE) == 3, "it was current, and was rolled back: that is another decision"


@pytest.mark.parametrize(
    "other", [Note("card-v2", "ana@bank", {"force": "agreed"}), Note(NOTE.message, "ben@bank", NOTE.evidence),
              Note(NOTE.message, NOTE.author)]
)  # fmt: skip
def test_who_says_something_else_makes_a_generation_of_his_own(
    store: Store, loaded: Loaded, edited: Edited, other: Note
) -> None:
    assert store.publish(loaded, NOTE) == 1
    assert store.publish(loaded, other) == 2
    assert store.publish(edited(loaded, "more"), other) == 3


def test_a_first_publish_is_taken_up_as_well(store: Store, loaded: Loaded) -> None:
    assert store.publish(loaded, NOTE) == 1
    assert store.publish(loaded, NOTE) == 1
    store.move_current(None, 1)
    assert store.publish(loaded, NOTE) == 1


def test_a_current_generation_whose_manifest_is_damaged_keeps_nobody_from_deciding(
    store: Store, loaded: Loaded, edited: Edited
) -> None:
    store.move_current(None, store.publish(loaded))
    store.move_current(1, store.publish(edited(loaded, "second")))
    damage_manifest(store, 2)
    assert store.publish(edited(loaded, "third")) == 3
    assert rollback(store) == 1


class TestRedis:
    @pytest.fixture
    def redis_store(self, request: pytest.FixtureRequest, unique: Callable[[str], str]) -> Any:
        from muse_stream.control import open_store  # noqa: PLC0415

        opened = open_store(f"{request.getfixturevalue('redis').url}?prefix={unique('muse')}")
        yield opened
        opened.close()

    @staticmethod
    def keys(store: RedisStore, kind: str) -> list[Any]:
        return list(store._client.scan_iter(f"{store._address.prefix}:{kind}:*"))

    def test_files_are_kept_when_their_generation_is(
        self, redis_store: RedisStore, loaded: Loaded, edited: Edited, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever dies in between leaves what ends by itself, and no file of no generation."""
        with monkeypatch.context() as patch:
            patch.setattr(redis_store, "_commit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                redis_store.publish(loaded)
        assert self.keys(redis_store, "file") == []
        left = self.keys(redis_store, "incoming")
        assert left
        assert all(redis_store._client.ttl(key) > 0 for key in left)
        number = redis_store.publish(loaded)
        redis_store.verify(number)
        assert all(redis_store._client.ttl(key) == -1 for key in self.keys(redis_store, "file"))

    @pytest.mark.parametrize("lost", ["file", "incoming"])
    def test_files_that_go_while_it_is_published_are_no_part_of_a_generation(
        self, redis_store: RedisStore, loaded: Loaded, edited: Edited, monkeypatch: pytest.MonkeyPatch, lost: str
    ) -> None:
        """As FLUSHALL does between the files and the manifest: no worker is given what is not there."""
        redis_store.publish(loaded)
        second, commit = edited(loaded, "second"), redis_store._commit

        def flushed(*arguments: Any) -> int:
            for key in self.keys(redis_store, lost):
                redis_store._client.delete(key)
            return commit(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(redis_store, "_commit", flushed)
            with pytest.raises(StoreError, match="lost files while they were published; nothing was published"):
                redis_store.publish(second)
        assert [entry.number for entry in redis_store.list()] == [1]
        redis_store.verify(redis_store.publish(second))

    def test_a_file_that_goes_in_the_last_moment_is_noticed(
        self, redis_store: RedisStore, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the question and the transaction: that is watched."""
        execute = redis_store._execute

        def flushed(pipe: Any, doubt: str) -> None:
            for key in self.keys(redis_store, "incoming"):
                redis_store._client.delete(key)
            execute(pipe, doubt)

        with monkeypatch.context() as patch:
            patch.setattr(redis_store, "_execute", flushed)
            with pytest.raises(StoreError, match="lost files while they were published"):
                redis_store.publish(loaded)
        assert redis_store.list() == ()

    def test_publishing_what_is_current_once_more_mends_it(self, redis_store: RedisStore, loaded: Loaded) -> None:
        redis_store.move_current(None, redis_store.publish(loaded))
        (name,) = [name for name in redis_store.manifest(1).files if "q3.onnx" in name]
        redis_store._client.set(f"{redis_store._address.prefix}:file:{redis_store.manifest(1).files[name]}", "short")
        with pytest.raises(StoreError, match=r"q3\.onnx of generation 1 is missing, or not the content"):
            redis_store.verify(1)
        assert redis_store.publish(loaded) == 1
        redis_store.verify(1)
        assert self.keys(redis_store, "incoming") == []


def test_what_a_killed_process_put_aside_goes_with_the_next_move(
    tmp_path: Path, loaded: Loaded, edited: Edited, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.move_current(None, store.publish(loaded))
    second = store.publish(edited(loaded, "second"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.move_current(1, second)
    assert store.current() == 1
    store.move_current(1, second)
    assert [path.name for path in store.path.rglob(".*")] == []
