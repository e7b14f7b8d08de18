"""Client quotas of a broker, set for one `client.id`: confluent-kafka has no call for them.

AlterClientQuotas, version 0 (Kafka's protocol guide): plain big-endian fields, no compact ones.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

ALTER_CLIENT_QUOTAS, VERSION = 49, 0


def set_quota(bootstrap: str, client_id: str, name: str, value: float | None) -> None:
    """Set a quota (`producer_byte_rate`, `consumer_byte_rate`, `request_percentage`), or take it away with None."""
    entity = struct.pack(">i", 1) + _text("client-id") + _text(client_id)
    operation = struct.pack(">i", 1) + _text(name) + struct.pack(">d?", value or 0.0, value is None)
    body = struct.pack(">i", 1) + entity + operation + struct.pack(">?", False)
    head = struct.pack(">hhi", ALTER_CLIENT_QUOTAS, VERSION, 1) + _text("test")
    host, _, port = bootstrap.split(",", maxsplit=1)[0].rpartition(":")
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(struct.pack(">i", len(head + body)) + head + body)
        answer = _exactly(connection, struct.unpack(">i", _exactly(connection, 4))[0])
    _correlation, _throttled, entries, error = struct.unpack_from(">iiih", answer)
    assert (entries, error) == (1, 0), f"{name} of {client_id}: refused, error {error}"


@contextmanager
def quota(bootstrap: str, client_id: str, name: str, value: float) -> Iterator[None]:
    """A quota for as long as the block lasts."""
    set_quota(bootstrap, client_id, name, value)
    try:
        yield
    finally:
        set_quota(bootstrap, client_id, name, None)


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">h", len(data)) + data


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        assert more, "the broker closed the connection"
        data += more
    return data
