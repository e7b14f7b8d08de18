"""What `muse-stream acl` prints is exactly what is needed: without any single one of it something says which it lacks.

Every operation of every role, one after the other. A short form of it is in test_security.py.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public names that the stubs forget to export
    AclBinding,
    AclOperation,
    ResourceType,
)

from muse_stream.commands.refresh_incidents import letters_by_hour
from muse_stream.config import KafkaSettings
from muse_stream.control import DirectoryStore
from muse_stream.errors import MuseError
from muse_stream.kafka.permissions import NEEDS
from muse_stream.testing.kafka_jars import missing_tools
from tests.calibrate.scores import Counting
from tests.integration.bank import PARTITIONS
from tests.integration.fleet import publish
from tests.integration.secured import Secured, binding, bindings
from tests.integration.test_security import LANE, Site
from tests.patience import PATIENCE, until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_tools()), reason=f"a broker with passwords is run by the JVM: {missing_tools()}"),
]
WORKERS = ("live", "shadow")
DENIED = re.compile("AUTHORIZATION_FAILED|no permission|not_allowed|may not DESCRIBE")
TOPICS = [(role, kind, one) for role, needs in NEEDS.items() for kind, all_of in needs.topics.items() for one in all_of]
OTHERS = [(role, "group", one) for role, needs in NEEDS.items() for _, _, all_of in needs.groups for one in all_of]
OTHERS += [(role, "transactional id", "WRITE") for role, needs in NEEDS.items() if needs.transactional_ids]
INTERNAL = [(role, "internal", one) for role, needs in NEEDS.items() for one in needs.internal]
ROWS = [*TOPICS, *OTHERS, *INTERNAL]


class Place(Site):
    """A broker where each role has all that is printed for it; of the tenant t0 it is taken away, piece by piece."""

    def __init__(self, kafka: Secured, folder: Path) -> None:
        super().__init__(kafka, folder)
        self.granted: dict[str, list[AclBinding]] = {}
        for role in NEEDS:
            who = ("--principal", role, "--role", role)
            self.granted[role] = list(bindings(self.document, *who))
            kafka.grant(*self.granted[role])

    def rights(self, role: str, what: str, operation: str) -> list[AclBinding]:
        """Return the grants that a row of the table is about."""
        name = {"group": "GROUP", "transactional id": "TRANSACTIONAL_ID"}.get(what, "TOPIC")
        wanted = (ResourceType[name], AclOperation[operation])
        found = [one for one in self.granted[role] if (one.restype, one.operation) == wanted]
        if what in ("events", "scores", "audit", "dlq"):
            tenant = "t2" if role == "operator" else "t0"  # its topics are made anew, and their records are gone
            found = [one for one in found if one.name == self.bank.topic(what, tenant)]
        if what == "internal":
            found = [one for one in found if one.name.startswith("__")]
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("missing")
    tenants = [f"producer-t{number}" for number in range(3)]
    with Secured(folder, [*NEEDS, *tenants]) as kafka:
        made = Place(kafka, folder)
        every = [binding(name, "topic", "prefixed", "muse.", "WRITE") for name in tenants]
        kafka.grant(*every)
        topics = made.command("admin", "topics", str(made.store), "--partitions", str(PARTITIONS))
        assert topics.returncode == 0, topics.stdout + topics.stderr
        made.send(60, undecodable=3)
        for role in WORKERS:  # with offsets, so that what is missing later is all that is missing
            with made.fleet(role, role) as fleet:
                until(lambda role=role: answered(made, role), 60)  # type: ignore[misc]
                assert fleet.stop() == 0
        yield made


def answered(place: Place, role: str) -> bool:
    """Whether answers of a role are there, and, of the live one, dead letters."""
    admin = place.kafka.connection("admin")
    reader = Consumer({**admin, "group.id": "unused"})
    kinds = ("scores", "dlq") if role == "live" else ("audit",)
    ends = {}
    for kind in kinds:
        topic = place.bank.topic(kind, "t0")
        partitions = reader.list_topics(topic, timeout=60).topics[topic].partitions
        ends[kind] = sum(reader.get_watermark_offsets(TopicPartition(topic, one), timeout=60)[1] for one in partitions)
    reader.close()
    return all(ends.values())


def command(*words: str) -> Callable[[Place, str, str], str]:
    """Return what a command says, which ends with exit code 1."""

    def run(place: Place, role: str, _lacking: str) -> str:
        events = place.folder / "one.jsonl"
        events.write_text('{"id": "x", "at": 1780000000000, "tenant": "t0", "amount": 1.0, "risk": 0.5}\n')
        meant = {"STORE": str(place.store), "EVENTS": str(events), "FILE": str(place.folder / "x.parquet")}
        done = place.command(role, *(meant.get(word, word) for word in words))
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def promoted(place: Place, role: str, _lacking: str) -> str:
    folder = place.folder / f"promoted-{len(list(place.folder.iterdir()))}"
    publish(place.bank.document(), folder)
    where = ("retrained", "--store", str(folder), "--when", "tenant=t0", "--yes", "--json")
    done = place.command(role, "promote", *where, "--steps", "50%,100%", "--hold", "1s")
    assert done.returncode == 1, done.stdout + done.stderr
    assert DirectoryStore(folder).current() == 1, "nothing was changed"
    return done.stdout + done.stderr


def watched(place: Place, role: str, _lacking: str) -> str:
    folder = place.folder / "watched"
    if not folder.exists():
        publish(place.bank.document(), folder)
        words = ("promote", "retrained", "--store", str(folder), "--yes", "--force", "a test")
        assert place.command("promoter", *words).returncode == 0
    done = place.command(role, "watch", str(folder), "--once")
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout + done.stderr


def diagnosed(place: Place, role: str, _lacking: str) -> str:
    """It goes on, and says what it may not see."""
    done = place.command(role, "doctor", str(place.store), "t0", "--json", "--wait", "0")
    found: dict[str, Any] = json.loads(done.stdout)
    return json.dumps([*found["notes"], *(one for one in found["findings"] if one["kind"] == "not_allowed")])


def consumed(place: Place, role: str, _lacking: str) -> str:
    """A consumer of somebody's own, in the group that is named after the tenant or the analyst."""
    group = "t0.decisions" if role == "consumer" else "analyst.look"
    reader = Consumer({**place.kafka.connection(role), "group.id": group})
    reader.subscribe([place.bank.topic("scores" if role == "consumer" else "audit", "t0")])
    message = reader.poll(20 * PATIENCE)
    error = message.error() if message is not None else None
    reader.close()
    assert error is not None
    return f"{group} {error.name()}"


