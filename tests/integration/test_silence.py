"""Nothing of ours or of our dependencies talks to anybody but Kafka, or writes a file that nobody asked for.

The program runs as a person would run it, with an empty home folder, under strace, which sees native code as well:
every connection, every datagram, every file that is opened to be written, and whether names are looked up. What the
watch can see is tested by things that are planted.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from muse_stream.testing import local_kafka
from muse_stream.testing.kafka_broker import Broker
from tests.integration.bank import Bank
from tests.integration.fleet import ROOT
from tests.integration.test_health_pages import fetch
from tests.patience import PATIENCE, until

CONFIG, EVENTS = (ROOT / "deploy" / "config" / name for name in ("muse.yaml", "events.jsonl"))
CALLS = "connect,sendto,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,symlink,symlinkat,link,linkat"
# -ff: a file for each thread, so that no call is torn in two by another thread's: its outcome would stand elsewhere
STRACE = ["strace", "-ff", "--seccomp-bpf", "-qq", "-s", "300", "-e", f"trace={CALLS}", "-e", "signal=none", "-o"]
CALL = re.compile(r"^(\w+)\((.*)$")
WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")
DEVICES = ("/dev/", "/proc/self/", "/proc/thread-self/")
"""Standard streams, semaphores in shared memory, names of threads."""
NAMES = ("/etc/resolv.conf", "/etc/hosts")
"""What is read when a name is looked up, be there a network or not."""


def may_trace() -> bool:
    with TemporaryDirectory() as folder:
        try:
            return subprocess.run([*STRACE, f"{folder}/true", "true"], capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False


pytestmark = pytest.mark.skipif(not may_trace(), reason="strace is not installed, or may not trace")


@dataclass
class Watch:
    """A folder with an empty home, an empty place to start from, and room for what is asked for."""

    folder: Path
    bootstrap: str
    environment: dict[str, str] = field(default_factory=dict)
    _traces: list[Path] = field(default_factory=list)
    """A folder for each program."""

    def __post_init__(self) -> None:
        for name in ("home", "here", "tmp", "asked"):
            (self.folder / name).mkdir()

    @property
    def asked(self) -> Path:
        """Where commands are told to write."""
        return self.folder / "asked"

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MUSE_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            **self.environment,
        }

    def _started(self, *command: str) -> subprocess.Popen[str]:
        traces = self.folder / f"trace-{len(self._traces)}"
        traces.mkdir()
        self._traces.append(traces)
        return subprocess.Popen(
            [*STRACE, str(traces / "thread"), *command],
            cwd=self.folder / "here",
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def python(self, *arguments: str, code: int = 0) -> None:
        """Run Python to its end."""
        with self._started(sys.executable, *arguments) as process:
            said, _ = process.communicate(timeout=60 * PATIENCE)
        assert process.returncode == code, said

    def program(self, *arguments: str, code: int = 0) -> None:
        """Run a command of the program to its end."""
        self.python("-m", "muse_stream", *arguments, code=code)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[None]:
        """Run a command meanwhile, and end it as an operator does."""
        log = self.folder / "log"
        with self._started(sys.executable, "-m", "muse_stream", *arguments) as process:
            try:
                yield
                (program,) = psutil.Process(process.pid).children()
                program.send_signal(signal.SIGTERM)
                said, _ = process.communicate(timeout=60 * PATIENCE)
                log.write_text(said, encoding="utf-8")
                assert process.returncode == 0, said
            finally:
                for one in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
                    one.kill()

    def found(self) -> set[str]:
        """Return what was seen that nobody asked for."""
        files = [file for traces in self._traces for file in traces.iterdir()]
        lines = [line for file in files for line in file.read_text("utf-8", "replace").splitlines()]
        calls = [call for call in map(CALL.match, lines) if call]
        assert any(call[1] == "openat" for call in calls), "nothing was traced"
        seen = {f"{call[1]}: {what}" for call in calls if (what := self._fault(call[1], call[2]))}
        return seen | {f"left in the home: {path.name}" for path in (self.folder / "home").iterdir()}

    def _fault(self, call: str, arguments: str) -> str:
        if call in ("connect", "sendto"):
            return "" if self._harmless(arguments) else arguments
        paths = re.findall(r'"([^"]*)"', arguments)
        if any(path.startswith(NAMES) for path in paths):
            return f"{paths[0]}"
        reading = call in ("open", "openat") and not WRITING.search(arguments)
        if reading or re.search(r"= -1 E", arguments):
            return ""
        allowed = (str(self.asked), str(self.folder / "tmp"), *DEVICES)
        return "" if all(path.startswith(allowed) for path in paths) else arguments

    def _harmless(self, arguments: str) -> bool:
        """Whether a connection is to Kafka, or no packet leaves by it."""
        host, _, port = self.bootstrap.partition(":")
        if "AF_INET" not in arguments:
            # netlink: which addresses has this machine? nscd: which service has this number? NAMES tells of host names
            return "AF_UNIX" not in arguments or "/nscd/socket" in arguments
        return f"sin_port=htons({port})" in arguments and f'inet_addr("{host}")' in arguments


@pytest.fixture
def watch(kafka: Broker, tmp_path: Path) -> Watch:
    if not re.match(r"[\d.]+:\d+$", kafka.bootstrap):
        pytest.skip(f"{kafka.bootstrap} has to be looked up")
    return Watch(tmp_path, kafka.bootstrap)


def test_a_command_is_silent(watch: Watch) -> None:
    watch.program("check", str(CONFIG))
    assert watch.found() == set()


@pytest.mark.long  # five programs, each of which takes twice as long under strace
def test_commands_without_kafka_are_silent(watch: Watch) -> None:
    header = ("--header", "region=pt")
    watch.program("check", str(CONFIG))
    watch.program("event", str(CONFIG), str(EVENTS), *header, "--limit", "1")
    watch.program("replay", str(CONFIG), "acme", str(EVENTS), "--output", str(watch.asked / "scores.parquet"), *header)
    watch.program("publish", str(CONFIG), str(watch.asked / "store"))
    watch.program("generations", str(watch.asked / "store"))
    assert watch.found() == set()


@pytest.mark.long  # five more, and workers
def test_workers_and_what_is_done_beside_them_talk_to_kafka_alone(watch: Watch, bank: Bank) -> None:
    store = str(watch.asked / "store")
    (port,) = local_kafka.free_ports(1)
    watch.program("publish", str(bank.document()), store)
    watch.program("topics", store, "--dry-run", code=1)  # it would change something
    bank.produce(watch.bootstrap, bank.events(20))
    options = ["--role", "live", "--lane", bank.name, "--store", store, "--name", "silent"]
    with watch.running("run", *options, "--health-port", str(port)):
        counted = "muse_events_committed_total 20.0"
        until(lambda: counted in fetch(port, "/metrics"), 60, lambda: fetch(port, "/metrics") or "no page")
        until(lambda: fetch(port, "/ready") == "ok\n", 30, lambda: fetch(port, "/ready"))
        watch.program("tail", store, "t0", "--from-beginning", "--limit", "10")
    watch.program("verify", store)
    assert watch.found() == set()


@pytest.mark.parametrize(
    ("planted", "named"),
    [
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))", "htons(9)"),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))", "htons(9)"),
        ("socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).connect(('::1', 9))", "htons(9)"),
        ("socket.getaddrinfo('telemetry.invalid', 443)", "/etc/"),
        ("open(os.path.expanduser('~/.device'), 'w').close()", "left in the home: .device"),
        ("open('left', 'w').close()", '"left"'),
        ("open('../left', 'w').close()", '"../left"'),
    ],
)
def test_the_watch_sees(watch: Watch, planted: str, named: str) -> None:
    """Each in a process that does nothing else."""
    watch.python("-c", f"import contextlib, os, socket\nwith contextlib.suppress(OSError): {planted}")
    assert any(named in one for one in watch.found()), watch.found()


@pytest.mark.long  # the test before has seven that are seen
def test_the_watch_sees_onnxruntime_s_telemetry_where_it_is_not_disabled(watch: Watch) -> None:
    """Our own switch is what keeps it silent: with the variable set to something else, it writes into the home."""
    watch.environment["ORT_DISABLE_TELEMETRY"] = "0"
    watch.program("check", str(CONFIG))
    if not watch.found():
        pytest.skip("this build of onnxruntime has no telemetry")
    assert any("onnxruntime" in one for one in watch.found())
