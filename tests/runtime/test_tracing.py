"""Which events get a span, what it says, and that the others cost nothing."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from muse_stream.config import load_document
from muse_stream.runtime.batch_scorer import build_scorer
from muse_stream.runtime.tracing import MOST_A_SECOND, EventTracer, drawn_rows
from muse_stream.telemetry import Spans
from muse_stream.worker.batch import Batch, Records
from tests.integration.bank import Bank
from tests.otlp_receiver import Collector, attributes
from tests.runtime.test_batch_scorer import batch, changed, event
from tests.worker.doubles import ListLog

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
YES, NO = ([("traceparent", f"00-{TRACE}-{SPAN}-{flags}".encode())] for flags in ("01", "00"))
ZERO = f"00-{'0' * 32}-{SPAN}-01".encode()
"""Of no trace, though it says that it is sampled."""
Tracing = Callable[..., EventTracer]


class Message:
    """What is asked of a Kafka message: its headers, and how often."""

    read = 0

    def __init__(self, headers: Any) -> None:
        self._headers = headers

    def headers(self) -> Any:
        Message.read += 1
        return self._headers


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def tracing(collector: Collector) -> Iterator[Tracing]:
    made: list[Spans] = []

    def make(ratio: float, clock: Callable[[], float] = lambda: 1.0) -> EventTracer:
        made.append(Spans({}, ListLog()))
        return EventTracer(made[-1], "muse.main.live", ratio, clock)

    yield make
    for one in made:
        one.close()


def begin(tracer: EventTracer, of: Batch, answer: Records) -> Any:
    Message.read = 0
    messages: Any = [Message(headers) for headers in of.headers()]
    return tracer.begin(of, messages, answer, generation=7, attempt=3, began_ns=10**18)


def plain(count: int, headers: Any = None) -> tuple[Batch, Records]:
    of = batch(["events"] * count, [b"v"] * count, headers)
    return of, Records(list(range(count)), ["scores"] * count, [b"s"] * count)


def test_a_share_of_events_is_drawn_the_same_ones_everywhere() -> None:
    offsets = list(range(5_000_000_000, 5_000_100_000))
    partitions = [offset % 3 for offset in offsets]
    drawn = drawn_rows(partitions, offsets, 0.01)
    assert 900 < len(drawn) < 1_100
    assert drawn_rows(partitions[50_000:], offsets[50_000:], 0.01) == [row - 50_000 for row in drawn if row >= 50_000]
    assert set(drawn) < set(drawn_rows(partitions, offsets, 0.02))
    assert drawn_rows([0, 0], [1, 2], 0.0) == []
    assert drawn_rows([0, 0], [1, 2], 1.0) == [0, 1]
    assert drawn_rows([0] * 1000, list(range(1000)), 0.5) != drawn_rows([1] * 1000, list(range(1000)), 0.5)


def test_headers_of_events_that_are_not_drawn_are_not_read(tracing: Tracing) -> None:
    of, answer = plain(1_000, [YES] * 1_000)
    drawn = drawn_rows(of.partitions, of.offsets, 0.01)
    traced = begin(tracing(0.01), of, answer)
    assert 0 < Message.read == len(drawn)
    assert set(traced.traceparents) == set(drawn)
    assert begin(tracing(0.0), of, answer) is None
    assert Message.read == 0


def test_what_the_producer_decided_is_honoured(tracing: Tracing) -> None:
    of, answer = plain(5, [YES, NO, [], [("traceparent", b"garbage")], [("traceparent", ZERO)]])
    assert set(begin(tracing(1.0), of, answer).traceparents) == {0, 2, 3, 4}
    assert begin(tracing(0.0), of, answer) is None, "nobody reads the headers of these events"
    passing = Records(answer.rows, answer.topics, answer.values, passed={"events": frozenset({"traceparent"})})
    assert set(begin(tracing(0.0), of, passing).traceparents) == {0}, "they are read anyway"
    elsewhere = Records(answer.rows, answer.topics, answer.values, passed={"other": frozenset({"traceparent"})})
    assert begin(tracing(0.0), of, elsewhere) is None


def test_a_batch_that_is_not_committed_is_never_seen(tracing: Tracing, collector: Collector) -> None:
    tracer = tracing(1.0)
    of, answer = plain(1, [YES])
    aborted = begin(tracer, of, answer)
    again = begin(tracer, of, answer)
    again.stages({"decode": 0.1, "score": 0.2, "encode": 0.1, "wait": 0.0, "send": 0.1})
    again.committed(0.25, 10**9 + 2.0)
    collector.wait_for("batch", 1)
    (seen,) = collector.named("score events")
    assert again.traceparents == {0: f"00-{TRACE}-{seen.span_id.hex()}-01".encode()}
    assert aborted.traceparents != again.traceparents
    (whole,) = collector.named("batch")
    assert [link.span_id for link in seen.links] == [whole.span_id]
    stages = {one.name: one for one in collector.spans if one.parent_span_id == whole.span_id}
    assert list(stages) == ["decode", "score", "encode", "wait", "send", "commit"]
    began = [round((one.start_time_unix_nano - 10**18) / 1e9, 2) for one in stages.values()]
    assert began == [0.0, 0.1, 0.3, 0.4, 0.4, 1.75]
    assert (seen.start_time_unix_nano, seen.end_time_unix_nano) == (10**18, 10**18 + 2 * 10**9)


def test_more_than_a_worker_may_make_get_none(tracing: Tracing) -> None:
    now = [1.0]
    tracer = tracing(1.0, lambda: now[0])
    of, answer = plain(1_000)
    first = begin(tracer, of, answer)
    assert 0 < len(first.traceparents) < MOST_A_SECOND
    assert begin(tracer, of, answer) is None
    assert tracer.counts()["limited"] == 2_000 - len(first.traceparents)
    now[0] = 2.0
    assert len(begin(tracer, of, answer).traceparents) == len(first.traceparents)


@pytest.mark.parametrize("role", ["live", "shadow"])
def test_a_span_says_who_and_what_and_nothing_that_was_in_the_event(
    role: Any, bank: Bank, tracing: Tracing, collector: Collector
) -> None:
    def with_channel(document: Any) -> None:
        document["events"]["payment"]["intent"] = {"channel": {"header": "channel"}}

    path = changed(bank.document(), with_channel)
    scorer = build_scorer(load_document(path), 7, role, bank.name)
    values = [event(bank, id="secret-id", amount=31337.25), b"secret bytes", event(bank, tenant="t1")]
    topics = [bank.topic("events", tenant) for tenant in ("t0", "t0", "t1")]
    of = batch(topics, values, [[*YES, ("channel", b"web")], [], []])
    begin(tracing(1.0), of, scorer.score(of, 3)).committed(None, 2 * 10**9)
    collector.wait_for("batch", 1)
    first, second, third = (attributes(one) for one in collector.named("score "))
    assert first == {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "score",
        "messaging.consumer.group.name": "muse.main.live",
        "messaging.destination.name": topics[0],
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0,
        "muse.generation": 7,
        "muse.attempt": 3,
        "muse.tenant": "t0",
        "muse.intent.channel": "web",
        "muse.predictor": "plain",
        "muse.predictor.version": 1,
        **({"muse.shadow_predictors": ["retrained"]} if role == "shadow" else {}),
    }
    assert (third["muse.tenant"], third["muse.predictor"]) == ("t1", "plain")
    assert "muse.predictor" not in second
    failed = collector.named("score ")[1].status
    assert failed.message == ("dead letter: undecodable, at decode" if role == "live" else "")
    sent = b"".join(collector.bodies)
    assert b"secret" not in sent
    assert b"31337" not in sent


def test_parts_of_a_batch_that_was_halved_tell_of_their_own_rows(
    bank: Bank, tracing: Tracing, collector: Collector
) -> None:
    """As when an exception nobody foresaw is isolated: rows are counted from where each part begins."""
    scorer = build_scorer(load_document(bank.document()), 7, "live", bank.name)
    names = ["t0", "t1", "t0", "t1", "t1"]
    of = batch([bank.topic("events", name) for name in names], [event(bank, tenant=name) for name in names])
    score = scorer._score

    def fails_whole(some: Batch, attempt: int) -> Records:
        if len(some) > 2:
            raise RuntimeError("only of this size")
        return score(some, attempt)

    scorer._score = fails_whole  # type: ignore[method-assign, assignment]
    begin(tracing(1.0), of, scorer.score(of, 1)).committed(None, 2 * 10**9)
    collector.wait_for("batch", 1)
    assert [attributes(one)["muse.tenant"] for one in collector.named("score ")] == names
