"""`promote --steps` on a real broker: it walks, goes back, is interrupted, resumed, kept out, and overtaken.

What happens during a hold is done by the function that is told of it, in the same thread: nothing depends on a race.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from muse_stream.cli.main import main
from muse_stream.commands import gradual
from muse_stream.commands.configuration import generation_or_none
from muse_stream.commands.gradual import Ended, Plan, Report, begin, resume
from muse_stream.config import KafkaSettings, load_document, promote
from muse_stream.control import DirectoryStore, Held, Note, Store, open_store, rollback
from muse_stream.errors import ConfigError, StoreError
from muse_stream.testing import Broker
from tests.cli.promotion_bank import BOTH_STORES, Bank, scores, store_for
from tests.patience import until
from tests.shared_broker import delete_topics

Output = pytest.CaptureFixture[str]
WHEN = {"tenant": ["acme"], "channel": ["pos"]}
PLAN = Plan("cards-next", (0.1, 1.0), 600.0, when=WHEN, events=3000)
LONG = ["--steps", "10%,100%", "--hold", "1h", "--yes", "--when", "tenant=acme,channel=pos"]


@pytest.fixture
def bank(
    request: pytest.FixtureRequest,
    kafka: Broker,
    tmp_path: Path,
    unique: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bank]:
    """With evidence for the promotion."""
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    mark = unique("p")
    made = Bank(kafka, tmp_path, mark, store_for(request, mark))
    made.audit("acme", scores(3000, 1), scores(3000, 1))
    monkeypatch.setattr(gradual, "LOOK_S", 0.1)
    yield made
    delete_topics(kafka.bootstrap, [mark])


class Walk:
    """Runs a gradual promotion and does something when it tells of something."""

    def __init__(self, bank: Bank, **then: Callable[[], object]) -> None:
        self.bank, self.then = bank, then
        self.told: list[Report] = []
        self.store: Store = open_store(bank.store)

    def begin(self, plan: Plan = PLAN) -> bool:
        settings = KafkaSettings.from_environment()
        return begin(self.store, self.bank.store, settings, plan, lambda *_: True, self.tell)

    def resume(self) -> None:
        resume(self.store, self.bank.store, KafkaSettings.from_environment(), self.tell)

    def tell(self, report: Report) -> None:
        self.told.append(report)
        if act := self.then.get(report.what):
            act()

    def whats(self) -> list[str]:
        return [one.what for one in self.told if one.what != "look"]

    def live(self) -> object:
        number = self.bank.current()
        assert number is not None
        document = load_document(self.store.open(number).path).document
        return next(r.live for r in document.routes if dict(r.when) == {n: tuple(v) for n, v in WHEN.items()})


def interrupted() -> None:
    raise KeyboardInterrupt


@BOTH_STORES
def test_it_walks_through_the_steps_to_what_a_plain_promotion_gives(bank: Bank, capsys: Output) -> None:
    capsys.readouterr()
    options = ["promote", "cards-next", "--store", bank.store, "--steps", "1%,100%", "--hold", "1s"]
    where = ["--when", "tenant=acme,channel=pos"]
    assert main([*options, *where, "--dry-run"]) == 0
    assert "it would take 1%, 100%" in capsys.readouterr().out.replace(" %", "%")
    assert bank.current() == 1
    assert main([*options, *where, "--yes", "--message", "quarterly refit"]) == 0
    assert "cards-next answers all events; generation 3" in capsys.readouterr().out
    store = open_store(bank.store)
    texts = [load_document(store.open(number).path).source.data.decode() for number in (1, 2, 3)]
    assert "live: {cards: 0.99, cards-next: 0.01}" in texts[1]
    assert texts[2] == promote(texts[0], "cards-next", WHEN).text
    for number, step in ((2, 0), (3, 1)):
        entry = store.manifest(number)
        assert (entry.message, entry.author != "") == ("quarterly refit", True)
        assert entry.evidence is not None
        assert (entry.evidence["promoted"], entry.evidence["gradual"]["step"]) == ("cards-next", step)
        assert entry.evidence["evidence"][0]["events"] == 3000
    assert rollback(store) == 1  # the whole promotion, not its last step


@BOTH_STORES
def test_an_alert_rate_out_of_its_band_takes_it_back(bank: Bank) -> None:
    walk = Walk(bank, step=lambda: bank.audit("acme", scores(3000, 1), scores(3000, 1, 2.0), generation=2))
    with pytest.raises(Ended, match=r"back to generation 1, as generation 3: tenant acme, threshold 0.2: alert rate"):
        walk.begin()
    assert walk.whats() == ["step", "back"]
    evidence = walk.store.manifest(3).evidence
    assert evidence is not None
    reasons = evidence["reasons"]
    assert {one["tenant"] for one in reasons} == {"acme"}
    worst = next(one["numbers"] for one in reasons if one["numbers"]["threshold"] == 0.8)
    assert worst["new"] == pytest.approx(0.1, abs=0.005)
    assert worst["old"] == pytest.approx(0.05, abs=0.005)
    first, third = (load_document(walk.store.open(number).path).source.data for number in (1, 3))
    assert first == third


def test_what_both_predictors_do_is_no_reason(bank: Bank) -> None:
    """The stream moves both, and records of the time before the step do not count."""

    def moved() -> None:
        bank.audit("acme", scores(3000, 1, 2.0), scores(3000, 2, 2.0), generation=2)
        bank.audit("acme", scores(3000, 1), scores(3000, 1, 3.0), generation=1)

    walk = Walk(bank, step=moved, look=interrupted)
    with pytest.raises(KeyboardInterrupt):
        walk.begin()
    assert walk.told[-1].numbers["events"] == {"acme": 3000}


def test_dead_letters_that_rise_take_it_back(bank: Bank) -> None:
    def refuse() -> None:
        bank.audit("acme", scores(1000, 1), scores(1000, 2), generation=2)
        bank.refuse("acme", 20, generation=2)

    walk = Walk(bank, step=refuse)
    with pytest.raises(Ended, match=r"tenant acme: 20 dead letters, 2 % of the events, 0 % before"):
        walk.begin()
    assert bank.current() == 3


@pytest.mark.parametrize(
    "skew_s", [pytest.param(0, marks=pytest.mark.long), 3600, pytest.param(-3600, marks=pytest.mark.long)]
)
def test_dead_letters_as_many_as_before_do_not(bank: Bank, monkeypatch: pytest.MonkeyPatch, skew_s: int) -> None:
    """Whatever the clock of the operator says."""
    bank.refuse("acme", 60, generation=1)
    real = time.time_ns
    monkeypatch.setattr(f"{gradual.__name__}.time.time_ns", lambda: real() + skew_s * 1_000_000_000)

    def refuse() -> None:
        bank.audit("acme", scores(1000, 1), scores(1000, 2), generation=2)
        bank.refuse("acme", 20, generation=2)

    walk = Walk(bank, step=refuse, look=interrupted)
    with pytest.raises(KeyboardInterrupt):
        walk.begin()
    assert walk.told[-1].numbers["dead_letters"] == {"acme": 20}


def test_latency_that_doubles_and_stays_takes_it_back(bank: Bank) -> None:
    bank.score("acme", np.full(200, 80.0), generation=1)
    slow = lambda: bank.score("acme", np.full(100, 900.0), generation=2)  # noqa: E731
    walk = Walk(bank, step=slow, look=slow)
    with pytest.raises(Ended, match=r"latency: 900 ms from event to score, 80 ms before"):
        walk.begin()
    assert [one.what for one in walk.told] == ["step", "look", "look", "back"]


@BOTH_STORES
def test_interrupted_it_is_resumed_or_rolled_back(bank: Bank) -> None:
    walk = Walk(bank, look=interrupted)
    with pytest.raises(KeyboardInterrupt):
        walk.begin()
    assert walk.live() == {"cards": 0.9, "cards-next": 0.1}
    with pytest.raises(ConfigError) as refused:  # another one does not begin in the middle
        Walk(bank).begin(replace(PLAN, predictor="cards-next"))
    assert "not finished: generation 2 is cards-next step 1 of 2, 10 %" in str(refused.value)
    gone_on = Walk(bank, look=interrupted)
    with pytest.raises(KeyboardInterrupt):
        gone_on.resume()
    assert bank.current() == 2
    assert rollback(walk.store, note=Note("no")) == 1
    with pytest.raises(ConfigError, match="no step of a gradual promotion"):
        Walk(bank).resume()


def test_resumed_it_goes_on_to_the_end(bank: Bank) -> None:
    short = replace(PLAN, hold_s=0.5)
    walk = Walk(bank, look=interrupted)
    with pytest.raises(KeyboardInterrupt):
        walk.begin(short)
    rest = Walk(bank)
    rest.resume()
    assert (rest.whats(), rest.live()) == (["step", "done"], "cards-next")
    again = Walk(bank)
    again.resume()  # the last step holds once more, and nothing changes
    assert (again.whats(), bank.current()) == (["done"], 3)


@BOTH_STORES
def test_two_at_once_the_second_is_told_who_runs(bank: Bank) -> None:
    refused: list[str] = []

    def second() -> None:
        for act in (Walk(bank).begin, Walk(bank).resume):
            with pytest.raises(Held) as held:
                act()
            refused.append(str(held.value))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Walk(bank, look=second).begin()
    assert ["@" in one and "is at it: promote cards-next --steps" in one for one in refused] == [True, True]


@BOTH_STORES
def test_one_that_lost_its_lease_stops_at_once(bank: Bank) -> None:
    """As after a stop (SIGSTOP) that was longer than the lease: somebody else is at it by now."""
    walk = Walk(bank)

    def taken() -> None:
        lease = walk.store.ephemeral("promotion")
        assert walk.store.set_ephemeral("promotion", b"{}", 600, expected=lease)

    walk.then["look"] = taken
    with pytest.raises(Ended, match=r"lease was lost: another process is at it; generation 2 .* goes on"):
        walk.begin()
    assert "waiting" not in walk.whats()


@BOTH_STORES
def test_who_publishes_meanwhile_ends_it_and_is_named(bank: Bank) -> None:
    walk = Walk(bank, look=lambda: bank.change("max_batch: 10000", "max_batch: 9000"))
    with pytest.raises(Ended, match=r"stopped: generation 3 by \S+ is current, not 2; nothing was changed"):
        walk.begin()
    with pytest.raises(ConfigError, match=r"generation 3 by \S+ was published after cards-next step 1 of 2"):
        Walk(bank).resume()


def test_a_rollback_meanwhile_ends_it(bank: Bank) -> None:
    walk = Walk(bank, look=lambda: rollback(open_store(bank.store), note=Note("too early")))
    with pytest.raises(Ended, match=r'stopped: generation 1 by \S+ \("too early"\) is current, not 2'):
        walk.begin()


def test_a_store_that_is_away_is_waited_for(bank: Bank) -> None:
    store, aside = Path(bank.store), Path(f"{bank.store}-aside")

    def gone() -> None:
        if not aside.exists() and "waiting" not in walk.whats():
            store.rename(aside)
            (store / "ephemeral").mkdir(parents=True)
            (store / "current").write_text("garbage")

    def back() -> None:
        if aside.exists():
            store.rename(f"{bank.store}-garbage")
            aside.rename(store)

    walk = Walk(bank, look=gone, waiting=back)
    assert walk.begin(replace(PLAN, hold_s=0.5))
    assert [one for one in walk.whats() if one != "waiting"] == ["step", "step", "done"]
    assert "waiting" in walk.whats()


def test_a_store_that_stays_away_ends_it_and_it_can_be_resumed(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradual, "AWAY_S", 0.0)
    current = Path(bank.store) / "current"
    kept = current.read_bytes()

    def gone() -> None:
        nonlocal kept
        kept = current.read_bytes()
        current.write_text("garbage")

    with pytest.raises(Ended, match=r"generation 2 \(cards-next step 1 of 2, 10 %\) goes on; .*promote --resume"):
        Walk(bank, look=gone).begin()
    current.write_bytes(kept)
    rest = Walk(bank, look=interrupted)
    with pytest.raises(KeyboardInterrupt):
        rest.resume()


def loses_an_answer(monkeypatch: pytest.MonkeyPatch, *, moved: bool) -> list[int]:
    """The first move away from generation 2 is made, or is not, and nobody is told; returns where to."""
    lost: list[int] = []
    real = DirectoryStore.move_current

    def move(store: DirectoryStore, expected: int | None, new: int, note: Note | None = None) -> None:
        if lost or expected != 2:
            return real(store, expected, new, note)
        lost.append(new)
        if moved:
            real(store, expected, new, note)
        raise StoreError("no answer to the last step")

    monkeypatch.setattr(DirectoryStore, "move_current", move)
    return lost


@pytest.mark.parametrize("moved", [pytest.param(False, marks=pytest.mark.long), True])
def test_an_answer_that_is_lost_in_a_step_is_asked_for_again(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    """The store was away for a moment while the second step was published: no end, and no step is made twice."""
    lost, walk = loses_an_answer(monkeypatch, moved=moved), Walk(bank)
    assert walk.begin(replace(PLAN, hold_s=0.2))
    assert lost == [3]
    assert (walk.whats()[0], walk.whats()[-1], bank.current()) == ("step", "done", 3)
    assert [entry.number for entry in walk.store.list()] == [1, 2, 3]


@pytest.mark.long  # the test before loses one in a step
def test_an_answer_that_is_lost_on_the_way_back_is_asked_for_again(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = loses_an_answer(monkeypatch, moved=True)
    walk = Walk(bank, step=lambda: bank.audit("acme", scores(3000, 1), scores(3000, 1, 2.0), generation=2))
    with pytest.raises(Ended, match=r"went back to generation 1, as generation 3: tenant acme, threshold 0.2"):
        walk.begin()
    assert (lost, bank.current()) == ([3], 3)


def test_what_was_read_while_the_store_was_away_is_counted_when_it_is_back(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a generation counts is asked when its first record comes: no answer is not a no, for ever."""
    away: list[int] = []
    real = generation_or_none

    def asked(store: Store, number: int) -> object:
        if len(away) < 2:
            away.append(number)
            raise StoreError("no answer within 1 s")
        return real(store, number)

    def written() -> None:
        bank.audit("acme", scores(3000, 1), scores(3000, 1), generation=2)
        monkeypatch.setattr(gradual, "generation_or_none", asked)

    walk = Walk(bank, step=written, look=interrupted)
    with pytest.raises(KeyboardInterrupt):
        walk.begin()
    assert (walk.whats(), walk.told[-1].numbers["events"]) == (["step", "waiting", "waiting"], {"acme": 3000})


