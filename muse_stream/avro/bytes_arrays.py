"""Arrow arrays of bytes to numbers and to text, all values of an array at once."""

from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]

WORD = 8
MOST_BYTES = 32
"""Of a number that is small, with zeros (or, negative, ones) before it."""
_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint8).reshape(256, 2)
_DIGITS = [place for place in range(36) if place not in (8, 13, 18, 23)]
"""Places of a UUID's text that are no hyphens."""


def integers(array: pa.BinaryArray, most: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return big-endian two's complements as numbers, and which of them are right: from -`most` to `most`.

    A null is 0, and right.
    """
    starts, ends, data = _parts(array)
    if not data.size:
        return np.zeros(len(array), np.int64), np.ones(len(array), np.bool_)
    lengths = ends - starts
    negative = (data[np.minimum(starts, data.size - 1)] >= 0x80) & (lengths > 0)
    fill = np.where(negative, np.uint8(0xFF), np.uint8(0))
    values: NDArray[np.int64] = _before(data, starts, ends, WORD, fill).view(">i8").ravel().astype(np.int64)
    right = (values >= -most) & (values <= most)
    long = np.flatnonzero(lengths > WORD)
    if len(long):
        width = min(int(lengths.max()), MOST_BYTES) - WORD
        front = _before(data, starts[long], ends[long] - WORD, width, fill[long])
        filled = (front == fill[long, None]).all(axis=1) & ((values[long] < 0) == negative[long])
        right[long] &= filled & (lengths[long] <= MOST_BYTES)
    return values, right


def hexadecimal(array: pa.BinaryArray) -> pa.StringArray:
    """Return two lower-case digits for each byte; null stays null."""
    starts, _, data = _parts(array)
    base = int(starts[0]) if len(starts) else 0
    return _texts(array, 2 * (_offsets(array) - base), _HEX[data[base:]])


def uuids(array: pa.BinaryArray) -> pa.StringArray:
    """Return values of 16 bytes as text with hyphens; null stays null."""
    starts, ends, data = _parts(array)
    there = np.flatnonzero(ends - starts)
    text = np.full((len(there), 36), ord("-"), np.uint8)
    if len(there):
        text[:, _DIGITS] = _HEX[data[starts[there, None] + np.arange(16)]].reshape(-1, 32)
    return _texts(array, np.concatenate([[0], np.cumsum(np.where(ends > starts, 36, 0))]), text)


def _before(data: Bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], width: int, fill: Bytes) -> Bytes:
    """Return the `width` bytes before each end, with `fill` where that is before its start."""
    places = ends[:, None] + np.arange(-width, 0)
    inside = places >= starts[:, None]
    return np.where(inside, data[np.where(inside, places, 0)], fill[:, None])


def _offsets(array: pa.BinaryArray) -> NDArray[np.int64]:
    if not len(array):
        return np.zeros(1, np.int64)
    return np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)


def _parts(array: pa.BinaryArray) -> tuple[NDArray[np.int64], NDArray[np.int64], Bytes]:
    """Return where each value starts and ends, and the bytes."""
    offsets, buffer = _offsets(array), array.buffers()[2]
    data = np.frombuffer(buffer, np.uint8) if buffer is not None and buffer.size else np.zeros(0, np.uint8)
    return offsets[:-1], offsets[1:], data


def _texts(array: pa.BinaryArray, offsets: NDArray[np.int64], text: Bytes) -> pa.StringArray:
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(np.ascontiguousarray(text))]
    texts = pa.Array.from_buffers(pa.string(), len(array), buffers)
    return pc.if_else(array.is_valid(), texts, pa.scalar(None, pa.string())) if array.null_count else texts
