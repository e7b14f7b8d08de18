"""The floor: the worker loop with a scorer that does nothing: consume, produce as many bytes, commit.

The same consumer, transactions and settings as the product's worker; only the work between consume and produce is left
out. `python -m perf.echo BOOTSTRAP OUT BYTES EACH TOPIC ...` serves until SIGTERM: EACH answers of BYTES bytes to every
event.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from typing import Any

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.worker import failpoints
from muse_stream.worker.batch import Batch, BatchLimits, Records, Scorer, Topology
from muse_stream.worker.loop import Worker
from muse_stream.worker.poison import Guard, InHand, Suspects
from muse_stream.worker.slot import SlotName, open_worker
from perf import rig

BYTES = 60


class _Echo:
    number = 1
    book = None

    def __init__(self, topics: Sequence[str], out: str, size: int, each: int) -> None:
        self.topology = Topology(dict.fromkeys(topics, frozenset({out})), dict.fromkeys(topics, out))
        self.limits = BatchLimits()
        self._out, self._payload, self._each = out, b"x" * size, each

    def score(self, batch: Batch, attempt: int) -> Records:
        rows = [row for row in range(len(batch)) for _ in range(self._each)] if self._each > 1 else range(len(batch))
        return Records(list(rows), [self._out] * len(rows), [self._payload] * len(rows))

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


def group_of(out: str) -> str:
    """Return the consumer group of the echo that writes to a topic."""
    return SlotName("live", out, "perf", 0).group


def _open(bootstrap: str, topics: Sequence[str], out: str, size: int, each: int) -> tuple[Worker, _Meter]:
    meter: Any = _Meter()
    scorers: list[Scorer] = [_Echo(topics, out, size, each)]
    worker = open_worker(
        KafkaSettings.from_environment().model_copy(update={"bootstrap": bootstrap}),
        SlotName("live", out, "perf", 0),
        lambda: scorers.pop() if scorers else None,
        meter=meter,
        log=_Silent(),
        failpoint=failpoints.nothing,
        guard=Guard(InHand(get_context("spawn")), Suspects()),
    )
    return worker, meter


def rate(bootstrap: str, topic: str, partitions: int, count: int) -> float:
    """Return events/s of the bare loop over `count` events, from its first to its last committed batch."""
    out = f"perf.echo.{time.time_ns()}"
    rig.create(bootstrap, {out: partitions})
    worker, meter = _open(bootstrap, [topic], out, BYTES, 1)

    def stop_when_done() -> None:
        while not meter.points or meter.points[-1][1] < count:
            time.sleep(0.02)
        worker.stop()

    threading.Thread(target=stop_when_done, daemon=True).start()
    worker.run()
    (began, first), (ended, last) = meter.points[0], meter.points[-1]
    return float((last - first) / (ended - began))


def main() -> None:
    """Serve until SIGTERM."""
    bootstrap, out, size, each, *topics = sys.argv[1:]
    worker, _ = _open(bootstrap, topics, out, int(size), int(each))
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run(leave=lambda: True)


if __name__ == "__main__":
    main()
