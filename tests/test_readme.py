"""The README does what it says: its commands are run as they stand, on a real broker of their own."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from muse_stream.testing import local_kafka
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[1]
TOUR_S = 60.0 * PATIENCE  # it took 146 under a load of 20
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the README's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the commands name, so that they leave nothing in the project."""
    shutil.copytree(ROOT / "deploy" / "config", tmp_path / "deploy" / "config")
    return tmp_path


def environment(project: Path) -> dict[str, str]:
    """A newcomer's: what is on the machine, and nothing of the tests' but how Kafka is reached and java runs."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    kept = ("MUSE_KAFKA_", "JDK_JAVA_OPTIONS")
    kafka = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    return {"PATH": path, "HOME": str(project), "LC_ALL": "C.UTF-8", **kafka}


def run(script: str, project: Path) -> subprocess.CompletedProcess[str]:
    """Run a block in bash, stopping at the first command that fails; nothing that it started outlives it."""
    out, err = project / "stdout", project / "stderr"
    # job control: the tour ends its workers by `kill %1 %2`
    command = ["bash", "-emc", script]
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            command, cwd=project, env=environment(project), stdout=stdout, stderr=stderr, start_new_session=True
        )
        try:
            code = process.wait(TOUR_S)
        finally:
            for left in psutil.pids():
                with suppress(ProcessLookupError):
                    if os.getsid(left) == process.pid:
                        os.kill(left, signal.SIGKILL)
    return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())


@pytest.mark.long  # as below
def test_the_tour_without_kafka(project: Path) -> None:
    """`check` and `replay` work on the example, and the notebook's lines run."""
    offline, *_ = blocks("bash")
    done = run(offline, project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "scores.parquet").stat().st_size > 0
    (notebook,) = blocks("python")
    answers = subprocess.run(
        [sys.executable, "-c", notebook], cwd=project, capture_output=True, text=True, timeout=280, check=False
    )
    assert answers.returncode == 0, answers.stderr
    assert "cards" in answers.stdout


@pytest.fixture
def address(project: Path) -> Iterator[str]:
    """Where the tour finds Kafka: the broker of the README's own command, or the cluster that a variable names."""
    if named := os.environ.get("MUSE_KAFKA_BOOTSTRAP_SERVERS"):
        yield named
        return
    _, command, _ = blocks("bash")
    (port,) = local_kafka.free_ports(1)
    script = "exec " + command.replace("9092", str(port))  # as it stands, but where somebody else's Kafka may be
    with subprocess.Popen(
        ["bash", "-ec", script], cwd=project, env=environment(project), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("export MUSE_KAFKA_BOOTSTRAP_SERVERS=")
        yield f"127.0.0.1:{port}"
        process.terminate()
        assert process.wait(timeout=280) == 0
    with socket.socket() as trying:
        assert trying.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.broker
@pytest.mark.long  # eleven programs and a broker; tests/cli has each command
@pytest.mark.timeout(2 * TOUR_S)
def test_the_tour_with_kafka(project: Path, address: str) -> None:
    """Start a broker, publish, make topics, run workers, send, look and verify: in the README's words."""
    _, _, online = blocks("bash")
    assert "127.0.0.1:9092" in online
    done = run(online.replace("127.0.0.1:9092", address), project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "missing-id" in done.stdout
    assert "wrong-tenant" in done.stdout


def test_every_make_target_it_names_exists() -> None:
    """A newcomer types what the README says."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, flags=re.MULTILINE))
    assert named
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in named), named
