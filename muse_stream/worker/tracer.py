"""What a worker tells of a batch to whoever makes spans of its sampled events.

`runtime/tracing.py` makes them. Spans are begun when a batch is scored and end when it is committed: a batch that is
aborted and done again begins new ones, and the old ones are never seen.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from muse_stream.kafka import Message
from muse_stream.worker.batch import Batch, Records

TRACEPARENT = "traceparent"
"""The header of W3C trace context."""


class Traced(Protocol):
    """The spans of one batch."""

    @property
    def traceparents(self) -> Mapping[int, bytes]:
        """Row -> the header `traceparent` that its answers get, where they get one at all."""

    def stages(self, seconds: Mapping[str, float]) -> None:
        """The batch was sent; so long did each stage take."""

    def committed(self, cost_s: float | None, at_s: float) -> None:
        """The batch is committed: its spans are made known. `cost_s` is None where that was only found out later."""


class Tracer(Protocol):
    """Decides which events get a span."""

    def begin(
        self,
        batch: Batch,
        messages: Sequence[Message],
        answer: Records,
        *,
        generation: int,
        attempt: int,
        began_ns: int,
    ) -> Traced | None:
        """Begin the spans of a batch that was scored; None where none of its events is sampled."""
