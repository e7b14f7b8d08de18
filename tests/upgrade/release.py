"""An older release of this repository, installed beside this one: its own packages, in an environment of its own."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from muse_stream.errors import MuseError

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".cache" / "upgrade"


PREVIOUS = "10d95a6"
"""What is taken for the release before this one, until there is a tag."""


def latest() -> str:
    """Return the newest release: its tag, or PREVIOUS where there is none."""
    return _git("describe", "--tags", "--abbrev=0") or PREVIOUS


def install(revision: str, say: Callable[[str], None]) -> Path:
    """Install a revision with the packages that it pins, once; returns the folder of its commands.

    Raises MuseError for an unknown revision, CalledProcessError where it cannot be installed.
    """
    commit = _git("rev-parse", "--verify", f"{revision}^{{commit}}")
    if not commit:
        raise MuseError(f"--from {revision}: no revision of this repository")
    folder, ready = PLACE / commit, PLACE / commit / ".ready"
    commands = folder / ".venv" / "bin"
    if ready.exists():
        return commands
    say(f"upgrade: installing {revision} into {folder}")
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    python = commands / "python"
    uv = [sys.executable, str(ROOT / "deploy" / "run_uv.py"), "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder / ".venv")], check=True)
    build = ["--require-hashes", "--no-build", "-r"]
    for lock in ("requirements-build.lock", "requirements.lock"):
        subprocess.run([*uv, *build, str((folder if (folder / lock).exists() else ROOT) / lock)], check=True)
    subprocess.run([*uv, "--no-deps", "--no-build-isolation", "--offline", str(folder)], check=True)
    ready.touch()
    return commands


def _git(*arguments: str) -> str:
    """Return what git says; nothing where it refuses."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode else done.stdout.strip()
