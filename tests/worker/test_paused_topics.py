"""Paused topics: one tenant's trouble pauses that tenant, is logged once, and ends by itself."""

import pytest

from muse_stream.errors import Retriable
from muse_stream.kafka import TopicsSeen
from muse_stream.worker.batch import Topology
from muse_stream.worker.cures import Cures
from muse_stream.worker.paused_topics import REFRESH_S, RETRY_S, PausedTopics
from tests.worker.doubles import Clock, ListLog

TOPOLOGY = Topology(
    {"events.a": frozenset({"scores.a", "dlq"}), "events.b": frozenset({"scores.b", "dlq"})},
    {"events.a": "dlq", "events.b": "dlq"},
)
ALL = {"events.a": 2, "events.b": 2, "scores.a": 2, "scores.b": 4, "dlq": 1}


class Cluster:
    def __init__(self) -> None:
        self.topics: dict[str, int] = dict(ALL)
        self.silent = False
        self.leaderless: frozenset[tuple[str, int]] = frozenset()
        self.asked = 0

    def __call__(self) -> TopicsSeen:
        self.asked += 1
        if self.silent:
            raise Retriable("nobody answers")
        return TopicsSeen(dict(self.topics), self.leaderless)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> ListLog:
    return ListLog()


@pytest.fixture
def gate(cluster: Cluster, clock: Clock, log: ListLog) -> PausedTopics:
    return PausedTopics(cluster, log, Cures(), clock=clock)


def test_everything_there_blocks_nothing(gate: PausedTopics) -> None:
    assert not gate.review(TOPOLOGY)
    assert gate.paused_now == frozenset()
    assert (gate.partitions("scores.b"), gate.partitions("elsewhere")) == (4, 0)


def test_an_event_topic_that_cannot_be_seen_is_said_and_goes_on_when_it_can(
    gate: PausedTopics, cluster: Cluster, clock: Clock, log: ListLog
) -> None:
    """A lost READ hides it: without this the tenant would only fall silent."""
    del cluster.topics["events.a"]
    assert gate.review(TOPOLOGY)
    assert gate.paused_now == {"events.a"}
    assert "permission" in log.said("tenant_paused")[0]["error"]
    cluster.topics["events.a"] = 2
    clock.now += RETRY_S
    assert gate.review(TOPOLOGY)
    assert [facts["topic"] for facts in log.said("tenant_resumed")] == ["events.a"]


def test_missing_output_blocks_its_event_topic_alone_and_says_so_once(
    gate: PausedTopics, cluster: Cluster, clock: Clock, log: ListLog
) -> None:
    del cluster.topics["scores.a"]
    assert gate.review(TOPOLOGY)
    assert gate.paused_now == {"events.a"}
    for _ in range(5):
        clock.now += RETRY_S
        assert not gate.review(TOPOLOGY)
    assert [facts["topic"] for facts in log.said("tenant_paused")] == ["events.a"]
    assert "scores.a" in log.said("tenant_paused")[0]["error"]


def test_goes_on_when_the_topic_is_there(gate: PausedTopics, cluster: Cluster, clock: Clock, log: ListLog) -> None:
    cluster.topics.pop("scores.a")
    gate.review(TOPOLOGY)
    cluster.topics["scores.a"] = 2
    assert not gate.review(TOPOLOGY), "not before it is time"
    clock.now += RETRY_S
    assert gate.review(TOPOLOGY)
    assert gate.paused_now == frozenset()
    assert log.said("tenant_resumed") == [{"topic": "events.a"}]


def test_a_shared_output_blocks_all_that_need_it(gate: PausedTopics, cluster: Cluster) -> None:
    del cluster.topics["dlq"]
    gate.review(TOPOLOGY)
    assert gate.paused_now == {"events.a", "events.b"}


