"""One tenant's partition takes no records (no leader, too few in-sync replicas): that tenant waits, the others go on.

Two brokers; the second leads partitions that the first does not have, or is needed for their minimum of in-sync
replicas. The test's own reader counts: nothing is missing, doubled or out of order afterwards.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.local_cluster import LocalCluster
from muse_stream.worker import stalled
from tests.worker.doubles import Echo, Route, await_true
from tests.worker.rig import Ledger, expected, ledger, produce, running

# two brokers and a controller; test_paused_topics.py has the rules, test_loop_topics.py the waiting on one broker
pytestmark = [pytest.mark.broker, pytest.mark.long, pytest.mark.timeout(600)]

AWAY = 1
"""The node that goes away; its broker's number is one more."""
BOTH, ALONE, PAIR = [1, 2], [2], [2, 1]
Unique = Callable[[str], str]


@dataclass
class Two:
    """Two brokers and their topics."""

    cluster: LocalCluster
    unique: Unique

    def topic(self, prefix: str, replicas: list[int] = BOTH, **config: str) -> str:
        name = self.unique(prefix)
        wanted = NewTopic(name, num_partitions=1, replica_assignment=[replicas], config=config)
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.create_topics([wanted])[name].result(60)
        return name

    @property
    def bootstrap(self) -> str:
        return self.cluster.bootstrap

    def lose(self) -> None:
        self.cluster.kill([AWAY])

    def bring_back(self) -> None:
        self.cluster.restart([AWAY])


