"""`offsets` and everything that an assignment can bring, as an operator meets it: real workers, one lane at a time."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from muse_stream.cli.main import main
from muse_stream.testing.kafka_broker import Broker
from tests.integration.bank import PARTITIONS, Bank
from tests.integration.fleet import Fleet, publish
from tests.integration.witness import Witness
from tests.patience import until

Unique = Callable[[str], str]
MakeTopic = Callable[..., str]
Output = pytest.CaptureFixture[str]


class Site:
    """A bank, its store and what was sent."""

    def __init__(self, kafka: Broker, folder: Path, name: str, make_topic: MakeTopic) -> None:
        self.kafka, self.folder, self.store = kafka, folder, folder / "store"
        self.bank = Bank(folder / name, name)
        self.make_topic = make_topic
        for topic in self.bank.topics():
            make_topic(name=topic, partitions=PARTITIONS)
        self.counts: Counter[str] = Counter()

    def publish(self, **own: Mapping[str, Any]) -> int:
        return publish(self.bank.document("plain", (), **own), self.store)

    def fleet(self, lane: str | None = None, **options: Any) -> Fleet:
        log = self.folder / f"live-{lane or 'own'}.log"
        return Fleet(self.kafka.bootstrap, self.store, "live", lane or self.bank.name, log, workers=1, **options)

    def send(self, count: int, *tenants: str) -> None:
        """Send so many events of each tenant."""
        events = [one for one in self.bank.events(count * self.bank.tenants) if not tenants or one[0] in tenants]
        self.bank.produce(self.kafka.bootstrap, events)
        self.counts.update(tenant for tenant, _, _ in events)

    def witness(self, *tenants: str) -> Witness:
        names = tenants or self.bank.names()
        scores = [self.bank.topic("scores", name) for name in names]
        return Witness(self.kafka.bootstrap, scores, [], PARTITIONS, "score.avsc")

    def command(self, capsys: Output, *words: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert main(["offsets", *words]) == code, capsys.readouterr()
        said = capsys.readouterr()
        return json.loads(said.out) if "--json" in words and code == 0 else said.err + said.out


@pytest.fixture
def site(kafka: Broker, tmp_path: Path, unique: Unique, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    return Site(kafka, tmp_path, unique("bank"), make_topic)


def once(witness: Witness) -> bool:
    return max(Counter(one.source for one in witness.seen).values()) == 1


def test_one_tenants_offsets_are_shown_and_set_while_the_lane_runs(site: Site, capsys: Output) -> None:
    """Refused while it is read; paused in the configuration, replayed and freed again, while the other goes on."""
    site.publish()
    store = str(site.store)
    with site.fleet() as live, site.witness("t0") as first, site.witness("t1") as second:
        site.send(20)
        first.wait_for(20, 40)
        second.wait_for(20, 40)

        def shown() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = site.command(capsys, "show", store, "t0", "--json")
            return found

        read = {(f"muse.{site.bank.name}.live", 9, "read by test-0", True)}

        def told() -> set[tuple[Any, ...]]:
            return {(one["group"], one["last_answer"], one["state"][:14], one["lag"] <= 2) for one in shown()}

        until(lambda: told() == read, 20, lambda: str(shown()))
        refused = site.command(capsys, "set", store, "t0", "--to", "earliest", "--yes", code=1)
        assert "is being read by test-0" in refused
        assert "tenants.t0.paused" in refused

        site.publish(t0={"paused": True})
        until(lambda: {one["state"] for one in shown()} == {"paused"}, 30, lambda: str(shown()))
        said = next(line for line in live.lines("tenant_paused") if "paused in the configuration" in line["error"])
        assert (said["group"], said["tenants"]) == (f"muse.{site.bank.name}.live", ["t0"])
        assert set(said["offsets"]) == {"0", "1"}
        dry = site.command(capsys, "set", store, "t0", "--to", "5", "--dry-run", "--json")
        assert [(move["after"], move["before"] >= 10) for move in dry["moves"]] == [(5, True)] * 2
        assert "is not in 0.." in site.command(capsys, "set", store, "t0", "--to", "9999", "--yes", code=1)
        site.command(capsys, "set", store, "t0", "--to", "yesterday", "--yes", code=2)
        done = site.command(capsys, "set", store, "t0", "--to", "5", "--yes", "--json")
        assert (done["done"], done["not_taken"]) == (True, [])
        site.send(10)
        second.wait_for(30, 30)
        assert len(first.seen) == 20, "it is paused still"

        site.publish()
        first.wait_for(40, 40)
        site.send(5)
        first.wait_for(45, 30)
        second.wait_for(35, 30)
        assert live.stop() == 0
    answers = Counter(one.source[1:] for one in first.seen)
    again = {(partition, offset) for partition in range(PARTITIONS) for offset in range(5, 10)}
    assert {place for place, count in answers.items() if count == 2} == again
    assert max(answers.values()) == 2
    assert once(second)


def test_a_lost_offset_is_cured_by_the_command_that_the_log_names(site: Site, capsys: Output) -> None:
    site.publish()
    with site.fleet() as live, site.witness() as witness:
        site.send(20)
        witness.wait_for(40, 40)
        assert live.stop() == 0
    site.send(20, "t0")
    admin = AdminClient({"bootstrap.servers": site.kafka.bootstrap})
    topic = site.bank.topic("events", "t0")
    for done in admin.delete_records([TopicPartition(topic, n, 15) for n in range(PARTITIONS)]).values():
        done.result(60)
    with site.fleet() as live, site.witness() as witness:
        until(lambda: bool(live.lines("tenant_paused")), 40, lambda: str(live.lines("aborted")))
        (said, *_) = live.lines("tenant_paused")
        assert said["topic"] == topic, live.lines("tenant_paused")
        assert "muse-stream offsets set " in said["hint"]
        assert said["group"] == f"muse.{site.bank.name}.live"
        site.send(20, "t1")
        witness.wait_for(60, 40)
        words = said["hint"].split("`")[1].split()[2:]  # without `muse-stream offsets`
        done = site.command(capsys, *words, "--yes", "--json")
        assert done["not_taken"] == []
        witness.wait_for(70, 40)  # offsets 15 to 19 of both partitions
        assert live.stop() == 0
    assert once(witness)


RESTART, RUNNING = "a quick restart", "a running lane"
CHANGES = [
    *(("removed", RESTART), ("added", RUNNING), ("renamed", RESTART), ("lane", RUNNING), ("partitions", RUNNING)),
    # the other way round: a restart and a running lane meet the same changes
    pytest.param("removed", RUNNING, marks=pytest.mark.slow),
    pytest.param("added", RESTART, marks=pytest.mark.slow),
    pytest.param("renamed", RUNNING, marks=pytest.mark.slow),
    pytest.param("lane", RESTART, marks=pytest.mark.slow),
    pytest.param("partitions", RESTART, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("change", "how"), CHANGES)
def test_no_change_of_tenants_ends_a_worker(site: Site, change: str, how: str) -> None:
    """The group assigns what it knew: partitions of tenants that are gone, of topics that are others now."""
    before = 1 if change == "added" else 2
    site.bank.tenants = before
    site.publish()
    other = site.make_topic(name=site.bank.topic("events", "new"), partitions=PARTITIONS)
    with site.fleet() as live, site.witness("t0") as witness:
        site.send(10)
        witness.wait_for(10, 40)
        if how == RESTART:
            assert live.stop() == 0
        changes: dict[str, Mapping[str, Any]] = {}
        if change in ("removed", "added"):
            site.bank.tenants = 1 if change == "removed" else 2
        elif change == "renamed":
            changes = {"t1": {"topics": {"events": other}}}
        elif change == "lane":
            changes = {"t1": {"lane": site.bank.name + "-b"}}
        else:
            topic = site.bank.topic("events", "t0")
            admin = AdminClient({"bootstrap.servers": site.kafka.bootstrap})
            admin.create_partitions([NewPartitions(topic, PARTITIONS + 1)])[topic].result(60)
        number = site.publish(**changes)
        if how == RESTART:
            with site.fleet() as again:
                site.send(10, "t0")
                witness.wait_for(20, 40)
                assert again.stop() == 0
                assert not again.lines("worker_ended")
        else:
            live.wait_generation(number)
            site.send(10, "t0")
            witness.wait_for(20, 40)
            assert live.stop() == 0
            assert not live.lines("worker_ended")
        assert once(witness)
        assert "KeyError" not in live.log.read_text(encoding="utf-8")


def test_copy_carries_the_offsets_of_a_lane_that_is_not_asked(site: Site, capsys: Output) -> None:
    """Both lanes stopped: what `copy` says is what the other lane starts with."""
    site.publish()
    with site.fleet() as live, site.witness("t0") as witness:
        site.send(10)
        witness.wait_for(10, 40)
        assert live.stop(2) == 0  # leaves the group
        lane = site.bank.name + "-b"
        site.publish(t0={"lane": lane})
        words = ["copy", str(site.store), "t0", "--from-lane", site.bank.name, "--to-lane", lane, "--yes", "--json"]
        done = site.command(capsys, *words)
        assert [move["group"] for move in done["moves"]] == [f"muse.{lane}.live"] * PARTITIONS
        with site.fleet(lane) as there:
            site.send(10, "t0")
            witness.wait_for(20, 40)
            assert there.stop() == 0
            assert not there.lines("starting_offsets"), "it had offsets"
        assert once(witness)


def test_two_fleets_with_other_namespaces_never_meet(
    kafka: Broker, tmp_path: Path, unique: Unique, make_topic: MakeTopic
) -> None:
    """The same lane, the same host name, the same slot: nobody is fenced, each answers its own."""
    lane, sites = unique("lane"), []
    for namespace in ("muse", "bank"):
        site = Site(kafka, tmp_path / namespace, unique(namespace), make_topic)
        document = site.bank.document(shadow=(), t0={"lane": lane}, t1={"lane": lane})
        document.write_text(document.read_text().replace("version: 1", f"version: 1\nnamespace: {namespace}", 1))
        publish(document, site.store)
        sites.append(site)
    first, second = sites
    with (
        first.fleet(lane) as one,
        second.fleet(lane) as two,
        first.witness() as ours,
        second.witness() as theirs,
    ):
        for _ in range(3):
            first.send(10)
            second.send(10)
        ours.wait_for(60, 40)
        theirs.wait_for(60, 40)
        assert (one.stop(), two.stop()) == (0, 0)
        for fleet in (one, two):
            assert not fleet.lines("worker_ended")
            # a transaction may be given up for want of time, not because another process has its id
            assert not [line for line in fleet.lines("aborted") if "FENCED" in (line["code"] or "")]
        assert once(ours)
        assert once(theirs)
