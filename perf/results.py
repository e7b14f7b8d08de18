"""Stored results: `perf/results/*.json`, one file a run, named after the moment so that the newest is the last.

What is shown of a scenario is what the newest file says that has it: a run of one scenario replaces one row.
"""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from perf.figures import Figures

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = PROJECT / "perf" / "results"


def save(results: Sequence[Figures], folder: Path = FOLDER) -> Path:
    """Store the results of a run; returns the file."""
    now = datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{now:%Y-%m-%dT%H%M%S}Z.json"
    document = {
        "taken": now.isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30),
            "load_average": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
        },
        "results": list(results),
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def newest(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Return the newest figures of each scenario."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        for figures in json.loads(path.read_text(encoding="utf-8"))["results"]:
            found[figures["scenario"]] = figures
    return found


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
