"""Publishing: keys and partitions of the source, and which record is named when Kafka refuses."""

import random
import time
from collections.abc import Callable
from typing import Any, cast
from unittest.mock import create_autospec

import pytest
from confluent_kafka import KafkaError, KafkaException, Message
from msgspec.structs import replace

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Abortable, Fatal, Reason, Rejected, Stage, StreamError
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.deliveries import Deliveries
from muse_stream.kafka.transactional_producer import TransactionalProducer, open_producer
from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker.batch import Batch, DeadLetter, Records
from muse_stream.worker.send_records import BY_KEY, send_records
from tests.worker.doubles import raw

Unique = Callable[[str], str]
MakeTopic = Callable[..., str]


class Recording(TransactionalProducer):
    """A producer that keeps what it is given; may be full, or refuse. What it does about that is the real one's."""

    def __init__(self, refuse: list[Exception] | None = None, fault: StreamError | None = None) -> None:
        self.sent: list[tuple[str, bytes | None, bytes | None, int]] = []
        self.headers: list[Any] = []
        self._refuse, self._fault, self.waited = refuse or [], fault, 0

    def produce(  # type: ignore[override]
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        headers: Any = None,
        timestamp: int = 0,
    ) -> None:
        if self._refuse:
            raise self._refuse.pop(0)
        self.sent.append((topic, value, key, partition))
        self.headers.append(headers)

    def make_room(self, _timeout_s: float) -> None:
        self.waited += 1

    def fault(self) -> StreamError | None:
        return self._fault


def send(producer: Recording, batch: Batch, answer: Records, counts: dict[str, int], **more: Any) -> None:
    send_records(
        producer,
        batch,
        answer,
        lambda topic: counts.get(topic, 0),
        generation=1,
        attempt=9,
        worker="w",
        **more,
    )


def answers(batch: Batch, topic: str = "scores") -> Records:
    rows = list(range(len(batch)))
    return Records(rows, [topic] * len(rows), [b"%d" % row for row in rows])


@pytest.mark.parametrize(
    ("events", "scores", "keys", "partitions"),
    [
        pytest.param(4, 4, [b"k", None], [3, 1], id="equal counts keep the partition, key or not"),
        pytest.param(4, 3, [b"k", None], [BY_KEY, 1], id="else by key, and without one by partition modulo count"),
        pytest.param(4, 1, [None, None], [0, 0], id="all into one"),
        pytest.param(2, 8, [b"k", None], [BY_KEY, 1], id="more outputs than sources"),
        pytest.param(4, 0, [b"k", None], [BY_KEY, BY_KEY], id="an unknown topic is left to the broker"),
    ],
)
def test_partitions(events: int, scores: int, keys: list[bytes | None], partitions: list[int]) -> None:
    batch, producer = raw([b"a", b"b"], partitions=[3, 1], keys=keys), Recording()
    send(producer, batch, answers(batch), {"events": events, "scores": scores})
    assert [partition for *_rest, partition in producer.sent] == partitions
    assert [key for _topic, _value, key, _partition in producer.sent] == keys


def test_several_outputs_of_unlike_counts_each_go_their_way() -> None:
    batch, producer = raw([b"a"], partitions=[3], keys=[b"k"]), Recording()
    answer = Records([0, 0], ["same", "other"], [b"1", b"2"])
    send(producer, batch, answer, {"events": 4, "same": 4, "other": 5})
    assert [(topic, partition) for topic, _v, _k, partition in producer.sent] == [("same", 3), ("other", BY_KEY)]


def test_answers_get_the_headers_that_are_named_and_no_others() -> None:
    given: list[Any] = [[("traceparent", b"00-a"), ("x", b"1"), ("traceparent", b"00-b")], []]
    batch, producer = raw([b"a", b"b"], headers=given), Recording([BufferError("full")])
    send(producer, batch, replace(answers(batch), passed={"events": frozenset({"traceparent", "y"})}), {})
    assert producer.headers == [[("traceparent", b"00-a"), ("traceparent", b"00-b")], []]


def test_a_traceparent_that_goes_on_names_the_span_of_a_traced_event() -> None:
    sent: list[Any] = [[("traceparent", b"a"), ("x", b"1"), ("traceparent", b"b")], [("traceparent", b"c")], []]
    batch, span = raw([b"a", b"b", b"c"], headers=sent), {0: b"ours", 2: b"new"}
    for names, headers in (
        ({"traceparent", "x"}, [[("x", b"1"), ("traceparent", b"ours")], sent[1], [("traceparent", b"new")]]),
        ({"x"}, [[("x", b"1")], [], []]),
    ):
        producer = Recording()
        answer = replace(answers(batch), passed={"events": frozenset(names)})
        send(producer, batch, answer, {}, traceparents=span)
        assert producer.headers == headers


def test_headers_are_not_read_where_none_is_named() -> None:
    batch = replace(raw([b"a"]), headers=lambda: pytest.fail("reading them costs as much as the rest of a record"))
    producer = Recording()
    send(producer, batch, answers(batch), {})
    assert producer.headers == [None]


def test_dead_letter_keeps_bytes_key_and_null_value() -> None:
    batch, producer = raw([b"\x00raw", None], keys=[b"k", None], headers=[[("h", b"1")], []]), Recording()
    letters = [DeadLetter(Rejected(row, Reason.UNDECODABLE, Stage.DECODE, ""), "dlq") for row in (0, 1)]
    send(producer, batch, Records(dead=letters), {"events": 1, "dlq": 1})
    assert producer.sent == [("dlq", b"\x00raw", b"k", 0), ("dlq", None, None, 0)]
    assert producer.headers[0][0] == ("h", b"1")
    assert dict(producer.headers[1])["muse.attempt"] == b"9"


