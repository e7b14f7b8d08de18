"""Routing: from a batch of intents to the first rule that matches each row, and to the live predictor of each event.

Takes rules (attribute -> allowed values) at compile time and one `Categorical` per attribute at run time; returns the
rule number per row, -1 where no rule holds.

Rules are evaluated per *distinct* intent, never per row. Values that no rule names are one value to routing, so an
intent is a mixed-radix number over the few values that matter. When all such numbers fit a table, the rules are
evaluated for each at compile time and a batch costs one gather per attribute; otherwise distinct numbers of a batch are
found by `np.unique` and remembered in a bounded cache.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from muse_stream.calibration import Floats
from muse_stream.scoring.columns import Categorical

Rule = Mapping[str, frozenset[str]]
Routes = NDArray[np.int32]

NO_ROUTE: Final = -1
_NONE: Final = np.zeros(1, dtype=np.int64)
_OTHER: Final = 0  # class of a null and of every value that no rule names: no rule with a condition on it holds


class Router:
    """Finds the first matching rule of every row; its answers depend on the rules alone, its cache only saves time."""

    def __init__(self, rules: Sequence[Rule], *, table_limit: int = 1 << 18, cache_limit: int = 1 << 16) -> None:
        self.attributes: Final = tuple(dict.fromkeys(name for rule in rules for name in rule))
        self._classes = [
            {value: number for number, value in enumerate(_named(rules, name), start=1)} for name in self.attributes
        ]
        self._radices = tuple(len(classes) + 1 for classes in self._classes)
        self._allowed = [
            {
                axis: sorted(self._classes[axis][value] for value in rule[name])
                for axis, name in enumerate(self.attributes)
                if name in rule
            }
            for rule in rules
        ]
        self._size = math.prod(self._radices)
        self._table = self._tabulated() if self._size <= max(table_limit, 1) else None
        self._cache: dict[tuple[int, ...], int] = {}
        self._cache_limit = cache_limit
        self._coded: dict[int, tuple[tuple[str | None, ...], NDArray[np.int64]]] = {}
        """Attribute -> its last column's values and their classes: a lane's tenants are the same in every batch."""

    def route(self, columns: Mapping[str, Categorical], rows: int) -> Routes:
        """Return `[rows]` rule numbers; an attribute without a column is null in every row."""
        classes = [self._class_of(axis, columns.get(name), rows) for axis, name in enumerate(self.attributes)]
        if self._table is not None:
            return self._table[self._mixed(classes, rows)]
        if self._size < 1 << 62:
            codes, inverse = np.unique(self._mixed(classes, rows), return_inverse=True)
            distinct = np.stack(np.unravel_index(codes, self._radices), axis=1)
        else:  # too many combinations for one integer
            distinct, inverse = np.unique(np.stack(classes, axis=1), axis=0, return_inverse=True)
        answers = [self._remembered(tuple(intent)) for intent in distinct.tolist()]
        return np.array(answers, dtype=np.int32)[inverse.reshape(-1)]

    def _class_of(self, axis: int, column: Categorical | None, rows: int) -> NDArray[np.int64]:
        if column is None:
            return np.zeros(rows, dtype=np.int64)
        values, of_code = self._coded.get(axis, ((), _NONE))
        if values is not column.values:
            classes = self._classes[axis]
            # One entry more, for code -1 (null), which indexes it from the end.
            of_code = np.array(
                [_OTHER if value is None else classes.get(value, _OTHER) for value in column.values] + [_OTHER],
                dtype=np.int64,
            )
            self._coded[axis] = column.values, of_code
        return of_code[column.codes]

    def _mixed(self, classes: Sequence[NDArray[np.int64]], rows: int) -> NDArray[np.int64]:
        if not classes:
            return np.zeros(rows, dtype=np.int64)
        codes = classes[0]
        for column, radix in zip(classes[1:], self._radices[1:], strict=True):
            codes = codes * radix + column
        return codes

    def _tabulated(self) -> Routes:
        table = np.full(self._radices, NO_ROUTE, dtype=np.int32)
        for number in reversed(range(len(self._allowed))):  # backwards, so the first rule has the last word
            allowed = self._allowed[number]
            places = [allowed.get(axis, range(radix)) for axis, radix in enumerate(self._radices)]
            table[np.ix_(*places) if places else ()] = number
        return table.reshape(-1)

    def _remembered(self, intent: tuple[int, ...]) -> int:
        known = self._cache.get(intent)
        if known is None:
            known = self._first(intent)
            if len(self._cache) >= self._cache_limit:
                self._cache.clear()  # a stream of ever new intents must not eat the memory
            self._cache[intent] = known
        return known

    def _first(self, intent: tuple[int, ...]) -> int:
        for number, allowed in enumerate(self._allowed):
            if all(intent[axis] in values for axis, values in allowed.items()):
                return number
        return NO_ROUTE


class Split:
    """Divides the events of a route among its live predictors, by the events' places in [0, 1) (`sampling.place`).

    Every live predictor of every route is a *part*, numbered in order. A part takes the places from where the one
    before it ends, so events stay where they are when the border between two predictors moves over others.
    """

    def __init__(self, shares: Sequence[Sequence[float]]) -> None:
        """`shares`: for each route the shares of its live predictors; they sum to 1."""
        sizes = [len(of_route) for of_route in shares]
        self.parts: Final = sum(sizes)
        self.any: Final = any(size > 1 for size in sizes)
        """Whether a route has more than one live predictor."""
        # one entry more, for rows without a route, whose number -1 indexes it from the end
        self._first = np.array([*np.cumsum([0, *sizes])[:-1], NO_ROUTE], dtype=np.int32)
        widest = max(sizes, default=1)
        self._borders = np.full((len(sizes) + 1, widest - 1), np.inf)
        for number, of_route in enumerate(shares):
            self._borders[number, : len(of_route) - 1] = np.cumsum(of_route)[:-1]

    def divide(self, routes: Routes, places: Callable[[], Floats]) -> Routes:
        """Return the part of every row, -1 where there is no route; `places` is asked only where routes are divided."""
        if not self.any:
            return routes
        parts = self._first[routes]
        for borders in self._borders.T:
            parts += places() >= borders[routes]
        return parts


def _named(rules: Sequence[Rule], attribute: str) -> list[str]:
    return sorted({value for rule in rules for value in rule.get(attribute, ())})
