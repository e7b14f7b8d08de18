"""What a worker reports to its meter.

This room counts what happened; `runtime/worker_metrics.py` decides under which names it is shown.
"""

from collections.abc import Mapping
from typing import Protocol

from muse_stream.worker.backlog import Waiting
from muse_stream.worker.batch import Scorer, Tally
from muse_stream.worker.latency import Sample


class Meter(Protocol):
    """What the worker reports."""

    def serving(self, scorer: Scorer) -> None:
        """Another generation answers now."""

    def scored(self, events: int, seconds: float) -> None:
        """A batch was decoded, scored and encoded; whether it counts is decided later."""

    def committed(self, events: int, tally: Tally | None, seconds: float | None) -> None:
        """A batch is committed; `seconds` from its first flush on, None where its fate was only found out later."""

    def stages(self, seconds: Mapping[str, float]) -> None:
        """A batch was sent; so long did each stage take."""

    def latency(self, sample: Sample, events: int, at_s: float) -> None:
        """Events with such timestamps were answered at this time; where there are more events, these stand for all."""

    def swapped(self, seconds: float) -> None:
        """Another generation was taken up, and nothing was scored for so long."""

    def rebalanced(self, events: Mapping[str, int]) -> None:
        """The group has assigned, revoked or lost partitions so often since the last time."""

    def aborted(self, code: str) -> None:
        """A transaction was given up, for Kafka's reason."""

    def waiting(self, waiting: Mapping[str, Waiting]) -> None:
        """What waits by event topic, as far as this worker has its partitions."""

    def paused(self, event_topics: Mapping[str, str]) -> None:
        """These event topics are not read, or only on trial; and why."""

    def hanging(self, partitions: int) -> None:
        """So many output partitions stand still behind a transaction that nobody ends."""

    def hanging_ended(self, records: int, copied: int) -> None:
        """Hanging transactions were ended: of these records so many were written again, the rest dropped."""
