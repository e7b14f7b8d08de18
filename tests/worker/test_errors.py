"""What each of Kafka's errors makes of a transaction, by injection into librdkafka's mock cluster."""

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Abortable, Fatal, Fenced, Retriable, StreamError
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.deliveries import Undelivered
from muse_stream.kafka.errors import typed
from muse_stream.kafka.transactional_producer import NOT_QUEUED, TransactionalProducer, open_producer
from muse_stream.worker import commit
from muse_stream.worker.commit import Committer, Pending
from muse_stream.worker.failpoints import nothing
from tests.worker.mock_cluster import ADD_PARTITIONS, END_TXN, PRODUCE, TXN_OFFSET_COMMIT, MockCluster, mock_cluster

TOPIC = "scores"


@pytest.fixture(scope="module")
def mock() -> Iterator[MockCluster]:
    with mock_cluster() as running:
        yield running


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again comes to an end on a busy machine, too."""
    monkeypatch.setattr(commit, "BUDGET_S", 60.0)
    monkeypatch.setattr(commit, "OVERDUE_S", 90.0)


@pytest.fixture
def metadata(mock: MockCluster) -> Any:
    consumer = Consumer({"bootstrap.servers": mock.bootstrap, "group.id": "g"})
    found = consumer.consumer_group_metadata()
    consumer.close()
    return found


def outcome(mock: MockCluster, metadata: Any, name: str) -> tuple[type[StreamError] | None, str | None, str | None]:
    """Run one batch through a committer; returns the failure's type, code and topic."""
    settings = KafkaSettings(bootstrap=mock.bootstrap)
    committer = Committer(
        lambda half: open_producer(settings, f"{name}-{half}", Deadline(60)), nothing, lambda _committed: None
    )
    producer = committer.begin()
    producer.produce(TOPIC, b"x", None, 0)
    committer.submit(Pending({(TOPIC, 0): 0}, {(TOPIC, 0): 1}, metadata, 1, 1))
    committer.drain(Deadline(120))
    failure = committer.failure
    committer.close()
    if failure is None:
        return None, None, None
    kind = Abortable if isinstance(failure[0], Undelivered) else type(failure[0])
    return kind, failure[0].code, failure[0].topic


@pytest.mark.parametrize(
    ("api", "error", "kind", "code"),
    [
        (TXN_OFFSET_COMMIT, KafkaError.ILLEGAL_GENERATION, Abortable, "ILLEGAL_GENERATION"),
        (TXN_OFFSET_COMMIT, KafkaError.UNKNOWN_MEMBER_ID, Abortable, "UNKNOWN_MEMBER_ID"),
        (TXN_OFFSET_COMMIT, KafkaError.FENCED_INSTANCE_ID, Abortable, "FENCED_INSTANCE_ID"),
        (TXN_OFFSET_COMMIT, KafkaError.REBALANCE_IN_PROGRESS, Abortable, "REBALANCE_IN_PROGRESS"),
        (TXN_OFFSET_COMMIT, KafkaError.GROUP_AUTHORIZATION_FAILED, Abortable, "GROUP_AUTHORIZATION_FAILED"),
        (TXN_OFFSET_COMMIT, KafkaError.NOT_COORDINATOR, None, None),
        (END_TXN, KafkaError.PRODUCER_FENCED, Fenced, "_FENCED"),
        (END_TXN, KafkaError.INVALID_PRODUCER_EPOCH, Fenced, "_FENCED"),
        (END_TXN, KafkaError.INVALID_TXN_STATE, Fatal, "INVALID_TXN_STATE"),
        (END_TXN, KafkaError.COORDINATOR_NOT_AVAILABLE, None, None),
        (PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE, Abortable, "MSG_SIZE_TOO_LARGE"),
        (PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED, Abortable, "TOPIC_AUTHORIZATION_FAILED"),
        (PRODUCE, KafkaError.UNKNOWN_PRODUCER_ID, Abortable, "UNKNOWN_PRODUCER_ID"),
        (PRODUCE, KafkaError.NOT_ENOUGH_REPLICAS, None, None),
        (PRODUCE, KafkaError.INVALID_PRODUCER_EPOCH, Fenced, "_FENCED"),
        (ADD_PARTITIONS, KafkaError.TOPIC_AUTHORIZATION_FAILED, Abortable, "TOPIC_AUTHORIZATION_FAILED"),
        (ADD_PARTITIONS, KafkaError.UNKNOWN_TOPIC_OR_PART, None, None),
    ],
)
@pytest.mark.usefixtures("patient")
def test_the_table(
    mock: MockCluster, metadata: Any, api: int, error: int, kind: type[StreamError] | None, code: str | None
) -> None:
    mock.fail(api, error)
    found = outcome(mock, metadata, f"table-{api}-{error}")
    assert found[:2] == (kind, code)
    assert found[2] == (TOPIC if api in (PRODUCE, ADD_PARTITIONS) and kind is Abortable else None)