def test_waits_for_room_and_loses_nothing() -> None:
    batch, producer = raw([b"a", b"b"]), Recording([BufferError("full"), BufferError("full")])
    send(producer, batch, answers(batch), {"events": 1, "scores": 1})
    assert [value for _topic, value, *_rest in producer.sent] == [b"0", b"1"]
    assert producer.waited == 2


def test_names_the_topic_that_refused() -> None:
    batch = raw([b"a"])
    producer = Recording([KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))])
    with pytest.raises(Abortable) as raised:
        send(producer, batch, answers(batch), {"events": 1, "scores": 1})
    assert (raised.value.topic, raised.value.code) == ("scores", "_UNKNOWN_PARTITION")


def test_blames_the_record_that_was_refused_first() -> None:
    batch = raw([b"a"])
    first = Abortable("audit: too large", topic="audit", code="MSG_SIZE_TOO_LARGE")
    producer = Recording([KafkaException(KafkaError(KafkaError._STATE))], fault=first)
    with pytest.raises(Abortable) as raised:
        send(producer, batch, answers(batch), {"events": 1, "scores": 1})
    assert raised.value is first


class Reports:
    """A client whose transaction has failed, and whose report of the record comes some polls later."""

    def __init__(self, deliveries: Deliveries, after: int) -> None:
        self._deliveries, self._polls, self._after = deliveries, 0, after

    def poll(self, _timeout_s: float) -> int:
        self._polls += 1
        if self._polls == self._after:
            record = create_autospec(Message, instance=True)
            record.topic.return_value, record.partition.return_value = "small", 0
            self._deliveries(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), record)
        return 0

    def begin_transaction(self) -> None:
        raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "failed", txn_requires_abort=True))

    def produce(self, *_: object, **__: object) -> None:
        raise KafkaException(KafkaError(KafkaError._STATE))


def test_the_topic_is_named_where_the_report_of_the_record_comes_after_the_failure() -> None:
    deliveries = Deliveries()
    producer = TransactionalProducer(cast("Any", Reports(deliveries, after=3)), deliveries)
    batch = raw([b"a"])
    with pytest.raises(Abortable) as raised:
        send_records(producer, batch, answers(batch), lambda _t: 1, generation=1, attempt=1, worker="w")
    assert (raised.value.topic, raised.value.code) == ("small", "MSG_SIZE_TOO_LARGE")


# ---- TransactionalProducer on the real broker


def test_a_refused_record_is_told_at_once_with_its_topic(kafka: Broker, unique: Unique, make_topic: MakeTopic) -> None:
    small = make_topic("small", **{"max.message.bytes": "1000"})
    fine = make_topic("fine")
    producer = open_producer(KafkaSettings(bootstrap=kafka.bootstrap), unique("refused"), Deadline(60))
    producer.begin()
    producer.produce(small, random.Random(1).randbytes(10_000), None, 0)
    deadline = Deadline(200)
    batch = raw([b""] * 2_000)
    with pytest.raises(Abortable) as raised:  # the later records are what used to hold the flush up
        send_records(producer, batch, answers(batch, fine), lambda _t: 1, generation=1, attempt=1, worker="w")
        producer.flush(deadline)
    assert (raised.value.topic, raised.value.code) == (small, "MSG_SIZE_TOO_LARGE")
    assert deadline.left_s > 100, "what takes the later records back is no time-out"
    producer.discard()
    producer.discard()


def test_r5_a_predecessors_open_transaction_is_ended_quickly(
    kafka: Broker, unique: Unique, make_topic: MakeTopic
) -> None:
    settings, topic, name = KafkaSettings(bootstrap=kafka.bootstrap), make_topic("r5"), unique("r5")
    taken: list[float] = []
    held: list[TransactionalProducer] = []
    # librdkafka alone sleeps 0.5 s at the least: one that is quicker proves it, and a busy machine is asked again
    while len(held) < 4 or (min(taken[1:]) >= 0.45 and len(held) < 40):
        began = time.monotonic()
        producer = open_producer(settings, name, Deadline(60))
        taken.append(time.monotonic() - began)
        producer.begin()
        producer.produce(topic, b"x", None, 0)
        producer.flush(Deadline(60))
        held.append(producer)  # as after a crash: nobody aborts it
    assert min(taken[1:]) < 0.45, taken
    for producer in held:
        producer.discard()


def test_r8_being_fenced_is_fatal_and_has_one_name(kafka: Broker, unique: Unique, make_topic: MakeTopic) -> None:
    settings, topic, name = KafkaSettings(bootstrap=kafka.bootstrap), make_topic("r8"), unique("r8")
    for late in ("commit", "produce"):
        orphan = open_producer(settings, name, Deadline(60))
        orphan.begin()
        if late == "commit":
            orphan.produce(topic, b"x", None, 0)
            orphan.flush(Deadline(60))
        twin = open_producer(settings, name, Deadline(60))
        batch = raw([b"y"])
        with pytest.raises(Fatal) as raised:  # whichever call is the first to learn of it
            for _ in range(3):
                send_records(orphan, batch, answers(batch, topic), lambda _t: 1, generation=1, attempt=1, worker="w")
                orphan.flush(Deadline(60))
            orphan.commit(Deadline(60))
        assert raised.value.code == "_FENCED", late
        orphan.discard()
        twin.discard()
