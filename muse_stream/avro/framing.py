"""The bytes that stand before an Avro record and name its writer's schema.

Groups Kafka values by their prefix, and says why a value has none. Two frames are known, and nothing is guessed.
Confluent: `00` and the schema id (4 bytes, big endian). Avro single object: `C3 01` and the schema's CRC-64-AVRO
fingerprint (8 bytes, little endian), as in the Avro specification, "Single-object encoding".
"""

import struct
from collections.abc import Sequence
from itertools import repeat
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muse_stream.errors import Reason, Rejected, Stage

Frame = Literal["confluent", "single-object"]

CONFLUENT_MAGIC = b"\x00"
CONFLUENT_LENGTH = 5
SINGLE_OBJECT_MAGIC = b"\xc3\x01"
SINGLE_OBJECT_LENGTH = 10


def confluent_prefix(schema_id: int) -> bytes:
    """Return the 5 bytes before a record written with this registry id (0 to 2**31 - 1)."""
    if not 0 <= schema_id < 2**31:
        raise ValueError(f"a Confluent schema id is between 0 and 2147483647, not {schema_id}")
    return CONFLUENT_MAGIC + struct.pack(">i", schema_id)


def single_object_prefix(fingerprint: bytes) -> bytes:
    """Return the 10 bytes before a record whose schema has this 8-byte fingerprint (little endian)."""
    if len(fingerprint) != SINGLE_OBJECT_LENGTH - len(SINGLE_OBJECT_MAGIC):
        raise ValueError(f"a CRC-64-AVRO fingerprint has 8 bytes, not {len(fingerprint)}")
    return SINGLE_OBJECT_MAGIC + fingerprint


def prefix_of(value: bytes) -> bytes | None:
    """Return the frame's prefix (5 or 10 bytes), or None where neither frame is there in full."""
    if value[:1] == CONFLUENT_MAGIC:
        return value[:CONFLUENT_LENGTH] if len(value) >= CONFLUENT_LENGTH else None
    if value[:2] == SINGLE_OBJECT_MAGIC:
        return value[:SINGLE_OBJECT_LENGTH] if len(value) >= SINGLE_OBJECT_LENGTH else None
    return None


def schema_id(prefix: bytes) -> int | None:
    """Return the registry id in a Confluent prefix, None for the other frame."""
    return int.from_bytes(prefix[1:], "big") if len(prefix) == CONFLUENT_LENGTH else None


def group(values: Sequence[bytes | None]) -> tuple[dict[bytes, NDArray[np.int64]], list[Rejected]]:
    """Return prefix -> rows of the values that begin with it, ascending; a value without a frame is rejected."""
    if not values:
        return {}, []
    first = values[0]
    prefix = prefix_of(first) if first is not None else None
    if prefix is not None:
        try:
            alike = all(map(bytes.startswith, values, repeat(prefix)))  # type: ignore[arg-type]
        except TypeError:  # a tombstone among them
            alike = False
        if alike:  # the usual batch: one schema; no further look at single values
            return {prefix: np.arange(len(values), dtype=np.int64)}, []
    return _group_mixed(values)


def _group_mixed(values: Sequence[bytes | None]) -> tuple[dict[bytes, NDArray[np.int64]], list[Rejected]]:
    found: dict[bytes, list[int]] = {}
    rejected = []
    for row, value in enumerate(values):
        prefix = prefix_of(value) if value is not None else None
        if prefix is None:
            rejected.append(unframed(row, value))
        else:
            found.setdefault(prefix, []).append(row)
    return {prefix: np.array(rows, dtype=np.int64) for prefix, rows in found.items()}, rejected


def unframed(row: int, value: bytes | None) -> Rejected:
    """Say what is wrong with a value for which `prefix_of` found nothing."""
    return Rejected(row, Reason.UNDECODABLE, Stage.DECODE, _why_unframed(value))


def _why_unframed(value: bytes | None) -> str:
    if value is None:
        return "no value (a tombstone): an event is never null"
    if not value:
        return "empty value: expected an Avro frame (00 + id, or C3 01 + fingerprint)"
    if value[:1] == CONFLUENT_MAGIC or value[:2] == SINGLE_OBJECT_MAGIC:
        return f"the value ends inside its Avro frame, after {len(value)} bytes"
    return f"unknown frame: starts with {value[:2].hex()}; expected 00 (Confluent) or c301 (Avro single object)"
