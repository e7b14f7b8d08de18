"""`watch` on a real broker: promoted, drifted, taken back, with the reason in the generation."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from muse_stream.cli.main import main
from muse_stream.commands import watch as watching
from muse_stream.commands.publish import proposal
from muse_stream.commands.status import look as status
from muse_stream.commands.verdicts import Watched
from muse_stream.commands.watch import Look, Rules, Watch
from muse_stream.commands.watch_metrics import WatchMetrics
from muse_stream.config import KafkaSettings, load_document
from muse_stream.control import DirectoryStore, Held, Lease, Note, Store, open_store
from muse_stream.errors import ConfigError, Problem
from muse_stream.testing import Broker
from tests.cli.promotion_bank import BOTH_STORES, Bank, scores, store_for
from tests.config.example_config import ROOT
from tests.shared_broker import delete_topics

Output = pytest.CaptureFixture[str]
WHEN = {"tenant": ("acme",), "channel": ("pos",)}
ROLLBACK = Rules("rollback")
LIVE = ("cards-next", "cards")
"""Live, and what goes on as its shadow, once promoted."""


@pytest.fixture
def bank(
    request: pytest.FixtureRequest,
    kafka: Broker,
    tmp_path: Path,
    unique: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bank]:
    """A store in which cards-next was promoted for acme, as generation 2."""
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    mark = unique("w")
    made = Bank(kafka, tmp_path, mark, store_for(request, mark))
    made.audit("acme", scores(2000, 1), scores(2000, 1))
    where = ["--when", "tenant=acme,channel=pos", "--yes"]
    assert main(["promote", "cards-next", "--store", made.store, *where]) == 0
    made.audit("acme", scores(2000, 2), scores(2000, 3), generation=2, predictors=LIVE)
    yield made
    delete_topics(kafka.bootstrap, [mark])


def drift(bank: Bank, generation: int = 2) -> None:
    """The promoted predictor doubles the alert rate, the replaced one keeps it."""
    bank.audit("acme", scores(2000, 4, 2.0), scores(2000, 4), generation=generation, predictors=LIVE)


class Said:
    """A log that a test can read."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def debug(self, event: str, **facts: Any) -> None:
        self.events.append(event)

    info = warning = error = debug


@contextmanager
def looking(bank: Bank, rules: Rules = ROLLBACK, log: Said | None = None) -> Iterator[Watch]:
    with closing(open_store(bank.store)) as store, Lease(store, watching.WATCH_LEASE, "a test") as lease:
        made = Watch(store, KafkaSettings.from_environment(), rules, log or Said(), lease)
        with closing(made):
            yield made


def live(store: Store, number: int) -> list[str]:
    document = load_document(store.open(number).path).document
    return [str(route.live) for route in document.routes]


def states(found: Look) -> dict[float, str]:
    return {one.verdict.threshold: one.state for one in found.seen}


@BOTH_STORES
def test_a_drift_after_the_promotion_is_taken_back_with_reason_and_numbers(bank: Bank, capsys: Output) -> None:
    store = open_store(bank.store)
    before, promoted = (load_document(store.open(number).path).source.data for number in (1, 2))
    command = ["watch", bank.store, "--policy", "rollback", "--once"]
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {(one["tenant"], one["state"], one["events"] > 0) for one in facts["verdicts"]} == {("acme", "kept", True)}
    assert bank.current() == 2
    drift(bank)
    assert main(command) == 1
    said = capsys.readouterr()
    assert "generation 3 takes a predictor back" in said.out
    assert "alert_rate_moved" in said.err and "promotion_rolled_back" in said.err
    assert load_document(store.open(3).path).source.data == before != promoted
    entry = store.manifest(3)
    assert entry.message.startswith("back from cards-next: tenant acme, threshold 0.2: alert rate")
    assert entry.evidence is not None
    assert (entry.evidence["rolled_back"], entry.evidence["by"], entry.evidence["from"]) == ("cards-next", "watch", 2)
    (worst,) = (one["numbers"] for one in entry.evidence["reasons"] if one["numbers"]["threshold"] == 0.8)
    assert worst["new"] == pytest.approx(0.1, abs=0.02)
    assert worst["old"] == pytest.approx(0.05, abs=0.01)
    assert main(command) == 0  # nothing is promoted any more
    assert bank.current() == 3


@pytest.mark.parametrize(
    "skew", [timedelta(hours=1), pytest.param(timedelta(hours=-1), id="skew1", marks=pytest.mark.long)]
)
def test_the_clock_of_who_promoted_may_be_wrong_by_an_hour(
    kafka: Broker, tmp_path: Path, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, skew: timedelta
) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    made = Bank(kafka, tmp_path, unique("w"))
    made.audit("acme", scores(2000, 1), scores(2000, 1))
    wrong = {"clock": lambda: datetime.now(UTC) + skew}
    with monkeypatch.context() as patch:
        patch.setattr(DirectoryStore.__init__, "__kwdefaults__", wrong)
        assert main(["promote", "cards-next", "--store", made.store, "--when", "tenant=acme,channel=pos", "--yes"]) == 0
    drift(made)
    with looking(made) as watch:
        assert watch.look().rolled_back == (3,)


