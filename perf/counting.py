"""How fast does the role `calibrate` work a backlog of scores off, with one process?

A million score records of 60 tenants, in one topic of 4 partitions, as live workers write them. From the first record
that is counted to the last that is stored; the CPU is that of the counting process alone.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from ruamel.yaml import YAML

from muse_stream import testing
from muse_stream.avro import Encoder
from muse_stream.calibration import DayCounts
from muse_stream.control import open_store
from muse_stream.runtime.answer_reader import output_schemas
from perf.figures import Figures
from perf.rig import create, publish

EXAMPLE = Path(__file__).parents[1] / "deploy" / "config"
TENANTS, PARTITIONS, CHUNK = 60, 4, 50_000
LIMIT_S = 300


def run(bootstrap: str, folder: Path, events: int) -> Figures:
    """Measure it."""
    config, store = Path(shutil.copytree(EXAMPLE, folder / "config")), folder / "store"
    document = YAML(typ="safe").load(config / "muse.yaml")
    names = [*document["tenants"], *(f"tenant{number}" for number in range(TENANTS - len(document["tenants"])))]
    event = next(iter(document["tenants"].values()))["event"]
    document["tenants"] = {name: {"event": event} for name in names}
    document["topics"] = {"scores": "perf.scores", "audit": "perf.audit", "events": "perf.events.{tenant}"}
    with (config / "muse.yaml").open("w") as file:
        YAML(typ="safe").dump(document, file)
    publish(config / "muse.yaml", store)
    create(bootstrap, {"perf.scores": PARTITIONS, "perf.audit": 1})
    _write(bootstrap, names, events)
    log = folder / "log"
    command = [str(Path(sys.executable).parent / "muse-stream"), "run", "--role", "calibrate", "--store", str(store)]
    with log.open("wb") as out:
        environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": bootstrap}
        process = subprocess.Popen([*command, "--no-spare", "--name", "perf"], stdout=out, stderr=out, env=environment)
    try:
        while b'"assigned"' not in log.read_bytes():
            time.sleep(0.02)
        (worker,) = psutil.Process(process.pid).children()
        began, cpu = time.monotonic(), sum(worker.cpu_times()[:2])
        while _counted(store) < events and time.monotonic() < began + LIMIT_S:
            time.sleep(0.2)
        seconds, cpu = time.monotonic() - began, sum(worker.cpu_times()[:2]) - cpu
        memory, counted = worker.memory_info().rss, _counted(store)
    finally:
        process.terminate()
        process.wait(30)
    return {
        "counted": counted,
        "scores/s": round(counted / seconds),
        "scores/s of one core": round(counted / cpu),
        "CPU-s a million": round(cpu / counted * 1e6, 2),
        "resident MB": round(memory / 1e6),
    }


def _write(bootstrap: str, names: list[str], events: int) -> None:
    schema = output_schemas().by_file("score.avsc")
    encoder, random = Encoder(schema), np.random.default_rng(1)
    for start in range(0, events, CHUNK):
        scores = random.beta(0.3, 30, CHUNK)
        columns = {
            "event_id": [f"event-{start + number}" for number in range(CHUNK)],
            "tenant": [names[number % len(names)] for number in range(CHUNK)],
            "predictor": "cards",
            "predictor_version": 3,
            "score": scores**0.2,
            "aggregate": scores,
            "generation": 1,
            "event_time": int(time.time() * 1000),
            "scored_at": int(time.time() * 1000),
            "source_topic": "perf.events",
            "source_partition": 0,
            "source_offset": np.arange(start, start + CHUNK),
            "attempt": 1,
        }
        values = encoder.encode(columns, CHUNK)
        records = (
            testing.ToSend("perf.scores", number // 500 % PARTITIONS, value, f"card{number % 5000}".encode())
            for number, value in enumerate(values)
        )
        testing.produce(bootstrap, records, {"compression.type": "lz4", "linger.ms": 20})


def _counted(store: Path) -> int:
    opened = open_store(str(store))
    found = (opened.durable(name) for name in opened.durables("counts~"))
    return sum(DayCounts.from_bytes(data).events for data in found if data)
