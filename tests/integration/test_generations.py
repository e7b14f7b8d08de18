"""New generations, and shadows that misbehave: what a tenant sees of it, which is nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from muse_stream.demo.broker import Broker
from tests.integration.bank import HANGS_AT, PARTITIONS, RAISES_AT, Bank
from tests.integration.fleet import Fleet, publish
from tests.integration.test_faults import Feeder, live_witness, shadow_witness
from tests.integration.witness import Witness, broken_promises, until

Unique = Callable[[str], str]


@pytest.fixture
def make_bank(kafka: Broker, tmp_path: Path, unique: Unique, make_topic: Callable[..., str]) -> Callable[[], Bank]:
    """Make a bank with its topics; each call another one."""

    def make() -> Bank:
        name = unique("bank")
        made = Bank(tmp_path / name, name)
        for topic in made.topics():
            make_topic(name=topic, partitions=PARTITIONS)
        return made

    return make


def test_generations_are_swapped_under_load(make_bank: Callable[[], Bank], kafka: Broker, tmp_path: Path) -> None:
    """Promotion and rollback in mid-stream; a broken generation is refused by its path and the old one goes on."""
    bank = make_bank()
    store = tmp_path / "store"
    publish(bank.document(live="plain"), store)
    feeder = Feeder(bank, kafka.bootstrap)
    with (
        Fleet(kafka.bootstrap, store, "live", bank.name, tmp_path / "live.log") as live,
        live_witness(bank, kafka.bootstrap) as witness,
    ):
        with feeder:
            for number, model in enumerate(("plain", "retrained", "plain"), start=1):
                if number > 1:
                    assert publish(bank.document(live=model, shadow=()), store) == number
                until(lambda n=number: generation(witness, n), 60, lambda n=number: f"generation {n} does not answer")  # type: ignore[misc]
            spoilt = publish(bank.document(live="retrained", shadow=("plain",)), store, spoil="retrained.onnx")
            until(lambda: refused(live, spoilt), 30, lambda: "the broken generation was not refused")
            mark = len(witness.seen)
            witness.wait_for(mark + 1000, 30)
        witness.wait_for(sum(feeder.counts.values()), 60)
        assert live.stop() == 0
    assert broken_promises(witness.seen, dict(feeder.counts)) == []
    by_generation = {one.body["generation"]: one.body["predictor"] for one in witness.seen}
    assert by_generation == {1: "plain", 2: "retrained", 3: "plain"}


def generation(witness: Witness, number: int) -> bool:
    """Whether the latest answers come from this generation."""
    return bool(witness.seen) and witness.seen[-1].body["generation"] == number


def refused(fleet: Fleet, number: int) -> bool:
    """Whether a worker has said that it refuses a generation (or already finds it torn), naming the file."""
    text = fleet.log.read_text(encoding="utf-8")
    return f"{number:06}" in text and "retrained.onnx" in text


@pytest.mark.parametrize("shadow", ["raises", "slow", "hangs"])
def test_a_bad_shadow_changes_nothing_live(
    make_bank: Callable[[], Bank], kafka: Broker, tmp_path: Path, shadow: str
) -> None:
    """The live answers are the same bits with a shadow that raises, is far slower, or hangs, as with none."""
    with_shadow, alone = make_bank(), make_bank()
    answers = {}
    for bank, shadows in ((alone, ()), (with_shadow, (shadow,))):
        publish(bank.document(shadow=shadows), tmp_path / bank.name / "store")
        events = bank.events(4000, amounts=(RAISES_AT, HANGS_AT))
        with (
            Fleet(
                kafka.bootstrap, tmp_path / bank.name / "store", "live", bank.name, tmp_path / "l.log", workers=1
            ) as live,
            Fleet(
                kafka.bootstrap,
                tmp_path / bank.name / "store",
                "shadow",
                bank.name,
                tmp_path / "s.log",
                workers=1,
                stall_s=3.0,
            ) as shadowing,
            live_witness(bank, kafka.bootstrap) as scores,
            shadow_witness(bank, kafka.bootstrap) as audit,
        ):
            shadowing.wait_serving()
            bank.produce(kafka.bootstrap, events)
            scores.wait_for(len(events), 60)
            if bank is with_shadow:
                judge_shadow(shadow, shadowing, audit, len(events))
            assert live.stop() == 0
        answers[bank.name] = {(one.source[0][-2:], *one.source[1:]): one.body["score"] for one in scores.seen}
    assert len(answers[alone.name]) == 4000
    assert answers[alone.name] == answers[with_shadow.name]


def judge_shadow(kind: str, fleet: Fleet, audit: Witness, count: int) -> None:
    """A shadow that raises says so in its records; a slow one arrives late; one that hangs is ended by its watchdog."""
    if kind == "hangs":
        until(lambda: bool(fleet.lines("stalled")), 60, lambda: "the watchdog did not bite")
        return
    audit.wait_for(count, 100)
    failed = [one for one in audit.seen if one.body["score"] is None]
    assert all(one.body["error"] for one in failed)
    assert len(failed) == (40 if kind == "raises" else 0)
