"""Scenario `swap`: promotions and rollbacks in a row under a steady load, with three live workers.

Every second move is a promotion (the next generation is made, checked, published and made current), the others are
rollbacks. Each is made when the one before it is served by every worker. Given, for a store in a folder (`swap`) and in
Redis (`swap-redis`):

    served_s    from the moment `current` has moved until every event partition has an answer of that generation, as an
                independent reader of committed scores sees it: median and worst
    whole_s     the same, from the moment the promotion is asked for: its check and its publishing are in it
    p99         from the moment an event was due until its score was seen: of events due from a move until 0.5 s after
                it is served by all, and of the others
    rss         the largest of the workers, after the tenth move and after the last
    verify      what `muse-stream verify` says in the end

Producer and reader are processes of their own. The first seconds are not counted (perf/README.md).
"""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import fastavro
import numpy as np
import psutil
from numpy.typing import NDArray

from muse_stream import testing
from muse_stream.avro import Encoder, SchemaDirectory
from muse_stream.commands.promote import prepare
from muse_stream.control import Note, open_store, rollback
from muse_stream.errors import MuseError
from muse_stream.testing import CommittedReader, LocalRedis, ToSend
from perf import rig, workload
from perf.figures import Figures
from perf.latency import await_group

WORKERS, PARTITIONS = 3, 6
AFTER_S = 0.5
FRAME = 10
CHUNK = 2_000
TENTH = 10


