"""A partition, and what is known of the position in it."""

from collections.abc import Mapping
from dataclasses import dataclass

TopicPartitionKey = tuple[str, int]
"""Topic and number."""

Places = Mapping[TopicPartitionKey, int | None]
"""Partition -> an offset; None: its beginning."""


@dataclass(frozen=True, slots=True)
class Position:
    """The position in a partition."""

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
    """Whether there is nothing but transaction markers."""
