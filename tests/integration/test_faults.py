"""Exactly once while workers are killed, stopped, added and removed; an independent reader counts."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker.failpoints import STEPS
from tests.integration.bank import PARTITIONS, Bank
from tests.integration.fleet import Fleet, publish
from tests.integration.witness import Witness, broken_promises
from tests.patience import PATIENCE, until

SESSION_S = 60
"""After so long the group misses a member: so late that a busy machine goes on before, where nothing waits for it."""
LATE: dict[str, Any] = {"session_ms": SESSION_S * 1_000}
Unique = Callable[[str], str]


@pytest.fixture
def bank(kafka: Broker, tmp_path: Path, unique: Unique, make_topic: Callable[..., str]) -> Bank:
    """Two tenants with their topics."""
    made = Bank(tmp_path / "bank", unique("bank"))
    for topic in made.topics():
        make_topic(name=topic, partitions=PARTITIONS)
    return made


class Feeder:
    """Produces events at a steady pace until told to stop."""

    def __init__(self, bank: Bank, bootstrap: str, per_s: int = 1000) -> None:
        self._bank, self._bootstrap, self._per_s = bank, bootstrap, per_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.counts: Counter[tuple[str, int]] = Counter()

    def __enter__(self) -> "Feeder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30 * PATIENCE)
        assert not self._thread.is_alive(), "what is being sent is not counted yet"

    def send(self, count: int) -> None:
        """Send some at once."""
        events = self._bank.events(count)
        self._bank.produce(self._bootstrap, events)
        self.counts.update((self._bank.topic("events", tenant), partition) for tenant, partition, _ in events)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            self.send(self._per_s // 5)


def live_witness(bank: Bank, bootstrap: str) -> Witness:
    return Witness(bootstrap, bank.topics(["scores"]), bank.topics(["dlq"]), PARTITIONS, "score.avsc")


def shadow_witness(bank: Bank, bootstrap: str) -> Witness:
    return Witness(bootstrap, bank.topics(["audit"]), [], PARTITIONS, "audit.avsc")


def test_an_answer_comes_soon_after_a_kill(bank: Bank, kafka: Broker, tmp_path: Path) -> None:
    """kill -9 of the only worker: the spare takes its slot over, and no partition waits for the dead one's session."""
    publish(bank.document(), tmp_path / "store")
    feeder = Feeder(bank, kafka.bootstrap, per_s=500)
    with (
        Fleet(
            kafka.bootstrap, tmp_path / "store", "live", bank.name, tmp_path / "live.log", workers=1, spare=True, **LATE
        ) as live,
        live_witness(bank, kafka.bootstrap) as witness,
        feeder,
    ):
        witness.wait_for(500, 60)
        spare_is_warm(live)
        live.kill(0)
        killed = time.monotonic()
        newest = feeder_mark(witness)
        until(lambda: answers_after(witness, newest), 10, lambda: "no answer after the kill")
        took = time.monotonic() - killed
    assert took < SESSION_S - 10, f"{took:.2f} s"


def feeder_mark(witness: Witness) -> int:
    """Return how many answers had been seen."""
    return len(witness.seen)


def answers_after(witness: Witness, mark: int) -> bool:
    """Whether every partition that had answers before the mark has one after it."""
    before = {one.source[:2] for one in witness.seen[:mark]}
    return before <= {one.source[:2] for one in witness.seen[mark:]}


def spare_is_warm(fleet: Fleet) -> None:
    """Wait until the spare has said so (the supervisor's log names it)."""
    until(lambda: bool(fleet.lines("spare_ready")), 60, lambda: "no spare")


