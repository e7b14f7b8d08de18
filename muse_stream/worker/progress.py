"""What a worker tells its meter: what was committed, what waits, who is paused.

It is told of batches as they are taken, submitted and committed, and once a second of the positions.

Invariant: what is counted is committed, and all that is committed is counted, once. A batch whose transaction failed in
an unknown way counts if the committed offsets, which are read anyway before the worker goes on, say that it stands.
"""

import time
from collections.abc import Iterable
from typing import Protocol

from muse_stream.kafka import Position, TopicPartitionKey
from muse_stream.telemetry import BoundedLog
from muse_stream.worker.backlog import Backlog, Waiting
from muse_stream.worker.batch import Topology
from muse_stream.worker.commit import Committed, Pending
from muse_stream.worker.dead_letter import note
from muse_stream.worker.meter import Meter
from muse_stream.worker.paused_topics import PausedTopics
from muse_stream.worker.readiness import Readiness
from muse_stream.worker.unread import Unread

MEASURE_S = 1.0


class Standings(Protocol):
    """What is asked of the intake."""

    def answered(self, following: dict[TopicPartitionKey, int]) -> bool:
        """Whether a batch that ends at these offsets is committed."""

    @property
    def assigned(self) -> bool:
        """Whether the group has assigned something, be it no partition."""

    def positions(self) -> dict[TopicPartitionKey, Position]:
        """Return the positions in the assigned partitions."""

    @property
    def rebalances(self) -> dict[str, int]:
        """What the group has done, by kind; emptied by who counts it."""


class Accounts:
    """The books of one worker; for its own thread alone."""

    def __init__(
        self,
        meter: Meter,
        backlog: Backlog,
        gate: PausedTopics,
        readiness: Readiness,
        unread: Unread,
        letters: BoundedLog,
    ) -> None:
        self._meter, self._backlog, self._paused_topics = meter, backlog, gate
        self._readiness, self._unread, self._letters = readiness, unread, letters
        self._open: list[Pending] = []
        """Batches that were submitted and are not known to be committed."""
        self._doubtful = False
        """Whether a committer was given up meanwhile."""
        self._due = 0.0

    def took(self, pending: Pending) -> None:
        """Note a batch that is about to be scored."""
        self._backlog.took(pending.stamps)

    def submitted(self, pending: Pending) -> Pending:
        """Note a batch that is handed over for committing; returns it."""
        self._open.append(pending)
        return pending

    def committed(self, committed: Committed) -> None:
        """Count a batch."""
        self._readiness.committed()
        if committed.pending in self._open:  # else it was in doubt, and has been counted
            self._open.remove(committed.pending)
            self._count(committed.pending, committed.cost_s, committed.at_s)

    def given_up(self, code: str) -> None:
        """Note that a committer was given up: of its batches, none or the first may be committed."""
        self._meter.aborted(code)
        self._doubtful = True

    def count_doubtful(self, intake: Standings) -> None:
        """Once the committed offsets have been read again: count what stands of the batches that were given up."""
        if self._doubtful:
            self._doubtful, unknown, self._open = False, self._open, []
            for pending in unknown:
                if intake.answered(pending.following):
                    self._count(pending, None, time.time())

    def measure(self, intake: Standings, topology: Topology) -> None:
        """Tell what waits and who is paused, once a second."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + MEASURE_S
            self._meter.rebalanced(intake.rebalances)
            intake.rebalances.clear()
            topics, assigned, paused = topology.outputs.keys(), intake.assigned, self._paused_topics.paused
            here = self._backlog.measure(intake.positions(), paused, min(topics, default=None))
            waiting = here | dict.fromkeys(self._unknown(topics, assigned), Waiting(unknown=True))
            self._paused_topics.proved(topic for topic in self._paused_topics.trial if _nothing(waiting.get(topic)))
            self._meter.waiting(waiting)
            self._meter.paused(self._paused_topics.reasons)
            self._unread.review(self._backlog.partitions, self._backlog.found(), topology)
            self._readiness.observed(
                assigned=assigned,
                waiting=here,
                paused=self._paused_topics.paused,
                heard_s=self._backlog.heard_s,
                topics=topics,
            )

    def unread(self) -> dict[TopicPartitionKey, float]:
        """Return since when (monotonic seconds) what waits in a partition could be read, and is not."""
        return self._backlog.unread()

    def _unknown(self, topics: Iterable[str], assigned: bool) -> list[str]:
        """Return the topics of which this worker cannot say what waits: nobody may have their partitions."""
        return [topic for topic in topics if not assigned or not self._paused_topics.partitions(topic)]

    def close(self) -> None:
        """Stop looking at what waits."""
        self._backlog.close()

    def _count(self, pending: Pending, seconds: float | None, at_s: float) -> None:
        self._meter.latency(pending.sample, pending.events, at_s)
        self._meter.committed(pending.events, pending.tally, seconds)
        if pending.traced is not None:
            pending.traced.committed(seconds, at_s)
        if pending.tally is not None:
            note(self._letters, pending.tally.refusals)
        if self._paused_topics.trial:
            self._paused_topics.proved(topic for topic, _ in pending.following)


def _nothing(waiting: Waiting | None) -> bool:
    return waiting is None or not (waiting.events or waiting.unknown)
