"""Which event topics may be read: those that can be seen and whose answers have somewhere to go.

The topology, the cluster's topics, and reports about single topics give the set of paused event topics. One tenant's
missing topic, lost permission or vanished offset pauses that tenant, never the others; it is logged once, tried again
every few seconds, and goes on by itself when the cause is gone. Nothing is read that could not be answered, so nothing
is lost. A topic that is only tried again is paused still, until something of it is committed or nothing waits;
otherwise it would look well in every other moment.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from muse_stream.errors import Retriable
from muse_stream.kafka import TopicPartitionKey, TopicsSeen
from muse_stream.telemetry import Log
from muse_stream.worker.batch import Topology
from muse_stream.worker.cures import SHOWN, Cures

RETRY_S = 5.0
REFRESH_S = 30.0
LEADER_S = 1.0
"""How often it is looked whether partitions have a leader again."""
LONGEST_S = 120.0
"""A trial may cost a transaction of all tenants: each that fails makes the next one wait twice as long."""
UNLED = "bring its brokers back, or give it replicas with kafka-reassign-partitions.sh; it goes on by itself then"


class PausedTopics:
    """Holds the cluster's topics as last seen, and the event topics reported as failing."""

    def __init__(
        self,
        topics: Callable[[], TopicsSeen],
        log: Log,
        cures: Cures,
        facts: Callable[[str], Mapping[str, Any]] = lambda _topic: {},
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`facts` says of an event topic what is logged with it: tenants, group, offsets."""
        self._topics, self._log, self._clock = topics, log, clock
        self._cures, self._facts = cures, facts
        self._seen = TopicsSeen({})
        self._unwritable: dict[str, frozenset[TopicPartitionKey]] = {}
        """Paused topic -> the partitions of its outputs that take no records."""
        self._failed: dict[str, int] = {}
        """Topic -> how many trials have failed in a row."""
        self.ids_blocked = False
        """Whether a transaction cannot be ended: nothing is written where that may be the reason."""
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

    @property
    def reasons(self) -> dict[str, str]:
        """Event topics that are not read, or only on trial, and why, as it was said last."""
        return {topic: self._said.get(topic, "its topics are not known yet") for topic in self.paused}

    def proved(self, event_topics: Iterable[str]) -> None:
        """Take in that something of these topics was committed, or that nothing waits in them: a trial is over."""
        for topic in self._trial.intersection(event_topics):
            self._resume(topic)
            self._failed.pop(topic, None)
        self._trial -= frozenset(event_topics)

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has, 0 when it is unknown."""
        return self._seen.counts.get(topic, 0)

    @property
    def unwritable(self) -> frozenset[TopicPartitionKey]:
        """Partitions of outputs that are known to take no records now."""
        return frozenset().union(*self._unwritable.values())

    def leaderless(self) -> frozenset[TopicPartitionKey]:
        """Look which partitions of all topics nobody leads now; none where the cluster does not answer."""
        try:
            self._seen = self._topics()
        except Retriable:
            return frozenset()
        return self._seen.leaderless

    def pause(self, event_topic: str, why: str, retry_s: float = RETRY_S, cure: str = "") -> None:
        """Pause an event topic until its next trial; `cure` is what a person can do."""
        self._pause(event_topic, why, cure)
        failed = self._failed[event_topic] = self._failed.get(event_topic, -1) + 1
        self._retry_at[event_topic] = self._clock() + min(retry_s * 2**failed, max(retry_s, LONGEST_S))
        self._trial -= {event_topic}
        self._next = 0.0

    def retry(self, event_topic: str) -> None:
        """Try a topic that was reported again now."""
        if event_topic in self._retry_at:
            self._retry_at[event_topic] = self._clock()
            self._next = 0.0

    def pause_unwritable(self, event_topic: str, places: frozenset[TopicPartitionKey], why: str) -> None:
        """Pause an event topic until these partitions of its outputs take records again."""
        self._unwritable[event_topic] = self._unwritable.get(event_topic, frozenset()) | places
        self.pause(event_topic, f"{why}; {UNLED}", cure=UNLED)

    def review(self, topology: Topology, *, at_once: bool = False) -> bool:
        """Look again when it is time (or `at_once`); True when the set of paused topics changed."""
        now = self._clock()
        if not at_once and now < self._next:
            return False
        try:
            self._seen = self._topics()
        except Retriable as error:
            self._log.warning("topics_unknown", error=str(error))
            self._next = now + RETRY_S
            if self._seen.counts:
                return False
            # never seen: nothing may be read, since nobody knows whether and where it could be answered
            changed, self._paused_now = self._paused_now != topology.outputs.keys(), frozenset(topology.outputs)
            return changed
        if self.ids_blocked:
            self._pause_unled(topology)
        self._unwritable = {
            topic: places
            for topic, places in self._unwritable.items()
            if topic in topology.outputs and (self.ids_blocked or places & self._seen.leaderless)
        }
        over = {topic for topic, until in self._retry_at.items() if until <= now}
        self._retry_at = {topic: until for topic, until in self._retry_at.items() if until > now}
        paused_now = self._missing(topology) | self._retry_at.keys() | self._unwritable.keys() | topology.paused
        for topic in topology.paused:
            tenants = topology.tenants.get(topic, ())
            keys = ", ".join(f"tenants.{name}.paused" for name in tenants[:SHOWN])
            self._pause(topic, f"paused in the configuration: {keys}", self._cures.asked(tenants))
        self._trial = frozenset((self._trial | over) & topology.outputs.keys()) - paused_now
        for topic in self._said.keys() - paused_now - self._trial:
            self._resume(topic)
        changed, self._paused_now = paused_now != self._paused_now, frozenset(paused_now)
        self._next = now + (LEADER_S if self._unwritable else RETRY_S if paused_now else REFRESH_S)
        return changed

    def _pause_unled(self, topology: Topology) -> None:
        """Pause what answers to partitions without a leader: one of them holds a transaction."""
        for event_topic, outputs in topology.outputs.items():
            answers = outputs - {topology.dead_letters.get(event_topic)} or outputs
            unled = frozenset(place for place in self._seen.leaderless if place[0] in answers)
            if unled - self._unwritable.get(event_topic, frozenset()):
                self.pause_unwritable(event_topic, unled, f"{named(unled)}: no leader")

    def _missing(self, topology: Topology) -> set[str]:
        paused_now = set()
        for event_topic, outputs in topology.outputs.items():
            absent = sorted(topic for topic in {event_topic, *outputs} if topic not in self._seen.counts)
            if absent:
                paused_now.add(event_topic)
                # brokers do not say which
                self._pause(
                    event_topic, f"no topic {', '.join(absent)}, or no permission to see it", self._cures.missing()
                )
        return paused_now

    def _pause(self, event_topic: str, why: str, cure: str) -> None:
        if self._said.get(event_topic) != why:
            self._said[event_topic] = why
            self._log.error("tenant_paused", topic=event_topic, error=why, **self._facts(event_topic), hint=cure)

    def _resume(self, event_topic: str) -> None:
        if self._said.pop(event_topic, None) is not None:
            self._log.info("tenant_resumed", topic=event_topic)


def named(places: Iterable[TopicPartitionKey]) -> str:
    """Return partitions for a person to read."""
    return ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(places))
