"""A store in a Redis with users and TLS: the documented rules are enough, and no more; secrets are never shown.

The rules are read from docs/redis-security.md, so that what operators copy is what was tried.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muse_stream.config import Loaded
from muse_stream.control import Follower, Lease, open_store, rollback
from muse_stream.control.redis_address import RedisAddress
from muse_stream.control.redis_store import RedisStore
from muse_stream.errors import StoreError
from muse_stream.testing.redis_server import LocalRedis, missing_server
from tests.certificates import make_certificates
from tests.integration.redis_faults import SentinelGroup
from tests.patience import until

pytestmark = pytest.mark.skipif(
    bool(missing_server()), reason=f"a Redis with users is this machine's: {missing_server()}"
)
Edited = Callable[[Loaded, str], Loaded]
RULES = (Path(__file__).parents[2] / "docs" / "redis-security.md").read_text()
PASSWORDS = {
    "muse-worker": "WORKER-PASSWORD",
    "muse-publisher": "PUBLISHER-PASSWORD",
    "muse-calibrator": "CALIBRATOR-PASSWORD",
    "muse-refresher": "REFRESHER-PASSWORD",
}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRedis]:
    """A Redis with exactly the users of the document, and one that may see what was refused."""
    acl = tmp_path_factory.mktemp("secured") / "users.acl"
    acl.write_text("\n".join(re.findall(r"^user .*$", RULES, re.MULTILINE)) + "\nuser admin on >ADMIN ~* &* +@all\n")
    with LocalRedis("--aclfile", str(acl)) as running:
        yield running


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalRedis, Path]]:
    """A Redis that speaks TLS on its port and asks for certificates; and the folder of those."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    with LocalRedis() as running:
        port = running.port
        running.kill()
        tls = ("--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.pem")
        files = [str(folder / word) if "." in word else word for word in tls]
        command = ["redis-server", "--bind", "127.0.0.1", "--port", "0", "--tls-port", str(port), *files]
        log = folder / "log"
        with log.open("wb") as out:
            process = subprocess.Popen([*command, "--dir", str(folder)], stdout=out)
        try:
            until(lambda: b"Ready to accept" in log.read_bytes(), 20, log.read_text)
            yield running, folder
        finally:
            process.kill()
            process.wait()


def user(secured: LocalRedis, name: str, cache: Path, password: str | None = None) -> RedisStore:
    word = PASSWORDS[name] if password is None else password
    return RedisStore(RedisAddress.parse(f"redis://{name}:{word}@127.0.0.1:{secured.port}"), cache=cache)


@pytest.fixture
def publisher(secured: LocalRedis, tmp_path: Path) -> Iterator[RedisStore]:
    """The documented publisher, on an empty Redis."""
    admin = RedisAddress.parse(f"redis://admin:ADMIN@127.0.0.1:{secured.port}").connect()
    admin.flushall()
    admin.acl_log_reset()
    opened = user(secured, "muse-publisher", tmp_path / "publisher")
    yield opened
    opened.close()
    admin.close()


def refused(secured: LocalRedis) -> list[str]:
    """What Redis itself says that it refused, logins left out."""
    admin = RedisAddress.parse(f"redis://admin:ADMIN@127.0.0.1:{secured.port}").connect()
    lines = [str(line) for line in admin.acl_log() if line["reason"] != "auth"]
    admin.close()
    return lines


def test_the_documented_publisher_and_worker_can_do_all_they_need(
    secured: LocalRedis, publisher: RedisStore, loaded: Loaded, edited: Edited, tmp_path: Path
) -> None:
    """Nothing stands in Redis's own list of what it refused, afterwards."""
    publisher.move_current(None, publisher.publish(loaded))
    publisher.move_current(1, publisher.publish(edited(loaded, "second")))
    rollback(publisher)
    with Lease(publisher, "promotion", "promote --steps") as lease:
        lease.check()
    assert publisher.set_ephemeral("watch-verdicts", b"{}", 60, expected=None)
    assert publisher.ephemeral("watch-verdicts") == b"{}"
    assert [entry.problem for entry in publisher.list()] == ["", ""]
    with pytest.raises(StoreError, match="there is no generation 9; there is: 1, 2"):
        rollback(publisher, to=9)
    store = user(secured, "muse-worker", tmp_path / "worker")
    worker = Follower(store)
    head = worker.head()
    assert head is not None
    assert worker.open(head.number, head.sha256).number == 1
    store.wait(0.1)
    assert store._hints is not None, "it has subscribed"
    assert [entry.problem for entry in store.list()] == ["", ""]
    store.verify(2)
    store.beat("worker-1", b"alive")
    store._heartbeats._sweep()
    assert [(beat.name, beat.data) for beat in store.beats()] == [("worker-1", b"alive")]
    assert [beat.name for beat in publisher.beats()] == ["worker-1"]
    assert store.ephemeral("watch-verdicts") == b"{}", "`status` reads it"
    store.forget("worker-1")
    assert store.beats() == ()
    store.close()
    assert refused(secured) == []


