"""Transactions that a broker left open (Kafka 4.3.1 forgets markers): ended, with every answer once.

Each case leaves transactions as a worker's death and a broker's outage leave them; all of them meet the same outage.
Then a worker takes the slot over. The reader is the ledger: read_committed, from the first offset.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest
from confluent_kafka import TopicPartition

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Abortable
from muse_stream.kafka import client, transactional_producer
from muse_stream.kafka.signature import Signature
from muse_stream.testing.kafka_jars import missing_tools
from muse_stream.worker import attempts, commit, end_transactions, hanging_transactions, open_transactions, recovery
from muse_stream.worker.end_transactions import Ending
from tests.worker.doubles import Echo, Route, await_true
from tests.worker.forgetful import KEPT, LOST, Forgetful, Predecessor, consumer
from tests.worker.rig import Ledger, Running, expected, ledger, produce, running

pytestmark = [
    pytest.mark.broker,
    pytest.mark.long,  # two brokers and a controller; test_hanging_transactions.py has the rules
    pytest.mark.skipif(bool(missing_tools()), reason=f"brokers of this version are run by the JVM: {missing_tools()}"),
]
Unique = Callable[[str], str]
RELEASE = "4.3.1"
EVENTS = 20
"""Of each predecessor: ten on either partition. Answers to partition 0 go to the broker that will be away."""

Ends = Sequence[Callable[[], None]]


def aborted(old: Predecessor) -> Ends:
    old.answer(0, {0: range(10), 1: range(10)})
    return [old.abort(0)]


def committed(old: Predecessor) -> Ends:
    """An abort alone would lose six answers."""
    old.answer(1, {0: range(6), 1: range(6)})
    return [old.commit(1)]


def one_of_each(old: Predecessor) -> Ends:
    """Both producers hang on one partition, one was committed and one aborted."""
    old.answer(0, {0: range(4), 1: range(4)})
    old.answer(1, {0: range(4, 8), 1: range(4, 8)})
    return [old.commit(0), old.abort(1)]


def both_committed(old: Predecessor) -> Ends:
    old.answer(1, {0: range(4), 1: range(4)})
    old.answer(0, {0: range(4, 8), 1: range(4, 8)})
    return [old.commit(1), old.commit(0)]


def answers_only(old: Predecessor) -> Ends:
    """Committed, and visible with its offsets: only the other partition's marker is missing."""
    old.answer(0, {0: range(6)})
    return [old.commit(0)]


def visible(old: Predecessor) -> Ends:
    """Everything is visible, only the offsets' marker is missing."""
    old.answer(0, {1: range(6)})
    return [old.commit(0)]


def dead_letters(old: Predecessor) -> Ends:
    old.answer(0, {0: range(3), 1: range(6)}, dead=True)
    return [old.commit(0)]


def copied(old: Predecessor) -> Ends:
    """A recovery died between the copies and the abort."""
    attempt = old.answer(0, {0: range(6), 1: range(6)})
    old.after.append(lambda: old.copy(attempt, 0, range(6)))
    return [old.commit(0)]


def copies_aborted(old: Predecessor) -> Ends:
    """A recovery could not commit the copies; behind what hangs they look like those that were committed."""
    attempt = old.answer(0, {0: range(6), 1: range(6)})
    old.after.append(lambda: old.copy(attempt, 0, range(6), "abort"))
    return [old.commit(0)]


def copies_open(old: Predecessor) -> Ends:
    """A recovery died between the copies and their commit."""
    attempt = old.answer(0, {0: range(6), 1: range(6)})
    old.after.append(lambda: old.copy(attempt, 0, range(6), "open"))
    return [old.commit(0)]


def answered_since(old: Predecessor) -> Ends:
    """Another slot has had the partitions since and answered: what hangs is out of date, though below the offset."""
    old.answer(0, {0: range(6), 1: range(6)})
    old.after.append(lambda: old.other(1).answer_and_commit({0: range(8), 1: range(8)}))
    return [old.abort(0)]


