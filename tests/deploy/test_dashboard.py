"""The dashboard: what is checked in is what its code writes, and every query asks for something that there is."""

import json
import subprocess
import sys
from typing import Any

from tests.deploy.test_alerts import ROOT, documented, rules, series

CODE = ROOT / "deploy" / "grafana" / "dashboard.py"
DASHBOARD: dict[str, Any] = json.loads(CODE.with_name("dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
CLIENTS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}


def test_the_file_is_what_the_code_writes() -> None:
    ended = subprocess.run([sys.executable, str(CODE), "--check"], check=False)
    assert ended.returncode == 0, "python deploy/grafana/dashboard.py"


def test_no_panel_asks_for_a_metric_that_there_is_not() -> None:
    known = documented() | {rule["record"] for rule in rules("record")} | CLIENTS
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    queries += [one["expr"] for one in DASHBOARD["annotations"]["list"]]
    queries += [one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    assert {name for query in queries for name in series(query)} <= known


def test_panels_do_not_cover_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
