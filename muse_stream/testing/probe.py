"""Does a Kafka broker answer? Yes or no, never an exception.

A broker is ready when it answers a *metadata request*. An open port or a line in its log says less: the port may open
before the broker is registered, and the line depends on a logging backend. That a broker is still starting is an
expected answer, so librdkafka's messages about it are dropped.
"""

import logging
import socket
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

_SILENT = logging.Logger("muse_stream.testing.probe", level=logging.CRITICAL + 1)


def answers(bootstrap: str, timeout_s: float, connection: Mapping[str, Any] | None = None) -> bool:
    """Whether a broker of `bootstrap` (comma-separated host:port) answers a metadata request within `timeout_s`.

    `connection` are librdkafka's settings for a secured cluster; without them the connection is plaintext.
    """
    return brokers(bootstrap, timeout_s, connection) > 0


def brokers(bootstrap: str, timeout_s: float, connection: Mapping[str, Any] | None = None) -> int:
    """How many brokers the cluster has according to whichever answers within `timeout_s`; 0 when none does."""
    if not listens(bootstrap, timeout_s):
        return 0
    settings: dict[str, Any] = {
        **(connection or {}),
        "bootstrap.servers": bootstrap,
        "log_level": 0,
        "logger": _SILENT,
        "error_cb": lambda _error: None,
    }
    try:
        return len(AdminClient(settings).list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return 0


def listens(bootstrap: str, timeout_s: float) -> bool:
    """Whether a connection is accepted at any of these addresses: the first thing that a broker does."""
    return any(_listens(address.strip(), timeout_s) for address in bootstrap.split(","))


def _listens(address: str, timeout_s: float) -> bool:
    """Whether a connection is accepted; asked first because a refused one makes librdkafka back off and retry."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s):
            return True
    except (OSError, ValueError):
        return False
