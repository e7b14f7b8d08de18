"""Made-up records of a schema, to try a decoder or an encoder on before it is trusted.

A `Type` gives payloads, the same for the same type every time, and small whatever the schema: lists get shorter with
depth, so that lists of lists of lists do not multiply.
"""

import random
import struct
from collections.abc import Callable

from muse_stream.avro.types import Type

SEED = 20
WIDE_LISTS = 3
"""Lists inside lists that may have more than one entry."""


def samples(node: Type, count: int) -> list[bytes]:
    """Return `count` values of the type as Avro bytes."""
    rng = random.Random(SEED)  # noqa: S311 - no secret: the same every time on purpose
    return [_sample(node, rng, 0) for _ in range(count)]


def varint(number: int) -> bytes:
    """Return an int or long as Avro writes it."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def _sample(node: Type, rng: random.Random, lists: int) -> bytes:
    kind = node.kind
    if kind == "record":
        return b"".join(_sample(field.type, rng, lists) for field in node.fields)
    if kind == "union":
        branch = rng.randrange(len(node.branches))
        return varint(branch) + _sample(node.branches[branch], rng, lists)
    if kind in ("array", "map"):
        entries = rng.randrange(3 if lists < WIDE_LISTS else 2)
        names = [counted(f"k{number}".encode()) if kind == "map" else b"" for number in range(entries)]
        block = [name + _sample(node.items or Type("null"), rng, lists + 1) for name in names]
        return varint(entries) + b"".join(block) + b"\x00" if entries else b"\x00"
    if kind == "enum":
        return varint(rng.randrange(len(node.symbols)))
    return rng.randbytes(node.size) if kind == "fixed" else _PLAIN[kind](rng)


def counted(data: bytes) -> bytes:
    """Return bytes, or a text in UTF-8, as Avro writes them."""
    return varint(len(data)) + data


_PLAIN: dict[str, Callable[[random.Random], bytes]] = {
    "null": lambda _: b"",
    "boolean": lambda rng: rng.choice((b"\x00", b"\x01")),
    "int": lambda rng: varint(rng.choice((0, -1, 77, 2**31 - 1, -(2**31)))),
    "long": lambda rng: varint(rng.choice((0, -1, 77, 2**63 - 1, -(2**63)))),
    "float": lambda rng: struct.pack("<f", rng.choice((0.0, -1.5, 2.0**100))),
    "double": lambda rng: struct.pack("<d", rng.choice((0.0, -0.1, 1e300))),
    "bytes": lambda rng: counted(rng.randbytes(3)),
    "string": lambda rng: counted(rng.choice(("", "a", "é€\U0001f600")).encode()),
}
