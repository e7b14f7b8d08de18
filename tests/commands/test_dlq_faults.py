"""A replay that is ended, stopped, refused or done twice at once: every event is sent once, and it is said what was."""

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from muse_stream.cli.main import main
from muse_stream.commands import dlq_replay, dlq_survey
from muse_stream.commands.configuration import open_configuration
from muse_stream.commands.dlq import Carrying, Plan, Selection, plan_replay
from muse_stream.commands.dlq_replay import Replay, transactional_id
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Abortable, StreamError
from muse_stream.kafka import Deadline
from muse_stream.kafka.transactional_producer import TransactionalProducer, open_producer
from muse_stream.testing.kafka_broker import Broker
from tests.commands.letters import Desk, end_of
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.own_broker  # it is frozen
STEPS = ("after-produce", "after-flush", "before-commit", "after-commit")


def values(desk: Desk) -> list[bytes | None]:
    return [value for value, _ in desk.buried]


def planned(desk: Desk, **options: object) -> Plan:
    return plan_replay(open_configuration(desk.config), desk.settings, Selection(desk.tenant), **options)  # type: ignore[arg-type]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten events in a transaction."""
    monkeypatch.setattr(dlq_replay, "MOST_LETTERS", 10)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("after-produce", marks=pytest.mark.long),  # as before the commit, with less sent
        pytest.param("after-flush", marks=pytest.mark.slow),
        "before-commit",
        "after-commit",
    ],
)
def test_killed_at_any_step_and_started_again(desk: Desk, step: str) -> None:
    desk.bury(1_500)  # two transactions
    process = desk.start(failpoints=f"{step}=kill")
    assert desk.ended(process)[0] == -signal.SIGKILL
    done = desk.replay()["sent"]["sent"]
    if step == "after-commit":
        assert 0 < done < 1_500, "what was committed is not sent again"  # 500, but for a busy broker: it gets less
    else:
        assert done == 1_500
    desk.assert_once(values(desk))


@pytest.mark.slow  # each step by itself: the test before
def test_killed_again_and_again(desk: Desk) -> None:
    """Each process dies in its first or second transaction; each step is met somewhere."""
    desk.bury(3_500)
    for step in STEPS:
        desk.ended(desk.start("--yes", "--limit", "1200", failpoints=f"{step}=kill:0.6"))
    desk.ended(desk.start())
    desk.assert_once(values(desk))
    assert desk.states() == {"replayed": 3_500}


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("after-produce", marks=pytest.mark.slow),
        "before-commit",
        pytest.param("after-commit", marks=pytest.mark.long),  # a kill at that step is above
    ],
)
def test_interrupted_it_leaves_nothing_open_and_says_what_was_sent(desk: Desk, step: str) -> None:
    desk.bury(1_500)
    process = desk.start(failpoints=f"{step}=stop")
    desk.until_stopped(process)
    process.send_signal(signal.SIGINT)
    desk.resume(process)
    code, said = desk.ended(process)
    assert code == 130, said
    assert re.search(r"interrupted: .*the same command sends the rest", said), said
    sent = re.search(r"([\d,]+) of 1,500 events sent", said)
    assert sent and (sent[1] == "0") == (step != "after-commit"), said
    desk.arrived()  # comes to its end without waiting for a timeout
    desk.replay()
    desk.assert_once(values(desk))


def test_the_later_of_two_ends_the_earlier(desk: Desk) -> None:
    """The earlier stands in the middle of a transaction while the later sends all; then it finds nothing to do."""
    desk.bury(1_500)
    earlier = desk.start(failpoints="before-commit=stop:1")
    desk.until_stopped(earlier)
    assert desk.replay()["sent"]["sent"] == 1_500
    desk.resume(earlier)
    code, said = desk.ended(earlier)
    assert code in (0, 1), said
    assert "0 of 1,500 events sent" in said, said
    desk.assert_once(values(desk))


