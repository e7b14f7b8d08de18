"""Level 1: posterior correction, which undoes the undersampling of negatives that an expert was trained with.

Takes the expert's probability and `beta`, the share of negatives that was kept; returns the probability on the full
stream: p' = beta*p / (1 - (1-beta)*p) (Dal Pozzolo, Caelen, Johnson, Bontempi, "Calibrating Probability with
Undersampling for Unbalanced Classification", 2015; level 1 of MUSE, arXiv 2602.11776). It multiplies the odds by beta,
so the same formula with beta above 1 serves where positives are more frequent than in training: beta is then the odds
of a positive there, over the odds in training (Saerens, Latinne, Decaestecker, "Adjusting the Outputs of a Classifier
to New a Priori Probabilities", 2002).

Invariant: order is never broken and the answer never leaves [0, 1]. So it is computed as 1 / (1 + ((1-p)/p)/beta), the
same number, because each of these operations is monotone in floating point too (the textbook form answers p=1, beta=0.1
with 1 + 2^-52).
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def posterior_correction(p: ArrayLike, beta: float) -> NDArray[np.float64]:
    """Correct probabilities for training on a share `beta` of the negatives, or on other odds of a positive.

    `p` has any shape, in [0, 1]; NaN stays NaN. `beta` 1 changes nothing. Returns a new array of the same shape.
    Raises ValueError when `beta` is no finite number above 0, or a probability is outside [0, 1].
    """
    check_beta(beta)
    probabilities = np.array(p, dtype=np.float64)
    if bool(np.any((probabilities < 0.0) | (probabilities > 1.0))):
        raise ValueError("posterior_correction takes probabilities in [0, 1]")
    return corrected(probabilities, beta)


def corrected_each(p: NDArray[np.float64], beta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply the formula to each probability with a beta of its own; the same bits as `corrected` gives one by one."""
    with np.errstate(divide="ignore", over="ignore"):
        odds_against = (1.0 - p) / p
        return np.where(beta == 1.0, p, 1.0 / (1.0 + odds_against / beta))


def check_beta(beta: float) -> None:
    """Raise ValueError unless beta is finite and above 0."""
    if not 0.0 < beta < math.inf:
        raise ValueError(f"beta is the share of negatives kept, or a ratio of odds: finite and above 0, not {beta!r}")


def corrected(p: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Apply the formula to probabilities already known to be in [0, 1] (or NaN): the hot path's form."""
    if beta == 1.0:
        return p
    with np.errstate(divide="ignore", over="ignore"):  # p = 0 gives 1 / (1 + inf) = 0, which is right
        odds_against = (1.0 - p) / p
        return np.asarray(1.0 / (1.0 + odds_against / beta), dtype=np.float64)
