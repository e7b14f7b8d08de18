"""New generations, and shadows that misbehave: what a tenant sees of it, which is nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muse_stream.testing.kafka_broker import Broker
from tests.integration.bank import HANGS_AT, PARTITIONS, RAISES_AT, Bank
from tests.integration.fleet import Fleet, publish
from tests.integration.test_faults import Feeder, live_witness, shadow_witness
from tests.integration.witness import Witness, broken_promises
from tests.patience import until

Unique = Callable[[str], str]


EVENTS = 2000
Answers = dict[tuple[str, int, int], float]
"""(the tenant's name, partition, offset) of an event, and its score."""


@pytest.fixture(scope="module")
def make_bank(
    tmp_path_factory: pytest.TempPathFactory, unique: Unique, make_topic: Callable[..., str]
) -> Callable[[], Bank]:
    """Make a bank with its topics; each call another one."""

    def make() -> Bank:
        name = unique("bank")
        made = Bank(tmp_path_factory.mktemp("bank") / name, name)
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


def answers(scores: Witness) -> Answers:
    return {(one.source[0][-2:], *one.source[1:]): one.body["score"] for one in scores.seen}


@pytest.fixture(scope="module")
def alone(make_bank: Callable[[], Bank], kafka: Broker) -> Answers:
    """The live answers where there is no shadow at all."""
    bank = make_bank()
    store = bank.folder / "store"
    publish(bank.document(shadow=()), store)
    events = bank.events(EVENTS, amounts=(RAISES_AT, HANGS_AT))
    with (
        Fleet(kafka.bootstrap, store, "live", bank.name, bank.folder / "live.log", workers=1) as live,
        live_witness(bank, kafka.bootstrap) as scores,
    ):
        bank.produce(kafka.bootstrap, events)
        scores.wait_for(EVENTS, 60)
        assert live.stop() == 0
    return answers(scores)


@pytest.mark.parametrize(
    "shadow", ["raises", pytest.param("slow", marks=pytest.mark.slow), pytest.param("hangs", marks=pytest.mark.long)]
)
def test_a_bad_shadow_changes_nothing_live(
    make_bank: Callable[[], Bank], alone: Answers, kafka: Broker, tmp_path: Path, shadow: str
) -> None:
    """The live answers are the same bits with a shadow that raises, is far slower, or hangs, as with none."""
    bank, store = make_bank(), tmp_path / "store"
    publish(bank.document(shadow=(shadow,)), store)
    events = bank.events(EVENTS, amounts=(RAISES_AT, HANGS_AT))
    one: dict[str, Any] = {"workers": 1}
    impatient: dict[str, Any] = (
        {"stall_s": 3.0} if shadow == "hangs" else {}
    )  # a slow one on a busy machine is no hanging one
    with (
        Fleet(kafka.bootstrap, store, "live", bank.name, tmp_path / "l.log", **one) as live,
        Fleet(kafka.bootstrap, store, "shadow", bank.name, tmp_path / "s.log", **one, **impatient) as shadowing,
        live_witness(bank, kafka.bootstrap) as scores,
        shadow_witness(bank, kafka.bootstrap) as audit,
    ):
        shadowing.wait_serving()
        bank.produce(kafka.bootstrap, events)
        scores.wait_for(EVENTS, 60)
        judge_shadow(shadow, shadowing, audit)
        assert live.stop() == 0
    assert len(alone) == EVENTS
    assert answers(scores) == alone


def judge_shadow(kind: str, fleet: Fleet, audit: Witness) -> None:
    """A shadow that raises says so in its records; a slow one arrives late; one that hangs is ended by its watchdog."""
    if kind == "hangs":
        until(lambda: bool(fleet.lines("stalled")), 60, lambda: "the watchdog did not bite")
        return
    audit.wait_for(EVENTS, 120)
    failed = [one for one in audit.seen if one.body["score"] is None]
    assert all(one.body["error"] for one in failed)
    assert len(failed) == (EVENTS // 100 if kind == "raises" else 0)
