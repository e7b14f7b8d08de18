"""Scenario `latency`: how long an event waits for its score at 1,000 events/s, open loop.

T tenants, each with its own event topic; scores in topics of their own or in one shared topic. Gives percentiles in
milliseconds from "produced" to "visible to a read_committed reader", whether the worker kept up, and who was late.

Open loop: an event is due at its time whether or not the last one was answered, and its id carries that due time
(monotonic nanoseconds), so that a late producer counts against the result, never for it. Producer, worker and reader
are processes of their own.
"""

import multiprocessing
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from confluent_kafka import KafkaException

from muse_stream import testing
from muse_stream.avro import Encoder, SchemaDirectory
from muse_stream.testing import CommittedReader, ToSend
from perf import rig, workload
from perf.figures import Figures

RATE = 1_000
WARM_S = 45.0
DUE = re.compile(rb"\d{12,19}-\d{7}")


def produce(bootstrap: str, path: Path, tenants: int, seconds: float, partitions: int) -> None:
    """Send RATE events a second for `seconds`, spread over the tenants."""
    data = workload.read_data()
    schema = SchemaDirectory.open(path.parent / "schemas").by_file("event.avsc")
    encoder = Encoder(schema)
    count = int(RATE * seconds)
    features = {name: column[:count] for name, column in data.features.items()}
    start = time.monotonic_ns() + 500_000_000
    due = [start + number * 1_000_000_000 // RATE for number in range(count)]
    ids = [f"{at}-{number:07}" for number, at in enumerate(due)]
    values = encoder.encode({**features, "transaction_id": ids, "event_time": np.full(count, 1_700_000_000_000)}, count)

    def when_due() -> Iterator[ToSend]:
        for number, value in enumerate(values):
            while (ahead := due[number] - time.monotonic_ns()) > 0:
                time.sleep(ahead / 1e9)
            yield ToSend(f"muse.events.t{number % tenants:03}", number // tenants % partitions, value)

    testing.produce(bootstrap, when_due(), {"linger.ms": 0})


def read(bootstrap: str, topics: list[str], partitions: int, count: int, limit_s: float) -> list[tuple[int, int, int]]:
    """Return (number, due ns, seen ns) of every score."""
    seen: list[tuple[int, int, int]] = []
    end = time.monotonic() + limit_s
    with CommittedReader(bootstrap, dict.fromkeys(topics, partitions), tolerant=True) as reader:
        while len(seen) < count and time.monotonic() < end:
            for message in reader.read(0.1, most=1):
                now = time.monotonic_ns()
                if found := DUE.search(message.value() or b""):
                    due, number = found.group().split(b"-")
                    seen.append((int(number), int(due), now))
    return seen


def run(
    bootstrap: str, folder: Path, *, tenants: int, partitions: int, shared: bool, seconds: float, spare: bool = True
) -> Figures:
    """Measure; the first WARM_S seconds are not counted."""
    data = workload.read_data()
    path = workload.configure(folder, data, tenants, shared_outputs=shared)
    names = [f"t{n:03}" for n in range(tenants)]
    scores = ["muse.scores.main"] if shared else [f"muse.scores.{name}" for name in names]
    letters = ["muse.dlq.main"] if shared else [f"muse.dlq.{name}" for name in names]
    rig.create(bootstrap, dict.fromkeys([*scores, *letters, *(f"muse.events.{n}" for n in names)], partitions))
    store = rig.publish(path, folder / f"store-{time.time_ns()}")
    with rig.worker(bootstrap, store, folder / "latency.log", spare=spare):
        await_group(bootstrap, [f"muse.events.{name}" for name in names])
        context = multiprocessing.get_context("spawn")
        sender = context.Process(target=produce, args=(bootstrap, path, tenants, seconds, partitions))
        sender.start()
        seen = read(bootstrap, scores, partitions, int(RATE * seconds), seconds + 40)
        sender.join()
    took = np.array([(at - due) / 1e6 for number, due, at in seen if number >= WARM_S * RATE])
    p50, p95, p99, worst = np.percentile(took, [50, 95, 99, 100]).round(1).tolist()
    return {
        "scenario": "latency",
        "tenants": tenants,
        "partitions": partitions,
        "outputs": "shared" if shared else "own",
        "events": len(seen),
        "complete": str(len(seen) == int(RATE * seconds) and len({number for number, _, _ in seen}) == len(seen)),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "max_ms": worst,
    }


def await_group(bootstrap: str, topics: list[str], members: int = 1) -> None:
    """Wait until so many workers have the topics, so that nothing is queued up before the clock starts."""
    from confluent_kafka import ConsumerGroupState  # noqa: PLC0415
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415

    admin = AdminClient({"bootstrap.servers": bootstrap})
    end = time.monotonic() + 60
    while time.monotonic() < end:
        group = admin.describe_consumer_groups(["muse.main.live"], request_timeout=3)["muse.main.live"]
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
    raise RuntimeError("the workers did not get their partitions within 60 s")
