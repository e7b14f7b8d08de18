"""The floor: the worker loop with a scorer that does nothing. Gives events/s, first to last committed batch.

The same consumer, transactions and settings as the product's worker; only the work between consume and produce is left
out.
"""

import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from typing import Any

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.worker import failpoints
from muse_stream.worker.batch import Batch, BatchLimits, Records, Scorer, Topology
from muse_stream.worker.poison import Guard, InHand, Suspects
from muse_stream.worker.slot import SlotName, open_worker
from perf import rig

PAYLOAD = b"x" * 60


class _Echo:
    number = 1
    book = None

    def __init__(self, topic: str, out: str) -> None:
        self.topology = Topology({topic: frozenset({out})}, {topic: out})
        self.limits = BatchLimits()
        self._out = out

    def score(self, batch: Batch, attempt: int) -> Records:
        count = len(batch)
        return Records(list(range(count)), [self._out] * count, [PAYLOAD] * count)

    def answers(self, topic: str, event: bytes | None, answer: bytes | None) -> bool:
        return True

    def origins(self, values: Sequence[bytes | None]) -> list[None]:
        return [None] * len(values)


class _Meter:
    """Notes when batches were committed."""

    def __init__(self) -> None:
        self.points: list[tuple[float, int]] = []

    def committed(self, events: int, *_: object) -> None:
        done = self.points[-1][1] if self.points else 0
        self.points.append((time.monotonic(), done + events))

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class _Silent:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def rate(bootstrap: str, topic: str, partitions: int, count: int) -> float:
    """Return events/s of the bare loop over `count` events."""
    out = f"perf.echo.{time.time_ns()}"
    rig.create(bootstrap, {out: partitions})
    meter: Any = _Meter()
    scorers: list[Scorer] = [_Echo(topic, out)]
    worker = open_worker(
        KafkaSettings.from_environment().model_copy(update={"bootstrap": bootstrap}),
        SlotName("live", out, "perf", 0),
        lambda: scorers.pop() if scorers else None,
        meter=meter,
        log=_Silent(),
        failpoint=failpoints.nothing,
        guard=Guard(InHand(get_context("spawn")), Suspects()),
    )

    def stop_when_done() -> None:
        while not meter.points or meter.points[-1][1] < count:
            time.sleep(0.02)
        worker.stop()

    threading.Thread(target=stop_when_done, daemon=True).start()
    worker.run()
    (began, first), (ended, last) = meter.points[0], meter.points[-1]
    return float((last - first) / (ended - began))
