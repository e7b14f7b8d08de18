"""Maps are refreshed where scores have drifted: proposed, applied within the step, never on an incident, taken back."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer

from muse_stream import testing
from muse_stream.cli.main import main
from muse_stream.commands import refresh_incidents
from muse_stream.commands.refresh import anchor, apply, reject
from muse_stream.commands.refresh_record import PREFIX, RefreshRecord, keep
from muse_stream.config import KafkaSettings
from muse_stream.control import Follower, Note, Store, generate, open_store, rollback
from muse_stream.errors import StoreError
from muse_stream.testing import Redis, ToSend
from muse_stream.testing.kafka_broker import Broker
from tests.calibrate.refreshing import EVENTS, MODERATE, STRONG, Bank, Killed
from tests.calibrate.scores import Scores
from tests.runtime.test_batch_scorer import changed

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config"
MakeTopic = Callable[..., str]
Output = pytest.CaptureFixture[str]
STEPS = ("refresh-proposed", "refresh-decided", "refresh-stored", "refresh-current")
SHORT = "refresh-stored"
"""The step that `make test` meets: what was decided is kept, and nothing is current yet. The others are long."""
BOTH = [
    *(pytest.param("directory", step, marks=() if step == SHORT else pytest.mark.long) for step in STEPS),
    pytest.param("redis", "refresh-stored", marks=pytest.mark.slow),
]


@pytest.fixture(params=["directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, unique: Callable[[str], str]) -> str:
    if request.param == "directory":
        return str(tmp_path / "store")
    redis: Redis = request.getfixturevalue("redis")
    return f"{redis.url}?prefix={unique('muse')}"


@pytest.fixture
def made(
    tmp_path: Path, unique: Callable[[str], str], store: str, kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Bank]]:
    """Make a bank with a policy for acme, whose live worker tells that all is well."""
    monkeypatch.setattr(refresh_incidents, "SILENT_S", 3600.0)
    banks = []

    def make(policy: str = "apply", **refresh: Any) -> Bank:
        folder = Path(shutil.copytree(EXAMPLE, tmp_path / "config"))
        scores = Scores(folder, unique("bank"), store, {"policies": {"acme": policy}, **refresh})
        text = scores.document.read_text(encoding="utf-8")
        scores.document.write_text(f"# Ask the fraud team first.\n{text}# The end.\n", encoding="utf-8")
        scores.publish()
        settings = KafkaSettings.from_environment().model_copy(update={"bootstrap": kafka.bootstrap})
        bank = Bank(scores, settings)
        bank.tells()
        banks.append(bank)
        return bank

    yield make
    for bank in banks:
        bank.store.close()


@pytest.mark.parametrize("store", ["directory", "redis"], indirect=True)
def test_a_proposal_says_what_it_rests_on_and_a_person_applies_it(
    made: Callable[..., Bank], capsys: Output, store: str
) -> None:
    bank = made("propose")
    bank.drift()
    bank.role().look()
    assert bank.store.current() == 1
    assert main(["refresh", "list", store, "--json"]) == 1
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["tenant"], one["predictor"], one["state"], one["policy"]) == ("acme", "cards", "proposed", "propose")
    fitted = one["fitted"]
    assert (fitted["events"], fitted["hours"]) == (2 * EVENTS, 48.0)
    top = fitted["thresholds"][-1]
    assert top["promised"] == 0.05
    assert top["rate_low"] < top["rate"] < top["rate_high"]
    assert top["rate"] == pytest.approx(0.066, rel=0.05)
    assert top["expected"] == pytest.approx(0.05, rel=0.02)
    assert top["low"] < 0.05 < top["high"]
    assert -0.29 < top["move"] < -0.2
    assert fitted["largest_move"] == pytest.approx(max(abs(at["move"]) for at in fitted["thresholds"]))
    assert main(["refresh", "show", store, "acme"]) == 0
    shown = capsys.readouterr().out
    assert "60,000 events in 48 hours" in shown
    assert "policy propose, on generation 1" in shown
    assert main(["refresh", "apply", store, "acme", "--dry-run"]) == 0
    assert bank.store.current() == 1
    assert main(["refresh", "apply", store, "acme", "--yes", "--message", "ticket 7"]) == 0
    assert bank.store.current() == 2
    text = bank.store.open(2).path.read_text(encoding="utf-8")
    assert text.startswith("# Ask the fraud team first.\n")
    assert "# The end.\n" in text
    assert bank.target().served.fitted.fitted_on == ("acme",)
    entry = bank.store.list()[-1]
    assert entry.message == "ticket 7"
    kept = (entry.evidence or {})["refreshed"]
    assert (kept["tenant"], kept["id"], kept["by_itself"]) == ("acme", one["id"], False)
    assert kept["fitted"]["thresholds"] == fitted["thresholds"]
    capsys.readouterr()
    assert main(["diff", "1", "2", "--store", store]) in (0, 1)
    assert "map" in capsys.readouterr().out
    assert bank.record().state == "applied"
    assert main(["refresh", "apply", store, "acme", "--yes"]) == 2
    assert "applied" in capsys.readouterr().err
    assert main(["refresh", "list", store]) == 0


def test_the_role_applies_within_the_step_and_only_once(made: Callable[..., Bank]) -> None:
    bank = made("apply", step=0.3)
    bank.drift()
    role = bank.role()
    role.look()
    assert (bank.store.current(), bank.record().state) == (2, "applied")
    assert role.states() == {("acme", "cards"): "applied"}
    served = bank.target().served.apply(bank.aggregates(np.random.default_rng(9).random(100_000) ** MODERATE))
    assert np.mean(served >= 0.8) == pytest.approx(0.05, rel=0.05)
    bank.role().look()
    assert bank.store.current() == 2


@pytest.mark.long  # tests/control/test_signatures.py has what is signed
def test_where_keys_are_trusted_the_role_signs_and_builds_on_nothing_unsigned(
    made: Callable[..., Bank], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it publishes workers take; without a key that they trust it publishes nothing, and says why."""
    trusted = tmp_path / "trusted.pub"
    trusted.write_text(generate(tmp_path / "key.pem", "release"))
    generate(tmp_path / "other.pem", "other")
    bank = made()
    bank.drift()
    monkeypatch.setenv("MUSE_TRUSTED_KEYS_FILE", str(trusted))
    for name, why in ((None, "no key signs"), ("other.pem", "is not trusted")):
        if name is not None:
            monkeypatch.setenv("MUSE_SIGN_KEY_FILE", str(tmp_path / name))
        bank.role().look()
        record = bank.record()
        assert (bank.store.current(), record.state, [one.kind for one in record.reasons]) == (
            1,
            "proposed",
            ["refused"],
        )
        assert why in record.reasons[0].text
        keep(bank.store, record, record.but(reasons=()))
    monkeypatch.setenv("MUSE_SIGN_KEY_FILE", str(tmp_path / "key.pem"))
    bank.role().look()
    assert bank.store.current() == 1, "it would sign what nobody has signed"
    assert bank.scores.publish() == 2
    bank.role().look()
    follower = Follower(open_store(bank.scores.address), trusted)
    head = follower.head()
    assert head is not None and head.number == 3
    assert follower.open(head.number, head.sha256).number == 3
    assert bank.record().state == "applied"


