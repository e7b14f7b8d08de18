"""No worker ever goes back to a generation that is not current, whatever dies, starts, waits or is rolled back.

The independent reader looks at the `generation` field of the scores: on each event partition their order must be a part
of the order in which generations became current.
"""

import os
import random
import signal
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from muse_stream.control import DirectoryStore
from muse_stream.testing.kafka_broker import Broker
from tests.integration.bank import PARTITIONS, Bank
from tests.integration.fleet import Fleet, publish
from tests.integration.test_faults import Feeder, live_witness
from tests.integration.witness import Seen, Witness, broken_promises
from tests.patience import PATIENCE, until

MODELS = ("plain", "retrained")


class Releases:
    """Publishes and rolls back; remembers what was current, in order."""

    def __init__(self, bank: Bank, store: Path) -> None:
        self._bank, self._path = bank, store
        self.moves: list[int] = []

    def publish(self) -> None:
        """Make a new generation current."""
        document = self._bank.document(live=MODELS[len(self.moves) % 2], shadow=())
        document.write_text(document.read_text(encoding="utf-8") + f"# {len(self.moves)}\n", encoding="utf-8")
        self.moves.append(publish(document, self._path))

    def roll_back(self) -> None:
        """Make an older generation current again."""
        self.moves.append(DirectoryStore(self._path).rollback())


def generations(seen: Iterable[Seen]) -> dict[tuple[str, int], list[int]]:
    """Event partition -> the generations of its scores, repetitions left out."""
    found: dict[tuple[str, int], list[int]] = {}
    for one in seen:
        order = found.setdefault(one.source[:2], [])
        if not order or order[-1] != one.body["generation"]:
            order.append(one.body["generation"])
    return found


def out_of_order(seen: Iterable[Seen], moves: list[int]) -> list[str]:
    """Name each partition whose generations are not a part of `moves` in the order of `moves`."""
    problems = []
    for partition, order in generations(seen).items():
        left = iter(moves)
        if not all(number in left for number in order):
            problems.append(f"{partition}: served {order}, current were {moves}")
    return problems


def serves(witness: Witness, number: int, mark: int) -> bool:
    """Whether the latest answer of every partition comes from this generation, and is newer than the mark."""
    latest = {one.source[:2]: one.body["generation"] for one in witness.seen[mark:]}
    return len(latest) == 2 * PARTITIONS and set(latest.values()) == {number}


def spare_waits(fleet: Fleet) -> None:
    """Return when a process waits to take a slot over, compiled and warm."""

    def waits() -> bool:
        busy = set(fleet.slots().values())
        return any(line["pid"] not in busy and psutil.pid_exists(line["pid"]) for line in fleet.lines("spare_ready"))

    until(waits, 60, lambda: "no spare")


def test_the_reader_notices_an_old_generation() -> None:
    def seen(*numbers: int) -> list[Seen]:
        return [Seen("scores", 0, ("events", 0, i), {"generation": n}) for i, n in enumerate(numbers)]

    assert out_of_order(seen(1, 1, 2, 1), [1, 2, 1]) == []
    assert out_of_order(seen(1, 3), [1, 2, 3]) == []
    assert out_of_order(seen(1, 2, 1), [1, 2]) != []
    assert out_of_order(seen(2, 1), [1, 2]) != []


@pytest.mark.long  # the next test is the same for one start
@pytest.mark.timeout(240 * PATIENCE)
def test_a_worker_that_dies_brings_no_old_generation_back(bank: Bank, kafka: Broker, tmp_path: Path) -> None:
    """Kills, spares, restarts, swaps and rollbacks in a random order; what is current serves after each."""
    store, dice = tmp_path / "store", random.Random(11)
    releases = Releases(bank, store)
    releases.publish()
    feeder = Feeder(bank, kafka.bootstrap, per_s=300)

    def start() -> Fleet:
        return runs.enter_context(
            Fleet(kafka.bootstrap, store, "live", bank.name, tmp_path / "live.log", longest_backoff_s=0.5, spare=True)
        )

    with ExitStack() as runs, live_witness(bank, kafka.bootstrap) as witness:
        live = start()
        with feeder:
            until(lambda: serves(witness, 1, 0), 60, lambda: "generation 1 does not answer")
            spare_waits(live)
            releases.publish()
            steps = ["kill", "publish", "roll back", "kill", "restart"]
            dice.shuffle(steps)
            for step in ["kill", *steps]:
                spare_waits(live)  # it has compiled what is current now; then that changes
                if step == "publish":
                    releases.publish()
                elif step == "roll back":
                    releases.roll_back()
                elif step == "restart":
                    assert live.stop() == 0
                    live = start()
                else:
                    until(lambda: serves(witness, releases.moves[-1], len(witness.seen) - 200), 60, lambda: "no swap")
                    os.kill(dice.choice(list(live.slots().values())), signal.SIGKILL)
                mark = len(witness.seen)
                until(
                    lambda mark=mark: serves(witness, releases.moves[-1], mark),  # type: ignore[misc]
                    60,
                    lambda step=step: f"{step}: {generations(witness.seen[-500:])}, current {releases.moves}",  # type: ignore[misc]
                )
        witness.wait_for(sum(feeder.counts.values()), 60)
        assert live.stop() == 0
    assert out_of_order(witness.seen, releases.moves) == []
    assert broken_promises(witness.seen, dict(feeder.counts)) == []


def test_a_spare_that_has_not_looked_since_serves_what_its_predecessor_served(
    bank: Bank, kafka: Broker, tmp_path: Path
) -> None:
    """Between two of its looks a spare does not know of a promotion; it looks once more before it serves."""
    store = tmp_path / "store"
    releases = Releases(bank, store)
    releases.publish()
    feeder = Feeder(bank, kafka.bootstrap, per_s=100)
    with (
        Fleet(
            *(kafka.bootstrap, store, "live", bank.name, tmp_path / "live.log"),
            workers=1,
            spare=True,
            spare_poll_s=3_600.0,
        ) as live,
        live_witness(bank, kafka.bootstrap) as witness,
    ):
        with feeder:
            for move in (releases.publish, releases.roll_back):
                spare_waits(live)
                move()
                until(lambda: serves(witness, releases.moves[-1], len(witness.seen) - 40), 60, lambda: "no swap")
                live.kill(0)
                mark = len(witness.seen)
                until(
                    lambda mark=mark: serves(witness, releases.moves[-1], mark),  # type: ignore[misc]
                    60,
                    lambda: f"{generations(witness.seen)}, current {releases.moves}",
                )
        witness.wait_for(sum(feeder.counts.values()), 60)
        assert live.stop() == 0
    assert out_of_order(witness.seen, releases.moves) == []


def test_a_restart_falls_back_to_what_was_current_not_to_what_was_rolled_back(
    bank: Bank, kafka: Broker, tmp_path: Path
) -> None:
    """1 served, 2 was rolled back, 3 is broken: a new run serves 1, never 2."""
    store = tmp_path / "store"
    releases = Releases(bank, store)
    releases.publish()
    releases.publish()
    releases.roll_back()
    publish(bank.document(live="retrained", shadow=()), store, spoil="retrained.onnx")
    with (
        Fleet(kafka.bootstrap, store, "live", bank.name, tmp_path / "live.log", workers=1) as live,
        live_witness(bank, kafka.bootstrap) as witness,
    ):
        events = bank.events(40)
        bank.produce(kafka.bootstrap, events)
        witness.wait_for(len(events), 60)
        assert live.stop() == 0
    assert {one.body["generation"] for one in witness.seen} == {1}