def forgotten(place: Place, group: str) -> bool:
    """Have a group forget its offsets, once its members are gone."""
    try:
        place.kafka.admin.delete_consumer_groups([group])[group].result(timeout=60)
    except KafkaException as error:
        return bool(error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND)
    return True


def worked(place: Place, role: str, lacking: str) -> str:
    """A worker of the role goes on, or ends, and its log says what it lacks.

    It has no offsets: with them it would need to read its own outputs after a fault of a broker only.
    """
    group = f"muse.{LANE}.{role}"
    until(lambda: forgotten(place, group), 40, lambda: f"{group} has members")
    with place.fleet(role, role) as fleet:
        before = fleet.log.stat().st_size
        place.send(6, undecodable=1)

        def said() -> str:
            with fleet.log.open(encoding="utf-8") as log:
                log.seek(before)
                return "".join(line for line in log if lacking in line and DENIED.search(line))

        until(said, 40, lambda: fleet.log.read_text(encoding="utf-8")[before:][-3000:])
        return said()


def counted(place: Place, role: str, lacking: str) -> str:
    with Counting(str(place.store), LANE, place.kafka.environment(role), place.folder / "counting.log") as counting:
        before = counting.log.stat().st_size

        def said() -> str:
            lines = counting.log.read_text(encoding="utf-8")[before:].splitlines()
            return "".join(line for line in lines if lacking in line and DENIED.search(line))

        counting.wait(said, 40)
        return said()


