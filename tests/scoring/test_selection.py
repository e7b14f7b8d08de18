"""Row sets: as a plain loop over the rows would find them, whatever part of a generation a batch touches."""

from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.scoring.selection import Selections, Shares

PARTS = 7
wants = st.dictionaries(st.integers(0, PARTS - 1), st.sampled_from([0.25, 0.5, 1.0, 1.0]), min_size=1)


@given(
    st.lists(wants, min_size=1, max_size=12),
    st.lists(st.integers(-1, PARTS - 1), min_size=1, max_size=40),
    st.integers(0, 100),
)
def test_each_selection_has_the_rows_that_it_wants(
    wanted: list[Mapping[int, float]], parts: list[int], seed: int
) -> None:
    positions = np.random.default_rng(seed).random(len(parts))
    row_sets = Selections(np.array(parts, dtype=np.int32), Shares(wanted, PARTS), lambda: positions)
    expected = [[row for row, part in enumerate(parts) if positions[row] < one.get(part, 0.0)] for one in wanted]
    for number, rows in enumerate(expected):
        found = row_sets.of(number)
        assert found.rows.tolist() == rows
        assert found.whole == (len(rows) == len(parts) and all(wanted[number].get(part) == 1.0 for part in parts))
    asked = np.arange(len(wanted))[::-1]
    needed = row_sets.needed(asked)
    assert needed == sorted(needed)
    assert {int(asked[place]) for place in needed} >= {number for number, rows in enumerate(expected) if rows}
    assert all(set(wanted[int(asked[place])]) & set(parts) for place in needed)
