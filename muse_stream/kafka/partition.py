"""A partition, and what is known of the position in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct

TopicPartitionKey = tuple[str, int]
"""Topic and number."""

Places = Mapping[TopicPartitionKey, int | None]
"""Partition -> an offset; None: its beginning."""


class Position(Struct, frozen=True):
    """The position in a partition."""

    answered: int | None
    """Every record below this offset has its answer; None: not known, since nothing was ever committed."""
    low: int
    """Below 0: not known yet."""
    high: int
    """Offset after the last record, as last heard; below 0: not known yet."""
    flows: bool = True
    """Whether it is read now: neither paused nor held."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What was found by looking at a partition."""

    answered: int
    """From where on it was looked at."""
    low: int
    """Its first offset: retention has removed what was before."""
    stable: int
    """Its last stable offset: what stands behind it is of an open transaction, or waits for one to end."""
    high: int
    """Its high watermark: the offset after its last record."""
    since_ms: int | None = None
    """Timestamp of the first record from `answered` on; None: not looked up, or none could be read."""
    nothing: bool = False
    """Whether there is no event between `answered` and `stable`: transaction markers and aborted records alone."""
    at_s: float = field(default=0.0, compare=False)
    """When it was looked (monotonic seconds)."""

    @property
    def unreadable(self) -> bool:
        """Whether decided records are there, and none was read where the first was looked up."""
        return self.since_ms is None and not self.nothing and self.stable > max(self.answered, self.low)
