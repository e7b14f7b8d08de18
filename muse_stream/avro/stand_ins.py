"""Stand-ins: the types that the batch decoder is given for those that it does not know, and back.

A `Type` gives the schema that pyruhvro decodes with. It has the same bytes, but for the length that `lengths` writes
before a `fixed`, and types that pyruhvro reads without a loss:

    int                             long, so that a value out of an int's range is seen instead of cut off
    bytes                           string, whose bytes pyruhvro copies unseen
    fixed of 4, 8, 12 ... bytes     a record of doubles and a float: their bits are copied
    fixed of another size           a record of one string, after `lengths` has written its length before it
    fixed of no bytes               null
    one of two alike in a union     a record of one: a union has no type twice

`binary` takes what was decoded back to an Arrow array of bytes, column by column and only where it is wanted.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from muse_stream.avro.types import Type, any_type

ALONE = "muse_alone_"
"""Field of a record that stands for what is in it."""
WORD = 8
MOST_WORDS = 8
"""Of a `fixed` that is read as numbers: each is a column."""
LIKE = {"int": "long", "bytes": "string"}
"""Types that others stand in for."""
OPAQUE = frozenset({"bytes", "fixed"})


def plain(node: Type) -> bool:
    """Say whether nothing stands in but for an int: there is no bytes and no fixed."""
    return not any_type(node, lambda one: one.kind in OPAQUE)


def in_words(node: Type) -> bool:
    """Say whether a `fixed` is read as doubles and a float."""
    return 0 < node.size <= MOST_WORDS * WORD and node.size % 4 == 0


def has_length(node: Type) -> bool:
    """Say whether the type is a `fixed` that is read as a string, so that its length must stand before it."""
    return node.kind == "fixed" and node.size > 0 and not in_words(node)


def document(node: Type) -> Any:
    """Return schema JSON for the batch decoder; every named type gets a name of its own."""
    return _stand_in(node, iter(range(1 << 30)))


def _stand_in(node: Type, numbers: Iterator[int]) -> Any:
    if node.kind == "union":
        kinds = {branch.kind for branch in node.branches}
        alike = [LIKE.get(one.kind) in kinds or (one.kind == "fixed" and not one.size) for one in node.branches]
        parts = [_stand_in(branch, numbers) for branch in node.branches]
        return [
            _record([(ALONE, part)], numbers) if double else part for part, double in zip(parts, alike, strict=True)
        ]
    if node.kind in ("array", "map"):
        key = "items" if node.kind == "array" else "values"
        return {"type": node.kind, key: _stand_in(node.items or Type("null"), numbers)}
    if node.kind == "enum":
        return {"type": "enum", "name": f"T{next(numbers)}", "symbols": list(node.symbols)}
    if node.kind == "record":
        return _record([(part.name, _stand_in(part.type, numbers)) for part in node.fields], numbers)
    if node.kind == "fixed":
        return _record(_fixed(node), numbers) if node.size else "null"
    return LIKE.get(node.kind, node.kind)


def _fixed(node: Type) -> list[tuple[str, Any]]:
    if not in_words(node):
        return [(ALONE, "string")]
    words = [(f"w{index}", "double") for index in range(node.size // WORD)]
    return words + [("rest", "float")] * (node.size % WORD > 0)


def _record(fields: list[tuple[str, Any]], numbers: Iterator[int]) -> dict[str, Any]:
    parts = [{"name": name, "type": kind} for name, kind in fields]
    return {"type": "record", "name": f"T{next(numbers)}", "fields": parts}


def binary(array: pa.Array) -> pa.Array:
    """Return what was decoded of `bytes` or `fixed` as an array of bytes; null stays null."""
    if pa.types.is_binary(array.type):
        return array
    if pa.types.is_string(array.type):
        return array.view(pa.binary())
    if pa.types.is_null(array.type):
        return _empty(len(array))
    first = array.type.field(0).type
    if pa.types.is_string(first):
        found = array.field(0).view(pa.binary())
    elif pa.types.is_null(first):
        found = _empty(len(array))
    else:
        found = _joined([array.field(index) for index in range(array.type.num_fields)], len(array))
    return pc.if_else(array.is_valid(), found, pa.scalar(None, pa.binary())) if array.null_count else found


def _empty(rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(b""), rows)


def _joined(words: list[pa.Array], rows: int) -> pa.Array:
    """Return the bytes of numbers that stand side by side, one value a row."""
    parts = []
    for word in words:
        width = word.type.bit_width // 8
        data = np.frombuffer(word.buffers()[1], np.uint8, rows * width, word.offset * width)
        parts.append(data.reshape(rows, width))
    whole = np.concatenate(parts, axis=1)
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(whole.shape[1])
    return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(whole)])


def values(node: Type, array: pa.Array) -> list[Any]:
    """Return what was decoded of a type as Python values, as fastavro gives them without logical types. Slow."""
    if node.kind in OPAQUE:
        return list(binary(array).to_pylist())
    if node.kind == "int" and pa.types.is_struct(array.type):
        array = array.field(0)
    if node.kind == "record":
        parts = {part.name: values(part.type, array.field(at)) for at, part in enumerate(node.fields)}
        records = [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]
        return [row if there else None for row, there in zip(records, array.is_valid().to_pylist(), strict=True)]
    if node.kind == "union":
        return _of_union(node.branches, array)
    if node.kind in ("array", "map") and node.items is not None:
        ends = array.offsets.to_pylist()
        found = values(node.items, array.values if node.kind == "array" else array.items)
        if node.kind == "map":
            found = list(zip(array.keys.to_pylist(), found, strict=True))
        rows = [found[start:end] for start, end in pairwise(ends)]
        lists: list[Any] = rows if node.kind == "array" else [dict(row) for row in rows]
        return [row if there else None for row, there in zip(lists, array.is_valid().to_pylist(), strict=True)]
    return list(array.to_pylist())


def _of_union(branches: Sequence[Type], array: pa.Array) -> list[Any]:
    if not pa.types.is_union(array.type):
        (found,) = [branch for branch in branches if branch.kind != "null"] or branches[:1]
        return values(found, array)
    parts = [values(branch, array.field(at)) for at, branch in enumerate(branches)]
    return [parts[code][row] for row, code in enumerate(array.type_codes.to_pylist())]