def test_beyond_the_step_it_is_only_proposed(made: Callable[..., Bank], capsys: Output) -> None:
    bank = made("apply", step=0.3)
    bank.drift(STRONG)
    bank.role().look()
    assert (bank.store.current(), bank.record().state) == (1, "proposed")
    assert {why.kind for why in bank.record().reasons} == {"step"}
    assert main(["status", bank.scores.address, "--json"]) == 1
    texts = [one["text"] for one in json.loads(capsys.readouterr().out)["findings"] if one["kind"] == "refresh"]
    assert any("acme" in text and "by itself at most 30%" in text for text in texts)
    assert main(["refresh", "apply", bank.scores.address, "acme", "--yes"]) == 0
    assert bank.store.current() == 2


@pytest.mark.long  # the test before has one step that is too long
def test_steps_do_not_add_up_until_a_person_has_published_a_map(made: Callable[..., Bank]) -> None:
    bank = made("apply", step=0.3, least_hours=1)
    bank.drift(MODERATE, back=(3,))
    bank.role().look()
    assert bank.store.current() == 2
    bank.drift(MODERATE * MODERATE, back=(1, 0))  # the same again, on top of it
    bank.role().look()
    assert (bank.store.current(), bank.record().state) == (2, "proposed")
    assert {why.kind for why in bank.record().reasons} == {"step"}
    assert bank.record().fitted is not None
    done = apply(bank.store, bank.scores.address, bank.record())
    assert done.state == "applied"
    assert anchor(bank.store, bank.target()) is not bank.target().served
    assert anchor(bank.store, bank.target()).fitted.to_json() == bank.target().served.fitted.to_json()


