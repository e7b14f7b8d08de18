"""Scenario `drain`: how fast one live worker works a backlog off, beside the client's own echo.

Gives events/s visible to a read_committed reader, and CPU a million events. Rates are taken between the first and the
last visible answer, so start-up is not in them; the floor is the same worker loop with a scorer that does nothing
(consume, produce 60 bytes, commit), run in the same minute.
"""

import time
from itertools import chain
from pathlib import Path

import psutil

from perf import echo, rig, workload

PARTITIONS = 4
Figures = dict[str, float | int | str]


def run_decimal(bootstrap: str, folder: Path, count: int) -> Figures:
    """Measure `drain`, and `drain` again on events with decimals, a UUID as id and one as `fixed`, and an enum."""
    plain = run(bootstrap, folder, count)
    figures = run(bootstrap, folder, count, decimal=True)
    ratio = float(figures["events_per_s"]) / float(plain["events_per_s"])
    return {**figures, "scenario": "drain-decimal", "of_drain": round(ratio, 3)}


def run(bootstrap: str, folder: Path, count: int, *, decimal: bool = False) -> Figures:
    """Measure; `count` events at most."""
    data = workload.read_data()
    path = workload.configure(folder, data, 1, decimal=decimal)
    count = min(count, data.rows)
    rig.create(bootstrap, {"muse.events.t000": PARTITIONS, "muse.scores.t000": PARTITIONS, "muse.dlq.t000": PARTITIONS})
    values = chain.from_iterable(workload.events(path, data, slice(0, count)))
    rig.send(bootstrap, "muse.events.t000", PARTITIONS, values)
    store = rig.publish(path, folder / f"store-{time.time_ns()}")
    with rig.worker(bootstrap, store, folder / "drain.log") as pid:
        points = rig.visible(bootstrap, ["muse.scores.t000"], PARTITIONS, count, 300)
        cpu_s = sum(child.cpu_times().user + child.cpu_times().system for child in psutil.Process(pid).children())
    floor = echo.rate(bootstrap, "muse.events.t000", PARTITIONS, count)
    (began, first), (ended, last) = points[0], points[-1]
    rate = (last - first) / (ended - began)
    return {
        "scenario": "drain",
        "data": data.name,
        "events": last,
        "complete": str(last == count),
        "events_per_s": round(rate),
        "worker_cpu_s_per_million": round(cpu_s / last * 1e6, 2),
        "echo_events_per_s": round(floor),
        "of_echo": round(rate / floor, 3),
    }
