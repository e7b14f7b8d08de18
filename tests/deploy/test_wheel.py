"""The wheel works by itself: installed into an empty environment with the hashed lock, and used outside the checkout.

In: the files a wheel is built from, requirements.lock, the index or uv's cache. What a wheel lacks is not seen in a
checkout: package data, modules that no package lists, dependencies that only the development environment has.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("muse_stream", "schemas", "deploy/kafka", "pyproject.toml", "README.md", "LICENSE")
Run = subprocess.CompletedProcess[str]


def run(command: list[str], folder: Path, **environment: str) -> Run:
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def uv(*arguments: str, folder: Path) -> None:
    done = run([sys.executable, str(ROOT / "deploy/run_uv.py"), *arguments], folder)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources: building leaves folders behind."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source / name)
    uv("build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(out), folder=source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with what requirements.lock names, and the wheel; nothing else."""
    place = tmp_path_factory.mktemp("empty")
    python = str(place / "bin/python")
    uv("venv", "--quiet", "--python", sys.executable, "--clear", str(place), folder=place)
    lock = str(ROOT / "requirements.lock")
    uv("pip", "install", "--quiet", "--python", python, "--require-hashes", "--no-build", "-r", lock, folder=place)
    uv("pip", "install", "--quiet", "--python", python, "--no-deps", "--offline", str(wheel), folder=place)
    return place / "bin"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder far from the checkout, with the example configuration."""
    shutil.copytree(ROOT / "deploy/config", tmp_path / "config")
    return tmp_path


def test_it_holds_every_module_and_the_very_files_of_the_checkout(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for path in (*ROOT.glob("schemas/*.avsc"), ROOT / "schemas/ids.json"):
            assert archive.read(f"muse_stream/schemas/{path.name}") == path.read_bytes()
        for name in ("pom.xml", "server.properties"):
            assert archive.read(f"muse_stream/testing/kafka/{name}") == (ROOT / "deploy/kafka" / name).read_bytes()
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "muse_stream").rglob("*.py")} - names == set()
    assert not [name for name in names if name.startswith(("tests", "perf"))]
    assert [name for name in names if name.endswith("licenses/LICENSE")]


INSTALLED = pytest.mark.long
"""Of what needs the wheel installed, with all that is locked: what is in it is the test before."""


@INSTALLED
def test_it_checks_and_replays_outside_the_checkout(installed: Path, elsewhere: Path) -> None:
    program = str(installed / "muse-stream")
    checked = run([program, "check", "config/muse.yaml"], elsewhere)
    assert checked.returncode == 0, checked.stderr
    arguments = ["replay", "config/muse.yaml", "acme", "config/events.jsonl", "--header", "region=pt"]
    replayed = run([program, *arguments, "--output", "scores.parquet"], elsewhere)
    assert replayed.returncode == 0, replayed.stderr
    assert pq.read_table(elsewhere / "scores.parquet").num_rows > 0


@INSTALLED
def test_it_is_imported_from_the_wheel(installed: Path, elsewhere: Path) -> None:
    code = "import muse_stream; print(muse_stream.__file__); print(muse_stream.load('config/muse.yaml').tenants)"
    done = run([str(installed / "python"), "-c", code], elsewhere)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[0]).is_relative_to(installed.parent)
    assert "acme" in done.stdout


@INSTALLED
def test_without_extras_it_says_which_one_is_missing(installed: Path, elsewhere: Path) -> None:
    """requirements.lock has what a worker's image needs: the program, not the test kit."""
    done = run([str(installed / "muse-stream"), "broker", "--port", "0"], elsewhere, PATH=str(elsewhere))
    assert done.returncode == 1
    assert "pip install 'muse-stream[testing]'" in done.stderr
    assert "Traceback" not in done.stderr


@INSTALLED
def test_the_broker_it_starts_is_described_in_the_wheel_and_kept_by_the_user(installed: Path, elsewhere: Path) -> None:
    code = "from muse_stream.testing.kafka_jars import places, version; print(version(places())); print(places().cache)"
    done = run([str(installed / "python"), "-c", code], elsewhere, HOME=str(elsewhere), XDG_CACHE_HOME="")
    assert done.returncode == 0, done.stderr
    number, cache = done.stdout.splitlines()
    assert f"<kafka.version>{number}<" in (ROOT / "deploy/kafka/pom.xml").read_text(encoding="utf-8")
    assert Path(cache) == elsewhere / ".cache/muse-stream/kafka"
