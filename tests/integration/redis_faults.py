"""A Redis as an operator runs it for workers, and all that can happen to it.

`Scene` is a Redis with the documented users; workers reach it as `muse-worker` through a proxy that can be slow, the
operator as `muse-publisher` directly. `FAULTS` has each fault with what workers say of it; all are made and mended by
Redis's own means. `SentinelGroup` is a master, a replica and a Sentinel.
"""

import re
import select
import shutil
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from muse_stream.config import load_document
from muse_stream.control import open_store
from muse_stream.testing import LocalRedis, local_kafka
from tests.integration.bank import Bank
from tests.patience import until

RULES = (Path(__file__).parents[2] / "docs" / "redis-security.md").read_text()
WORKER, PUBLISHER = "WORKER-PASSWORD", "PUBLISHER-PASSWORD"


class Proxy:
    """Passes bytes between a port of its own and another one; `delay_s` is how late the answers are."""

    def __init__(self, target: int) -> None:
        self.delay_s = 0.0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Answers wait in `late` until they are due: nothing else is held up by that."""
        late: deque[tuple[float, bytes]] = deque()
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self._target), 5) as server:
            while True:
                wait = max(0.0, late[0][0] - time.monotonic()) if late else 1.0
                ready, _, _ = select.select([client, server], [], [], wait)
                for one in ready:
                    if not (data := one.recv(1 << 16)):
                        return
                    if one is client:
                        server.sendall(data)
                    else:
                        late.append((time.monotonic() + self.delay_s, data))
                while late and late[0][0] <= time.monotonic():
                    client.sendall(late.popleft()[1])


class Scene:
    """A Redis, its users, and the proxy before it; `url` is for workers, whose password is in the file `password`."""

    def __init__(self, bank: Bank, folder: Path) -> None:
        self.bank, self.folder = bank, folder
        self.password = folder / "store.password"
        self._passwords = 0
        self.before = 0
        """What was published last."""
        self.seen: Callable[[int], object] = lambda _: None
        """Called with a generation, returns when workers serve it."""
        self._stack = ExitStack()

    def __enter__(self) -> "Scene":
        acl = self.folder / "users.acl"
        acl.write_text(
            "\n".join(re.findall(r"^user muse.*$", RULES, re.MULTILINE)) + "\nuser default on nopass ~* &* +@all\n"
        )
        self.redis = self._stack.enter_context(LocalRedis("--aclfile", str(acl)))
        self.proxy = self._stack.enter_context(Proxy(self.redis.port))
        self.password.write_text(f"{WORKER}\n")
        self.url = f"redis://muse-worker@127.0.0.1:{self.proxy.port}"
        self.operator = f"redis://muse-publisher:{PUBLISHER}@127.0.0.1:{self.redis.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def publish(self) -> int:
        """The next generation, current at once; the two models take turns."""
        store = open_store(self.operator)
        try:
            current = store.current()
            model = "plain" if self.before % 2 else "retrained"
            document = load_document(self.bank.document(live=model, shadow=()))
            number = store.publish(document)
            store.move_current(current, number)
        finally:
            store.close()
        self.before = number
        return number

    def cli(self, *words: str) -> bytes:
        """Do something by hand."""
        command = ["redis-cli", "-p", str(self.redis.port), *words]
        return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout

    def drop_connections(self) -> None:
        """Workers must log in again."""
        self.cli("CLIENT", "KILL", "USER", "muse-worker")

    def change_password(self) -> None:
        """Give workers' user another one, for good, which they do not know yet."""
        self._passwords += 1
        self.cli("ACL", "SETUSER", "muse-worker", "resetpass", f">other-{self._passwords}")
        self.cli("ACL", "SAVE")
        self.drop_connections()

    def tell_password(self) -> None:
        """Put it into their file, as Kubernetes does."""
        fresh = self.password.with_suffix(".new")
        fresh.write_text(f"other-{self._passwords}\n")
        fresh.replace(self.password)

    def save(self) -> Path:
        """Take a backup."""
        self.cli("SAVE")
        return Path(shutil.copy(self.redis.folder / "dump.rdb", self.folder / "backup.rdb"))

    def restore(self, backup: Path) -> None:
        """Put an older backup in place, by Redis's own means: a server that reads it and writes its own files again."""
        self.redis.kill()
        shutil.rmtree(self.redis.folder / "appendonlydir")
        shutil.copy(backup, self.redis.folder / "dump.rdb")
        command = ["redis-server", "--port", str(self.redis.port), "--bind", "127.0.0.1"]
        cli = ["redis-cli", "-p", str(self.redis.port)]
        with subprocess.Popen(
            [*command, "--dir", str(self.redis.folder), "--appendonly", "no"], stdout=subprocess.DEVNULL
        ) as server:
            until(lambda: b"PONG" in subprocess.run([*cli, "PING"], capture_output=True, check=False).stdout, 20)
            self.cli("CONFIG", "SET", "appendonly", "yes")

            def rewritten() -> bool:
                said = self.cli("INFO", "persistence")
                return b"aof_rewrite_in_progress:0" in said and b"aof_rewrite_scheduled:0" in said

            until(rewritten, 20)
            subprocess.run([*cli, "SHUTDOWN", "NOSAVE"], check=False, capture_output=True)
            server.wait(60)
        self.redis.restart()


