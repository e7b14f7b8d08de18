"""The short form of `make alert-drill`: a fault for real on the run's broker, and the rules that Prometheus has."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from muse_stream.testing.kafka_broker import Broker
from tests.alert_drill.__main__ import Outcome, play, table
from tests.alert_drill.account import account
from tests.alert_drill.prometheus import FACTOR, RULES, RUNBOOKS, held_for_s, program, section, shortened
from tests.alert_drill.situations import SITUATIONS, RedisDown
from tests.alert_drill.stage import Kafka, Stage
from tests.deploy.test_alerts import rules
from tests.integration.witness import Seen

WINDOW = re.compile(r"(?:\[|offset )(\w+)")


class OneWorker(RedisDown):
    """With nothing but what answers."""

    alerts: ClassVar = ("MuseGenerationRefused",)
    roles: ClassVar = {"live": 1}
    rates: ClassVar = {"acme": 20, "globex": 20}
    flows = 20


def each(text: str) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(text)["groups"]
    return {rule.get("alert") or rule["record"]: rule for group in groups for rule in group["rules"]}


def without_windows(rule: dict[str, Any]) -> dict[str, Any]:
    return {**rule, "expr": WINDOW.sub("", rule["expr"]), "for": ""}


def milliseconds(window: str) -> int:
    return int(window[:-1]) * {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[window[-1]]


def test_time_windows_are_divided_and_nothing_else_is_changed() -> None:
    text = RULES.read_text(encoding="utf-8")
    shipped, drilled = each(text), each(shortened(text))
    assert shipped.keys() == drilled.keys()
    for name, rule in shipped.items():
        other = drilled[name]
        assert without_windows(rule) == without_windows(other)
        windows = [*WINDOW.findall(rule["expr"]), *([rule["for"]] if "for" in rule else [])]
        short = [*WINDOW.findall(other["expr"]), *([other["for"]] if "for" in other else [])]
        assert [f"{milliseconds(one) // FACTOR}ms" for one in windows] == short, name


def test_each_fault_of_the_page_is_drilled_with_alerts_that_it_names() -> None:
    page = RUNBOOKS.read_text(encoding="utf-8").split("## Eight faults")[1].split("\n## ")[0]
    urls = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in rules("alert")}
    for one in SITUATIONS:
        row = next(line for line in page.splitlines() if line.startswith(f"| {one.title} |"))
        for alert in one.alerts:
            assert f"[{alert}](#{alert.lower()})" in row
            assert section(urls[alert])
            assert held_for_s(alert) >= 0


PLANTED: dict[str, tuple[list[int], str]] = {
    "lost": ([0, 2], "lost"),
    "doubled": ([0, 1, 1, 2], "doubled"),
    "out of order": ([0, 2, 1], "disorder"),
    "of no event": ([0, 1, 2, 3], "foreign"),
}


@pytest.mark.parametrize(("offsets", "what"), PLANTED.values(), ids=PLANTED)
def test_the_account_finds_what_is_not_kept(offsets: list[int], what: str) -> None:
    answers = [Seen("scores", 0, ("events", 0, offset), {}) for offset in offsets]
    found = account(answers, {("events", 0): 3}, [0] * len(answers), {})
    assert not found.kept
    assert [name for name in ("lost", "doubled", "disorder", "foreign") if getattr(found, name)] == [what]
    assert account([answers[0]], {("events", 0): 1}, [0], {}).kept


@pytest.mark.slow
def test_an_alert_fires_and_ends_and_nothing_is_lost(
    kafka: Broker, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    if program() is None or not shutil.which("redis-server"):
        pytest.skip("no Prometheus (`make promtool`), or no redis-server")
    outcome = Outcome(OneWorker.title)
    with Stage(tmp_path, Kafka(kafka.bootstrap), namespace=unique("drill")) as stage:
        play(OneWorker(), stage, outcome)
    assert outcome.fired_s.keys() == {"MuseGenerationRefused"}
    assert outcome.account.events > 0
    assert "| 0 | 0 | 0 |" in table([outcome])
