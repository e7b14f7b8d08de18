"""Which rows of a batch each operator of the plan runs on.

The part of a route of every row (one for each live predictor), and for each operator the share of each part's events it
must have, give row sets. Operators with equal selections share one `Selection`, rows always ascend, and the whole batch
is never copied. A share below 1 is decided by the event id alone, and a smaller share is part of a larger one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from muse_stream.calibration import Floats
from muse_stream.scoring.columns import Categorical, Column
from muse_stream.scoring.routing import Routes

Rows = NDArray[np.int64]
Numbers = NDArray[np.intp]


class Shares:
    """Which parts of routes each selection of a generation wants, and which share of their events."""

    def __init__(self, wanted: Sequence[Mapping[int, float]], parts: int) -> None:
        """`wanted`: for each selection, number of a part -> share of its events in (0, 1]; parts end at `parts`."""
        self._wanted = tuple(dict(one) for one in wanted)
        self.parts: Final = parts
        self.samples: Final = any(share < 1.0 for one in self._wanted for share in one.values())
        """Whether any share is below 1: then event ids decide."""
        self._of_part = self._wanting(0.0)
        self._all_of_part = self._wanting(1.0) if self.samples else self._of_part

    def row(self, selection: int) -> Floats:
        """Return `[parts + 1]` shares that a selection wants; the last is for rows without a route."""
        wanted = self._wanted[selection]
        row = np.zeros(self.parts + 1)
        row[list(wanted)] = list(wanted.values())
        return row

    def among(self, present: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Return for each selection how many of some parts it wants, how many of these wholly, and one it wants.

        A part is -1 where there is no route. The one is a place in `present`.
        """
        parts, size = present.tolist(), len(self._wanted)
        some = [self._of_part[part] for part in parts]
        numbers = np.concatenate(some)
        one = np.zeros(size, dtype=np.intp)
        one[numbers] = np.repeat(np.arange(len(parts)), [len(of) for of in some])
        count = np.bincount(numbers, minlength=size)
        if not self.samples:
            return count, count, one
        return count, np.bincount(np.concatenate([self._all_of_part[part] for part in parts]), minlength=size), one

    def _wanting(self, least: float) -> list[Numbers]:
        """Return for each part, and in the end for none, the selections that want such a share of it."""
        found: list[list[int]] = [[] for _ in range(self.parts + 1)]
        for number, one in enumerate(self._wanted):
            for part, share in one.items():
                if share >= least:
                    found[part].append(number)
        return [np.array(one, dtype=np.intp) for one in found]


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

    def __init__(self, routes: Routes, shares: Shares, position: Callable[[], Floats]) -> None:
        """Take the part per row, what selections want of the parts, and the ids' positions."""
        self._routes = routes
        self._shares = shares
        self._position = position
        self._present = np.flatnonzero(np.bincount(routes + 1, minlength=1)) - 1
        # a generation may have hundreds of selections, of which a small batch needs a few: found for all at once
        self._some, self._full, self._one = shares.among(self._present)
        self._all = np.arange(len(routes), dtype=np.int64)
        self._made: dict[int, Selection] = {}
        self._places: dict[tuple[int, int], NDArray[np.intp]] = {}
        self._sorted: tuple[Rows, NDArray[np.intp]] | None = None

    def needed(self, selections: NDArray[np.intp]) -> list[int]:
        """Return at which places of an array of selections there is one that may have rows in this batch, ascending."""
        return np.flatnonzero(self._some[selections] > 0).tolist()

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
        some, full = int(self._some[selection]), int(self._full[selection])
        if full == len(self._present):
            return Selection(selection, self._all, whole=True)
        if not some:
            return Selection(selection, self._all[:0], whole=False)
        if some > full:
            return Selection(selection, np.flatnonzero(self._position() < self._share_of_rows(selection)), whole=False)
        if some == 1:
            return Selection(selection, self._of_route(int(self._one[selection])), whole=False)
        return Selection(selection, np.flatnonzero(self._share_of_rows(selection) == 1.0), whole=False)

    def _share_of_rows(self, selection: int) -> Floats:
        return np.asarray(self._shares.row(selection)[self._routes])

    def _of_route(self, present: int) -> Rows:
        """Return the rows of one route: sorted once per batch, so many routes do not each look at every row."""
        if self._sorted is None:
            narrow = self._routes.astype(np.int16) if self._shares.parts < 1 << 15 else self._routes  # radix sort
            order = np.argsort(narrow, kind="stable")
            self._sorted = order, np.searchsorted(self._routes[order], np.append(self._present, self._present[-1] + 1))
        order, bounds = self._sorted
        return order[bounds[present] : bounds[present + 1]]
