"""Which record kills its process: from the notes of the dead to a dead letter, by three deaths."""

import signal
from multiprocessing import get_context
from typing import Any

import pytest

from muse_stream.errors import Reason
from muse_stream.worker.batch import Batch, Records
from muse_stream.worker.poison import HELD_AFTER, Guard, InHand, Note, PoisonSearch, Suspects, offsets
from tests.worker.doubles import Echo, Route

ROUTES = {"events": Route("scores", "dlq"), "others": Route("scores", "dlq")}


def batch(first: int, count: int, topic: str = "events") -> Batch:
    """Records of partition 0."""
    nothing: list[Any] = [None] * count
    return Batch(
        [topic] * count,
        [0] * count,
        list(range(first, first + count)),
        nothing,
        [b"%d" % n for n in range(first, first + count)],
        lambda: [0] * count,
        lambda: [[] for _ in range(count)],
    )


class Died(Exception):
    """The process died; what it had in hand is in its note."""


class Fragile(Echo):
    """Dies of some records."""

    def __init__(self, *deadly: int) -> None:
        super().__init__(ROUTES)
        self._deadly = {b"%d" % n for n in deadly}
        self.sizes: list[int] = []

    def score(self, batch: Batch, attempt: int) -> Records:
        self.sizes.append(len(batch))
        if self._deadly.intersection(batch.values):
            raise Died
        return super().score(batch, attempt)


def score(guard: Guard, scorer: Echo, raw: Batch) -> Records:
    return guard.score(scorer, raw, *offsets(raw), attempt=0, progress=lambda: None)


def lives(raw: Batch, *deadly: int, code: int = -signal.SIGSEGV) -> tuple[int, Records]:
    """Score a batch, a new process after every death; returns the number of deaths and the answer."""
    hunt, scorer = PoisonSearch(), Fragile(*deadly)
    for deaths in range(40):
        in_hand = InHand(get_context("spawn"))
        try:
            return deaths, score(Guard(in_hand, hunt.suspects), scorer, raw)
        except Died:
            assert hunt.died(in_hand.read(), code), "every death is a step"
    pytest.fail("it goes on dying")


@pytest.mark.parametrize("count", [2, 50, 100, 101, 10_000])
@pytest.mark.parametrize("where", [0.0, 0.37, 1.0])
def test_one_poison_record_costs_three_deaths_and_itself(count: int, where: float) -> None:
    poison = 700 + round(where * (count - 1))
    deaths, answer = lives(batch(700, count), poison)
    assert deaths <= 3
    assert [letter.rejected.row for letter in answer.dead] == [poison - 700]
    assert answer.dead[0].rejected.reason is Reason.PROCESS_DIED
    assert answer.dead[0].topic == "dlq"
    assert answer.rows == [row for row in range(count) if row != poison - 700]


def test_several_poison_records_are_found_one_after_the_other() -> None:
    deaths, answer = lives(batch(0, 5000), 3, 4, 2500, 4999)
    assert [letter.rejected.row for letter in answer.dead] == [3, 4, 2500, 4999]
    assert deaths <= 3 * 4


def test_what_is_known_of_one_record_survives_the_search_for_another() -> None:
    """Partitions come in another order after every restart, so the two records take turns in killing."""
    hunt, scorer = PoisonSearch(), Fragile(700, 1700)
    halves = [batch(0, 1000), batch(1000, 1000, "others")]
    deaths = 0
    for turn in range(40):
        in_hand, left = InHand(get_context("spawn")), len(halves)
        for raw in halves[:: 1 if turn % 2 else -1]:
            try:
                score(Guard(in_hand, hunt.suspects), scorer, raw)
                left -= 1
            except Died:
                assert hunt.died(in_hand.read(), -signal.SIGSEGV)
                deaths += 1
                break
        if not left:
            break
    assert deaths == 6
    assert hunt.suspects.poison == {("events", 0, 700), ("others", 0, 1700)}


def test_a_record_alone_in_its_batch_is_not_blamed_for_one_death() -> None:
    deaths, answer = lives(batch(5, 1), 5)
    assert (deaths, len(answer.dead)) == (2, 1)


def test_who_was_killed_from_outside_says_less() -> None:
    """kill -9 may come from anybody: a record must have been in hand alone three times."""
    assert lives(batch(5, 1), 5, code=-signal.SIGKILL)[0] == 3
    assert lives(batch(0, 1000), 77, code=-signal.SIGKILL)[0] == 5


def test_only_the_suspects_are_scored_in_pieces() -> None:
    hunt, scorer = PoisonSearch(), Fragile()
    hunt.died(Note({("events", 0): 100}, {("events", 0): 300}, 200), -signal.SIGABRT)
    answer = score(Guard(InHand(get_context("spawn")), hunt.suspects), scorer, batch(0, 1000))
    assert sorted(scorer.sizes, reverse=True)[:2] == [700, 100]
    assert set(scorer.sizes) == {700, 100, 2}
    assert answer.rows == list(range(1000))
    scorer.sizes.clear()
    score(Guard(InHand(get_context("spawn")), hunt.suspects), scorer, batch(1000, 1000))
    assert scorer.sizes == [1000], "once past them, batches are whole again"


def test_nothing_in_hand_says_nothing() -> None:
    hunt = PoisonSearch()
    in_hand = InHand(get_context("spawn"))
    assert hunt.died(in_hand.read(), -signal.SIGKILL) is None
    score(Guard(in_hand, hunt.suspects), Fragile(), batch(0, 10))
    assert hunt.died(in_hand.read(), -signal.SIGKILL) is None
    assert hunt.suspects == Suspects()


def test_a_torn_or_too_long_note_is_none() -> None:
    in_hand = InHand(get_context("spawn"))
    places = {("a topic with a long name to fill the note", n): n for n in range(10_000)}
    in_hand.hold(places, {place: n + 1 for place, n in places.items()}, 10_000)
    assert in_hand.read().events == 0
    in_hand._batch.value = b'[3, [["events", 0'
    assert in_hand.read().events == 0


def test_a_topic_with_many_poison_records_is_paused() -> None:
    hunt = PoisonSearch()
    for offset in range(HELD_AFTER + 1):
        assert hunt.suspects.held == ()
        for _ in range(2):
            hunt.died(Note({("events", 0): offset}, {("events", 0): offset + 1}, 1), -signal.SIGSEGV)
    assert hunt.suspects.held == ("events",)


def test_a_generation_whose_compilation_kills_is_refused() -> None:
    hunt = PoisonSearch()
    assert hunt.died(Note(compiling=7), -signal.SIGSEGV) == {"compiling": 7, "refused": True}
    assert hunt.refused == {7}
    assert hunt.died(Note(compiling=8), -signal.SIGKILL) == {"compiling": 8, "refused": False}
    assert hunt.died(Note(compiling=8), -signal.SIGKILL) == {"compiling": 8, "refused": True}


def test_a_compilation_that_raises_leaves_no_note() -> None:
    in_hand = InHand(get_context("spawn"))

    def compile() -> None:
        with in_hand.compiling(3):
            assert in_hand.read().compiling == 3
            raise ValueError

    with pytest.raises(ValueError):
        compile()
    assert in_hand.read().compiling is None
