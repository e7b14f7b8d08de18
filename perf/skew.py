"""Scenario `skew-latency`: how long cold tenants wait while a hot one drains a backlog.

One tenant has a backlog of `hot` events, 19 others get RATE events/s together, open loop (latency.py); one worker.
Given is how long the cold ones' events took that were due between the first and the last commit of the hot one's.
"""

import os
import signal
import sys
import threading
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np

from muse_stream.config import load_document
from muse_stream.errors import MuseError
from perf import configurations, rig, workload
from perf.draining import Drained, drain, serving
from perf.figures import Figures
from perf.latency import PERCENTILES, Phase, watch

HOT, COLD, RATE = "t000", 19, 200
TAKES_S = 20.0
"""What the hot one is given; cold events go on that long."""


def run(bootstrap: str, folder: Path, *, hot: int, predictors: int, trees: int) -> Figures:
    """Measure."""
    data = configurations.with_intents(workload.read_data())
    path = configurations.tenants(folder, data, COLD + 1, predictors=predictors, trees=trees)
    path = configurations.with_own_outputs(path)
    document = load_document(path).document
    named = [document.tenant_topics(name) for name in document.tenants]
    rig.create(bootstrap, dict.fromkeys([name for one in named for name in (one.events, one.scores, one.dlq)], 1))
    rig.forget(bootstrap)
    once = list(chain.from_iterable(workload.events(path, data, slice(0, min(hot, data.rows)))))
    rig.send(bootstrap, f"muse.events.{HOT}", 1, islice(cycle(once), hot))
    store = rig.publish(path, folder / "store")
    command = [str(Path(sys.executable).parent / "muse-stream"), "run", "--role", "live", "--store", str(store)]
    command += ["--name", "perf", "--no-spare", "--start", "earliest"]
    environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    cold = [name for name in document.tenants if name != HOT]
    with serving(command, folder / "worker.log", environment, signal.SIGINT) as process:
        drained: list[Drained] = []

        def hot_one() -> None:
            drained.append(drain(bootstrap, document.group("main", "live"), {f"muse.events.{HOT}": 1}, hot, process))

        drains = threading.Thread(target=hot_one)
        drains.start()
        phases = [Phase(RATE, TAKES_S)]
        seen = watch(bootstrap, path, data, phases, process, partitions=1, tenants=cold)
        drains.join()
    if not drained:
        raise MuseError("skew-latency: the hot tenant's events were not drained")
    seen.check()
    meanwhile = (seen.due >= drained[0].began_ns) & (seen.due <= drained[0].ended_ns)
    took = seen.waited_ms(meanwhile)
    if not len(took):
        raise MuseError("skew-latency: the hot tenant was done before the first cold event was due")
    return {
        "scenario": "skew-latency",
        "hot_events": hot,
        "hot_events_per_s": round(drained[0].events_per_s),
        "cold_tenants": COLD,
        "cold_events": len(took),
        "checked": "each answered once",
        **{f"cold_{name}_ms": round(float(np.percentile(took, at)), 1) for name, at in PERCENTILES.items()},
    }
