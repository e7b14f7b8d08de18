"""A real Schema Registry for tests: Apicurio Registry on this machine's JVM, which speaks Confluent's API.

`with registry_server() as registry:` gives one whose `url` answers. It keeps schemas in memory: a restart has forgotten
them. However the command ends, it is gone with it: a small process waits for our end (`keeper`).
"""

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

from muse_stream.errors import MuseError
from muse_stream.testing import keeper
from muse_stream.testing.freeze import freeze
from muse_stream.testing.kafka_jars import Say, call, missing_tools, places, rename_into_place
from muse_stream.testing.local_kafka import claim_run, free_ports, own_temporary_folder, run_folders

API = "/apis/ccompat/v7"
READY_WITHIN_S = 180.0
_JVM = ("-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_OPTIONS = ("-Dquarkus.http.host=127.0.0.1", "-Dquarkus.log.level=WARN")


def pom() -> Path:
    """Return the file that says which version is fetched."""
    return Path(str(files("muse_stream.testing") / "registry" / "pom.xml"))


def jars(say: Say = print) -> Path:
    """Folder with the registry, fetched by Maven on first use. Raises MuseError with Maven's last words."""
    version = ElementTree.parse(pom()).findtext("{*}properties/{*}registry.version")  # noqa: S314  our own file
    if not version:
        raise MuseError(f"{pom()} names no registry.version")
    digest = hashlib.sha256(pom().read_bytes()).hexdigest()[:16]
    home = places().cache.with_name("registry") / f"{version}-{digest}"
    if home.is_dir():
        return home
    say(f"fetching Apicurio Registry {version} with Maven (once, 142 MB)")
    fresh = home.with_name(f"{home.name}.{secrets.token_hex(4)}")
    try:
        goal = ["dependency:unpack-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fresh}"]
        call(["mvn", "-q", "-B", "-f", str(pom()), *goal])
        rename_into_place(fresh, home)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return home


class LocalRegistry:
    """One registry; `url` answers from `start()` to `close()`, but for faults asked for."""

    rung = "local JVM"

    def __init__(self, say: Say = print) -> None:
        if lacking := missing_tools():
            raise MuseError(f"no Schema Registry for tests: {lacking}")
        home = jars(say)
        self._jar = next(iter(sorted(home.glob("*-runner.jar"))), None)
        if self._jar is None:
            raise MuseError(f"{home} holds no registry; remove it, and it is fetched again")
        self._keeper: subprocess.Popen[bytes] | None = None
        self._run = Path()
        self._pid = 0
        self.url = ""

    def __enter__(self) -> "LocalRegistry":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it on a free port; returns when it answers, raises MuseError with the end of its log if never."""
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}{API}"
        self._run, lock = claim_run(run_folders(places().cache.with_name("registry-run")))
        options = (*_JVM, *_OPTIONS, f"-Dquarkus.http.port={port}", *own_temporary_folder(self._run))
        command = ["java", *options, "-jar", str(self._jar)]
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, str(self._run), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us; the registry stays until we have left it
                pass_fds=[lock],  # the run folder is locked for as long as the keeper lives
            )
        finally:
            os.close(lock)
        try:
            self.restart()
        except MuseError:
            self.close()
            raise

    def restart(self) -> None:
        """Start it on the same port, empty, killing it first if it runs; returns when it answers."""
        self._pid = self._order("start")
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._answers():
            if not self._order("status"):
                raise MuseError(f"the registry ended at once; the end of its log:\n{self.log_end()}")
            if time.monotonic() > deadline:
                raise MuseError(f"no answer from the registry in {READY_WITHIN_S:.0f} s:\n{self.log_end()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it (SIGKILL), with all that it was told."""
        self._pid = self._order("kill")

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nobody answers."""
        freeze(self._pid)

    def resume(self) -> None:
        """Let a paused one go on (SIGCONT)."""
        os.kill(self._pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop it and remove its folder; may be called twice."""
        running, self._keeper = self._keeper, None
        if running is not None:
            running.communicate()  # closes stdin, which is the keeper's order to clear up
            shutil.rmtree(self._run, ignore_errors=True)

    def log_end(self, lines: int = 15) -> str:
        """Return the last lines of its log."""
        log = self._run / "broker.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=2) as answer:  # noqa: S310  our own server
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _order(self, word: str) -> int:
        if self._keeper is None or self._keeper.stdin is None or self._keeper.stdout is None:
            raise MuseError("the local registry was not started")
        try:
            self._keeper.stdin.write(word.encode() + b"\n")
            self._keeper.stdin.flush()
            return int(self._keeper.stdout.readline())
        except (OSError, ValueError):
            raise MuseError("the process that keeps the local registry is gone, and the registry with it") from None


@contextmanager
def registry_server(say: Say = print) -> Iterator[LocalRegistry]:
    """A Schema Registry that answers; stopped at the end. Raises MuseError, with what to install."""
    with LocalRegistry(say) as registry:
        say(f"registry: {registry.rung}, {registry.url}")
        yield registry


def prepare_registry(say: Say = print) -> None:
    """Fetch what it needs; where there is no java say so: its tests are skipped then. Raises MuseError."""
    lacking = missing_tools()
    say(f"registry: none: {lacking}" if lacking else f"registry: {jars(say).name}")
