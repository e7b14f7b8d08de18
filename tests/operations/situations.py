"""The situations of docs/operations.md, each as a function of a scene: 0 missing, 0 doubled, 0 out of order at its end,
or what the page says instead.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public names that the stubs forget to export
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic
from ruamel.yaml import YAML

from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.local_cluster import LocalCluster
from muse_stream.testing.local_kafka import free_ports
from tests.integration.bank import PARTITIONS
from tests.operations.page import commands
from tests.operations.scene import Account, Run, Scene
from tests.patience import until
from tests.quotas import quota
from tests.upgrade.release import install, latest
from tests.upgrade.rolling import Rolling

SCORES = "muse.scores.acme"
EVENTS = "muse.events.acme"


@dataclass(frozen=True)
class Situation:
    """One of them. `title` is the page's section; `brokers` where it makes sense."""

    title: str
    happens: Callable[[Scene], Account | None]
    """Returns the account where it is not the scene's. Raises AssertionError where it is not as the page says."""
    brokers: tuple[int, ...] = (1, 3)
    properties: Mapping[str, str] = field(default_factory=dict)
    """Of the brokers."""
    verified: bool = True
    """Whether `verify` is asked at the end: it finds what the scene expects of it, and nothing else."""
    perhaps: tuple[str, ...] = ()
    """Log lines of the page that depend on how fast this machine is."""


def new_tenant(scene: Scene) -> None:
    """A tenant more, while the others are scored; its topics are made and its permissions printed as the page says."""
    scene.prepare()
    live = scene.run()
    scene.feed(100)
    scene.await_answers()

    def added(document: dict[str, Any]) -> None:
        document["tenants"]["initech"] = dict(document["tenants"]["acme"])

    scene.configure(added)
    event = {"id": "initech-1", "at": 1_780_000_000_000, "tenant": "initech", "amount": 12.5, "risk": 0.25}
    (scene.folder / "initech.jsonl").write_text(json.dumps(event) + "\n", encoding="utf-8")
    scene.count("initech-1", "initech")
    scene.commands("A new tenant")
    live.await_said("starting_offsets", topic="muse.events.initech")
    assert scene.verdict("initech") == {}
    scene.feed(100)
    scene.await_answers()


def bad_model(scene: Scene) -> None:
    """Another model becomes live, and is taken back."""
    scene.prepare()
    live = scene.run()
    scene.feed(100)
    scene.await_answers()

    def retrained(document: dict[str, Any]) -> None:
        both = YAML(typ="safe").load(scene.bank.document().read_text(encoding="utf-8"))
        document |= {name: both[name] for name in ("models", "predictors")} | {"routes": [{"live": "retrained"}]}

    scene.configure(retrained)
    scene.publish()
    live.await_said("generation", number=2)
    scene.feed(100)
    scene.await_answers()
    scene.commands("A bad model is live")
    live.await_said("generation", number=1, before=2)
    scene.feed(100)
    scene.await_answers()


def poison_topic(scene: Scene) -> None:
    """A producer sends garbage; its tenant is paused and goes on."""
    scene.prepare()
    live = scene.run()
    scene.feed(100)
    garbage = [("acme", number % PARTITIONS, b"event without a frame") for number in range(20)]
    scene.bank.produce(scene.bootstrap, garbage)
    live.await_said("dead_letters", reason="undecodable")
    scene.await_answers()
    scene.commands("A poison topic")
    live.await_said("tenant_resumed", topic=EVENTS)
    scene.feed(100)
    scene.await_answers()


def pause_of_two_weeks(scene: Scene) -> None:
    """Nobody reads for so long that Kafka forgets the group's offsets; then the lane is started again."""
    scene.prepare()
    live = scene.run()
    scene.feed(200)
    scene.await_answers()
    assert live.stop() == 0
    scene.feed(100)
    scene.forget_group("muse.main.live")
    live = scene.run()
    scene.feed(100)
    scene.await_answers()
    live.await_said("starting_offsets", topic=EVENTS, chosen="answers")
    scene.commands("A pause of two weeks")


