"""One broker for all processes of a run: asked for by many at once it starts once, and nobody breaks it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from muse_stream.testing import probe
from muse_stream.testing.kafka_broker import Broker, NoBroker
from tests.patience import until
from tests.shared_broker import BrokerOfTheRun, SharedBroker, ask, delete_topics, meet


def test_asked_for_by_many_it_is_looked_for_once(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    run = BrokerOfTheRun()
    try:
        address = run.serve()
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(ask, [address] * 8))
        assert {one["bootstrap"] for one in found} == {kafka.bootstrap}
        assert run.said == [f"kafka: MUSE_KAFKA_BOOTSTRAP_SERVERS, {kafka.bootstrap}"]
        assert probe.answers(meet(found[0]).bootstrap, 10.0)
    finally:
        run.close()
    assert not Path(address).exists()


def test_what_it_lacks_is_told_to_everybody_and_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    run = BrokerOfTheRun()
    first = run.find()
    assert run.find() is first
    with pytest.raises(NoBroker, match="no Kafka broker answers there"):
        meet(first)


def test_who_breaks_it_is_told_what_to_do() -> None:
    shared = SharedBroker("127.0.0.1:1", "local JVM")
    for fault in (shared.kill, shared.pause, shared.resume, shared.restart):
        with pytest.raises(AssertionError, match="own_broker"):
            fault()


def test_topics_are_deleted_by_what_their_names_contain(
    kafka: Broker, unique: Callable[[str], str], make_topic: Callable[..., str]
) -> None:
    gone, other = unique("gone"), make_topic("other")
    for kind in ("events", "scores"):
        make_topic(name=f"muse.{gone}.{kind}")
    delete_topics(kafka.bootstrap, [gone])
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    until(lambda: not any(gone in topic for topic in admin.list_topics(timeout=60).topics), 20)
    assert other in admin.list_topics(timeout=60).topics
