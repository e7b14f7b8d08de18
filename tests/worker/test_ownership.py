"""Partitions that a group has given to nobody: found by the name beside the offset, and assigned again."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from muse_stream.errors import Fatal
from muse_stream.kafka.offsets import CommittedOffset
from muse_stream.kafka.partition import TopicPartitionKey
from muse_stream.kafka.signature import Signature
from muse_stream.kafka.unowned import AGAIN_S
from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker import open_transactions
from muse_stream.worker.ownership import Ownership
from tests.worker.doubles import Clock, Echo, Route
from tests.worker.rig import expected, ledger, open_echo, produce, running

A, B = ("t", 0), ("t", 1)


@dataclass
class Signed:
    """What `Ends` tells of signatures."""

    names: dict[TopicPartitionKey, str] = field(default_factory=dict)
    gone: set[TopicPartitionKey] = field(default_factory=set)

    def committed(self, _partitions: Iterable[TopicPartitionKey]) -> dict[TopicPartitionKey, CommittedOffset]:
        found = {place: CommittedOffset(1, Signature(name)) for place, name in self.names.items()}
        return found | {place: CommittedOffset(None) for place in self.gone}


def watched(names: dict[TopicPartitionKey, str]) -> tuple[Ownership, Signed, Clock]:
    ends, clock = Signed(names), Clock()
    return Ownership(ends, "me", lambda: [A, B], clock), ends, clock  # type: ignore[arg-type]


def test_a_partition_with_our_name_that_is_not_ours_is_with_nobody() -> None:
    ownership, _ends, clock = watched({A: "me", B: "me"})
    held = frozenset({A})
    assert not ownership.unowned(held)
    ownership.look()
    assert not ownership.unowned(held), "a new owner may be about to sign"
    ownership.look()
    assert ownership.unowned(held) == {B}
    for _ in range(5):
        ownership.look()
    assert not ownership.unowned(held), "once"
    clock.now += AGAIN_S
    assert ownership.unowned(held) == {B}, "and again when it did not help"
    for _ in range(5):
        ownership.look()
    clock.now += AGAIN_S
    assert not ownership.unowned(held), "less and less often"


@pytest.mark.parametrize("names", [{A: "me", B: "other"}, {A: "other"}, {A: "me"}, {}])
def test_what_others_have_signed_is_theirs(names: dict[TopicPartitionKey, str]) -> None:
    ownership, _ends, _clock = watched(names)
    held = frozenset({A})
    assert not ownership.unowned(held)
    for _ in range(5):
        ownership.look()
        assert not ownership.unowned(held)


def test_looks_under_another_assignment_do_not_count() -> None:
    ownership, ends, _clock = watched({A: "me", B: "me"})
    for held in (frozenset({A}), None, frozenset({A}), frozenset(), frozenset({A})):
        assert not ownership.unowned(held)
        ownership.look()
        assert not ownership.unowned(held)
    ends.names[B] = "other"
    ownership.look()
    ends.names[B] = "me"
    ownership.look()
    assert not ownership.unowned(held), "its owner has signed in between"


def test_of_a_partition_that_had_not_started_when_it_was_looked_at_nothing_is_gone() -> None:
    """The look found nothing committed, and the worker commits where it starts before it hears of that."""
    ends = Signed({})
    ownership = Ownership(ends, "me", lambda: [A], Clock())  # type: ignore[arg-type]
    ends.gone = {A}
    held = frozenset({A})
    ownership.unowned(held)
    assert not ownership.news({A: "held"})
    ownership.look()
    assert not ownership.news({}), "it has started since"
    ownership.look()
    assert ownership.news({}) == {A}, "now it is gone"


def test_a_partition_that_a_killed_member_was_giving_up_is_assigned_again(
    kafka: Broker,
    unique: Callable[[str], str],
    tenant: Callable[..., tuple[str, Route]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The member is told to give up a partition, and another process takes its place before it has joined again.

    The rebalance leaves the partition out of its assignment and waits for it to join again; the process that takes its
    static place does not know, and is given what the rebalance left.
    """
    monkeypatch.setattr(open_transactions, "LOOK_EVERY_S", 0.2)
    (events, route), lane, dying = tenant(4), unique("lane"), Dying()
    echo = Echo({events: route})
    with ledger(kafka.bootstrap, **{route.scores: 4}) as found, dying:
        old = open_echo(kafka.bootstrap, lane, echo, number=0)
        monkeypatch.setattr(old.worker._group_consumer, "_settle", dying)
        old.start()
        produce(kafka.bootstrap, events, [b"x"] * 40, partitions=4)
        found.until(40)
        dying.armed.set()
        with running(kafka.bootstrap, lane, echo, number=1) as other:
            assert dying.died.wait(150), "the first was not told to give partitions up"
            with running(kafka.bootstrap, lane, echo, number=0) as heir:
                produce(kafka.bootstrap, events, [b"x"] * 40, partitions=4)
                found.until(80)
                said = [*heir.log.said("partitions_unowned"), *other.log.said("partitions_unowned")]
                assert said, "no partition was with nobody: the case proves nothing"
                heir.stop()
            other.stop()
        assert found.to_end().answers() == expected(events, 80, 4)
        assert found.disorder() == []
        dying.let_go()
        old.join()
        dying.armed.clear()  # what it still holds is freed: the group may take its partitions while it closes
    old.abandon()


class Dying:
    """Stands for `kill -9` while partitions are being given up: the member does nothing more, but for its heartbeats,
    which the group refuses as soon as another bears its name."""

    def __init__(self) -> None:
        self.armed, self.died, self._over = threading.Event(), threading.Event(), threading.Event()

    def __enter__(self) -> "Dying":
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def let_go(self) -> None:
        self._over.set()

    def __call__(self, _lost: bool) -> None:
        if self.armed.is_set():
            self.died.set()
            self._over.wait(280)
            raise Fatal("killed")
