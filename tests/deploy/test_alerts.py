"""Alerts: each has its runbook, none names a metric that there is not, and they fire when they should (promtool)."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from muse_stream.cli.main import _command

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
ALERTS = FOLDER / "alerts.yaml"
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
CHAPTERS = {"The objective", "Eight faults"}
"""Sections of the runbooks' page that are no alert's."""
FOREIGN = {"process_start_time_seconds"}


def rules(kind: str) -> Iterator[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return (rule for group in groups for rule in group["rules"] if kind in rule)


def documented() -> set[str]:
    return set(re.findall(r"^\| `(muse_\w+)` \|", METRICS, re.MULTILINE))


def series(expression: str) -> set[str]:
    """Return the metrics that an expression names, without what a histogram adds to its name."""
    text = re.sub(r'"[^"]*"', "", expression)
    found = set(re.findall(r"\b(?:muse|process)_\w+|\bmuse:[\w:]+", text))
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in found}


def promtool() -> str:
    own = ROOT / ".cache" / "prometheus" / "usr" / "bin" / "promtool"
    found = shutil.which("promtool") or (str(own) if own.exists() else None)
    if found is None:
        pytest.skip("there is no promtool: `make alerts` gets it")
    return found


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    alerts = {rule["alert"]: rule for rule in rules("alert")}
    assert set(re.findall(r"^## (.+)$", RUNBOOKS, re.MULTILINE)) - CHAPTERS == alerts.keys()
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}


def test_no_alert_names_a_metric_that_there_is_not() -> None:
    recorded = {rule["record"] for rule in rules("record")}
    for rule in (*rules("alert"), *rules("record")):
        unknown = series(rule["expr"]) - documented() - recorded - FOREIGN
        assert not unknown, rule.get("alert") or rule["record"]


def test_every_alert_is_tried() -> None:
    tried = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*_test.yaml"))
    untried = {rule["alert"] for rule in rules("alert")} - set(re.findall(r'alertname="(\w+)"', tried))
    assert untried == set()


@pytest.mark.long  # `make alerts` runs it alone; the tests before read what it is given
def test_the_alerts_fire_when_they_should_and_not_before() -> None:
    tool = promtool()
    tests = sorted(map(str, FOLDER.glob("*_test.yaml")))
    for command in ([tool, "check", "rules", str(ALERTS)], [tool, "test", "rules", *tests]):
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_promtool_finds_nothing_wrong_with_our_metrics() -> None:
    from tests.runtime.test_worker_metrics import fed, page  # noqa: PLC0415

    tool = promtool()
    for role in ("live", "shadow"):
        text = page(fed(role))
        ended = subprocess.run([tool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")


def test_every_command_of_the_runbooks_is_one() -> None:
    program = _command()
    blocks = re.findall(r"^```sh\n(.*?)^```", RUNBOOKS, re.MULTILINE | re.DOTALL)
    lines = [*"".join(blocks).splitlines(), *re.findall(r"`(muse-stream [^`]*)`", RUNBOOKS)]
    assert len(lines) > 10
    for line in lines:
        words = shlex.split(line)[1:]
        command: Any = program
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        known = {name for one in command.params for name in one.opts}
        assert {word for word in words if word.startswith("--")} <= known, line
