"""R6 and R7, and the settings that the other rules lean on."""

import ast
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, TopicPartition

import muse_stream.stream
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.demo.broker import Broker
from muse_stream.stream import client, mortality, slot, transaction, worker
from muse_stream.stream.slot import SlotName
from muse_stream.stream.starting import StartingOffsets
from tests.stream.doubles import ListLog
from tests.stream.test_rule_r1 import COMMITTED, PARTITIONS, commit, open_transaction

STREAM = Path(muse_stream.stream.__file__).parent


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
            (answer,) = lookup.committed([TopicPartition(topic, 0)], timeout=5)
            assert answer.offset == COMMITTED
            end_transaction()
        else:
            with pytest.raises(KafkaException):
                lookup.committed([TopicPartition(topic, 0)], timeout=0.5)
            ender = threading.Timer(0.3, end_transaction)
            ender.start()
            starts = StartingOffsets(lookup, ListLog()).starts([TopicPartition(topic, p) for p in range(PARTITIONS)])
            assert ender.finished.is_set(), "answered before the transaction had ended"
            assert [start.offset for start in starts.offsets] == [COMMITTED] * PARTITIONS
            ender.join()
    lookup.close()


def test_r6_transactions_end_before_sessions_do() -> None:
    assert transaction.TIMEOUT_MS < slot.SESSION_MS < slot.MAX_POLL_MS
    assert mortality.STALL_S * 1000 < slot.MAX_POLL_MS
    assert worker.SETTLE_S * 1000 > transaction.TIMEOUT_MS, "a rebalance waits longer than a transaction can last"
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


def worker_modules() -> set[str]:
    """The modules of this room that `slot` needs, itself included."""
    found, waiting = set[str](), ["slot"]
    while waiting:
        name = waiting.pop()
        if name in found or not (STREAM / f"{name}.py").exists():
            continue
        found.add(name)
        for node in ast.walk(ast.parse((STREAM / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "muse_stream.stream":
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("muse_stream.stream."):
                waiting.append((node.module or "").rpartition(".")[2])
    return found


def test_r7_no_worker_module_uses_an_admin_client() -> None:
    modules = worker_modules()
    assert {"slot", "worker", "intake", "starting", "committer", "transaction", "publish", "client"} <= modules
    # client.py defines `admin` for the tools; what counts is that no worker module asks for it
    offenders = {name: uses_admin((STREAM / f"{name}.py").read_text()) for name in modules - {"client"}}
    assert {name for name, ways in offenders.items() if ways} == set()


@pytest.mark.parametrize(
    "planted",
    [
        "from confluent_kafka.admin import AdminClient",
        "import confluent_kafka.admin",
        "from muse_stream.stream.client import reach",
        "from muse_stream.stream import client\nclient.admin(settings)",
    ],
)
def test_r7_the_check_catches(planted: str) -> None:
    assert uses_admin(planted)
