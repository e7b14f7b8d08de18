"""Scenario `swap-each-second`: a new generation each second under 1,000 events/s, one worker.

Generations are published before; each makes the other one of two predictors live and none is served twice, so that a
worker compiles every one of them. Given are the percentiles of the steady time before, those while generations change,
and how many of them have answered. Every event must be answered once.
"""

import json
import threading
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import psutil
from ruamel.yaml import YAML

from muse_stream.config import load_document
from muse_stream.control import DirectoryStore
from muse_stream.testing import CommittedReader
from perf import rig, workload
from perf.figures import Figures
from perf.latency import FRAME, Phase, await_group, figures, warm_s, watch

PARTITIONS, RATE = 4, 1_000


def run(bootstrap: str, folder: Path, *, swaps: int, steady_s: float, warm_most_s: float, trees: int) -> Figures:
    """Measure."""
    data = workload.read_data()
    path = workload.configure_two(folder, data, trees=trees)
    rig.create(bootstrap, {f"muse.{kind}.t000": PARTITIONS for kind in ("events", "scores", "dlq", "audit")})
    rig.forget(bootstrap)
    store = DirectoryStore(folder / "store")
    numbers = _published(path, store, swaps + 1)
    store.move_current(store.current(), numbers[0])
    warm = warm_s(bootstrap, warm_most_s)
    phases = [Phase(RATE, warm), Phase(RATE, steady_s, "steady"), Phase(RATE, float(swaps), "swapping")]
    with rig.worker(bootstrap, store.path, folder / "worker.log", spare=True) as pid:
        await_group(bootstrap, ["muse.events.t000"])
        moves: list[threading.Thread] = []

        def begin(start_ns: int) -> None:
            moves.append(threading.Thread(target=_move, args=(store, numbers, start_ns + (warm + steady_s) * 1e9)))
            moves[0].start()

        seen = watch(bootstrap, path, data, phases, psutil.Process(pid), partitions=PARTITIONS, at_start=begin)
        moves[0].join()
    seen.check()
    found = figures(seen, phases)
    return {
        "scenario": "swap-each-second",
        "events": seen.sent,
        "events_per_s": RATE,
        "swaps": swaps,
        "generations_that_answered": len(_answered(bootstrap)),
        "checked": "each answered once",
        **found,
        "p99_swapping_of_steady": round(float(found["p99_ms_swapping"]) / float(found["p99_ms_steady"]), 2),
    }


def _published(path: Path, store: DirectoryStore, count: int) -> list[int]:
    document = YAML(typ="safe").load(path)
    numbers = []
    for number in range(count):
        live, other = ("first", "second") if number % 2 == 0 else ("second", "first")
        document["routes"] = [{"live": live, "shadow": [other]}]
        document["predictors"][live]["version"] = number + 1
        workload.write_document(path, document)
        numbers.append(store.publish(load_document(path)))
    return numbers


def _move(store: DirectoryStore, numbers: Sequence[int], start_ns: float) -> None:
    for at, number in enumerate(numbers[1:]):
        time.sleep(max(0.0, start_ns / 1e9 + at - time.monotonic()))
        store.move_current(store.current(), number)


def _answered(bootstrap: str) -> set[int]:
    """Return the generations of all scores."""
    schema = fastavro.parse_schema(json.loads((workload.PROJECT / "schemas" / "score.avsc").read_text()))
    found = set()
    with CommittedReader(bootstrap, {"muse.scores.t000": PARTITIONS}) as reader:
        for message in reader.read_to_end(timeout_s=120)[::10]:
            body: Any = fastavro.schemaless_reader(BytesIO((message.value() or b"")[FRAME:]), schema)
            found.add(body["generation"])
    return found