def test_a_tenant_on_the_pools_map_gets_its_own_and_nobody_else_notices(made: Callable[..., Bank]) -> None:
    bank = made("off", step=0.5)
    changed(bank.scores.document, lambda document: document["tenants"]["globex"].update(refresh="apply"))
    bank.scores.publish()
    bank.drift(tenant="globex")
    before = bank.target("acme").present
    bank.role().look()
    assert bank.record("globex").state == "applied", bank.record("globex").reasons
    assert bank.target("globex").served.fitted.fitted_on == ("globex",)
    assert bank.target("acme").present == before


@pytest.mark.long  # the test before has two predictors of which one answers
def test_another_shadow_is_no_change_of_who_answers(made: Callable[..., Bank]) -> None:
    bank = made("apply", step=0.5)
    bank.drift()

    def other(document: Any) -> None:
        document["routes"][-1]["shadow"] = ["unmapped"]

    changed(bank.scores.document, other)
    bank.scores.publish()
    bank.role().look()
    assert bank.record().state == "applied", bank.record().reasons


def test_policy_off_does_nothing_and_a_drift_that_is_over_withdraws(made: Callable[..., Bank]) -> None:
    bank = made("propose")
    bank.drift(tenant="globex")
    bank.role().look()
    assert bank.store.durables("refresh~") == ()
    bank.drift()
    bank.role().look()
    assert bank.record().state == "proposed"
    for name in bank.store.durables("counts~acme"):
        bank.store.set_durable(name, None, bank.store.durable(name))
    bank.count(bank.aggregates(np.random.default_rng(1).random(EVENTS)), 1)
    bank.role().look()
    assert bank.record().state == "withdrawn"


def test_a_policy_that_is_off_withdraws_what_was_proposed(made: Callable[..., Bank]) -> None:
    bank = made("propose")
    bank.drift()
    bank.role().look()
    changed(bank.scores.document, lambda document: document["tenants"]["acme"].update(refresh="off"))
    bank.scores.publish()
    bank.role().look()
    assert bank.record().state == "withdrawn"


def test_too_few_events_are_waited_for(made: Callable[..., Bank]) -> None:
    bank = made("apply", least_events=10_000_000)
    bank.drift()
    bank.role().look()
    (why,) = bank.record().reasons
    assert (bank.record().state, why.kind) == ("waiting", "evidence")
    assert "60,000 events in 48.0 hours" in why.text
    assert "10,000,000 events in 24 hours are needed" in why.text


def yesterday(back: int = 1) -> str:
    return (datetime.now(UTC).date() - timedelta(days=back)).isoformat()


def dead_letters(bank: Bank, kafka: Broker, make_topic: MakeTopic) -> None:
    topic = make_topic(name=bank.scores.topic("dlq", "acme"), partitions=2)
    noon = (datetime.now(UTC) - timedelta(days=1)).replace(hour=12, minute=5)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number in range(200):
        producer.produce(topic, b"x", b"k", number % 2, timestamp=int(noon.timestamp() * 1000))
    assert producer.flush(60) == 0


def dead_letters_now(bank: Bank, kafka: Broker, make_topic: MakeTopic) -> None:
    topic = make_topic(name=bank.scores.topic("dlq", "acme"), partitions=2)
    testing.produce(kafka.bootstrap, (ToSend(topic, n % 2, b"x") for n in range(30)), {})


def lag(bank: Bank, *_: object) -> None:
    bank.tells(age_s=4_000.0)