@dataclass(frozen=True)
class Fault:
    """What happens, what workers say of it (a pattern; empty: nothing, they do not notice), and how it ends.

    After `mend` an operator's next publish is followed.
    """

    strike: Callable[[Scene], object]
    said: str
    mend: Callable[[Scene], object] = lambda _: None


def _older(scene: Scene) -> None:
    backup = scene.save()
    number = scene.publish()
    scene.seen(number)
    scene.restore(backup)


def _set(key: str, value: str) -> Callable[[Scene], object]:
    return lambda scene: scene.cli("SET", f"muse:{key}", value)


def _garbled(scene: Scene) -> None:
    """`current` names a generation that is none."""
    number = scene.before + 1
    scene.cli("SET", f"muse:generation:{number}", "{}")
    scene.cli("SET", "muse:current", f'{{"format": 2, "number": {number}, "sequence": {1 << 42}}}')


def _ungarbled(scene: Scene) -> None:
    scene.cli("DEL", f"muse:generation:{scene.before + 1}", "muse:current")


FAULTS: Mapping[str, Fault] = {
    "kill": Fault(lambda s: s.redis.kill(), "Connection|refused|closed", lambda s: s.redis.restart()),
    "stop": Fault(lambda s: s.redis.pause(), "no answer within 1 s", lambda s: s.redis.resume()),
    "latency": Fault(lambda s: setattr(s.proxy, "delay_s", 0.5), "", lambda s: setattr(s.proxy, "delay_s", 0.0)),
    "late": Fault(
        lambda s: setattr(s.proxy, "delay_s", 1.5), "no answer within 1 s", lambda s: setattr(s.proxy, "delay_s", 0.0)
    ),
    "password": Fault(
        lambda s: s.change_password(), "user or password refused", lambda s: s.tell_password()
    ),  # rotation: they take up the new one
    "noperm": Fault(
        lambda s: s.cli("ACL", "SETUSER", "muse-worker", "-get"),
        "the user may not do this",
        lambda s: s.cli("ACL", "SETUSER", "muse-worker", "+get"),
    ),
    "flush": Fault(lambda s: s.cli("FLUSHALL"), "is empty, and generation [0-9]+ was current"),
    "garbage": Fault(_set("current", "garbage"), "not what this store writes", lambda s: s.cli("DEL", "muse:current")),
    "type": Fault(
        lambda s: (s.cli("DEL", "muse:current"), s.cli("LPUSH", "muse:current", "x")),
        "WRONGTYPE",
        lambda s: s.cli("DEL", "muse:current"),
    ),
    "newer": Fault(
        _set("current", '{"format": 99, "version": "9.1.0", "number": 1}'),
        r"needs muse-stream 9\.1\.0 or later",
        lambda s: s.cli("DEL", "muse:current"),
    ),
    "garbled": Fault(_garbled, "torn or not a manifest", _ungarbled),
    "older": Fault(_older, "which is older than what was current here"),
}


