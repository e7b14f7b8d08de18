"""A test kit: a real Kafka broker, Redis and Schema Registry, started as this machine allows, and records of Kafka.

kafka_broker     the ladder: a broker that is running, a container, a JVM
container_kafka  in a container, by testcontainers        local_kafka   on the JVM, from Kafka's own jars
local_cluster    several brokers of one cluster           kafka_jars    which version, and where the jars are
redis_server     a Redis: one that is running, a container (container_redis), or this machine's redis-server
registry_server  a Schema Registry: Apicurio's, on the JVM
kept_server      what brokers, Redis and registry of this machine have in common
keeper           ends a broker when the process that asked for it has ended
freeze           stops a process, and waits until it stands still
probe            does a broker answer?
records          produce records; read what is committed, independently of `muse_stream.kafka`
__main__         `python -m muse_stream.testing` fetches what a broker needs
"""

from muse_stream.testing.kafka_broker import Broker, Cluster, broker
from muse_stream.testing.records import CommittedReader, Place, ToSend, produce, spread
from muse_stream.testing.redis_server import LocalRedis, Redis, redis_server, remove_keys
from muse_stream.testing.registry_server import LocalRegistry, registry_server

__all__ = [
    "Broker",
    "Cluster",
    "CommittedReader",
    "LocalRedis",
    "LocalRegistry",
    "Place",
    "Redis",
    "ToSend",
    "broker",
    "produce",
    "redis_server",
    "registry_server",
    "remove_keys",
    "spread",
]