def paused(bank: Bank, *_: object) -> None:
    bank.tells(paused="its topic is gone")


def nobody_knows(bank: Bank, *_: object) -> None:
    bank.tells(lag=None, age_s=None)


def silence(bank: Bank, *_: object) -> None:
    for beat in bank.store.beats():
        bank.store.forget(beat.name)


def entity(bank: Bank, *_: object) -> None:
    aggregates = bank.aggregates(np.random.default_rng(1).random(20_000) ** MODERATE)
    bank.count(aggregates, 1, groups=np.full(20_000, 5))


def gap(bank: Bank, *_: object) -> None:
    aggregates = bank.aggregates(np.random.default_rng(1).random(EVENTS) ** MODERATE)
    quiet = np.arange(EVENTS) % 40
    (name,) = [one for one in bank.store.durables("counts~acme") if one.endswith(yesterday())]
    bank.store.set_durable(name, None, bank.store.durable(name))
    bank.count(aggregates, 1, cells=np.where(quiet < 20, quiet, quiet + 56))


def watch(bank: Bank, *_: object) -> None:
    verdict = {
        **{"generation": 1, "predictor": "cards", "tenant": "acme", "state": "stream", "policy": "alert"},
        **{"threshold": 0.8, "promised": 0.05, "new": 0.1, "old": 0.1, "margin": 0.01, "events": 9, "entities": 9},
    }
    found = {"at": "now", "policy": "alert", "rolled_back": [], "verdicts": [verdict]}
    assert bank.store.set_ephemeral("watch-verdicts", json.dumps(found).encode(), 600, None)


def promotion(bank: Bank, *_: object) -> None:
    def other(document: Any) -> None:
        for route in document["routes"]:
            if route["live"] == "cards":
                route["live"], route["shadow"] = "cards-next", ["cards"]

    changed(bank.scores.document, other)
    bank.scores.publish()


def removed(bank: Bank, *_: object) -> None:
    today = datetime.now(UTC).date().isoformat()
    topic = bank.scores.topic("scores", "acme")
    record = {"incarnation": 0, "id": "", "offsets": {}, "gaps": {today: 12}}
    name = f"offsets~muse.{bank.scores.name}.calibrate~{topic}"
    assert bank.store.set_durable(name, json.dumps(record).encode(), None)


INCIDENTS: dict[str, tuple[Callable[..., None], str]] = {
    "dead_letters": (dead_letters, ":00 on, 200 events became dead letters"),
    "dead_letters, now": (dead_letters_now, "since the window, 30 events became dead letters"),
    "lag": (lag, "its oldest event waited for 4000 s"),
    "lag, paused": (paused, "it is paused: its topic is gone"),
    "lag, nobody knows": (nobody_knows, "no worker can tell"),
    "lag, unknown": (silence, "no live worker of the lane tells of itself"),
    "entity": (entity, "one entity makes up 2"),
    "gap": (gap, "no events from"),
    "watch": (watch, "the stream has moved the alert rate"),
    "promotion": (promotion, "live cards -> cards-next"),
    "counting": (removed, "retention removed 12 records"),
}


@pytest.mark.parametrize("incident", list(INCIDENTS))
def test_nothing_is_fitted_to_an_incident(
    incident: str, made: Callable[..., Bank], kafka: Broker, make_topic: MakeTopic, capsys: Output
) -> None:
    """Each incident alone keeps a map from being fitted that would be applied without it; and says so."""
    bank = made("apply", step=0.5)
    bank.drift()
    cause, text = INCIDENTS[incident]
    cause(bank, kafka, make_topic)
    before = bank.store.current()
    bank.role().look()
    record = bank.record()
    assert (bank.store.current(), record.state) == (before, "waiting"), record.reasons
    assert [why.kind for why in record.reasons] == [incident.partition(",")[0]]
    assert text in record.reasons[0].text
    assert main(["status", bank.scores.address, "--json"]) == 1
    assert text in capsys.readouterr().out
    assert main(["refresh", "apply", bank.scores.address, "acme", "--yes"]) == 2
    assert "no map is proposed" in capsys.readouterr().err


