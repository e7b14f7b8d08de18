"""Following a topic shows committed records as they come, from where it was told, and leaves no trace."""

import threading
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka.cimpl import NewPartitions

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Fatal
from muse_stream.kafka import client, tail
from muse_stream.kafka.tail import Record, Start, follow
from muse_stream.testing.kafka_broker import Broker
from tests.kafka.test_topic_reader import open_transaction
from tests.patience import PATIENCE, until
from tests.transactions import await_decided


@pytest.fixture
def settings(kafka: Broker) -> KafkaSettings:
    return KafkaSettings(bootstrap=kafka.bootstrap)


def put(settings: KafkaSettings, topic: str, *values: str, partition: int = 0) -> None:
    producer, failed = client.producer(settings, **{"enable.idempotence": False, "linger.ms": 0}), list[object]()

    def delivered(error: object, _message: object) -> None:
        failed.extend([error] if error is not None else [])

    for value in values:
        headers: list[tuple[str, bytes | str | None]] = [("muse.reason", "test"), ("empty", None)]
        producer.produce(topic, value.encode(), partition=partition, headers=headers, on_delivery=delivered)
    assert producer.flush(60) == 0
    assert failed == []


class Follower:
    """Follows in a thread and lets a test wait for records."""

    def __init__(self, settings: KafkaSettings, topic: str, start: Start | int) -> None:
        self.records: list[Record] = []
        self._grown = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(settings, topic, start))
        self._thread.start()

    def _run(self, settings: KafkaSettings, topic: str, start: Start | int) -> None:
        for records in follow(settings, topic, start, stop=self._stopped.is_set):
            with self._grown:
                self.records += records
                self._grown.notify_all()

    def saw(self, count: int) -> list[str]:
        with self._grown:
            assert self._grown.wait_for(lambda: len(self.records) >= count, 20 * PATIENCE), self.records
        return [(record.value or b"").decode() for record in self.records]

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(20 * PATIENCE)
        assert not self._thread.is_alive()


def values(settings: KafkaSettings, topic: str, start: Start | int) -> list[str]:
    records = [record for some in follow(settings, topic, start, until_end=True) for record in some]
    return [(record.value or b"").decode() for record in records]


def test_beginning_end_and_a_number_back(settings: KafkaSettings, make_topic: Callable[..., str]) -> None:
    topic = make_topic("scores")
    put(settings, topic, "a", "b", "c")
    assert values(settings, topic, "beginning") == ["a", "b", "c"]
    assert values(settings, topic, 2) == ["b", "c"]
    assert values(settings, topic, 99) == ["a", "b", "c"]
    assert values(settings, topic, "end") == []


def transaction(settings: KafkaSettings, topic: str, name: str, *values: str, commit: bool = True) -> None:
    producer = client.producer(settings, **{"transactional.id": name})
    producer.init_transactions(60)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value.encode(), partition=0)
    producer.flush(60)
    producer.commit_transaction(60) if commit else producer.abort_transaction(60)
    await_decided(settings.bootstrap, topic)


def test_a_number_back_counts_records_and_not_what_else_takes_offsets(
    settings: KafkaSettings, make_topic: Callable[..., str], unique: Callable[[str], str]
) -> None:
    """Each transaction ends with a marker; what was aborted stays in the log."""
    topic, name = make_topic("scores", partitions=2), unique("tail")
    for value in "abc":
        transaction(settings, topic, name, value)
    assert values(settings, topic, 1) == ["c"]
    assert values(settings, topic, 2) == ["b", "c"]
    transaction(settings, topic, name, *["gone"] * 50, commit=False)
    assert values(settings, topic, 1) == ["c"]
    assert values(settings, topic, 3) == ["a", "b", "c"]
    assert values(settings, topic, 99) == ["a", "b", "c"]
    transaction(settings, topic, name, "d")
    assert values(settings, topic, 2) == ["c", "d"]


