"""How much waits and how old it is: exact where it can be, and never the age of something that has its answer."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest

from muse_stream.kafka.partition import Position, Standing, TopicPartitionKey
from muse_stream.worker.backlog import REMOVED_S, UNKNOWN_S, Backlog, Waiting
from tests.worker.doubles import Clock

A, B = ("events.a", 0), ("events.b", 0)
NOW_S = 1_700_000_000.0


@dataclass
class Looked:
    """Implements `Looker`: answers are put here by hand."""

    answers: dict[TopicPartitionKey, Standing] = field(default_factory=dict)
    asked: Mapping[TopicPartitionKey, int | None] = field(default_factory=dict)
    standing: Mapping[TopicPartitionKey, int | None] = field(default_factory=dict)
    """Those whose first record is asked for."""
    closed: bool = False
    heard_s: float | None = None

    def ask(self, places: Mapping[TopicPartitionKey, int | None], standing: Collection[TopicPartitionKey] = ()) -> None:
        self.asked = places
        self.standing = {place: places[place] for place in standing}

    def found(self) -> Mapping[TopicPartitionKey, Standing]:
        return self.answers

    def close(self) -> None:
        self.closed = True


@dataclass
class Scene:
    """A backlog over one or two partitions, and time."""

    looker: Looked = field(default_factory=Looked)
    clock: Clock = field(default_factory=lambda: Clock(NOW_S))
    positions: dict[TopicPartitionKey, Position] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.backlog = Backlog(self.looker, self.clock, self.clock)

    def stands(self, answered: int | None, high: int, place: TopicPartitionKey = A) -> None:
        """As the worker's consumer knows it; a look has found the same just now."""
        self.positions[place] = Position(answered, 0, high)
        self.seen(answered or 0, high, place=place)

    def seen(
        self,
        answered: int,
        high: int,
        since_ms: int | None = None,
        *,
        low: int = 0,
        stable: int | None = None,
        nothing: bool = False,
        place: TopicPartitionKey = A,
    ) -> None:
        """A look has found this just now, and finds the same again and again."""
        self.looker.answers[place] = Standing(
            answered, low, high if stable is None else stable, high, since_ms, nothing, at_s=self.clock.now + 1e6
        )

    def measure(self, *paused: str, after_s: float = 1.0) -> Waiting:
        self.clock.now += after_s
        return self.backlog.measure(self.positions, paused).get(A[0], Waiting())

    def age(self, *paused: str, after_s: float = 1.0) -> float | None:
        since = self.measure(*paused, after_s=after_s).since_s
        return None if since is None else self.clock.now - since

    def ms(self, age_s: float) -> int:
        return round((self.clock.now - age_s) * 1000)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_nothing_waits_where_all_is_answered(scene: Scene) -> None:
    scene.stands(10, 10)
    assert scene.measure() == Waiting(0, None)
    assert scene.looker.standing == {}


def test_a_batch_under_way_is_as_old_as_its_first_record(scene: Scene) -> None:
    scene.stands(10, 30)
    scene.backlog.took({A: (10, scene.ms(5), scene.ms(4))})
    scene.backlog.took({A: (20, scene.ms(3), scene.ms(2))})
    assert scene.measure(after_s=0) == Waiting(20, scene.clock.now - 5, readable=20)
    scene.stands(20, 30)
    assert scene.age(after_s=0) == pytest.approx(3)
    scene.stands(30, 30)
    assert scene.measure() == Waiting(0, None)


def test_a_batch_that_was_aborted_keeps_its_age(scene: Scene) -> None:
    scene.stands(10, 30)
    scene.backlog.took({A: (10, scene.ms(5), scene.ms(4))})
    scene.backlog.took({A: (10, scene.ms(5), scene.ms(5))})  # and is read again, the half of it
    assert scene.age(after_s=2) == pytest.approx(7)
    scene.stands(20, 30)
    scene.backlog.took({A: (20, scene.ms(4), scene.ms(4))})
    assert scene.age(after_s=1) == pytest.approx(5)


