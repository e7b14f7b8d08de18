"""Bisection: every row at fault, no other, at a bounded cost."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from muse_stream.errors import SchemaPending
from muse_stream.scoring.bisection import MESSAGE_LENGTH, bisect, halved


class Picky:
    """Answers a row with its tenth, unless one of the rows is not to its taste."""

    def __init__(self, culprits: set[int]) -> None:
        self.culprits = culprits
        self.attempts: list[tuple[int, ...]] = []

    def __call__(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        self.attempts.append(tuple(rows.tolist()))
        bad = self.culprits & set(rows.tolist())
        if bad:
            raise ValueError(f"row {min(bad)}")
        return rows / 10.0


@given(st.integers(0, 200), st.sets(st.integers(0, 199), max_size=8))
def test_finds_exactly_the_culprits(size: int, culprits: set[int]) -> None:
    rows = np.arange(size, dtype=np.intp) + 3
    picky = Picky({row + 3 for row in culprits})
    found = bisect(rows, picky)
    expected = {row for row in culprits if row < size}
    assert set(found.culprits) == expected
    assert all(message == f"ValueError: row {row + 3}" for row, message in found.culprits.items())
    innocent = [row for row in range(size) if row not in expected]
    assert found.answers[innocent].tolist() == ((np.array(innocent) + 3) / 10.0).tolist()
    assert np.isnan(found.answers[sorted(expected)]).all()
    assert len(set(picky.attempts)) == len(picky.attempts)
    assert len(picky.attempts) <= 1 + 2 * len(expected) * math.ceil(math.log2(max(size, 2)))


def test_messages_are_one_bounded_line() -> None:
    def attempt(rows: NDArray[np.intp]) -> NDArray[np.float64]:
        raise RuntimeError("x" * 5000 + "\nsecond line")

    message = bisect(np.array([0], dtype=np.intp), attempt).culprits[0]
    assert message.startswith("RuntimeError: xxx")
    assert len(message) == MESSAGE_LENGTH
    assert "\n" not in message


def test_what_has_to_wait_is_no_fault_of_a_row() -> None:
    """Whoever asked is told at once: no row is given up for it, and none is tried again."""
    attempts: list[tuple[int, int]] = []

    def attempt(start: int, end: int) -> None:
        attempts.append((start, end))
        raise SchemaPending("asked", lambda: False)

    given_up: list[int] = []
    with pytest.raises(SchemaPending):
        halved(8, attempt, lambda row, _error: given_up.append(row))
    assert (attempts, given_up) == ([(0, 8)], [])
