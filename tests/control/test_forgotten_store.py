"""A store that has forgotten: emptied, or restored from an older backup, and published to from a machine that knows
nothing of it. Workers tell what they have seen (docs/decisions/0032), so numbers and moves go on from there.
"""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from muse_stream.cli.main import main
from muse_stream.commands import publish
from muse_stream.commands.check import check
from muse_stream.commands.publish import proposal, propose
from muse_stream.config import Loaded
from muse_stream.control import DirectoryStore, Follower, Heartbeat, Store, open_store, rollback
from muse_stream.control.redis_store import RedisStore
from muse_stream.errors import StoreError

Edited = Callable[[Loaded, str], Loaded]
Output = pytest.CaptureFixture[str]
WORKER = Heartbeat("host-a", 0, "live", "main", 4711, "0.1.0", "2026-11-26T08:00:00+00:00")


def beat(store: Store, worker: Follower, generation: int) -> None:
    """What a worker tells every two seconds, whatever has become of its store."""
    told = replace(WORKER, generation=generation, sequence=worker.sequence)
    store.beat(told.name, told.to_json())


def forget(store: Store) -> Store:
    """Empty it; returns it as a machine sees it that has never seen it before."""
    if isinstance(store, DirectoryStore):
        shutil.rmtree(store.path)
        store.path.mkdir()
        return DirectoryStore(store.path)
    assert isinstance(store, RedisStore)
    for key in store._client.scan_iter(f"{store._address.prefix}:*"):
        store._client.delete(key)
    return RedisStore(store._address, cache=store._copy.path / "another machine")


def published(store: Store, loaded: Loaded, edited: Edited) -> Follower:
    """Generations 1 to 3, and a worker that follows."""
    worker = Follower(store)
    for number in range(3):
        store.move_current(number or None, store.publish(edited(loaded, f"number {number + 1}")))
    head = worker.head()
    assert head is not None
    worker.open(head.number, head.sha256)
    return worker


def test_numbers_go_on_from_what_workers_serve_and_they_follow(store: Store, loaded: Loaded, edited: Edited) -> None:
    worker = published(store, loaded, edited)
    operator = forget(store)
    beat(operator, worker, 3)
    with pytest.raises(StoreError, match=r"generation 3 was current"):
        worker.head()
    number = operator.publish(edited(loaded, "after the loss"))
    assert number == 4, "3 is something else to everybody who has a score of it"
    operator.move_current(None, number)
    head = worker.head()
    assert head is not None
    assert head.number == 4
    assert [entry.number for entry in operator.list()] == [4], "and no word of those that are gone"
    assert worker.open(4, head.sha256).path.read_bytes().endswith(b"# after the loss\n")


@pytest.mark.parametrize("slow", [timedelta(hours=1), timedelta(days=30)])
def test_workers_follow_a_clock_that_is_slow(
    store: Store, loaded: Loaded, edited: Edited, monkeypatch: pytest.MonkeyPatch, slow: timedelta
) -> None:
    """The new store's clock, or the next operator's, is behind: a move is later than every one that workers saw."""
    worker = published(store, loaded, edited)
    operator = forget(store)
    monkeypatch.setattr(operator, "_clock" if isinstance(operator, DirectoryStore) else "_now",
                        lambda: datetime.now(UTC) - slow)  # fmt: skip
    beat(operator, worker, 3)
    operator.move_current(None, operator.publish(edited(loaded, "after the loss")))
    head = worker.head()
    assert head is not None
    assert head.number == 4
    worker.open(4, head.sha256)
    operator.move_current(4, operator.publish(edited(loaded, "next")))
    rollback(operator)
    head = worker.head()
    assert head is not None
    assert head.number == 4


def test_an_older_backup_gives_no_number_twice(store: Store, loaded: Loaded, edited: Edited, tmp_path: Path) -> None:
    """Generation 3 was lost with the disk, and workers serve it: the next one is 4."""
    worker = published(store, loaded, edited)
    rollback(store)
    if isinstance(store, DirectoryStore):
        shutil.rmtree(store.path / "generations" / "000003")
    else:
        assert isinstance(store, RedisStore)
        store._client.delete(f"{store._address.prefix}:generation:3")
        store._client.set(f"{store._address.prefix}:last", 2)
        store = RedisStore(store._address, cache=tmp_path / "another machine")
    beat(store, worker, 3)
    assert store.publish(edited(loaded, "after the restore")) == 4


