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

ROWS_AN_ENTRY = 4
"""Records in a batch for each entry of a list that stands before such a `fixed`: one at least costs as much as two by
themselves, or as many as there are in all records."""
FIXED_WIDTH = {**WIDTHS, "boolean": 1, "null": 0}
SPARE = 16
"""Bytes after the last record, more than a number takes."""


class Lengths:
    """Writes them for one schema."""

    def __init__(self, record: Type) -> None:
        self._record = record
        self.needed = _holds(record)

    def write(self, payloads: Sequence[bytes], after: int) -> list[bytes]:
        """Return the payloads with each length in its place; `after` bytes of each follow the record.

        Raises Malformed when one of them is not a record, or has a list that is too long for it.
        """
        joined = b"".join(payloads)
        sizes = np.fromiter(map(len, payloads), np.int64, len(payloads))
        ends = np.cumsum(sizes)
        walk = _Walk(np.frombuffer(joined + bytes(SPARE), np.uint8), ends - after)
        walk.through(self._record, np.arange(len(payloads)), ends - sizes)
        data, grown = walk.insert(np.frombuffer(joined, np.uint8), len(payloads))
        ends += np.cumsum(grown)
        stops = ends.tolist()
        return [data[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


def _holds(node: Type) -> bool:
    return any_type(node, has_length)


class _Walk:
    """Positions in the records of one batch."""

    def __init__(self, data: NDArray[np.uint8], ends: Positions) -> None:
        self._data, self._ends = data, ends
        self._left = len(ends) // ROWS_AN_ENTRY
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

    def through(self, record: Type, rows: Positions, at: Positions) -> Positions:
        """Go through a record's fields; of the outermost one, no further than needed."""
        last = max(index for index, part in enumerate(record.fields) if _holds(part.type))
        for part in record.fields[: last + 1]:
            at = self._past(part.type, rows, at)
        return at

    def _past(self, node: Type, rows: Positions, at: Positions) -> Positions:
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
                at = self._past(part.type, rows, at)
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
                at[here] = self._past(branch, rows[here], at[here])
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
                    at[among] = self._past(Type("string"), rows[among], at[among])
                at[among] = self._past(items, rows[among], at[among])
            here = here[count != 0]
        return at

    def _room(self, rows: Positions, at: Positions, length: int | Positions) -> Positions:
        end = at + length
        if (end > self._ends[rows]).any() or (end < at).any():
            raise Malformed("a record ends early")
        return end

    def _number(self, rows: Positions, at: Positions) -> tuple[Positions, Positions]:
        """Return the long at each position, and the positions after them."""
        byte = self._data[at]
        value, end = (byte & 0x7F).astype(np.uint64), at + 1
        more, shift = np.flatnonzero(byte >= 0x80), 7
        while len(more):
            byte = self._data[end[more]]
            if shift > 63 or (shift == 63 and byte.max() > 1):
                raise Malformed("a number takes more than 64 bits")
            value[more] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
            end[more] += 1
            more, shift = more[byte >= 0x80], shift + 7
        if (end > self._ends[rows]).any():
            raise Malformed("a record ends inside a number")
        return (value >> np.uint64(1)).astype(np.int64) ^ -(value & np.uint64(1)).astype(np.int64), end
