"""How much memory a batch of records may take.

A `Type` gives `Memory`: an upper bound on what the batch decoder allocates for so many records of so many bytes. The
bound is never too low. A null in a list of nullable records is one encoded byte and a whole row in Arrow; a union
makes a row in each of its branches. An event within limits.max_event_bytes must not take gigabytes.
"""

from msgspec import Struct

from muse_stream.avro.stand_ins import in_words
from muse_stream.avro.types import Type, least_bytes

SPARE = 2
"""Buffers that grow double."""
VALUE, LIST = 9, 5
"""Arrow's bytes for a number and for where a text or a list ends, each with its bit for null."""
LENGTH = 4
"""Bytes that `lengths` writes before a fixed at most."""


class Memory(Struct, frozen=True):
    """Arrow's bytes for a schema."""

    by_row: float
    by_byte: float

    @classmethod
    def of(cls, node: Type) -> "Memory":
        """Return the bound of one schema."""
        return cls(SPARE * _width(node), SPARE * _growth(node))

    def needed(self, rows: int, size: int) -> float:
        """Return the bound for `rows` records that are `size` bytes together."""
        return rows * self.by_row + size * self.by_byte


def _width(node: Type) -> int:
    """Bytes for one value, without the text or the entries that its own bytes pay for."""
    if node.kind == "record":
        return 1 + sum(_width(field.type) for field in node.fields)
    if node.kind == "union":
        return 1 + sum(1 + _width(branch) for branch in node.branches)  # 1: an int may stand in a record of its own
    if node.kind == "fixed":  # by `stand_ins`: numbers, or a text; and a bit for null for each
        return LIST + VALUE * -(-node.size // 4) if in_words(node) else LIST
    if node.kind == "enum":  # its symbol is written out
        return LIST + max(map(len, node.symbols))
    return LIST if node.kind in ("array", "map", "string", "bytes") else VALUE


def _growth(node: Type) -> float:
    """Bytes for an encoded byte: each stands in one entry of every list around it."""
    if node.kind == "fixed":
        return 1.0 + LENGTH / max(node.size, 1)
    if node.items is None:
        return max((_growth(part) for part in (*(field.type for field in node.fields), *node.branches)), default=1.0)
    key = LIST if node.kind == "map" else 0
    return (key + _width(node.items)) / (min(key, 1) + least_bytes(node.items)) + _growth(node.items)
