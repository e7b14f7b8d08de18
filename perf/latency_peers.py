"""Scenario `latency-peers`: the worker's latency beside what the same machine allows, in turns on one broker.

    worker         this product
    echo           its loop with a scorer that does nothing: each event is sent back
    kafka-streams  the same steps in Java, EOS v2, one thread, a commit each 10 ms

At each of the rates, open loop, one tenant, 4 partitions; percentiles and CPU as `perf/latency.py` has them, the
medians of the turns, and the worker's CPU and p99 as a ratio to the others' of the same turn.
"""

import os
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from muse_stream.errors import MuseError
from perf import echo, peers, rig, workload
from perf.draining import serving
from perf.figures import Figures
from perf.latency import RATE, Phase, await_group, figures, warm_s, watch

PARTITIONS = 4
EVENTS, SCORES = "muse.events.t000", "muse.scores.t000"
COMMIT_MS = 10
WORKER, ECHO, STREAMS = "worker", "echo", "kafka_streams"
COMPARED = ("p99_ms", "cpu_percent")


def run(
    bootstrap: str,
    folder: Path,
    *,
    turns: int,
    rates: Sequence[int],
    warm_most_s: float,
    counted_s: float,
    contenders: Sequence[str] = (WORKER, ECHO, STREAMS),
) -> Figures:
    """Measure."""
    data = workload.read_data()
    path = workload.configure(folder, data, 1)
    store = rig.publish(path, folder / "store")
    running, missing = peers.prepare(["kafka-streams"] if STREAMS in contenders else [])
    names = [name for name in contenders if name != STREAMS or running]
    found: dict[str, list[Figures]] = defaultdict(list)
    for turn in range(turns):
        for name in names:
            rig.create(bootstrap, dict.fromkeys((EVENTS, SCORES, "muse.dlq.t000"), PARTITIONS))
            rig.forget(bootstrap)
            log = folder / f"{name}-{turn}.log"
            # a JVM compiles what it runs: each new one, and the broker in the first turn
            warm = warm_s(bootstrap, warm_most_s) if name != STREAMS else warm_most_s
            phases = [Phase(RATE, warm)]
            for rate in rates:
                phases += [Phase(rate, counted_s / 5), Phase(rate, counted_s, str(rate))]
            with _serving(bootstrap, name, path, store, log, running) as pid:
                seen = watch(bootstrap, path, data, phases, psutil.Process(pid), partitions=PARTITIONS)
            seen.check()
            found[name].append(figures(seen, phases))
    head: Figures = {"scenario": "latency-peers", "repeats": turns, "checked": "each answered once"}
    for name in names:
        head |= {f"{name}_{key}": _median([one[key] for one in found[name]]) for key in found[name][0]}
    for other in names[1:]:
        for rate in rates:
            for what in COMPARED:
                key = f"{what}_{rate}"
                ratios = [float(a[key]) / float(b[key]) for a, b in zip(found[WORKER], found[other], strict=True)]
                head[f"{what.removesuffix('_ms')}_of_{other}_{rate}"] = round(statistics.median(ratios), 2)
    return head | {name.replace("-", "_"): f"not measured: {why}" for name, why in missing.items()}


@contextmanager
def _serving(
    bootstrap: str, name: str, path: Path, store: Path, log: Path, running: Sequence[peers.Peer]
) -> Iterator[int]:
    """Run one contender until it has its partitions; yields its process id."""
    if name == WORKER:
        with rig.worker(bootstrap, store, log, spare=True) as pid:
            await_group(bootstrap, [EVENTS])
            yield pid
        return
    if name == ECHO:
        group = echo.group_of(SCORES)
        command, environment = [sys.executable, "-m", "perf.echo", bootstrap, SCORES, "0", "1", EVENTS], {}
    elif name == STREAMS:
        (peer,) = running
        group = f"perf.latency.{time.time_ns()}"
        settings = log.with_suffix(".json")
        peers.write(settings, bootstrap, EVENTS, SCORES, path, group=group, commit_ms=COMMIT_MS)
        command, environment = [*peer.command, str(settings)], dict(peer.environment)
    else:
        raise MuseError(f"{name}: not known here")
    with serving(command, log, os.environ | environment, signal.SIGTERM) as process:
        await_group(bootstrap, [EVENTS], group_id=group)
        yield process.pid


def _median(values: Sequence[object]) -> float:
    return round(statistics.median(float(str(value)) for value in values), 1)