def test_a_complaint_blocks_until_its_next_trial(gate: PausedTopics, clock: Clock) -> None:
    gate.review(TOPOLOGY)
    gate.pause("events.b", "no permission")
    assert gate.review(TOPOLOGY), "a report does not wait for the next look"
    assert gate.paused_now == {"events.b"}
    clock.now += RETRY_S + 0.1
    assert gate.review(TOPOLOGY)
    assert gate.paused_now == frozenset()


def test_a_long_complaint_outlives_the_usual_trials(gate: PausedTopics, clock: Clock) -> None:
    gate.pause("events.b", "offset lost", retry_s=60)
    for _ in range(10):
        gate.review(TOPOLOGY)
        assert gate.paused_now == {"events.b"}
        clock.now += RETRY_S
    clock.now += 60
    assert gate.review(TOPOLOGY)


def test_asks_rarely_while_all_is_well_and_often_while_not(gate: PausedTopics, cluster: Cluster, clock: Clock) -> None:
    gate.review(TOPOLOGY)
    clock.now += REFRESH_S - 1
    gate.review(TOPOLOGY)
    assert cluster.asked == 1
    clock.now += 1
    del cluster.topics["scores.a"]
    gate.review(TOPOLOGY)
    clock.now += RETRY_S
    gate.review(TOPOLOGY)
    assert cluster.asked == 3


def test_a_silent_cluster_changes_nothing_that_was_known(gate: PausedTopics, cluster: Cluster, clock: Clock) -> None:
    gate.review(TOPOLOGY)
    cluster.silent = True
    clock.now += REFRESH_S
    assert not gate.review(TOPOLOGY)
    assert gate.paused_now == frozenset()
    assert gate.partitions("scores.a") == 2


def test_never_seen_means_nothing_may_be_read(gate: PausedTopics, cluster: Cluster, clock: Clock) -> None:
    cluster.silent = True
    assert gate.review(TOPOLOGY)
    assert gate.paused_now == {"events.a", "events.b"}
    cluster.silent = False
    clock.now += RETRY_S
    assert gate.review(TOPOLOGY)
    assert gate.paused_now == frozenset()


def test_a_topic_on_trial_is_paused_still_until_it_has_proved_well(
    gate: PausedTopics, clock: Clock, log: ListLog
) -> None:
    """It is read again every few seconds only to fail: who watches must not see it well in between."""
    gate.review(TOPOLOGY)
    gate.pause("events.b", "no permission")
    for failed in range(3):
        gate.review(TOPOLOGY)
        assert gate.paused_now == gate.paused == {"events.b"}
        clock.now += RETRY_S * 2**failed + 0.1
        gate.review(TOPOLOGY)
        assert gate.paused_now == frozenset()
        assert gate.trial == gate.paused == {"events.b"}
        gate.pause("events.b", "no permission")
    assert log.said("tenant_paused") == [{"topic": "events.b", "error": "no permission", "hint": ""}], "said once"
    assert log.said("tenant_resumed") == []
    clock.now += RETRY_S * 2**3 + 0.1
    gate.review(TOPOLOGY)
    gate.proved(["events.a", "events.b"])
    assert (gate.trial, gate.paused) == (frozenset(), frozenset())
    assert log.said("tenant_resumed") == [{"topic": "events.b"}]
    gate.pause("events.b", "no permission")
    assert len(log.said("tenant_paused")) == 2, "and again when it begins again"


def test_another_reason_is_said(gate: PausedTopics, log: ListLog) -> None:
    gate.pause("events.b", "no permission")
    gate.pause("events.b", "offset lost")
    assert [facts["error"] for facts in log.said("tenant_paused")] == ["no permission", "offset lost"]


def test_a_topic_that_is_served_no_more_is_on_no_trial(gate: PausedTopics, clock: Clock) -> None:
    gate.review(TOPOLOGY)
    gate.pause("events.b", "no permission")
    gate.review(TOPOLOGY)
    clock.now += RETRY_S + 0.1
    gate.review(Topology({"events.a": frozenset({"scores.a"})}, {"events.a": "dlq"}))
    assert gate.paused == frozenset()
