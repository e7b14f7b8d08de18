"""Scenarios that work a backlog off: events/s, its ratio to the echo floor of the same run, CPU and memory.

The contenders (workers, the echo, peers where they are asked for) drain in turns, REPEATS times; given are medians, and
the spread of the ratios, each taken within one turn. After each turn of a worker its answers are read: one for each
event and predictor, and a sample of the scores is what the library computes from the same columns, to the last bit; a
peer's scores are to differ by PEER_TOLERANCE at most, since it runs the model on one event at a time.
"""

import json
import os
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import fastavro
import numpy as np

from muse_stream import load
from muse_stream.config import load_document
from muse_stream.errors import MuseError
from muse_stream.runtime.answer_reader import OUTPUT_SCHEMA
from muse_stream.testing import CommittedReader, ToSend, produce
from perf import configurations, echo, peers, rig, workload
from perf.draining import Drained, broker_process, drain, forget, serving
from perf.figures import Figures
from perf.workload import Data

PARTITIONS, REPEATS, SAMPLE = 4, 3, 2_000
PEER_TOLERANCE = 1e-6
ECHO = "echo"
"""Of the events of the first contender."""
FRAME = 10
TRUE_BYTES = 200
"""Answers that are read to know how large they are."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What is drained, by what."""

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
    prefix: str = "t"
    """Of the tenants' names: backlogs of one scenario stand beside each other."""
    change: Callable[[Path], Path] | None = None
    """Of a second contender for the events of the first: writes its configuration beside the first's."""


class Ratio(NamedTuple):
    """A figure of a contest: one contender against another, turn by turn."""

    key: str
    of: str
    to: str
    what: Literal["events_per_s", "cpu_s_per_million"] = "events_per_s"


@dataclass(frozen=True, slots=True)
class Contest:
    """Contenders that drain in turns; figures of the first have plain names, those of others begin with theirs."""

    specs: tuple[Spec, ...]
    ratios: tuple[Ratio, ...] = ()
    peers: tuple[str, ...] = ()
    """Of perf/peers: they drain the events of the first."""
    peers_share: float = 1.0
    """Of the events: what a peer is given that would take minutes for all of them."""

    @property
    def name(self) -> str:
        """Of the first, and so of the scenario."""
        return self.specs[0].name


@dataclass(frozen=True, slots=True)
class Backlog:
    """What was sent."""

    path: Path
    topics: dict[str, int]
    """Event topics and their partitions."""
    count: int
    row_of: dict[str, list[int]]
    """Of each tenant: the rows of its events."""
    data: Data
    broker_us: float | None
    """CPU-seconds that the broker took for a million of them."""


@dataclass(frozen=True, slots=True)
class _Contender:
    """A worker's configuration, published, and what its answers must be."""

    spec: Spec
    path: Path
    store: Path
    sent: Backlog
    outputs: list[str]
    expected: "_Expected"


LIVE = Spec("live", lambda folder, data: workload.configure(folder, data, 1))


def compiled(name: str = "compiled") -> Spec:
    """The events of the first, its trees as native code: as fast as they get."""

    def change(path: Path) -> Path:
        other = workload.rebacked(path, "auto")
        workload.optimise(other)
        return other

    return Spec(name, LIVE.configure, change=change)


def decimal() -> Spec:
    """Events with decimal amounts, a UUID as id, one as `fixed`, timestamps in microseconds, an enum."""
    return Spec("live-decimal", lambda folder, data: workload.configure(folder, data, 1, decimal=True), prefix="d")


def shadow(trees: int) -> Spec:
    """A shadow worker with three shadows, two of them on the live predictor's models."""
    return Spec("shadow", lambda f, data: configurations.shadows(f, data, trees=trees), role="shadow", each=3)


def tenants(count: int, predictors: int, trees: int, name: str = "", prefix: str = "t") -> Spec:
    """So many tenants with five intents each, their outputs shared."""
    return Spec(
        name or f"tenants-{count}",
        lambda folder, data: configurations.tenants(
            folder, data, count, predictors=predictors, trees=trees, prefix=prefix
        ),
        tenants=count,
        data=lambda: configurations.with_intents(workload.read_data()),
        prefix=prefix,
    )


def own_outputs(of: Spec, name: str) -> Spec:
    """The events of the first, output topics of its own for each tenant."""
    return replace(of, name=name, change=configurations.with_own_outputs)


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