def looked_for(place: Place, role: str, lacking: str) -> str:
    """What keeps a map from being refreshed: nobody knows whether there were dead letters."""
    with patch.dict(os.environ, place.kafka.environment(role)):
        settings = KafkaSettings.from_environment()
    with pytest.raises(MuseError) as told:
        letters_by_hour(settings, lacking, datetime.now(UTC) - timedelta(days=1), 24)
    return str(told.value)


def verified(place: Place, role: str, _lacking: str) -> str:
    """It goes on without what it need not have, and says so."""
    done = place.command(role, "verify", str(place.store), "t0", "--upto", "committed")
    return done.stdout + done.stderr


def operated(operation: str) -> Callable[[Place, str, str], str]:
    """Return what `topics` says that has something to do for which it needs an operation."""

    def run(place: Place, role: str, lacking: str) -> str:
        if operation == "CREATE":
            place.kafka.admin.delete_topics([lacking])[lacking].result(timeout=60)
            until(lambda: lacking not in place.kafka.admin.list_topics(timeout=60).topics, 40)
        words = ("--retention-hours", "99") if operation == "ALTER_CONFIGS" else ()
        words = (*words, "--dry-run") if operation == "DESCRIBE" else words
        done = place.command(role, "topics", str(place.store), "--partitions", str(PARTITIONS), *words)
        if operation == "CREATE":
            made = place.command("admin", "topics", str(place.store), "--partitions", str(PARTITIONS))
            assert made.returncode == 0, made.stdout + made.stderr
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


TAIL = ("--from-beginning", "--limit", "1")
HOW: dict[str, Callable[[Place, str, str], str]] = {
    "live": worked,
    "shadow": worked,
    "calibrate": counted,
    "producer": command("produce", "STORE", "t0", "EVENTS"),
    "consumer": command("tail", "STORE", "t0", *TAIL),
    "analyst": command("tail", "STORE", "t0", "--kind", "audit", *TAIL),
    "reporter": command("audit", "STORE", "t0", "--to", "FILE"),
    "promoter": promoted,
    "watcher": watched,
    "verifier": verified,
    "replayer": command("dlq", "replay", "STORE", "t0", "--yes", "--again"),
    "doctor": diagnosed,
    "mover": command("offsets", "set", "STORE", "t0", "--to", "earliest", "--yes"),
}
"""Role -> what is done as it, with one right less; returns what is said."""


def told(role: str, what: str, operation: str) -> Callable[[Place, str, str], str]:
    if what == "group" and role in ("consumer", "analyst"):
        return consumed
    if (role, what) == ("calibrate", "dlq"):
        return looked_for
    if role == "operator":
        return operated(operation)
    if role == "mover" and what in ("scores", "dlq", "audit"):
        lane = "shadow" if what == "audit" else "live"
        return command("offsets", "set", "STORE", "t0", "--to", "answers", "--role", lane, "--yes")
    return HOW[role]


@pytest.mark.parametrize(("role", "what", "operation"), ROWS, ids=["-".join(row) for row in ROWS])
def test_without_it_something_says_so(place: Place, role: str, what: str, operation: str) -> None:
    rights = place.rights(role, what, operation)
    assert rights, "it is printed"
    lacking = rights[0]
    name = lacking.name.rstrip("-.")
    how = told(role, what, operation)
    place.kafka.withdraw(lacking)
    try:
        said = how(place, role, name)
    finally:
        place.kafka.grant(lacking)
    assert name in said and DENIED.search(said), said[-3000:]
