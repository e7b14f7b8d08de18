"""A store in a real Redis when things go wrong: in Redis, on the way to it, and in what it holds.

Each test that breaks a Redis has one of its own.
"""

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from muse_stream.config import Loaded, load_document
from muse_stream.control import Conflict, Follower, Head, Note, Store, open_store, redis_address, rollback
from muse_stream.control import redis_store as module
from muse_stream.control.local_copy import LocalCopy
from muse_stream.control.redis_address import RedisAddress
from muse_stream.control.redis_store import RedisStore
from muse_stream.errors import StoreError
from muse_stream.testing.redis_server import LocalRedis, missing_server
from tests.patience import PATIENCE

pytestmark = pytest.mark.skipif(
    bool(missing_server()), reason=f"a Redis to break is this machine's: {missing_server()}"
)
Edited = Callable[[Loaded, str], Loaded]


@pytest.fixture
def server() -> Iterator[LocalRedis]:
    """A Redis to break."""
    with LocalRedis() as running:
        yield running


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalRedis]:
    """A Redis that stays whole; tests have prefixes of their own."""
    with LocalRedis() as running:
        yield running


def at(server: LocalRedis, cache: Path, query: str = "") -> RedisStore:
    return RedisStore(RedisAddress.parse(server.url + query), cache=cache)


@pytest.fixture
def store(shared: LocalRedis, tmp_path: Path, unique: Callable[[str], str]) -> Iterator[RedisStore]:
    """A store of its own on the shared Redis."""
    opened = at(shared, tmp_path / "cache", f"?prefix={unique('t')}")
    yield opened
    opened.close()


def cli(server: LocalRedis, *words: str | bytes) -> bytes:
    """Do what an operator would by hand."""
    command = ["redis-cli", "-p", str(server.port), *words]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout


def published(store: Store, loaded: Loaded, edited: Edited, count: int = 2) -> None:
    """Generations 1 to `count`, each current after the one before."""
    store.move_current(None, store.publish(loaded))
    for number in range(1, count):
        store.move_current(number, store.publish(edited(loaded, f"number {number + 1}")))


def followed(store: Store) -> Follower:
    """A worker's view, which has seen what is current and has a copy of it."""
    follower = Follower(store)
    head = follower.head()
    assert head is not None
    for number, sha256 in follower.candidates(head)[:2]:
        follower.open(number, sha256)
    return follower


