"""A partition, and what is known of where it stands."""

from collections.abc import Mapping
from dataclasses import dataclass

TopicPartitionKey = tuple[str, int]
"""Topic and number."""

Places = Mapping[TopicPartitionKey, int | None]
"""Partition -> an offset; None: its beginning."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition stands."""

    answered: int | None
    """Every record below this offset has its answer; None: not known, since nothing was ever committed."""
    low: int
    """Below 0: not known yet."""
    high: int
    """Offset after the last record, as last heard; below 0: not known yet."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What was found by looking at a partition that does not move."""

    answered: int
    high: int
    since_ms: int | None
    """Timestamp of the first record from there on; None: none could be read."""
    empty: bool = False
    """Whether nothing but transaction markers stands there."""
