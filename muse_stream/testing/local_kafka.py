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
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from muse_stream.errors import MuseError
from muse_stream.testing import keeper, probe
from muse_stream.testing.freeze import freeze
from muse_stream.testing.kafka_jars import Places, Say, call, jars, java, rename_into_place

MEMORY, MUCH = Path("/dev/shm"), 8 << 30  # noqa: S108  # folders in it are claimed and locked, like those elsewhere
CLUSTER_ID = "bXVzZS1zdHJlYW0tZGVtbw"  # 16 bytes, base64url: the cluster is formatted once and copied for each run
READY_WITHIN_S = 180.0  # 5 s on an idle machine, more than 60 under a load of 18
ARCHIVE = "classes.jsa"
"""Beside the jars: Kafka's classes as the JVM keeps them, where they were made (`local_cluster.archive_classes`)."""
HEAP = ("-Xms512m", "-Xmx512m", "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError", "-Xshare:auto")
_LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    # says which transaction markers it dropped: a fault test must see that it met the fault
    "-Dorg.slf4j.simpleLogger.log.kafka.coordinator.transaction.TransactionMarkerChannelManager=info",
)


class LocalKafka:
    """One broker run by the local JVM: `bootstrap` answers from `start()` to `close()`, but for faults asked for.

    It listens on `port`, 0 for any that is free. `properties` are laid over those of the file (another listener, an
    authorizer); `connection` are librdkafka's settings for the broker that this makes, since it must be asked whether
    it answers. `release` is Kafka's version, the pinned one by default; `jvm` are java's options.
    """

    rung = "local JVM"

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
        self._jars = jars(places, say, release)
        self._port = port
        self._over = dict(properties or {})
        self._jvm = jvm
        self._connection = connection
        self._properties = Template((places.files / "server.properties").read_text())
        self._cache = places.cache
        self._keeper: subprocess.Popen[bytes] | None = None
        self._run = Path()
        self._pid = 0
        self.bootstrap = ""

    def start(self) -> None:
        """Start the broker on free ports; returns when it answers; MuseError with the end of its log if never."""
        for attempts_left in (2, 1, 0):
            ports = [self._port, *free_ports(2)] if self._port else free_ports(3)
            try:
                self.prepare(ports)
                self.restart()
                return
            except MuseError as error:
                self.close()
                # Between choosing a port and binding it somebody else may have taken it.
                if "Address already in use" not in str(error) or not attempts_left:
                    raise

    def prepare(self, ports: Sequence[int], node: int = 1, **over: str) -> None:
        """Make the run folder and the keeper on these ports (client, internal, controller); `launch` comes next.

        `over` is what only this node's place in a cluster decides.
        """
        self.bootstrap = f"127.0.0.1:{ports[0]}"
        self._run, lock = claim_run(run_folders(self._cache))
        try:
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
            command = java(self._jars, *options, "kafka.Kafka", str(properties))
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, str(self._run), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us; the broker stays until we have left it
                pass_fds=[lock],  # the run folder is locked for as long as the keeper lives
            )
        finally:
            os.close(lock)

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

    def running(self) -> bool:
        """Whether the broker's process lives."""
        return self._order("status") != 0

    def kill(self) -> None:
        """End the broker as a power cut would (SIGKILL); its data stay for `restart()`."""
        self._pid = self._order("kill")

    def pause(self) -> None:
        """Freeze the broker (SIGSTOP): connections stay open and nobody answers."""
        freeze(self._alive())

    def resume(self) -> None:
        """Let a paused broker go on (SIGCONT)."""
        os.kill(self._alive(), signal.SIGCONT)

    def stop(self) -> None:
        """Shut the broker down in order (SIGTERM), as a restart for new software does; its data stay."""
        self._pid = self._order("stop")

    def restart(self) -> None:
        """Start the broker on the same ports and data, killing it first if it runs; returns when it answers."""
        self.launch()
        self.await_answer()

    def launch(self) -> None:
        """Start the broker's process, killing it first if it runs; `await_answer` comes next."""
        self._pid = self._order("start")

    def await_answer(self) -> None:
        """Return when the broker answers; MuseError with the end of its log if never."""
        deadline = time.monotonic() + READY_WITHIN_S
        while not probe.answers(self.bootstrap, 1.0, self._connection):
            if not self.running():
                raise MuseError(f"the local Kafka broker ended at once; the end of its log:\n{self.log_end()}")
            if time.monotonic() > deadline:
                raise MuseError(f"no answer from the local Kafka broker in {READY_WITHIN_S:.0f} s:\n{self.log_end()}")
            time.sleep(0.05)

    def close(self) -> None:
        """Stop the broker and remove its folder; may be called twice."""
        if self._keeper is None:
            return
        running, self._keeper = self._keeper, None
        running.communicate()  # closes stdin, which is the keeper's order to clear up
        shutil.rmtree(self._run, ignore_errors=True)

    @property
    def log(self) -> Path:
        """What the broker says; not there before its first start, and gone after `close`."""
        return self._run / "broker.log"

    def said(self, text: str) -> int:
        """Count the lines of the broker's log that hold a text."""
        return sum(text in line for line in self._lines())

    def _alive(self) -> int:
        if not self._pid:
            raise MuseError("the local Kafka broker is not running")
        return self._pid

    def _order(self, word: str) -> int:
        if self._keeper is None or self._keeper.stdin is None or self._keeper.stdout is None:
            raise MuseError("the local Kafka broker was not started")
        try:
            self._keeper.stdin.write(word.encode() + b"\n")
            self._keeper.stdin.flush()
            return int(self._keeper.stdout.readline())
        except (OSError, ValueError):
            raise MuseError("the process that keeps the local Kafka broker is gone, and the broker with it") from None

    def log_end(self, lines: int = 15) -> str:
        """Return the last lines of the broker's log."""
        return "\n".join(self._lines()[-lines:]) or "(no log)"

    def _lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []


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
