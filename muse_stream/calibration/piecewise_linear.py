"""Monotone piecewise-linear functions, evaluated so that a value's result depends on nothing but the value.

Knots (x strictly rising, y not falling) give y at any x, constant outside the knots; NaN gives NaN.

Invariant: elementwise arithmetic only, exact at knots and monotone in floating point (every operation is, and each
segment is capped by its upper knot). Not `np.interp`: it computes slopes beforehand or on the fly depending on *how
many* values are asked for. Both ways gave equal bits when measured (numpy 2.4, x86-64), but nothing promises it for
every build, and the same bits in any batch are this product's promise; so `searchsorted` finds the segment, and one
formula follows.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MANY_CURVES, FEW_VALUES = 20, 100
"""Curve by curve a look-up costs 3 us a curve; all values side by side cost 60 us, and 0.1 us a value."""


class Segments:
    """Several piecewise-linear functions, laid end to end so that one gather serves rows of all of them."""

    def __init__(self, curves: Sequence[tuple[Floats, Floats]]) -> None:
        """Take `(x, y)` knots per curve; x strictly rising, y not falling, at least one knot."""
        self._knots = tuple(np.ascontiguousarray(x, dtype=np.float64) for x, _ in curves)
        sizes = [len(x) for x in self._knots]
        self._offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.intp)
        self._x = np.concatenate(self._knots)
        self._y = np.concatenate([np.asarray(y, dtype=np.float64) for _, y in curves])
        self._strides = [1 << bit for bit in reversed(range(max(sizes).bit_length()))]
        # The last knot of a curve starts a segment of no height: values beyond it stay at its y.
        self._dx = np.concatenate([np.append(np.diff(x), 1.0) for x, _ in curves])
        self._dy = np.concatenate([np.append(np.diff(y), 0.0) for _, y in curves])
        self._top = np.concatenate([np.append(np.asarray(y)[1:], np.asarray(y)[-1]) for _, y in curves])

    def one(self, curve: int, values: Floats) -> Floats:
        """Evaluate one curve at every value."""
        return self._at(values, self._segment(curve, values))

    def each(self, which: NDArray[np.intp], values: Floats) -> Floats:
        """Evaluate curve `which[row]` at `values[row]`; the same bits as `one` gives row by row."""
        if not len(values):
            return np.empty(0, dtype=np.float64)
        order = np.argsort(which, kind="stable")
        ranked = which[order]
        starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
        if len(starts) > MANY_CURVES and len(values) < FEW_VALUES * len(starts):
            return self._at(values, self._segments_of(which, values))
        ends = np.append(starts[1:], len(ranked))
        segments = np.empty(len(values), dtype=np.intp)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            rows = order[start:end]
            segments[rows] = self._segment(int(ranked[start]), values[rows])
        return self._at(values, segments)

    def _segment(self, curve: int, values: Floats) -> NDArray[np.intp]:
        found = self._knots[curve].searchsorted(values, side="right")
        np.maximum(found, 1, out=found)  # below the first knot: its own segment, held at its start by _at
        found += self._offsets[curve] - 1
        return found

    def _segments_of(self, which: NDArray[np.intp], values: Floats) -> NDArray[np.intp]:
        """Return what `_segment` returns, each value in a curve of its own: bisected side by side."""
        first, last = self._offsets[which], self._offsets[which + 1] - 1
        found = first.copy()
        for step in self._strides:
            ahead = found + step
            # not `<=`: NaN stands after all knots, as it does in `searchsorted`
            found = np.where((ahead <= last) & ~(self._x[np.minimum(ahead, last)] > values), ahead, found)
        return found

    def _at(self, values: Floats, segments: NDArray[np.intp]) -> Floats:
        share = values - self._x[segments]
        np.maximum(share, 0.0, out=share)
        share /= self._dx[segments]
        np.minimum(share, 1.0, out=share)
        share *= self._dy[segments]
        share += self._y[segments]
        return np.asarray(np.minimum(share, self._top[segments], out=share), dtype=np.float64)


class Curves:
    """Collects the curves of many users, equal ones once, until `segments` is first read."""

    def __init__(self) -> None:
        self._knots: dict[tuple[bytes, bytes], tuple[Floats, Floats]] = {}
        self._numbers: dict[tuple[bytes, bytes], int] = {}

    def add(self, x: Floats, y: Floats) -> int:
        """Return the number of a curve in `segments`."""
        if "segments" in self.__dict__:
            raise ValueError("the curves are complete: none can be added")
        key = x.tobytes(), y.tobytes()
        self._knots[key] = x, y
        return self._numbers.setdefault(key, len(self._numbers))

    @cached_property
    def segments(self) -> Segments:
        """All of them. Raises ValueError where there are none."""
        return Segments(list(self._knots.values()))


def interpolate(values: ArrayLike, x: Floats, y: Floats) -> Floats:
    """Evaluate one curve once, any shape (for fitting and reports; the hot path keeps `Segments`)."""
    given = np.asarray(values, dtype=np.float64)
    return Segments([(x, y)]).one(0, given.reshape(-1)).reshape(given.shape)


def strictly_rising(x: Floats) -> bool:
    """Tell whether each knot stands to the right of the one before (NaN never does)."""
    return bool(np.all(x[1:] > x[:-1]))


def tail_levels(*, uniform: int = 128, per_decade: int = 16, smallest: float = 1e-6) -> Floats:
    """Return probability levels 0..1 that grow denser towards both ends, down to `smallest` from either.

    Alert rates of 1 in 1000 are decided in the upper tail, where a uniform grid has nothing: so the grid is uniform in
    the body and geometric in the tails (lower tail at half the density: no threshold lives there).
    """
    body = np.linspace(0.0, 1.0, uniform + 1)
    decades = np.log10(0.5 / smallest)
    upper = 1.0 - 0.5 * np.power(10.0, -np.linspace(0.0, decades, int(per_decade * decades) + 1))
    lower = 0.5 * np.power(10.0, -np.linspace(0.0, decades, int(per_decade * decades / 2) + 1))
    return np.unique(np.concatenate((body, lower, upper)))
