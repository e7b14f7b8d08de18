"""A real Prometheus server with the rules that are shipped, and what it says; the runbook that an alert names.

The rules are deploy/prometheus/alerts.yaml with every time window divided by `FACTOR`: `for:`, the ranges of a query
(`[5m]`) and `offset`. Nothing else of them is changed: thresholds, also those in seconds, are what they are.
"""

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from muse_stream.testing import local_kafka
from tests.patience import until

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
FACTOR = 10
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_WINDOW = re.compile(r"(?<=for: )(\d+)([smhd])\b|(?<=\[)(\d+)([smhd])(?=\])|(?<=offset )(\d+)([smhd])\b")
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
LOOK_AT_ALL = "muse-stream status store"
"""What is run for a runbook that has no commands of its own."""


def program() -> Path | None:
    """Return where Prometheus is, None where it is not: `make promtool` fetches it."""
    own = ROOT / ".cache" / "prometheus" / "usr" / "bin" / "prometheus"
    found = shutil.which("prometheus") or (str(own) if own.exists() else None)
    return Path(found) if found else None


def shortened(rules: str, factor: int = FACTOR) -> str:
    """Return rules whose time windows are shorter by a factor, and which are otherwise the same."""

    def short(found: re.Match[str]) -> str:
        number, unit = (one for one in found.groups() if one is not None)
        return f"{int(number) * SECONDS[unit] * 1_000 // factor}ms"

    return _WINDOW.sub(short, rules)


def held_for_s(alert: str) -> float:
    """Return for how long a rule, as shipped, wants its condition to hold."""
    rules = (rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"])
    (wanted,) = (rule.get("for", "0s") for rule in rules if rule.get("alert") == alert)
    return float(int(wanted[:-1]) * SECONDS[wanted[-1]])


def section(url: str) -> str:
    """Return the section of the runbooks that an alert's `runbook_url` names. AssertionError where there is none."""
    file, anchor = url.split("#")
    assert ROOT / file == RUNBOOKS, url
    parts = re.split(r"^## (.+)$", RUNBOOKS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: dict[str, str] = dict(zip((title.strip().lower() for title in parts[1::2]), parts[2::2], strict=True))
    assert anchor in found, f"no section for {url}"
    return found[anchor]


def commands(text: str) -> list[str]:
    """Return the commands of a runbook's section, a line each."""
    return [line for block in _BLOCK.findall(text) for line in block.splitlines()] or [LOOK_AT_ALL]


class Prometheus:
    """The server; `targets` are ports of pages on this machine, scraped every 5 s as in deploy/prometheus.

    A busy machine takes seconds to answer, and a page that does not answer has no series: its alerts would end.
    """

    def __init__(self, folder: Path, targets: Sequence[int]) -> None:
        (self._port,) = local_kafka.free_ports(1)
        self._log = folder / "prometheus.log"
        (folder / "alerts.yaml").write_text(shortened(RULES.read_text(encoding="utf-8")), encoding="utf-8")
        scraped = [{"targets": [f"127.0.0.1:{port}" for port in targets]}]
        settings = {
            "global": {"scrape_interval": "5s", "scrape_timeout": "5s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yaml"],
            "scrape_configs": [{"job_name": "muse-stream", "static_configs": scraped}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        server = program()
        assert server is not None, "there is no Prometheus: `make promtool` fetches it"
        command = [*dying_with_us(), str(server), f"--config.file={folder / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={folder / 'series'}", f"--web.listen-address=127.0.0.1:{self._port}"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def __enter__(self) -> "Prometheus":
        self._ask("query?query=1")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that fire, as the server's API has them: labels, annotations, since when."""
        return [one for one in self._ask("alerts")["alerts"] if one["state"] == "firing"]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {one["labels"]["alertname"] for one in self.alerts()}

    def pending_or_firing(self) -> set[str]:
        """Return the names of these, and of those that will fire if nothing changes."""
        return {one["labels"]["alertname"] for one in self._ask("alerts")["alerts"]}

    def value(self, query: str) -> float:
        """Return the first number of a query's answer, NaN where there is none."""
        found = self._ask(f"query?{urllib.parse.urlencode({'query': query})}")["result"]
        return float(found[0]["value"][1]) if found else float("nan")

    def _ask(self, what: str) -> dict[str, Any]:
        """Ask the server's API until it answers: that nothing fires is not to be taken from silence."""
        found: list[dict[str, Any]] = []

        def answered() -> bool:
            with (
                suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{what}", timeout=20) as answer,
            ):
                found.append(json.load(answer)["data"])
            return bool(found)

        until(answered, 30, lambda: self._log.read_text()[-3000:])
        return found[0]


def dying_with_us() -> list[str]:
    """Return what has a command end with the process that started it, however that ends."""
    tool = shutil.which("setpriv")
    return [tool, "--pdeathsig", "KILL"] if tool else []