def test_a_topic_that_is_refused_among_others_is_no_lateness(mock: MockCluster) -> None:
    """librdkafka takes all records of the transaction back then: none of the others is to blame, or late."""
    settings = KafkaSettings(bootstrap=mock.bootstrap)
    for number, finish in enumerate((lambda one: one.flush(Deadline(60)), put_until_refused)):
        producer = open_producer(settings, f"among-{number}", Deadline(60))
        producer.begin()
        mock.fail(ADD_PARTITIONS, KafkaError.TOPIC_AUTHORIZATION_FAILED)
        mock.answer_late(1, 2_000)  # or the first is refused before there are others
        for topic in (TOPIC, "others"):
            producer.produce(topic, b"x", None, 0)
        mock.answer_late(1, 0)
        with pytest.raises(Abortable) as found:
            finish(producer)
        assert (found.value.code, found.value.topic) == ("TOPIC_AUTHORIZATION_FAILED", None)
        producer.discard()


def put_until_refused(producer: TransactionalProducer) -> None:
    """Produce further records, as the worker does: what comes first says why none is taken any more."""
    deadline = Deadline(30)
    while not deadline.over:
        try:
            producer.produce(TOPIC, b"x", None, 0)
        except NOT_QUEUED as error:
            producer.retry(error, TOPIC, b"x", None, 0)


@pytest.mark.usefixtures("patient")
def test_a_producer_that_failed_is_followed_by_one_that_works(mock: MockCluster, metadata: Any) -> None:
    mock.fail(END_TXN, KafkaError.INVALID_TXN_STATE)
    assert outcome(mock, metadata, "again")[0] is Fatal
    assert outcome(mock, metadata, "again") == (None, None, None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KafkaError(KafkaError._FENCED, "x", fatal=True), Fenced),
        (KafkaError(KafkaError.ILLEGAL_GENERATION, "x", txn_requires_abort=True), Abortable),
        (KafkaError(KafkaError._TIMED_OUT, "x", retriable=True), Retriable),
        (KafkaError(KafkaError._STATE, "no flag at all"), Fatal),
        # fatal outranks the others, whatever else is said
        (KafkaError(KafkaError._FENCED, "x", fatal=True, retriable=True, txn_requires_abort=True), Fenced),
        (KafkaError(KafkaError._TIMED_OUT, "x", retriable=True, txn_requires_abort=True), Abortable),
    ],
)
def test_flags_alone_decide(error: KafkaError, kind: type[StreamError]) -> None:
    for given in (error, KafkaException(error)):
        found = typed(given)
        assert type(found) is kind
        assert found.code == error.name()


def test_an_exception_that_carries_no_error_is_fatal() -> None:
    assert type(typed(KafkaException("odd"))) is Fatal


def test_nobody_there_is_retriable_within_the_deadline() -> None:
    deadline = Deadline(1.0)
    with pytest.raises(Retriable, match="not initialised in time"):
        open_producer(KafkaSettings(bootstrap="127.0.0.1:1"), "nobody", deadline)
    assert deadline.over


def test_r20_a_call_that_outlives_its_timeout_fails_its_transaction() -> None:
    """librdkafka issue 5456: `send_offsets_to_transaction` waits for a coordinator that is away for ever."""
    with mock_cluster(brokers=2) as mock:
        consumer = Consumer({"bootstrap.servers": mock.bootstrap, "group.id": "g"})
        metadata = consumer.consumer_group_metadata()
        consumer.close()
        mock.lead(TOPIC, 0, broker=1)
        for half in (0, 1):
            mock.coordinate("transaction", f"away-{half}", broker=1)
        mock.coordinate("group", "g", broker=2)
        mock.take_down(2)
        assert outcome(mock, metadata, "away") == (Abortable, "_TIMED_OUT", None)
