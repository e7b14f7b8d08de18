"""Says in the log which events cannot be read: removed by retention, or held by a transaction of their producer.

Neither is a fault of this worker, nobody else would tell, and no answer will ever come (removed) or comes late (held).
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from muse_stream.kafka import Standing, TopicPartitionKey
from muse_stream.telemetry import Log
from muse_stream.worker.backlog import Waiting
from muse_stream.worker.batch import Topology

OPEN_S = 15.0
"""A transaction that holds events up for longer is worth a line; honest ones of upstream producers take less."""
REMOVED_HINT = "they will not be answered; where the group goes on is for a person to say"
OPEN_HINT = (
    "the producer of these events has to end its transaction; where it is gone, the broker does so after the "
    "transaction.timeout.ms of that producer, or: kafka-transactions find-hanging, then abort"
)


class Unread:
    """Told once a second what was measured; says each thing once."""

    def __init__(self, log: Log, ticks: Callable[[], float] = time.monotonic) -> None:
        self._log, self._ticks = log, ticks
        self._removed: dict[TopicPartitionKey, int] = {}
        """Partition -> its beginning when the loss was said."""
        self._open: dict[TopicPartitionKey, tuple[int, float]] = {}
        """Partition -> its last stable offset, and since when it has stood there."""
        self._said: dict[TopicPartitionKey, int] = {}

    def review(
        self,
        waiting: Mapping[TopicPartitionKey, Waiting],
        found: Mapping[TopicPartitionKey, Standing],
        topology: Topology,
    ) -> None:
        """Say what is new of the assigned partitions."""
        for known in (self._removed, self._open, self._said):
            for gone in known.keys() - waiting.keys():
                del known[gone]
        for place, one in waiting.items():
            seen = found.get(place)
            if seen is not None and not one.unknown:
                self._lost(place, one, seen, topology)
                self._held(place, one, seen, topology)

    def _lost(self, place: TopicPartitionKey, one: Waiting, seen: Standing, topology: Topology) -> None:
        if not one.removed:
            self._removed.pop(place, None)
        elif self._removed.get(place) != seen.low:
            self._removed[place] = seen.low
            self._log.error(
                "events_removed_unread",
                **_where(place, topology),
                events=one.removed,
                first_offset=seen.low - one.removed,
                last_offset=seen.low - 1,
                hint=REMOVED_HINT,
            )

    def _held(self, place: TopicPartitionKey, one: Waiting, seen: Standing, topology: Topology) -> None:
        if not one.held:
            self._open.pop(place, None)
            if self._said.pop(place, None) is not None:
                self._log.info("upstream_transaction_ended", **_where(place, topology))
            return
        now_s = self._ticks()
        stable, since_s = self._open.get(place, (-1, now_s))
        if stable != seen.stable:
            self._open[place] = seen.stable, now_s
        elif now_s - since_s >= OPEN_S and self._said.get(place) != stable:
            self._said[place] = stable
            written = one.since_s if not one.readable and one.since_s is not None else time.time() - (now_s - since_s)
            self._log.warning(
                "upstream_transaction_open",
                **_where(place, topology),
                offset=stable,
                since=datetime.fromtimestamp(written, UTC).isoformat(timespec="seconds"),
                events=one.held,
                hint=OPEN_HINT,
            )


def _where(place: TopicPartitionKey, topology: Topology) -> dict[str, object]:
    topic, partition = place
    return {"tenants": list(topology.tenants.get(topic, ())), "topic": topic, "partition": partition}
