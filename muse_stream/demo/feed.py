"""The tenants' producers: the stream on its way into Kafka, at a steady rate, and never stopped for a promotion.

Takes slices of framed events in order of time; one producer a tenant. Open loop: slice k is due at a time that depends
on the rate alone, whatever brokers and workers do; how late the latest one was is kept. One clock for all tenants, so
that they stay side by side in event time. The first slice goes out at once, to show when the workers answer; the clock
starts with `go`.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Self

import numpy as np

from muse_stream.config import KafkaSettings
from muse_stream.demo.scenario import Slice
from muse_stream.errors import MuseError
from muse_stream.kafka import Chunk, Ingest

TICK_S = 0.05
"""A slice is what is due within so long."""
FLAT_OUT = 2_000
"""Events in a slice where nothing is ever due."""
WAITING = 16
"""Slices a producer may be behind before the source waits for it; only flat out does it ever come to that."""
END_S = 60.0

Queue = queue.Queue[Chunk | None]


class Feed:
    """Sends a scenario's events; use as a context manager, which starts it and in the end stops it."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Mapping[str, str],
        slices: Callable[[], Iterable[Slice]],
        rate: float | None,
    ) -> None:
        """`topics`: tenant -> event topic, in the order of the slices' tenant codes."""
        self._slices, self._rate = slices, rate
        self._queues: list[Queue] = [queue.Queue(WAITING) for _ in topics]
        self._sent = [0] * len(topics)
        self._stopping, self._going = threading.Event(), threading.Event()
        self._failures: list[BaseException] = []
        self.late_s = 0.0
        """How far behind its schedule the latest slice was."""
        self._threads = [
            threading.Thread(target=self._send, args=(settings, topic, number), name=f"producer-{tenant}", daemon=True)
            for number, (tenant, topic) in enumerate(topics.items())
        ]
        self._source = threading.Thread(target=self._split, name="stream", daemon=True)

    def __enter__(self) -> Self:
        for thread in (*self._threads, self._source):
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def sent(self) -> int:
        """Records handed to Kafka so far."""
        return sum(self._sent)

    @property
    def done(self) -> bool:
        """Whether everything was sent and acknowledged."""
        return not any(thread.is_alive() for thread in (self._source, *self._threads))

    def check(self) -> None:
        """Raise what went wrong in a producer."""
        if self._failures:
            raise MuseError(f"the events did not reach Kafka: {self._failures[0]}") from self._failures[0]

    def go(self) -> None:
        """Let the stream flow."""
        self._going.set()

    def stop(self) -> None:
        """End the stream where it is, and wait until what was sent is acknowledged."""
        self._stopping.set()
        self._going.set()
        end = time.monotonic() + END_S
        for thread in (self._source, *self._threads):
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))

    def _send(self, settings: KafkaSettings, topic: str, number: int) -> None:
        def progress(sent: int) -> None:
            self._sent[number] = sent

        try:
            Ingest(settings, topic, progress=progress).run(iter(self._queues[number].get, None))
        except BaseException as failure:  # noqa: BLE001 - a thread's failure is the run's, see `check`
            self._failures.append(failure)

    def _split(self) -> None:
        """Hand every slice to its tenants' producers when it is due."""
        try:
            start, gone = 0.0, 0
            for part in _ticks(self._slices(), self._rate):
                if gone and not start:
                    self._going.wait()
                    start = time.monotonic() - (gone / self._rate if self._rate else 0.0)
                gone += len(part.values)
                if self._rate is not None and start:
                    self._await(start + gone / self._rate)
                if self._stopping.is_set() or not self._handed(part):
                    break
        except BaseException as failure:  # noqa: BLE001 - likewise
            self._failures.append(failure)
        finally:
            for waiting, producer in zip(self._queues, self._threads, strict=True):
                _end(waiting, producer)

    def _await(self, due: float) -> None:
        ahead = due - time.monotonic()
        if ahead > 0:
            self._stopping.wait(ahead)
        else:
            self.late_s = max(self.late_s, -ahead)

    def _handed(self, part: Slice) -> bool:
        """Give each tenant its events; False when the run ends meanwhile."""
        for code in np.unique(part.tenant).tolist():
            rows = np.flatnonzero(part.tenant == code).tolist()
            chunk = Chunk([part.values[row] for row in rows], [part.keys[row] for row in rows])
            while not self._stopping.is_set() and not self._failures:
                try:
                    self._queues[code].put(chunk, timeout=0.2)
                    break
                except queue.Full:
                    continue
            else:
                return False
        return True


def _end(waiting: Queue, producer: threading.Thread) -> None:
    while producer.is_alive():  # one that failed takes nothing any more
        try:
            waiting.put(None, timeout=0.2)
        except queue.Full:
            continue
        return


def _ticks(slices: Iterable[Slice], rate: float | None) -> Iterator[Slice]:
    """Cut slices to what is due within one tick."""
    for whole in slices:
        size = FLAT_OUT if rate is None else max(1, round(rate * TICK_S))
        for first in range(0, len(whole.values), size):
            part = slice(first, first + size)
            yield Slice(whole.tenant[part], whole.values[part], whole.keys[part])