def test_who_waited_at_an_earlier_look_is_remembered(made: Callable[..., Bank]) -> None:
    bank = made("apply", step=0.5)
    bank.tells(age_s=4_000.0)
    bank.role().look()
    bank.tells()
    bank.drift(back=(1, 0))
    bank.role().look()
    assert [why.kind for why in bank.record().reasons] == ["lag"]


def test_after_a_rollback_the_role_only_proposes_and_only_on_later_days(made: Callable[..., Bank]) -> None:
    bank = made("apply", step=0.5)
    bank.drift()
    bank.role().look()
    assert bank.store.current() == 2
    rollback(bank.store, note=Note("8 blocks too many"))
    bank.role().look()
    assert (bank.store.current(), bank.record().state) == (1, "waiting")
    assert "after a person said no" in bank.record().reasons[0].text
    assert bank.record().person
    keep(bank.store, bank.record(), bank.record().but(not_before=yesterday(2)))  # as if it had been three days ago
    bank.role().look()
    assert (bank.store.current(), bank.record().state) == (1, "proposed")
    assert [why.kind for why in bank.record().reasons] == ["person"]
    apply(bank.store, bank.scores.address, bank.record())
    assert (bank.store.current(), bank.record().person) == (3, False)


def test_after_a_rejection_a_map_is_fitted_to_later_days_only(made: Callable[..., Bank], capsys: Output) -> None:
    bank = made("propose")
    bank.drift()
    bank.role().look()
    first = bank.record().id
    assert main(["refresh", "reject", bank.scores.address, "acme", "--yes", "-m", "a campaign"]) == 0
    assert bank.record().state == "rejected"
    bank.role().look()
    assert bank.record().state == "waiting"
    assert [one.message for one in bank.record().past] == ["a campaign"]
    keep(bank.store, bank.record(), bank.record().but(not_before=yesterday()))
    bank.role().look()
    assert bank.record().state == "proposed"
    fitted = bank.record().fitted
    assert fitted is not None
    assert fitted.events == EVENTS
    assert bank.record().id != first
    capsys.readouterr()
    assert main(["refresh", "show", bank.scores.address, "acme"]) == 0
    assert "rejected by" in capsys.readouterr().out


@pytest.mark.parametrize(("store", "step"), BOTH, indirect=["store"])
def test_who_is_killed_anywhere_leaves_it_to_the_next_and_it_is_made_current_once(
    step: str, made: Callable[..., Bank]
) -> None:
    bank = made("apply", step=0.5)
    bank.drift()

    def strike(name: str) -> None:
        if name == step:
            raise Killed

    with pytest.raises(Killed):
        bank.role(strike).look()
    assert bank.store.durables("refresh~")  # what was decided is known
    bank.role().look()
    assert bank.record().state == "applied"
    assert bank.maps() == 1
    applied = bank.record().applied
    assert applied is not None
    assert applied.generation == bank.store.current()
    assert anchor(bank.store, bank.target()).fitted.samples == 20_000  # of the map that a person has published
    bank.role().look()
    assert bank.maps() == 1


@pytest.mark.parametrize(("store", "step"), BOTH, indirect=["store"])
def test_of_two_roles_at_once_one_applies(step: str, made: Callable[..., Bank]) -> None:
    """Another one does all of it while the first stands at each of its steps, and then goes on."""
    bank = made("apply", step=0.5)
    bank.drift()
    other = bank.role()
    told: list[str] = []

    def stand(name: str) -> None:
        if name == step and not told:
            told.append(name)
            other.look()

    bank.role(stand).look()
    assert told
    bank.role().look()
    assert bank.maps() == 1
    assert bank.record().state == "applied"


@pytest.mark.parametrize(
    "step", [pytest.param(one, marks=() if one == SHORT else pytest.mark.long) for one in STEPS[1:]]
)
def test_a_look_of_the_role_while_a_person_applies_does_no_harm(step: str, made: Callable[..., Bank]) -> None:
    bank = made("propose")
    bank.drift()
    role = bank.role()
    role.look()

    def look(name: str) -> None:
        if name == step:
            role.look()

    done = apply(bank.store, bank.scores.address, bank.record(), failpoint=look)
    assert (done.state, done.applied is not None and done.applied.generation) == ("applied", 2)
    assert bank.record() == done
    assert bank.maps() == 1


