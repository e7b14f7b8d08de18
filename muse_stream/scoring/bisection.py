"""Finds the rows that make a model raise.

Row positions and an attempt that may raise give the answers there are, and one message for each row at fault. Such a
row costs itself, not its batch. Only `Exception` is caught; no set of rows is tried twice. K of them among N rows cost
about 2*K*log2(N) attempts.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muse_stream.calibration import Floats
from muse_stream.errors import SchemaPending

Positions = NDArray[np.intp]
Part = TypeVar("Part")

MESSAGE_LENGTH = 300
"""A dead letter's header stays small, and a vendor's page of text does not reach it."""


class Bisected(Struct, frozen=True, eq=False):
    """What an attempt over many rows came to."""

    answers: Floats
    """[len(rows)] answers, NaN for rows that raise."""
    culprits: Mapping[int, str]
    """Index into `rows` -> what was raised."""


def halved(
    count: int, attempt: Callable[[int, int], Part], give_up: Callable[[int, Exception], Part]
) -> list[tuple[int, Part]]:
    """Attempt rows `[start, end)` of `count`, halving what raises until it stands alone, and that is given up.

    Returns (start, result) of consecutive parts that cover all rows. No set of rows is attempted twice. Raises
    SchemaPending, which is no fault of a row.
    """
    parts: list[tuple[int, Part]] = []
    waiting = [(0, count)] if count else []
    while waiting:
        start, end = waiting.pop()
        try:
            part = attempt(start, end)
        except SchemaPending:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is raised is the fault of some row, and becomes a value
            if end - start > 1:
                middle = (start + end) // 2
                waiting += [(middle, end), (start, middle)]
                continue
            part = give_up(start, error)
        parts.append((start, part))
    return parts


def bisect(rows: Positions, attempt: Callable[[Positions], Floats]) -> Bisected:
    """Answer `rows` by `attempt(some of them)`; single rows that raise are culprits."""
    culprits: dict[int, str] = {}

    def give_up(row: int, error: Exception) -> Floats:
        culprits[row] = described(error)
        return np.full(1, np.nan)

    parts = halved(len(rows), lambda start, end: attempt(rows[start:end]), give_up)
    answers = np.full(len(rows), np.nan)
    for start, part in parts:
        answers[start : start + len(part)] = part
    return Bisected(answers, culprits)


def described(error: Exception) -> str:
    """Return one bounded line about an exception."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:MESSAGE_LENGTH]
