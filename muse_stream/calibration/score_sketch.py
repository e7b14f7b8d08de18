"""The distribution of scores in 13 to 30 kB, whatever their number: a mergeable REQ sketch of their logits.

Takes scores in [0, 1]; gives their number (exact), the share at or above a score, and the distribution that a quantile
map is fitted to. Relative error quantiles (Cormode et al., "Relative Error Streaming Quantiles", PODS 2021; Apache
DataSketches) are most exact at the highest scores, where alert rates are small: with K = 50, alert rates from 70 % to
0.1 % of a million events are within 1 % of themselves (docs/sketches.md has the figures).

The sketch holds float32, too coarse near 1 for a score and fine enough for its logit. It draws random numbers: two
sketches of the same scores may differ, within that error. Their number never does.

The stored form is the library's, half as large and without loss (`packed_words`): a sketch holds sorted numbers, whose
bit patterns differ little from one to the next. It grows with the logarithm of the number of scores.

The library, `datasketches`, is an extra: whoever only scores needs none of it.
"""

import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muse_stream.calibration.measures import population_stability, stability_edges
from muse_stream.calibration.piecewise_linear import Floats
from muse_stream.calibration.quantile_map import FittedMap, QuantileMap, knots_of, sound_scores
from muse_stream.calibration.reference import Reference

K: Final = 50
LARGEST_LOGIT: Final = 700.0
"""Stands for a score of 0 or 1, whose logit is infinite; e^-700 is above the smallest double."""
MOST_BYTES: Final = 1 << 20
"""Of a sketch in memory: more is no sketch that this module has written."""


class ScoreSketch:
    """A sketch of scores; grows by `add` and `merge`."""

    def __init__(self) -> None:
        self._sketch = _library().req_floats_sketch(K, True)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ScoreSketch":
        """Read what `to_bytes` gave; raises ValueError for anything else."""
        made = cls.__new__(cls)
        try:
            made._sketch = _library().req_floats_sketch.deserialize(unpacked_words(data, MOST_BYTES))
        except (RuntimeError, ValueError, IndexError, MemoryError, zlib.error) as error:
            raise ValueError(f"no sketch of scores: {error}") from error
        if made._sketch.k != K or not made._sketch.is_hra:
            raise ValueError(f"no sketch of scores: its k is {made._sketch.k}, and here it is {K}, exact at the top")
        return made

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        return packed_words(bytes(self._sketch.serialize()))

    @property
    def events(self) -> int:
        """How many scores it has taken."""
        return int(self._sketch.n)

    def add(self, scores: ArrayLike) -> None:
        """Take scores; raises ValueError, and takes none, where one is NaN or outside [0, 1]."""
        self._sketch.update(logits(sound_scores(scores)).astype(np.float32))

    def merge(self, other: "ScoreSketch") -> None:
        """Take what another sketch has taken."""
        self._sketch.merge(other._sketch)

    def distribution(self) -> tuple[Floats, Floats]:
        """Return the scores that it holds, rising, and the share of events that each stands for."""
        if self._sketch.is_empty():  # of which the library's iteration ends the process
            raise ValueError("a sketch without events has no distribution")
        values, weights = np.array(list(self._sketch), dtype=np.float64).T
        scores, at = np.unique(_scores(values), return_inverse=True)
        return scores, np.bincount(at.reshape(-1), weights=weights) / self.events

    def fit(self, reference: Reference, fitted_for: str = "", fitted_on: tuple[str, ...] = ()) -> FittedMap:
        """Fit a quantile map; raises ValueError without two different scores."""
        scores, shares = self.distribution()
        if len(scores) < 2:
            raise ValueError(f"all {self.events:,} scores are {scores[0]:g}: there is no distribution to fit to")
        mid_ranks = np.cumsum(shares) - 0.5 * shares
        levels, values = knots_of(scores, mid_ranks, self.events, reference)
        return FittedMap(levels, values, self.events, fitted_for, fitted_on)

    def alert_rates(self, served: QuantileMap, thresholds: ArrayLike) -> Floats:
        """Return the share of events whose mapped score is at or above each threshold."""
        scores, shares = self.distribution()
        mapped = served.apply(scores)
        return np.array([float(shares[mapped >= one].sum()) for one in np.asarray(thresholds, dtype=np.float64)])

    def against(self, served: QuantileMap) -> tuple[float, float]:
        """Return how far the mapped scores are from their reference.

        Population stability index, and the largest distance of the distribution functions (Kolmogorov, Smirnov).
        """
        scores, shares = self.distribution()
        mapped, at = np.unique(served.apply(scores), return_inverse=True)
        share = np.bincount(at.reshape(-1), weights=shares)
        edges = stability_edges(served.reference)
        wanted = -np.diff(served.reference.alert_rate(np.concatenate([[0.0], edges])), append=0.0)
        bins = np.searchsorted(edges, mapped, side="right")
        psi = population_stability(wanted, np.bincount(bins, weights=share, minlength=len(edges) + 1))
        below = np.cumsum(share)
        promised = 1.0 - served.reference.alert_rate(mapped)
        # an atom of the reference counts from its score on; a score between two that are held, from the lower one on
        after = 1.0 - served.reference.alert_rate(np.nextafter(mapped, 2.0))
        return psi, float(max(np.max(np.abs(below - after)), np.max(np.abs(below - share - promised))))


def packed_words(data: bytes) -> bytes:
    """Return numbers of 32 bits that rise, or are small, in fewer bytes: their steps, byte by byte, deflated."""
    words = np.frombuffer(data + bytes(-len(data) % 4), dtype="<u4")
    steps = np.diff(words, prepend=np.uint32(0)).astype("<u4")
    planes = steps.view(np.uint8).reshape(-1, 4).T
    return len(data).to_bytes(4, "little") + zlib.compress(planes.tobytes())


def unpacked_words(data: bytes, most: int) -> bytes:
    """Return what `packed_words` was given; raises ValueError, or zlib.error, for other bytes or more than `most`."""
    size = int.from_bytes(data[:4], "little")
    if size > most:
        raise ValueError(f"{size:,} bytes, more than {most:,}")
    stream = zlib.decompressobj()
    planes = stream.decompress(data[4:], most + 4)
    if not stream.eof or len(planes) != size + -size % 4:
        raise ValueError(f"{len(planes):,} bytes in place of {size:,}")
    steps = np.frombuffer(planes, dtype=np.uint8).reshape(4, -1).T.copy().view("<u4").reshape(-1)
    return np.cumsum(steps, dtype="<u4").tobytes()[:size]


def logits(scores: Floats) -> Floats:
    """Return log(p / (1 - p)); finite for 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.clip(np.log(scores) - np.log1p(-scores), -LARGEST_LOGIT, LARGEST_LOGIT))


def _scores(values: Floats) -> NDArray[np.float64]:
    found = 1.0 / (1.0 + np.exp(-values))
    found[values <= -LARGEST_LOGIT] = 0.0
    return np.asarray(found, dtype=np.float64)


def _library() -> Any:
    import datasketches  # noqa: PLC0415 - an extra

    return datasketches
