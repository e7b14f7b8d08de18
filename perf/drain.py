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
from perf.figures import Figures

PARTITIONS = 4


def run_decimal(bootstrap: str, folder: Path, count: int) -> Figures:
    """Measure `drain`, and `drain` again on events with decimals, a UUID as id and one as `fixed`, and an enum."""
    plain = run(bootstrap, folder, count)
    figures = run(bootstrap, folder, count, decimal=True)
    ratio = float(figures["events_per_s"]) / float(plain["events_per_s"])
    return {**figures, "scenario": "drain-decimal", "of_drain": round(ratio, 3)}


def run(bootstrap: str, folder: Path, count: int, backend: str = "onnxruntime", *, decimal: bool = False) -> Figures:
    """Measure; `count` events at most."""
    data = workload.read_data()
    path = workload.configure(folder, data, 1, backend=backend, decimal=decimal)
    workload.optimise(path)
    count = min(count, data.rows)
    _fill(bootstrap, path, data, count)
    found, points = _drained(bootstrap, folder, path, count)
    floor = echo.rate(bootstrap, "muse.events.t000", PARTITIONS, count)
    name = "drain" if backend == "onnxruntime" else f"drain-{backend}"
    rate, cpu = found
    return {
        "scenario": name,
        "data": data.name,
        "events": points,
        "complete": str(points == count),
        "events_per_s": round(rate),
        "worker_cpu_s_per_million": cpu,
        "echo_events_per_s": round(floor),
        "of_echo": round(rate / floor, 3),
    }


def deep(bootstrap: str, folder: Path, count: int) -> Figures:
    """Work the same backlog off by both backends, four experts of 400 trees with 63 leaves each."""
    data = workload.read_data()
    compiled = workload.configure_deep(folder, data, "compiled")
    workload.optimise(compiled)
    count = min(count, data.rows)
    rates: dict[str, float] = {}
    for path in (workload.rebacked(compiled, "onnxruntime"), compiled):
        backend = path.stem if path != compiled else "compiled"
        _fill(bootstrap, path, data, count)
        (rates[backend], _), seen = _drained(bootstrap, folder, path, count)
        if seen != count:
            return {"scenario": "deep-compiled", "complete": str(False), "events": seen}
    return {
        "scenario": "deep-compiled",
        "data": data.name,
        "events": count,
        "complete": str(True),
        **{f"{backend}_events_per_s": round(rate) for backend, rate in rates.items()},
        "compiled_of_onnxruntime": round(rates["compiled"] / rates["onnxruntime"], 2),
    }


def _fill(bootstrap: str, path: Path, data: workload.Data, count: int) -> None:
    """Make the topics, of new ones where they are there, and send the events."""
    rig.create(bootstrap, {"muse.events.t000": PARTITIONS, "muse.scores.t000": PARTITIONS, "muse.dlq.t000": PARTITIONS})
    values = chain.from_iterable(workload.events(path, data, slice(0, count)))
    rig.send(bootstrap, "muse.events.t000", PARTITIONS, values)


def _drained(bootstrap: str, folder: Path, path: Path, count: int) -> tuple[tuple[float, float], int]:
    """Run one worker until all is visible; returns events/s and CPU-s a million, and how many were answered."""
    store = rig.publish(path, folder / f"store-{time.time_ns()}")
    with rig.worker(bootstrap, store, folder / "drain.log") as pid:
        points = rig.visible(bootstrap, ["muse.scores.t000"], PARTITIONS, count, 300)
        cpu_s = sum(child.cpu_times().user + child.cpu_times().system for child in psutil.Process(pid).children())
    (began, first), (ended, last) = points[0], points[-1]
    return ((last - first) / (ended - began), round(cpu_s / last * 1e6, 2)), last
