"""Answers a table by compiled code."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.models.compiled import lanes, native, optimiser, walk
from muse_stream.models.compiled.code import ENTRY
from muse_stream.models.compiled.code_cache import CodeCache
from muse_stream.models.compiled.ensemble import Ensemble

BUSY_ROWS = 100_000
"""Rows after which optimising pays soon: it takes seconds of a processor, and makes a row up to ten times cheaper."""


class CompiledTrees:
    """One tree ensemble as native code: at once as nested ifs, or as the faster form without branches from the cache.

    Once it has answered many rows, the faster form is made in the background and takes the place of the first.
    Any number of rows; a row's answer depends on nothing else in the table. Safe to share between threads.
    """

    def __init__(self, ensemble: Ensemble, cache: Path | None) -> None:
        """`cache` is the folder under which the faster form is kept; None: nothing is."""
        self.optimised = False
        self.text = (lanes if lanes.fits(ensemble) else walk).source(ensemble)
        """Of the faster form."""
        self._width, self._columns = ensemble.width, ensemble.columns
        self._takes = np.dtype(np.float64 if ensemble.double else np.float32)
        self._gives = np.dtype(np.float64 if ensemble.double_answer else np.float32)
        self._cache = None if cache is None else CodeCache(cache, native.version())
        self._left = BUSY_ROWS
        self._first: tuple[NDArray[Any], NDArray[Any]] | None = None
        """The first table that was answered, and its answer: other code must give the same."""
        kept = None if self._cache is None else self._cache.find(self.text)
        if kept is None:
            self._answer = native.linked(native.object_code(walk.source(ensemble), optimised=False), ENTRY)
        else:
            self.exchange(kept)

    def exchange(self, code: bytes) -> None:
        """From the next call on, answer by the faster form's object code; raises RuntimeError if its bits differ."""
        answer = native.linked(code, ENTRY)
        if self._first is not None:
            table, known = self._first
            if self._by(answer, table).tobytes() != known.tobytes():
                raise RuntimeError("optimised code gives other bits")
        self._answer, self.optimised = answer, True

    def optimise(self) -> None:
        """Make the faster form now, or take it from the cache, and wait for it (benchmarks); raises RuntimeError."""
        if not self.optimised and self._cache is not None:
            optimiser.now(self, self._cache)

    def answer(self, table: NDArray[Any]) -> NDArray[Any]:
        """Answer `[N, width]` as `[N, columns]`."""
        rows = len(table)
        if table.shape != (rows, self._width):
            raise RuntimeError(f"the trees take [N, {self._width}], not {list(table.shape)}")
        table = np.ascontiguousarray(table, dtype=self._takes)
        answer = self._by(self._answer, table)
        if not self.optimised:
            self._count(table, answer)
        return answer

    def _by(self, function: native.Answer, table: NDArray[Any]) -> NDArray[Any]:
        answer = np.empty((len(table), self._columns), dtype=self._gives)
        if len(table):
            function(table.ctypes.data, len(table), answer.ctypes.data)
        return answer

    def _count(self, table: NDArray[Any], answer: NDArray[Any]) -> None:
        if self._first is None:
            self._first = table.copy(), answer.copy()
        before, self._left = self._left, self._left - len(table)
        if self._left <= 0 < before and self._cache is not None:
            optimiser.later(self, self._cache)
