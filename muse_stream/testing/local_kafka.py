"""A real Kafka broker on this machine's JVM, from Kafka's own jars.

`Places` (pom.xml and server.properties, a cache), java, and Maven once give a running combined KRaft node with a data
folder of its own, and handles to break it for fault tests.

Invariant: whatever happens to this process, the broker is gone and its folder with it (`keeper`); what a killed keeper
left behind is swept at the next start, told apart from a living run by a lock and not by a process id.
"""

import fcntl
import os
import secrets
import shutil
import socket
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from muse_stream.testing import probe
from muse_stream.testing.kafka_jars import Places, Say, call, jars, java, rename_into_place
from muse_stream.testing.kept_server import KeptServer

MEMORY, MUCH = Path("/dev/shm"), 8 << 30  # noqa: S108  # folders in it are claimed and locked, like those elsewhere
CLUSTER_ID = "bXVzZS1zdHJlYW0tZGVtbw"  # 16 bytes, base64url: the cluster is formatted once and copied for each run
ARCHIVE = "classes.jsa"
"""Beside the jars: Kafka's classes as the JVM keeps them, where they were made (`local_cluster.archive_classes`)."""
HEAP = ("-Xms512m", "-Xmx512m", "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError", "-Xshare:auto")
_LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    # says which transaction markers it dropped: a fault test must see that it met the fault
    "-Dorg.slf4j.simpleLogger.log.kafka.coordinator.transaction.TransactionMarkerChannelManager=info",
)


class LocalKafka(KeptServer):
    """One broker run by the local JVM: `bootstrap` answers from `start()` to `close()`, but for faults asked for.

    It listens on `port`, 0 for any that is free. `properties` are laid over those of the file (another listener, an
    authorizer); `connection` are librdkafka's settings for the broker that this makes, since it must be asked whether
    it answers. `release` is Kafka's version, the pinned one by default; `jvm` are java's options.
    """

    rung = "local JVM"
    called = "the local Kafka broker"

    def __init__(
        self,
        places: Places,
        say: Say = print,
        *,
        port: int = 0,
        properties: Mapping[str, str] | None = None,
        connection: Mapping[str, Any] | None = None,
        release: str | None = None,
        jvm: Sequence[str] = HEAP,
    ) -> None:
        super().__init__()
        self._jars = jars(places, say, release)
        self._port = port
        self._over = dict(properties or {})
        self._jvm = jvm
        self._connection = connection
        self._properties = Template((places.files / "server.properties").read_text())
        self._cache = places.cache
        self.bootstrap = ""

    def _prepare(self) -> None:
        self.prepare([self._port, *free_ports(2)] if self._port else free_ports(3))

    def prepare(self, ports: Sequence[int], node: int = 1, **over: str) -> None:
        """Make the run folder and the keeper on these ports (client, internal, controller); `launch` comes next.

        `over` is what only this node's place in a cluster decides.
        """
        self.bootstrap = f"127.0.0.1:{ports[0]}"
        self._run, lock = claim_run(run_folders(self._cache))
        try:
            command = self._command(ports, node, over)
        except BaseException:
            os.close(lock)
            raise
        self._keep(self._run, lock, command)

    def _command(self, ports: Sequence[int], node: int, over: Mapping[str, str]) -> list[str]:
        """Write the files of a run, and return what runs the broker on them."""
        properties = self._run / "server.properties"
        properties.write_text(
            self._properties.substitute(
                bind="127.0.0.1",
                advertised=self.bootstrap,
                port=ports[0],
                internal_port=ports[1],
                controller_port=ports[2],
                data=self._run / "data",
            )
            # of two lines with one name the later one holds
            + "".join(f"{name}={value}\n" for name, value in {**over, **self._over, "node.id": node}.items())
        )
        shutil.copytree(self._formatted(properties, node), self._run / "data")
        archive = self._jars / ARCHIVE
        archived = [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []
        options = (*self._jvm, *archived, *_LOGGING, *own_temporary_folder(self._run))
        return java(self._jars, *options, "kafka.Kafka", str(properties))

    def _formatted(self, properties: Path, node: int) -> Path:
        """A freshly formatted data folder, made once per set of jars: StorageTool is another JVM start of 1.2 s."""
        formatted = self._jars / ("formatted" if node == 1 else f"formatted-{node}")
        if not formatted.exists():
            fresh = self._jars / f".format-{secrets.token_hex(4)}"  # beside its place: it is renamed
            settings = properties.read_text().replace(str(self._run / "data"), str(fresh))
            for_format = self._run / "format.properties"
            for_format.write_text(settings)
            call(java(self._jars, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(for_format)))
            rename_into_place(fresh, formatted)
        return formatted

    def _answers(self) -> bool:
        return probe.answers(self.bootstrap, 1.0, self._connection)


def own_temporary_folder(run: Path) -> list[str]:
    """Return java's option for temporary files that go with the run: a broker that is killed removes none itself.

    They are libraries to be loaded (lz4, zstd), so where nothing may be executed java keeps its own place.
    """
    if os.statvfs(run).f_flag & os.ST_NOEXEC:
        return []
    folder = run / "tmp"
    folder.mkdir()
    return [f"-Djava.io.tmpdir={folder}"]


def run_folders(cache: Path) -> Path:
    """Return where brokers keep their data: in memory where there is much of it, else under `cache`.

    A controller waits for the disk with every change of its metadata. Where something else writes a lot that takes
    seconds, and a broker that is not heard of meanwhile loses its session.
    """
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MUCH:
        return MEMORY / f"muse-stream-{os.getuid()}"
    return cache / "run"


def claim_run(runs: Path) -> tuple[Path, int]:
    """A new run folder and the descriptor that locks it, after removing the folders of runs that are dead."""
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / ".lock").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        for old in runs.iterdir():
            if old.is_dir() and not _locked(old / "lock"):
                shutil.rmtree(old, ignore_errors=True)
        run = runs / secrets.token_hex(4)
        run.mkdir()
        lock = os.open(run / "lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return run, lock


def _locked(path: Path) -> bool:
    try:
        with path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


_GIVEN: deque[int] = deque(maxlen=200)
"""Descriptors of what says on this machine which ports were given away; the oldest are forgotten."""


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, below Linux's ephemeral range: no outgoing connection can take them meanwhile.

    Another process that asks is not given them either, as long as this one lives: between choosing a port and binding
    it, and while a broker is down that comes back on the same port, nobody listens there.
    """
    found: list[int] = []
    while len(found) < count:
        port = 20_000 + secrets.randbelow(12_000)  # `random` may be seeded: tests would choose alike
        given = socket.socket(socket.AF_UNIX)
        try:
            if sys.platform == "linux":
                given.bind(f"\0muse-stream-port-{port}")  # a name without a file, gone with this process
            with socket.socket() as probing:
                probing.bind(("127.0.0.1", port))
        except OSError:
            given.close()
            continue
        if len(_GIVEN) == _GIVEN.maxlen:
            os.close(_GIVEN.popleft())
        _GIVEN.append(given.detach())
        found.append(port)
    return found
