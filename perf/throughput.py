"""Scenarios that work a backlog off: events/s, its ratio to the echo floor of the same run, CPU and memory.

Each contender (the worker, the echo, a peer where one is asked for) drains the same event topics, in turns, REPEATS
times; given are medians, and the spread of the ratio. After each turn of the worker its answers are read: one for each
event and predictor, and a sample of the scores is what the library computes from the same columns, to the last bit.
"""

import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import fastavro
import numpy as np

from muse_stream import load
from muse_stream.config import load_document
from muse_stream.errors import MuseError
from muse_stream.runtime.answer_reader import OUTPUT_SCHEMA
from muse_stream.testing import CommittedReader, ToSend, produce
from perf import configurations, echo, rig, workload
from perf.draining import Drained, broker_process, drain, forget, serving
from perf.figures import Figures
from perf.workload import Data

PARTITIONS, REPEATS, SAMPLE = 4, 3, 2_000
FRAME = 10
TRUE_BYTES = 200
"""Answers that are read to know how large they are."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What is drained."""

    name: str
    configure: Callable[[Path, Data], Path]
    role: Literal["live", "shadow"] = "live"
    tenants: int = 1
    each: int = 1
    """Answers to an event: its score, or an audit record of each shadow."""
    workers: int = 1
    data: Callable[[], Data] = lambda: workload.read_data()  # noqa: PLW0108 - tests put another one in its place
    share: tuple[float, ...] = field(default=())
    """Of the first tenants; the others share what is left."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What was sent."""

    path: Path
    topics: dict[str, int]
    """Event topics and their partitions."""
    outputs: list[str]
    count: int
    row_of: dict[str, list[int]]
    """Of each tenant: the rows of its events."""


LIVE = Spec("live", lambda folder, data: workload.configure(folder, data, 1))


def shadow(trees: int) -> Spec:
    """A shadow worker with three shadows, two of them on the live predictor's models."""
    return Spec("shadow", lambda f, data: configurations.shadows(f, data, trees=trees), role="shadow", each=3)


def tenants(count: int, predictors: int, trees: int, name: str = "") -> Spec:
    """So many tenants with five intents each, their outputs shared."""
    return Spec(
        name or f"tenants-{count}",
        lambda folder, data: configurations.tenants(folder, data, count, predictors=predictors, trees=trees),
        tenants=count,
        data=lambda: configurations.with_intents(workload.read_data()),
    )


def skew(predictors: int, trees: int) -> Spec:
    """99 % of the events are one tenant's, the others 19 tenants'."""
    return replace(tenants(20, predictors, trees, "skew"), share=(0.99,))


def wide(trees: int, features: int = configurations.WIDE) -> Spec:
    """Events of 200 features."""
    return Spec(
        "wide",
        lambda folder, data: configurations.wide(folder, data, trees=trees),
        data=lambda: configurations.widened(workload.read_data(), features),
    )


def deep(trees: int) -> Spec:
    """Four experts of 400 trees with 63 leaves each, and a meta-model."""
    return Spec("deep", lambda folder, data: configurations.deep(folder, data, trees=trees))


def scale(workers: int) -> Spec:
    """The usual workload, with more workers."""
    return replace(LIVE, name=f"scale-{workers}", workers=workers)


def run(bootstrap: str, folder: Path, spec: Spec, count: int, repeats: int = REPEATS) -> Figures:
    """Measure."""
    data = spec.data()
    path = spec.configure(folder, data)
    sent, fill_us = _fill(bootstrap, spec, path, data, min(count, data.rows))
    expected = _Expected(spec, path, data, sent)
    store = rig.publish(path, folder / "store")
    ours: list[Drained] = []
    floor: list[Drained] = []
    for turn in range(repeats):
        ours.append(_worker(bootstrap, folder / f"{spec.name}-{turn}.log", spec, store, sent))
        size = expected.check(bootstrap)
        floor.append(_echo(bootstrap, folder / f"echo-{turn}.log", spec, sent, size))
    ratios = [one.events_per_s / other.events_per_s for one, other in zip(ours, floor, strict=True)]
    return {
        "scenario": spec.name,
        "data": data.name,
        "events": sent.count,
        "repeats": repeats,
        "checked": f"{sent.count * spec.each} answers, {len(expected.rows)} scores to the bit",
        "events_per_s": round(_median(one.events_per_s for one in ours)),
        "of_echo": round(statistics.median(ratios), 3),
        "of_echo_spread": f"{min(ratios):.3f} to {max(ratios):.3f}",
        "worker_cpu_s_per_million": round(_median(one.cpu_s_per_million for one in ours), 2),
        **_broker("broker_cpu_s_per_million", ours),
        **({} if fill_us is None else {"broker_cpu_s_per_million_sent": round(fill_us, 2)}),
        "worker_rss_mb": round(max(one.rss_mb for one in ours)),
        "answer_bytes": size,
        "event_bytes": expected.event_bytes,
        "echo_events_per_s": round(_median(one.events_per_s for one in floor)),
        "echo_cpu_s_per_million": round(_median(one.cpu_s_per_million for one in floor), 2),
        **_broker("echo_broker_cpu_s_per_million", floor),
    }


def _median(values: Any) -> float:
    return float(statistics.median(values))


def _broker(name: str, runs: Sequence[Drained]) -> Figures:
    found = [one.broker_cpu_s_per_million for one in runs if one.broker_cpu_s_per_million is not None]
    return {name: round(_median(found), 2)} if found else {}