@pytest.mark.long  # the test before has two in an order that is given
def test_two_at_once(desk: Desk) -> None:
    """Whoever wins: every event is sent once, and who is ended says so."""
    desk.bury(3_000)  # three transactions
    ended = [desk.ended(process) for process in (desk.start(), desk.start("--yes", "--reason", "unknown-schema"))]
    desk.ended(desk.start())
    desk.assert_once(values(desk))
    for code, said in ended:
        assert code in (0, 1), said
        assert code == 0 or "another replay" in said, said


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("call", ["begin", "flush", "commit"])
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_a_call_that_fails_is_followed_by_another_try(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, call: str, done: bool
) -> None:
    """Whether it was carried out or not, the receipts tell; nothing is guessed."""
    desk.bury(35)
    plan = planned(desk)
    real, calls = getattr(TransactionalProducer, call), []

    def failing(self: TransactionalProducer, *arguments: object) -> None:
        calls.append(call)
        if len(calls) == 2 and not done:
            raise Abortable("planted", code="_TIMED_OUT")
        real(self, *arguments)
        if len(calls) == 2:
            raise Abortable("planted", code="_TIMED_OUT")

    monkeypatch.setattr(TransactionalProducer, call, failing)
    sent = Carrying(desk.settings, plan).run()
    assert (sent.sent, sent.elsewhere, sent.gone) == (35, 0, 0)
    desk.assert_once(values(desk))


@pytest.mark.usefixtures("small")
def test_what_guesses_is_found_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the test above: without a look at the receipts after a failure, events are doubled."""
    desk.bury(35)
    plan = planned(desk)
    commit, calls = TransactionalProducer.commit, []

    def failing(self: TransactionalProducer, *arguments: object) -> None:
        calls.append(1)
        commit(self, *arguments)  # type: ignore[arg-type]
        if len(calls) == 2:
            raise Abortable("planted", code="_TIMED_OUT")

    monkeypatch.setattr(TransactionalProducer, "commit", failing)
    monkeypatch.setattr(dlq_survey.Survey, "read_on", lambda self: None)
    Carrying(desk.settings, plan).run()
    with pytest.raises(AssertionError, match="doubled"):
        desk.assert_once(values(desk))


@pytest.mark.usefixtures("small")
def test_a_slow_producer_is_replaced(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dlq_replay, "SLOW_S", 0.0)
    opened = []

    def counted(settings: KafkaSettings, name: str, deadline: Deadline) -> TransactionalProducer:
        opened.append(name)
        return open_producer(settings, name, deadline)

    monkeypatch.setattr(dlq_replay, "open_producer", counted)
    desk.bury(25)
    assert Carrying(desk.settings, planned(desk)).run().sent == 25
    assert len(opened) >= 3  # one more for each that failed on a busy broker
    desk.assert_once(values(desk))


@pytest.mark.long  # the next test has a broker that is away
@pytest.mark.usefixtures("small")
def test_a_broker_that_is_away_for_a_while_is_waited_for(
    desk: Desk, kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen in the middle of a transaction, until the replay has noticed."""
    desk.bury(35)
    plan = planned(desk)
    noticed: list[StreamError] = []
    frozen: list[str] = []
    judge = Replay._judge

    def resumed(self: Replay, error: StreamError, idle_s: float) -> None:
        if frozen:
            kafka.resume()
            noticed.append(error)
        judge(self, error, idle_s)

    def freeze(step: str) -> None:
        if step == "after-produce" and not frozen:
            frozen.append(step)
            kafka.pause()

    monkeypatch.setattr(Replay, "_judge", resumed)
    try:
        sent = Replay(desk.settings, plan.found, plan.route, freeze).run(plan.rows)
    finally:
        kafka.resume()
    assert noticed
    assert sent.sent == 35
    desk.assert_once(values(desk))


