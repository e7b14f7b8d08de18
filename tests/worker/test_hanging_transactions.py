"""Which records of a hanging transaction must appear: the rules, on records made by hand."""

from typing import Any

import pytest

from muse_stream.worker.attempts import Attempts
from muse_stream.worker.hanging_transactions import COPIED_BY, Answered, answered, hung, kept
from tests.worker.doubles import Echo

PLACE = ("scores", 0)
OURS, THEIRS = Attempts("group", "host-0"), Attempts("group", "host-1")


class Record:
    """As much of a `Message` as is looked at."""

    def __init__(self, value: bytes | None, headers: list[tuple[str, bytes]] | None = None) -> None:
        self._value, self._headers = value, headers

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> list[tuple[str, bytes]] | None:
        return self._headers


def score(attempt: int, offset: int, copied_by: int | None = None) -> Any:
    headers = [(COPIED_BY, str(copied_by).encode())] if copied_by is not None else None
    return Record(f"events|0|{offset}|{attempt}|1|".encode(), headers)


def letter(attempt: int, offset: int) -> Any:
    named = {"source.topic": "events", "source.partition": 0, "source.offset": offset, "attempt": attempt}
    return Record(b"as it came", [(f"muse.{name}", str(value).encode()) for name, value in named.items()])


def tail(*records: Any) -> list[Answered]:
    return answered(PLACE, list(records), Echo({}).origins)


def offsets(records: list[Answered]) -> list[int]:
    return [one.origin.offset for one in records if one.origin]


def test_scores_letters_and_strangers_are_told_apart() -> None:
    a = OURS.next(0)
    found = tail(score(a, 1), letter(a, 2), Record(b"a stranger's"), Record(None), score(a, 3, copied_by=2))
    assert offsets(found) == [1, 2, 3]
    assert [one.of(OURS.tag) for one in found] == [True, True, False, False, True]
    assert [one.half for one in found if one.origin] == [0, 0, 2]


def test_what_hangs_is_all_of_the_producer_that_stands_first() -> None:
    a, b, c = OURS.next(0), OURS.next(1), OURS.next(0)
    theirs = THEIRS.next(0)
    assert offsets(hung(tail(score(a, 1), score(b, 2), score(theirs, 3), score(c, 4)), OURS.tag)) == [1, 4]
    assert hung(tail(score(theirs, 1), score(a, 2)), OURS.tag) == []
    assert hung(tail(Record(b"a stranger's"), score(a, 2)), OURS.tag) == []
    assert hung([], OURS.tag) == []


def test_copies_do_not_hang_with_what_they_copy() -> None:
    a = OURS.next(0)
    assert len(hung(tail(score(a, 1), score(a, 1, copied_by=2)), OURS.tag)) == 1


@pytest.mark.parametrize(
    ("committed", "since", "want"),
    [
        (0, set(), []),
        (2, set(), [1]),
        (3, set(), [1, 2]),
        (9, {("events", 0, 2)}, [1]),
        (9, {("events", 1, 2), ("other", 0, 1)}, [1, 2]),
    ],
    ids=["undone", "half", "done", "answered since", "others answered"],
)
def test_done_is_below_the_committed_offset(committed: int, since: set[tuple[str, int, int]], want: list[int]) -> None:
    a = OURS.next(0)
    records = hung(tail(score(a, 1), score(a, 2)), OURS.tag)
    assert offsets(kept(records, {("events", 0): committed}, since)) == want


def test_of_several_attempts_the_last_counts_with_all_its_answers() -> None:
    """An earlier one was aborted, or the event would not have been tried again; a shadow gives several answers."""
    first, last = OURS.next(0), OURS.next(0)
    records = hung(tail(score(first, 1), score(first, 1), score(last, 1), score(last, 1)), OURS.tag)
    assert [one.origin.attempt for one in kept(records, {("events", 0): 9}, ()) if one.origin] == [last, last]


def test_an_offset_that_nobody_knows_is_not_committed() -> None:
    assert kept(hung(tail(score(OURS.next(0), 1)), OURS.tag), {}, ()) == []
