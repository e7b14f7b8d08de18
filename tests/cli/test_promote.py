"""`promote` on a real broker: the evidence of audit records, what it refuses and what it does."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from muse_stream.calibration import expected
from muse_stream.cli.main import main
from muse_stream.config import load_document
from muse_stream.control import open_store
from muse_stream.testing import Broker
from tests.cli.promotion_bank import RATES, Bank, scores
from tests.shared_broker import delete_topics

Output = pytest.CaptureFixture[str]


@pytest.fixture
def bank(
    kafka: Broker, tmp_path: Path, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bank]:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    mark = unique("p")
    yield Bank(kafka, tmp_path, mark)
    delete_topics(kafka.bootstrap, [mark])


ACME = ["--when", "tenant=acme,channel=pos"]


def run(capsys: Output, bank: Bank, *options: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["promote", "cards-next", "--store", bank.store, *options])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_candidate_that_keeps_the_promise_is_promoted(bank: Bank, capsys: Output) -> None:
    live = scores(4000, 1)
    bank.audit("acme", live, scores(4000, 2))
    bank.audit("acme", live, scores(4000, 3, 3.0), channel="ecom")  # another intent: none of this promotion's business
    bank.audit("globex", live, scores(4000, 4, 3.0))
    code, said = run(capsys, bank, *ACME, "--dry-run")
    assert code == 0, said
    assert "tenant acme, channel pos: live cards -> cards-next; shadow cards-next -> cards" in said
    assert bank.current() == 1
    assert run(capsys, bank, *ACME)[0] == 2  # no terminal to ask on
    code, said = run(capsys, bank, *ACME, "--yes", "--message", "quarterly refit", "--json")
    assert code == 0, said
    facts = json.loads(said)
    assert (facts["changed"], facts["number"], facts["current"]) == (True, 2, True)
    (evidence,) = facts["evidence"]
    assert (evidence["tenant"], evidence["events"], evidence["entities"]) == ("acme", 4000, 4000)
    assert [at["threshold"] for at in evidence["comparisons"]] == list(RATES)
    for at in evidence["comparisons"]:
        assert at["promised"] == RATES[at["threshold"]]
        assert at["live"] == pytest.approx(at["promised"], abs=0.001)
        assert abs(at["change"]) < at["margin"]
        assert 0 <= at["agreement"] <= 1
    entry = open_store(bank.store).list()[-1]
    assert entry.message == "quarterly refit"
    assert entry.evidence is not None
    assert entry.evidence["evidence"] == facts["evidence"]
    rule = load_document(open_store(bank.store).open(2).path).document.routes[1]
    assert (dict(rule.when), rule.live) == ({"tenant": ("acme",), "channel": ("pos",)}, "cards-next")
    code, said = run(capsys, bank, *ACME)
    assert (code, "cards-next is live there already" in said) == (0, True)


def test_a_rate_that_would_leave_its_promise_is_refused_by_tenant_and_threshold(bank: Bank, capsys: Output) -> None:
    bank.audit("acme", scores(4000, 1), scores(4000, 1, 2.0))
    code, said = run(capsys, bank, *ACME, "--yes")
    assert code == 2
    assert "tenant acme, threshold 0.8: the alert rate would move by +5 points (5 % -> 10 %, promised 5 %)" in said
    assert bank.current() == 1
    code, said = run(capsys, bank, *ACME, "--yes", "--force", "the bank asked for it")
    assert code == 0, said
    entry = open_store(bank.store).list()[-1]
    assert entry.evidence is not None
    assert entry.evidence["force"] == "the bank asked for it"
    assert any("threshold 0.8" in one for one in entry.evidence["against"])


def test_a_wider_tolerance_lets_it_pass(bank: Bank, capsys: Output) -> None:
    bank.audit("acme", scores(4000, 1), scores(4000, 1, 1.3))
    assert run(capsys, bank, *ACME, "--dry-run")[0] == 2
    assert run(capsys, bank, *ACME, "--dry-run", "--tolerance", "0.4")[0] == 0


def test_a_candidate_that_returns_to_the_promise_is_not_held_back(bank: Bank, capsys: Output) -> None:
    bank.audit("acme", scores(4000, 1, 2.0), scores(4000, 1))
    assert run(capsys, bank, *ACME, "--dry-run")[0] == 0


@pytest.mark.parametrize(
    ("events", "entities", "says"),
    [
        (0, 1, "tenant acme: no audit records of cards-next"),
        (60, 60, "too little evidence"),
        (4000, 40, "too little evidence"),
    ],
)
def test_too_little_evidence_is_refused(bank: Bank, capsys: Output, events: int, entities: int, says: str) -> None:
    """Few events, and many events of few cards: their alerts come together."""
    groups = np.arange(events) % entities
    of_card = scores(entities, 5), scores(entities, 6)
    bank.audit("acme", of_card[0][groups], of_card[1][groups], entities=entities)
    code, said = run(capsys, bank, *ACME, "--yes")
    assert (code, says in said) == (2, True), said
    assert bank.current() == 1


def test_a_candidate_that_fails_is_refused(bank: Bank, capsys: Output) -> None:
    live = scores(4000, 1)
    bank.audit("acme", live, [None if row % 100 == 0 else score for row, score in enumerate(live.tolist())])
    code, said = run(capsys, bank, *ACME, "--yes")
    assert (code, "cards-next failed on 40 of 4,000 events" in said) == (2, True), said


def test_records_of_another_content_do_not_count(bank: Bank, capsys: Output) -> None:
    """Generation 2 changes a limit, generation 3 the candidate's promise: of 1 and 2 nothing is known about 3."""
    live = scores(4000, 1)
    bank.audit("acme", live, live)
    text = bank.file.read_text()
    bank.file.write_text(text.replace("max_batch: 10000", "max_batch: 9000"))
    assert main(["publish", str(bank.file), bank.store, "--yes"]) == 0
    assert run(capsys, bank, *ACME, "--dry-run")[0] == 0
    bank.file.write_text(text.replace("0.8: 0.05}", "0.8: 0.04}"))
    assert main(["publish", str(bank.file), bank.store, "--yes", "--force", "agreed", "--replace"]) == 0
    code, said = run(capsys, bank, *ACME, "--dry-run")
    assert (code, "no audit records of cards-next; 4,000 of other generations do not count" in said) == (2, True), said


