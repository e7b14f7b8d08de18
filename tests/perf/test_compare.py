"""`python -m perf compare`: ratios of pairs, and what they allow to say."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perf import compare
from perf.__main__ import main


def stored(path: Path, *results: dict[str, Any]) -> str:
    path.write_text(json.dumps({"results": results}))
    return str(path)


def test_stored_results_are_compared_with_their_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = stored(
        tmp_path / "base.json",
        {"scenario": "live", "events_per_s": 100, "events_per_s_spread": "90 to 110", "events": 5, "data": "x"},
        {"scenario": "idle", "cpu_percent": 0.4},
    )
    head = stored(
        tmp_path / "head.json",
        {"scenario": "live", "events_per_s": 200, "events_per_s_spread": "180 to 220", "events": 5, "data": "x"},
        {"scenario": "idle", "cpu_percent": 0.2},
    )
    assert main(["compare", base, head, "--json"]) == 0
    found = {one["figure"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found.keys() == {"events_per_s", "cpu_percent"}
    rate = found["events_per_s"]
    assert (rate["ratio"], rate["low"], rate["high"], rate["verdict"]) == (2.0, 1.636, 2.444, "better")
    assert (found["cpu_percent"]["low"], found["cpu_percent"]["verdict"]) == (None, "not known")
    assert main(["compare", base, head]) == 0
    assert "one run" in capsys.readouterr().out


def test_lines_of_json_are_results_too(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text('{"scenario": "live", "p99_ms_1000": 20}\n{"scenario": "idle", "cpu_percent": 1}\n')
    assert [one.ratio for one in compare.files(lines, lines)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("figure", "better"),
    [
        ("events_per_s", "more"),
        ("compiled_of_echo", "more"),
        ("p99_ms_1000", "less"),
        ("worker_cpu_s_per_million", "less"),
        ("first_score_median_s", "less"),
        ("echo_events_per_s", None),
        ("kafka_streams_events_per_s", None),
        ("took_s", None),
        ("events", None),
        ("swaps", None),
    ],
)
def test_what_is_better_is_known_by_name(figure: str, better: str | None) -> None:
    assert compare.direction(figure) == better


def test_revisions_are_measured_in_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rates = {"base": iter([100, 100, 100]), "head": iter([90, 80, 95])}
    turns: list[str] = []

    def measure(tree: Path, scenario: str, size: str) -> dict[str, Any]:
        turns.append(tree.name)
        assert (tree / "pyproject.toml").is_file()
        return {"scenario": scenario, "events_per_s": next(rates[tree.name])}

    monkeypatch.setattr(compare, "_measure", measure)
    (one,) = compare.revisions("HEAD", "HEAD", ["live"], 3, "tiny", lambda _line: None)
    assert turns == ["base", "head", "head", "base", "base", "head"]
    assert (one.ratio, one.low, one.high, one.verdict) == (0.9, 0.8, 0.95, "worse")


def test_no_revision_and_no_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = stored(tmp_path / "one.json")
    with pytest.raises(SystemExit):
        main(["compare", file, "HEAD"])
    assert "two files or two revisions, not one of each" in capsys.readouterr().err


def test_a_folder_runs_its_own_code(tmp_path: Path) -> None:
    """The programs of this environment import the package of the folder, not the one that is installed."""
    package = tmp_path / "muse_stream"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("def main() -> None:\n    print('of the folder')\n")
    program = Path(sys.executable).parent / "muse-stream"
    done = subprocess.run([program], env=compare.environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.stdout == "of the folder\n", (done.stderr, os.environ.get("PYTHONPATH"))