@pytest.mark.usefixtures("small")
def test_a_broker_that_stays_away_is_said_with_what_was_sent(
    desk: Desk, kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.bury(35)
    plan, frozen = planned(desk), list[str]()

    def freeze(step: str) -> None:
        if step == "after-produce" and replay.outcome.sent == 20 and not frozen:
            frozen.append(step)
            for name, value in {"BUDGET_S": 1.0, "OPEN_S": 1.0, "PATIENCE_S": 0.0}.items():
                monkeypatch.setattr(dlq_replay, name, value)  # not before: a busy broker is given its time
            kafka.pause()

    replay = Replay(desk.settings, plan.found, plan.route, freeze)
    try:
        with pytest.raises(StreamError):
            replay.run(plan.rows)
    finally:
        kafka.resume()
    assert replay.outcome.sent == 20
    monkeypatch.undo()
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    desk.replay()
    desk.assert_once(values(desk))


def test_an_open_transaction_leaves_its_partition_for_later(
    desk: Desk, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receipt may stand behind it: nothing of that partition is sent until it is decided; the other one is."""
    desk.bury(10)
    theirs = desk.open_transaction(desk.topic("dlq"), 0, unique("theirs"))
    desk.bury(10)
    with monkeypatch.context() as impatient:
        impatient.setattr(dlq_survey, "SETTLE_S", 4.0)
        found = desk.json("list")
        assert "transaction is open" in found["notes"][0]
        done = desk.replay()
    assert done["sent"]["sent"] == 10
    assert "transaction is open" in done["notes"][0]
    assert {message.partition() for message in desk.arrived()} == {1}
    theirs.abort_transaction(60)
    assert desk.replay()["sent"]["sent"] == 10
    desk.assert_once(values(desk))


def test_a_transaction_opened_meanwhile_ends_it(
    desk: Desk, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.bury(10)
    plan = planned(desk)
    theirs = desk.open_transaction(desk.topic("dlq"), 0, unique("theirs"))
    with monkeypatch.context() as impatient, pytest.raises(StreamError, match="a transaction is open at"):
        impatient.setattr(dlq_survey, "SETTLE_S", 1.0)
        Carrying(desk.settings, plan).run()
    theirs.abort_transaction(60)
    assert desk.arrived() == []
    assert desk.replay()["sent"]["sent"] == 10


def delete_before(desk: Desk, topic: str, offset: int) -> None:
    admin = AdminClient({"bootstrap.servers": desk.bootstrap})
    parts = [TopicPartition(topic, partition, offset) for partition in (0, 1)]
    for answer in admin.delete_records(parts, operation_timeout=60).values():
        answer.result(60)


def test_letters_that_retention_removed_are_counted(desk: Desk) -> None:
    """Before the plan: they are not there. Between plan and sending: they are gone."""
    desk.bury(20)
    delete_before(desk, desk.topic("dlq"), 2)
    plan = planned(desk)
    assert len(plan.rows) == 16
    delete_before(desk, desk.topic("dlq"), 5)
    sent = Carrying(desk.settings, plan).run()
    assert (sent.sent, sent.gone) == (10, 6)
    desk.assert_once(values(desk)[10:])


@pytest.mark.usefixtures("small")
def test_letters_that_retention_removes_while_they_are_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dlq_replay, "SLOW_S", 0.0)  # a new look after each transaction
    desk.bury(60)
    plan, steps = planned(desk), []

    def shorten(step: str) -> None:
        steps.append(step)
        if steps.count("after-commit") == 2 and step == "after-commit":
            delete_before(desk, desk.topic("dlq"), 20)

    sent = Replay(desk.settings, plan.found, plan.route, shorten).run(plan.rows)
    assert sent.sent + sent.gone == 60
    assert sent.gone > 0
    assert len(desk.arrived()) == sent.sent
    assert desk.replay()["sent"] is None


def test_a_deleted_event_topic_is_said_and_another_takes_its_place(desk: Desk) -> None:
    desk.bury(5)
    admin, gone = AdminClient({"bootstrap.servers": desk.bootstrap}), desk.topic("events")
    admin.delete_topics([gone], operation_timeout=60)[gone].result(60)
    until(lambda: gone not in admin.list_topics(timeout=60).topics, 20, lambda: f"{gone} is there still")
    code, _, err = desk.call("replay", "--yes")
    assert code == 1
    assert f"there is no topic {desk.topic('events')} to send to; --to-topic names another" in err
    other = desk.make_topic("rescue", partitions=2)
    assert desk.replay("--to-topic", other)["sent"]["sent"] == 5
    desk.assert_once(values(desk), other)


def test_an_event_that_the_topic_does_not_take_is_named_and_the_others_are_sent(desk: Desk) -> None:
    narrow = desk.make_topic("narrow", partitions=2, **{"max.message.bytes": "2000"})
    desk.bury(40)
    desk.bury(1, value=lambda _number: random.randbytes(5_000))
    desk.bury(40)
    done = desk.replay("--to-topic", narrow, code=1)
    assert done["sent"]["sent"] == 80
    (refused,) = done["sent"]["refused"]
    assert "MSG_SIZE_TOO_LARGE" in refused
    assert f"{desk.topic('dlq')}[0]@" in refused
    desk.assert_once([v for v in values(desk) if len(v or b"") < 1_000], narrow)


def test_a_refused_transactional_id_or_topic_is_final(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker's word comes at once, with what was sent; tests of permissions: tests/integration/test_security.py."""
    desk.bury(5)
    plan = planned(desk)

    def refused(self: TransactionalProducer, *_: object) -> None:
        raise Abortable("denied", topic=desk.topic("events"), code="TOPIC_AUTHORIZATION_FAILED")

    monkeypatch.setattr(TransactionalProducer, "flush", refused)
    with pytest.raises(StreamError, match="denied"):
        Carrying(desk.settings, plan).run()
    monkeypatch.undo()
    desk.arrived()


def test_a_dead_letter_topic_made_anew_is_a_new_memory(desk: Desk) -> None:
    """Offsets begin at 0 again; committed offsets would have passed the new letters over."""
    desk.bury(5)
    assert desk.replay()["sent"]["sent"] == 5
    admin = AdminClient({"bootstrap.servers": desk.bootstrap})
    admin.delete_topics([desk.topic("dlq")], operation_timeout=60)[desk.topic("dlq")].result(60)
    until(lambda: made_anew(desk), 20)
    desk.bury(5)
    assert desk.replay()["sent"]["sent"] == 5
    desk.assert_once(values(desk))


def made_anew(desk: Desk) -> bool:
    try:
        desk.make_topic(name=desk.topic("dlq"), partitions=2)
    except KafkaException:  # it is still being deleted
        return False
    return True


def test_compacted_topics_keep_every_receipt(desk: Desk) -> None:
    """A compacted topic refuses what has no key, and keeps one record of each."""
    desk.tenant = "globex"
    for kind in ("events", "dlq"):
        desk.make_topic(name=desk.topic(kind), partitions=2, **{"cleanup.policy": "compact"})
    desk.bury(12)
    assert desk.replay("--limit", "5")["sent"]["sent"] == 5
    assert desk.replay()["sent"]["sent"] == 7
    assert desk.replay()["sent"] is None


@pytest.mark.long  # the tests above have transactions of ten letters, one after the other
def test_many_letters_take_no_more_memory(desk: Desk) -> None:
    """20,000 letters of 2 kB: the process holds what is fetched and one transaction, not all of them."""
    desk.bury(20_000, value=lambda number: f"event {number} ".encode() + bytes(2_000))
    script = (
        "import resource, sys; from muse_stream.cli.main import main; code = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    few = peak(desk, script, "--limit", "100")
    many = peak(desk, script)
    assert many - few < 50_000, f"{few:,} kB for 100, {many:,} kB for all"
    desk.assert_once(values(desk))


def peak(desk: Desk, script: str, *options: str) -> int:
    environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": desk.bootstrap}
    command = [sys.executable, "-c", script, *desk.command("replay", "--yes", *options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200 * PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def test_one_id_for_each_dead_letter_topic(desk: Desk) -> None:
    """A worker's permission on its own ids gives none on these."""
    assert transactional_id(desk.topic("dlq")) == f"muse-dlq-replay-{desk.topic('dlq')}"


def test_nothing_is_left_open_where_nothing_was_sent(desk: Desk) -> None:
    desk.bury(3)
    assert main(desk.command("replay", "--dry-run")) == 0
    before = end_of(desk.bootstrap, desk.topic("dlq"), 0)
    assert main(desk.command("list")) == 0
    assert end_of(desk.bootstrap, desk.topic("dlq"), 0) == before
    producer = Producer({"bootstrap.servers": desk.bootstrap})
    producer.list_topics(timeout=60)
