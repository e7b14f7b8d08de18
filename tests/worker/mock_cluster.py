"""librdkafka's mock cluster with error injection, by ctypes on the wheel's own library.

It has a bootstrap address; `fail(api, *codes)` has the next requests of that kind answered with these errors, and
`coordinate` and `take_down` make a coordinator go away. For error paths of the client only; the mock keeps none of
Kafka's promises about transactions.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka

PRODUCE, HEARTBEAT, SYNC_GROUP, ADD_PARTITIONS, END_TXN, TXN_OFFSET_COMMIT = 0, 12, 14, 24, 26, 28
_PRODUCER = 0


def _library() -> ctypes.CDLL:
    (path,) = (Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs").glob("librdkafka-*.so*")
    library = ctypes.CDLL(str(path))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return library


class MockCluster:
    """Mock brokers, numbered from 1."""

    def __init__(self, library: ctypes.CDLL, handle: int) -> None:
        self._library, self._handle = library, ctypes.c_void_p(handle)
        self.bootstrap: str = library.rd_kafka_mock_cluster_bootstraps(self._handle).decode()

    def fail(self, api: int, *codes: int) -> None:
        """Answer the next requests of an API with these error codes, one each."""
        array = (ctypes.c_int * len(codes))(*codes)
        push = self._library.rd_kafka_mock_push_request_errors_array
        push(self._handle, ctypes.c_int16(api), ctypes.c_size_t(len(codes)), array)

    def coordinate(self, kind: str, key: str, broker: int) -> None:
        """Have this broker coordinate a "group" or "transaction"."""
        self._done(self._library.rd_kafka_mock_coordinator_set, kind.encode(), key.encode(), ctypes.c_int32(broker))

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Have this broker lead a partition."""
        where = topic.encode(), ctypes.c_int32(partition), ctypes.c_int32(broker)
        self._done(self._library.rd_kafka_mock_partition_set_leader, *where)

    def answer_late(self, broker: int, by_ms: int) -> None:
        """Have this broker take so long for each answer from now on."""
        self._done(self._library.rd_kafka_mock_broker_set_rtt, ctypes.c_int32(broker), ctypes.c_int(by_ms))

    def take_down(self, broker: int) -> None:
        """Have this broker refuse connections."""
        self._done(self._library.rd_kafka_mock_broker_set_down, ctypes.c_int32(broker))

    def _done(self, function: Any, *arguments: Any) -> None:
        assert function(self._handle, *arguments) == 0


@contextmanager
def mock_cluster(brokers: int = 1) -> Iterator[MockCluster]:
    library = _library()
    said = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    owner = ctypes.c_void_p(library.rd_kafka_new(_PRODUCER, conf, said, ctypes.c_size_t(512)))
    assert owner, said.value
    handle = library.rd_kafka_mock_cluster_new(owner, brokers)
    try:
        yield MockCluster(library, handle)
    finally:
        library.rd_kafka_mock_cluster_destroy(ctypes.c_void_p(handle))
        library.rd_kafka_destroy(owner)
