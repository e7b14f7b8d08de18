"""Stored results: `perf/results/*.json`, one file a run, named after the moment so that the newest is the last.

What is shown of a scenario is what the newest file says that has it: a run of one scenario replaces one row.
"""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from perf.figures import Figures

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = PROJECT / "perf" / "results"


class Store:
    """A file of one run, written anew after each scenario: what was measured is kept when the run is ended."""

    def __init__(self, folder: Path | None = None) -> None:
        self._results: list[Figures] = []
        now = datetime.now(UTC)
        self._path = (folder or FOLDER) / f"{now:%Y-%m-%dT%H%M%S}Z.json"
        self._head = {
            "taken": now.isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": {
                "cores": os.cpu_count(),
                "memory_gb": round(psutil.virtual_memory().total / 2**30),
                "load_average": round(os.getloadavg()[0], 1),
                "python": platform.python_version(),
            },
        }

    def add(self, figures: Figures) -> Path:
        """Store the figures of a scenario; returns the file."""
        self._results.append(figures)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._head | {"results": self._results}, indent=2) + "\n"
        self._path.write_text(text, encoding="utf-8")
        return self._path


def of_this_commit(folder: Path | None = None) -> set[str]:
    """Return the scenarios that have a result of the commit that is checked out, whatever else was changed since."""
    ours, found = commit().removesuffix("-dirty"), set()
    for path in (folder or FOLDER).glob("*.json"):
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["commit"].removesuffix("-dirty") == ours:
            found |= {figures["scenario"] for figures in stored["results"]}
    return found


def newest(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Return the newest figures of each scenario."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        for figures in json.loads(path.read_text(encoding="utf-8"))["results"]:
            found[figures["scenario"]] = figures
    return found


def commit() -> str:
    """Return the commit that is checked out, with `-dirty` where files were changed."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
