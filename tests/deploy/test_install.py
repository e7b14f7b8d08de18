"""The installation does not rot, and it uses the index that the machine is set up for.

In: the lock files, the base Python of this environment and its pip. Beside the machine's index stands a folder with a
newer version of every locked package; what is locked is fetched once (`clone`), from the index or from uv's cache.
"""

import base64
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
RUN_UV = ROOT / "deploy" / "run_uv.py"
NEWER = "9999.0"
USER, PASSWORD = "reader", "hush-1f0c"

Run = subprocess.CompletedProcess[str]


def locked(name: str) -> dict[str, Requirement]:
    """Return what a lock file pins for this Python and this machine."""
    lines = re.findall(r"^(\S+==[^\\\n]+)", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = [Requirement(line) for line in lines]
    return {one.name: one for one in found if one.marker is None or one.marker.evaluate()}


def wheel(folder: Path, name: str, version: str, extras: tuple[str, ...] = ()) -> None:
    """Write a wheel of an empty package."""
    module = name.replace("-", "_")
    about = f"{module}-{version}.dist-info"
    provides = "".join(f"Provides-Extra: {extra}\n" for extra in extras)
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{module}/__init__.py", "")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{provides}")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")


def without_uv(**variables: str) -> dict[str, str]:
    """Return the environment with nothing said to uv, and pip told this."""
    return {name: value for name, value in os.environ.items() if not name.startswith("UV_")} | variables