def test_a_step_that_the_guard_refuses_is_not_taken(bank: Bank) -> None:
    """The latest evidence speaks against it, though nothing is certain enough to go back."""
    walk = Walk(bank, step=lambda: bank.audit("acme", scores(3000, 1), scores(3000, 1, 1.22), generation=2))
    with pytest.raises(Ended, match=r"stopped before 100 %: tenant acme, threshold .* --resume"):
        walk.begin(replace(PLAN, hold_s=0.1))
    assert bank.current() == 2


@pytest.mark.long  # test_interrupted_it_is_resumed_or_rolled_back is the same without a process
def test_killed_it_leaves_everything_in_the_store(bank: Bank, tmp_path: Path) -> None:
    program = "import sys; from muse_stream.cli.main import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["promote", "cards-next", "--store", bank.store, *LONG]
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=out, stderr=out, env=os.environ)
    try:
        until(lambda: bank.current() == 2 or process.poll() is not None, 60)
        assert bank.current() == 2, (tmp_path / "out").read_text()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    store = open_store(bank.store)
    with pytest.raises(Held, match="is at it: promote cards-next --steps"):
        Walk(bank).resume()
    lease = store.ephemeral("promotion")
    assert store.set_ephemeral("promotion", None, 0, expected=lease)  # as after LEASE_S
    rest = Walk(bank, look=interrupted)
    with pytest.raises(KeyboardInterrupt):
        rest.resume()
    assert rest.told[-1].generation == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--steps", "10%,5%,100%"], "does not grow to 100%"),
        (["--steps", "10%,10%,100%"], "does not grow to 100%"),
        (["--steps", "1%,10%"], "does not grow to 100%"),
        (["--steps", "0%,100%"], "above 0% and at most 100%"),
        (["--steps", "50%,101%"], "above 0% and at most 100%"),
        (["--steps", "0.1,1"], "'0.1' is no share"),
        (["--steps", "ten%,100%"], "'ten%' is no share"),
        (["--steps", ""], "'' is no share"),
        (["--steps", "1%,100%", "--hold", "0s"], "'0s' is no duration"),
        (["--steps", "1%,100%", "--hold", "10"], "'10' is no duration"),
        (["--hold", "10m"], "goes with --steps"),
        (["--steps", "1%,100%", "--write", "muse.yaml"], "does not go with --steps"),
        (["--resume"], "goes on with what was begun"),
        (["--steps", "1%,100%", "--when", "tenant=acmee"], "did you mean 'acme'"),
        (["--steps", "1%,100%", "--when", "chanel=pos"], "did you mean 'channel'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: list[str], says: str, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    store = str(tmp_path / "store")
    assert main(["publish", "deploy/config/muse.yaml", store, "--yes"]) == 0
    assert main(["promote", "cards-next", "--store", store, *options, "--yes"]) == 2
    assert says in " ".join(capsys.readouterr().err.replace("│", "").split())
    assert open_store(store).current() == 1


def test_without_store_or_predictor_it_says_so(capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUSE_STORE", raising=False)
    assert main(["promote", "cards-next", "--steps", "1%,100%"]) == 2
    assert main(["promote", "--store", str(tmp_path)]) == 2
    assert main(["promote", "--resume", "--store", str(tmp_path / "none")]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", "").split())
    assert "name a store with --store" in said
    assert "name the predictor" in said
    assert "holds no generation" in said


def test_too_little_evidence_begins_nothing(bank: Bank, capsys: Output) -> None:
    capsys.readouterr()
    options = ["promote", "cards-next", "--store", bank.store, "--steps", "1%,100%", "--yes", "--events", "50"]
    assert main([*options, "--when", "tenant=acme,channel=pos"]) == 2
    assert "too little evidence" in capsys.readouterr().err
    assert bank.current() == 1
