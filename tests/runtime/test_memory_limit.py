"""Which worker is replaced because of its memory, and when again; by a clock that tests move."""

from dataclasses import dataclass

from muse_stream.runtime.memory import resident_bytes
from muse_stream.runtime.memory_limit import LONGEST_WAIT_S, LOOK_S, MemoryLimit
from tests.worker.doubles import ListLog


@dataclass
class Worker:
    pid: int | None
    slot: int | None
    since: float = 0.0


class Scene:
    """A limit of 100 bytes, and what processes take."""

    def __init__(self) -> None:
        self.now, self.takes, self.log = 0.0, dict[int, int](), ListLog()
        self.limit = MemoryLimit(100, self.log, resident=self.takes.get, ticks=lambda: self.now, soon_s=600)
        self.spare = Worker(9, None)
        self.takes[9] = 50

    def look(self, *workers: Worker, spare: bool = True) -> Worker | None:
        self.now += LOOK_S
        chosen = self.limit.choose(workers, self.spare if spare else None)
        return None if chosen is None else next(one for one in workers if one is chosen[0])


def test_the_largest_above_the_limit_is_replaced_where_a_spare_waits() -> None:
    scene, workers = Scene(), [Worker(1, 0), Worker(2, 1), Worker(3, 2)]
    scene.takes |= {1: 100, 2: 101, 3: 150}
    assert scene.look(*workers, spare=False) is None
    assert scene.limit.wants_spare
    assert scene.look(*workers) is workers[2]
    assert not scene.limit.wants_spare
    assert [scene.limit.replaced(slot) for slot in range(3)] == [0, 0, 1]


def test_it_looks_no_more_often_than_it_has_to() -> None:
    scene, worker = Scene(), Worker(1, 0)
    scene.takes[1] = 101
    assert scene.look(worker) is worker
    assert scene.limit.choose([worker], scene.spare) is None


def test_a_slot_that_needs_it_again_soon_waits_ever_longer_and_says_so_once() -> None:
    scene, waits = Scene(), list[float]()
    worker = Worker(1, 0)
    scene.takes[1] = 101
    assert scene.look(worker) is worker
    for _ in range(12):
        worker = Worker(1, 0, since=scene.now)
        while scene.look(worker) is None:
            scene.now += 30
        waits.append(scene.now - worker.since)
    assert waits == sorted(waits)
    assert 600 <= waits[0] < 640
    assert 1_200 <= waits[1] < 1_240
    assert LONGEST_WAIT_S <= waits[-1] < LONGEST_WAIT_S + 40
    assert len(scene.log.said("memory_limit_waits")) == 12


def test_a_slot_that_was_well_for_long_is_replaced_at_once_again() -> None:
    scene = Scene()
    scene.takes[1] = 101
    for _ in range(5):
        worker = Worker(1, 0, since=scene.now)
        scene.now += 86_400
        assert scene.look(worker) is worker
    assert scene.log.said("memory_limit_waits") == []


def test_where_a_fresh_process_takes_as_much_nobody_is_replaced_until_one_takes_less() -> None:
    scene, worker = Scene(), Worker(1, 0)
    scene.takes |= {1: 150, 9: 100}
    assert [scene.look(worker) for _ in range(3)] == [None] * 3
    assert len(scene.log.said("memory_limit_too_small")) == 1
    scene.takes[9] = 60  # another generation
    assert scene.look(worker) is worker


def test_a_process_that_has_ended_takes_nothing() -> None:
    assert resident_bytes(2**22 + 1) is None
    scene = Scene()
    assert scene.look(Worker(77, 0), Worker(None, 1)) is None
