"""What one column of a batch looks like to the scoring core.

A numpy array (numbers), or a `Categorical` (strings, stored once each).

Invariant: numbers are float64 with NaN for null, or int64 / bool without nulls; strings are codes into a small tuple,
-1 for null. No string is ever compared per row.
"""

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

AS_TEXT = "text:"
"""Before a feature field's name, the column that has its whole numbers or booleans as texts, where the field's own
column cannot tell them apart: with nulls among them it is float64. No Avro name has a colon."""


class Categorical(Struct, frozen=True, eq=False):
    """A column of strings: `values[codes[row]]` is the row's string, code -1 is null."""

    values: tuple[str | None, ...]
    """The strings that occur, in any order; duplicates and None (a null) are tolerated."""
    codes: NDArray[np.int32]
    """[rows], each in [-1, len(values))."""

    @classmethod
    def from_strings(cls, strings: Iterable[str | None]) -> "Categorical":
        """Code strings in order of first appearance (a Python loop over rows: for notebooks and tests)."""
        seen: dict[str, int] = {}
        codes = [-1 if text is None else seen.setdefault(text, len(seen)) for text in strings]
        return cls(tuple(seen), np.array(codes, dtype=np.int32))

    @classmethod
    def constant(cls, value: str | None, rows: int) -> "Categorical":
        """Give every one of `rows` rows the same string."""
        return cls((value,), np.zeros(rows, dtype=np.int32))

    def to_list(self) -> list[str | None]:
        """Return the strings row by row."""
        with_null = (*self.values, None)
        return [with_null[code] for code in self.codes.tolist()]


def text_of(value: object) -> str:
    """Return the text of an id or attribute, as the stream has it of the same value in Avro (docs/avro.md)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return str(value)


Column = NDArray[Any] | Categorical
