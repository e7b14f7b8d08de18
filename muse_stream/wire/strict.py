"""Where one Avro record ends, checked byte by byte.

In: a `Type` and a payload. Out: the position after the record, or `Malformed`.
Law: nothing is read that is not there, and nothing is accepted that the Avro specification does not allow: fastavro
alone would take a union or enum index of -1, a boolean of 2, an int of 40 bits. Also the guard in front of it: counts
and lengths are held against the bytes that are left before anything is allocated.
"""

from muse_stream.wire.avro_types import Type

VARINT_BYTES = 10
"""Of 64 bits, seven to a byte."""
WIDTHS = {"null": 0, "float": 4, "double": 8}


class Malformed(ValueError):
    """The bytes are not a record of the schema."""


def end_of(node: Type, data: bytes, at: int = 0) -> int:  # noqa: PLR0911 - one return for each kind of type
    """Return the position after the value of type `node` that starts at `at`; raises Malformed."""
    kind = node.kind
    if kind in ("int", "long"):
        return _integer(data, at, 32 if kind == "int" else 64)[1]
    if kind in ("string", "bytes"):
        return _counted(data, at, text=kind == "string")
    if kind == "record":
        for field in node.fields:
            at = end_of(field.type, data, at)
        return at
    if kind == "union":
        index, at = _integer(data, at, 32)
        return end_of(node.branches[_within(index, len(node.branches), "union branch")], data, at)
    if kind == "enum":
        index, at = _integer(data, at, 32)
        _within(index, len(node.symbols), "enum symbol")
        return at
    if kind == "boolean":
        end = _room(data, at, 1)
        if data[at] > 1:
            raise Malformed(f"a boolean is 0 or 1, not {data[at]}")
        return end
    if kind in ("array", "map"):
        return _blocks(node, data, at)
    return _room(data, at, node.size if kind == "fixed" else WIDTHS[kind])


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
        for _ in range(count):
            at = end_of(items, data, _counted(data, at, text=True) if node.kind == "map" else at)


def _counted(data: bytes, at: int, *, text: bool) -> int:
    length, at = _integer(data, at, 64)
    if length < 0:
        raise Malformed("a length is negative")
    end = _room(data, at, length)
    if text:
        try:
            data[at:end].decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("a string is not UTF-8") from None
    return end


def _integer(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """Read a zig-zag varint that fits in `bits`; returns value and position."""
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


def _within(index: int, count: int, what: str) -> int:
    if not 0 <= index < count:
        raise Malformed(f"{what} {index} of {count}")
    return index


def _room(data: bytes, at: int, length: int) -> int:
    if length > len(data) - at:
        raise Malformed(f"the record ends early: {length} bytes expected, {len(data) - at} left")
    return at + length
