"""When a worker is ready: assigned, and either caught up or committing. The rule by itself, with a clock by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from muse_stream.worker.backlog import Waiting
from muse_stream.worker.readiness import UNREADY_S, Readiness
from tests.worker.doubles import Clock

BEHIND = Waiting(7, 1.0, readable=7)
HELD = Waiting(7, 1.0, held=7)
UNKNOWN = Waiting(unknown=True)


@dataclass
class Scene:
    """A worker that is told something each second."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.readiness = Readiness(self.clock)

    def told(
        self,
        seconds: float,
        waiting: Mapping[str, Waiting],
        *,
        paused: frozenset[str] = frozenset(),
        assigned: bool = True,
        heard: bool = True,
    ) -> str:
        heard_s = self.clock.now
        for _ in range(round(seconds)):
            self.clock.now += 1
            heard_s = self.clock.now if heard else heard_s
            self.readiness.observed(
                assigned=assigned, waiting=waiting, paused=paused, heard_s=heard_s, topics=("a", "b")
            )
        return self.readiness.why_not()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_nothing_was_told(scene: Scene) -> None:
    assert scene.readiness.why_not() == "not started yet"
    scene.readiness.observed(assigned=True, waiting={}, paused=(), heard_s=None, topics=("a",))
    assert "where the partitions end" in scene.readiness.why_not()


def test_caught_up_or_without_partitions(scene: Scene) -> None:
    assert scene.told(1, {"a": Waiting()}) == ""
    assert scene.told(100, {"a": Waiting()}) == ""
    assert scene.told(100, {}) == "", "more slots than partitions"


def test_nothing_assigned(scene: Scene) -> None:
    assert "assigned" in scene.told(1, {}, assigned=False)


def test_behind_and_committing_or_not(scene: Scene) -> None:
    assert scene.told(UNREADY_S, {"a": BEHIND}) == ""
    assert scene.told(2, {"a": BEHIND}) == "7 events wait, and none was committed for 11 s"
    scene.readiness.committed()
    assert scene.told(UNREADY_S, {"a": BEHIND}) == ""
    assert scene.told(1, {"a": BEHIND}) != ""
    assert scene.told(1, {"a": Waiting()}) == "", "caught up"
    assert scene.told(UNREADY_S, {"a": BEHIND}) == "", "what came after a long silence has its time"


def test_what_cannot_be_read_is_no_fault_of_the_worker(scene: Scene) -> None:
    assert scene.told(100, {"a": HELD}) == ""


def test_a_paused_topic_is_not_waited_for_unless_there_is_no_other(scene: Scene) -> None:
    paused = frozenset({"a"})
    assert scene.told(100, {"a": BEHIND, "b": Waiting()}, paused=paused) == ""
    assert scene.told(1, {"a": Waiting()}, paused=paused) == "every event topic of this worker is paused: a"


def test_one_topic_is_not_known_or_all(scene: Scene) -> None:
    assert scene.told(100, {"a": UNKNOWN, "b": Waiting()}) == "", "a partition without a leader"
    assert "nobody knows what waits in a, b" in scene.told(1, {"a": UNKNOWN, "b": UNKNOWN})


def test_a_silent_broker(scene: Scene) -> None:
    assert scene.told(1, {"a": Waiting()}) == ""
    assert scene.told(UNREADY_S, {"a": Waiting()}, heard=False) == ""
    scene = Scene()
    assert "Kafka has not answered for 12 s" in scene.told(12, {"a": Waiting()}, heard=False)
    assert "Kafka has not answered" in Scene().told(12, {}, heard=False), "also without a partition"


def test_a_worker_that_tells_nothing_more(scene: Scene) -> None:
    scene.told(1, {"a": Waiting()})
    scene.clock.now += UNREADY_S + 1
    assert scene.readiness.why_not() == "no progress for 11 s"


def test_who_commits_is_ready_though_a_look_at_the_ends_waits_for_one_broker(scene: Scene) -> None:
    scene.told(1, {"a": UNKNOWN})
    scene.told(30, {"a": UNKNOWN}, heard=False)
    assert "Kafka has not answered for" in scene.readiness.why_not()
    scene.readiness.committed()
    assert scene.told(UNREADY_S, {"a": UNKNOWN}, heard=False) == ""
    assert scene.told(1, {"a": UNKNOWN}, assigned=False, heard=False) != ""
    scene.readiness.committed()
    assert scene.told(1, {"a": UNKNOWN}, assigned=False, heard=False) == "the group has assigned no partitions yet"
    assert "is paused" in scene.told(1, {"a": UNKNOWN}, paused=frozenset("ab"), heard=False)
