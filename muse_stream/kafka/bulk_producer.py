"""Framed events onto a topic, at a rate or as fast as it goes.

Takes chunks of keys, values and (if wanted) timestamps; counts how many records the brokers acknowledged.

Invariant: order of the input is order per partition (idempotent producer); equal keys meet in one partition, the one
that Java producers choose (murmur2). At a rate the schedule is open loop: event `i` is due at `start + i / rate`
whatever the brokers do, so a slow cluster shows as lateness, not as a gentler test.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from msgspec import Struct

from muse_stream.config import KafkaSettings
from muse_stream.errors import Fatal
from muse_stream.kafka.client import producer
from muse_stream.kafka.errors import typed
from muse_stream.kafka.explain import said

SERVE_EVERY = 500  # records between two looks at delivery reports
FLUSH_S = 60.0
INTERRUPTED_S = 5.0
PURGE_S = 5.0
"""Seconds for reports of what the client itself has given up."""
NOT_IN_TIME = "not acknowledged in time: the broker is slow, away, or a quota limits us"
BULK = {
    "linger.ms": 20,
    "batch.num.messages": 50_000,
    "queue.buffering.max.messages": 300_000,
    "delivery.report.only.error": True,  # a callback per delivered record would cost more than sending it
}


class Chunk(Struct, frozen=True, eq=False):
    """Some records in order; every list has one entry a record."""

    values: Sequence[bytes]
    keys: Sequence[bytes | None]
    timestamps: Sequence[int] | None = None
    """Milliseconds since the epoch; None is now."""


class Sent(Struct, frozen=True):
    """What became of it; all of it is acknowledged."""

    events: int
    acknowledged: int
    bytes: int
    seconds: float
    late_s: float
    """How far behind its schedule the worst event was sent; 0 when flat out."""

    @property
    def speed(self) -> float:
        """Events a second."""
        return self.events / self.seconds if self.seconds else 0.0


class Ingest:
    """Sends chunks to one topic; use once.

    `rate` is events a second, None is flat out; `headers` are given to every event. `progress` is called with the
    number of events sent so far.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        *,
        rate: float | None = None,
        headers: Mapping[str, str] | None = None,
        progress: Callable[[int], object] = lambda _sent: None,
    ) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"a rate of {rate} events a second sends nothing")
        self._producer: Producer = producer(settings, **BULK)
        self._topic = topic
        self._rate = rate
        self._progress = progress
        self._headers: list[tuple[str, str | bytes | None]] = list((headers or {}).items())
        self._refused: dict[int, str] = {}
        """Number of an event, counted from 0 -> why it did not arrive."""
        self._sent = 0
        self._bytes = 0
        self._late = 0.0

    def run(self, chunks: Iterable[Chunk]) -> Sent:
        """Send everything and wait for the acknowledgements.

        Raises `Fatal` when a record was refused or not acknowledged. On Ctrl-C what is under way is flushed, and
        KeyboardInterrupt goes on to the caller. Whatever ends it, `sent` and `missing` then say what became of each
        event.
        """
        start = time.monotonic()
        try:
            for chunk in chunks:
                self._chunk(chunk, start)
        except BaseException as error:
            self._settle(INTERRUPTED_S if isinstance(error, KeyboardInterrupt) else FLUSH_S)
            raise
        self._settle(FLUSH_S)
        self._progress(self._sent)
        if self._refused:
            why = next(iter(self._refused.values()))
            raise Fatal(f"{len(self._refused):,} of {self._sent:,} events did not reach {self._topic}: {why}")
        return Sent(self._sent, self._sent, self._bytes, time.monotonic() - start, self._late)

    @property
    def sent(self) -> int:
        """How many events were handed to the client."""
        return self._sent

    @property
    def missing(self) -> list[int]:
        """Numbers, from 0, of those that were not acknowledged; some may have arrived all the same."""
        return sorted(self._refused)

    def _settle(self, patience_s: float) -> None:
        """Wait for what is under way, then give it up: afterwards each event is acknowledged or in `missing`."""
        if self._producer.flush(patience_s):
            self._producer.purge()
            self._producer.flush(PURGE_S)

    def _chunk(self, chunk: Chunk, start: float) -> None:
        times = chunk.timestamps
        for row, (key, value) in enumerate(zip(chunk.keys, chunk.values, strict=True)):
            if self._rate is not None:
                self._await_turn(start)
            elif self._sent % SERVE_EVERY == 0:
                self._serve(0)
            self._produce(key, value, times[row] if times is not None else 0)
            self._sent += 1
            self._bytes += len(value)
        self._progress(self._sent)

    def _produce(self, key: bytes | None, value: bytes, timestamp: int) -> None:
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    value,
                    key,
                    timestamp=timestamp,
                    headers=self._headers,
                    on_delivery=partial(self._delivered, self._sent),
                )
                return
            except BufferError:  # the local queue is full: wait for the brokers, not for memory
                self._serve(0.05)
            except KafkaException as error:
                raise typed(error, self._topic, lacks="WRITE") from None

    def _await_turn(self, start: float) -> None:
        due = start + self._sent / (self._rate or 1.0)
        while (ahead := due - time.monotonic()) > 0:
            self._progress(self._sent)
            self._serve(min(ahead, 0.1))
        self._late = max(self._late, -ahead)

    def _serve(self, wait_s: float) -> None:
        self._producer.poll(wait_s)
        if self._refused:
            why = next(iter(self._refused.values()))
            raise Fatal(f"an event did not reach {self._topic}: {why}")

    def _delivered(self, number: int, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            purged = error.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)
            self._refused[number] = NOT_IN_TIME if purged else said(error, lacks="WRITE")