NEVER_MS = 3_600_000


class SentinelGroup:
    """A master, a replica and a Sentinel that promotes the replica when told that the master is dead; `url` is for
    stores. A master that is only slow, on a busy machine, stays master.

    With `certificates` (the folder of `tests.certificates`) all of them speak TLS alone, and ask for a certificate.
    """

    def __init__(self, folder: Path, certificates: Path | None = None) -> None:
        self.folder, self._certificates = folder, certificates
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "SentinelGroup":
        self.ports = local_kafka.free_ports(3)
        master, replica, sentinel = self.ports
        self._start("master", master)
        self._start("replica", replica, "--replicaof", "127.0.0.1", str(master))
        config = self.folder / "sentinel.conf"
        config.write_text(
            f"{self._listening(sentinel)}bind 127.0.0.1\nsentinel monitor store 127.0.0.1 {master} 1\n"
            f"sentinel down-after-milliseconds store {NEVER_MS}\nsentinel failover-timeout store 10000\n"
        )
        log = (self.folder / "sentinel.log").open("wb")
        command = ["redis-server", str(config), "--sentinel"]
        self._processes.append(subprocess.Popen(command, cwd=self.folder, stdout=log))
        log.close()
        self.url = f"{'rediss' if self._certificates else 'redis'}+sentinel://127.0.0.1:{sentinel}/store"
        until(lambda: b"slave0" in self.cli(sentinel, "INFO", "sentinel") or self._knows_replica(sentinel), 30)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _start(self, name: str, port: int, *options: str) -> None:
        folder = self.folder / name
        folder.mkdir()
        config = folder / "redis.conf"
        config.write_text(f"{self._listening(port)}bind 127.0.0.1\n")
        command = ["redis-server", str(config), "--dir", str(folder), *options]
        self._processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        until(lambda: b"PONG" in self.cli(port, "PING"), 20)

    def cli(self, port: int, *words: str) -> bytes:
        """Do something by hand; the answer is empty where nobody answers."""
        folder = self._certificates
        files = {"cert": "client.pem", "key": "client.key", "cacert": "ca.pem"}
        secured = [word for name, file in files.items() for word in (f"--{name}", f"{folder}/{file}")]
        command = ["redis-cli", "-p", str(port), *(["--tls", *secured] if folder else []), *words]
        return subprocess.run(command, capture_output=True, check=False).stdout

    def _listening(self, port: int) -> str:
        if self._certificates is None:
            return f"port {port}\n"
        files = {"cert": "server.pem", "key": "server.key", "ca-cert": "ca.pem"}
        secured = "".join(f"tls-{name}-file {self._certificates / file}\n" for name, file in files.items())
        return f"port 0\ntls-port {port}\ntls-replication yes\n{secured}"

    def _knows_replica(self, sentinel: int) -> bool:
        return str(self.ports[1]).encode() in self.cli(sentinel, "SENTINEL", "REPLICAS", "store")

    def replicated(self) -> None:
        """Return when the replica has everything that the master has now; WAIT tells of its own connection only."""
        wanted = self._offset(self.ports[0], "master_repl_offset")

        def there() -> int:
            return self._offset(self.ports[1], "slave_repl_offset")

        until(lambda: there() >= wanted, 30, lambda: f"{there()} of {wanted}")

    def _offset(self, port: int, name: str) -> int:
        told = self.cli(port, "INFO", "replication")
        found = re.search(rf"^{name}:(-?\d+)".encode(), told, re.MULTILINE)
        assert found, told
        return int(found[1])

    def kill_master(self) -> None:
        """kill -9; returns when the replica is the master."""
        sentinel = self.ports[2]
        self._processes[0].kill()
        self._processes[0].wait()
        self.cli(sentinel, "SENTINEL", "SET", "store", "down-after-milliseconds", "1000")
        until(
            lambda: b"role:master" in self.cli(self.ports[1], "INFO", "replication"),
            60,
            lambda: (self.folder / "sentinel.log").read_text(errors="replace")[-2000:],
        )
