"""What scoring asks of a model; `models/` offers it for ONNX files, tests offer small doubles.

Arrays in the declared order, each `[N, width]` in the declared dtype, C-contiguous, N >= 1, give `[N]` float64.

Invariant: a row's answer depends on that row alone, bit for bit, whatever stands in the other rows of the call.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray


class ModelInput(Struct, frozen=True):
    """One named input tensor of shape `[N, width]`."""

    name: str
    width: int
    dtype: np.dtype[Any]


class Model(Protocol):
    """A loaded, warmed model."""

    @property
    def sha256(self) -> str:
        """Hash of the artifact: two models of one hash and one binding are the same model."""
        ...

    @property
    def inputs(self) -> tuple[ModelInput, ...]:
        """The inputs, in the order `predict` takes them."""
        ...

    @property
    def float_error(self) -> float:
        """How far outside [0, 1] an answer may lie and still be a probability that was rounded."""
        ...

    def predict(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Return `[N]` probabilities of the positive class; raise whatever it likes when it cannot."""
        ...
