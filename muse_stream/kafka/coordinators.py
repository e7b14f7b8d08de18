"""Which partition of Kafka's own topics keeps a group or a transactional id, and whether anybody leads it.

The broker that leads it is the coordinator. Where nobody does, clients hear only that no answer came, or that a
connection broke, though all brokers answer everything else.
"""

from typing import Any, Protocol

from confluent_kafka import KafkaException

TRANSACTIONS, OFFSETS = "__transaction_state", "__consumer_offsets"


class Client(Protocol):
    """A producer or a consumer."""

    def list_topics(self, topic: str, timeout: float) -> Any:
        """Ask a broker for a topic's partitions."""


def kept_in(name: str, partitions: int) -> int:
    """Return the partition that keeps a group or a transactional id, as brokers choose it: by Java's hash of it."""
    units, code = name.encode("utf-16-be", "surrogatepass"), 0
    for high, low in zip(units[::2], units[1::2], strict=True):
        code = (31 * code + (high << 8 | low)) & 0xFFFF_FFFF
    return (abs(code - (1 << 32) if code >> 31 else code) & 0x7FFF_FFFF) % partitions


def leaderless(client: Client, topic: str, name: str, timeout_s: float = 1.0) -> str:
    """Return that nobody leads the partition that keeps this name; empty where somebody does, and where none tells."""
    try:
        found = client.list_topics(topic, timeout=timeout_s).topics[topic]
    except KafkaException:
        return ""
    if found.error is not None or not found.partitions:
        return ""  # no permission to see it
    number = kept_in(name, len(found.partitions))
    if found.partitions[number].leader >= 0:
        return ""
    return f"{topic}[{number}], which keeps it, has no leader: bring its brokers back (`muse-stream doctor CONFIG`)"