class TestWhatRedisHolds:
    @pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "empty", "another type", "longer"])
    def test_a_file_that_is_not_what_was_published_is_named_and_mended_by_publishing(
        self, store: RedisStore, shared: LocalRedis, loaded: Loaded, edited: Edited, tmp_path: Path, damage: str
    ) -> None:
        published(store, loaded, edited, 1)
        manifest = store.manifest(1)
        (name,) = [name for name in manifest.files if "q3.onnx" in name]
        key = f"{store._address.prefix}:file:{manifest.files[name]}"
        {
            "missing": lambda: cli(shared, "DEL", key),
            "truncated": lambda: cli(shared, "SET", key, "short"),
            "changed": lambda: cli(shared, "SETRANGE", key, "7", "x!"),
            "empty": lambda: cli(shared, "SET", key, ""),
            "another type": lambda: (cli(shared, "DEL", key), cli(shared, "LPUSH", key, "x")),
            "longer": lambda: cli(shared, "APPEND", key, "x"),
        }[damage]()  # type: ignore[no-untyped-call]
        fresh = RedisStore(store._address, cache=tmp_path / "another machine")
        with pytest.raises(StoreError, match=manifest.files[name] if damage != "another type" else "WRONGTYPE"):
            fresh.open(1)
        with pytest.raises(StoreError, match=r"q3\.onnx of generation 1 is missing, or not the content"):
            store.verify(1)
        second = store.publish(edited(loaded, "again"))
        store.verify(second)
        assert fresh.open(second).number == second
        assert fresh.open(1).number == 1, "files are shared: the first is whole again"

    def test_a_rollback_is_refused_where_redis_lost_a_file_though_this_machine_has_a_copy(
        self, store: RedisStore, shared: LocalRedis, loaded: Loaded, edited: Edited
    ) -> None:
        published(store, loaded, edited)
        store.open(1)
        digest = store.manifest(1).files["muse.yaml"]
        cli(shared, "DEL", f"{store._address.prefix}:file:{digest}")
        assert store.open(1).number == 1, "the copy is whole"
        with pytest.raises(StoreError, match=r"muse\.yaml of generation 1 is missing"):
            rollback(store)
        assert store.current() == 2

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            ("current", b"garbage"),
            ("current", b"\xff\x00\xfe"),
            ("current", b'{"number": 99999999999}'),
            ("current", b""),
            ("last", b"many"),
            ("last", b"999999999999999999"),
            ("generation:2", b"{}"),
            ("generation:2", b""),
        ],
    )
    def test_garbage_is_a_store_error_that_names_the_key(
        self, store: RedisStore, shared: LocalRedis, loaded: Loaded, edited: Edited, kind: str, value: bytes
    ) -> None:
        published(store, loaded, edited)
        store._client.set(f"{store._address.prefix}:{kind}", value)
        named = kind if b"999" not in value or kind == "last" else "generation 99999999999"
        with pytest.raises(StoreError, match=named):
            store.manifest(store.current() or 0)
            store.publish(edited(loaded, "more"))
        assert all(isinstance(entry.problem, str) for entry in listed(store))

    @pytest.mark.parametrize("kind", ["current", "last", "generation:2"])
    def test_a_key_of_another_type_is_a_store_error(
        self, store: RedisStore, shared: LocalRedis, loaded: Loaded, edited: Edited, kind: str
    ) -> None:
        published(store, loaded, edited)
        key = f"{store._address.prefix}:{kind}"
        cli(shared, "DEL", key)
        cli(shared, "LPUSH", key, "x")
        with pytest.raises(StoreError):
            store.manifest(store.current() or 0)
            store.publish(edited(loaded, "more"))

    def test_a_generation_of_a_newer_version_is_refused_and_the_worker_keeps_what_it_has(
        self, store: RedisStore, loaded: Loaded, edited: Edited
    ) -> None:
        published(store, loaded, edited)
        worker = followed(store)
        newer = json.loads(store.manifest(2).to_json()) | {"format": 3, "version": "9.1.0", "number": 3}
        store._client.set(f"{store._address.prefix}:generation:3", json.dumps(newer))
        store._client.set(f"{store._address.prefix}:last", 3)
        with pytest.raises(StoreError, match=r"it needs muse-stream 9\.1\.0 or later"):
            store.move_current(2, 3)
        current = json.loads(Head(3, sequence=1 << 60).to_json()) | {"format": 3, "version": "9.1.0"}
        store._client.set(f"{store._address.prefix}:current", json.dumps(current))
        with pytest.raises(StoreError, match=r"it needs muse-stream 9\.1\.0 or later"):
            worker.head()
        first, why = Follower(store).first()
        assert first.number == 2
        assert "9.1.0" in why

    def test_a_number_is_not_given_twice_where_the_counter_was_lost(
        self, store: RedisStore, shared: LocalRedis, loaded: Loaded, edited: Edited
    ) -> None:
        published(store, loaded, edited, 3)
        cli(shared, "DEL", f"{store._address.prefix}:last")
        assert store.publish(edited(loaded, "more")) == 4


def listed(store: Store) -> tuple[Any, ...]:
    try:
        return store.list()
    except StoreError:
        return ()


