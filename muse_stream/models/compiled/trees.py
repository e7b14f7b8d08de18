"""Answers a table by compiled code."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.models.compiled import native, optimiser
from muse_stream.models.compiled.code import ENTRY, source
from muse_stream.models.compiled.code_cache import CodeCache
from muse_stream.models.compiled.ensemble import Ensemble

BUSY_ROWS = 250_000
"""Rows after which optimising pays: it takes seconds of a processor, and saves a fifth to a half of a row's time."""


class CompiledTrees:
    """One tree ensemble as native code: what the cache has, or made at once without optimisation.

    Any number of rows; a row's answer depends on nothing else in the table. Safe to share between threads.
    """

    def __init__(self, ensemble: Ensemble, cache: Path | None) -> None:
        """`cache` is the folder under which optimised code is kept."""
        self.text = source(ensemble)
        self.optimised = False
        self._width, self._columns = ensemble.width, ensemble.columns
        self._takes = np.dtype(np.float64 if ensemble.double else np.float32)
        self._gives = np.dtype(np.float64 if ensemble.double_answer else np.float32)
        self._cache = None if cache is None else CodeCache(cache, native.version())
        self._left = BUSY_ROWS
        kept = self._cache.find(self.text) if self._cache is not None else None
        if kept is None:
            self._answer = native.linked(native.object_code(self.text, optimised=False), ENTRY)
        else:
            self.exchange(kept)

    def exchange(self, code: bytes) -> None:
        """From the next call on, answer by optimised object code of the same text."""
        self._answer = native.linked(code, ENTRY)
        self.optimised = True

    def answer(self, table: NDArray[Any]) -> NDArray[Any]:
        """Answer `[N, width]` as `[N, columns]`."""
        rows = len(table)
        if table.shape != (rows, self._width):
            raise RuntimeError(f"the trees take [N, {self._width}], not {list(table.shape)}")
        table = np.ascontiguousarray(table, dtype=self._takes)
        answer = np.empty((rows, self._columns), dtype=self._gives)
        if rows:
            self._answer(table.ctypes.data, rows, answer.ctypes.data)
            self._count(rows)
        return answer

    def _count(self, rows: int) -> None:
        before, self._left = self._left, self._left - rows
        if self._left <= 0 < before and not self.optimised and self._cache is not None:
            optimiser.later(self, self._cache)