def lane_move(scene: Scene) -> None:
    """A tenant moves to another lane while both lanes run and events come."""
    scene.prepare()
    scene.run("live", "main", "--workers", "2")
    scene.feed(200)
    scene.await_answers()

    def moved(document: dict[str, Any]) -> None:
        document["tenants"]["acme"]["lane"] = "large"

    scene.configure(moved)
    scene.publish()
    large = scene.run("live", "large", name="ops-large")
    for _ in range(4):
        scene.feed(100)
    scene.await_answers()
    said = large.await_said("starting_offsets", topic=EVENTS)
    assert said["chosen"] in ("group muse.main.live", "answers"), said
    standing = json.loads(scene.shell("muse-stream offsets show store acme --json"))
    assert {(one["group"], one["state"].split()[0]) for one in standing} == {("muse.large.live", "read")}, standing


def namespace_change(scene: Scene) -> None:
    """The fleet gets a name of its own; its topics stay where they are."""
    scene.prepare()
    live = scene.run()
    scene.feed(200)
    scene.await_answers()
    assert live.stop() == 0

    def renamed(document: dict[str, Any]) -> None:
        document["namespace"] = "bank"
        document["topics"] = {kind: f"muse.{kind}.{{tenant}}" for kind in ("events", "scores", "audit", "dlq")}

    scene.configure(renamed)
    scene.publish()
    scene.feed(100)
    scene.run()
    scene.feed(100)
    scene.await_answers()
    standing = json.loads(scene.shell("muse-stream offsets show store acme --json"))
    assert {(one["group"], one["state"].split()[0]) for one in standing} == {("bank.main.live", "read")}, standing


def topic_recreated(scene: Scene) -> None:
    """A tenant's event topic is deleted and created again while its lane runs."""
    scene.prepare()
    live = scene.run()
    scene.feed(200)
    scene.await_answers()
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    admin.delete_topics([EVENTS])[EVENTS].result(30)
    scene.await_topic(EVENTS, there=False)
    admin.create_topics([NewTopic(EVENTS, PARTITIONS, scene.replication)])[EVENTS].result(30)
    scene.await_topic(EVENTS, there=True)
    scene.feed(40)
    said = partial(_again, live)
    until(said, 60, lambda: str(live.lines("starting_offsets")))
    for one in said():  # a worker that notices before the first event is there has no answer to pass over
        assert one["chosen"] == "earliest", one
        assert "of an earlier topic" in one.get("note", "") or live.lines("offset_set_back"), one
    scene.commands("Topic recreated")
    scene.feed(100)
    scene.await_answers()
    scene.shell("muse-stream verify store acme")


def _again(live: Run) -> list[dict[str, Any]]:
    """Where it begins in the event topic, but for the first time."""
    return [one for one in live.lines("starting_offsets") if one["topic"] == EVENTS][1:]


def retention_loss(scene: Scene) -> None:
    """Events are removed while nobody reads: what is left is answered after the page's commands."""
    scene.prepare()
    live = scene.run()
    scene.feed(200)
    scene.await_answers()
    assert live.stop() == 0
    events = scene.events(200)
    scene.bank.produce(scene.bootstrap, events)
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    before = [TopicPartition(EVENTS, partition, 80) for partition in range(PARTITIONS)]
    for removed in admin.delete_records(before).values():
        removed.result(30)
    live = scene.run()
    said = live.await_said("events_removed_unread", topic=EVENTS, partition=0)
    assert (said["events"], said["first_offset"], said["last_offset"]) == (30, 50, 79)
    live.await_said("tenant_paused")
    for partition in range(PARTITIONS):
        places = [number for number, one in enumerate(events) if one[:2] == ("acme", partition)]
        scene.lost |= {scene.bank.sent[number - len(events)] for number in places[:30]}
    scene.commands("Retention loss")
    scene.feed(100)
    scene.await_answers()
    scene.findings["acme"] = {"not_answerable": len(scene.lost)}


def quota_and_size(scene: Scene) -> None:
    """A byte quota while a backlog waits, a request quota, and a score topic that refuses every answer."""
    scene.prepare()
    live = scene.run()
    for name, value in (("producer_byte_rate", 8_000.0), ("request_percentage", 0.5)):
        before = len(live.lines("throttled"))
        with quota(scene.bootstrap, "muse-stream", name, value):
            until(partial(_throttled, scene, live, before), 60, lambda name=name: f"{name} is not met")  # type: ignore[misc]
            scene.feed(2_000)
            waiting = len(scene.account().missing)
            if waiting:  # else all is answered already, in spite of the quota: three brokers allow three times as much
                until(lambda waiting=waiting: len(scene.account().missing) < waiting, 60, str)  # type: ignore[misc]
        scene.await_answers(120)
    assert live.stop() == 0
    _limit(scene, SCORES, "100")
    scene.feed(400)  # at once: a few answers that are refused become dead letters
    live = scene.run()
    live.await_said("tenant_paused", topic=EVENTS)
    scene.commands("Quota and message size")
    scene.await_answers(120)
    live.await_said("tenant_resumed", topic=EVENTS)
    assert scene.account().dead == 0