@pytest.fixture(scope="module")
def tomorrow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine on which every locked package has a newer version."""
    folder = tmp_path_factory.mktemp("newer")
    for name in locked("requirements-dev.lock") | locked("requirements-build.lock"):
        wheel(folder, name, NEWER, extras=("toml",))
    places = f"{os.environ.get('PIP_FIND_LINKS', '')} {folder}".strip()
    python = sys._base_executable  # type: ignore[attr-defined]
    return without_uv(PIP_FIND_LINKS=places, MUSE_KAFKA_BOOTSTRAP_SERVERS="none.invalid:1", PYTHON=python)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, tomorrow: dict[str, str]) -> Path:
    """A copy of the project, set up by the base tools of this machine."""
    clone = tmp_path_factory.mktemp("clone")
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements-build.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, clone)
    for name in ("muse_stream", "schemas", "deploy"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__", "config"))
    done = run(["sh", "deploy/setup.sh"], clone, tomorrow)
    assert done.returncode == 0, done.stdout + done.stderr
    return clone


def run(command: list[str], folder: Path, environment: dict[str, str]) -> Run:
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


CLONE = pytest.mark.long
"""Of what has the project installed anew: the tests without `clone` read what would be done."""


@CLONE
def test_what_is_locked_is_installed_whatever_appears(clone: Path) -> None:
    """Newer versions of locked packages, also of those asked for with an extra, change nothing."""
    listing = (
        "import importlib.metadata as all, json, muse_stream\n"
        "print(json.dumps([muse_stream.__file__, {one.name: one.version for one in all.distributions()}]))"
    )
    done = run([".venv/bin/python", "-c", listing], clone, dict(os.environ))
    assert done.returncode == 0, done.stderr
    editable, versions = json.loads(done.stdout)
    installed = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in versions.items()}
    wanted = locked("requirements-dev.lock")
    assert {n: installed.get(n) for n in wanted} == {n: str(one.specifier).strip("=") for n, one in wanted.items()}
    assert Path(editable).is_relative_to(clone)


@CLONE
def test_pip_would_meet_the_newer_versions(clone: Path, tomorrow: dict[str, str]) -> None:
    """The proof of the test before: without the lock the newer version is taken, and pip does not install the lock."""
    sections = re.split(r"\n(?=\S)", (ROOT / "requirements-dev.lock").read_text(encoding="utf-8"))
    few = ("coverage", "iniconfig", "packaging", "pluggy", "pygments", "pytest", "pytest-cov")
    (clone / "few.lock").write_text("\n".join(one for one in sections if one.split("==")[0] in few) + "\n")
    (clone / "one.in").write_text("coverage[toml]>=7\n")
    unlocked = run([".venv/bin/python", "deploy/run_uv.py", "pip", "compile", "--no-header", "one.in"], clone, tomorrow)
    assert f"coverage=={NEWER}" in unlocked.stdout, unlocked.stderr
    pip = [".venv/bin/python", "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    by_pip = run([*pip, "--require-hashes", "--requirement", "few.lock"], clone, tomorrow)
    if by_pip.returncode == 0:
        pytest.skip("the pip of this Python looks at the lock first")
    assert re.search(r"all requirements must have their versions pinned.*\n *coverage\[toml\]", by_pip.stderr)


def test_what_installs_and_builds_is_pinned_as_the_rest_is() -> None:
    """pip installs these without looking at what they need, so they must need nothing."""
    build, dev = locked("requirements-build.lock"), locked("requirements-dev.lock")
    assert sorted(build) == ["setuptools", "uv"]
    assert all(dev[name] == one for name, one in build.items())


@pytest.mark.parametrize("file", ["deploy/setup.sh", "deploy/matrix.sh", "deploy/Dockerfile", "Makefile", ".ci/run"])
def test_nothing_else_installs(file: str) -> None:
    """Every call of pip or uv checks hashes and builds nothing from source, or reaches no index."""
    text = re.sub(r"^\s*#.*\n|\\\n", "", (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
    for call in re.findall(r"pip (?:install|wheel) [^&\n]*", text):
        fetches = "--require-hashes" in call and ("--no-build " in call or "--no-deps --only-binary :all:" in call)
        assert fetches or "--offline" in call or "--no-index" in call, call
        if "requirements" in call and "requirements-build.lock" not in call:
            assert f"run_uv.py {call}" in text, call


class TestIndexOfTheMachine:
    """A company's index is set for pip once, and uv uses it too."""

    @pytest.fixture
    def mirror(self, tmp_path: Path) -> Iterator[str]:
        """An index that knows one package and asks for a password."""
        pages = tmp_path / "mirror" / "simple" / "muse-probe"
        pages.mkdir(parents=True)
        wheel(pages, "muse-probe", "1.0")
        file = "muse_probe-1.0-py3-none-any.whl"
        (pages / "index.html").write_text(f'<a href="{file}">{file}</a>')
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(Guarded, directory=str(tmp_path / "mirror"))) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://{USER}:{PASSWORD}@127.0.0.1:{server.server_port}/simple"
            server.shutdown()

    @CLONE
    @pytest.mark.parametrize(
        ("variables", "file"),
        [
            ({"PIP_INDEX_URL": "{mirror}"}, ""),
            ({}, "[global]\nindex-url = {mirror}\n"),
            ({}, "[global]\nindex-url = http://127.0.0.1:9/simple\n[install]\nindex-url = {mirror}\n"),
            ({"PIP_INDEX_URL": "{empty}"}, "[global]\nextra-index-url =\n    {empty}\n    {mirror}\n"),
            ({"PIP_NO_INDEX": "1"}, "[global]\nfind-links = {mirror}/muse-probe/\n"),
            ({"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "UV_DEFAULT_INDEX": "{mirror}"}, ""),
        ],
        ids=["variable", "file", "section", "extra", "links", "uv's own"],
    )
    def test_uv_asks_the_index_that_pip_asks(
        self, mirror: str, variables: dict[str, str], file: str, tmp_path: Path, clone: Path
    ) -> None:
        (tmp_path / "mirror" / "other").mkdir()
        places = {"mirror": mirror, "empty": mirror.replace("/simple", "/other")}
        (tmp_path / "pip.conf").write_text(file.format(**places))
        told = {name: value.format(**places) for name, value in variables.items()}
        environment = without_uv(PIP_CONFIG_FILE=str(tmp_path / "pip.conf")) | {"UV_NO_CACHE": "1"}
        for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
            environment.pop(name, None)
        done = run(
            [str(clone / ".venv/bin/python"), str(RUN_UV), "pip", "install", "--target", "here", "muse-probe"],
            tmp_path,
            environment | {"NO_PROXY": "127.0.0.1"} | told,
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "here" / "muse_probe" / "__init__.py").exists()
        assert PASSWORD not in done.stdout + done.stderr

    def test_what_uv_was_told_itself_stays(self) -> None:
        pip = {"index-url": "https://a", "extra-index-url": "https://b", "find-links": "c", "timeout": "180"}
        assert translated(pip, {"UV_INDEX_URL": "https://own"}) == {"UV_HTTP_TIMEOUT": "180"}
        assert translated(pip, {"UV_HTTP_TIMEOUT": "5", "UV_FIND_LINKS": "own"}) == {}

    def test_certificates_are_those_of_pip_or_of_the_machine(self, tmp_path: Path) -> None:
        where = str(tmp_path)
        assert variables({"cert": "/a.pem"}, {}) == {"SSL_CERT_FILE": "/a.pem"}
        assert variables({"cert": "/a.pem"}, {"SSL_CERT_FILE": "/own.pem"}) == {}
        assert variables({}, {"REQUESTS_CA_BUNDLE": where}) == {"SSL_CERT_DIR": where}
        assert variables({}, {}) in ({}, {"UV_SYSTEM_CERTS": "true"})

    def test_other_settings_mean_the_same(self) -> None:
        pip = {"proxy": "http://p:1", "trusted-host": "\na\nb:2", "client-cert": "/c.pem", "keyring-provider": "import"}
        assert translated(pip, {}) == {
            "ALL_PROXY": "http://p:1",
            "SSL_CLIENT_CERT": "/c.pem",
            "UV_INSECURE_HOST": "a b:2",
        }

    def test_settings_are_read_as_pip_reads_them(self) -> None:
        """The section of the command before the general one, a variable before both, and nothing that is empty."""
        listing = """
global.index-url='https://general'
install.index-url='https://section'
global.timeout='5'
:env:.timeout='180'
global.extra-index-url='\\nhttps://b\\nhttps://c=d'
global.proxy=''
wheel.index-url='https://other'
"""
        assert RUN["pip_settings"](listing) == {
            "index-url": "https://section",
            "timeout": "180",
            "extra-index-url": "\nhttps://b\nhttps://c=d",
        }


RUN: dict[str, Any] = runpy.run_path(str(RUN_UV))


def variables(pip: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    return dict(RUN["uv_variables"](pip, given))


def translated(pip: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """Return what is translated, certificates left out."""
    return variables(pip, {"SSL_CERT_FILE": "", **given})


class Guarded(SimpleHTTPRequestHandler):
    """A web server for who knows the password."""

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") == wanted:
            super().do_GET()
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass
