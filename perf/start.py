"""Scenario `start`: what a process imports, in CPU-seconds, and how long the first score takes after the command.

imports      each kind of process in a Python of its own, median of 3: interpreter and imports, nothing else
worker       CPU of the worker from its fork to its first score: generation compiled, clients opened, an event scored
first score  an event waits; from the start of `muse-stream run` to its score as a read_committed reader sees it, median
             and worst of 6 starts; each drains and leaves the group, so that the next one finds it empty
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from muse_stream.testing import CommittedReader
from perf import rig, workload
from perf.figures import Figures
from perf.takeover import Run

IMPORTS, STARTS = 3, 6
EVENTS, SCORES = "muse.events.t000", "muse.scores.t000"
KINDS = {
    "help": "from muse_stream.__main__ import main; main(['--help'])",
    "status": "from muse_stream.__main__ import main; main(['run', '--help']); import muse_stream.commands.status",
    "check": "from muse_stream.__main__ import main; main(['run', '--help']); import muse_stream.commands.check",
    "worker": "from muse_stream.__main__ import main; main(['run', '--help'])\n"
    "from muse_stream.commands.configuration import check_lane; from muse_stream.runtime.run import prepare; prepare()",
}
"""What each process has imported when its work begins; help texts stand for reading the arguments."""
PLAIN = os.environ | {"TYPER_USE_RICH": "0"}
"""Without what colours a help text, a third of all imports: who gives a command sees none."""


def run(bootstrap: str, folder: Path) -> Figures:
    """Measure."""
    imports = {kind: statistics.median(_cpu_s(code) for _ in range(IMPORTS)) for kind, code in KINDS.items()}
    data = workload.read_data()
    path = workload.configure(folder, data, 1)
    rig.create(bootstrap, {EVENTS: 1, SCORES: 1, "muse.dlq.t000": 1})
    store = rig.publish(path, folder / "store")
    values = next(workload.events(path, data, slice(0, STARTS)))
    took, worker_cpu_s = zip(*_starts(bootstrap, store, folder, values), strict=True)
    return {
        "scenario": "start",
        **{f"{kind}_import_cpu_s": round(cpu_s, 2) for kind, cpu_s in imports.items()},
        "worker_until_first_score_cpu_s": round(statistics.median(worker_cpu_s), 2),
        "first_score_median_s": round(statistics.median(took), 2),
        "first_score_worst_s": round(max(took), 2),
        "all_s": " ".join(f"{one:.2f}" for one in took),
    }


def _cpu_s(code: str) -> float:
    """Return the CPU time of a Python that runs this."""
    measured = f"{code}\nimport sys, time; sys.stderr.write(str(time.process_time()))"
    done = subprocess.run([sys.executable, "-c", measured], capture_output=True, text=True, check=True, env=PLAIN)
    return float(done.stderr)


def _starts(bootstrap: str, store: Path, folder: Path, values: list[bytes]) -> Iterator[tuple[float, float]]:
    """Yield seconds to the first score, and the worker's CPU by then."""
    with CommittedReader(bootstrap, {SCORES: 1}, tolerant=True) as reader:
        for number, value in enumerate(values):
            rig.send(bootstrap, EVENTS, 1, [value])
            began = time.monotonic()
            with _running(bootstrap, store, folder, f"start-{number}") as ours:
                while not reader.read(0.05):
                    pass
                took = time.monotonic() - began
                worker = psutil.Process(ours.lines("slot")[-1]["pid"]).cpu_times()
            yield took, worker.user + worker.system


@contextmanager
def _running(bootstrap: str, store: Path, folder: Path, name: str) -> Iterator[Run]:
    ours = Run(bootstrap, store, folder, name)
    try:
        yield ours
    finally:
        ours.stop()
