"""A release changes the version and the changelog, refuses what is none, and writes nothing unless asked."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "release.py"
RELEASE: dict[str, Any] = runpy.run_path(str(SCRIPT))
PYPROJECT = '[project]\nname = "x"\nversion = "0.9.0"\n\n[tool.x]\nversion = "0.9.0"\n'
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- This.\n\n## [0.9.0] - 2026-01-01\n\n- That.\n"


def test_the_version_of_the_project_alone_is_set() -> None:
    changed = RELEASE["with_version"](PYPROJECT, "0.10.0")
    assert changed == PYPROJECT.replace("0.9.0", "0.10.0", 1)


@pytest.mark.parametrize("version", ["0.9.0", "0.8.9", "0.9", "v1.0.0", "1.0.0rc1", ""])
def test_what_is_no_later_version_is_refused(version: str) -> None:
    with pytest.raises(RELEASE["Refused"], match=r"not greater than|is no version"):
        RELEASE["with_version"](PYPROJECT, version)


def test_what_was_unreleased_gets_a_heading() -> None:
    changed = RELEASE["with_heading"](CHANGELOG, "0.10.0", "2026-12-01")
    assert changed == CHANGELOG.replace("[Unreleased]\n", "[Unreleased]\n\n## [0.10.0] - 2026-12-01\n")
    with pytest.raises(RELEASE["Refused"], match="nothing under Unreleased"):
        RELEASE["with_heading"](changed, "0.11.0", "2026-12-02")


def test_the_files_of_the_project_are_such() -> None:
    assert RELEASE["with_version"]((ROOT / "pyproject.toml").read_text(encoding="utf-8"), "999.0.0")
    assert RELEASE["with_heading"]((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), "999.0.0", "2026-12-01")


def test_changes_that_are_not_committed_are_refused(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    shutil.copy(SCRIPT, tmp_path / "deploy")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    command = [sys.executable, str(tmp_path / "deploy/release.py"), "1.0.0", "--write"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "release: there are changes that are not committed\n")
    assert (tmp_path / "pyproject.toml").read_text() == PYPROJECT