def test_a_backlog_that_is_worked_off_is_as_old_as_the_last_record_read(scene: Scene) -> None:
    """Between two batches nobody knows the next record's timestamp; it is not younger than its neighbour's by much."""
    scene.stands(0, 1_000)
    scene.measure()
    for end in (100, 200, 300):
        scene.backlog.took({A: (end - 100, scene.ms(3_600), scene.ms(3_599))})
        scene.stands(end, 1_000)
        assert scene.age(after_s=1) == pytest.approx(3_600)
    assert scene.looker.standing == {}, "what moves is not looked up"


def test_an_event_after_a_long_silence_is_not_as_old_as_the_silence(scene: Scene) -> None:
    scene.backlog.took({A: (9, scene.ms(0), scene.ms(0))})
    scene.stands(10, 10)
    scene.measure()
    assert scene.measure(after_s=3_600) == Waiting(0, None)
    scene.stands(10, 11)  # it has just come, and will be read at once
    assert scene.age() == pytest.approx(0)
    assert scene.looker.standing == {}


def test_what_stands_still_grows_older_and_is_looked_up(scene: Scene) -> None:
    scene.stands(10, 12)
    assert scene.age() == pytest.approx(0)
    assert scene.age() == pytest.approx(1), "since it was first seen to wait"
    assert scene.looker.standing == {A: 10}
    scene.seen(10, 15, scene.ms(90))
    assert scene.measure(after_s=0) == Waiting(5, scene.clock.now - 90, readable=5)
    assert scene.age(after_s=60) == pytest.approx(150)
    scene.stands(15, 15)
    assert scene.measure() == Waiting(0, None)
    assert scene.looker.standing == {}


def test_an_answer_about_another_offset_is_no_answer(scene: Scene) -> None:
    scene.stands(10, 12)
    scene.measure()
    scene.seen(8, 12, scene.ms(90))
    assert scene.age() == pytest.approx(1)


@pytest.mark.parametrize("high", [-1001, 10, 12])
def test_a_paused_partition_is_looked_up_whatever_is_known_of_its_end(scene: Scene, high: int) -> None:
    """librdkafka fetches nothing of it, so what it last heard of its end stays as it was."""
    scene.stands(10, high)
    scene.measure(A[0])
    assert scene.looker.standing == {A: 10}
    scene.seen(10, 40, scene.ms(7))
    assert scene.measure(A[0], after_s=1) == Waiting(30, scene.clock.now - 8, readable=30)
    assert scene.age(A[0], after_s=100) == pytest.approx(108)


def test_a_partition_nothing_of_which_was_ever_committed(scene: Scene) -> None:
    scene.stands(None, -1001)
    scene.looker.answers.clear()
    assert scene.measure(A[0]) == Waiting(unknown=True)
    assert scene.looker.standing == {A: None}
    scene.seen(3, 5, scene.ms(2), low=3)
    assert scene.measure(A[0], after_s=0) == Waiting(2, scene.clock.now - 2, readable=2)


def test_nothing_but_transaction_markers_is_nothing(scene: Scene) -> None:
    scene.stands(10, 11)
    scene.measure()
    scene.measure()
    scene.seen(10, 11, nothing=True)
    assert scene.measure() == Waiting(0, None)
    scene.stands(10, 13)  # more has come behind it
    assert scene.measure().events == 3
    assert scene.age() == pytest.approx(1)
    scene.seen(10, 13, nothing=True)
    scene.positions[A] = Position(10, 0, 14)  # the worker has heard of another marker, or of an event
    assert scene.measure().events == 1


def test_an_open_transaction_cannot_be_read_and_grows_older(scene: Scene) -> None:
    scene.stands(10, 14)
    scene.measure()
    scene.seen(10, 16, scene.ms(30), stable=10, nothing=True)
    assert scene.measure(after_s=0) == Waiting(6, scene.clock.now - 30, held=6)
    scene.seen(10, 16, scene.ms(40), stable=12)
    assert scene.measure(after_s=0) == Waiting(6, scene.clock.now - 40, readable=2, held=4)


