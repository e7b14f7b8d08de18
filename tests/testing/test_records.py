"""The test kit's producer and reader: all records, in order, and committed ones only."""

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from muse_stream.testing import Broker, CommittedReader, ToSend, produce, spread
from tests.patience import until

MakeTopic = Callable[..., str]
Unique = Callable[[str], str]


def test_records_are_spread_round_robin_in_runs() -> None:
    values = [b"%d" % number for number in range(6)]
    assert [one.partition for one in spread("t", values, 2)] == [0, 1, 0, 1, 0, 1]
    assert [one.partition for one in spread("t", values, 2, run=2)] == [0, 0, 1, 1, 0, 0]
    assert [one.value for one in spread("t", values, 2)] == values


def test_what_was_produced_is_read_in_the_order_of_each_partition(kafka: Broker, make_topic: MakeTopic) -> None:
    topic, other = make_topic("records", partitions=3), make_topic("records")
    records = [ToSend(topic, n % 3, b"%d" % n, b"k%d" % n, {"n": str(n)}) for n in range(300)]
    produce(kafka.bootstrap, [*records, ToSend(other, 0, None)])
    with CommittedReader(kafka.bootstrap, {topic: 3, other: 1}) as reader:
        found = reader.read_to_end()
        assert reader.read_to_end() == [], "each record once"
    assert len(found) == 301
    for partition in range(3):
        values = [one.value() for one in found if (one.topic(), one.partition()) == (topic, partition)]
        assert values == [b"%d" % n for n in range(partition, 300, 3)]
    (first,) = [one for one in found if one.topic() == topic and one.value() == b"0"]
    assert (first.key(), first.headers()) == (b"k0", [("n", b"0")])
    assert [one.value() for one in found if one.topic() == other] == [None]


def test_only_committed_records_are_read(kafka: Broker, make_topic: MakeTopic, unique: Unique) -> None:
    topic = make_topic("records")
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": unique("id")})
    producer.init_transactions(60)
    with CommittedReader(kafka.bootstrap, {topic: 1}) as reader:
        for number, end in enumerate([producer.commit_transaction, producer.abort_transaction]):
            producer.begin_transaction()
            producer.produce(topic, b"%d" % number, partition=0)
            assert producer.flush(60) == 0
            assert reader.read(0.3) == [], "the transaction is open"
            end(60)
            until(lambda n=number: reader.ends() == {(topic, 0): 2 * n + 2}, 20)  # type: ignore[misc]  # the marker too
            assert [one.value() for one in reader.read_to_end()] == ([b"0"] if number == 0 else [])


def test_an_end_that_does_not_come_is_an_error(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = make_topic("records", partitions=2)
    produce(kafka.bootstrap, spread(topic, [b"x"] * 4, 2))
    said = rf"within 1 s: \[\('{topic}', 1\)\]"
    with CommittedReader(kafka.bootstrap, {topic: 2}) as reader:
        assert len(reader.read_to_end()) == 4
        with pytest.raises(TimeoutError, match=said):
            reader.read_to_end({(topic, 0): 2, (topic, 1): 3}, timeout_s=1)


def test_a_record_that_the_broker_refuses_is_an_error(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = make_topic("records", **{"max.message.bytes": "1000"})
    with pytest.raises(KafkaException, match="MSG_SIZE_TOO_LARGE"):
        produce(kafka.bootstrap, spread(topic, [b"x", b"x" * 5_000, b"x"]))


def test_more_records_than_the_producer_s_queue_holds(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = make_topic("records")
    produce(kafka.bootstrap, spread(topic, [b"x"] * 5_000), {"queue.buffering.max.messages": 100})
    with CommittedReader(kafka.bootstrap, {topic: 1}) as reader:
        assert len(reader.read_to_end()) == 5_000


def test_records_that_nobody_takes_are_an_error() -> None:
    with pytest.raises(TimeoutError, match="1 records are not taken"):
        produce("127.0.0.1:1", spread("t", [b"x"]), {"log_level": 0}, timeout_s=0.2)


def test_records_that_are_gone_do_not_go_unnoticed(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = make_topic("records")
    produce(kafka.bootstrap, spread(topic, [b"x"] * 5))
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    deleted = admin.delete_records([TopicPartition(topic, 0, 3)])
    [answer.result(60) for answer in deleted.values()]
    with (
        CommittedReader(kafka.bootstrap, {topic: 1}) as reader,
        pytest.raises(KafkaException, match="offset"),
    ):
        reader.read_to_end()
    with CommittedReader(kafka.bootstrap, {topic: 1}, {"log_level": 0}, tolerant=True) as reader:
        assert reader.read(1.0) == []
