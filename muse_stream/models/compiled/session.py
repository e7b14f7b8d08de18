"""Runs batches by compiled code, in the place of onnxruntime's session."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.models.compiled.code import ENTRY, source
from muse_stream.models.compiled.ensemble import Ensemble
from muse_stream.models.compiled.native import compiled


class CompiledSession:
    """Answers batches of any size; a row's answer depends on nothing else in the batch."""

    used = 1 << 20
    """Rows of a run, at most."""

    def __init__(self, ensemble: Ensemble, block: int) -> None:
        self._answer = compiled(source(ensemble), ENTRY)
        self._width, self._columns = ensemble.width, ensemble.columns
        self._block = block

    def run(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Answer `[N, width]` float32 as `[M, columns]`: N rows, and copies of the last up to a multiple of `block`.

        numpy's vectorised loops, which go over the answer next, keep the bits of a row only in whole blocks.
        """
        (table,) = inputs
        rows = len(table)
        if table.dtype != np.float32 or table.shape != (rows, self._width):
            raise RuntimeError(f"takes [N, {self._width}] of float32, not {list(table.shape)} of {table.dtype}")
        table = np.ascontiguousarray(table)
        answer = np.empty((rows + -rows % self._block, self._columns), dtype=np.float32)
        if rows:
            self._answer(table.ctypes.data, rows, answer.ctypes.data)
            answer[rows:] = answer[rows - 1]
        return answer
