"""Recalibration of an expert whose distortion is more than undersampling: a monotone curve fitted to labelled data.

Scores and labels give a `Recalibration`: knots of a piecewise-linear curve from scores to probabilities. Two methods
find it, and both are stored in the same form, so a worker evaluates no logarithm and the guarantees are those of a
quantile map: monotone, in [0, 1], the same bits everywhere, NaN stays NaN.

isotonic   Any rising curve: pools adjacent violators (Ayer et al. 1955). The blocks' rates stand at their centres, with
           straight lines between (centred isotonic regression, Oron and Flournoy 2017), and are pulled towards 1/2 by
           half an event each. So the curve rises strictly; steps would make ties, which no threshold parts.
beta       logit(p') = a ln p - b ln(1 - p) + c with a, b >= 0 (Kull, Silva Filho, Flach 2017): three numbers, for
           when labels are few. Its knots follow the formula to 0.1 % of p' and of 1 - p' between 1e-9 and 1 - 1e-9, for
           a and b up to 2.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from muse_stream.calibration.piecewise_linear import Floats, interpolate, strictly_rising
from muse_stream.calibration.score_histogram import both_classes, labels_of, scores_of

Method = Literal["isotonic", "beta"]
EDGE: Final = 1e-9
PER_DECADE: Final = 96
STEPS: Final = 200
CLOSE: Final = 1e-10


class Recalibration(Struct, frozen=True, weakref=True, eq=False):
    """A fitted curve from scores to probabilities, JSON-ready."""

    scores: Floats
    """[K] scores in [0, 1], strictly rising."""
    probabilities: Floats
    """[K] probabilities in [0, 1] at these scores, not falling."""
    samples: int
    """How many labelled events it was fitted on."""
    positives: int
    """How many of them were positive."""
    method: Method = "isotonic"
    fitted_for: str = ""
    """Content hash of the predictor up to the node's input."""
    fitted_on: tuple[str, ...] = ()
    """Tenants whose events these were, where that is known."""

    def __post_init__(self) -> None:
        x, y = self.scores, self.probabilities
        if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
            raise ValueError("a recalibration needs as many probabilities as scores, at least two")
        if not strictly_rising(x) or not (x[0] >= 0.0 and x[-1] <= 1.0):
            raise ValueError("a recalibration's scores rise strictly in [0, 1]")
        if not (np.all(np.diff(y) >= 0.0) and y[0] >= 0.0 and y[-1] <= 1.0):
            raise ValueError("a recalibration's probabilities do not fall and lie in [0, 1]")
        if not 0 < self.positives < self.samples:
            raise ValueError("a recalibration was fitted on events of both classes")

    @classmethod
    def fit(
        cls,
        scores: ArrayLike,
        labels: ArrayLike,
        *,
        method: Method = "isotonic",
        fitted_for: str = "",
        fitted_on: Sequence[str] = (),
    ) -> "Recalibration":
        """Fit to the scores of labelled events (labels 0 and 1).

        Raises ValueError when there are none, when a score is NaN or outside [0, 1], when a label is neither, when one
        class is missing, or when all scores are the same.
        """
        given = scores_of(scores)
        positive = both_classes(labels_of(labels, given))
        values, where = np.unique(given, return_inverse=True)
        if len(values) < 2:
            raise ValueError(f"scores: all {given.size} are {values[0]:g}; a curve needs at least two")
        counts = np.bincount(where.reshape(-1)).astype(np.float64)
        hits = np.asarray(np.bincount(where.reshape(-1), weights=positive), dtype=np.float64)
        fitted = _isotonic if method == "isotonic" else _beta
        x, y = fitted(values, counts, hits)
        return cls(x, y, int(given.size), int(positive.sum()), method, fitted_for, tuple(fitted_on))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Recalibration":
        """Read what `to_json` gives; raises ValueError when a part is missing or wrong."""
        try:
            x, y = (np.array(stored[part], dtype=np.float64) for part in ("scores", "probabilities"))
            counts = int(stored["samples"]), int(stored["positives"])
            tenants = tuple(str(name) for name in stored.get("fitted_on", ()))
            return cls(x, y, *counts, stored.get("method", "isotonic"), str(stored["fitted_for"]), tenants)
        except (KeyError, TypeError) as missing:
            parts = "fitted_for, scores, probabilities, samples and positives"
            raise ValueError(f"a recalibration has {parts} ({missing})") from missing

    def to_json(self) -> dict[str, Any]:
        """Return the stored form, which a file under `recalibrations` holds; `from_json` gives back the same bits."""
        return {
            "fitted_for": self.fitted_for,
            "method": self.method,
            "scores": self.scores.tolist(),
            "probabilities": self.probabilities.tolist(),
            "samples": self.samples,
            "positives": self.positives,
            **({"fitted_on": list(self.fitted_on)} if self.fitted_on else {}),
        }

    def apply(self, scores: ArrayLike) -> Floats:
        """Recalibrate scores of any shape; the result lies in [0, 1]; NaN stays NaN."""
        return interpolate(scores, self.scores, self.probabilities)


