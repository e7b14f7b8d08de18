"""Scenarios `memory` and `takeover-memory`: what a worker's memory does over 100 swaps, and what replacing it costs.

memory            500 events/s; `current` moves 100 times among ten generations, each with a model file of its own,
                  so that every swap loads a model that is not in memory; resident memory as the worker tells it
takeover-memory   500 events/s over 4 partitions; a worker that passes --max-memory as soon as it serves is replaced
                  by the spare; the longest gap between two scores of a partition around it, of so many runs
"""

import hashlib
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import onnx
import psutil
from ruamel.yaml import YAML

from muse_stream.commands.status import WorkerLine, look
from muse_stream.config import load_document
from muse_stream.control import DirectoryStore
from perf import rig, workload
from perf.figures import Figures
from perf.takeover import PARTITIONS, Run, _feed, _Reader, _until

SWAPS, GENERATIONS, SETTLED = 100, 10, 10
REPLACEMENTS = 5


def swaps(bootstrap: str, folder: Path) -> Figures:
    """Measure the memory over swaps."""
    with _fed(bootstrap, folder) as path:
        store, numbers = DirectoryStore(folder / "store"), list(_published(path, folder / "store"))
        with rig.worker(bootstrap, store.path, folder / "log"):
            taken = [_resident(store, numbers[-1])]
            for swap in range(SWAPS):
                number = numbers[swap % GENERATIONS]
                store.move_current(store.current(), number)
                taken.append(_resident(store, number))
    mb = [round(one / 1e6) for one in taken]
    return {
        "scenario": "memory",
        "swaps": SWAPS,
        "first_mb": mb[0],
        "after_10_mb": mb[SETTLED],
        "after_last_mb": mb[-1],
        "most_mb": max(mb),
        "growth_since_10": f"{taken[-1] / taken[SETTLED] - 1:.1%}",
        "all_mb": " ".join(map(str, mb)),
    }


def replacements(bootstrap: str, folder: Path) -> Figures:
    """Measure the silence while a worker is replaced because of its memory."""
    gaps: list[float] = []
    with _fed(bootstrap, folder) as path:
        store = rig.publish(path, folder / "store")
        fresh, serving = _sizes(Run(bootstrap, store, folder, "sizes"))
        most = "--max-memory", str((fresh + serving) // 2)
        reader = _Reader(bootstrap)
        try:
            names = (f"memory-{number}" for number in range(REPLACEMENTS))
            gaps.extend(_gap(Run(bootstrap, store, folder, name, *most), reader) for name in names)
        finally:
            reader.stop()
    return {
        "scenario": "takeover-memory",
        "replacements": len(gaps),
        "fresh_mb": round(fresh / 1e6),
        "serving_mb": round(serving / 1e6),
        "median_s": round(statistics.median(gaps), 2),
        "worst_s": round(max(gaps), 2),
        "all_s": " ".join(f"{one:.2f}" for one in gaps),
    }


@contextmanager
def _fed(bootstrap: str, folder: Path) -> Iterator[Path]:
    """Write the configuration and send events meanwhile."""
    data = workload.read_data()
    path = workload.configure(folder, data, 1)
    rig.create(bootstrap, {f"muse.{kind}.t000": PARTITIONS for kind in ("events", "scores", "dlq")})
    ended = threading.Event()
    values = next(workload.events(path, data, slice(0, 50_000)))
    feeder = threading.Thread(target=_feed, args=(bootstrap, values, ended))
    feeder.start()
    try:
        yield path
    finally:
        ended.set()
        feeder.join()


def _published(path: Path, store: Path) -> Iterator[int]:
    """Publish the same model in ten files that differ; each is current once."""
    model = onnx.load(path.parent / "trees.onnx")
    document = YAML(typ="safe").load(path)
    for number in range(GENERATIONS):
        model.doc_string = f"copy {number}"
        content = model.SerializeToString()
        (path.parent / "trees.onnx").write_bytes(content)
        document["models"]["trees"]["sha256"] = hashlib.sha256(content).hexdigest()
        document.pop("maps", None)
        document["predictors"]["cards"].pop("quantile_map", None)  # pinned to the content
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(document, file)
        directory = DirectoryStore(store)
        published = directory.publish(load_document(path))
        directory.move_current(directory.current(), published)
        yield published


def _resident(store: DirectoryStore, number: int) -> int:
    """Wait until the worker serves a generation; return its memory then."""
    found: list[WorkerLine] = []

    def serves() -> bool:
        found[:] = [one for one in look(store).workers if one.generation == number]
        return bool(found)

    _until(serves, 120)
    return found[0].memory_bytes


def _sizes(run: Run) -> tuple[int, int]:
    """Return what a spare takes, and what a worker takes that has served for a moment."""
    try:
        run.wait_ready()
        time.sleep(3)
        spare, worker = run.lines("spare_ready")[-1]["pid"], run.lines("slot")[-1]["pid"]
        return psutil.Process(spare).memory_info().rss, psutil.Process(worker).memory_info().rss
    finally:
        run.stop()


def _gap(run: Run, reader: _Reader) -> float:
    """Return the longest gap of a partition around the replacement of a worker."""
    try:
        _until(lambda: bool(run.lines("worker_replaced")))
        replaced = datetime.fromisoformat(run.lines("worker_replaced")[0]["timestamp"]).timestamp()
        at = time.monotonic() - (time.time() - replaced)
        time.sleep(5)
        seen = [(moment, partition) for moment, partition in list(reader.seen) if at - 1 < moment < at + 5]
        moments = ([moment for moment, one in seen if one == partition] for partition in range(PARTITIONS))
        return max(later - earlier for each in moments for earlier, later in pairwise(each))
    finally:
        run.stop()