def test_a_number_back_counts_only_what_is_wanted(settings: KafkaSettings, make_topic: Callable[..., str]) -> None:
    topic = make_topic("scores")
    put(settings, topic, "ours", *["theirs"] * 20, "ours", *["theirs"] * 40)

    def ours(records: Sequence[Record]) -> list[bool]:
        return [record.value == b"ours" for record in records]

    for count, first in ((1, 21), (2, 0), (3, 0)):
        records = [one for some in follow(settings, topic, count, wanted=ours, until_end=True) for one in some]
        assert records[0].offset == first and records[-1].offset == 61


def test_a_number_back_before_an_open_transaction(
    settings: KafkaSettings, make_topic: Callable[..., str], unique: Callable[[str], str]
) -> None:
    topic = make_topic("scores")
    put(settings, topic, "a", "b")
    producer = client.producer(settings, **{"transactional.id": unique("tail")})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(topic, b"open")
    producer.flush(60)
    assert values(settings, topic, 1) == ["b"]
    producer.abort_transaction(60)


def test_record_is_shown_whole(settings: KafkaSettings, make_topic: Callable[..., str]) -> None:
    topic = make_topic("dlq", partitions=2)
    put(settings, topic, "x", partition=1)
    (records,) = follow(settings, topic, "beginning", until_end=True)
    (record,) = records
    assert (record.partition, record.offset, record.key, record.value) == (1, 0, None, b"x")
    assert record.headers == (("muse.reason", b"test"), ("empty", None))
    assert record.timestamp > 1_600_000_000_000


def test_new_records_come_and_uncommitted_ones_do_not(
    settings: KafkaSettings, make_topic: Callable[..., str], unique: Callable[[str], str]
) -> None:
    topic = make_topic("scores")
    put(settings, topic, "first")
    with Follower(settings, topic, "beginning") as follower:
        assert follower.saw(1) == ["first"]
        producer = client.producer(settings, **{"transactional.id": unique("tail")})
        producer.init_transactions(60)
        for value, commit in (("aborted", False), ("committed", True)):
            producer.begin_transaction()
            producer.produce(topic, value.encode())
            assert producer.flush(60) == 0
            producer.commit_transaction(60) if commit else producer.abort_transaction(60)
        assert follower.saw(2) == ["first", "committed"]


def test_partitions_added_later_are_followed_from_their_first_record(
    settings: KafkaSettings, make_topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "REFRESH_S", 0.1)
    topic = make_topic("scores")
    put(settings, topic, "old partition")
    with Follower(settings, topic, 1) as follower:
        follower.saw(1)
        admin = client.admin(settings)
        admin.create_partitions([NewPartitions(topic, 2)])[topic].result(60)
        until(lambda: len(admin.list_topics(topic, timeout=60).topics[topic].partitions) == 2, 20)
        put(settings, topic, "new partition", partition=1)
        assert sorted(follower.saw(2)) == ["new partition", "old partition"]


def test_leaves_no_group_behind(settings: KafkaSettings, make_topic: Callable[..., str]) -> None:
    topic = make_topic("scores")
    put(settings, topic, "a")
    values(settings, topic, "beginning")
    admin = client.admin(settings)
    groups = admin.list_consumer_groups().result(60).valid
    assert [group.group_id for group in groups if group.group_id == "muse-stream-reader"] == []


def test_missing_topic_is_said(settings: KafkaSettings, unique: Callable[[str], str]) -> None:
    with pytest.raises(Fatal, match="there is no topic"):
        list(follow(settings, unique("absent"), "beginning", until_end=True))


def test_records_behind_an_open_transaction_are_said_at_the_end(
    kafka: Broker, unique: Callable[[str], str], make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    told: list[tuple[int, int, int]] = []
    settings = KafkaSettings(bootstrap=kafka.bootstrap)
    for held in open_transaction(kafka.bootstrap, unique("open"), topic):
        seen = follow(settings, topic, "beginning", until_end=True, hidden=lambda *place: told.append(place))
        assert sum(len(records) for records in seen) == held
    assert told == [(0, held + 1, held + 2)]
