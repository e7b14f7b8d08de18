"""Arrow arrays of bytes to numbers and to text, all values of an array at once."""

from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]

WORD = 8
MOST_BYTES = 32
"""Of a number that is small, with zeros (or, negative, ones) before it."""
_PAIRS = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)
"""Two digits in one number."""
_GROUPS = tuple((start, end, shift) for shift, (start, end) in enumerate(pairwise((0, 8, 12, 16, 20, 32))))
"""Of a UUID's digits, and how many hyphens are before them."""


def integers(array: pa.BinaryArray, most: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return big-endian two's complements as numbers, and which of them are right: from -`most` to `most`.

    A null is 0, and right.
    """
    starts, ends, data = _parts(array)
    if not data.size:
        return np.zeros(len(array), np.int64), np.ones(len(array), np.bool_)
    lengths = ends - starts
    padded = np.concatenate([np.zeros(WORD, np.uint8), data])
    words = np.ndarray(len(padded) - WORD + 1, ">i8", padded, strides=(1,))[ends].astype(np.int64)  # up to each end
    short = 8 * (WORD - np.minimum(lengths, WORD))
    values = np.where(lengths > 0, words << short >> short, 0)
    right = (values >= -most) & (values <= most)
    long = np.flatnonzero(lengths > WORD)
    if len(long):
        width = min(int(lengths.max()), MOST_BYTES) - WORD
        places = ends[long, None] - WORD + np.arange(-width, 0)
        fill = np.where(values[long] < 0, np.uint8(0xFF), np.uint8(0))[:, None]
        filled = (data[np.maximum(places, 0)] == fill) | (places < starts[long, None])
        right[long] &= filled.all(axis=1) & (lengths[long] <= MOST_BYTES)
    return values, right


def hexadecimal(array: pa.BinaryArray) -> pa.StringArray:
    """Return two lower-case digits for each byte; null stays null."""
    offsets, data = _offsets(array), _parts(array)[2]
    return _texts(array, 2 * (offsets - offsets[0]), _PAIRS[data[offsets[0] : offsets[-1]]].view(np.uint8))


def uuids(array: pa.BinaryArray) -> pa.StringArray:
    """Return values of 16 bytes as text with hyphens; null stays null."""
    offsets, data = _offsets(array), _parts(array)[2]
    pairs = _PAIRS[data[offsets[0] : offsets[-1]]].view(np.uint8).reshape(-1, 32)
    text = np.full((len(pairs), 36), ord("-"), np.uint8)
    for start, end, shift in _GROUPS:
        text[:, start + shift : end + shift] = pairs[:, start:end]
    return _texts(array, (offsets - offsets[0]) // 16 * 36, text)


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