def run(bootstrap: str, folder: Path, contest: Contest, count: int, repeats: int = REPEATS) -> Figures:
    """Measure."""
    contenders: list[_Contender] = []
    for spec in contest.specs:
        contenders.append(_prepare(bootstrap, folder / spec.name, spec, count, contenders[:1]))
    first = contenders[0]
    running, missing = peers.prepare(contest.peers)
    part = max(1, round(first.sent.count * contest.peers_share))
    drained: dict[str, list[Drained]] = defaultdict(list)
    size: dict[str, int] = {}
    for turn in range(repeats):
        for one in contenders:
            name = one.spec.name
            run_of = _worker(bootstrap, folder / f"{name}-{turn}.log", one)
            drained[name].append(run_of)
            size[name] = one.expected.check(bootstrap, one.outputs)
        drained[ECHO].append(_echo(bootstrap, folder / f"echo-{turn}.log", first, size[contest.name]))
        for peer in running:
            drained[peer.name].append(_peer(bootstrap, folder, peer, first, part, turn, size[contest.name]))
    figures: Figures = {
        "scenario": contest.name,
        "data": first.sent.data.name,
        "events": first.sent.count,
        "repeats": repeats,
        "checked": f"{first.sent.count * first.spec.each} answers, {len(first.expected.rows)} scores to the bit",
        "answer_bytes": size[contest.name],
        "event_bytes": first.expected.event_bytes,
    }
    if first.sent.broker_us is not None:
        figures["broker_cpu_s_per_million_sent"] = round(first.sent.broker_us, 2)
    figures |= _workers(contest, contenders, drained) | _floor(drained[ECHO])
    for peer in running:
        figures |= {f"{_key(peer.name)}_version": peer.version} if peer.version else {}
        figures[f"{_key(peer.name)}_events"] = part
        figures |= _beside(peer.name, contenders, drained)
    return figures | {_key(name): f"not measured: {why}" for name, why in missing.items()}


def _workers(contest: Contest, contenders: Sequence[_Contender], drained: Mapping[str, list[Drained]]) -> Figures:
    """Return the figures of each configuration of the product, and how they compare."""
    found: Figures = {}
    for one in contenders:
        found |= _of(one.spec.name, drained, "" if one is contenders[0] else f"{_key(one.spec.name)}_")
    for ratio in contest.ratios:
        found |= _ratio(ratio.key, drained[ratio.of], drained[ratio.to], ratio.what)
    return found


def _beside(peer: str, contenders: Sequence[_Contender], drained: Mapping[str, list[Drained]]) -> Figures:
    """Return the figures of a peer, and how many times as fast as it the product is."""
    first = contenders[0].spec.name
    found = _of(peer, drained, f"{_key(peer)}_")
    for one in contenders:
        name = one.spec.name
        key = f"of_{_key(peer)}" if name == first else f"{_key(name)}_of_{_key(peer)}"
        found |= _ratio(key, drained[name], drained[peer])
    return found


def _key(name: str) -> str:
    return name.replace("-", "_")


def _of(name: str, drained: Mapping[str, list[Drained]], prefix: str) -> Figures:
    """Return the figures of one contender."""
    ours = drained[name]
    rates = [one.events_per_s for one in ours]
    return {
        f"{prefix}events_per_s": round(_median(rates)),
        f"{prefix}events_per_s_spread": f"{min(rates):.0f} to {max(rates):.0f}",
        **_ratio(f"{prefix}of_echo", ours, drained[ECHO]),
        f"{prefix}worker_cpu_s_per_million": round(_median(one.cpu_s_per_million for one in ours), 2),
        **_broker(f"{prefix}broker_cpu_s_per_million", ours),
        f"{prefix}worker_rss_mb": round(max(one.rss_mb for one in ours)),
    }


def _ratio(key: str, ours: Sequence[Drained], theirs: Sequence[Drained], what: str = "events_per_s") -> Figures:
    ratios = [getattr(one, what) / getattr(other, what) for one, other in zip(ours, theirs, strict=True)]
    return {key: round(statistics.median(ratios), 3), f"{key}_spread": f"{min(ratios):.3f} to {max(ratios):.3f}"}


