"""What scoring a batch answers: columns per predictor, and one `Rejected` per row that has no live score.

Invariant: each row of the batch is in exactly one live predictor's `rows` or in `rejected`, never both, never neither.
Shadow predictors answer only rows that live answered; their own failures are `errors`, and never a rejection. Arrays
may be shared between predictors that share an operator: read, never write.
"""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from muse_stream.calibration import Floats
from muse_stream.errors import Rejected


class ExpertScores(Struct, frozen=True, eq=False):
    """One expert of a predictor, row by row."""

    name: str
    """The model's name in the document; `model#node` when a predictor uses the model more than once."""
    raw: Floats
    corrected: Floats


class PredictorScores(Struct, frozen=True, eq=False):
    """One predictor's answers to some rows of the batch."""

    predictor: str
    version: int
    rows: NDArray[np.int64]
    """[R] row numbers in the batch, ascending."""
    score: Floats
    """[R] final scores; NaN for a shadow row with an error."""
    aggregate: Floats
    """[R] the value before quantile mapping."""
    experts: tuple[ExpertScores, ...]
    errors: Mapping[int, str]
    """Row -> why it has no score; always empty for live."""


class Scored(Struct, frozen=True, eq=False):
    """A batch's answers."""

    live: tuple[PredictorScores, ...]
    shadow: tuple[PredictorScores, ...]
    rejected: tuple[Rejected, ...]
    """By row."""
    clipped: Mapping[str, int] = field(default_factory=dict)
    """Model -> answers that lay outside [0, 1] by float error alone, and were bounded."""
