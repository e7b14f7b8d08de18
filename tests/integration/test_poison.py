"""A record that kills or hangs every process that scores it: it becomes a dead letter, and the lane goes on."""

from pathlib import Path
from typing import Any

import pytest

from muse_stream.control import DirectoryStore
from muse_stream.testing.kafka_broker import Broker
from tests.integration.bank import HANGS_AT, KILLS_AT, Bank
from tests.integration.fleet import Fleet, publish
from tests.integration.test_faults import live_witness, shadow_witness
from tests.integration.witness import Seen, broken_promises
from tests.patience import PATIENCE, until


def inputs(bank: Bank, events: list[tuple[str, int, bytes]]) -> dict[tuple[str, int], int]:
    """Event topic and partition -> number of events."""
    places = [(bank.topic("events", tenant), partition) for tenant, partition, _ in events]
    return {place: places.count(place) for place in set(places)}


def dead(seen: list[Seen]) -> list[str]:
    """Reasons of the dead letters among the answers."""
    return [one.body["muse.reason"] for one in seen if "muse.reason" in one.body]


@pytest.mark.long  # as the next test, with more processes that die
@pytest.mark.timeout(200 * PATIENCE)
def test_a_record_that_aborts_the_process_costs_itself_only(bank: Bank, kafka: Broker, tmp_path: Path) -> None:
    """Two of 3,000 events abort each process that scores them, live and shadow."""
    publish(bank.document(), tmp_path / "store")
    events = bank.events(3000)
    bank.produce(kafka.bootstrap, events)
    ids = [f"{bank.name}-517", f"{bank.name}-2044"]  # whole: the name's own digits are random
    planted: dict[str, Any] = {"abort_at": ids, "longest_backoff_s": 1.0, "workers": 1, "spare": True}
    with (
        Fleet(kafka.bootstrap, tmp_path / "store", "live", bank.name, tmp_path / "live.log", **planted) as live,
        Fleet(kafka.bootstrap, tmp_path / "store", "shadow", bank.name, tmp_path / "shadow.log", **planted) as shadow,
        live_witness(bank, kafka.bootstrap) as scores,
        shadow_witness(bank, kafka.bootstrap) as audit,
    ):
        scores.wait_for(3000, 120)
        audit.wait_for(2998, 120)
        more = bank.events(200)
        bank.produce(kafka.bootstrap, more)  # the lane goes on
        scores.wait_for(3200, 60)
        audit.wait_for(3198, 60)
        assert live.stop() == 0
        assert shadow.stop() == 0
    assert broken_promises(scores.seen, inputs(bank, events + more)) == []
    assert dead(scores.seen) == ["process-died"] * 2
    assert len(audit.seen) == 3198
    assert len(live.lines("died_while_at_work")) <= 8, "batch, piece and record for each, at most one more"
    told = [line for line in live.lines("died_while_at_work") if line.get("dead_letter")]
    assert sorted(line["topic"] for line in told) == bank.topics(["events"])


@pytest.mark.timeout(200 * PATIENCE)
@pytest.mark.parametrize(
    ("model", "amount"), [pytest.param("hangs", HANGS_AT, marks=pytest.mark.long), ("kills", KILLS_AT)]
)
def test_a_record_on_which_a_model_hangs_or_dies_costs_itself_only(
    bank: Bank, kafka: Broker, tmp_path: Path, model: str, amount: float
) -> None:
    """Real ONNX models: one loops, which the watchdog ends, the other divides by zero in native code (SIGFPE)."""
    publish(bank.document(live=model, shadow=()), tmp_path / "store")
    events = bank.events(60, amounts=[amount])
    bank.produce(kafka.bootstrap, events)
    options: dict[str, Any] = {"workers": 1, "spare": True}
    if model == "hangs":
        options["stall_s"] = 4.0
    with (
        Fleet(kafka.bootstrap, tmp_path / "store", "live", bank.name, tmp_path / "live.log", **options) as live,
        live_witness(bank, kafka.bootstrap) as scores,
    ):
        scores.wait_for(60, 150)
        assert bool(live.lines("stalled")) == (model == "hangs")
        assert live.stop() == 0
    assert broken_promises(scores.seen, inputs(bank, events)) == []
    assert dead(scores.seen) == ["process-died"]


@pytest.mark.timeout(200 * PATIENCE)
def test_a_generation_whose_compilation_kills_the_process_is_refused(bank: Bank, kafka: Broker, tmp_path: Path) -> None:
    """The workers that try it die once; then it is refused by its number and the one before serves."""
    store = tmp_path / "store"
    publish(bank.document(), store)
    planted: dict[str, Any] = {"abort_compiling": 2, "longest_backoff_s": 1.0, "workers": 1, "spare": True}
    with (
        Fleet(kafka.bootstrap, store, "live", bank.name, tmp_path / "live.log", **planted) as live,
        live_witness(bank, kafka.bootstrap) as scores,
    ):
        bank.produce(kafka.bootstrap, bank.events(100))
        scores.wait_for(100, 60)
        publish(bank.document(live="retrained", shadow=()), store)
        assert DirectoryStore(store).current() == 2
        until(lambda: bool(live.lines("died_while_at_work")), 60, lambda: "nobody compiles generation 2")
        until(lambda: bool(live.lines("generation_refused")), 60, lambda: "nobody refuses generation 2")
        bank.produce(kafka.bootstrap, bank.events(100))
        scores.wait_for(200, 60)
        publish(bank.document(live="retrained", shadow=("plain",)), store)
        live.wait_generation(3)
        bank.produce(kafka.bootstrap, bank.events(100))
        scores.wait_for(300, 60)
        assert live.stop() == 0
    assert {one.body["generation"] for one in scores.seen} == {1, 3}
    assert all(line["compiling"] == 2 for line in live.lines("died_while_at_work"))