def dead_since(old: Predecessor) -> Ends:
    """The same, but the other slot's answers were dead letters, on another topic."""
    old.answer(0, {0: range(6), 1: range(6)})
    old.after.append(lambda: old.other(1).answer_and_commit({0: range(8), 1: range(8)}, dead=True))
    return [old.abort(0)]


def by_a_slot_that_is_gone(old: Predecessor) -> Ends:
    """The partitions have moved to another slot; nobody bears the name of the one that left this."""
    gone = old.other(7)
    gone.answer_and_commit({0: range(2), 1: range(2)})
    gone.answer(0, {0: range(2, 5), 1: range(2, 6)})
    return [gone.commit(0)]


def by_a_slot_gone_before_its_first_commit(old: Predecessor) -> Ends:
    """Its first transaction hides the offsets of partitions that nobody had committed: only its signature names it."""
    gone = old.other(7)
    gone.sign([0, 1])
    gone.answer(0, {0: range(5), 1: range(6)})
    return [gone.commit(0)]


CASES: dict[str, tuple[Callable[[Predecessor], Ends], int]] = {
    **{one.__name__: (one, KEPT) for one in (aborted, committed, one_of_each, both_committed, answers_only)},
    **{one.__name__: (one, KEPT) for one in (dead_letters, copied, copies_aborted, copies_open)},
    **{one.__name__: (one, KEPT) for one in (answered_since, dead_since)},
    **{f"{one.__name__}, offsets hidden": (one, LOST) for one in (aborted, committed, one_of_each, both_committed)},
    **{f"{one.__name__}, offsets hidden": (one, LOST) for one in (answers_only, visible, dead_letters)},
    "by_a_slot_that_is_gone": (by_a_slot_that_is_gone, KEPT),
    "by_a_slot_that_is_gone, offsets hidden": (by_a_slot_that_is_gone, LOST),
    "by_a_slot_gone_before_its_first_commit": (by_a_slot_gone_before_its_first_commit, LOST),
}


def signed_and_aborted(old: Predecessor) -> Ends:
    """As a worker leaves it; without an offset the successor would wait for the outcome of the open transaction."""
    old.sign([0, 1])
    return aborted(old)


def both_aborted(old: Predecessor) -> Ends:
    """Whichever of its producers a successor uses first, one hangs."""
    old.sign([0, 1])
    old.answer(0, {0: range(5), 1: range(5)})
    old.answer(1, {0: range(5, 10), 1: range(5, 10)})
    return [old.abort(0), old.abort(1)]


def nothing_is_ended(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ending, "run", lambda _self, _looking: set())


def everything_is_aborted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(end_transactions, "kept", lambda _records, _committed, _since: [])


def the_outcome_is_not_looked_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ending, "_done", lambda _self, _last, _records: {})


def copies_count_for_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hanging_transactions, "COPIED_BY", "another-header")


def copies_count_before_they_are_seen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ending, "_write_owed", lambda _self: False)


def others_answers_count_for_nothing(patch: pytest.MonkeyPatch) -> None:
    right = hanging_transactions.kept
    patch.setattr(end_transactions, "kept", lambda records, committed, _since: right(records, committed, ()))


PLANTED: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], Callable[[Predecessor], Ends], int]] = {
    "nothing is ended": (nothing_is_ended, signed_and_aborted, KEPT),
    "everything is aborted": (everything_is_aborted, committed, KEPT),
    "the outcome is not looked for": (the_outcome_is_not_looked_for, committed, LOST),
    "copies count for nothing": (copies_count_for_nothing, copied, KEPT),
    "copies count before they are seen": (copies_count_before_they_are_seen, copies_aborted, KEPT),
    "others' answers count for nothing": (others_answers_count_for_nothing, answered_since, KEPT),
    "others' dead letters count for nothing": (others_answers_count_for_nothing, dead_since, KEPT),
}
LEFT = CASES | {f"planted: {name}": (leaves, on) for name, (_, leaves, on) in PLANTED.items()}


