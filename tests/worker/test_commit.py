"""The committer's rules on producers that note every call: R3, R9, R10, and R5's parallel start.

Each rule is also planted as a bug, which the same check must catch.
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from muse_stream.errors import Abortable, Fatal, Retriable, StreamError
from muse_stream.kafka.deadline import Deadline
from muse_stream.worker import commit as module
from muse_stream.worker.commit import Committed, Committer, Pending
from muse_stream.worker.failpoints import nothing
from tests.worker.doubles import await_true

Step = tuple[str, int]


class Script:
    """The calls of both producers in one order; steps can be held up or made to fail."""

    def __init__(self) -> None:
        self.calls: list[Step] = []
        self.failing: dict[Step, Exception] = {}
        self._gates: dict[Step, threading.Event] = {}
        self._lock = threading.Lock()

    def hold(self, step: str, batch: int) -> threading.Event:
        return self._gates.setdefault((step, batch), threading.Event())

    def call(self, step: str, batch: int) -> None:
        with self._lock:
            self.calls.append((step, batch))
        if (step, batch) in self._gates:
            assert self._gates[step, batch].wait(60)
        if (step, batch) in self.failing:
            raise self.failing[step, batch]

    def position(self, step: str, batch: int) -> int:
        return self.calls.index((step, batch))


class Noting:
    """Stands in for `TransactionalProducer`; the batch in hand is told by what was submitted."""

    def __init__(self, script: Script, half: int) -> None:
        self._script, self.batch, self.half = script, half - 2, half
        self.discarded = 0

    def begin(self) -> None:
        self.batch += 2
        self._script.call("begin", self.batch)

    def flush(self, _deadline: Deadline) -> None:
        self._script.call("flush", self.batch)

    def hear(self) -> None:
        pass

    def send_offsets(self, _offsets: Any, _metadata: Any, _deadline: Deadline, _signature: str) -> None:
        self._script.call("offsets", self.batch)

    def commit(self, _deadline: Deadline) -> None:
        self._script.call("commit", self.batch)

    def discard(self) -> None:
        self.discarded += 1


def pending(batch: int, events: int = 1) -> Pending:
    return Pending({("t", 0): batch}, {("t", 0): batch + 1}, object(), batch, events)


class Stage:
    """A committer over noting producers."""

    def __init__(self, kind: type[Committer] = Committer) -> None:
        self.script, self.landed = Script(), list[int]()
        self.opened: list[Noting] = []
        self.committer = kind(self._open, nothing, self._note)  # type: ignore[arg-type]

    def _open(self, half: int) -> Noting:
        made = Noting(self.script, half)  # two threads open one each: the last of the list may be the other's
        self.opened.append(made)
        return made

    def _note(self, committed: Committed) -> None:
        self.landed.append(committed.pending.attempt)

    def batch(self, number: int) -> None:
        self.committer.begin()
        self.committer.submit(pending(number))


class BeginsEarly(Committer):
    """Planted: no waiting for the last batch's acknowledgements."""

    def _may_begin(self) -> bool:
        return self._committed >= self._submitted - 1


class GoesOnAfterFailure(Committer):
    """Planted: a batch that failed does not stop the ones after it."""

    def _fail(self, error: StreamError, pending: Pending) -> None:
        with self._changed:
            self._committed += 1
            self._flushed = max(self._flushed, self._committed)
            self._changed.notify_all()
        self._run()


class CountsTheQueue(Committer):
    """Planted: done when the queue is empty, while the last one is still in the thread's hands."""

    def _idle(self) -> bool:
        return not self._queue


def flush_law(kind: type[Committer]) -> bool:
    """Whether batch 1 begins only after batch 0 is acknowledged."""
    stage = Stage(kind)
    gate = stage.script.hold("flush", 0)
    stage.batch(0)
    await_true(lambda: ("flush", 0) in stage.script.calls, "batch 0 is being flushed")
    begun = threading.Event()

    def begin() -> None:
        stage.committer.begin()
        begun.set()

    thread = threading.Thread(target=begin, daemon=True)
    thread.start()
    # whoever keeps the rule is seen to wait for a moment; who does not is given all the time it needs
    early = begun.wait(0.15 if kind is Committer else 60)
    gate.set()
    thread.join(60)
    assert begun.is_set()
    stage.committer.close()
    return not early


