"""R6 and R7, and the settings that the other rules lean on."""

import ast
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, TopicPartition

import muse_stream
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.kafka import client, counting_consumer, membership, transactional_producer
from muse_stream.kafka.starting_offsets import StartingOffsets
from muse_stream.runtime import watchdog
from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker import loop, slot
from muse_stream.worker.slot import SlotName
from tests.kafka.test_starting_offsets import COMMITTED, PARTITIONS, commit, open_transaction
from tests.worker.doubles import ListLog

PACKAGE = Path(muse_stream.__file__).parent
CLIENT = "muse_stream.kafka.client"


@pytest.mark.parametrize("planted", [False, True], ids=["stable", "planted"])
def test_r6_unstable_offsets_are_never_taken_for_an_answer(
    kafka: Broker, unique: Callable[[str], str], make_topic: Callable[..., str], planted: bool
) -> None:
    """`planted` reads uncommitted: it is told the old offset while the new one may be about to count."""
    topic, group = make_topic("r6", partitions=PARTITIONS), unique("r6")
    commit(kafka.bootstrap, group, topic)
    own = {"group.id": group} | ({"isolation.level": "read_uncommitted"} if planted else {})
    lookup = client.consumer(KafkaSettings(bootstrap=kafka.bootstrap), **own)
    with open_transaction(kafka.bootstrap, group, topic) as end_transaction:
        if planted:
            (answer,) = lookup.committed([TopicPartition(topic, 0)], timeout=60)
            assert answer.offset == COMMITTED
            end_transaction()
        else:
            with pytest.raises(KafkaException):
                lookup.committed([TopicPartition(topic, 0)], timeout=0.5)
            ending = threading.Event()

            def end() -> None:
                ending.set()
                end_transaction()

            ender = threading.Timer(0.3, end)
            ender.start()
            starts = StartingOffsets(lookup, ListLog()).starts([TopicPartition(topic, p) for p in range(PARTITIONS)])
            assert ending.is_set(), "answered before the transaction was ended"
            assert [start.offset for start in starts.offsets] == [COMMITTED] * PARTITIONS
            ender.join()
    lookup.close()


def test_the_others_take_a_lost_members_partitions_within_ten_seconds() -> None:
    """The session, then up to a heartbeat until each of them hears of it, and half a second to read on (0007)."""
    for member in (slot.MEMBER, counting_consumer.MEMBER):
        assert member["session.timeout.ms"] + member["heartbeat.interval.ms"] <= 10_000
        assert member["session.timeout.ms"] >= 10 * member["heartbeat.interval.ms"], "a few late ones end no session"


def test_r6_transactions_end_before_sessions_do() -> None:
    assert transactional_producer.TIMEOUT_MS < membership.SESSION_MS < slot.MAX_POLL_MS
    assert watchdog.STALL_S * 1000 < slot.MAX_POLL_MS
    assert loop.SETTLE_S * 1000 > transactional_producer.TIMEOUT_MS, (
        "a rebalance waits longer than a transaction can last"
    )
    assert client.CONSUMER["isolation.level"] == "read_committed"


def test_r1_second_net_is_set() -> None:
    assert client.CONSUMER["auto.offset.reset"] == "error"
    assert client.CONSUMER["enable.auto.commit"] is False
    assert client.CONSUMER["enable.auto.offset.store"] is False


def test_r4_a_slots_names_are_stable_and_its_own() -> None:
    names = [SlotName("live", "main", "host", n) for n in (0, 1)] + [SlotName("shadow", "main", "host", 0)]
    assert names[0] == SlotName("live", "main", "host", 0)
    ids = {name.transactional_id(half) for name in names for half in (0, 1)}
    assert len(ids) == 6
    assert all(identity.startswith("muse-") for identity in ids)
    assert {name.group for name in names} == {"muse.main.live", "muse.main.shadow"}


ADMIN = {"AdminClient", "admin", "reach"}


def uses_admin(source: str) -> set[str]:
    """Which ways to an AdminClient a module's source takes."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom | ast.Import):
            found |= {alias.name.rpartition(".")[2] for alias in node.names} & ADMIN
        elif isinstance(node, ast.Attribute):
            found |= {node.attr} & ADMIN
    return found


def face(room: str) -> dict[str, str]:
    """Name -> the module of this room that it comes from."""
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text())
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    return {alias.name: node.module or "" for node in nodes for alias in node.names}


def worker_modules() -> dict[str, Path]:
    """The modules about Kafka that a worker is made of: what `slot` needs, itself included."""
    found, waiting = dict[str, Path](), ["muse_stream.worker.slot"]
    faces = {f"muse_stream.{room}": face(room) for room in ("kafka", "worker")}
    while waiting:
        name = waiting.pop()
        path = PACKAGE.parent / (name.replace(".", "/") + ".py")
        if name in found or not path.exists() or not name.startswith(tuple(f"{room}." for room in faces)):
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                waiting += [faces.get(node.module, {}).get(alias.name, "") for alias in node.names]
    return found


def test_r7_no_worker_module_uses_an_admin_client() -> None:
    modules = worker_modules()
    wanted = {"slot", "loop", "group_consumer", "starting_offsets", "commit", "transactional_producer", "client"}
    assert wanted <= {name.rpartition(".")[2] for name in modules}
    # client.py defines `admin` for the tools; what counts is that no worker module asks for it
    offenders = {name: uses_admin(path.read_text()) for name, path in modules.items() if name != CLIENT}
    assert {name for name, ways in offenders.items() if ways} == set()


@pytest.mark.parametrize(
    "planted",
    [
        "from confluent_kafka.admin import AdminClient",
        "import confluent_kafka.admin",
        "from muse_stream.kafka.client import reach",
        "from muse_stream.kafka import client\nclient.admin(settings)",
    ],
)
def test_r7_the_check_catches(planted: str) -> None:
    assert uses_admin(planted)
