"""What happens to the brokers: kills, clean restarts, one by one or all at once, with a calm after each.

A fault is named by name and seed, so that a run can be done again. After every fault all brokers are up again.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka.admin import AdminClient

from muse_stream.testing.local_cluster import LocalCluster

TRANSACTIONS, OFFSETS = "__transaction_state", "__consumer_offsets"


@dataclass
class Victims:
    """Who can be hit, and what the faults aim at."""

    cluster: LocalCluster
    outputs: Sequence[str]
    """Topics whose leaders are hit."""
    ids: Sequence[str]
    """Transactional ids whose coordinators are hit."""
    group: str
    dice: random.Random

    def everyone(self) -> list[int]:
        return list(range(len(self.cluster.nodes)))

    def anyone(self) -> list[int]:
        return [self.dice.choice(self.everyone())]

    def leader(self) -> list[int]:
        """The leader of a random output partition."""
        topic = self.dice.choice(self.outputs)
        return self._leader(topic, self.dice.randrange(self._count(topic)))

    def coordinator(self) -> list[int]:
        """The coordinator of a random transactional id, or of the group."""
        topic, name = self.dice.choice([(TRANSACTIONS, self.dice.choice(self.ids)), (OFFSETS, self.group)])
        return self._leader(topic, abs(java_hash(name)) % self._count(topic))

    def _topic(self, topic: str) -> object:
        admin = AdminClient({"bootstrap.servers": self.cluster.bootstrap})
        return admin.list_topics(topic, timeout=60).topics[topic]

    def _count(self, topic: str) -> int:
        return len(self._topic(topic).partitions)  # type: ignore[attr-defined]

    def _leader(self, topic: str, partition: int) -> list[int]:
        leader = self._topic(topic).partitions[partition].leader  # type: ignore[attr-defined]
        return [leader - 1] if leader > 0 else self.anyone()


Fault = Callable[[Victims], None]


def _kill(choose: Callable[[Victims], list[int]]) -> Fault:
    def strike(victims: Victims) -> None:
        which = choose(victims)
        victims.cluster.kill(which)
        time.sleep(victims.dice.choice([0.0, 0.0, 1.0, 4.0]))  # longer than the broker's session, too
        victims.cluster.restart(which)

    return strike


def _clean(choose: Callable[[Victims], list[int]]) -> Fault:
    def strike(victims: Victims) -> None:
        which = choose(victims)
        victims.cluster.stop(which)
        victims.cluster.restart(which)

    return strike


FAULTS: Mapping[str, Fault] = {
    "kill-one": _kill(Victims.anyone),
    "kill-leader": _kill(Victims.leader),
    "kill-coordinator": _kill(Victims.coordinator),
    "kill-all": _kill(Victims.everyone),
    "clean-one": _clean(Victims.anyone),
    "clean-leader": _clean(Victims.leader),
    "clean-all": _clean(Victims.everyone),
}


def java_hash(text: str) -> int:
    """What `String.hashCode` says: it decides who coordinates an id."""
    value = 0
    for letter in text:
        value = (31 * value + ord(letter)) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value