def _floor(floor: Sequence[Drained]) -> Figures:
    return {
        "echo_events_per_s": round(_median(one.events_per_s for one in floor)),
        "echo_cpu_s_per_million": round(_median(one.cpu_s_per_million for one in floor), 2),
        **_broker("echo_broker_cpu_s_per_million", floor),
    }


def _prepare(bootstrap: str, folder: Path, spec: Spec, count: int, first: Sequence[_Contender]) -> _Contender:
    """Write and publish a configuration; send its events, unless it takes those of the first."""
    folder.mkdir()
    if spec.change is None:
        data = spec.data()
        path = spec.configure(folder, data)
        sent = _fill(bootstrap, spec, path, data, min(count, data.rows))
    else:
        path, sent = spec.change(first[0].path), first[0].sent
    document = load_document(path).document
    kinds = ("scores", "dlq") if spec.role == "live" else ("audit",)
    outputs = sorted({getattr(document.tenant_topics(name), kind) for name in sent.row_of for kind in kinds})
    store = rig.publish(path, folder / "store")
    return _Contender(spec, path, store, sent, outputs, _Expected(spec, path, sent))


def _median(values: Any) -> float:
    return float(statistics.median(values))


def _broker(name: str, runs: Sequence[Drained]) -> Figures:
    found = [one.broker_cpu_s_per_million for one in runs if one.broker_cpu_s_per_million is not None]
    return {name: round(_median(found), 2)} if found else {}


