"""One Avro record, checked byte by byte.

A `Type` and a payload give the position after the record and the fields that are asked for; or `Malformed` is raised.

Nothing is read that is not there, and nothing is accepted that the Avro specification does not allow: fastavro alone
would take a union or enum index of -1, a boolean of 2, an int of 40 bits. Counts and lengths are held against the bytes
that are left before anything is allocated, and what is not asked for is passed over, so that a record takes no more
memory than its bytes. Also checks what fastavro is given.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from muse_stream.avro.types import Type

Wanted: TypeAlias = Mapping[str, "Wanted"]
"""Fields to read: name -> what is wanted of the record there; nothing, of any other type."""

VARINT_BYTES = 10
"""Of 64 bits, seven to a byte."""
WIDTHS = {"float": 4, "double": 8}
"""Bytes of a value, where they are always the same."""


class Malformed(ValueError):
    """The bytes are not a record of the schema."""


def read(record: Type, wanted: Wanted, data: bytes, at: int = 0) -> tuple[dict[str, Any], int]:
    """Return the wanted fields of a record and the position after it; raises Malformed, whatever field is at fault.

    A field is (branch of its union that was written, value); 0 where it is no union. A record's value is a dict like
    this one; arrays and maps have none.
    """
    found: dict[str, Any] = {}
    for field in record.fields:
        if field.name not in wanted:
            at = end_of(field.type, data, at)
            continue
        branch, node = 0, field.type
        if node.kind == "union":
            branch, at = _integer(data, at, 32)
            node = node.branches[_within(branch, len(node.branches), "union branch")]
        if node.kind == "record":
            value, at = read(node, wanted[field.name], data, at)
        else:
            start, at = at, end_of(node, data, at)
            value = _value(node, data, start, at)
        found[field.name] = (branch, value)
    return found, at


def _value(node: Type, data: bytes, start: int, end: int) -> Any:
    """Return what is in [start, end), which `end_of` has checked."""
    kind = node.kind
    if kind in ("float", "double"):
        return struct.unpack("<f" if kind == "float" else "<d", data[start:end])[0]
    if kind in ("fixed", "boolean"):
        return data[start:end] if kind == "fixed" else data[start] == 1
    if kind not in ("int", "long", "enum", "string", "bytes"):
        return None
    number, at = _integer(data, start, 64)
    if kind in ("string", "bytes"):
        return data[at:end].decode() if kind == "string" else data[at:end]
    return node.symbols[number] if kind == "enum" else number


def end_of(node: Type, data: bytes, at: int = 0) -> int:
    """Return the position after the value of type `node` that starts at `at`; raises Malformed."""
    return _ENDS[node.kind](node, data, at)


def _record(node: Type, data: bytes, at: int) -> int:
    for part in node.solid:
        at = _ENDS[part.kind](part, data, at)
    return at


def _union(node: Type, data: bytes, at: int) -> int:
    index, at = _integer(data, at, 32)
    branch = node.branches[_within(index, len(node.branches), "union branch")]
    return _ENDS[branch.kind](branch, data, at)


def _enum(node: Type, data: bytes, at: int) -> int:
    index, at = _integer(data, at, 32)
    _within(index, len(node.symbols), "enum symbol")
    return at


def _boolean(_: Type, data: bytes, at: int) -> int:
    end = _room(data, at, 1)
    if data[at] > 1:
        raise Malformed(f"a boolean is 0 or 1, not {data[at]}")
    return end


def _blocks(node: Type, data: bytes, at: int) -> int:
    """Arrays and maps: blocks of a count (negative: the block's size in bytes follows) up to a count of 0."""
    items = node.items or Type("null")
    while True:
        count, at = _integer(data, at, 64)
        if count == 0:
            return at
        if count < 0:
            count = -count
            size, at = _integer(data, at, 64)
            if size < 0:
                raise Malformed("a block's size is negative")
        if count > len(data) - at:  # every item takes a byte at least
            raise Malformed(f"{count} items are announced, {len(data) - at} bytes are left")
        if node.kind == "array" and items.kind in WIDTHS:
            at = _room(data, at, count * WIDTHS[items.kind])
            continue
        end = _ENDS[items.kind]
        for _ in range(count):
            at = end(items, data, _counted(data, at, text=True) if node.kind == "map" else at)


def _counted(data: bytes, at: int, *, text: bool) -> int:
    length, at = _integer(data, at, 64)
    if length < 0:
        raise Malformed("a length is negative")
    end = _room(data, at, length)
    if text and not (part := data[at:end]).isascii():
        try:
            part.decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("a string is not UTF-8") from None
    return end


def _integer(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """Read a zig-zag varint that fits in `bits`; returns value and position."""
    if at < len(data) and (byte := data[at]) < 0x80:  # as most are
        return (byte >> 1) ^ -(byte & 1), at + 1
    value = 0
    for index in range(VARINT_BYTES):
        if at >= len(data):
            raise Malformed("the record ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >> bits:
                raise Malformed(f"a number takes more than {bits} bits")
            return (value >> 1) ^ -(value & 1), at
    raise Malformed("a number takes more than 10 bytes")


def number_at(data: bytes, at: int) -> tuple[int, int]:
    """Return the long at a position, and the position after it; raises Malformed."""
    return _integer(data, at, 64)


def _within(index: int, count: int, what: str) -> int:
    if not 0 <= index < count:
        raise Malformed(f"{what} {index} of {count}")
    return index


def _room(data: bytes, at: int, length: int) -> int:
    if length > len(data) - at:
        raise Malformed(f"the record ends early: {length} bytes expected, {len(data) - at} left")
    return at + length


_ENDS: dict[str, Callable[[Type, bytes, int], int]] = {
    "null": lambda _, __, at: at,
    "boolean": _boolean,
    "int": lambda _, data, at: _integer(data, at, 32)[1],
    "long": lambda _, data, at: _integer(data, at, 64)[1],
    "float": lambda _, data, at: _room(data, at, 4),
    "double": lambda _, data, at: _room(data, at, 8),
    "bytes": lambda _, data, at: _counted(data, at, text=False),
    "string": lambda _, data, at: _counted(data, at, text=True),
    "enum": _enum,
    "fixed": lambda node, data, at: _room(data, at, node.size),
    "record": _record,
    "array": _blocks,
    "map": _blocks,
    "union": _union,
}
"""How each kind of type ends: nothing takes as long as this when an event has a long list."""