class Slow:
    """A store of which a process reads what is current, then does nothing until a person has made a map current."""

    def __init__(self, store: Store, meanwhile: Callable[[], None]) -> None:
        self._store, self._meanwhile = store, meanwhile

    def durables(self, prefix: str) -> list[str]:
        if prefix == PREFIX:
            self._meanwhile()
        return list(self._store.durables(prefix))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("settled", [False, True], ids=["before it is settled", "after it is settled"])
def test_a_look_that_began_before_a_person_applied_does_not_take_it_for_a_rollback(
    settled: bool, made: Callable[..., Bank]
) -> None:
    bank = made("propose")
    bank.drift()
    bank.role().look()
    known = bank.record()
    current, looked = threading.Event(), threading.Event()

    def wait(name: str) -> None:
        if name == "refresh-current" and not settled:
            current.set()
            assert looked.wait(60.0)

    with ThreadPoolExecutor(1) as pool:
        done: list[Future[RefreshRecord]] = []

        def meanwhile() -> None:
            done.append(pool.submit(apply, bank.store, bank.scores.address, known, failpoint=wait))
            if settled:
                done[0].result(60.0)
            else:
                assert current.wait(60.0)

        slow: Any = Slow(bank.store, meanwhile)
        bank.role(store=slow).look()
        looked.set()
        record = done[0].result(60.0)
    assert record == bank.record()
    assert (record.state, record.person, record.applied and record.applied.generation) == ("applied", False, 2)


def test_who_has_applied_is_told_so_whatever_the_record_says_by_then(made: Callable[..., Bank]) -> None:
    bank = made("propose")
    bank.drift()
    bank.role().look()
    known = bank.record()

    def proposed_anew(name: str) -> None:
        if name == "refresh-current":
            anew = known.decided("rejected", known.at, "somebody").but(fitted=None, state="waiting")
            keep(bank.store, bank.record(), anew.but(version=bank.record().version))

    done = apply(bank.store, bank.scores.address, known, failpoint=proposed_anew)
    assert (done.state, done.applied and done.applied.generation) == ("applied", 2)
    assert [one.state for one in done.past] == ["rejected", "applied"]
    assert bank.record() == done


def test_a_rollback_right_after_a_kill_is_no_reason_to_apply_again(made: Callable[..., Bank]) -> None:
    bank = made("apply", step=0.5)
    bank.drift()

    def strike(name: str) -> None:
        if name == "refresh-current":
            raise Killed

    with pytest.raises(Killed):
        bank.role(strike).look()
    assert bank.store.current() == 2
    rollback(bank.store)
    bank.role().look()
    assert bank.store.current() == 1
    assert (bank.record().state, bank.record().person) == ("waiting", True)