def _throttled(scene: Scene, live: Run, before: int) -> bool:
    """Whether a quota is met; sends events until then, since a quota forgives a burst first."""
    if len(live.lines("throttled")) == before and len(scene.account().missing) < 4_000:
        scene.feed(2_000)
    return len(live.lines("throttled")) > before


def _limit(scene: Scene, topic: str, max_message_bytes: str) -> None:
    value = ConfigEntry("max.message.bytes", max_message_bytes, incremental_operation=AlterConfigOpType.SET)
    wanted = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[value])
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    admin.incremental_alter_configs([wanted])[wanted].result(30)


def output_without_a_leader(scene: Scene) -> None:
    """One tenant's score topic is on one broker only, which goes away: the other tenant notices nothing."""
    scene.publish()
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    admin.create_topics([NewTopic(SCORES, PARTITIONS, replica_assignment=[[3]] * PARTITIONS)])[SCORES].result(30)
    scene.shell(f"muse-stream topics store --partitions {PARTITIONS} --replication 3 --min-isr 1 || true")
    live = scene.run("live", "main", "--workers", "2")
    scene.feed(200)
    scene.await_answers()
    scene.brokers.kill([2])
    scene.feed(200)
    live.await_said("tenant_paused", 120)
    scene.feed(200, ["globex"])
    until(lambda: not scene.account(tenant="globex").missing, 60, lambda: str(scene.account(tenant="globex")))
    scene.brokers.restart([2])
    scene.await_answers(120)


def wrong_advertised(scene: Scene) -> None:
    """A broker that tells its clients an address they cannot reach: every command names it."""
    client, internal, controller = free_ports(3)
    over = {"advertised.listeners": f"CLIENT://kafka.invalid:9092,INTERNAL://127.0.0.1:{internal}"}
    wrong = LocalCluster(PLACES, lambda _line: None, nodes=1, properties=over)
    node = wrong.nodes[0]
    try:
        node.prepare([client, internal, controller])
        node.launch()
        for command in ("topics store", "verify store", "doctor store", "run --role live --store store"):
            said: list[str] = []

            def told(command: str = command, said: list[str] = said) -> bool:
                done = scene.attempt(f"muse-stream {command}", bootstrap=f"127.0.0.1:{client}")
                said.append(done.stdout + done.stderr)
                return done.returncode in (1, 3) and "kafka.invalid:9092" in said[-1]

            scene.shell("test -d store || muse-stream publish muse.yaml store --yes")
            until(told, 60, lambda said=said: said[-1])  # type: ignore[misc]
            assert "advertised" in said[-1], said[-1]
    finally:
        wrong.close()


def frozen(scene: Scene) -> None:
    """All brokers stand still for longer than session and transaction timeout, and go on."""
    scene.prepare()
    scene.run("live", "main", "--workers", "2")
    scene.feed(400)
    scene.await_answers()
    for node in scene.brokers.nodes:
        node.pause()
    time.sleep(25)  # longer than the session (9 s) and the time a transaction may take
    for node in scene.brokers.nodes:
        node.resume()
    scene.feed(400)
    scene.await_answers(120)


def upstream_open(scene: Scene) -> None:
    """A producer of events dies within a transaction: its events wait, all others are answered, then these too."""
    scene.prepare()
    live = scene.run()
    scene.feed(100)
    scene.await_answers()
    producer = _transaction(scene, "upstream")
    for tenant, partition, value in scene.events(40, ["acme"]):
        producer.produce(scene.bank.topic("events", tenant), value, partition=partition)
    producer.flush(30)
    scene.feed(40, ["globex"])
    until(lambda: len(scene.account().missing) == 20, 60, lambda: str(scene.account()))
    live.await_said("upstream_transaction_open", topic=EVENTS)
    producer.commit_transaction(30)
    scene.await_answers()
    live.await_said("upstream_transaction_ended", topic=EVENTS)


