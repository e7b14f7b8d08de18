"""A member of a group whose offsets are kept elsewhere: partitions that a killed member leaves with nobody."""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Self

import pytest

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Fatal
from muse_stream.kafka import counting_consumer
from muse_stream.kafka.counting_consumer import CountingConsumer
from muse_stream.kafka.partition import TopicPartitionKey
from muse_stream.kafka.topic_reader import Bounds
from muse_stream.testing.kafka_broker import Broker
from tests.patience import PATIENCE
from tests.worker.doubles import ListLog, await_true
from tests.worker.rig import produce

MakeTopic = Callable[..., str]
Unique = Callable[[str], str]


class Kept:
    """Stands for the store: who has taken up which partition last. Everything is read from the beginning."""

    def __init__(self) -> None:
        self.names: dict[TopicPartitionKey, str] = {}

    def owners(self, topics: Iterable[str]) -> Mapping[TopicPartitionKey, str]:
        wanted = set(topics)
        return {place: name for place, name in self.names.items() if place[0] in wanted}


class Member:
    """A process of the group, in a thread: what it was given to read, and what it has read."""

    def __init__(self, bootstrap: str, group: str, instance: str, topics: Iterable[str], kept: Kept) -> None:
        self._kept, self._instance, self._topics = kept, instance, tuple(topics)
        self.log, self.has, self.read = ListLog(), set[TopicPartitionKey](), set[tuple[int, int]]()
        self.freezes, self.frozen, self._over = False, threading.Event(), threading.Event()
        self.error = ""
        settings = KafkaSettings(bootstrap=bootstrap)
        self._consumer = CountingConsumer(
            *(settings, group, instance, self._starts, self._settle, kept.owners),
            self.log,
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60 * PATIENCE)

    def _starts(
        self, bounds: Mapping[TopicPartitionKey, Bounds], _ids: Mapping[str, str]
    ) -> dict[TopicPartitionKey, int]:
        self._kept.names |= dict.fromkeys(bounds, self._instance)
        self.has |= set(bounds)
        return dict.fromkeys(bounds, 0)

    def _settle(self, places: Iterable[TopicPartitionKey]) -> None:
        """Where `freezes`, stand for `kill -9` while partitions are given up: nothing more is done but heartbeats,
        which the group refuses as soon as another bears the name."""
        if self.freezes:
            self.frozen.set()
            self._over.wait(280)
            raise Fatal("killed")
        self.has -= set(places)

    def _run(self) -> None:
        self._consumer.subscribe(self._topics)
        try:
            while not self._over.is_set():
                self.read |= {(one.partition() or 0, one.offset() or 0) for one in self._consumer.collect(0.1)}
        except Fatal as error:
            self.error = str(error)
        self.freezes = False
        self._consumer.close(leave=False)


def test_a_partition_that_a_killed_member_was_giving_up_is_assigned_again(
    kafka: Broker, unique: Unique, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The member is told to give partitions up, and another process takes its place before it has joined again."""
    monkeypatch.setattr(counting_consumer, "LOOK_S", 0.2)
    topic, group, kept = make_topic(partitions=4), unique("group"), Kept()
    places = {(topic, partition) for partition in range(4)}
    with ExitStack() as stack:

        def member(name: str) -> Member:
            return stack.enter_context(Member(kafka.bootstrap, group, name, [topic], kept))

        old = member("0")
        await_true(lambda: old.has == places, lambda: f"{old.has}\n{old.log.tail()}", 30)
        old.freezes = True
        other = member("1")
        assert old.frozen.wait(30 * PATIENCE), "the first was not told to give partitions up"
        heir = member("0")
        heir.log.await_said("partitions_unowned", timeout_s=60)
        await_true(
            lambda: heir.has | other.has == places and not heir.has & other.has,
            lambda: f"{heir.has} {other.has}\n{heir.log.tail()}\n{other.log.tail()}",
            60,
        )
        produce(kafka.bootstrap, topic, [b"x"] * 40, partitions=4)
        await_true(lambda: len(heir.read | other.read) == 40, lambda: f"{heir.log.tail()}\n{other.log.tail()}", 30)
        assert len(heir.log.said("partitions_unowned")) + len(other.log.said("partitions_unowned")) == 1
    assert old.error in ("killed", "")


def test_a_name_that_outlives_its_topic_disturbs_nobody(
    kafka: Broker, unique: Unique, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting_consumer, "LOOK_S", 0.0)
    topic, kept = make_topic(), Kept()
    gone = unique("gone")
    kept.names[gone, 0] = "0"
    with Member(kafka.bootstrap, unique("group"), "0", [topic, gone], kept) as one:
        produce(kafka.bootstrap, topic, [b"x"])
        await_true(lambda: len(one.read) == 1, one.log.tail, 30)  # a record is held for many looks
        assert not one.log.said("partitions_unowned")
