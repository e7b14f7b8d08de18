"""Watches the ends of a lane's output partitions: does one stand still behind an open transaction?

A thread of its own looks every few seconds. A partition whose last stable offset has not moved for longer than any
transaction may last is logged and counted in a gauge; the worker is told of those that have not moved since the last
look. It sees everybody's transactions, this slot's as well as those of a slot that will never come back; it changes
nothing. Readers of committed records stand still there, so it is logged once when it is found and once when it is over.
"""

import threading
import time
from collections.abc import Callable, Iterable

from msgspec import Struct

from muse_stream.errors import StreamError
from muse_stream.kafka import End, Ends, TopicPartitionKey
from muse_stream.telemetry import Log
from muse_stream.worker.meter import Meter

LOOK_EVERY_S = 2.0
HANGING_S = 16.0
"""Longer than an honest transaction can last: its timeout of 5 s, and the broker looks for such every 10 s."""
CURE = "restart the worker whose transaction it is, or: kafka-transactions find-hanging, then abort"


class Stuck(Struct, frozen=True):
    """A partition's last stable offset that does not move, since when (monotonic seconds), seen how often."""

    end: End
    since: float
    looks: int = 1


class OpenTransactionWatch:
    """Runs from `start` to `stop`; `places` says each time what to look at."""

    def __init__(
        self,
        ends: Ends,
        places: Callable[[], Iterable[TopicPartitionKey]],
        meter: Meter,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
        also: Callable[[], None] = lambda: None,
    ) -> None:
        """`also` is called after each look, by the same thread."""
        self._also = also
        self._ends, self._places, self._meter, self._log, self._clock = ends, places, meter, log, clock
        self._stuck: dict[TopicPartitionKey, Stuck] = {}
        self._said: dict[TopicPartitionKey, int] = {}
        """Partition -> the last stable offset that was reported."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="end-watch", daemon=True)

    def start(self) -> None:
        """Begin to look; nothing happens when it has begun."""
        if not self._thread.ident:
            self._thread.start()

    def stop(self) -> None:
        """Look no more; does not wait for a look under way."""
        self._ended.set()

    def standing(self) -> dict[TopicPartitionKey, End]:
        """Return the partitions whose last stable offset has not moved between two looks."""
        return {place: one.end for place, one in self._stuck.items() if one.looks > 1}

    def hanging(self) -> dict[TopicPartitionKey, End]:
        """Return the partitions of which it has been said that they hang."""
        return {place: self._stuck[place].end for place in list(self._said) if place in self._stuck}

    def look(self) -> None:
        """Look once."""
        try:
            ends = self._ends.look(self._places())
        except StreamError:  # no broker answers: others say so
            return
        now, before = self._clock(), self._stuck
        stuck: dict[TopicPartitionKey, Stuck] = {}
        for place, end in ends.items():
            if end.undecided:
                known = before.get(place)
                same = known is not None and known.end.stable == end.stable
                stuck[place] = Stuck(end, known.since, known.looks + 1) if known and same else Stuck(end, now)
        self._stuck = stuck
        self._report(now)

    def _run(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self.look()
            self._also()

    def _report(self, now: float) -> None:
        for (topic, partition), one in self._stuck.items():
            age = now - one.since
            if age >= HANGING_S and self._said.get((topic, partition)) != one.end.stable:
                self._said[topic, partition] = one.end.stable
                self._log.error(
                    "transaction_hanging",
                    topic=topic,
                    partition=partition,
                    last_stable_offset=one.end.stable,
                    high_watermark=one.end.high,
                    age_s=round(age, 1),
                    hint=CURE,
                )
        for place in [place for place, stable in self._said.items() if self._moved(place, stable)]:
            del self._said[place]
            self._log.info("transaction_no_longer_hanging", topic=place[0], partition=place[1])
        self._meter.hanging(len(self._said))

    def _moved(self, place: TopicPartitionKey, stable: int) -> bool:
        now = self._stuck.get(place)
        return now is None or now.end.stable != stable