@pytest.fixture(scope="module")
def brokers() -> Iterator[Forgetful]:
    made = Forgetful(RELEASE)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def left(brokers: Forgetful, unique: Unique) -> dict[str, Predecessor]:
    """The predecessors of all cases, after the outage."""
    found = {name: leave(brokers, unique, offsets_on) for name, (_, offsets_on) in LEFT.items()}
    brokers.outage(*[end for name, old in found.items() for end in LEFT[name][0](old)])
    for old in found.values():
        for act in old.after:
            act()
    return found


def leave(brokers: Forgetful, unique: Unique, offsets_on: int = KEPT) -> Predecessor:
    events = brokers.topic(unique("events"), [KEPT, KEPT])
    route = Route(brokers.topic(unique("scores"), [LOST, KEPT]), brokers.topic(unique("dlq"), [LOST, KEPT]))
    produce(brokers.bootstrap, events, [b"x"] * EVENTS, partitions=2)
    return Predecessor(brokers, brokers.lane(offsets_on=offsets_on), events, route)


@pytest.mark.parametrize("case", CASES)
def test_a_successor_ends_what_hangs(left: dict[str, Predecessor], case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_transactions, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(open_transactions, "HANGING_S", 1.0)
    old = left[case]
    bootstrap, topics = old.kafka.bootstrap, {old.route.scores: 2, old.route.dlq: 2}
    with running(bootstrap, old.lane, Echo({old.events: old.route})) as ours, ledger(bootstrap, **topics) as found:
        found.until(EVENTS, 40)
        produce(bootstrap, old.events, [b"x"] * 4, partitions=2)
        found.until(EVENTS + 4, 40)
        ours.stop()
        assert found.to_end().answers() == expected(old.events, EVENTS + 4, 2)
        assert found.disorder() == []


@pytest.mark.parametrize("planted", PLANTED)
def test_the_ledger_catches(left: dict[str, Predecessor], planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of these tests, checked: without a rule of `Ending` it finds answers lost or doubled."""
    old = left[f"planted: {planted}"]
    PLANTED[planted][0](monkeypatch)
    bootstrap, topics = old.kafka.bootstrap, {old.route.scores: 2, old.route.dlq: 2}
    with running(bootstrap, old.lane, Echo({old.events: old.route})) as ours, ledger(bootstrap, **topics) as found:
        produce(bootstrap, old.events, [b"x"] * 4, partitions=2)

        def the_last_are_answered() -> bool:
            return {found.to_end().answers()[old.events, n, 11] for n in (0, 1)} == {1}

        def they_are_hidden() -> bool:
            """What hangs is ended by the next transaction of its own producer: the other one may have had the batch."""
            return planted == "nothing is ended" and any(ours.meter.hangs)

        await_true(lambda: the_last_are_answered() or they_are_hidden(), "the last are answered")
        ours.stop()
        assert found.to_end().answers() != expected(old.events, EVENTS + 4, 2)


def test_a_new_partition_is_signed_before_its_first_transaction(brokers: Forgetful, unique: Unique) -> None:
    """As `Predecessor.sign` does it."""
    old = leave(brokers, unique)
    with consumer(brokers.bootstrap, old.name.group) as client_of_group:

        def signatures(_batch: object) -> None:
            answers = client_of_group.committed([TopicPartition(old.events, n) for n in (0, 1)], timeout=60)
            seen.append([(answer.offset, answer.metadata) for answer in answers])

        seen: list[list[tuple[int, str | None]]] = []
        echo = Echo({old.events: old.route}, before=signatures)
        with (
            running(brokers.bootstrap, old.lane, echo) as ours,
            ledger(brokers.bootstrap, **{old.route.scores: 2}) as found,
        ):
            found.until(EVENTS, 40)
            ours.stop()
    assert seen[0] == [(0, str(Signature.of(old.name.instance, [old.events], echo.number)))] * 2


def test_a_start_warns_of_this_release(brokers: Forgetful, caplog: pytest.LogCaptureFixture) -> None:
    client.reach(KafkaSettings(bootstrap=brokers.bootstrap))
    (said,) = [record for record in caplog.records if record.getMessage() == "broker_forgets_markers"]
    assert said.levelname == "WARNING"
    assert "4.2" in said.__dict__["hint"]


class Gate:
    """A fail point that holds the worker at its next passing of a step until it is let go."""

    def __init__(self, step: str) -> None:
        self._step = step
        self.armed, self.held, self.go = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, step: str) -> None:
        if step == self._step and self.armed.is_set():
            self.armed.clear()
            self.held.set()
            assert self.go.wait(300)


class Held(Gate):
    """Holds a commit of answers on the broker that will be away.

    What is produced at once may be taken in several batches, and one without such answers loses no marker.
    """

    def __init__(self) -> None:
        super().__init__("before-commit")
        self.attempt = 0
        self.in_hand: Callable[[], commit.Pending | None] = lambda: None

    def watch(self, ours: Running) -> None:
        def in_hand() -> commit.Pending | None:
            held = ours.worker._committer._in_hand
            return held and held[0]

        self.in_hand = in_hand

    def __call__(self, step: str) -> None:
        pending = self.in_hand()
        if pending is None or not any(partition == 0 for _, partition in pending.first):
            return
        if step == "before-commit" and self.armed.is_set():
            self.attempt = pending.attempt
        super().__call__(step)
        self.passed(step, pending)

    def passed(self, step: str, pending: commit.Pending) -> None:
        """Called after each step of such a commit."""


def test_a_running_worker_ends_its_own(brokers: Forgetful, unique: Unique, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker goes away between acknowledgement and commit; the worker is told that its batch is committed."""
    monkeypatch.setattr(commit, "BUDGET_S", 300.0)
    monkeypatch.setattr(commit, "OVERDUE_S", 300.0)
    monkeypatch.setattr(transactional_producer, "TIMEOUT_MS", 300_000)
    old, gate = leave(brokers, unique), Held()
    bootstrap, topics = brokers.bootstrap, {old.route.scores: 2, old.route.dlq: 2}
    with (
        running(bootstrap, old.lane, Echo({old.events: old.route}), failpoint=gate) as ours,
        ledger(bootstrap, **topics) as found,
    ):
        gate.watch(ours)
        found.until(EVENTS, 40)
        gate.armed.set()
        produce(bootstrap, old.events, [b"x"] * 20, partitions=2)
        assert gate.held.wait(150)
        brokers.outage(gate.go.set)
        found.until(EVENTS + 20, 40)
        produce(bootstrap, old.events, [b"x"] * 20, partitions=2)
        found.until(EVENTS + 40, 40)
        ours.stop()
        assert found.to_end().answers() == expected(old.events, EVENTS + 40, 2)
        assert found.disorder() == []
        assert ours.meter.ended, "nothing hung: the case proves nothing"


def test_a_partition_that_had_no_leader_is_looked_at_before_it_is_written_to(
    brokers: Forgetful, unique: Unique, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three successors come while the broker is away: one waits for it, one writes when it is back, one does not look.

    The last is the planted bug: its commit makes the answers visible that its predecessor had aborted.
    """
    monkeypatch.setattr(recovery, "LEADER_S", 0.5)
    monkeypatch.setattr(recovery, "AGAIN_S", 600.0)  # no look in between helps by chance
    lanes = {name: leave(brokers, unique) for name in ("waits", "looks", "does not look")}
    gates = {name: Gate("after-poll") for name in lanes}
    ours: dict[str, Running] = {}
    with ExitStack() as stack:

        def take_over() -> None:
            for name, old in lanes.items():
                if name != "waits":
                    gates[name].armed.set()
                scorer = Echo({old.events: old.route})
                ours[name] = stack.enter_context(running(brokers.bootstrap, old.lane, scorer, failpoint=gates[name]))
            monkeypatch.setattr(ours["does not look"].worker, "_written", lambda *_: frozenset())
            assert gates["looks"].held.wait(150)
            assert gates["does not look"].held.wait(150)
            await_true(lambda: ours["waits"].log.said("tenant_paused"), "the tenant waits", 60.0)

        brokers.outage(*[end for old in lanes.values() for end in both_aborted(old)], then=take_over)
        for gate in gates.values():
            gate.go.set()
        for name, old in lanes.items():
            found = stack.enter_context(ledger(brokers.bootstrap, **{old.route.scores: 2}))
            found.until(EVENTS, 60)
            ours[name].stop()
            right = found.to_end().answers() == expected(old.events, EVENTS, 2)
            assert right == (name != "does not look"), (name, ours[name].log.tail())
            assert ours[name].meter.ended
        paused = ours["waits"].log.said("tenant_paused")[0]  # a busy machine may say it again of a trial
        assert paused["error"].startswith(f"{lanes['waits'].route.scores}[0]: no leader")


class Faulty(Held):
    """Fails a later commit of the same producer."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = threading.Event()

    def passed(self, step: str, pending: commit.Pending) -> None:
        same = attempts.half_of(pending.attempt) == attempts.half_of(self.attempt)
        if step == "after-flush" and self.fails.is_set() and same:
            self.fails.clear()
            raise Abortable("the transaction fails")


def test_a_producer_is_not_used_again_before_its_markers_are_written(
    brokers: Forgetful, unique: Unique, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A marker is lost and no client hears that a broker was away; then the same producer's next transaction fails.

    The second worker does not look after its markers, the planted bug: that failure takes committed answers with it.
    """
    monkeypatch.setattr(commit, "BUDGET_S", 300.0)
    monkeypatch.setattr(commit, "OVERDUE_S", 300.0)
    monkeypatch.setattr(commit, "SLOW_COMMIT_S", 300.0)
    monkeypatch.setattr(recovery, "SLOW_COMMIT_S", 300.0)
    monkeypatch.setattr(transactional_producer, "TIMEOUT_MS", 300_000)
    monkeypatch.setattr(open_transactions, "LOOK_EVERY_S", 600.0)
    lanes = {name: leave(brokers, unique) for name in ("looks", "does not look")}
    gates = {name: Faulty() for name in lanes}
    ours: dict[str, Running] = {}
    found: dict[str, Ledger] = {}
    with ExitStack() as stack:
        for name, old in lanes.items():
            scorer = Echo({old.events: old.route})
            ours[name] = stack.enter_context(running(brokers.bootstrap, old.lane, scorer, failpoint=gates[name]))
            deafen(ours[name], gates[name])
            found[name] = stack.enter_context(ledger(brokers.bootstrap, **{old.route.scores: 2}))
            found[name].until(EVENTS, 40)
        monkeypatch.setattr(ours["does not look"].worker._recovery._markers, "acknowledged", lambda _pending: None)
        for name, old in lanes.items():
            gates[name].armed.set()
            produce(brokers.bootstrap, old.events, [b"x"] * 20, partitions=2)
            assert gates[name].held.wait(150)

        def commits(name: str) -> Callable[[], None]:
            def let_it_commit() -> None:
                gates[name].go.set()
                said, attempt = ours[name].log.said, gates[name].attempt
                await_true(lambda: attempt in [line["attempt"] for line in said("committed")], "it is told so", 30.0)

            return let_it_commit

        brokers.outage(*[commits(name) for name in lanes])
        for name, old in lanes.items():
            gates[name].fails.set()
            sent = EVENTS + 20
            while gates[name].fails.is_set():
                assert sent < 10 * EVENTS, "no transaction of that producer comes"
                produce(brokers.bootstrap, old.events, [b"x"] * 20, partitions=2)
                sent += 20
                last = sent // 2 - 1
                await_true(lambda: found[name].to_end().answers()[old.events, 1, last] == 1, "the last is answered")  # noqa: B023
            found[name].until(sent if name == "looks" else sent - 10, 40)
            ours[name].stop()
            right = found[name].to_end().answers() == expected(old.events, sent, 2)
            assert right == (name == "looks"), (name, found[name].answers(), ours[name].log.tail())
            assert found[name].disorder() == []


def deafen(ours: Running, gate: Faulty) -> None:
    """Keep from it that a broker was away: librdkafka does not say it of each outage."""
    ours.worker._recovery._doubt = threading.Event()
    gate.watch(ours)