def produce(bootstrap: str, path: Path, rate: int, stop: Any) -> None:
    """Send `rate` events a second until told to stop; an id begins with the time when its event was due."""
    data = workload.read_data()
    encoder = Encoder(SchemaDirectory.open(path.parent / "schemas").by_file("event.avsc"))
    start = time.monotonic_ns() + 500_000_000

    def when_due() -> Iterator[ToSend]:
        number = 0
        while not stop.is_set():
            numbers = np.arange(number, number + CHUNK)
            features = {name: column[numbers % data.rows] for name, column in data.features.items()}
            due = (start + numbers * (1_000_000_000 // rate)).tolist()
            ids = [f"{at}-{one}" for at, one in zip(due, numbers.tolist(), strict=True)]
            times = np.full(CHUNK, 1_700_000_000_000)
            for at, value in zip(
                due, encoder.encode({**features, "transaction_id": ids, "event_time": times}, CHUNK), strict=True
            ):
                if (ahead := at - time.monotonic_ns()) > 0:
                    time.sleep(ahead / 1e9)
                yield ToSend("muse.events.t000", number % PARTITIONS, value)
                number += 1

    testing.produce(bootstrap, when_due(), {"linger.ms": 0})


def read(bootstrap: str, served: Any, stop: Any, target: Path) -> None:
    """Keep in `served` which generation answered each event partition last, and when it began to.

    Saves (due ns, seen ns) of every score.
    """
    schema = fastavro.parse_schema(json.loads((workload.PROJECT / "schemas" / "score.avsc").read_text()))
    due: list[int] = []
    seen: list[int] = []
    from io import BytesIO  # noqa: PLC0415

    with CommittedReader(bootstrap, {"muse.scores.t000": PARTITIONS}, tolerant=True) as reader:
        while True:
            messages = reader.read(0.05, most=200)
            if not messages and stop.is_set():
                break
            now = time.monotonic_ns()
            for message in messages:
                body: Any = fastavro.schemaless_reader(BytesIO((message.value() or b"")[FRAME:]), schema)
                due.append(int(body["event_id"].partition("-")[0]))
                seen.append(now)
                place = 2 * body["source_partition"]
                if served[place] != body["generation"]:
                    served[place + 1] = now
                    served[place] = body["generation"]
    np.save(target, np.array([due, seen], dtype=np.int64))


def run(
    bootstrap: str,
    folder: Path,
    *,
    kind: Literal["directory", "redis"] = "directory",
    rate: int = 5_000,
    swaps: int = 100,
    warm_s: float = 45.0,
    calm_s: float = 2.0,
) -> Figures:
    """Measure."""
    path = workload.configure_two(folder, workload.read_data())
    topics = [f"muse.{kind}.t000" for kind in ("events", "scores", "dlq", "audit")]
    rig.create(bootstrap, dict.fromkeys(topics, PARTITIONS))
    context = multiprocessing.get_context("spawn")
    served, stop_sending, stop_reading = context.Array("q", 2 * PARTITIONS), context.Event(), context.Event()
    with ExitStack() as stack:
        address = str(folder / "store")
        if kind == "redis":
            os.environ |= {"MUSE_CACHE_DIR": str(folder / "cache")}
            address = stack.enter_context(LocalRedis()).url
        rig.publish(path, address)
        supervisor = stack.enter_context(rig.worker(bootstrap, address, folder / "swap.log", workers=WORKERS))
        await_group(bootstrap, ["muse.events.t000"], WORKERS)
        sender = context.Process(target=produce, args=(bootstrap, path, rate, stop_sending))
        reader = context.Process(target=read, args=(bootstrap, served, stop_reading, folder / "seen.npy"))
        for process in (sender, reader):
            process.start()
            stack.callback(process.kill)
        _served_by_all(served, 1, 60 + warm_s)
        time.sleep(warm_s)
        moves, memory = _moves(address, served, supervisor, swaps, calm_s)
        stop_sending.set()
        sender.join()
        _drained(bootstrap, address)
        stop_reading.set()
        reader.join()
        verified = _verify(bootstrap, address)
    return _figures(kind, rate, moves, memory, np.load(folder / "seen.npy"), verified)


Moved = tuple[str, int, int, int]
"""What it was; when it was asked for, when `current` moved, and when it was served by all, in ns."""


def _moves(address: str, served: Any, supervisor: int, swaps: int, calm_s: float) -> tuple[list[Moved], list[int]]:
    moves: list[Moved] = []
    memory: list[int] = []
    store = open_store(address)
    for number in range(swaps):
        time.sleep(calm_s)
        asked = time.monotonic_ns()
        if number % 2 == 0:
            prepared = prepare("second", store=address)
            assert prepared is not None  # noqa: S101  # the first predictor is live
            now = prepared.publish(Note("perf")).number
            prepared.close()
        else:
            now = rollback(store, note=Note("perf"))
        moved = time.monotonic_ns()
        moves.append(("promotion" if number % 2 == 0 else "rollback", asked, moved, _served_by_all(served, now, 60)))
        memory.append(max(child.memory_info().rss for child in psutil.Process(supervisor).children()))
    store.close()
    return moves, memory


def _served_by_all(served: Any, generation: int, limit_s: float) -> int:
    """Wait until the latest answer in every partition is of this generation; returns since when."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        state = served[:]
        if all(one == generation for one in state[::2]):
            return int(max(state[1::2]))
        time.sleep(0.005)
    raise MuseError(f"generation {generation} is not served by all within {limit_s:g} s: {served[::2]}")


def _drained(bootstrap: str, address: str) -> None:
    """Wait until the workers have answered everything."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if not _verify(bootstrap, address, "--upto", "end"):
            return
        time.sleep(1.0)


def _verify(bootstrap: str, address: str, *options: str) -> str:
    """Return what `verify` has found; nothing where all is well."""
    command = [str(Path(sys.executable).parent / "muse-stream"), "verify", address, "--json", "--no-audit", *options]
    environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise MuseError(done.stderr)
    found = [f"{one['count']} {one['kind']}" for report in json.loads(done.stdout) for one in report["findings"]]
    return ", ".join(found)


def _figures(
    kind: str, rate: int, moves: list[Moved], memory: list[int], times: NDArray[np.int64], verified: str
) -> Figures:
    due, took = times[0], (times[1] - times[0]) / 1e6
    counted = due >= moves[0][1] - 2_000_000_000
    during = np.zeros(len(due), dtype=bool)
    for _, asked, _, served in moves:
        during |= (due >= asked) & (due <= served + AFTER_S * 1e9)
    p99_steady, p99_swap = (float(np.percentile(took[chosen & counted], 99).round(1)) for chosen in (~during, during))
    after = [(served - moved) / 1e9 for _, _, moved, served in moves]
    whole = [(served - asked) / 1e9 for what, asked, _, served in moves if what == "promotion"]
    tenth = memory[min(TENTH, len(memory)) - 1]
    return {
        "scenario": "swap" if kind == "directory" else "swap-redis",
        "events": len(due),
        "events_per_s": rate,
        "workers": WORKERS,
        "moves": len(moves),
        "load_average": round(os.getloadavg()[0], 1),
        "served_s_median": round(statistics.median(after), 2),
        "served_s_worst": round(max(after), 2),
        "whole_promotion_s_median": round(statistics.median(whole), 2),
        "whole_promotion_s_worst": round(max(whole), 2),
        "p99_ms_steady": p99_steady,
        "p99_ms_during_swaps": p99_swap,
        "p99_ratio": round(p99_swap / p99_steady, 2),
        "rss_mb_after_tenth": round(tenth / 1e6),
        "rss_mb_after_last": round(memory[-1] / 1e6),
        "rss_ratio": round(memory[-1] / tenth, 3),
        "verify": verified or "nothing wrong",
    }
