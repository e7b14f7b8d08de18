"""Which events of a batch tell how long all of them have waited."""

from itertools import pairwise
from typing import Any

import pytest

from muse_stream.worker.latency import MOST, sample


class Stamped:
    """The part of a message that is asked."""

    def __init__(self, at: int) -> None:
        self._at = at

    def timestamp(self) -> tuple[int, int]:
        return 1, self._at


def batch(size: int) -> Any:
    return [Stamped(at) for at in range(size)]


@pytest.mark.parametrize("size", [0, 1, MOST])
def test_every_event_of_a_small_batch(size: int) -> None:
    assert sample(batch(size)).tolist() == list(range(size))


@pytest.mark.parametrize("size", [MOST + 1, 2 * MOST - 1, 10_000, 12_345])
def test_events_at_equal_distances_of_a_large_one(size: int) -> None:
    found = sample(batch(size)).tolist()
    assert len(found) == MOST
    steps = {after - before for before, after in pairwise(found)}
    assert steps <= {size // MOST, size // MOST + 1}
    assert (found[0], size - found[-1] <= size // MOST + 1) == (0, True)
