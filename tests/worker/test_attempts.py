"""Numbers of transaction attempts: unique, ascending, and they tell whose they are."""

from hypothesis import given
from hypothesis import strategies as st

from muse_stream.worker.attempts import EPOCH_MS, Attempts, half_of, owner_of, owner_tag

GROUP, INSTANCE = "muse.main.live", "host-0"


@given(st.lists(st.tuples(st.integers(0, 1 << 39), st.integers(0, 1)), min_size=1, max_size=30))
def test_numbers_ascend_whatever_the_clock_does(moments: list[tuple[int, int]]) -> None:
    times = iter([moment for moment, _ in moments])
    ours = Attempts(GROUP, INSTANCE, lambda: (EPOCH_MS + next(times)) * 1_000_000)
    numbers = [ours.next(half) for _, half in moments]
    assert numbers == sorted(set(numbers))
    assert all(0 <= number < 1 << 63 for number in numbers)
    assert [half_of(number) for number in numbers] == [half for _, half in moments]
    assert {owner_of(number) for number in numbers} == {owner_tag(GROUP, INSTANCE)}


def test_a_successor_counts_on() -> None:
    first = Attempts(GROUP, INSTANCE, lambda: (EPOCH_MS + 1000) * 1_000_000)
    last = [first.next(0) for _ in range(5)][-1]
    second = Attempts(GROUP, INSTANCE, lambda: (EPOCH_MS + 1006) * 1_000_000)
    assert second.next(1) > last


def test_nothing_given_out_later_is_below_the_last() -> None:
    ours = Attempts(GROUP, INSTANCE, lambda: (EPOCH_MS + 1000) * 1_000_000)
    before = ours.next(1)
    assert before <= ours.last < ours.next(0)


def test_slots_are_told_apart() -> None:
    """22 bits: two of a thousand slots may meet, which costs them nothing but a needless abort."""
    tags = {owner_tag(group, f"host-{n}") for group in ("muse.main.live", "muse.main.shadow") for n in range(500)}
    assert len(tags) >= 998
