"""Which event topics may be read: those that can be seen and whose answers have somewhere to go.

The topology, the cluster's topics, and reports about single topics give the set of paused event topics. One tenant's
missing topic, lost permission or vanished offset pauses that tenant, never the others; it is logged once, tried again
every few seconds, and goes on by itself when the cause is gone. Nothing is read that could not be answered, so nothing
is lost. A topic that is only tried again is paused still, until something of it is committed or nothing waits;
otherwise it would look well in every other moment.
"""

import time
from collections.abc import Callable, Iterable, Mapping

from muse_stream.errors import Retriable
from muse_stream.telemetry import Log
from muse_stream.worker.batch import Topology

RETRY_S = 5.0
REFRESH_S = 30.0


class PausedTopics:
    """Holds the cluster's topics as last seen, and the event topics reported as failing."""

    def __init__(
        self, topics: Callable[[], Mapping[str, int]], log: Log, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._topics, self._log, self._clock = topics, log, clock
        self._partitions: Mapping[str, int] = {}
        self._retry_at: dict[str, float] = {}
        self._said: dict[str, str] = {}
        """Paused topic -> why, as it was said last."""
        self._trial: frozenset[str] = frozenset()
        self._paused_now: frozenset[str] = frozenset()
        self._next = 0.0

    @property
    def paused_now(self) -> frozenset[str]:
        """Event topics that must not be read now."""
        return self._paused_now

    @property
    def trial(self) -> frozenset[str]:
        """Event topics that are read again after a report, and have not proved well yet."""
        return self._trial

    @property
    def paused(self) -> frozenset[str]:
        """Event topics that are not read, or only on trial."""
        return self._paused_now | self._trial

    def proved(self, event_topics: Iterable[str]) -> None:
        """Take in that something of these topics was committed, or that nothing waits in them: a trial is over."""
        for topic in self._trial.intersection(event_topics):
            self._resume(topic)
        self._trial -= frozenset(event_topics)

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has, 0 when it is unknown."""
        return self._partitions.get(topic, 0)

    def pause(self, event_topic: str, why: str, retry_s: float = RETRY_S) -> None:
        """Pause an event topic until its next trial."""
        self._pause(event_topic, why)
        self._retry_at[event_topic] = self._clock() + retry_s
        self._trial -= {event_topic}
        self._next = 0.0

    def review(self, topology: Topology, *, at_once: bool = False) -> bool:
        """Look again when it is time (or `at_once`); True when the set of paused topics changed."""
        now = self._clock()
        if not at_once and now < self._next:
            return False
        try:
            self._partitions = self._topics()
        except Retriable as error:
            self._log.warning("topics_unknown", error=str(error))
            self._next = now + RETRY_S
            if self._partitions:
                return False
            # never seen: nothing may be read, since nobody knows whether and where it could be answered
            changed, self._paused_now = self._paused_now != topology.outputs.keys(), frozenset(topology.outputs)
            return changed
        over = {topic for topic, until in self._retry_at.items() if until <= now}
        self._retry_at = {topic: until for topic, until in self._retry_at.items() if until > now}
        paused_now = self._missing(topology) | self._retry_at.keys()
        self._trial = frozenset((self._trial | over) & topology.outputs.keys()) - paused_now
        for topic in self._said.keys() - paused_now - self._trial:
            self._resume(topic)
        changed, self._paused_now = paused_now != self._paused_now, frozenset(paused_now)
        self._next = now + (RETRY_S if paused_now else REFRESH_S)
        return changed

    def _missing(self, topology: Topology) -> set[str]:
        paused_now = set()
        for event_topic, outputs in topology.outputs.items():
            absent = sorted(topic for topic in {event_topic, *outputs} if topic not in self._partitions)
            if absent:
                paused_now.add(event_topic)
                # brokers do not say which
                self._pause(event_topic, f"no topic {', '.join(absent)}, or no permission to see it")
        return paused_now

    def _pause(self, event_topic: str, why: str) -> None:
        if self._said.get(event_topic) != why:
            self._said[event_topic] = why
            self._log.error("tenant_paused", topic=event_topic, error=why)

    def _resume(self, event_topic: str) -> None:
        if self._said.pop(event_topic, None) is not None:
            self._log.info("tenant_resumed", topic=event_topic)