def test_publish_says_that_the_store_was_emptied_and_takes_a_reason(
    store: Store, loaded: Loaded, edited: Edited, capsys: Output
) -> None:
    worker = published(store, loaded, edited)
    operator = forget(store)
    beat(operator, worker, 3)
    (said,) = (one for one in proposal(check(loaded.source.path), operator).changes if one.harm)
    assert "nothing is current in the store, and 1 worker serves from it, up to generation 3" in str(said)
    if not isinstance(operator, DirectoryStore):
        return
    command = ["publish", str(loaded.source.path), str(operator.path), "--yes"]
    assert main(command) == 2
    assert "it was emptied, or another store is at this address" in " ".join(capsys.readouterr().err.split())
    assert operator.current() is None
    assert main([*command, "--force", "the disk was lost"]) == 0
    assert operator.current() == 4
    assert operator.manifest(4).evidence == {"force": "the disk was lost"}


def test_who_publishes_at_once_after_the_loss_hears_the_workers_first(
    store: Store, loaded: Loaded, edited: Edited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first heartbeat comes when the command has looked already."""
    worker = published(store, loaded, edited)
    operator = forget(store)
    if isinstance(operator, DirectoryStore):
        return  # a folder is not listened to: hundreds of first publications would wait
    looked: list[int] = []

    def beat_later(seconds: float) -> None:
        looked.append(1)
        if len(looked) == 2:
            beat(operator, worker, 3)

    monkeypatch.setattr(publish, "LISTEN_S", 600.0)
    monkeypatch.setattr(publish, "open_store", lambda _: operator)
    monkeypatch.setattr("muse_stream.commands.publish.time.sleep", beat_later)
    found = propose(loaded.source.path, str(operator))
    assert "1 worker serves from it, up to generation 3" in str(found.changes[0])
    assert found.refused(force=None, replace=False)
    assert found.publish().number == 4
    assert len(looked) == 2


def test_without_workers_it_is_said_and_takes_no_reason(store: Store, loaded: Loaded, edited: Edited) -> None:
    published(store, loaded, edited)
    if isinstance(store, RedisStore):  # this machine has a copy
        forget(store)
        found = proposal(check(loaded.source.path), store)
        assert "generation 3 was current when this machine saw it last" in str(found.changes[0])
        assert found.refused(force=None, replace=False) == []
    assert not any(one.area == "generation" for one in proposal(check(loaded.source.path), forget(store)).changes)


@pytest.mark.parametrize(
    "told",
    [
        replace(WORKER, generation=99_999_999, sequence=1 << 60).to_json(),
        replace(WORKER, generation=-7, sequence=-1).to_json(),
        b"garbage",
        b"",
    ],
)
def test_what_a_heartbeat_tells_is_bounded(store: Store, loaded: Loaded, edited: Edited, told: bytes) -> None:
    """Who may write heartbeats may write nothing else: no later publish fails of it."""
    store.beat("a", told)
    for number in (1, 2):
        store.move_current(number - 1 or None, store.publish(edited(loaded, f"{number}")))
    head = store.head()
    assert head is not None
    assert (head.number, head.sequence < 1 << 43) == (2, True)


def test_a_redis_has_an_end_of_numbers_and_says_so(loaded: Loaded, edited: Edited, request: pytest.FixtureRequest,
                                                   unique: Callable[[str], str]) -> None:  # fmt: skip
    """One more would be refused by every reader, and nothing could be published ever after."""
    store = open_store(f"{request.getfixturevalue('redis').url}?prefix={(prefix := unique('muse'))}")
    store._client.set(f"{prefix}:last", 100_000)  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="no number left for a generation: 100,000 is the highest"):
        store.publish(loaded)
    assert store.head() is None
    store._client.set(f"{prefix}:last", 1)  # type: ignore[attr-defined]
    assert store.publish(loaded) == 2
    store.close()
