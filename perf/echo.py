"""The floor: the worker loop with a scorer that does nothing: consume, produce as many bytes, commit.

The same consumer, transactions and settings as the product's worker; only the work between consume and produce is left
out. `python -m perf.echo BOOTSTRAP OUT BYTES EACH TOPIC ...` serves until SIGTERM: EACH answers of BYTES bytes to every
event; where BYTES is 0, the event itself.
"""

import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from typing import Any

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.worker import failpoints
from muse_stream.worker.batch import Batch, BatchLimits, Records, Scorer, Topology
from muse_stream.worker.poison import Guard, InHand, Suspects
from muse_stream.worker.slot import SlotName, open_worker


class Echo:
    """A scorer that does nothing."""

    number = 1
    book = None

    def __init__(self, topics: Sequence[str], out: str, size: int, each: int) -> None:
        self.topology = Topology(dict.fromkeys(topics, frozenset({out})), dict.fromkeys(topics, out))
        self.limits = BatchLimits()
        self._out, self._payload, self._each = out, b"x" * size, each

    def score(self, batch: Batch, attempt: int) -> Records:
        """Answer with as many bytes, or with the events themselves."""
        rows = [row for row in range(len(batch)) for _ in range(self._each)] if self._each > 1 else range(len(batch))
        values = [self._payload] * len(rows) if self._payload else [batch.values[row] or b"" for row in rows]
        return Records(list(rows), [self._out] * len(rows), values)

    def answers(self, topic: str, event: bytes | None, answer: bytes | None) -> bool:
        """Say of each answer that it is one."""
        return True

    def origins(self, values: Sequence[bytes | None]) -> list[None]:
        """Say of no answer what it answers."""
        return [None] * len(values)


class _Silent:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def group_of(out: str) -> str:
    """Return the consumer group of the echo that writes to a topic."""
    return SlotName("live", out, "perf", 0).group


def serve(bootstrap: str, out: str, scorer: Any) -> None:
    """Run the product's worker loop with a scorer until SIGTERM."""
    silent: Any = _Silent()
    scorers: list[Scorer] = [scorer]
    worker = open_worker(
        KafkaSettings.from_environment().model_copy(update={"bootstrap": bootstrap}),
        SlotName("live", out, "perf", 0),
        lambda: scorers.pop() if scorers else None,
        meter=silent,
        log=silent,
        failpoint=failpoints.nothing,
        guard=Guard(InHand(get_context("spawn")), Suspects()),
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run(leave=lambda: True)


def main() -> None:
    """Serve until SIGTERM."""
    bootstrap, out, size, each, *topics = sys.argv[1:]
    serve(bootstrap, out, Echo(topics, out, int(size), int(each)))


if __name__ == "__main__":
    main()
