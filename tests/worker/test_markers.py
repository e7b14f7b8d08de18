"""When a committed transaction counts as marked: the rules alone. On a broker that drops markers: test_recovery.py."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest

from muse_stream.errors import Abortable, Retriable
from muse_stream.kafka import TopicPartitionKey
from muse_stream.worker.commit import Pending
from muse_stream.worker.markers import Markers

OUT = {("scores", 0), ("scores", 1)}
BATCH = Pending({("events", 0): 5}, {("events", 0): 7}, None, attempt=42, events=2, written=frozenset(OUT))


@dataclass
class Told:
    """Stands in for `Ends`: what brokers say."""

    forgetful: bool = True
    ends: Mapping[TopicPartitionKey, int] = field(default_factory=lambda: dict.fromkeys(OUT, 9))
    behind: dict[TopicPartitionKey, int] = field(default_factory=dict)
    offsets: dict[TopicPartitionKey, int] | None = field(default_factory=lambda: {("events", 0): 7})
    silent: str = ""
    asked: list[str] = field(default_factory=list)

    def high(self, places: Iterable[TopicPartitionKey]) -> dict[TopicPartitionKey, int]:
        assert set(places) == OUT
        self._hear("high")
        return dict(self.ends)

    def wait_stable(
        self, ends: Mapping[TopicPartitionKey, int], _patience_s: float, known: Mapping[TopicPartitionKey, int]
    ) -> dict[TopicPartitionKey, int]:
        assert ends == self.ends
        self._hear("wait_stable")
        return {place: stable for place, stable in self.behind.items() if known.get(place) != stable}

    def group_offsets(self, _partitions: object, _timeout_s: float) -> dict[TopicPartitionKey, int] | None:
        self._hear("group_offsets")
        return self.offsets

    def _hear(self, what: str) -> None:
        self.asked.append(what)
        if what == self.silent:
            raise Retriable("no broker answers")


def run(told: Told, markers: Markers | None = None) -> None:
    markers = markers or Markers(told)  # type: ignore[arg-type]
    markers.acknowledged(BATCH)
    markers.check(BATCH)


def test_all_markers_are_there() -> None:
    told = Told()
    run(told)
    assert told.asked == ["high", "wait_stable", "group_offsets"]


def test_nothing_is_asked_of_brokers_that_forget_nothing() -> None:
    told = Told(forgetful=False)
    run(told)
    assert told.asked == []


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (Told(behind={("scores", 1): 5}), r"no marker in scores\[1\]$"),
        (Told(behind=dict.fromkeys(OUT, 5)), r"no marker in scores\[0\] and 1 more"),
        (Told(ends={("scores", 0): 9}), r"no marker in scores\[1\]$"),  # it has no leader
        (Told(offsets=None), "no marker beside the group's offsets"),
        (Told(silent="high", ends={}), r"no marker in scores\[0\] and 1 more"),
        (Told(silent="wait_stable"), "no broker says whether markers are written: no broker answers"),
        (Told(silent="group_offsets"), "no broker says whether markers are written"),
    ],
)
def test_what_is_not_known_to_be_there_fails_the_producers(told: Told, says: str) -> None:
    with pytest.raises(Abortable, match=says) as failure:
        run(told)
    assert failure.value.code == "HANGING"


def test_a_batch_of_which_nothing_was_noted_is_passed_over() -> None:
    told = Told()
    Markers(told).check(BATCH)  # type: ignore[arg-type]
    assert told.asked == []


def test_somebody_elses_open_transaction_costs_one_start_and_not_one_a_batch() -> None:
    told = Told(behind={("scores", 1): 5})
    markers = Markers(told)  # type: ignore[arg-type]
    with pytest.raises(Abortable):
        run(told, markers)
    run(told, markers)
    told.behind = {("scores", 1): 6}  # another one
    with pytest.raises(Abortable):
        run(told, markers)