def _fill(bootstrap: str, spec: Spec, path: Path, data: Data, count: int) -> Backlog:
    """Send the backlog."""
    names = [f"{spec.prefix}{number:03}" for number in range(spec.tenants)]
    partitions = PARTITIONS if spec.tenants == 1 else 1
    topics = {f"muse.events.{name}": partitions for name in names}
    rig.create(bootstrap, topics)
    tenant_of = _shares(spec, count)
    broker = broker_process(bootstrap)
    before = sum(broker.cpu_times()[:2]) if broker else 0.0
    values = enumerate(chain.from_iterable(workload.events(path, data, slice(0, count))))
    records = (ToSend(f"muse.events.{names[tenant_of[row]]}", row // 500 % partitions, value) for row, value in values)
    produce(bootstrap, records, rig.FLAT_OUT, timeout_s=300)
    used = (sum(broker.cpu_times()[:2]) - before) / count * 1e6 if broker else None
    row_of: dict[str, list[int]] = {name: [] for name in names}
    for row, number in enumerate(tenant_of):
        row_of[names[number]].append(row)
    return Backlog(path, topics, count, row_of, data, used)


def _shares(spec: Spec, count: int) -> list[int]:
    """Return the number of each event's tenant, seeded."""
    rest = spec.tenants - len(spec.share)
    weights = [*spec.share, *([(1 - sum(spec.share)) / rest] * rest if rest else [])]
    if spec.tenants == 1:
        return [0] * count
    return np.random.default_rng(1).choice(spec.tenants, count, p=weights).tolist()  # type: ignore[no-any-return]


def _worker(bootstrap: str, log: Path, one: _Contender) -> Drained:
    spec, sent = one.spec, one.sent
    group = load_document(one.path).document.group("main", spec.role)
    forget(bootstrap, group)
    rig.create(bootstrap, dict.fromkeys(one.outputs, next(iter(sent.topics.values()))))
    command = [str(Path(sys.executable).parent / "muse-stream"), "run", "--role", spec.role, "--store", str(one.store)]
    command += ["--workers", str(spec.workers), "--name", "perf", "--no-spare", "--start", "earliest"]
    environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    # SIGINT leaves the group at once, so that it can be deleted
    with serving(command, log, environment, signal.SIGINT) as process:
        return drain(bootstrap, group, sent.topics, sent.count, process)


def _echo(bootstrap: str, log: Path, one: _Contender, size: int) -> Drained:
    out = f"perf.echo.{time.time_ns()}"
    rig.create(bootstrap, {out: PARTITIONS})
    command = [sys.executable, "-m", "perf.echo", bootstrap, out, str(size), str(one.spec.each), *one.sent.topics]
    with serving(command, log, os.environ, signal.SIGTERM) as process:
        return drain(bootstrap, echo.group_of(out), one.sent.topics, one.sent.count, process)


def _peer(
    bootstrap: str, folder: Path, peer: peers.Peer, first: _Contender, count: int, turn: int, size: int
) -> Drained:
    out = f"perf.{peer.name}.{time.time_ns()}"
    rig.create(bootstrap, {out: PARTITIONS})
    (topic,) = first.sent.topics
    settings = peers.write(folder / f"{out}.json", bootstrap, topic, out, first.path, score_bytes=size)
    log = folder / f"{peer.name}-{turn}.log"
    with serving([*peer.command, str(settings)], log, os.environ | peer.environment, signal.SIGTERM) as process:
        done = drain(bootstrap, peer.group(out), first.sent.topics, count, process)
    if peer.answers:
        first.expected.check_peer(bootstrap, out, count)
    return done


class _Expected:
    """What the answers must be."""

    def __init__(self, spec: Spec, path: Path, sent: Backlog) -> None:
        self._spec, self._sent, data = spec, sent, sent.data
        first = next(workload.events(path, data, slice(0, min(TRUE_BYTES, sent.count))))
        self.event_bytes = round(statistics.mean(map(len, first)))
        self._decimal = workload.is_decimal(path)
        self._want = sorted(self._id(row) for row in range(sent.count) for _ in range(spec.each))
        self.rows = np.linspace(0, sent.count - 1, min(SAMPLE, sent.count)).astype(int)
        tenant_of = {row: name for name, rows in sent.row_of.items() for row in rows}
        columns = {name: column[self.rows] for name, column in data.features.items()}
        texts = {name: [values[row] for row in self.rows.tolist()] for name, values in data.texts.items()}
        tenants = [tenant_of[row] for row in self.rows.tolist()]
        scores = load(path).score(workload.as_streamed(path, columns) | texts | {"tenant": tenants})["score"]
        self._scores = dict(zip(map(self._id, self.rows.tolist()), scores.tolist(), strict=True))

    def _id(self, row: int) -> str:
        return workload.event_id(row, decimal=self._decimal)

    def check(self, bootstrap: str, outputs: Sequence[str]) -> int:
        """Compare all answers there are; returns their mean size. Raises MuseError for any that is wrong."""
        values = self._read(bootstrap, dict.fromkeys(outputs, next(iter(self._sent.topics.values()))))
        ids = [_first_text(value) for value in values]
        if sorted(ids) != self._want:
            raise MuseError(f"{self._spec.name}: {len(ids)} answers to {len(set(ids))} events, not {len(self._want)}")
        self._compare(self._spec.name, ids, values, 0.0)
        return round(statistics.mean(map(len, values[:TRUE_BYTES])))

    def check_peer(self, bootstrap: str, out: str, count: int) -> None:
        """Compare what a peer has answered until it was stopped: `count` events at least, each of them once."""
        values = self._read(bootstrap, {out: PARTITIONS})
        ids = [_first_text(value) for value in values]
        if len(ids) < count or len(set(ids)) != len(ids) or not set(ids) <= set(self._want):
            raise MuseError(f"{out}: {len(ids)} answers to {len(set(ids))} events, not to {count} or more")
        self._compare(out, ids, values, PEER_TOLERANCE)

    def _read(self, bootstrap: str, topics: dict[str, int]) -> list[bytes]:
        with CommittedReader(bootstrap, topics, {"queued.max.messages.kbytes": 65_536}) as reader:
            found = reader.read_to_end(timeout_s=120)
        if refused := sum((message.topic() or "").startswith("muse.dlq") for message in found):
            raise MuseError(f"{self._spec.name}: {refused} events were refused")
        return [message.value() or b"" for message in found]

    def _compare(self, name: str, ids: list[str], values: list[bytes], tolerance: float) -> None:
        file = workload.PROJECT / "schemas" / OUTPUT_SCHEMA[self._spec.role]
        schema = fastavro.parse_schema(json.loads(file.read_text()))
        field_name = "score" if self._spec.role == "live" else "live_score"
        for event, value in zip(ids, values, strict=True):
            if event in self._scores:
                body: Any = fastavro.schemaless_reader(BytesIO(value[FRAME:]), schema)
                if abs(body[field_name] - self._scores[event]) > tolerance:
                    raise MuseError(f"{name}: {event} has {body[field_name]!r}, not {self._scores[event]!r}")


def _first_text(value: bytes) -> str:
    """Return the first field of a score or an audit record: the event's id, shorter than 64 bytes."""
    length = value[FRAME] >> 1
    return value[FRAME + 1 : FRAME + 1 + length].decode()