def pooled_violators(rates: Floats, weights: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the isotonic regression of `rates`: the rate of each block, and where each block begins."""
    levels: list[float] = []
    loads: list[float] = []
    starts: list[int] = []
    for place, (rate, weight) in enumerate(zip(rates.tolist(), weights.tolist(), strict=True)):
        level, load, start = rate, weight, place
        while levels and levels[-1] >= level:
            below, share, start = levels.pop(), loads.pop(), starts.pop()
            load += share
            level += (below - level) * (share / load)
        levels.append(level)
        loads.append(load)
        starts.append(start)
    return np.array(levels), np.array(starts, dtype=np.int64)


def _isotonic(values: Floats, counts: Floats, hits: Floats) -> tuple[Floats, Floats]:
    _, starts = pooled_violators(hits / counts, counts)
    size = np.add.reduceat(counts, starts)
    centre = np.add.reduceat(values * counts, starts) / size
    rate = (np.add.reduceat(hits, starts) + 0.5) / (size + 1.0)
    rate, again = pooled_violators(rate, size)  # half an event each may have turned two of them round
    total = np.add.reduceat(size, again)
    centre = np.add.reduceat(centre * size, again) / total
    ends = [(0.0, 0.0)] if centre[0] > 0.0 else []
    tops = [(1.0, 1.0)] if centre[-1] < 1.0 else []
    knots = np.array([*ends, *zip(centre.tolist(), rate.tolist(), strict=True), *tops])
    kept = np.concatenate(([True], np.diff(knots[:, 0]) > 0.0))
    return knots[kept, 0], np.maximum.accumulate(knots[kept, 1])


def beta_parameters(values: Floats, counts: Floats, hits: Floats) -> tuple[float, float, float]:
    """Return (a, b, c) of beta calibration by maximum likelihood, with a and b at least 0."""
    inside = np.clip(values, EDGE, 1.0 - EDGE)
    columns = np.stack([np.log(inside), -np.log1p(-inside), np.ones_like(inside)], axis=1)
    used = [0, 1, 2]
    while True:
        fitted = np.zeros(3)
        fitted[used] = _logistic(columns[:, used], counts, hits)
        falling = [place for place in used[:-1] if fitted[place] < 0.0]
        if not falling:
            return float(fitted[0]), float(fitted[1]), float(fitted[2])
        used.remove(min(falling, key=lambda place: fitted[place]))


def _logistic(columns: Floats, counts: Floats, hits: Floats) -> Floats:
    """Return the coefficients of a logistic regression, by Newton's method with halved steps.

    A weak prior (the square of each coefficient, times 1e-6) keeps them finite where the classes are separate.
    """
    ridge = np.full(columns.shape[1], 1e-6)
    at = np.zeros(columns.shape[1])
    best = _loss(columns, counts, hits, at, ridge)
    for _ in range(STEPS):
        p = _expit(columns @ at)
        slope = columns.T @ (hits - counts * p) - ridge * at
        bend = (columns * (counts * p * (1.0 - p))[:, None]).T @ columns + np.diag(ridge)
        step = np.linalg.solve(bend, slope)
        share = 1.0
        while (loss := _loss(columns, counts, hits, at + share * step, ridge)) > best and share > CLOSE:
            share /= 2.0
        at = at + share * step
        if best - loss <= CLOSE * (1.0 + abs(best)):
            break
        best = loss
    return at


def _loss(columns: Floats, counts: Floats, hits: Floats, at: Floats, ridge: Floats) -> float:
    z = columns @ at
    return float(np.sum(counts * np.logaddexp(0.0, z) - hits * z) + 0.5 * np.sum(ridge * at * at))


def _expit(z: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0.0, -z)))


def _beta(values: Floats, counts: Floats, hits: Floats) -> tuple[Floats, Floats]:
    a, b, c = beta_parameters(values, counts, hits)
    if a == 0.0 and b == 0.0:
        raise ValueError("labels: higher scores are not more often positive; there is nothing to recalibrate")
    return beta_knots(a, b, c)


def beta_knots(a: float, b: float, c: float) -> tuple[Floats, Floats]:
    """Return knots of the beta calibration curve."""
    decades = int(-np.log10(EDGE))
    lower = np.power(10.0, np.linspace(-decades, np.log10(0.5), PER_DECADE * decades))
    x = np.concatenate([lower, 1.0 - lower[-2::-1]])
    y = np.maximum.accumulate(_expit(a * np.log(x) - b * np.log1p(-x) + c))
    start = y[0] if a == 0.0 else 0.0  # where a is 0 the formula does not fall to 0 with the score
    end = y[-1] if b == 0.0 else 1.0
    return np.concatenate([[0.0], x, [1.0]]), np.concatenate([[start], y, [end]])