def _fill(bootstrap: str, spec: Spec, path: Path, data: Data, count: int) -> tuple[Backlog, float | None]:
    """Send the backlog; returns the broker's CPU-seconds for a million events as well."""
    names = [f"t{number:03}" for number in range(spec.tenants)]
    partitions = PARTITIONS if spec.tenants == 1 else 1
    topics = {f"muse.events.{name}": partitions for name in names}
    rig.create(bootstrap, topics)
    tenant_of = _shares(spec, count)
    broker = broker_process(bootstrap)
    before = sum(broker.cpu_times()[:2]) if broker else 0.0
    values = enumerate(chain.from_iterable(workload.events(path, data, slice(0, count))))
    records = (ToSend(f"muse.events.{names[tenant_of[row]]}", row // 500 % partitions, value) for row, value in values)
    pace = {"compression.type": "lz4", "linger.ms": 20, "queue.buffering.max.messages": 2_000_000}
    produce(bootstrap, records, pace, timeout_s=300)
    used = (sum(broker.cpu_times()[:2]) - before) / count * 1e6 if broker else None
    row_of: dict[str, list[int]] = {name: [] for name in names}
    for row, number in enumerate(tenant_of):
        row_of[names[number]].append(row)
    document = load_document(path).document
    kinds = ("scores", "dlq") if spec.role == "live" else ("audit",)
    outputs = sorted({getattr(document.tenant_topics(name), kind) for name in names for kind in kinds})
    return Backlog(path, topics, outputs, count, row_of), used


def _shares(spec: Spec, count: int) -> list[int]:
    """Return the number of each event's tenant, seeded."""
    rest = spec.tenants - len(spec.share)
    weights = [*spec.share, *([(1 - sum(spec.share)) / rest] * rest if rest else [])]
    if spec.tenants == 1:
        return [0] * count
    return np.random.default_rng(1).choice(spec.tenants, count, p=weights).tolist()  # type: ignore[no-any-return]


def _worker(bootstrap: str, log: Path, spec: Spec, store: Path, sent: Backlog) -> Drained:
    document = load_document(sent.path).document
    group = document.group("main", spec.role)
    forget(bootstrap, group)
    rig.create(bootstrap, dict.fromkeys(sent.outputs, next(iter(sent.topics.values()))))
    command = [str(Path(sys.executable).parent / "muse-stream"), "run", "--role", spec.role, "--store", str(store)]
    command += ["--workers", str(spec.workers), "--name", "perf", "--no-spare", "--start", "earliest"]
    environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    # SIGINT leaves the group at once, so that it can be deleted
    with serving(command, log, environment, signal.SIGINT) as process:
        return drain(bootstrap, group, sent.topics, sent.count, process)


def _echo(bootstrap: str, log: Path, spec: Spec, sent: Backlog, size: int) -> Drained:
    out = f"perf.echo.{time.time_ns()}"
    rig.create(bootstrap, {out: PARTITIONS})
    command = [sys.executable, "-m", "perf.echo", bootstrap, out, str(size), str(spec.each), *sent.topics]
    with serving(command, log, os.environ, signal.SIGTERM) as process:
        return drain(bootstrap, echo.group_of(out), sent.topics, sent.count, process)


class _Expected:
    """What the answers must be."""

    def __init__(self, spec: Spec, path: Path, data: Data, sent: Backlog) -> None:
        self._spec, self._sent = spec, sent
        self._want = sorted(f"e{row}" for row in range(sent.count) for _ in range(spec.each))
        self.rows = np.linspace(0, sent.count - 1, min(SAMPLE, sent.count)).astype(int)
        tenant_of = {row: name for name, rows in sent.row_of.items() for row in rows}
        columns = {name: column[self.rows] for name, column in data.features.items()}
        texts = {name: [values[row] for row in self.rows.tolist()] for name, values in data.texts.items()}
        tenants = [tenant_of[row] for row in self.rows.tolist()]
        scores = load(path).score(columns | texts | {"tenant": tenants})["score"]
        self._scores = dict(zip((f"e{row}" for row in self.rows.tolist()), scores.tolist(), strict=True))
        first = next(workload.events(path, data, slice(0, min(TRUE_BYTES, sent.count))))
        self.event_bytes = round(statistics.mean(map(len, first)))

    def check(self, bootstrap: str) -> int:
        """Compare all answers there are; returns their mean size. Raises MuseError for any that is wrong."""
        partitions = next(iter(self._sent.topics.values()))
        topics = dict.fromkeys(self._sent.outputs, partitions)
        with CommittedReader(bootstrap, topics, {"queued.max.messages.kbytes": 65_536}) as reader:
            found = reader.read_to_end(timeout_s=120)
        refused = sum((message.topic() or "").startswith("muse.dlq") for message in found)
        if refused:
            raise MuseError(f"{self._spec.name}: {refused} events were refused")
        values = [message.value() or b"" for message in found]
        ids = [_first_text(value) for value in values]
        if sorted(ids) != self._want:
            raise MuseError(f"{self._spec.name}: {len(ids)} answers to {len(set(ids))} events, not {len(self._want)}")
        file = workload.PROJECT / "schemas" / OUTPUT_SCHEMA[self._spec.role]
        schema = fastavro.parse_schema(json.loads(file.read_text()))
        field_name = "score" if self._spec.role == "live" else "live_score"
        for event, value in zip(ids, values, strict=True):
            if event in self._scores:
                body: Any = fastavro.schemaless_reader(BytesIO(value[FRAME:]), schema)
                if body[field_name] != self._scores[event]:
                    raise MuseError(f"{self._spec.name}: {event} has {body[field_name]!r}, not {self._scores[event]!r}")
        return round(statistics.mean(map(len, values[:TRUE_BYTES])))


def _first_text(value: bytes) -> str:
    """Return the first field of a score or an audit record: the event's id, shorter than 64 bytes."""
    length = value[FRAME] >> 1
    return value[FRAME + 1 : FRAME + 1 + length].decode()
