"""Kafka's own jars: which version, whether this machine can run them, and where they are.

pom.xml (package data; `deploy/kafka` in a checkout), java and, the first time, Maven give a folder named after the
version under `Places.cache`, with the jars in `lib`. Maven runs once per pom and version (the pom's hash is kept beside
the jars), a half-done fetch is never taken for a whole one, and what a machine lacks is named in one line with the
command that installs it. Other versions than the pinned one are for fault tests.
"""

import hashlib
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

from muse_stream.errors import MuseError

JAVA = 17  # the oldest that Kafka 4 runs on

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Places:
    """Where a broker's files come from, and where what is fetched and run goes."""

    files: Path
    """Folder with pom.xml and server.properties."""
    cache: Path
    """Folder for jars (by version) and for the folders of running brokers (`run`)."""


def places() -> Places:
    """This installation's: the package's own files; `.cache` of the checkout, or else the user's cache folder."""
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        cache = checkout / ".cache"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muse-stream"
    return Places(Path(str(files("muse_stream.testing") / "kafka")), cache / "kafka")


def version(places: Places) -> str:
    """The pinned version of Kafka: `kafka.version` of pom.xml."""
    pom = ElementTree.parse(places.files / "pom.xml")  # noqa: S314  our own file
    found = pom.findtext("{*}properties/{*}kafka.version")
    if not found:
        raise MuseError(f"{places.files / 'pom.xml'} names no kafka.version")
    return found


def missing_tools() -> str:
    """What this rung lacks on this machine, as one line with the command that installs it; empty if nothing."""
    command = "apt-get install -y default-jdk-headless maven"
    if lacking := [name for name in ("java", "mvn") if not shutil.which(name)]:
        return f"{' and '.join(lacking)} not found: {command}"
    found = _java_version(shutil.which("java") or "java")
    if not found.isdigit() or int(found) < JAVA:
        return f"java is {found}, and Kafka needs {JAVA}: {command}"
    return ""


@cache
def _java_version(program: str) -> str:
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', told)
    return found[1] if found else "broken"


def jars(places: Places, say: Say = print, wanted: str | None = None) -> Path:
    """Folder with Kafka's jars (in `lib`), fetched by Maven on first use. Raises MuseError with Maven's last words.

    `wanted` is a version; the pinned one by default.
    """
    pom = places.files / "pom.xml"
    home = places.cache / (wanted or version(places))
    stamp = home / "pom.sha256"
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return home
    say(f"fetching the jars of Kafka {home.name} with Maven (once, 54 MB)")
    fresh = home.with_name(f"{home.name}.{secrets.token_hex(4)}")
    try:
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fresh / 'lib'}"]
        call(["mvn", "-q", "-B", "-f", str(pom), f"-Dkafka.version={home.name}", *goal])
        (fresh / stamp.name).write_text(digest)
        if home.exists() and not (stamp.exists() and stamp.read_text() == digest):
            shutil.rmtree(home)
        rename_into_place(fresh, home)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return home


def rename_into_place(fresh: Path, final: Path) -> None:
    """Rename into place; where another process was quicker, its result is as good as ours."""
    try:
        fresh.rename(final)
    except OSError:
        if not final.is_dir():
            raise


def java(home: Path, *arguments: str) -> list[str]:
    """The command line that runs a class of the jars in `home`."""
    return ["java", "-cp", f"{home / 'lib'}/*", *arguments]


def call(command: list[str]) -> None:
    """Run to the end, quietly; MuseError with the command's last words where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        raise MuseError(missing_tools() or f"{command[0]} not found") from None
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise MuseError(f"{command[0]} ended with code {done.returncode}:\n{last}")