def order_law(kind: type[Committer], failing: str) -> bool:
    """Whether nothing of batch 1 is sent or committed once batch 0 failed."""
    stage = Stage(kind)
    # as in life: batch 1 is published, and submitted, while batch 0 is being committed
    gate = stage.script.hold("offsets", 0)
    stage.script.failing[failing, 0] = Abortable("refused")
    stage.batch(0)
    await_true(lambda: ("offsets", 0) in stage.script.calls, "the offsets of batch 0 are being sent")
    stage.batch(1)
    gate.set()
    if kind is Committer:
        await_true(lambda: not stage.committer._thread.is_alive(), "the committing thread has given up")
    else:
        await_true(lambda: ("commit", 1) in stage.script.calls, "it goes on")
    stage.committer.close()
    return not {("offsets", 1), ("commit", 1)} & set(stage.script.calls)


def drain_law(kind: type[Committer]) -> bool:
    """Whether a drain waits for the transaction that is in the thread's hands."""
    stage = Stage(kind)
    gate = stage.script.hold("commit", 0)
    stage.batch(0)
    await_true(lambda: ("commit", 0) in stage.script.calls, "the commit is under way")
    early = stage.committer.drain(Deadline(0.1))
    gate.set()
    assert stage.committer.drain(Deadline(60))
    stage.committer.close()
    return not early


@pytest.mark.parametrize(("kind", "kept"), [(Committer, True), (BeginsEarly, False)], ids=["rule", "planted"])
def test_no_record_of_the_next_batch_before_this_one_is_acknowledged(kind: type[Committer], kept: bool) -> None:
    assert flush_law(kind) == kept


@pytest.mark.parametrize("failing", ["offsets", "commit"])
@pytest.mark.parametrize(("kind", "kept"), [(Committer, True), (GoesOnAfterFailure, False)], ids=["rule", "planted"])
def test_r3_nothing_after_a_failed_batch_is_sent(kind: type[Committer], failing: str, kept: bool) -> None:
    assert order_law(kind, failing) == kept


@pytest.mark.parametrize(("kind", "kept"), [(Committer, True), (CountsTheQueue, False)], ids=["rule", "planted"])
def test_r9_a_drain_waits_for_what_is_in_hand(kind: type[Committer], kept: bool) -> None:
    assert drain_law(kind) == kept


def test_r3_offsets_and_commits_go_batch_by_batch_on_alternating_producers() -> None:
    stage = Stage()
    for number in range(6):
        stage.batch(number)
    assert stage.committer.drain(Deadline(60))
    assert [call for call in stage.script.calls if call[0] != "begin"] == [
        (step, number) for number in range(6) for step in ("flush", "offsets", "commit")
    ]
    for number in range(1, 6):
        assert stage.script.position("begin", number) > stage.script.position("flush", number - 1)
    assert stage.landed == list(range(6))
    assert len(stage.opened) == 2
    stage.committer.close()


def test_a_third_batch_waits_for_the_first_commit() -> None:
    stage = Stage()
    gate = stage.script.hold("commit", 0)
    stage.batch(0)
    stage.batch(1)
    third = threading.Thread(target=stage.batch, args=(2,), daemon=True)
    third.start()
    third.join(0.1)
    assert ("begin", 2) not in stage.script.calls
    gate.set()
    third.join(60)
    assert stage.committer.drain(Deadline(60))
    assert stage.script.position("begin", 2) > stage.script.position("commit", 0)
    stage.committer.close()


def test_r5_both_ids_are_initialised_at_the_same_time() -> None:
    met = threading.Barrier(2)

    def open_producer(half: int) -> Any:
        met.wait(60)  # breaks unless the other one comes while this one is busy
        return Noting(Script(), half)

    Committer(open_producer, nothing, lambda _committed: None).close()


@pytest.mark.parametrize("step", ["flush", "offsets", "commit"])
@pytest.mark.parametrize("error", [Abortable("a", code="A"), Fatal("f", code="F"), Retriable("r", code="R")])
def test_a_failure_reaches_the_worker_with_its_batch(step: str, error: StreamError) -> None:
    stage = Stage()
    stage.script.failing[step, 0] = error
    stage.batch(0)
    assert not stage.committer.drain(Deadline(60))
    with pytest.raises(type(error)) as raised:
        stage.committer.begin()
    assert raised.value is error
    failure = stage.committer.failure
    assert failure is not None
    assert failure[1].attempt == 0
    assert stage.landed == []
    stage.committer.close()