def test_the_policy_alert_tells_and_changes_nothing(bank: Bank) -> None:
    drift(bank)
    log = Said()
    with looking(bank, Rules("rollback", {"acme": "alert"}), log) as watch:
        found = watch.look()
        assert states(found) == dict.fromkeys(states(found), "moved")
        watch.look()
        assert log.events.count("alert_rate_moved") == 4  # once for each threshold
    assert bank.current() == 2


def test_a_stream_that_moves_both_is_told_and_not_taken_back(bank: Bank) -> None:
    bank.audit("acme", scores(2000, 4, 2.0), scores(2000, 5, 2.0), generation=2, predictors=LIVE)
    log = Said()
    with looking(bank, log=log) as watch:
        assert states(watch.look())[0.8] == "stream"
    assert "alert_rate_moved_by_stream" in log.events
    assert bank.current() == 2


def test_records_of_before_and_of_unknown_generations_do_not_count(bank: Bank) -> None:
    bank.audit("acme", scores(2000, 4, 3.0), scores(2000, 4), generation=1, predictors=LIVE)
    bank.audit("acme", scores(2000, 4, 3.0), scores(2000, 4), generation=7, predictors=LIVE)
    log = Said()
    with looking(bank, log=log) as watch:
        assert set(states(watch.look()).values()) == {"kept"}
    assert "alert_rate_moved" not in log.events


