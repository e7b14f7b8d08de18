"""The independent reader: reads topics while workers are being killed, and judges at the end.

It keeps what a read_committed reader saw, as it came, and counts `broken_promises`. It shares nothing with the workers:
`testing.CommittedReader`, fastavro, no group. A worker's own reading of its success counts for nothing.
"""

import io
import json
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro

from muse_stream.testing import CommittedReader
from tests.patience import until

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
FRAME = 10  # bytes of the single-object frame


@dataclass(frozen=True)
class Seen:
    """One committed answer."""

    topic: str
    partition: int
    source: tuple[str, int, int]
    """Event topic, partition, offset."""
    body: dict[str, Any]


class Witness:
    """Reads answers and dead letters until stopped. `schema` is that of the answers: score.avsc or audit.avsc.

    `settings` are further settings of the consumer, for a broker that asks who reads; `tolerant` bears an absent one.
    """

    def __init__(
        self,
        bootstrap: str,
        answers: Sequence[str],
        dead: Sequence[str],
        partitions: int,
        schema: str,
        *,
        tolerant: bool = False,
        **settings: str,
    ) -> None:
        self.decode = Decoding(dead, schema)
        topics = dict.fromkeys([*answers, *dead], partitions)
        pace = {"log_level": 0, "fetch.wait.max.ms": 50}
        self._reader = CommittedReader(bootstrap, topics, pace | settings, tolerant=tolerant)
        self.seen: list[Seen] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Witness":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._reader.close()

    def wait_for(self, count: int, timeout_s: float) -> None:
        """Return when `count` answers have been seen; fails when they do not come."""
        until(lambda: len(self.seen) >= count, timeout_s, lambda: f"{len(self.seen)} of {count} answers")

    def _read(self) -> None:
        while not self._stop.is_set():
            self.seen += map(self.decode, self._reader.read(0.1, 1_000))


class Decoding:
    """Turns a message of an output topic into what it says; `dead` are the topics of dead letters."""

    def __init__(self, dead: Sequence[str], schema: str) -> None:
        self._schema = fastavro.parse_schema(json.loads((SCHEMAS / schema).read_text(encoding="utf-8")))
        self._dead = frozenset(dead)

    def __call__(self, message: Any) -> Seen:
        if message.topic() in self._dead:
            headers = {name: value.decode() for name, value in message.headers() if name.startswith("muse.")}
            source = (
                headers["muse.source.topic"],
                int(headers["muse.source.partition"]),
                int(headers["muse.source.offset"]),
            )
            return Seen(message.topic(), message.partition(), source, headers)
        body: Any = fastavro.schemaless_reader(io.BytesIO(message.value()[FRAME:]), self._schema)
        source = (body["source_topic"], body["source_partition"], body["source_offset"])
        return Seen(message.topic(), message.partition(), source, body)


def broken_promises(seen: Sequence[Seen], inputs: dict[tuple[str, int], int], *, answers_each: int = 1) -> list[str]:
    """Return what is wrong: `inputs` gives the number of events in each event partition (offsets from 0, no gaps)."""
    problems = []
    counts = Counter((one.source, one.body.get("predictor") if answers_each > 1 else None) for one in seen)
    doubled = [source for source, count in counts.items() if count > 1]
    if doubled:
        problems.append(f"{len(doubled)} answered more than once, e.g. {doubled[0]}")
    there = {(topic, partition, offset) for (topic, partition), count in inputs.items() for offset in range(count)}
    answered = Counter(one.source for one in seen)
    missing = [source for source in there if answered[source] < answers_each]
    if missing:
        problems.append(f"{len(missing)} without an answer, e.g. {sorted(missing)[0]}")
    foreign = set(answered) - there
    if foreign:
        problems.append(f"{len(foreign)} answers to nothing, e.g. {sorted(foreign)[0]}")
    return problems + _disorder(seen)


def _disorder(seen: Sequence[Seen]) -> list[str]:
    last: dict[tuple[Any, ...], int] = {}
    for one in seen:
        topic, partition, offset = one.source
        lane = (one.topic, one.partition, topic, partition, one.body.get("predictor"))
        if offset < last.get(lane, -1):
            return [f"out of order: {one.source} after offset {last[lane]} in {one.topic} [{one.partition}]"]
        last[lane] = offset
    return []