def test_the_latest_events_count(bank: Bank, capsys: Output) -> None:
    live = scores(3000, 1)
    bank.audit("acme", live, scores(3000, 2, 3.0))
    bank.audit("acme", live, live)
    assert run(capsys, bank, *ACME, "--dry-run")[0] == 2
    code, said = run(capsys, bank, *ACME, "--dry-run", "--events", "3000", "--json")
    assert code == 0, said
    assert json.loads(said)["evidence"][0]["events"] == 3000
    assert run(capsys, bank, *ACME, "--dry-run", "--since", "1h")[0] == 2  # both were written just now


def test_a_file_is_changed_and_nothing_published(bank: Bank, capsys: Output) -> None:
    live = scores(3000, 1)
    bank.audit("acme", live, live)
    before = bank.file.read_text()
    code, said = run(capsys, bank, *ACME, "--write", str(bank.file), "--yes")
    assert code == 0, said
    assert bank.current() == 1
    new = [line.strip() for line in bank.file.read_text().splitlines() if line not in before.splitlines()]
    assert new == ["- when: {tenant: acme, channel: pos}", "live: cards-next", "shadow: [cards]"]
    assert set(before.splitlines()) <= set(bank.file.read_text().splitlines())
    assert main(["publish", str(bank.file), bank.store, "--yes"]) == 0


def test_a_predictor_that_shadows_nowhere_is_not_promoted(bank: Bank, capsys: Output) -> None:
    assert main(["promote", "cautious", "--store", bank.store]) == 2
    assert "live there already" not in capsys.readouterr().err
    assert main(["promote", "cards-nxt", "--store", bank.store]) == 2
    assert "did you mean 'cards-next'?" in capsys.readouterr().err
    assert main(["promote", "cards-next"]) == 2
    assert "--store" in capsys.readouterr().err


def test_a_candidate_without_a_map_takes_a_reason_whatever_the_evidence(bank: Bank, capsys: Output) -> None:
    capsys.readouterr()
    assert main(["promote", "unmapped", "--store", bank.store, "--when", "tenant=acme,region=br", "--yes"]) == 2
    said = capsys.readouterr().err
    assert "has a quantile map and unmapped has none" in said
    assert "region br: unmapped is no shadow of cards there: no evidence" in said


def test_no_difference_seen_is_not_none_there_is() -> None:
    """Three events that agree prove nothing: the rule of three."""
    same = np.array([0.1, 0.9, 0.5])
    assert expected(same, same, 0.8, np.arange(3)).margin == pytest.approx(1.0)
    many = np.linspace(0, 1, 3000)
    assert expected(many, many, 0.8, np.arange(3000)).margin == pytest.approx(0.001)


def test_the_margin_holds_the_true_change_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(400):
        cards = rng.integers(0, 150, 1500)
        risky, riskier = rng.random(150) < 0.1, rng.random(150) < 0.1
        found = expected(np.where(risky[cards], 0.9, 0.1), np.where(riskier[cards], 0.9, 0.1), 0.8, cards)
        held += abs(found.change) <= found.margin
    assert held >= 370