def test_one_tenant_is_taken_back_and_the_others_stay(
    kafka: Broker, tmp_path: Path, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    made = Bank(kafka, tmp_path, unique("w"))
    for tenant in ("acme", "globex"):
        made.audit(tenant, scores(2000, 1), scores(2000, 1))
    where = ["--when", "tenant=acme", "--when", "tenant=globex", "--when", "channel=pos", "--yes"]
    assert main(["promote", "cards-next", "--store", made.store, *where]) == 0
    made.audit("globex", scores(2000, 2), scores(2000, 2), generation=2, predictors=LIVE)
    drift(made)
    with looking(made) as watch:
        assert watch.look().rolled_back == (3,)
        assert watch.look().rolled_back == ()  # globex is watched on, acme is back
        made.audit("globex", scores(2000, 4, 2.0), scores(2000, 4), generation=3, predictors=LIVE)
        assert watch.look().rolled_back == (4,)
    document = load_document(open_store(made.store).open(3).path).document
    routes = [(dict(route.when), route.live) for route in document.routes]
    assert routes[1:3] == [
        ({"tenant": ("acme",), "channel": ("pos",)}, "cards"),
        ({"tenant": ("acme", "globex"), "channel": ("pos",)}, "cards-next"),
    ]


def test_a_step_by_step_promotion_is_watched_when_nobody_walks_it(bank: Bank) -> None:
    store = open_store(bank.store)
    drift(bank)
    with Lease(store, "promotion", "promote --steps"), looking(bank) as watch:
        assert watch.look().rolled_back == ()
        assert bank.current() == 2
    with looking(bank) as watch:
        assert watch.look().rolled_back == (3,)


@BOTH_STORES
def test_what_somebody_publishes_meanwhile_is_not_undone(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    drift(bank)
    wanted = proposal

    def overtaken(*given: object) -> object:
        monkeypatch.setattr(watching, "proposal", wanted)
        made = wanted(*given)  # type: ignore[arg-type]
        store = open_store(bank.store)
        store.move_current(2, 1)
        return made

    monkeypatch.setattr(watching, "proposal", overtaken)
    with looking(bank) as watch:
        assert watch.look().rolled_back == ()
        assert bank.current() == 1
        assert watch.look() == Look(())  # that generation promotes nothing


@BOTH_STORES
def test_status_shows_the_last_verdicts(bank: Bank, capsys: Output) -> None:
    store = open_store(bank.store)
    assert Watched.read(store) is None
    assert status(store).watched is None
    with looking(bank) as watch:
        watch.look()
        watch.look()
    found = status(store).watched
    assert found is not None
    (one,) = found.verdicts
    assert (one.generation, one.predictor, one.tenant, one.state) == (2, "cards-next", "acme", "kept")
    assert not [line for line in status(store).findings if line.kind == "promotion"]
    drift(bank)
    with looking(bank, Rules("alert")) as watch:
        watch.look()
    capsys.readouterr()
    assert main(["status", bank.store]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    for said in (
        "! tenant acme: cards-next, promoted by generation 2: it has moved the alert rate",
        "promotions, as `watch` saw them at 2",
        "(policy alert)",
    ):
        assert said in shown
    assert main(["status", bank.store, "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    (told,) = facts["watched"]["verdicts"]
    assert (told["state"], told["policy"], told["promised"], told["new"] > 1.2 * told["old"]) == (
        "moved", "alert", told["promised"], True
    )  # fmt: skip
    assert {one["kind"] for one in facts["findings"]} >= {"promotion"}


@pytest.mark.parametrize("garbage", [b"{}", b"garbage", b"[]", b'{"at": 1, "verdicts": 7}'])
def test_what_is_no_verdict_is_a_finding_of_status(tmp_path: Path, garbage: bytes) -> None:
    store = open_store(tmp_path / "store")
    assert store.set_ephemeral("watch-verdicts", garbage, 60, expected=None)
    found = status(store)
    assert found.watched is None
    assert any("what `watch` found last cannot be read" in one.text for one in found.findings)


@BOTH_STORES
def test_one_watches_and_another_stands_by_until_it_ends(bank: Bank, capsys: Output) -> None:
    store, settings, log = open_store(bank.store), KafkaSettings.from_environment(), Said()
    waited: list[float] = []
    looks: list[Look] = []
    first = Lease(open_store(bank.store), watching.WATCH_LEASE, "watch")
    first.__enter__()

    def ended(seconds: float) -> bool:
        waited.append(seconds)
        if len(waited) == 2:
            first.__exit__(None, None, None)
        return bool(looks)

    assert main(["watch", bank.store, "--once"]) == 1
    assert "is at it: watch" in capsys.readouterr().err
    watching.watch(store, settings, ROLLBACK, log, looks.append, ended)
    assert len(looks) == 1
    assert len(waited) == 3
    assert log.events.count("standing_by") == 1


@BOTH_STORES
def test_a_watch_that_lost_its_lease_does_nothing(bank: Bank) -> None:
    drift(bank)
    with looking(bank) as watch:
        lease = watch._lease
        assert lease.store.set_ephemeral(lease.name, b"{}", 60, expected=lease.store.ephemeral(lease.name))
        with pytest.raises(Held, match="lost: another process is at it"):
            watch.look()
    assert bank.current() == 2


def test_a_store_that_is_away_is_waited_for(bank: Bank) -> None:
    current = Path(bank.store) / "current"
    kept = current.read_bytes()
    looks: list[Look] = []

    def ended(_seconds: float) -> bool:
        if len(looks) == 1:
            current.write_bytes(b"garbage" if current.read_bytes() == kept else kept)
        return len(looks) == 2

    store, settings = open_store(bank.store), KafkaSettings.from_environment()
    log = Said()
    watching.watch(store, settings, ROLLBACK, log, looks.append, ended)
    assert log.events.count("watch_waits") == 1
    assert bank.current() == 2


def test_a_generation_that_this_version_cannot_read_is_waited_out(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of a newer version, with keys that this one does not know: the next may be sound again."""
    looks: list[Look] = []
    log, sound = Said(), load_document

    def unknown(*_: object) -> object:
        raise ConfigError([Problem("new_key", "unknown key", "")])

    def ended(_seconds: float) -> bool:
        monkeypatch.setattr(watching, "load_document", sound)
        return bool(looks)

    monkeypatch.setattr(watching, "load_document", unknown)
    watching.watch(open_store(bank.store), KafkaSettings.from_environment(), ROLLBACK, log, looks.append, ended)
    assert log.events.count("watch_waits") == 1
    assert states(looks[0])[0.8] == "kept"


@pytest.mark.parametrize("replaced", [7, [7], [{"when": 7}], [{"when": {"tenant": 7}, "live": {}}], None])
def test_evidence_of_another_version_is_no_promotion_to_watch(tmp_path: Path, replaced: object) -> None:
    store = open_store(tmp_path / "store")
    note = Note(evidence={"promoted": "cards-next", "replaced": replaced})
    store.move_current(None, store.publish(load_document(ROOT / "muse.yaml"), note))
    assert watching.promotions(store, 3600.0) == []


def test_metrics_tell_what_was_seen(bank: Bank) -> None:
    metrics = WatchMetrics()
    assert "has not looked lately" in str(metrics.ready())
    drift(bank)
    with looking(bank) as watch:
        metrics.take(watch.look())
    assert metrics.ready() is True
    text = generate_latest(metrics.registry).decode()
    labels = '{predictor="cards-next",tenant="acme",threshold="0.8"}'
    assert f"muse_watch_moved{labels} 1.0" in text
    assert f"muse_watch_promised_alert_ratio{labels} 0.05" in text
    assert "muse_watch_rollbacks_total 1.0" in text
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    shown = {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    assert {name for name in shown if not name.endswith("_created")} == set(re.findall(r"`(muse_watch_\w+)`", page))
    metrics.take(Look(()))
    assert labels not in generate_latest(metrics.registry).decode()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--policy", "rolback"], "'rolback' is no policy"),
        (["--policy", "=alert"], "'=alert' is no policy"),
        (["--for", "0d"], "'0d' is no duration"),
        (["--every", "fast"], "'fast' is no duration"),
        (["--metrics-port", "0"], "greater than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options: list[str], says: str, tmp_path: Path, capsys: Output) -> None:
    assert main(["watch", str(tmp_path), *options]) == 2
    assert says in " ".join(capsys.readouterr().err.replace("│", "").split())
