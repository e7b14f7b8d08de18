"""Make a release: version, changelog, build, check. Nothing is uploaded, and nothing is written unless asked for.

    python deploy/release.py 0.2.0           say what would be done, build and check it in a temporary folder
    python deploy/release.py 0.2.0 --write   the same, then write, commit and tag it, and leave the files in dist/

In: a clean checkout whose changelog has something under Unreleased. Out: exit code 1 and one line when that is not so,
or when what was built does not work in an empty environment. Beside sdist and wheel lies a bill of materials.
Standard library only, but for uv, which builds and installs, and cyclonedx-py (deploy/sbom.py).
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = re.compile(r'^version = "([^"]+)"$', flags=re.MULTILINE)
UNRELEASED = re.compile(r"^## \[Unreleased\]\n(.*?)(?=^## \[)", flags=re.MULTILINE | re.DOTALL)


class Refused(Exception):
    """Why there is no release; the text is meant for a person."""


def with_version(pyproject: str, new: str) -> str:
    """Return pyproject.toml with another version, which must be greater."""
    found = VERSION.search(pyproject)
    if found is None:
        raise Refused("pyproject.toml has no version")
    if not re.fullmatch(r"\d+\.\d+\.\d+", new):
        raise Refused(f"{new} is no version: give MAJOR.MINOR.PATCH")
    if _numbers(new) <= _numbers(found[1]):
        raise Refused(f"{new} is not greater than {found[1]}, the version of pyproject.toml")
    return VERSION.sub(f'version = "{new}"', pyproject, count=1)


def with_heading(changelog: str, new: str, day: str) -> str:
    """Return the changelog with what was unreleased under the new version, and nothing unreleased."""
    found = UNRELEASED.search(changelog)
    if found is None or not re.search(r"^- ", found[1], flags=re.MULTILINE):
        raise Refused("CHANGELOG.md has nothing under Unreleased")
    return changelog.replace("## [Unreleased]\n", f"## [Unreleased]\n\n## [{new}] - {day}\n", 1)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _run(*command: str | Path, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise Refused(f"{command[0]} ended with code {done.returncode}:\n{last}")
    return done.stdout


def _uv(*arguments: str | Path, folder: Path = ROOT) -> None:
    _run(sys.executable, ROOT / "deploy" / "run_uv.py", *arguments, folder=folder)


def _build(source: Path, out: Path, changed: dict[str, str]) -> None:
    """Build sdist and wheel of HEAD with these files in place of its own."""
    archive = source / "head.tar"
    _run("git", "archive", "--output", archive, "HEAD")
    with tarfile.open(archive) as tar:
        tar.extractall(source, filter="data")
    archive.unlink()
    for name, text in changed.items():
        (source / name).write_text(text, encoding="utf-8")
    _uv("build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", out, folder=source)
    (out / ".gitignore").unlink(missing_ok=True)


def _check(wheel: Path, place: Path, version: str) -> None:
    """Install the wheel with the hashed lock into an empty environment, and use it there."""
    python = place / "bin" / "python"
    _uv("venv", "--quiet", "--python", sys.executable, place)
    lock = ROOT / "requirements.lock"
    _uv("pip", "install", "--quiet", "--python", python, "--require-hashes", "--no-build", "-r", lock)
    _uv("pip", "install", "--quiet", "--python", python, "--no-deps", "--offline", wheel)
    program = place / "bin" / "muse-stream"
    said = _run(program, "--version", folder=place).strip()
    if said != f"muse-stream {version}":
        raise Refused(f"the wheel says {said!r}, not version {version}")
    _run(program, "check", ROOT / "deploy" / "config" / "muse.yaml", folder=place)


def release(version: str, *, write: bool) -> None:
    """Make the release, or only try it. Raises Refused."""
    if _run("git", "status", "--porcelain").strip():
        raise Refused("there are changes that are not committed")
    if _run("git", "tag", "--list", f"v{version}").strip():
        raise Refused(f"there is a tag v{version}")
    today = datetime.now(UTC).date().isoformat()
    changed = {
        "pyproject.toml": with_version((ROOT / "pyproject.toml").read_text(encoding="utf-8"), version),
        "CHANGELOG.md": with_heading((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version, today),
    }
    with tempfile.TemporaryDirectory(prefix="muse-release-") as folder:
        source, out = Path(folder, "source"), Path(folder, "dist")
        source.mkdir()
        _build(source, out, changed)
        files = sorted(out.iterdir())
        _check(next(file for file in files if file.suffix == ".whl"), Path(folder, "empty"), version)
        files.append(out / f"muse_stream-{version}.cdx.json")  # what the wheel was checked with
        python = Path(folder, "empty", "bin", "python")
        _run(sys.executable, ROOT / "deploy" / "sbom.py", "sbom", files[-1], "--python", python)
        for file in files:
            print(f"built and checked: {file.name}, {file.stat().st_size:,} bytes")
        if not write:
            print(f"dry: nothing was written; {', '.join(changed)} would change, be committed and tagged v{version}")
            return
        shutil.copytree(out, ROOT / "dist", dirs_exist_ok=True)
    for name, text in changed.items():
        (ROOT / name).write_text(text, encoding="utf-8")
    _run("git", "commit", "--quiet", "--message", f"Release {version}", *changed)
    _run("git", "tag", "--annotate", "--message", f"Release {version}", f"v{version}")
    print(f"committed and tagged v{version}; the files are in dist/. Nothing was uploaded or pushed.")


def main() -> int:
    """Read the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make a release; dry unless --write is given. Uploads nothing.")
    parser.add_argument("version", help="MAJOR.MINOR.PATCH, greater than that of pyproject.toml")
    parser.add_argument("--write", action="store_true", help="write, commit, tag, and leave the files in dist/")
    asked = parser.parse_args()
    try:
        release(asked.version, write=asked.write)
    except Refused as refused:
        print(f"release: {refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
