"""The README does what it says: its commands are run as they stand, on the real broker."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from muse_stream.demo.broker import Broker

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the README's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the commands name, so that they leave nothing in the project."""
    shutil.copytree(ROOT / "deploy" / "config", tmp_path / "deploy" / "config")
    return tmp_path


def run(script: str, project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a block in bash, stopping at the first command that fails."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    environment = {"PATH": path, "HOME": str(project), "LC_ALL": "C.UTF-8", **variables}
    # job control: the tour ends its workers by `kill %1 %2`
    return subprocess.run(
        ["bash", "-emc", script], cwd=project, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


def test_the_tour_without_kafka(project: Path) -> None:
    """`check` and `replay` work on the example, and the notebook's lines run."""
    offline, _ = blocks("bash")
    done = run(offline, project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "scores.parquet").stat().st_size > 0
    (notebook,) = blocks("python")
    answers = subprocess.run(
        [sys.executable, "-c", notebook], cwd=project, capture_output=True, text=True, timeout=280, check=False
    )
    assert answers.returncode == 0, answers.stderr
    assert "cards" in answers.stdout


def test_the_tour_with_kafka(project: Path, kafka: Broker) -> None:
    """Publish, make topics, run workers, send, look and verify: in the README's words; no other test has its topics."""
    _, online = blocks("bash")
    done = run(online, project, MUSE_KAFKA_BOOTSTRAP=kafka.bootstrap)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "missing-id" in done.stdout
    assert "wrong-tenant" in done.stdout


def test_every_make_target_it_names_exists() -> None:
    """A newcomer types what the README says."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, flags=re.MULTILINE))
    assert named
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in named), named
