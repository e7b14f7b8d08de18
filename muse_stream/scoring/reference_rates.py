"""What a reference promises, at the thresholds that are worth watching: the share of events at or above each.

Returns threshold -> promised alert rate, ascending. Thresholds that the document declares are the ones watched: those
of alert rates, and the scores of a few quantiles. A reference that declares none (a Beta mixture), or very many, is
watched where it promises RATES. Such a threshold is rounded: it is the very number that scores are compared with, and
its own alert rate is given.
"""

from collections.abc import Mapping

import numpy as np

from muse_stream.config import ReferenceSpec
from muse_stream.scoring.node_compiler import reference_from

RATES = (0.1, 0.05, 0.01, 0.005, 0.001)
MOST_DECLARED = 16
"""Scores of more quantiles describe a curve; nobody has so many thresholds."""


def promised_rates(spec: ReferenceSpec) -> Mapping[float, float]:
    """Return threshold -> share of events at or above it."""
    if spec.alert_rates is not None:
        return dict(sorted(spec.alert_rates.items()))
    reference = reference_from(spec)
    declared = sorted(set(spec.quantiles.values)) if spec.quantiles is not None else []
    thresholds = [score for score in declared if 0.0 < score < 1.0]
    if not 0 < len(thresholds) <= MOST_DECLARED:
        thresholds = sorted({float(f"{score:.3g}") for score in reference.quantile(1.0 - np.array(RATES)).tolist()})
    rates = reference.alert_rate(np.array(thresholds)).tolist()
    found = zip(thresholds, rates, strict=True)
    return {score: round(rate, 12) for score, rate in found if 0.0 < score < 1.0 and 0.0 < rate < 1.0}