class Away:
    """A store that moves `current` and whose answer is lost, or that does not answer at all."""

    def __init__(self, store: Store, *, moves: bool) -> None:
        self._store, self._moves, self.away = store, moves, True

    def move_current(self, expected: int | None, new: int, note: Note | None = None) -> None:
        if self._moves or not self.away:
            self._store.move_current(expected, new, note)
        if self.away:
            raise StoreError("the store does not answer")

    def set_durable(self, name: str, data: bytes | None, expected: bytes | None) -> bool:
        if self.away and b'"publishing"' in (expected or b""):
            raise StoreError("the store does not answer")
        return self._store.set_durable(name, data, expected)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("moves", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_store_that_goes_away_in_between_neither_loses_nor_doubles_it(moves: bool, made: Callable[..., Bank]) -> None:
    bank = made("apply", step=0.5)
    bank.drift()
    away: Any = Away(bank.store, moves=moves)
    bank.role(store=away).look()
    assert bank.maps() == int(moves)
    bank.role().look()
    assert bank.maps() == 1
    assert bank.record().state == "applied"


def test_a_proposal_is_refused_where_what_it_was_made_for_has_changed(
    made: Callable[..., Bank], capsys: Output
) -> None:
    bank = made("propose")
    bank.drift()
    bank.role().look()
    promotion(bank)
    assert main(["refresh", "apply", bank.scores.address, "acme", "--yes"]) == 2
    assert "generation 2 answers it otherwise than 1 did" in capsys.readouterr().err
    rollback(bank.store)
    known = bank.record()
    keep(bank.store, known, known.but(content="0" * 64))
    assert main(["refresh", "apply", bank.scores.address, "acme", "--yes"]) == 2
    assert "another content than the map was fitted for" in capsys.readouterr().err
    known = bank.record()
    keep(bank.store, known, known.but(content=bank.target().content, present="0" * 64))
    assert main(["refresh", "apply", bank.scores.address, "acme", "--yes"]) == 2
    assert "the map that serves was changed since" in capsys.readouterr().err


def test_who_may_write_records_cannot_have_another_map_published_by_them(
    made: Callable[..., Bank], capsys: Output
) -> None:
    """Neither by the role, within the step that the record claims, nor by a person who believes it."""
    bank = made("apply", step=0.3)
    bank.drift()

    def forge(name: str) -> None:
        known = bank.record()
        if name == "refresh-proposed" and known.fitted is not None:
            values = [min(2.0 * value, 1.0) for value in known.fitted.map["values"]]
            keep(bank.store, known, known.but(fitted=replace(known.fitted, map={**known.fitted.map, "values": values})))

    bank.role(forge).look()
    assert main(["refresh", "apply", bank.scores.address, "acme", "--yes"]) == 2
    assert "does not say what its map does" in capsys.readouterr().err
    role = bank.role()
    role.look()
    assert (bank.store.current(), [why.kind for why in bank.record().reasons]) == (1, ["refused"])
    role.look()  # fitted anew
    assert bank.store.current() == 2
    served = bank.target().served.apply(bank.aggregates(np.random.default_rng(9).random(50_000) ** MODERATE))
    assert np.mean(served >= 0.8) == pytest.approx(0.05, rel=0.07)


def test_another_publication_in_between_is_not_overwritten(made: Callable[..., Bank]) -> None:
    bank = made("apply", step=0.5)
    bank.drift()

    def publish(name: str) -> None:
        if name == "refresh-stored" and bank.store.current() == 1:
            text = bank.scores.document.read_text(encoding="utf-8")
            bank.scores.document.write_text(text + "# theirs\n", encoding="utf-8")
            bank.scores.publish()

    bank.role(publish).look()
    current = bank.store.current()
    assert current is not None
    assert bank.store.open(current).path.read_text(encoding="utf-8").endswith("# theirs\n")
    assert bank.record().state == "proposed"
    bank.role().look()  # on top of it
    assert bank.record().state == "applied"
    current = bank.store.current()
    assert current is not None
    assert "# theirs" in bank.store.open(current).path.read_text(encoding="utf-8")


def test_records_that_are_none_are_named(made: Callable[..., Bank], capsys: Output) -> None:
    bank = made("propose")
    bank.drift()
    bank.role().look()
    (name,) = bank.store.durables("refresh~")
    assert bank.store.set_durable(name, b"rubbish", bank.store.durable(name))
    assert main(["refresh", "list", bank.scores.address]) == 1
    assert f"{name}: not what this store writes" in capsys.readouterr().err
    newer = RefreshRecord(tenant="acme", predictor="cards").but(format=2)
    assert bank.store.set_durable(name, json.dumps(asdict(newer)).encode(), b"rubbish")
    assert main(["refresh", "list", bank.scores.address]) == 1
    assert "a proposal of a newer muse-stream" in capsys.readouterr().err
    assert main(["refresh", "show", bank.scores.address, "globex"]) == 1
    bank.role().look()  # says so, and goes on


def test_a_person_and_the_role_do_not_overwrite_each_other(made: Callable[..., Bank]) -> None:
    bank = made("propose")
    bank.drift()
    bank.role().look()
    seen = bank.record()
    reject(bank.store, seen)
    with pytest.raises(StoreError, match="changed by somebody else"):
        apply(bank.store, bank.scores.address, seen)
    assert bank.store.current() == 1
