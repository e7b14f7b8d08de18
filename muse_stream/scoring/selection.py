"""Which rows of a batch each operator of the plan runs on.

The part of a route of every row (one for each live predictor), and for each operator the share of each part's events it
must have, give row sets. Operators
with equal selections share one `Selection`, rows always ascend, and the whole batch is never copied.
A share below 1 is decided by the event id alone, and a smaller share is part of a larger one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from muse_stream.calibration import Floats
from muse_stream.scoring.columns import Categorical, Column
from muse_stream.scoring.routing import Routes

Rows = NDArray[np.int64]
Shares = Mapping[int, float]
"""Number of a part of a route -> share of its events in (0, 1]."""


class Selection:
    """Some rows of one batch, ascending."""

    __slots__ = ("_rows", "number", "size", "whole")

    def __init__(self, number: int, rows: Rows, *, whole: bool) -> None:
        self.number: Final = number
        self.size: Final = len(rows)
        self.whole: Final = whole
        self._rows = rows

    @property
    def rows(self) -> Rows:
        """Row numbers in the batch."""
        return self._rows

    def take(self, column: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the entries of a batch column at these rows (the column itself when that is all of it)."""
        return column if self.whole else column[self._rows]

    def take_column(self, column: Column) -> Column:
        """Return a feature column at these rows."""
        if isinstance(column, Categorical):
            return column if self.whole else Categorical(column.values, column.codes[self._rows])
        return self.take(column)

    def positions(self, rows: Iterable[int]) -> NDArray[np.intp]:
        """Return where in this set those of `rows` stand that belong to it."""
        wanted = np.array(sorted(rows), dtype=np.int64)
        if self.whole:
            return wanted.astype(np.intp)
        found = np.minimum(np.searchsorted(self._rows, wanted), max(self.size - 1, 0))
        return found[self._rows[found] == wanted] if self.size else found[:0]


class Selections:
    """The row sets of one batch, made when first asked for."""

    def __init__(self, routes: Routes, shares: NDArray[np.float64], position: Callable[[], Floats]) -> None:
        """Take the part per row, `[selections, parts + 1]` shares (last column: no route), and the ids' positions."""
        self._routes = routes
        self._shares = shares
        self._position = position
        self._present = np.flatnonzero(np.bincount(routes + 1, minlength=1)) - 1
        self._all = np.arange(len(routes), dtype=np.int64)
        self._made: dict[int, Selection] = {}
        self._places: dict[tuple[int, int], NDArray[np.intp]] = {}
        self._sorted: tuple[Rows, NDArray[np.intp]] | None = None

    def of(self, selection: int) -> Selection:
        """Return the rows that a selection wants; the same object every time."""
        made = self._made.get(selection)
        if made is None:
            made = self._made[selection] = self._make(selection)
        return made

    def aligned(self, values: Floats, source: Selection, target: Selection) -> Floats:
        """Return `values`, which belong to `source`, at the rows of `target`, a part of `source`."""
        if source is target or source.size == target.size:
            return values
        if source.whole:
            return values[target.rows]
        key = (source.number, target.number)
        if key not in self._places:
            self._places[key] = np.searchsorted(source.rows, target.rows)
        return values[self._places[key]]

    def _make(self, selection: int) -> Selection:
        share = self._shares[selection]
        wanted = share[self._present]
        if bool((wanted == 1.0).all()):
            return Selection(selection, self._all, whole=True)
        if not wanted.any():
            return Selection(selection, self._all[:0], whole=False)
        if bool(((wanted > 0.0) & (wanted < 1.0)).any()):
            return Selection(selection, np.flatnonzero(self._position() < share[self._routes]), whole=False)
        if np.count_nonzero(wanted) == 1:
            return Selection(selection, self._of_route(int(np.flatnonzero(wanted)[0])), whole=False)
        return Selection(selection, np.flatnonzero(share[self._routes] == 1.0), whole=False)

    def _of_route(self, present: int) -> Rows:
        """Return the rows of one route: sorted once per batch, so many routes do not each look at every row."""
        if self._sorted is None:
            narrow = self._routes.astype(np.int16) if self._shares.shape[1] < 1 << 15 else self._routes  # radix sort
            order = np.argsort(narrow, kind="stable")
            self._sorted = order, np.searchsorted(self._routes[order], np.append(self._present, self._present[-1] + 1))
        order, bounds = self._sorted
        return order[bounds[present] : bounds[present + 1]]
