"""What workers tell of themselves: kept by both stores, bounded, gone by itself, and never trusted."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from muse_stream.control import DirectoryStore, Heartbeat, NotAllowed, Pulse, Store, TenantBeat, open_store
from muse_stream.control.heartbeats import GONE_S, LARGEST
from muse_stream.errors import StoreError
from muse_stream.testing import Redis
from tests.patience import until

BEAT = Heartbeat(
    "host-a",
    3,
    "live",
    "main",
    4711,
    "0.1.0",
    "2026-11-26T08:00:00+00:00",
    generation=41,
    tenants={"acme": TenantBeat(7, 2.5, dead_letters={"missing-id": 2}), "globex": TenantBeat()},
)


def test_a_store_keeps_one_heartbeat_of_each_worker(store: Store) -> None:
    assert store.beats() == ()
    other = replace(BEAT, slot=4)
    store.beat(BEAT.name, replace(BEAT, generation=40).to_json())
    store.beat(BEAT.name, BEAT.to_json())
    store.beat(other.name, other.to_json())
    found = store.beats()
    assert [Heartbeat.read(beat.data, "here") for beat in found] == [BEAT, other]
    assert all(0 <= beat.age_s < 60 for beat in found)
    store.forget(BEAT.name)
    store.forget("never there")
    assert [beat.name for beat in store.beats()] == [other.name]


def test_a_heartbeat_in_a_redis_ends_by_itself(redis: Redis, unique: Callable[[str], str]) -> None:
    store = open_store(f"{redis.url}?prefix={(prefix := unique('muse'))}")
    store.beat(BEAT.name, BEAT.to_json())
    client = store._client  # type: ignore[attr-defined]
    key = f"{prefix}:heartbeat:at:{BEAT.name}"
    assert 0 < client.pttl(key) <= GONE_S * 1000
    assert client.ttl(f"{prefix}:heartbeat:names") > 0
    client.delete(key)  # as Redis does when its time is over
    assert store.beats() == ()
    store._heartbeats._sweep()  # type: ignore[attr-defined]
    assert client.smembers(f"{prefix}:heartbeat:names") == set()
    store.close()


def test_files_that_are_old_are_not_told_of_and_are_removed(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.beat("old", BEAT.to_json())
    path = tmp_path / "heartbeats" / "old"
    os.utime(path, (time.time() - GONE_S - 1,) * 2)
    assert store.beats() == ()
    DirectoryStore(tmp_path).beat("new", BEAT.to_json())  # a worker that has just started looks
    assert not path.exists()


def test_nothing_but_a_file_is_read(tmp_path: Path) -> None:
    """What others may write into a folder must not hold up, or lead astray, who looks."""
    store = DirectoryStore(tmp_path)
    store.beat("worker", b"x" * (LARGEST + 100))
    folder = tmp_path / "heartbeats"
    (tmp_path / "secret").write_text("secret")
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    found = store.beats()
    assert [(beat.name, len(beat.data)) for beat in found] == [("worker", LARGEST + 1)]
    (folder / "link").symlink_to(tmp_path / "secret")
    assert b"secret" not in b"".join(beat.data for beat in store.beats())


def test_a_folder_that_may_only_be_read_takes_no_heartbeat_and_says_what_would_be_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)  # root, who runs tests, may write anywhere
    with pytest.raises(NotAllowed, match=r"heartbeats: permission denied; workers write their heartbeats there"):
        DirectoryStore(tmp_path).beat("worker", b"")


def test_a_heartbeat_has_a_bound_and_what_there_is_to_tell_comes_first() -> None:
    rest = {f"resting-{n}": TenantBeat() for n in range(6_000)}
    busy = {f"busy-{n}": TenantBeat(n + 1, paused="no topic") for n in range(100)}
    data = replace(BEAT, tenants=rest | busy).to_json()
    assert len(data) <= LARGEST
    told = Heartbeat.read(data, "here")
    assert (set(told.tenants), told.left_out) == (set(busy), 6_000)
    many = {f"tenant-{n}": TenantBeat(n + 1, paused="x" * 200) for n in range(3_000)}
    data = replace(BEAT, tenants=many).to_json()
    assert len(data) <= LARGEST
    told = Heartbeat.read(data, "here")
    assert len(told.tenants) + told.left_out == 3_000
    assert told.tenants


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"format": 1}',
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * (LARGEST + 1),
        json.dumps({**to_builtins(BEAT), "format": 1, "slot": "3"}).encode(),
        json.dumps({**to_builtins(BEAT), "format": 1, "lag": True}).encode(),
        json.dumps({**to_builtins(BEAT), "format": 1, "tenants": {"acme": {"dead_letters": {"x": "y"}}}}).encode(),
        json.dumps({**to_builtins(BEAT), "format": 1, "tenants": {"acme": []}}).encode(),
        json.dumps({**to_builtins(BEAT), "format": 1, "tenants": None}).encode(),
        json.dumps({**to_builtins(BEAT), "format": 1, "rate": 10**400}).encode(),
    ],
)
def test_what_is_no_heartbeat_is_refused(data: bytes) -> None:
    with pytest.raises(StoreError, match="here: not a heartbeat"):
        Heartbeat.read(data, "here")


def test_a_newer_format_is_told_and_an_unknown_field_is_passed_over() -> None:
    content = json.loads(BEAT.to_json())
    with pytest.raises(StoreError, match="newer muse-stream"):
        Heartbeat.read(json.dumps({**content, "format": 2}).encode(), "here")
    assert Heartbeat.read(json.dumps({**content, "colour": "red"}).encode(), "here") == BEAT


def test_texts_hold_nothing_that_a_terminal_obeys() -> None:
    nasty = replace(BEAT, error="\x1b[2Jgone\n\x07" + "x" * 1_000, host="a\x1b]0;b")
    told = Heartbeat.read(nasty.to_json(), "here")
    assert told.error.startswith("[2Jgone xxx")
    assert len(told.error) == 300
    assert told.host == "a ]0;b"


def test_a_name_is_a_file_s_name_whatever_the_host_is_called() -> None:
    assert "/" not in replace(BEAT, host="../../etc/x").name
    assert len(replace(BEAT, host="x" * 5_000).name) <= 200


class Keeper:
    """Keeps heartbeats, or fails."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.fails: Exception | None = None
        self.told = 0

    def beat(self, name: str, data: bytes) -> None:
        self.told += 1
        if self.fails:
            raise self.fails
        self.kept[name] = data

    def forget(self, name: str) -> None:
        self.kept.pop(name, None)


