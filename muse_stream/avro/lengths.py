"""Writes the length of a `fixed` before it, in all records of a batch at once.

pyruhvro has no type for, say, five bytes without a length. So they get one, and are a string to it. The records of a
batch stand one after the other in one array of bytes, with a position in each; all positions go forward together, type
by type, as far as the last such `fixed`. No loop runs over records, but one over the entries of the longest list.

Invariant: a position is right, as `strict` would find it, or `Malformed` is raised.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from muse_stream.avro.samples import varint
from muse_stream.avro.stand_ins import has_length
from muse_stream.avro.strict import WIDTHS, Malformed
from muse_stream.avro.types import Type, any_type

Positions: TypeAlias = NDArray[np.int64]

FIXED_WIDTH = {**WIDTHS, "boolean": 1, "null": 0}
SPARE = 16
"""Bytes after the last record, more than a number takes."""
ONE = np.uint64(1)
LAST = np.uint64(0x8080_8080_8080_8080)
"""Of eight bytes the bits that are 0 where a number ends."""
SEVENS = (
    (np.uint64(0x007F_007F_007F_007F), ONE),
    (np.uint64(0x0000_3FFF_0000_3FFF), np.uint64(2)),
    (np.uint64(0x0000_0000_0FFF_FFFF), np.uint64(4)),
)
"""How eight groups of seven bits move together: what stays, and by how much the rest does."""


class Lengths:
    """Writes them for one schema."""

    def __init__(self, record: Type) -> None:
        held = [index for index, part in enumerate(record.fields) if any_type(part.type, has_length)]
        self.needed = bool(held)
        self._before = Type("record", fields=record.fields[: held[-1] + 1] if held else ())
        """No further than to the last of them."""

    def write(self, payloads: Sequence[bytes], after: int, entries: int) -> list[bytes]:
        """Return the payloads with each length in its place; `after` bytes of each follow the record.

        Raises Malformed when one of them is not a record, or when there are more than so many entries in the longest
        lists: each costs about as much as a record by itself, even where only one record has it.
        """
        joined = b"".join(payloads)
        sizes = np.fromiter(map(len, payloads), np.int64, len(payloads))
        ends = np.cumsum(sizes)
        walk = _Walk(np.frombuffer(joined + bytes(SPARE), np.uint8), ends - after, entries)
        walk.past(self._before, np.arange(len(payloads)), ends - sizes)
        data, grown = walk.insert(np.frombuffer(joined, np.uint8), len(payloads))
        ends += np.cumsum(grown)
        stops = ends.tolist()
        return [data[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


class _Walk:
    """Positions in the records of one batch."""

    def __init__(self, data: NDArray[np.uint8], ends: Positions, entries: int) -> None:
        self._data, self._ends = data, ends
        self._words = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))  # the eight bytes at each position
        self._left = entries
        self._found: list[tuple[Positions, Positions, bytes]] = []
        """Rows, positions in them, and what is to be written there."""

    def insert(self, data: NDArray[np.uint8], rows: int) -> tuple[bytes, Positions]:
        """Return the bytes with all lengths written, and how many bytes that is in each row."""
        grown = np.zeros(rows, np.int64)
        places, written = [np.zeros(0, np.int64)], [np.zeros(0, np.uint8)]
        for which, at, length in self._found:
            places.append(np.repeat(at, len(length)))
            written.append(np.tile(np.frombuffer(length, np.uint8), len(at)))
            grown += np.bincount(which, minlength=rows) * len(length)
        return np.insert(data, np.concatenate(places), np.concatenate(written)).tobytes(), grown

    def past(self, node: Type, rows: Positions, at: Positions) -> Positions:  # noqa: PLR0911 - one for each kind
        """Return the positions after a value of the type in each of `rows`, which begins at `at`."""
        kind = node.kind
        if kind in FIXED_WIDTH:
            return self._room(rows, at, FIXED_WIDTH[kind])
        if kind == "fixed":
            if has_length(node):
                self._found.append((rows, at, varint(node.size)))
            return self._room(rows, at, node.size)
        if kind == "record":
            for part in node.fields:
                at = self.past(part.type, rows, at)
            return at
        if kind in ("array", "map"):
            return self._blocks(node, rows, at)
        number, at = self._number(rows, at)
        if kind in ("string", "bytes"):
            return self._room(rows, at, number)
        if kind == "union":
            return self._branches(node, number, rows, at)
        return at  # an int, a long or an enum: the batch decoder looks at its value

    def _branches(self, node: Type, written: Positions, rows: Positions, at: Positions) -> Positions:
        if len(written) and not 0 <= written.min() <= written.max() < len(node.branches):
            raise Malformed("a union has no such branch")
        at = at.copy()
        for index, branch in enumerate(node.branches):
            here = np.flatnonzero(written == index)
            if len(here) and branch.kind != "null":
                at[here] = self.past(branch, rows[here], at[here])
        return at

    def _blocks(self, node: Type, rows: Positions, at: Positions) -> Positions:
        items = node.items or Type("null")
        at, here = at.copy(), np.arange(len(rows))
        while len(here):
            count, place = self._number(rows[here], at[here])
            sized = np.flatnonzero(count < 0)
            if len(sized):
                size, place[sized] = self._number(rows[here[sized]], place[sized])
                if size.min() < 0:
                    raise Malformed("a block's size is negative")
                count = np.abs(count)
            most = int(count.max())
            self._left -= most
            if self._left < 0 or count.min() < 0:
                raise Malformed("a long list")
            at[here] = place
            for entry in range(most):
                among = here[count > entry]
                if node.kind == "map":
                    at[among] = self.past(Type("string"), rows[among], at[among])
                at[among] = self.past(items, rows[among], at[among])
            here = here[count != 0]
        return at

    def _room(self, rows: Positions, at: Positions, length: int | Positions) -> Positions:
        end = at + length
        if (end > self._ends[rows]).any() or (end < at).any():
            raise Malformed("a record ends early")
        return end

    def _number(self, rows: Positions, at: Positions) -> tuple[Positions, Positions]:
        """Return the long at each position, and the positions after them."""
        value = self._words[at]
        last = ~value & LAST
        last &= ~last + ONE  # the lowest of the bits: of the first byte that is the last of its number
        end = at + 1 + (np.bitwise_count(last - ONE) >> 3)
        value &= ((last << ONE) - ONE) & ~LAST
        for low, shift in SEVENS:  # close the gaps
            value = (value & low) | ((value & ~low) >> shift)
        if not last.all():
            self._nine(np.flatnonzero(last == 0), at, value, end)
        if (end > self._ends[rows]).any():
            raise Malformed("a record ends inside a number")
        return (value >> ONE).astype(np.int64) ^ -(value & ONE).astype(np.int64), end

    def _nine(self, long: Positions, at: Positions, value: NDArray[np.uint64], end: Positions) -> None:
        """Complete numbers of nine or ten bytes."""
        ninth, tenth = (self._data[at[long] + index].astype(np.uint64) for index in (8, 9))
        ten = ninth >> np.uint64(7)
        if (tenth[ten == 1] > 1).any():
            raise Malformed("a number takes more than 64 bits")
        value[long] |= (ninth & np.uint64(0x7F)) << np.uint64(56) | (ten * tenth) << np.uint64(63)
        end[long] = at[long] + 9 + ten.astype(np.int64)
