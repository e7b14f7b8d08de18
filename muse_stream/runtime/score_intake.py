"""Score and audit records on their way into the store: read, kept, stored every so often (docs/sketches.md).

Stored every `store_s` seconds, when many rows wait, and before partitions are given up. While the store is away rows
are kept up to a limit; then nothing more is read.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from muse_stream.errors import StoreError
from muse_stream.kafka import Message, TopicPartitionKey
from muse_stream.runtime.score_counter import ScoreCounter
from muse_stream.runtime.score_reader import ScoreReader
from muse_stream.telemetry import Log

MOST_WAITING: Final = 500_000
"""Rows after which they are stored at once; twice as many, and nothing more is read until the store takes some."""
AGAIN_S: Final = 1.0
SWEEP_S: Final = 3600.0


class ScoreIntake:
    """Takes records, and sees that they are stored."""

    def __init__(self, reader: ScoreReader, counter: ScoreCounter, store_s: float, log: Log) -> None:
        self._reader, self._counter, self._store_s, self._log = reader, counter, store_s, log
        self._stored, self._swept = time.monotonic(), 0.0
        self.audit: frozenset[str] = frozenset()
        """Topics that hold audit records; the others hold scores."""
        self.problem = ""
        """Why the store took nothing, the last time."""
        self.stopping = False
        """Whether nothing is waited for any more."""

    @property
    def full(self) -> bool:
        """Whether nothing more may be read until the store takes some."""
        return self._counter.waiting >= 2 * MOST_WAITING

    def take(self, messages: Sequence[Message]) -> None:
        """Keep what records say; waits for a store that is away, since they come only once."""
        for audit in (False, True):
            chosen = [one for one in messages if ((one.topic() or "") in self.audit) == audit]
            if not chosen:
                continue
            partitions = [(one.topic() or "", one.partition() or 0) for one in chosen]
            offsets = [one.offset() or 0 for one in chosen]
            place = np.array([self._counter.place(one) for one in partitions], dtype=np.int64)
            values, keys = [one.value() for one in chosen], [one.key() for one in chosen]
            for attempt in range(60):
                try:
                    rows = self._reader.read(audit, values, keys, place, np.array(offsets, dtype=np.int64))
                    break
                except StoreError as error:
                    self._trouble(error)
                    if attempt == 59 or self.stopping:
                        raise
                    time.sleep(AGAIN_S)
            self._counter.take(rows, {one: offset + 1 for one, offset in zip(partitions, offsets, strict=True)})

    def store_due(self) -> None:
        """Store what was read, where it is time to."""
        since = time.monotonic() - self._stored
        pressing = self._counter.waiting >= MOST_WAITING and since >= (AGAIN_S if self.problem else 0.0)
        if pressing or since >= (AGAIN_S if self.problem else self._store_s):
            self.store_all()

    def store_all(self) -> None:
        """Store what was read; where the store is away, it is kept."""
        self._stored = time.monotonic()
        try:
            stored = self._counter.store_all()
            if self._stored - self._swept > SWEEP_S:
                self._swept = self._stored
                self._counter.sweep()
        except StoreError as error:
            self._trouble(error)
            return
        self.problem = ""
        if stored:
            self._log.info("counts_stored", rows=stored, seconds=round(time.monotonic() - self._stored, 3))

    def settle(self, partitions: Iterable[TopicPartitionKey]) -> None:
        """Store what was read, since others read on from there; what cannot be stored is read again by them."""
        self.store_all()
        self._counter.forget(list(partitions))

    def _trouble(self, error: StoreError) -> None:
        if not self.problem:
            self._log.error("counts_not_stored", error=str(error), waiting=self._counter.waiting)
        self.problem = str(error)