@pytest.fixture(scope="module", params=[None, pytest.param("4.3.1", marks=pytest.mark.slow)], ids=["", "4.3.1"])
def brokers(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    few = {"transaction.state.log.num.partitions": "3"}
    cluster = LocalCluster(PLACES, lambda _line: None, nodes=2, controllers=1, release=request.param, properties=few)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def two(brokers: LocalCluster, unique: Unique) -> Iterator[Two]:
    yield Two(brokers, unique)
    if not brokers.nodes[AWAY].running():
        brokers.restart([AWAY])


@dataclass
class Tenant:
    """A tenant and, where one is struck, which of its topics and why."""

    events: str
    route: Route
    struck: str = ""
    says: str = ""

    @property
    def refuses(self) -> bool:
        """Whether its events become dead letters while the partition takes no records."""
        return self.struck == self.route.dlq


def tenant(two: Two, which: str = "", how: dict[str, object] | None = None, says: str = "") -> Tenant:
    made = {kind: two.topic(kind, **(how or {} if kind == which else {})) for kind in ("scores", "dlq")}  # type: ignore[arg-type]
    return Tenant(two.topic("events"), Route(made["scores"], made["dlq"]), made.get(which, ""), says)


LEADERLESS: tuple[dict[str, object], str] = ({"replicas": ALONE}, "no leader")
BELOW_MINIMUM: tuple[dict[str, object], str] = ({"replicas": PAIR, "min.insync.replicas": "2"}, "in-sync")


@pytest.mark.parametrize(
    ("scores", "letters"),
    [
        pytest.param(LEADERLESS, BELOW_MINIMUM, id="scores without a leader, dead letters below the minimum"),
        pytest.param(
            *(BELOW_MINIMUM, LEADERLESS),
            id="scores below the minimum of in-sync replicas, dead letters without a leader",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_topic_that_takes_no_records_makes_its_tenant_wait_and_no_other(
    two: Two, unique: Unique, scores: tuple[dict[str, object], str], letters: tuple[dict[str, object], str]
) -> None:
    struck, other = [tenant(two, "scores", *scores), tenant(two, "dlq", *letters)], tenant(two)
    letters_of = {one.route.dlq for one in struck if one.refuses}
    echo = Echo({one.events: one.route for one in (*struck, other)}, refuse=lambda value: value == b"bad")

    def send(one: Tenant, values: list[bytes]) -> None:
        produce(two.bootstrap, one.events, values)

    with running(two.bootstrap, unique("lane"), echo) as ours, everything(two, [*struck, other]) as answers:
        for one in (*struck, other):
            send(one, [b"x"] * 20)
        answers.until(60)
        two.lose()
        for one in struck:
            send(one, [b"bad" if one.refuses else b"x"] * 10)
        send(other, [b"x"] * 200)
        both = {one.events for one in struck}
        await_true(lambda: {line["topic"] for line in ours.log.said("tenant_paused")} == both, "both wait", 60.0)
        said = {line["topic"]: line["error"] for line in ours.log.said("tenant_paused")}
        for one in struck:
            assert (one.struck in said[one.events], one.says in said[one.events]) == (True, True), said
        answers.until(60 + 200, 60.0)
        aborts = len(ours.meter.aborts)
        for _ in range(5):
            send(other, [b"x"] * 20)
            answers.until(len(answers.messages) + 20)
        assert len(ours.meter.aborts) == aborts, "the others are not disturbed while they wait"
        assert {line["topic"] for line in ours.log.said("tenant_paused")} == both
        two.bring_back()
        answers.until(60 + 200 + 100 + 20, 60.0)
        for one in (*struck, other):
            send(one, [b"x"] * 20)
        answers.until(60 + 200 + 100 + 20 + 60, 60.0)
        await_true(lambda: {line["topic"] for line in ours.log.said("tenant_resumed")} == both, "said that both go on")
        ours.stop()
        answers.to_end()
        sent = [expected(one.events, 50) for one in struck] + [expected(other.events, 340)]
        assert answers.answers() == sent[0] | sent[1] | sent[2]
        assert answers.disorder() == []
        assert {one.topic() for one in answers.messages} & letters_of == letters_of


@pytest.mark.slow  # half a minute; test_stalled.py has the short forms
def test_r25_a_topic_that_is_made_anew_is_read_though_its_leader_had_moved(
    two: Two, unique: Unique, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka takes what it hears of the new topic's leaders for outdated: their epochs begin at 0 again."""
    route = Route(two.topic("scores"), two.topic("dlq"))
    events = two.topic("events", PAIR, **{"min.insync.replicas": "1"})
    admin = AdminClient({"bootstrap.servers": two.bootstrap})

    def made() -> bool:
        try:
            admin.create_topics([NewTopic(events, num_partitions=1, replica_assignment=[ALONE])])[events].result(60)
        except KafkaException as error:  # the older one is not quite gone
            assert "EXISTS" in str(error), error
            return False
        return True

    def known() -> bool:
        clients = [AdminClient({"bootstrap.servers": node.bootstrap}) for node in two.cluster.nodes]
        seen = [client.list_topics(events, timeout=60).topics[events].partitions for client in clients]
        return all(partitions and [partitions[0].leader] == ALONE for partitions in seen)

    with (
        running(two.bootstrap, unique("lane"), Echo({events: route})) as ours,
        ledger(two.bootstrap, **{route.scores: 1}) as answers,
    ):
        produce(two.bootstrap, events, [b"x"] * 10)
        answers.until(10)
        two.lose()
        produce(two.bootstrap, events, [b"x"] * 10)
        answers.until(20, 60.0)
        two.bring_back()
        admin.delete_topics([events])[events].result(60)
        await_true(made, "made anew")
        await_true(known, "each broker has heard of it: who has not takes records for the old one")
        produce(two.bootstrap, events, [b"y"] * 5, keyed=False)
        monkeypatch.setattr(stalled, "STALLED_S", 2.0)  # before, a busy machine would look like it
        monkeypatch.setattr(stalled, "EMPTY_S", 0.5)
        answers.until(25, 60.0)
        ours.stop()
        assert ours.log.said("reading_stalled")[0]["partitions"] == [f"{events}[0]"]
        assert [message.key() for message in answers.to_end().messages[20:]] == [None] * 5


def everything(two: Two, tenants: list[Tenant]) -> AbstractContextManager[Ledger]:
    topics = {topic: 1 for one in tenants for topic in (one.route.scores, one.route.dlq)}
    return ledger(two.bootstrap, **topics)
