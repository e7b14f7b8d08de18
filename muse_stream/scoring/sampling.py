"""Which events a sampled shadow sees, and which of several live predictors answers an event: functions of the id alone.

Event ids as fixed-width bytes give numbers in [0, 1) per event: `position` for samples, `place` for shares of live
events. The two are independent, so a sample holds the same part of each live predictor's events.

Invariant: no randomness, no position, no width of the array enters. An id is in the sample everywhere or nowhere, and a
smaller rate's sample is part of a larger one's. FNV-1a, 64 bit (Fowler, Noll, Vo), then MurmurHash3's finaliser, since
FNV alone leaves the high bits of short ids badly mixed. One operation per byte column, none per event.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muse_stream.calibration import Floats

ID_BYTES: Final = 256
"""Whoever makes the ids cuts them here, the same everywhere, so that one giant id cannot widen a whole batch."""

_OFFSET: Final = np.uint64(0xCBF29CE484222325)
_PRIME: Final = np.uint64(0x100000001B3)
_MIX_1: Final = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2: Final = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT: Final = np.uint64(33)
_LIVE: Final = np.uint64(0x9E3779B97F4A7C15)
"""Sets the place among live events apart from the position among samples."""
_SPLIT_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_SPLIT_2: Final = np.uint64(0x94D049BB133111EB)


def hashed(ids: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """Return a 64-bit hash per id (trailing NUL bytes, which numpy cannot tell from padding, do not count)."""
    hashes = np.full(len(ids), _OFFSET, dtype=np.uint64)
    width = ids.dtype.itemsize
    if width and len(ids):
        lengths: NDArray[Any] = np.strings.str_len(ids)
        shortest = int(lengths.min())
        columns = np.ascontiguousarray(np.ascontiguousarray(ids).view(np.uint8).reshape(len(ids), width).T)
        for position in range(int(lengths.max())):
            step = (hashes ^ columns[position]) * _PRIME
            hashes = step if position < shortest else np.where(position < lengths, step, hashes)
    hashes ^= hashes >> _SHIFT
    hashes *= _MIX_1
    hashes ^= hashes >> _SHIFT
    hashes *= _MIX_2
    hashes ^= hashes >> _SHIFT
    return hashes


def position(ids: NDArray[np.bytes_]) -> Floats:
    """Return each id's position in [0, 1) among samples."""
    return _unit(hashed(ids))


def place(ids: NDArray[np.bytes_]) -> Floats:
    """Return each id's place in [0, 1) among the live events of a route, independent of `position`."""
    hashes = hashed(ids) ^ _LIVE
    # Vigna's SplitMix64: another finaliser, so that nothing of the order of the samples is left
    hashes = (hashes ^ (hashes >> np.uint64(30))) * _SPLIT_1
    hashes = (hashes ^ (hashes >> np.uint64(27))) * _SPLIT_2
    return _unit(hashes ^ (hashes >> np.uint64(31)))


def _unit(hashes: NDArray[np.uint64]) -> Floats:
    """Return the upper 53 bits as a number in [0, 1), exact in a double."""
    return np.asarray((hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53, dtype=np.float64)


def sampled(ids: NDArray[np.bytes_], rate: float) -> NDArray[np.bool_]:
    """Tell which ids belong to the sample of a share `rate` in [0, 1]: all at 1, none at 0."""
    return np.asarray(position(ids) < rate, dtype=np.bool_)
