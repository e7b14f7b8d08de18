"""The gate (`.ci/run`) runs every test but repetitions, fails with any of its parts, and ends with the summaries."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

ROOT = Path(__file__).parents[1]
TARGETS = ("lint", "docs", "exporters", "test", "test-long")
TOLD = ("licences", "audit-dependencies")
"""What fails nothing."""
MAKE = """#!/bin/sh
echo "$1" >> called
echo "=========== short test summary info ==========="
echo "FAILED tests/test_of_$1.py"
echo "=== 3 passed in make $1 ==="
[ "$1" != "$FAILS" ]
"""
"""Stands for `make`: notes which target is asked for, and says what pytest says at the end."""

Gate = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Runs the script in an empty folder; the target that is named fails."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "bin").mkdir()
    make = tmp_path / "bin" / "make"
    make.write_text(MAKE, encoding="utf-8")
    make.chmod(0o755)

    def run(fails: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PATH": f"{make.parent}:{os.environ['PATH']}", "FAILS": fails}
        return subprocess.run(
            [str(tmp_path / ".ci" / "run")], env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.mark.parametrize("fails", ["", *TARGETS, "audit-dependencies"])
def test_all_is_run_and_one_failure_fails_it(gate: Gate, tmp_path: Path, fails: str) -> None:
    done = gate(fails)
    assert (tmp_path / "called").read_text(encoding="utf-8").split() == [*TARGETS, *TOLD]
    assert done.returncode == int(fails in TARGETS), done.stdout + done.stderr
    assert ("ci: failed:" in done.stdout) == (fails in TARGETS)


def test_the_last_lines_are_the_summaries_of_both(gate: Gate) -> None:
    ends = [
        line
        for target in ("test", "test-long")
        for line in (
            f"ci: make {target}",
            "=========== short test summary info ===========",
            f"FAILED tests/test_of_{target}.py",
            f"=== 3 passed in make {target} ===",
        )
    ]
    assert gate("test").stdout.splitlines()[-len(ends) :] == ends


def test_each_test_is_run_once_but_repetitions() -> None:
    """`make test` and `make test-long` share what is not marked `slow`."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    chosen = [re.findall(rf'^{target}: .*\n\t@\$\(PYTEST\) -m "(.+?)"', makefile, re.MULTILINE) for target in TARGETS]
    of_tests, of_long = (Expression.compile(expression) for (expression,) in chosen[-2:])
    for long, slow in product((False, True), repeat=2):
        marks = {name for name, marked in (("long", long), ("slow", slow)) if marked}
        runs = [one.evaluate(lambda name, /, **_: name in marks) for one in (of_tests, of_long)]  # noqa: B023
        assert runs == [not marks, marks == {"long"}]