def test_a_worker_that_drains_takes_its_heartbeat_away() -> None:
    keeper = Keeper()
    with Pulse(keeper, lambda: BEAT, str, every_s=0.01):
        until(lambda: keeper.told > 2, 5)
        assert keeper.kept
    until(lambda: not keeper.kept, 5)


def test_a_store_that_answers_late_is_waited_for_at_the_end() -> None:
    """Else a worker that drains on a busy machine is found silent afterwards."""

    class Late(Keeper):
        def forget(self, name: str) -> None:
            threading.Event().wait(0.5)
            super().forget(name)

    with Pulse(keeper := Late(), lambda: BEAT, str, every_s=0.01):
        until(lambda: keeper.told > 0, 5)
    assert not keeper.kept


def test_a_store_that_is_away_costs_heartbeats_and_nothing_else() -> None:
    keeper, said, counted = Keeper(), list[str](), list[int]()
    keeper.fails = StoreError("no answer within 1 s")
    with Pulse(keeper, lambda: BEAT, said.append, lambda: counted.append(1), every_s=0.01) as pulse:
        until(lambda: pulse.skipped > 2, 5)
        keeper.fails = None
        until(lambda: bool(keeper.kept), 5)
    assert said == []
    assert len(counted) == pulse.skipped
    assert Heartbeat.read(next(iter([BEAT.to_json()])), "here").skipped == 0


def test_that_heartbeats_may_not_be_written_is_said_once() -> None:
    keeper, said = Keeper(), list[str]()
    keeper.fails = NotAllowed("store/heartbeats: permission denied")
    with Pulse(keeper, lambda: BEAT, said.append, every_s=0.01) as pulse:
        until(lambda: pulse.skipped > 3, 5)
    assert said == ["store/heartbeats: permission denied"]


def test_the_end_of_a_process_waits_for_no_store() -> None:
    hangs = threading.Event()

    class Hanging(Keeper):
        def forget(self, name: str) -> None:
            hangs.wait(60)

    with Pulse(keeper := Hanging(), lambda: BEAT, str, every_s=0.01):
        until(lambda: keeper.told > 0, 5)
    hangs.set()  # reached at once: `with` has ended although the store has not
