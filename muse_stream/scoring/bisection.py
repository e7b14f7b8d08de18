"""Finds the rows that make a model raise.

Row positions and an attempt that may raise give the answers there are, and one message for each row at fault. Such a
row costs itself, not its batch. Only `Exception` is caught; no set of rows is tried twice. K of them among N rows cost
about 2*K*log2(N) attempts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muse_stream.calibration import Floats

Positions = NDArray[np.intp]

MESSAGE_LENGTH = 300
"""A dead letter's header stays small, and a vendor's page of text does not reach it."""


@dataclass(frozen=True, slots=True, eq=False)
class Bisected:
    """What an attempt over many rows came to."""

    answers: Floats
    """[len(rows)] answers, NaN for rows that raise."""
    culprits: Mapping[int, str]
    """Index into `rows` -> what was raised."""


def bisect(rows: Positions, attempt: Callable[[Positions], Floats]) -> Bisected:
    """Answer `rows` by `attempt(some of them)`, halving what raises until single rows are left."""
    answers = np.full(len(rows), np.nan)
    culprits: dict[int, str] = {}
    waiting = [(0, len(rows))]
    while waiting:
        start, end = waiting.pop()
        if start == end:
            continue
        try:
            part = attempt(rows[start:end])
        except Exception as error:  # noqa: BLE001 - whatever a model raises is the row's fault, and becomes a value
            if end - start == 1:
                culprits[start] = described(error)
            else:
                middle = (start + end) // 2
                waiting += [(middle, end), (start, middle)]
        else:
            answers[start:end] = part
    return Bisected(answers, dict(sorted(culprits.items())))


def described(error: Exception) -> str:
    """Return one bounded line about an exception."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:MESSAGE_LENGTH]
