"""A real Schema Registry for tests: Apicurio Registry on this machine's JVM, which speaks Confluent's API.

`with registry_server() as registry:` gives one whose `url` answers. It keeps schemas in memory: a restart has forgotten
them. However the command ends, it is gone with it: a small process waits for our end (`keeper`).
"""

import hashlib
import secrets
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

from muse_stream.errors import MuseError
from muse_stream.testing.kafka_jars import Say, call, missing_tools, places, rename_into_place
from muse_stream.testing.kept_server import KeptServer
from muse_stream.testing.local_kafka import claim_run, free_ports, own_temporary_folder, run_folders

API = "/apis/ccompat/v7"
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


class LocalRegistry(KeptServer):
    """One registry; `url` answers from `start()` to `close()`, but for faults asked for. A restart is an empty one."""

    rung = "local JVM"
    called = "the local Schema Registry"

    def __init__(self, say: Say = print) -> None:
        if lacking := missing_tools():
            raise MuseError(f"no Schema Registry for tests: {lacking}")
        super().__init__()
        home = jars(say)
        self._jar = next(iter(sorted(home.glob("*-runner.jar"))), None)
        if self._jar is None:
            raise MuseError(f"{home} holds no registry; remove it, and it is fetched again")
        self.url = ""

    def _prepare(self) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}{API}"
        run, lock = claim_run(run_folders(places().cache.with_name("registry-run")))
        options = (*_JVM, *_OPTIONS, f"-Dquarkus.http.port={port}", *own_temporary_folder(run))
        self._keep(run, lock, ["java", *options, "-jar", str(self._jar)])

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=2) as answer:  # noqa: S310  our own server
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


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