def hanging(scene: Scene) -> None:
    """Somebody's transaction hangs in a score topic: `doctor` prints what ends it, and that ends it."""
    scene.prepare()
    scene.run()
    scene.feed(100)
    scene.await_answers()
    producer = _transaction(scene, "gone", **{"transaction.timeout.ms": 600_000})
    producer.produce(SCORES, b"never seen", partition=0)
    producer.flush(30)
    scene.feed(100)
    scene.commands("Hanging transaction")
    found = json.loads(scene.shell("muse-stream doctor store --json", code=1))
    assert {one["kind"] for one in found["findings"]} == {"transaction_open"}, found["findings"]
    for line in (line for one in found["findings"] for line in one["cure"]):
        if line.startswith("kafka-transactions.sh"):
            scene.shell(line)
    until(lambda: scene.attempt("muse-stream doctor store").returncode == 0, 60)
    scene.await_answers()


def another_cluster(scene: Scene) -> Account:
    """The producers move to another cluster, where what was not answered here has been copied."""
    scene.prepare()
    live = scene.run()
    scene.feed(200)
    scene.await_answers()
    assert live.stop() == 0
    waiting = scene.events(100)
    scene.bank.produce(scene.bootstrap, waiting)
    new = LocalCluster(PLACES, lambda _line: None, nodes=len(scene.brokers.nodes))
    try:
        new.start()
        old = scene.bootstrap
        scene.move(new.bootstrap)
        scene.shell(f"muse-stream topics store --partitions {PARTITIONS} --replication {scene.replication}")
        copied = scene.mirror(old, ["muse.events.acme", "muse.events.globex"])
        assert copied == 300
        scene.await_no_members(old, "muse.main.live")
        for tenant in ("acme", "globex"):
            for script in commands("Moving to another cluster"):
                if "offsets copy" in script:
                    scene.shell(script.replace("acme", tenant).replace("old:9092", old))
        scene.run()
        scene.feed(100)
        until(lambda: not scene.account(old, new.bootstrap).missing, 60)
        assert scene.verdict("acme") == {"missing": 100}, "these were answered on the old cluster"
        scene.commands("Moving to another cluster", "verify")
        assert scene.verdict("acme", "--from-offset 50") == {}
        return scene.account(old, new.bootstrap)
    finally:
        scene.close()
        scene.move(old)
        new.close()


def replay_a_day(scene: Scene) -> None:
    """A tenant's events are answered once more, on purpose: each of them is doubled, and verify says so."""
    scene.prepare()
    live = scene.run()
    scene.feed(200)
    scene.await_answers()

    scene.commands("Replaying a day", "stream pause")
    live.await_said("tenant_paused")
    scene.commands("Replaying a day", "offsets set")
    scene.commands("Replaying a day", "stream resume")
    until(lambda: len(scene.account().doubled) == 100, 60, lambda: str(scene.account()))
    assert not set(scene.account().doubled) & scene.of("globex")
    scene.again = scene.of("acme")
    scene.feed(100)
    scene.await_answers()
    scene.findings["acme"] = {"duplicated": len(scene.again)}


def rolling_upgrade(scene: Scene) -> None:
    """All runs are replaced one by one, by this release and back, while events come and both releases publish."""
    bins = {"older": install(latest(), _say), "newer": scene.bin}
    Rolling(scene, bins, _say).there_and_back()


def _say(line: object) -> None:
    print(line, file=sys.stderr, flush=True)


def _transaction(scene: Scene, name: str, **settings: Any) -> Producer:
    """Begin a transaction; it ends with the scene's brokers, if nobody ends it."""
    producer = Producer({"bootstrap.servers": scene.bootstrap, "transactional.id": name} | settings)
    producer.init_transactions(30)
    producer.begin_transaction()
    return producer


SITUATIONS = [
    Situation("A new tenant", new_tenant),
    Situation("A bad model is live", bad_model),
    Situation("A poison topic", poison_topic),
    Situation("A pause of two weeks", pause_of_two_weeks),
    Situation("Lane move", lane_move),
    Situation("Namespace change", namespace_change),
    Situation("Topic recreated", topic_recreated),
    Situation("Retention loss", retention_loss),
    Situation("Quota and message size", quota_and_size, perhaps=("batch_too_slow",)),
    Situation("Output partition without a leader", output_without_a_leader, brokers=(3,)),
    Situation("Wrong advertised address", wrong_advertised, brokers=(1,), verified=False),
    Situation("Broker frozen", frozen),
    Situation("Upstream transaction left open", upstream_open),
    Situation("Hanging transaction", hanging),
    Situation("Moving to another cluster", another_cluster, verified=False),
    Situation("Replaying a day", replay_a_day),
    Situation("Rolling upgrade", rolling_upgrade, brokers=(1,)),
]