@pytest.mark.long  # the test before kills once; tests/worker/test_loop_faults.py fails at each step
@pytest.mark.timeout(240 * PATIENCE)
@pytest.mark.parametrize("least", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_nothing_is_lost_or_doubled_while_workers_are_killed(
    bank: Bank, kafka: Broker, tmp_path: Path, least: int
) -> None:
    """Many kills of live and shadow workers, at every step of a transaction and at random moments."""
    publish(bank.document(), tmp_path / "store")
    shared: dict[str, Any] = {"longest_backoff_s": 1.0, "strike": 0.1, "spare": True}
    feeder = Feeder(bank, kafka.bootstrap)
    random.seed(7)
    with (
        Fleet(kafka.bootstrap, tmp_path / "store", "live", bank.name, tmp_path / "live.log", **shared) as live,
        Fleet(kafka.bootstrap, tmp_path / "store", "shadow", bank.name, tmp_path / "shadow.log", **shared) as shadow,
        live_witness(bank, kafka.bootstrap) as scores,
        shadow_witness(bank, kafka.bootstrap) as audit,
    ):
        with feeder:
            for fleet in [live, shadow] * (
                least // 4
            ):  # at random moments; to kill who has done nothing would prove little
                until(lambda fleet=fleet: has_worked(fleet) != [], 60, lambda: "nobody commits")  # type: ignore[misc]
                with suppress(ProcessLookupError, IndexError):  # a failpoint may have been faster
                    os.kill(random.choice(has_worked(fleet)), signal.SIGKILL)
            until(
                lambda: enough(least, live, shadow),
                15 * least,
                lambda: f"steps struck: {Counter(live.struck() + shadow.struck())}; {endings(live, shadow)}",
            )
        struck = Counter(live.struck() + shadow.struck())
        kills = len(live.lines("worker_ended")) + len(shadow.lines("worker_ended"))
        total = sum(feeder.counts.values())
        scores.wait_for(total, 90)
        audit.wait_for(total, 90)
    assert kills >= least, (kills, struck)
    assert set(struck) == set(STEPS), struck
    assert broken_promises(scores.seen, dict(feeder.counts)) == []
    assert broken_promises(audit.seen, dict(feeder.counts)) == []


def has_worked(fleet: Fleet) -> list[int]:
    """Process ids of the living workers that have committed something."""
    worked = {line["pid"] for line in fleet.lines("committed")}
    return [pid for pid in fleet.slots().values() if pid in worked]


def endings(*fleets: Fleet) -> list[Any]:
    """How workers ended, for a message."""
    return [(line["slot"], line["code"]) for fleet in fleets for line in fleet.lines("worker_ended")]


def enough(least: int, *fleets: Fleet) -> bool:
    """Whether there were so many kills, and every step of a transaction was struck."""
    kills = sum(len(fleet.lines("worker_ended")) for fleet in fleets)
    return kills >= least and {step for fleet in fleets for step in fleet.struck()} == set(STEPS)


def test_scaling_out_and_in_loses_nothing(bank: Bank, kafka: Broker, tmp_path: Path) -> None:
    """1 -> 3 -> 2 workers under load; a removed worker leaves the group, so nothing waits for its session."""
    publish(bank.document(), tmp_path / "store")
    feeder = Feeder(bank, kafka.bootstrap)
    with (
        Fleet(kafka.bootstrap, tmp_path / "store", "live", bank.name, tmp_path / "live.log", workers=1, **LATE) as live,
        live_witness(bank, kafka.bootstrap) as witness,
    ):
        with feeder:
            witness.wait_for(1000, 60)
            for count in (2, 3):
                live.process.send_signal(signal.SIGTTIN)
                until(
                    partial(serves_with, live, count),
                    60,
                    lambda: f"the new worker got no partitions: {live.lines('slot')}, {live.lines('assigned')}",
                )
            live.process.send_signal(signal.SIGTTOU)
            until(lambda: len(live.slots()) == 2, 30, lambda: f"the worker did not leave: {live.slots()}")
            mark = len(witness.seen)
            left = time.monotonic()
            until(lambda: answers_after(witness, mark), 10, lambda: "partitions wait for the session of who left")
            took = time.monotonic() - left
        witness.wait_for(sum(feeder.counts.values()), 60)
        assert live.stop() == 0
    assert took < SESSION_S - 10, f"{took:.1f} s"
    assert broken_promises(witness.seen, dict(feeder.counts)) == []


def answered_beyond(witness: Witness, sent: Mapping[tuple[str, int], int]) -> bool:
    """Whether in every event partition an event was answered that was sent later than these."""
    newest: dict[tuple[str, int], int] = {}
    for one in witness.seen:
        topic, partition, offset = one.source
        newest[topic, partition] = max(offset, newest.get((topic, partition), -1))
    return all(newest.get(place, -1) >= count for place, count in sent.items())


def commits(fleet: Fleet, slot: int) -> int:
    """How many batches a slot has committed."""
    return sum(line.get("slot") == slot for line in fleet.lines("committed"))


def assignments(fleet: Fleet, slot: int) -> int:
    """How often a slot was assigned partitions."""
    return sum(line["slot"] == slot and line["partitions"] > 0 for line in fleet.lines("assigned"))


def serves_with(fleet: Fleet, count: int) -> bool:
    """Whether so many slots were assigned partitions."""
    return len(serving(fleet)) >= count


def serving(fleet: Fleet) -> set[int]:
    """Slots that were assigned at least one partition."""
    return {line["slot"] for line in fleet.lines("assigned") if line["partitions"]}


@pytest.mark.long  # tests/worker/test_loop_faults.py has one that is fenced
def test_a_worker_that_slept_past_its_session_commits_nothing_old(bank: Bank, kafka: Broker, tmp_path: Path) -> None:
    """SIGSTOP beyond session and transaction timeout, another goes on, SIGCONT: the zombie's batch is refused."""
    publish(bank.document(), tmp_path / "store")
    feeder = Feeder(bank, kafka.bootstrap, per_s=500)
    with (
        Fleet(kafka.bootstrap, tmp_path / "store", "live", bank.name, tmp_path / "live.log") as live,
        live_witness(bank, kafka.bootstrap) as witness,
    ):
        with feeder:
            until(lambda: len(serving(live)) == 2, 60, lambda: f"two workers: {live.lines('assigned')}")
            witness.wait_for(500, 30)
            live.freeze(0)
            sent = feeder.counts.copy()
            until(lambda: answered_beyond(witness, sent), 60, lambda: f"not beyond {sent}: {live.lines('assigned')}")
            asleep, committed = assignments(live, 0), commits(live, 0)
            live.kill(0, signal.SIGCONT)
            until(lambda: assignments(live, 0) > asleep, 40, lambda: "the sleeper did not come back")
            until(lambda: commits(live, 0) > committed, 40, lambda: "it does not work again")
        witness.wait_for(sum(feeder.counts.values()), 60)
        assert live.stop() == 0
    assert broken_promises(witness.seen, dict(feeder.counts)) == []
