"""`pause` and `resume` of a tenant whose lane runs: its events wait and none is lost; others do not notice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muse_stream.cli.main import main
from muse_stream.commands.pause import prepare
from muse_stream.commands.status import look
from muse_stream.config import KafkaSettings
from muse_stream.control import DirectoryStore
from muse_stream.errors import ConfigError
from muse_stream.testing.kafka_broker import Broker
from tests.integration.bank import Bank
from tests.integration.fleet import Fleet, publish
from tests.integration.test_faults import Feeder, live_witness
from tests.integration.witness import broken_promises
from tests.patience import until

Output = pytest.CaptureFixture[str]
Command = Callable[..., dict[str, Any]]


@pytest.fixture
def command(capsys: Output, kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command of `muse-stream`; returns what it says with `--json`."""
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)

    def run(*words: str) -> dict[str, Any]:
        assert main([*words, "--json", "--yes"]) == 0, capsys.readouterr().err
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return told

    return run


def test_a_paused_tenant_waits_and_goes_on_where_it_stopped(
    bank: Bank, kafka: Broker, tmp_path: Path, command: Command
) -> None:
    folder = tmp_path / "store"
    publish(bank.document(), folder)
    store, where, feeder = DirectoryStore(folder), ("--store", str(folder)), Feeder(bank, kafka.bootstrap)

    def told(tenant: str) -> Any:
        return next((one for one in look(store).tenants if one.tenant == tenant), None)

    def findings() -> list[str]:
        """What is found wrong; a worker whose heartbeat is late is found wrong until the next one."""
        return [one.text for one in look(store, max_age_s=0).findings]

    with (
        Fleet(kafka.bootstrap, folder, "live", bank.name, tmp_path / "live.log", workers=1) as live,
        live_witness(bank, kafka.bootstrap) as witness,
    ):
        feeder.send(400)
        witness.wait_for(400, 60)
        done = command("pause", "t0", *where, "--message", "ticket 1234")
        assert done["changed"]
        assert [change["says"] for change in done["changes"]] == ["tenant t0: paused: its events wait"]
        assert {one["topic"] for one in done["waits"]} == {bank.topic("events", "t0")}
        head = store.head()
        assert head is not None
        assert (head.number, head.message) == (2, "ticket 1234")
        until(lambda: told("t0") and told("t0").asked, 60, lambda: f"nobody has paused t0: {look(store)}")
        assert command("pause", "t0", *where) == {"changed": False}

        feeder.send(400)
        witness.wait_for(600, 60)  # those of the other tenant
        until(lambda: told("t0") and told("t0").lag == 200, 60, lambda: f"its events do not wait: {told('t0')}")
        until(lambda: findings() == [], 30, lambda: str(findings()))
        (waits,) = (one for one in command("resume", "t0", *where, "--dry-run")["waits"] if one["role"] == "live")
        assert (waits["events"], waits["removed"]) == (200, 0)
        assert waits["oldest"] is not None
        assert len(witness.seen) == 600

        assert command("resume", "t0", *where)["number"] == 3
        witness.wait_for(800, 60)
        assert command("resume", "t0", *where) == {"changed": False}
        assert live.stop() == 0
    assert broken_promises(witness.seen, dict(feeder.counts)) == []
    assert store.manifest(3).sha256 == store.manifest(1).sha256


def test_how_long_its_events_are_kept_is_said(
    bank: Bank, kafka: Broker, tmp_path: Path, make_topic: Callable[..., str], unique: Callable[[str], str]
) -> None:
    """Retention by time and size, compaction; the oldest unread event; a day before it is lost, in red."""
    topic = make_topic(
        name=unique("kept"),
        partitions=2,
        **{"retention.ms": "3600000", "retention.bytes": "1000000", "cleanup.policy": "compact,delete"},
    )
    folder = tmp_path / "store"
    publish(bank.document(t0={"topics": {"events": topic}}), folder)
    prepared = prepare(["t0"], str(folder), paused=True)
    assert prepared is not None
    settings = KafkaSettings(bootstrap=kafka.bootstrap)
    (waits,) = prepared.waits(settings)
    assert (waits.events, waits.oldest, waits.retention_ms, waits.retention_bytes) == (0, None, 3_600_000, 1_000_000)
    assert waits.soon
    for said in ("nothing waits", "for 1:00:00 (retention.ms 3600000)", "keeps 1,000,000 bytes", "it is compacted"):
        assert said in str(waits)
    prepared = prepare(["t1"], str(folder), paused=True)
    assert prepared is not None
    bank.produce(kafka.bootstrap, bank.events(10))
    (waits,) = prepared.waits(settings)
    assert waits.events == 5
    assert waits.oldest is not None
    assert not waits.soon
    assert "5 events wait, the oldest since 2" in str(waits)


def test_what_cannot_be_paused(bank: Bank, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = {"topics": {"events": f"{bank.name}.shared"}}
    folder = tmp_path / "store"
    publish(bank.document(t0=shared, t1=shared), folder)
    with pytest.raises(ConfigError, match=r"shares its event topic with t1: a topic waits whole.*pause t0 t1"):
        prepare(["t0"], str(folder), paused=True)
    with pytest.raises(ConfigError, match="there is no tenant 'tO'"):
        prepare(["tO"], str(folder), paused=True)
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")  # no reason not to pause
    assert main(["pause", "t0", "t1", "--store", str(folder), "--yes"]) == 0
    assert "what waits, and how long Kafka keeps it, is not known" in capsys.readouterr().err
    assert DirectoryStore(folder).current() == 2
    assert main(["pause", "t0"]) == 2
    assert "no store was given" in capsys.readouterr().err


def test_of_two_who_change_something_at_once_one_is_told(
    bank: Bank, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "store"
    publish(bank.document(), folder)
    prepared = prepare(["t0"], str(folder), paused=True)
    assert prepared is not None
    publish(bank.document(live="retrained", shadow=()), folder)
    with pytest.raises(Exception, match="current is generation 2, not 1: it was moved meanwhile"):
        prepared.proposal.publish()
    assert DirectoryStore(folder).current() == 2
