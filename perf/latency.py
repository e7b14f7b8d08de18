"""How long an event waits for its score, open loop: scenarios `latency`, `latency-60-*` and `tenants-latency`.

Gives percentiles in milliseconds from "due" to "visible to a read_committed reader", and the CPU that supervisor and
workers take, in % of a core. Open loop: an event is due at its time whether or not the last one was answered, and its
id carries that time (monotonic nanoseconds), so that a late producer or a worker that stands still counts against the
result, never for it (no coordinated omission). Producer, worker and reader are processes of their own.

    latency            100, 1,000, 5,000 and 20,000 events/s one after the other, 1 tenant, 4 partitions
    tenants-latency    1,000 events/s over 1 and over 100 tenants of five intents each, with shared outputs and own ones
    latency-60-*       1,000 events/s over 60 tenants, 1 predictor
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from confluent_kafka import KafkaException
from numpy.typing import NDArray

from muse_stream import testing
from muse_stream.avro import Encoder, SchemaDirectory
from muse_stream.config import load_document
from muse_stream.errors import MuseError
from muse_stream.testing import CommittedReader, ToSend
from perf import configurations, rig, workload
from perf.draining import broker_process, cpu_s
from perf.figures import Figures
from perf.workload import Data

FRAME = 10
RATE = 1_000
ROWS = 100_000
"""Of the events: they come round again."""
WARM_CPU_S = 45.0
"""A JVM spends most of a core compiling itself until then: p99 is about 50 ms meanwhile."""
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9, "max": 100.0}
TICK_NS = 500_000
AFTER_S = 30.0


@dataclass(frozen=True, slots=True)
class Phase:
    """A time at one rate."""

    rate: int
    seconds: float
    name: str = ""
    """Of its figures; without one it is not counted."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a reader of committed scores saw."""

    number: NDArray[np.int64]
    due: NDArray[np.int64]
    at: NDArray[np.int64]
    """When, in monotonic nanoseconds."""
    bounds: list[int]
    """Where phases begin, in the same clock, and where the last one ends."""
    busy_s: list[float]
    """CPU of all processes of the run at these times."""
    sent: int

    def waited_ms(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return how long some of them took."""
        return np.asarray((self.at - self.due)[chosen] / 1e6)

    def during(self, phase: int) -> NDArray[np.bool_]:
        """Tell which were due in a phase."""
        return np.asarray((self.due >= self.bounds[phase]) & (self.due < self.bounds[phase + 1]))

    def check(self) -> None:
        """Raise MuseError unless each event was answered once."""
        distinct = len(np.unique(self.number))
        if not distinct == len(self.number) == self.sent:
            raise MuseError(f"{len(self.number)} answers to {distinct} events, not to {self.sent}")


def warm_s(bootstrap: str, most_s: float = 45.0) -> float:
    """Return for how long a broker is warmed up: a moment when it has worked already."""
    broker = broker_process(bootstrap)
    return min(5.0, most_s) if broker and cpu_s(broker) > WARM_CPU_S else most_s


def produce(
    bootstrap: str, path: Path, data: Data, topics: Sequence[str], partitions: int, phases: Sequence[Phase], begun: Any
) -> None:
    """Send what is due, spread over the topics; `begun` is told when the first phase begins (monotonic ns)."""
    encoder = Encoder(SchemaDirectory.open(path.parent / "schemas").by_file("event.avsc"))
    values = encoder.encode(_columns(data), data.rows)
    after = _due_after(phases).tolist()
    start = begun.value = time.monotonic_ns() + 500_000_000

    def when_due() -> Iterator[ToSend]:
        for number, offset in enumerate(after):
            due = start + offset
            while (ahead := due - time.monotonic_ns()) > 0:
                time.sleep(max(ahead, TICK_NS) / 1e9)
            value = values[number % len(values)]
            event_id = b"%020d-%08d" % (due, number)
            yield ToSend(
                topics[number % len(topics)],
                number // len(topics) % partitions,
                value[: FRAME + 1] + event_id + value[FRAME + 1 + len(event_id) :],
            )

    slow = max(phase.rate for phase in phases) <= 1_000
    testing.produce(bootstrap, when_due(), {"linger.ms": 0 if slow else 1})


def _columns(data: Data) -> dict[str, Any]:
    """Return columns of events whose ids are put in when they are sent."""
    return {
        **data.features,
        **data.texts,
        "transaction_id": [f"{0:020}-{0:08}"] * data.rows,
        "event_time": np.full(data.rows, 1_700_000_000_000),
    }


def _due_after(phases: Sequence[Phase]) -> NDArray[np.int64]:
    """Return when each event is due, in ns after the start."""
    found, begin = [], 0
    for phase in phases:
        found.append(begin + np.arange(int(phase.rate * phase.seconds)) * (1_000_000_000 // phase.rate))
        begin += int(phase.seconds * 1e9)
    return np.concatenate(found)


def watch(
    bootstrap: str,
    path: Path,
    data: Data,
    phases: Sequence[Phase],
    process: psutil.Process,
    *,
    partitions: int,
    tenants: Sequence[str] = (),
    at_start: Callable[[int], None] = lambda _start: None,
) -> Seen:
    """Send events to `tenants` (all of the configuration by default) and read their scores.

    `process` is the run, whose CPU is looked at between phases; `at_start` is told when the first one begins.
    """
    document = load_document(path).document
    names = list(tenants or document.tenants)
    topics = [document.tenant_topics(name).events for name in names]
    scores = sorted({document.tenant_topics(name).scores for name in names})
    context = multiprocessing.get_context("spawn")
    begun = context.Value("q", 0)
    sender = context.Process(
        target=produce, args=(bootstrap, path, first_rows(data), topics, partitions, phases, begun)
    )
    sender.start()
    try:
        while not begun.value:
            if not sender.is_alive():
                raise MuseError("the producer has ended before it sent anything")
            time.sleep(0.01)
        at_start(begun.value)
        bounds = [begun.value + round(sum(one.seconds for one in phases[:at]) * 1e9) for at in range(len(phases) + 1)]
        sent = sum(int(one.rate * one.seconds) for one in phases)
        return _read(bootstrap, dict.fromkeys(scores, partitions), bounds, process, sent)
    finally:
        sender.kill()
        sender.join()


def first_rows(data: Data) -> Data:
    """Return the rows that are sent, round and round."""
    return Data(
        data.name,
        {name: column[:ROWS] for name, column in data.features.items()},
        data.label[:ROWS],
        {name: values[:ROWS] for name, values in data.texts.items()},
    )


def _read(bootstrap: str, topics: dict[str, int], bounds: list[int], process: psutil.Process, sent: int) -> Seen:
    ids: list[bytes] = []
    at: list[int] = []
    busy: list[float] = []
    size = len(b"%020d-%08d" % (0, 0))
    with CommittedReader(bootstrap, topics, tolerant=True) as reader:
        while len(ids) < sent or len(busy) < len(bounds):
            # what has come is taken at once; waiting for several would hold the first one back
            messages = reader.read(0.05, most=1)
            now = time.monotonic_ns()
            if messages:
                messages += reader.read(0.0)
            ids += [(message.value() or b"")[FRAME + 1 : FRAME + 1 + size] for message in messages]
            at += [now] * len(messages)
            while len(busy) < len(bounds) and now >= bounds[len(busy)]:
                busy.append(cpu_s(process))
            if now > bounds[-1] + AFTER_S * 1e9:
                break
    busy += [busy[-1]] * (len(bounds) - len(busy))
    due, number = np.array([one.split(b"-") for one in ids], dtype=np.int64).reshape(-1, 2).T
    return Seen(number, due, np.array(at), bounds, busy, sent)


def figures(seen: Seen, phases: Sequence[Phase]) -> Figures:
    """Return the percentiles of the phases that are counted, and what they cost."""
    found: Figures = {}
    for number, phase in enumerate(phases):
        if not phase.name:
            continue
        key = f"_{phase.name}" if phase.name != "all" else ""
        took = seen.waited_ms(seen.during(number))
        for name, percent in PERCENTILES.items():
            found[f"{name}_ms{key}"] = round(float(np.percentile(took, percent)), 1)
        used = seen.busy_s[number + 1] - seen.busy_s[number]
        found[f"cpu_percent{key}"] = round(used / phase.seconds * 100, 1)
    return found


def run(
    bootstrap: str, folder: Path, rates: Sequence[int], settle_s: float, counted_s: float, warm_most_s: float
) -> Figures:
    """Measure one tenant at several rates."""
    data = workload.read_data()
    path = workload.configure(folder, data, 1)
    phases = [Phase(RATE, warm_s(bootstrap, warm_most_s))]
    for rate in rates:
        phases += [Phase(rate, settle_s), Phase(rate, counted_s, str(rate))]
    seen = measured(bootstrap, folder, path, data, phases, partitions=4)
    head: Figures = {"scenario": "latency", "events": seen.sent, "checked": "each answered once"}
    return head | figures(seen, phases)


def run_sixty(
    bootstrap: str, folder: Path, *, shared: bool, counted_s: float, warm_most_s: float, tenants: int = 60
) -> Figures:
    """Measure many tenants at 1,000 events/s."""
    data = workload.read_data()
    path = workload.configure(folder, data, tenants, shared_outputs=shared)
    phases = [Phase(RATE, warm_s(bootstrap, warm_most_s)), Phase(RATE, counted_s, "all")]
    seen = measured(bootstrap, folder, path, data, phases, partitions=1)
    head: Figures = {
        "scenario": f"latency-{tenants}-{'shared' if shared else 'own'}",
        "tenants": tenants,
        "partitions": 1,
        "outputs": "shared" if shared else "own",
        "events": seen.sent,
        "checked": "each answered once",
    }
    return head | figures(seen, phases)


def run_tenants(
    bootstrap: str, folder: Path, *, many: int, predictors: int, trees: int, counted_s: float, warm_most_s: float
) -> Figures:
    """Measure one tenant, many with shared outputs, and many with outputs of their own, at the same total rate."""
    data = configurations.with_intents(workload.read_data())
    found: Figures = {"scenario": "tenants-latency", "tenants": many, "events_per_s": RATE}
    warm = warm_s(bootstrap, warm_most_s)
    for name, count in (("one", 1), ("shared", many), ("own", many)):
        (folder / name).mkdir()
        path = configurations.tenants(folder / name, data, count, predictors=predictors, trees=trees)
        if name == "own":
            path = configurations.with_own_outputs(path)
        phases = [Phase(RATE, warm), Phase(RATE, counted_s, name)]
        found |= figures(measured(bootstrap, folder / name, path, data, phases, partitions=1), phases)
        warm = min(warm, 5.0)
    ratio = float(found["p99_ms_shared"]) / float(found["p99_ms_one"])
    return found | {"p99_shared_of_one": round(ratio, 2), "checked": "each answered once"}


def measured(bootstrap: str, folder: Path, path: Path, data: Data, phases: Sequence[Phase], *, partitions: int) -> Seen:
    """Run one worker on a configuration whose topics are made anew; each event must be answered once."""
    document = load_document(path).document
    named = [document.tenant_topics(name) for name in document.tenants]
    topics = {topic for one in named for topic in (one.events, one.scores, one.dlq)}
    rig.create(bootstrap, dict.fromkeys(sorted(topics), partitions))
    rig.forget(bootstrap)
    store = rig.publish(path, folder / f"store-{time.time_ns()}")
    with rig.worker(bootstrap, store, folder / "worker.log", spare=True) as pid:
        await_group(bootstrap, [one.events for one in named])
        seen = watch(bootstrap, path, data, phases, psutil.Process(pid), partitions=partitions)
    seen.check()
    return seen


def await_group(bootstrap: str, topics: list[str], members: int = 1, group_id: str = "muse.main.live") -> None:
    """Wait until so many workers have the topics, so that nothing is queued up before the clock starts."""
    from confluent_kafka import ConsumerGroupState  # noqa: PLC0415
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415

    admin = AdminClient({"bootstrap.servers": bootstrap})
    end = time.monotonic() + 60
    while time.monotonic() < end:
        group = admin.describe_consumer_groups([group_id], request_timeout=3)[group_id]
        try:
            state = group.result()
        except KafkaException:  # the group, or on a new broker the topic of all groups, does not exist yet
            time.sleep(0.2)
            continue
        given = [member.assignment.topic_partitions if member.assignment else [] for member in state.members]
        held = {place.topic for places in given for place in places}
        busy = sum(1 for places in given if places)
        if state.state == ConsumerGroupState.STABLE and held >= set(topics) and busy >= members:
            time.sleep(1.0)
            return
        time.sleep(0.2)
    raise MuseError("the workers did not get their partitions within 60 s")
