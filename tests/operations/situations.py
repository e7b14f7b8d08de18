"""The situations of docs/operations.md, each as a function of a scene: 0 missing, 0 doubled, 0 out of order at its end,
or what the page says instead.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.operations.scene import Scene
from tests.patience import until


@dataclass(frozen=True)
class Situation:
    """One of them. `title` is the page's section; `brokers` where it makes sense."""

    title: str
    happens: Callable[[Scene], None]
    """Raises AssertionError where it is not as the page says."""
    brokers: tuple[int, ...] = (1, 3)
    properties: Mapping[str, str] = field(default_factory=dict)
    """Of the brokers."""


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
    before = [TopicPartition("muse.events.acme", partition, 80) for partition in (0, 1)]
    for removed in admin.delete_records(before).values():
        removed.result(30)
    live = scene.run()
    said = live.await_said("events_removed_unread", topic="muse.events.acme", partition=0)
    assert (said["events"], said["first_offset"], said["last_offset"]) == (30, 50, 79)
    live.await_said("tenant_paused")
    scene.commands("Retention loss")
    for partition in (0, 1):
        places = [number for number, one in enumerate(events) if one[:2] == ("acme", partition)]
        scene.lost |= {scene.bank.sent[number - len(events)] for number in places[:30]}
    scene.feed(100)
    scene.await_answers()
    found = json.loads(scene.shell("muse-stream verify store acme --json", code=1))
    (topic,) = found if isinstance(found, list) else found["topics"]
    assert [(one["kind"], one["count"]) for one in topic["findings"]] == [("not_answerable", len(scene.lost))], topic


def upstream_open(scene: Scene) -> None:
    """A producer of events dies within a transaction: its events wait, all others are answered, then these too."""
    scene.prepare()
    live = scene.run()
    scene.feed(100)
    scene.await_answers()
    producer = Producer({"bootstrap.servers": scene.bootstrap, "transactional.id": "upstream"})
    producer.init_transactions(30)
    producer.begin_transaction()
    for tenant, partition, value in scene.events(40, ["acme"]):
        producer.produce(scene.bank.topic("events", tenant), value, partition=partition)
    producer.flush(30)
    scene.feed(40, ["globex"])
    until(lambda: len(scene.account().missing) == 20, 60, lambda: str(scene.account()))
    live.await_said("upstream_transaction_open", topic="muse.events.acme")
    producer.commit_transaction(30)
    scene.await_answers()
    live.await_said("upstream_transaction_ended", topic="muse.events.acme")


def frozen(scene: Scene) -> None:
    """All brokers stand still for longer than session and transaction timeout, and go on."""
    scene.prepare()
    live = scene.run("live", "main", "--workers", "2")
    scene.feed(400)
    scene.await_answers()
    for node in scene.brokers.nodes:
        node.pause()
    try:
        until(lambda: bool(live.lines("aborted") or live.lines("worker_ended")), 60)
    finally:
        for node in scene.brokers.nodes:
            node.resume()
    scene.feed(400)
    scene.await_answers(120)


SITUATIONS = [
    Situation("Retention loss", retention_loss),
    Situation("Broker frozen", frozen),
    Situation("Upstream transaction left open", upstream_open),
]
