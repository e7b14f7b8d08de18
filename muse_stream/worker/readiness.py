"""Whether a worker does its work: it is assigned, and has either caught up or is committing.

The worker's thread tells once a second what it sees, and of every commit; another thread asks. What was told too long
ago is no answer: then the worker does not go on, or Kafka does not answer.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping

from msgspec import Struct

from muse_stream.worker.backlog import Waiting

UNREADY_S = 10.0
"""Longer than an abort and its repetition take."""


class _Seen(Struct, frozen=True):
    """What the worker told last."""

    at_s: float
    heard_s: float | None
    assigned: bool
    waiting: Mapping[str, Waiting]
    paused: frozenset[str]
    topics: frozenset[str]


class Readiness:
    """Told by one thread, asked by another: each fact is replaced whole."""

    def __init__(self, ticks: Callable[[], float] = time.monotonic) -> None:
        self._ticks = ticks
        self._seen: _Seen | None = None
        self._behind_since_s: float | None = None
        """Since when some event could be read without a break."""
        self._committed_s = -math.inf

    def committed(self) -> None:
        """Note that a batch was committed."""
        self._committed_s = self._ticks()

    def observed(
        self,
        *,
        assigned: bool,
        waiting: Mapping[str, Waiting],
        paused: Collection[str],
        heard_s: float | None,
        topics: Collection[str],
    ) -> None:
        """Note what waits in the topics of which partitions are assigned, and when Kafka answered last.

        `topics` are all of the lane, whoever has their partitions.
        """
        now_s = self._ticks()
        if not any(one.readable for topic, one in waiting.items() if topic not in paused):
            self._behind_since_s = None
        elif self._behind_since_s is None:
            self._behind_since_s = now_s
        self._seen = _Seen(now_s, heard_s, assigned, dict(waiting), frozenset(paused), frozenset(topics))

    def why_not(self) -> str:
        """Return why work should go elsewhere; empty when all is well."""
        seen, now_s = self._seen, self._ticks()
        if seen is None:
            return "not started yet"
        if now_s - seen.at_s > UNREADY_S:
            return f"no progress for {now_s - seen.at_s:.0f} s"
        if not seen.topics:
            return "no tenant belongs to this lane: nothing is read"
        if now_s - self._committed_s <= UNREADY_S:  # though a look at the ends may still wait for one of the brokers
            return self._paused(seen) or self._unassigned(seen)
        return self._unheard(seen, now_s) or self._paused(seen) or self._behind(seen, now_s)

    @staticmethod
    def _unheard(seen: _Seen, now_s: float) -> str:
        if seen.heard_s is None:
            return "Kafka has not told yet where the partitions end"
        if now_s - seen.heard_s > UNREADY_S:
            return f"Kafka has not answered for {now_s - seen.heard_s:.0f} s: nobody knows what waits"
        return ""

    @staticmethod
    def _paused(seen: _Seen) -> str:
        for whose, topics in (("this lane", seen.topics), ("this worker", seen.waiting.keys())):
            if topics and topics <= seen.paused:
                return f"every event topic of {whose} is paused: {', '.join(sorted(topics))}"
        return ""

    @staticmethod
    def _unassigned(seen: _Seen) -> str:
        return "" if seen.assigned else "the group has assigned no partitions yet"

    def _behind(self, seen: _Seen, now_s: float) -> str:
        if unassigned := self._unassigned(seen):
            return unassigned
        read = {topic: one for topic, one in seen.waiting.items() if topic not in seen.paused}
        if read and all(one.unknown for one in read.values()):
            return f"nobody knows what waits in {', '.join(sorted(read))}: Kafka does not tell where they end"
        since_s = self._behind_since_s
        if since_s is not None and now_s - max(since_s, self._committed_s) > UNREADY_S:
            events = sum(one.readable for one in read.values())
            return f"{events} events wait, and none was committed for {now_s - max(since_s, self._committed_s):.0f} s"
        return ""