def test_a_worker_s_user_can_change_nothing(
    secured: LocalRedis, publisher: RedisStore, loaded: Loaded, edited: Edited, tmp_path: Path
) -> None:
    publisher.move_current(None, publisher.publish(loaded))
    worker = user(secured, "muse-worker", tmp_path / "worker")
    for act in (lambda: worker.publish(edited(loaded, "x")), lambda: worker.move_current(1, 1)):
        with pytest.raises(StoreError, match=r"the user may not do this: .*see docs/redis-security\.md"):
            act()
    for words in (
        ("SADD", "muse:names", "x"),
        ("SET", "muse:current", "x"),
        ("DEL", "muse:current"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
    ):
        with pytest.raises(Exception, match=r"(?i)no permission"):
            worker._client.execute_command(*words)
    assert publisher.current() == 1
    worker.close()


def test_a_permission_that_is_lost_costs_a_worker_nothing(
    secured: LocalRedis, publisher: RedisStore, loaded: Loaded, tmp_path: Path
) -> None:
    publisher.move_current(None, publisher.publish(loaded))
    worker = Follower(user(secured, "muse-worker", tmp_path / "worker"))
    head = worker.head()
    assert head is not None
    worker.open(1, head.sha256)
    admin = RedisAddress.parse(f"redis://admin:ADMIN@127.0.0.1:{secured.port}").connect()
    admin.execute_command("ACL", "SETUSER", "muse-worker", "-get")
    try:
        with pytest.raises(StoreError, match="the user may not do this"):
            worker.head()
        again = Follower(user(secured, "muse-worker", tmp_path / "worker"))
        first, why = again.first()
        assert first.number == 1
        assert "may not" in why
        assert again.open(1, first.sha256).number == 1
    finally:
        admin.execute_command("ACL", "SETUSER", "muse-worker", "+get")
        admin.close()


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_password_is_told_and_not_shown(
    secured: LocalRedis, publisher: RedisStore, tmp_path: Path, password: str
) -> None:
    store = user(secured, "muse-worker", tmp_path, password)
    with pytest.raises(StoreError, match=r"user or password refused: .*see MUSE_STORE_PASSWORD") as told:
        store.current()
    assert "wrong" not in str(told.value).replace("WRONGPASS", "")


def test_without_a_user_it_is_said_that_one_is_needed(secured: LocalRedis, publisher: RedisStore) -> None:
    with pytest.raises(StoreError, match=r"user or password refused"):
        open_store(secured.url).current()


def test_the_password_comes_from_a_file_and_may_change(
    secured: LocalRedis, publisher: RedisStore, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "password"
    secret.write_text("not yet\n")
    monkeypatch.setenv("MUSE_STORE_PASSWORD_FILE", str(secret))
    store = open_store(f"redis://muse-publisher@127.0.0.1:{secured.port}")
    with pytest.raises(StoreError, match="refused"):
        store.current()
    secret.write_text("PUBLISHER-PASSWORD\n")
    assert store.current() is None
    store.close()
    monkeypatch.setenv("MUSE_STORE_PASSWORD", "x")
    with pytest.raises(StoreError, match="give one of MUSE_STORE_PASSWORD and MUSE_STORE_PASSWORD_FILE"):
        store.current()
    monkeypatch.delenv("MUSE_STORE_PASSWORD")
    secret.unlink()
    with pytest.raises(StoreError, match=r"MUSE_STORE_PASSWORD_FILE: .*cannot be read"):
        store.current()


def test_tls_to_sentinels_and_to_the_master(
    encrypted: tuple[LocalRedis, Path], loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked of a Sentinel, or of the master that it names, without encryption and certificates."""
    folder = encrypted[1]
    for name, file in (("CA", "ca.pem"), ("CERTIFICATE", "client.pem"), ("KEY", "client.key")):
        monkeypatch.setenv(f"MUSE_STORE_SSL_{name}_LOCATION", str(folder / file))
    with SentinelGroup(tmp_path, folder) as group:
        store = open_store(group.url)
        store.move_current(None, store.publish(loaded))
        assert store.current() == 1
        store.beat("worker", b"alive")
        assert [beat.name for beat in store.beats()] == ["worker"]
        store.close()
        with pytest.raises(StoreError):  # TLS is all that they speak
            open_store(group.url.replace("rediss", "redis")).current()
        monkeypatch.delenv("MUSE_STORE_SSL_CA_LOCATION")
        with pytest.raises(StoreError, match=r"No master found for 'store': .*CERTIFICATE_VERIFY_FAILED"):
            open_store(group.url).current()
        monkeypatch.setenv("MUSE_STORE_SSL_CA_LOCATION", str(folder / "ca.pem"))
        monkeypatch.delenv("MUSE_STORE_SSL_CERTIFICATE_LOCATION")
        monkeypatch.delenv("MUSE_STORE_SSL_KEY_LOCATION")
        with pytest.raises(StoreError):  # they ask for a certificate
            open_store(group.url).current()


def test_tls_checks_the_server_and_shows_the_client(
    encrypted: tuple[LocalRedis, Path], loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, folder = encrypted
    url = f"rediss://127.0.0.1:{server.port}"
    with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
        open_store(url).current()
    monkeypatch.setenv("MUSE_STORE_SSL_CA_LOCATION", str(folder / "ca.pem"))
    with pytest.raises(StoreError):  # Redis asks for a certificate
        open_store(url).current()
    monkeypatch.setenv("MUSE_STORE_SSL_CERTIFICATE_LOCATION", str(folder / "client.pem"))
    monkeypatch.setenv("MUSE_STORE_SSL_KEY_LOCATION", str(folder / "client.key"))
    store = open_store(url)
    store.move_current(None, store.publish(loaded))
    assert store.current() == 1
    store.wait(0.05)
    store.close()
    with pytest.raises(StoreError):  # a name that is not in the certificate
        open_store(url.replace("127.0.0.1", "localhost")).current()
    monkeypatch.setenv("MUSE_STORE_SSL_CA_LOCATION", str(folder / "gone.pem"))
    with pytest.raises(StoreError, match=r"MUSE_STORE_SSL_CA_LOCATION: .*gone\.pem: no such file"):
        open_store(url)


def test_a_calibrator_may_keep_what_it_has_counted_and_change_nothing_that_is_served(
    secured: LocalRedis, publisher: RedisStore, loaded: Loaded, tmp_path: Path
) -> None:
    number = publisher.publish(loaded)
    publisher.move_current(None, number)
    calibrator = user(secured, "muse-calibrator", tmp_path / "calibrator")
    assert calibrator.set_durable("counts", b"one", None)
    assert calibrator.set_durable("counts", b"two", b"one")
    assert calibrator.durables("") == ("counts",)
    assert calibrator.set_durable("counts", None, b"two")
    assert calibrator.set_ephemeral("lease", b"mine", 60, None)
    calibrator.beat("worker", b"{}")
    assert calibrator.current() == number
    calibrator.wait(0.01)
    assert refused(secured) == []
    with pytest.raises(StoreError, match="the user may not do this"):
        calibrator.move_current(number, number)
    with pytest.raises(StoreError, match="the user may not do this"):
        user(secured, "muse-worker", tmp_path / "worker").set_durable("counts", b"three", None)
    calibrator.close()


def test_who_refreshes_maps_may_count_and_publish_and_a_publisher_may_decide_a_proposal(
    secured: LocalRedis, publisher: RedisStore, loaded: Loaded, edited: Edited, tmp_path: Path
) -> None:
    publisher.move_current(None, publisher.publish(loaded))
    refresher = user(secured, "muse-refresher", tmp_path / "refresher")
    assert refresher.set_durable("counts", b"one", None)
    assert refresher.set_durable("refresh~acme~1", b"proposed", None)
    with Lease(refresher, "drift-main", "drift") as lease:
        lease.check()
    refresher.beat("worker", b"{}")
    number = refresher.publish(edited(loaded, "refreshed"))
    refresher.move_current(1, number)
    refresher.wait(0.01)
    assert refresher.set_durable("counts", None, b"one")
    assert publisher.set_durable("refresh~acme~1", b"rejected", b"proposed")
    assert publisher.durables("refresh~") == ("refresh~acme~1",)
    assert publisher.current() == number
    assert refused(secured) == []
    refresher.close()
