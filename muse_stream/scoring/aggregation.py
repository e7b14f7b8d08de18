"""Combines corrected experts into one score: one array of probabilities per expert, in declared order, gives one array.

Invariant: the order of operations is fixed and elementwise, never a BLAS dot or a pairwise sum, so an event's aggregate
has the same bits in any batch; the result of probabilities stays in [0, 1] in floating point too.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from muse_stream.calibration import Floats

EDGE: Final = 2.0**-53
"""logit_mean keeps probabilities this far from 0 and 1: one expert's certainty is strong evidence, not a veto."""

Combine = Callable[[Sequence[Floats]], Floats]


def mean(parts: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Return sum(w*p) / sum(w), summed in order; each product and sum rounds monotonically, so 0 <= mean <= 1."""
    total = weights[0]
    combined = parts[0] * weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        combined += part * weight
        total += weight
    combined /= total
    return combined


def logit_mean(parts: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Return expit of the weighted mean of logits (the geometric mean of odds)."""
    from scipy.special import expit, logit  # noqa: PLC0415 - 0.5 s to import, and only this aggregation needs it

    logits = [np.asarray(logit(np.clip(part, EDGE, 1.0 - EDGE)), dtype=np.float64) for part in parts]
    return np.asarray(expit(mean(logits, weights)), dtype=np.float64)


def maximum(parts: Sequence[Floats]) -> Floats:
    """Return the highest score; NaN if any is NaN."""
    combined = parts[0].copy()
    for part in parts[1:]:
        np.maximum(combined, part, out=combined)
    return combined


def minimum(parts: Sequence[Floats]) -> Floats:
    """Return the lowest score; NaN if any is NaN."""
    combined = parts[0].copy()
    for part in parts[1:]:
        np.minimum(combined, part, out=combined)
    return combined


def median(parts: Sequence[Floats]) -> Floats:
    """Return the middle score, or the mean of the two middle ones; NaN if any is NaN."""
    ranked: Floats = np.sort(np.stack(parts), axis=0)
    half = len(parts) // 2
    combined: Floats = ranked[half].copy() if len(parts) % 2 else 0.5 * (ranked[half - 1] + ranked[half])
    combined[np.isnan(ranked[-1])] = np.nan  # sort puts NaN last
    return combined


def combiner(how: str, weights: Sequence[float] | None, arity: int) -> Combine:
    """Return the function for one aggregate node, with its weights bound. Raises KeyError for an unknown `how`."""
    bound = tuple(float(weight) for weight in weights) if weights is not None else (1.0,) * arity
    table: dict[str, Combine] = {
        "mean": lambda parts: mean(parts, bound),
        "logit_mean": lambda parts: logit_mean(parts, bound),
        "max": maximum,
        "min": minimum,
        "median": median,
    }
    if how == "logit_mean":
        logit_mean([np.array([0.5])], (1.0,))  # imports now, not with the first event
    return table[how]
