"""Scenario `idle`: what a run costs that has nothing to do: supervisor, worker and spare, in % of a core."""

import time
from pathlib import Path

import psutil

from perf import rig, workload
from perf.draining import cpu_s, tree
from perf.figures import Figures
from perf.latency import await_group

PARTITIONS = 4


def run(bootstrap: str, folder: Path, settle_s: float, counted_s: float) -> Figures:
    """Measure."""
    path = workload.configure(folder, workload.read_data(), 1)
    rig.create(bootstrap, {f"muse.{kind}.t000": PARTITIONS for kind in ("events", "scores", "dlq")})
    rig.forget(bootstrap)
    store = rig.publish(path, folder / "store")
    with rig.worker(bootstrap, store, folder / "worker.log", spare=True) as pid:
        await_group(bootstrap, ["muse.events.t000"])
        time.sleep(settle_s)
        processes = {one.pid: one for one in tree(psutil.Process(pid))}
        before = {number: sum(one.cpu_times()[:2]) for number, one in processes.items()}
        began, all_before = time.monotonic(), cpu_s(processes[pid])
        time.sleep(counted_s)
        seconds, used = time.monotonic() - began, cpu_s(processes[pid]) - all_before
        each = [sum(one.cpu_times()[:2]) - before[number] for number, one in processes.items()]
        rss = sum(one.memory_info().rss for one in processes.values())
    return {
        "scenario": "idle",
        "seconds": round(seconds, 1),
        "processes": len(processes),
        "cpu_percent": round(used / seconds * 100, 2),
        "cpu_percent_supervisor": round(each[0] / seconds * 100, 2),
        "cpu_percent_busiest_other": round(max(each[1:], default=0.0) / seconds * 100, 2),
        "rss_mb": round(rss / 1e6),
    }