class TestPublishing:
    @pytest.mark.parametrize("after", [0, 2, 100])
    def test_a_publisher_killed_half_way_leaves_no_generation(
        self, store: RedisStore, shared: LocalRedis, loaded: Loaded, after: int
    ) -> None:
        """After no file, after two, and with all files there but no manifest."""
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_die_while_publishing, args=(store._address, loaded.source.path, after))
        process.start()
        process.join(60)
        assert process.exitcode == 9
        assert (store.list(), store.current()) == ((), None)
        prefix = store._address.prefix
        for left in store._client.scan_iter(f"{prefix}:incoming:*"):
            assert 0 < store._client.ttl(left) <= module.INCOMING_S, "it ends by itself"
        assert store.publish(loaded) == 1
        store.verify(1)

    def test_a_file_is_stored_once_whatever_generations_use_it(
        self, store: RedisStore, loaded: Loaded, edited: Edited
    ) -> None:
        published(store, loaded, edited, 3)
        files = list(store._client.scan_iter(f"{store._address.prefix}:file:*"))
        assert len(files) == len({*store.manifest(1).files.values()}) + 2
        assert not list(store._client.scan_iter(f"{store._address.prefix}:incoming:*"))

    def test_a_file_of_many_pieces_arrives_whole(
        self, store: RedisStore, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PIECE", 7)
        number = store.publish(loaded)
        assert load_document(store.open(number).path).document == loaded.document

    @pytest.mark.usefixtures("impatient")
    def test_where_the_answer_to_the_last_step_is_lost_the_doubt_is_told(
        self, server: LocalRedis, loaded: Loaded, edited: Edited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = at(server, tmp_path / "cache")
        number = store.publish(loaded)
        execute = store._execute

        def paused(pipe: Any, doubt: str) -> None:
            server.pause()
            execute(pipe, doubt)

        monkeypatch.setattr(store, "_execute", paused)
        with pytest.raises(StoreError, match=r"whether `current` moved is not known: look with `muse-stream gen"):
            store.move_current(None, number)
        server.resume()

    def test_clocks_of_operators_that_differ_by_an_hour_change_nothing(
        self, store: RedisStore, loaded: Loaded, edited: Edited, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Times are Redis's; whoever is late or early, moves follow each other."""
        worker = Follower(store)
        numbers = []
        real = time.time
        for skew, name in ((3600, "fast"), (-3600, "slow"), (0, "right"), (-3600, "slow again")):
            monkeypatch.setattr(time, "time", lambda skew=skew: real() + skew)
            before = store.current()
            store.move_current(before, store.publish(edited(loaded, name)), Note(author=name))
            head = worker.head()
            assert head is not None
            numbers.append(head.number)
            assert head.author == name
        assert numbers == [1, 2, 3, 4]
        times = [entry.created for entry in store.list()]
        assert times == sorted(times)  # type: ignore[type-var]


def _die_while_publishing(address: RedisAddress, document: Path, after: int) -> None:
    store, calls = RedisStore(address), 0
    append = store._client.append

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            os._exit(9)
        return append(*arguments)

    store._client.append = counted  # type: ignore[assignment,method-assign]
    store._execute = lambda *_: os._exit(9)  # type: ignore[method-assign]
    store.publish(load_document(document))
    os._exit(0)


class TestRedisFails:
    """What a worker that has seen generation 2 does: it goes on with it, and a restart starts with it."""

    def stays(
        self,
        server: LocalRedis,
        tmp_path: Path,
        worker: Follower,
        said: str,
        alone: str = "has no copy of it to start from",
    ) -> None:
        for _ in range(2):
            with pytest.raises(StoreError, match=said):
                worker.head()
        restarted = Follower(at(server, tmp_path / "worker"))
        head, why = restarted.first()
        assert head.number == 2
        assert said in why
        (number, sha256), *_ = restarted.candidates(head)
        assert restarted.open(number, sha256).path.read_bytes().endswith(b"# number 2\n")
        with pytest.raises(StoreError, match=alone):
            Follower(at(server, tmp_path / "a new machine")).first()

    def test_killed(self, server: LocalRedis, loaded: Loaded, edited: Edited, tmp_path: Path) -> None:
        published(at(server, tmp_path / "operator"), loaded, edited)
        worker = followed(at(server, tmp_path / "worker"))
        server.kill()
        self.stays(server, tmp_path, worker, "refused")
        server.restart()
        head = worker.head()
        assert head is not None, "what was answered was on disk"
        assert head.number == 2

    @pytest.mark.usefixtures("impatient")
    def test_paused(self, server: LocalRedis, loaded: Loaded, edited: Edited, tmp_path: Path) -> None:
        published(at(server, tmp_path / "operator"), loaded, edited)
        worker = followed(at(server, tmp_path / "worker"))
        server.pause()
        self.stays(server, tmp_path, worker, "no answer within 2 s")
        server.resume()
        assert worker.head() is not None

    def test_emptied_and_published_again(
        self, server: LocalRedis, loaded: Loaded, edited: Edited, tmp_path: Path
    ) -> None:
        published(at(server, tmp_path / "operator"), loaded, edited)
        worker = followed(at(server, tmp_path / "worker"))
        cli(server, "FLUSHALL")
        self.stays(server, tmp_path, worker, "is empty, and generation 2 was current", "holds no generation; publish")
        with pytest.raises(StoreError, match="nothing was published"):
            rollback(at(server, tmp_path / "operator"))
        operator = at(server, tmp_path / "operator")
        number = operator.publish(edited(loaded, "after the flush"))
        assert number == 3, "the operator's machine remembers which numbers were given"
        operator.move_current(None, number)
        head = worker.head()
        assert head is not None
        assert head.number == 3

    def test_emptied_and_published_from_a_machine_that_knows_nothing(
        self, server: LocalRedis, loaded: Loaded, edited: Edited, tmp_path: Path
    ) -> None:
        """Number 1 again, with other content: it is an operator's decision, and told apart by its hash."""
        published(at(server, tmp_path / "operator"), loaded, edited)
        worker = followed(at(server, tmp_path / "worker"))
        cli(server, "FLUSHALL")
        operator = at(server, tmp_path / "elsewhere")
        operator.move_current(None, operator.publish(edited(loaded, "from elsewhere")))
        head = worker.head()
        assert head is not None
        assert head.number == 1
        assert worker.open(1, head.sha256).path.read_bytes().endswith(b"# from elsewhere\n")

    def test_an_older_backup_restored(self, server: LocalRedis, loaded: Loaded, edited: Edited, tmp_path: Path) -> None:
        operator = at(server, tmp_path / "operator")
        operator.move_current(None, operator.publish(loaded))
        cli(server, "SAVE")
        backup = Path(shutil.copy(server.folder / "dump.rdb", tmp_path / "backup.rdb"))
        operator.move_current(1, operator.publish(edited(loaded, "number 2")))
        worker = followed(at(server, tmp_path / "worker"))
        server.kill()
        shutil.rmtree(server.folder / "appendonlydir")
        shutil.copy(backup, server.folder / "dump.rdb")
        with LocalRedisOn(server, "--appendonly", "no"):
            assert operator.current() == 1
            older = "generation 1 is current, which is older than what was current here"
            with pytest.raises(StoreError, match=older):
                worker.head()
            kept, why = Follower(at(server, tmp_path / "worker")).first()
            assert kept.number == 2
            assert older in why
            operator.move_current(1, number := operator.publish(edited(loaded, "after the restore")))
            assert number == 3
            head = worker.head()
            assert head is not None
            assert head.number == 3, "an operator's decision is followed"

    def test_a_rollback_is_followed_though_its_number_is_lower(
        self, store: RedisStore, loaded: Loaded, edited: Edited
    ) -> None:
        published(store, loaded, edited)
        worker = followed(store)
        rollback(store)
        head = worker.head()
        assert head is not None
        assert head.number == 1

    def test_full_of_garbage(self, server: LocalRedis, loaded: Loaded, edited: Edited, tmp_path: Path) -> None:
        published(at(server, tmp_path / "operator"), loaded, edited)
        worker = followed(at(server, tmp_path / "worker"))
        for key in cli(server, "KEYS", "muse:*").split():
            cli(server, "SET", key, os.urandom(50).replace(b"\0", b"x"))
        self.stays(server, tmp_path, worker, "muse:current")

    def test_slow_answers_are_waited_for(
        self, server: LocalRedis, loaded: Loaded, edited: Edited, tmp_path: Path
    ) -> None:
        published(at(server, tmp_path / "operator"), loaded, edited)
        with slow(server.port, 0.1) as port:  # there and back: 200 ms
            store = RedisStore(RedisAddress.parse(f"redis://127.0.0.1:{port}"), cache=tmp_path / "worker")
            assert followed(store).head() is not None

    def test_refused_from_the_start(self, loaded: Loaded, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = RedisAddress.parse(f"redis://127.0.0.1:{taken.getsockname()[1]}")
            store = RedisStore(address, cache=tmp_path / "cache")
            for act in (store.current, store.list, lambda: store.publish(loaded), lambda: store.move_current(None, 1)):
                with pytest.raises(StoreError, match=rf"^{address}: .*refused"):
                    act()

    def test_a_hint_ends_a_wait_and_without_one_it_lasts(
        self, store: RedisStore, loaded: Loaded, edited: Edited
    ) -> None:
        number = store.publish(loaded)
        worker = RedisStore(store._address)
        worker.wait(0.1)  # subscribes
        waited = threading.Event()

        def wait() -> None:
            worker.wait(60 * PATIENCE)
            waited.set()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        while not waited.wait(0.05):
            store._client.publish(f"{store._address.prefix}:moved", "x")
        thread.join(10)
        worker.close()
        store.move_current(None, number)

    def test_a_flood_of_hints_makes_nobody_busy(self, store: RedisStore) -> None:
        store.wait(0.0)
        for _ in range(50):
            store._client.publish(f"{store._address.prefix}:moved", "x")
        before = time.monotonic()
        for _ in range(5):
            store.wait(1.0)
        assert time.monotonic() - before >= 5 * module.SOONEST_S


class LocalRedisOn:
    """The same server on its port and folder with other options, until the block is left."""

    def __init__(self, server: LocalRedis, *options: str) -> None:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(server.port), "--dir", str(server.folder)]
        self._process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
        end = time.monotonic() + 10 * PATIENCE
        while time.monotonic() < end:
            with socket.socket() as trying:
                if trying.connect_ex(("127.0.0.1", server.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("redis-server did not start")

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def slow(port: int, delay_s: float) -> Iterator[int]:
    """A way to a port on which everything takes `delay_s` in each direction."""
    listener = socket.create_server(("127.0.0.1", 0))
    ends: list[socket.socket] = [listener]

    def carry(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                time.sleep(delay_s)
                target.sendall(data)
        except OSError:
            pass

    def accept() -> None:
        try:
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                ends.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()
        except OSError:
            pass

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class TestLocalCopy:
    @pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "add", "link", "manifest"])
    def test_what_is_damaged_on_this_machine_is_fetched_again(
        self, store: RedisStore, loaded: Loaded, edited: Edited, damage: str
    ) -> None:
        published(store, loaded, edited, 1)
        path = store.open(1).path
        victim = sorted(path.parent.rglob("*.onnx"))[0]
        content = victim.read_bytes()
        if damage == "flip":
            victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        elif damage == "truncate":
            victim.write_bytes(b"")
        elif damage == "remove":
            victim.unlink()
        elif damage == "add":
            victim.with_name("extra.onnx").write_bytes(b"")
        elif damage == "link":
            victim.unlink()
            victim.symlink_to("/etc/passwd")
        else:
            (path.parent.parent / "manifest.json").write_text("")
        again = store.open(1)
        assert victim.read_bytes() == content
        assert not victim.is_symlink()
        assert not victim.with_name("extra.onnx").exists()
        assert load_document(again.path).document == loaded.document

    def test_a_damaged_copy_is_refused_while_redis_is_away(
        self, server: LocalRedis, loaded: Loaded, edited: Edited, tmp_path: Path
    ) -> None:
        store = at(server, tmp_path / "worker")
        published(store, loaded, edited, 1)
        path = store.open(1).path
        server.kill()
        assert store.open(1).path == path
        path.write_text("other")
        with pytest.raises(StoreError, match="refused"):
            store.open(1)

    def test_it_is_bounded_and_keeps_what_is_needed(
        self, store: RedisStore, loaded: Loaded, edited: Edited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("muse_stream.control.local_copy.IN_USE_S", 0.0)
        published(store, loaded, edited, 5)
        copy = LocalCopy("here", tmp_path / "bounded", max_bytes=1)
        store._copy = copy
        copy.keep(store.head() or Head(5))
        for number in range(1, 6):
            store.open(number)
        kept = sorted(int(folder.name[:6]) for folder in (copy.path / "generations").iterdir())
        assert kept == [4, 5], "what is current, and what was before it"
        shared = {*store.manifest(4).files.values(), *store.manifest(5).files.values()}
        assert {file.name for file in (copy.path / "files").iterdir()} == shared

    def test_what_was_opened_a_moment_ago_is_left_alone(
        self, store: RedisStore, loaded: Loaded, edited: Edited, tmp_path: Path
    ) -> None:
        published(store, loaded, edited, 4)
        store._copy = LocalCopy("here", tmp_path / "bounded", max_bytes=1)
        paths = [store.open(number).path for number in range(1, 5)]
        assert all(path.exists() for path in paths)

    def test_a_folder_nobody_may_write_is_named_with_the_variable(self, store: RedisStore, loaded: Loaded) -> None:
        number = store.publish(loaded)
        store._copy = LocalCopy("here", Path("/proc/nowhere"), max_bytes=1)
        with pytest.raises(StoreError, match=r"/proc/nowhere.*MUSE_CACHE_DIR names a folder"):
            store.open(number)

    def test_a_later_head_of_another_worker_is_not_overwritten(self, tmp_path: Path) -> None:
        copy = LocalCopy("here", tmp_path, max_bytes=1)
        moved = datetime(2026, 11, 26, tzinfo=UTC)
        copy.keep(Head(2, "b" * 64, (1,), 20, moved))
        copy.keep(Head(1, "a" * 64, (), 10, moved))
        head = copy.head()
        assert head is not None
        assert head.number == 2

    def test_many_workers_of_a_machine_fetch_once(self, store: RedisStore, loaded: Loaded) -> None:
        number = store.publish(loaded)
        fetched: list[str] = []
        real = store._fetch

        def counted(digest: str, target: Path) -> None:
            fetched.append(digest)
            real(digest, target)

        store._fetch = counted  # type: ignore[method-assign]
        threads = [threading.Thread(target=store.open, args=(number,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(fetched) == sorted({*store.manifest(number).files.values()})


def test_an_answer_is_waited_for_a_second() -> None:
    """Tests give a Redis more time, so that a busy machine fails none."""
    source = Path(redis_address.__file__).read_text(encoding="utf-8")
    assert "\nTIMEOUT_S = 1.0\n" in source


def test_the_refusal_of_a_move_survives_the_way_between_processes(store: RedisStore, loaded: Loaded) -> None:
    store.move_current(None, store.publish(loaded))
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    with pytest.raises(Conflict) as refused:
        store.move_current(None, 1)
    theirs.send(refused.value)
    again = ours.recv()
    assert isinstance(again, Conflict)
    assert str(again) == str(refused.value)
    assert open_store(str(store)).current() == 1