@pytest.mark.parametrize("step", ["flush", "offsets", "commit"])
def test_r20_a_call_that_does_not_return_is_a_failure_without_another_batch(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OVERDUE_S", 0.2)
    stage = Stage()
    gate = stage.script.hold(step, 0)
    stage.batch(0)
    await_true(lambda: failed(stage.committer), "what is late is raised")
    assert failed(stage.committer) == "_TIMED_OUT"
    assert stage.committer.failure is not None
    assert stage.committer.failure[1].attempt == 0
    assert not stage.committer.drain(Deadline(60))
    stage.committer.close()
    gate.set()


def test_r20_nothing_is_sent_behind_a_call_that_returned_too_late() -> None:
    stage = Stage()
    gate = stage.script.hold("commit", 0)
    stage.batch(0)
    stage.batch(1)
    await_true(lambda: ("commit", 0) in stage.script.calls, "the commit is under way")
    stage.committer._allow(pending(0), 0.0)  # its time is over
    await_true(lambda: failed(stage.committer), "what is late is raised")
    gate.set()
    await_true(lambda: stage.landed == [0], "that it was committed is told")
    await_true(lambda: not stage.committer._thread.is_alive(), "the committing thread ends")
    assert ("offsets", 1) not in stage.script.calls


def failed(committer: Committer) -> str | None:
    try:
        committer.raise_failure()
    except Abortable as error:
        return error.code
    return None


def test_an_unexpected_exception_does_not_die_in_the_thread() -> None:
    stage = Stage()
    stage.script.failing["commit", 0] = ZeroDivisionError("oops")
    stage.batch(0)
    assert not stage.committer.drain(Deadline(60))
    with pytest.raises(Fatal, match="oops"):
        stage.committer.raise_failure()
    stage.committer.close()


@pytest.fixture
def every_commit_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOW_COMMIT_S", -1.0)


@pytest.mark.usefixtures("every_commit_slow")
def test_a_slow_commit_renews_its_producer_before_it_is_used_again() -> None:
    stage = Stage()
    stage.batch(0)
    assert stage.committer.drain(Deadline(60))
    assert [(one.half, one.discarded) for one in stage.opened] in ([(0, 1), (1, 0), (0, 0)], [(1, 0), (0, 1), (0, 0)])
    assert stage.landed == [0]
    stage.committer.close()


@pytest.mark.usefixtures("every_commit_slow")
def test_closing_while_a_producer_is_renewed_leaves_none_behind() -> None:
    opening, go_on = threading.Event(), threading.Event()
    opened: list[Noting] = []
    script = Script()

    def open_producer(half: int) -> Any:
        made = Noting(script, half)
        opened.append(made)
        if len(opened) == 3:
            opening.set()
            assert go_on.wait(60)
        return made

    committer = Committer(open_producer, nothing, lambda _committed: None)
    committer.begin()
    committer.submit(pending(0))
    assert opening.wait(60)
    committer.close()
    go_on.set()
    await_true(lambda: all(one.discarded for one in opened), "all three are discarded")


@pytest.mark.usefixtures("every_commit_slow")
def test_a_renewal_that_fails_is_a_failure_and_closing_is_still_possible() -> None:
    script = Script()
    opened: list[Noting] = []

    def open_producer(half: int) -> Any:
        if len(opened) == 2:
            raise Retriable("not now")
        made = Noting(script, half)
        opened.append(made)
        return made

    committer = Committer(open_producer, nothing, lambda _committed: None)
    committer.begin()
    committer.submit(pending(0))
    assert not committer.drain(Deadline(60))
    with pytest.raises(Retriable):
        committer.begin()
    committer.close()


def test_failpoints_stand_at_every_step() -> None:
    passed: list[str] = []
    script = Script()
    make: Callable[[int], Any] = lambda half: Noting(script, half)  # noqa: E731
    committer = Committer(make, passed.append, lambda _committed: None)
    committer.begin()
    committer.submit(pending(0))
    assert committer.drain(Deadline(60))
    assert passed == ["after-flush", "after-send-offsets", "before-commit", "after-commit"]
    committer.close()
