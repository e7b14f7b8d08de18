"""Physical values to Avro's binary form.

fastavro's writer would choose a union's branch by the look of a value; here the value says which.
"""

import struct
from collections.abc import Callable
from typing import Any

from muse_stream.avro import Type, varint
from muse_stream.files.rows import Chosen

_FLOAT, _DOUBLE = struct.Struct("<f").pack, struct.Struct("<d").pack


def encoded(node: Type, value: Any) -> bytes:
    """Return the bytes of a value that `physical_value` gave for this type."""
    out = bytearray()
    _WRITE[node.kind](node, value, out)
    return bytes(out)


def _record(node: Type, value: Any, out: bytearray) -> None:
    for field in node.fields:
        _WRITE[field.type.kind](field.type, value[field.name], out)


def _union(node: Type, value: Any, out: bytearray) -> None:
    if isinstance(value, Chosen):
        index, value = value
    else:
        index = next(place for place, one in enumerate(node.branches) if (one.kind == "null") == (value is None))
    _integer(index, out)
    branch = node.branches[index]
    _WRITE[branch.kind](branch, value, out)


def _array(node: Type, value: Any, out: bytearray) -> None:
    items = node.items or Type("null")
    if value:
        out += varint(len(value))
        for item in value:
            _WRITE[items.kind](items, item, out)
    out.append(0)


def _map(node: Type, value: Any, out: bytearray) -> None:
    items = node.items or Type("null")
    if value:
        out += varint(len(value))
        for key, item in value.items():
            _counted(key.encode(), out)
            _WRITE[items.kind](items, item, out)
    out.append(0)


def _counted(data: bytes, out: bytearray) -> None:
    _integer(len(data), out)
    out += data


def _integer(number: int, out: bytearray) -> None:
    if 0 <= number < 64:
        out.append(number << 1)
    else:
        out += varint(number)


_WRITE: dict[str, Callable[[Type, Any, bytearray], None]] = {
    "null": lambda _node, _value, _out: None,
    "boolean": lambda _, value, out: out.append(value),
    "int": lambda _, value, out: _integer(value, out),
    "long": lambda _, value, out: _integer(value, out),
    "float": lambda _, value, out: out.extend(_FLOAT(value)),
    "double": lambda _, value, out: out.extend(_DOUBLE(value)),
    "bytes": lambda _, value, out: _counted(value, out),
    "string": lambda _, value, out: _counted(value.encode(), out),
    "fixed": lambda _, value, out: out.extend(value),
    "enum": lambda node, value, out: out.extend(varint(node.symbols.index(value))),
    "record": _record,
    "array": _array,
    "map": _map,
    "union": _union,
}