def test_the_end_is_what_was_looked_up_not_what_the_worker_heard_last(scene: Scene) -> None:
    scene.positions[A] = Position(10, 0, 10)
    scene.seen(10, 500)
    assert scene.measure().events == 500 - 10


def test_what_nobody_has_told_lately_is_not_known(scene: Scene) -> None:
    scene.stands(10, 10)
    scene.looker.answers = {A: Standing(10, 0, 10, 10, at_s=scene.clock.now)}
    assert scene.measure(after_s=UNKNOWN_S) == Waiting()
    assert scene.measure(after_s=1) == Waiting(unknown=True)
    scene.backlog.took({A: (10, scene.ms(3), scene.ms(3))})
    scene.positions[A] = Position(10, 0, 11)
    known = scene.measure(after_s=7)
    assert known.unknown
    assert scene.clock.now - (known.since_s or 0) == pytest.approx(10), "it waits for certain"
    del scene.looker.answers[A]
    assert scene.measure().unknown, "a partition that was never looked at"


def test_a_position_behind_the_end_is_not_known_to_be_caught_up(scene: Scene) -> None:
    """The topic was made again, or its leader has lost records."""
    scene.positions[A] = Position(500, 0, 500)
    scene.seen(500, 10)
    assert scene.measure() == Waiting(unknown=True)


def test_what_retention_removed_does_not_wait_and_is_counted(scene: Scene) -> None:
    scene.positions[A] = Position(100, 0, 100)
    scene.seen(100, 1_000, scene.ms(60), low=600)
    assert scene.measure().removed == 0, "a batch in hand may still be answered"
    assert scene.measure(after_s=REMOVED_S) == Waiting(
        400, scene.clock.now - 60 - 1 - REMOVED_S, readable=400, removed=500
    )
    scene.seen(100, 1_000, low=1_000)
    assert scene.measure() == Waiting(removed=900)
    scene.positions[A] = Position(1_000, 0, 1_000)  # somebody has said where to go on
    scene.seen(1_000, 1_000, low=1_000)
    assert scene.measure() == Waiting()


def test_without_partitions_it_is_asked_whether_kafka_answers(scene: Scene) -> None:
    assert scene.backlog.measure({}, (), "events.a") == {}
    assert scene.looker.asked == {("events.a", 0): None}
    scene.looker.heard_s = 5.0
    assert scene.backlog.heard_s == 5.0


def test_records_without_a_timestamp_age_from_when_they_are_seen(scene: Scene) -> None:
    scene.stands(10, 12)
    scene.backlog.took({A: (10, -1, -1)})
    assert scene.age() == pytest.approx(0)
    assert scene.age() == pytest.approx(1)


def test_a_topic_is_as_old_as_its_oldest_partition(scene: Scene) -> None:
    other = (A[0], 1)
    scene.backlog.took({A: (10, scene.ms(5), scene.ms(5)), other: (0, scene.ms(9), scene.ms(9))})
    scene.stands(10, 11)
    scene.stands(0, 3, other)
    scene.stands(0, 0, B)
    assert scene.measure(after_s=0) == Waiting(4, scene.clock.now - 9, readable=4)
    assert scene.backlog.measure(scene.positions, ())[B[0]] == Waiting()


def test_a_partition_that_left_is_forgotten(scene: Scene) -> None:
    scene.stands(10, 12)
    scene.backlog.took({A: (10, scene.ms(50), scene.ms(50))})
    scene.measure()
    del scene.positions[A]
    assert scene.measure(A[0]) == Waiting()
    assert scene.looker.standing == {}
    scene.stands(11, 12)
    assert scene.age() == pytest.approx(0), "it came back, and another worker has been at it"
    scene.backlog.close()
    assert scene.looker.closed
