"""A test kit: a real Kafka broker, started as this machine allows, and records onto its topics and from them.

kafka_broker     the ladder: a broker that is running, a container, a JVM
container_kafka  in a container, by testcontainers        local_kafka   on the JVM, from Kafka's own jars
local_cluster    several brokers of one cluster           kafka_jars    which version, and where the jars are
keeper           ends a broker when the process that asked for it has ended
probe            does a broker answer?
records          produce records; read what is committed, independently of `muse_stream.kafka`
__main__         `python -m muse_stream.testing` fetches what a broker needs
"""

from muse_stream.testing.kafka_broker import Broker, Cluster, broker
from muse_stream.testing.records import CommittedReader, Place, ToSend, produce, spread

__all__ = [
    "Broker",
    "Cluster",
    "CommittedReader",
    "Place",
    "ToSend",
    "broker",
    "produce",
    "spread",
]
