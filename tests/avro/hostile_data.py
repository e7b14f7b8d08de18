"""Random schemas, records of them and what became of the bytes on the way, for the tests that try to kill a decoder.

`schema_documents()` is for hypothesis (so that a schema shrinks); then a seed, and data is drawn by `random`, quickly,
in the child process. Bytes come with what they mean: a record is {field: (branch, value)}. Everything is written by
this module's own few lines of Avro, which can write what fastavro never does.
"""

import random
import struct
from typing import Any

from hypothesis import strategies as st

from muse_stream.avro.samples import varint
from muse_stream.avro.types import Type

Json = Any
Rng = random.Random

PLAIN = ("null", "boolean", "int", "long", "float", "double", "string")
LOGICAL: tuple[Json, ...] = (
    {"type": "int", "logicalType": "date"},
    {"type": "int", "logicalType": "time-millis"},
    {"type": "long", "logicalType": "timestamp-millis"},
    {"type": "long", "logicalType": "timestamp-micros"},
    {"type": "string", "logicalType": "uuid"},
)
OPAQUE: tuple[Json, ...] = ("bytes", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2})


class Names:
    """Named types: each is defined once, and may be used again where it is complete."""

    def __init__(self, opaque: bool) -> None:
        self.opaque = opaque
        """Types that the batch decoder does not know, and others stand in for, occur too."""
        self.count = 0
        self.complete: list[str] = []

    def new(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"


@st.composite
def leaves(draw: st.DrawFn, names: Names) -> Json:
    more = (*OPAQUE, "fixed", "decimal", "uuid") if names.opaque else ()
    kind = draw(st.sampled_from((*PLAIN[1:], *LOGICAL, *more, "enum", "again")))
    if kind == "enum":
        return {"type": "enum", "name": names.new("E"), "symbols": ["A", "B", "C"][: draw(st.integers(1, 3))]}
    if kind == "fixed":
        return {
            "type": "fixed",
            "name": names.new("F"),
            "size": draw(st.sampled_from((*range(6), 8, 12, 20, 64, 65, 68))),
        }
    if kind == "decimal":
        return {
            "type": "fixed",
            "name": names.new("F"),
            "size": 4,
            "logicalType": "decimal",
            "precision": 6,
            "scale": 3,
        }
    if kind == "uuid":
        return {"type": "fixed", "name": names.new("F"), "size": 16, "logicalType": "uuid"}
    if kind == "again":
        return names.complete[draw(st.integers(0, len(names.complete) - 1))] if names.complete else "int"
    return kind


@st.composite
def several(draw: st.DrawFn, names: Names, depth: int) -> Json:
    """A union of several types, null among them or not."""
    simple = (*PLAIN, "bytes") if names.opaque else PLAIN
    kinds: list[Json] = draw(st.lists(st.sampled_from(simple), min_size=1, max_size=4, unique=True))
    kinds = [draw(st.sampled_from((kind, *(one for one in LOGICAL if one["type"] == kind)))) for kind in kinds]
    for _ in range(draw(st.integers(0, 2)) if depth else 0):
        kinds.insert(draw(st.integers(0, len(kinds))), draw(records(names, depth - 1)))
    if draw(st.booleans()):
        kinds.append({"type": "enum", "name": names.new("E"), "symbols": ["A", "B"]})
    return kinds


@st.composite
def nodes(draw: st.DrawFn, names: Names, depth: int) -> Json:
    form = draw(st.sampled_from(("leaf", "null", "several") + depth * ("record", "maybe", "alone", "array", "map")))
    if form == "several":
        return draw(several(names, depth))
    if form in ("array", "map"):
        kind = {"type": form, "items" if form == "array" else "values": draw(nodes(names, depth - 1))}
        return draw(st.sampled_from((kind, ["null", kind], ["string", kind, "null"])))
    if form in ("leaf", "null"):
        kind = draw(leaves(names))
        return kind if form == "leaf" else draw(st.permutations(["null", kind]))
    record = draw(records(names, depth - 1))
    return record if form == "record" else [record] if form == "alone" else draw(st.permutations(["null", record]))


@st.composite
def records(draw: st.DrawFn, names: Names, depth: int) -> Json:
    name = names.new("R")
    kinds = [draw(nodes(names, depth)) for _ in range(draw(st.integers(1, 4)))]
    names.complete.append(name)
    fields = [{"name": f"f{index}", "type": kind} for index, kind in enumerate(kinds)]
    return {"type": "record", "name": name, "fields": fields}


@st.composite
def schema_documents(draw: st.DrawFn) -> Json:
    """An event's schema: an id, and up to four fields of anything, three levels deep."""
    document = draw(records(Names(opaque=draw(st.booleans())), 3))
    document["fields"].insert(0, {"name": "id", "type": "string"})
    return document


ODD: tuple[Json, ...] = (
    *(None, True, -1, 0, 1.5, 2**31, 2**70, 1e400, "", "null", "int", "string", "record", "R1", "a b", "\ud800", "é\0"),
    *([], {}, [[]], ["null"], ["null", "null"], ["int", "int"], ["null", ["int"]], {"type": "record"}),
    *({"type": {"type": "int"}}, {"type": "array"}, {"type": "map", "values": "R1"}),
    *({"type": "fixed", "name": "X", "size": -1}, {"type": "enum", "name": "X", "symbols": []}),
)
ATTRIBUTES = ("default", "aliases", "logicalType", "precision", "scale", "size", "namespace", "name", "doc")


def spoil(document: Json, rng: Rng) -> Json:
    """Return a schema with something odd where nobody expects it: a value replaced, added or gone, at any depth."""
    if isinstance(document, dict) and document and rng.random() < 0.9:
        key = rng.choice([*document])
        if rng.random() < 0.15:
            key = rng.choice(ATTRIBUTES)
        return {**document, key: spoil(document.get(key), rng)}
    if isinstance(document, list) and document and rng.random() < 0.9:
        at = rng.randrange(len(document))
        if rng.random() < 0.15:
            return document[:at] + [document[at]] * rng.randrange(3) + document[at:]
        return [*document[:at], spoil(document[at], rng), *document[at + 1 :]]
    return rng.choice(ODD)


def value_of(node: Type, rng: Rng, depth: int = 0) -> tuple[bytes, Any]:  # noqa: PLR0911 - one for each kind
    """Draw a value: its bytes and what they mean."""
    kind = node.kind
    if kind == "record":
        return record_of(node, rng, depth)
    if kind in ("array", "map"):
        return _blocks(node, rng, depth)
    if kind == "enum":
        index = rng.randrange(len(node.symbols))
        return varint(index), node.symbols[index]
    if kind == "fixed":
        data = rng.randbytes(node.size)
        return data, data
    value = rng.choice(VALUES[kind])
    if kind in ("string", "bytes"):
        data = value.encode() if kind == "string" else value
        return varint(len(data)) + data, value
    if kind in ("float", "double"):
        data = struct.pack("<f" if kind == "float" else "<d", value)
        return data, value
    return (varint(value), value) if kind in ("int", "long") else (b"" if value is None else bytes([value]), value)


VALUES: dict[str, tuple[Any, ...]] = {
    "null": (None,),
    "boolean": (True, False),
    "int": (0, -1, 63, 64, 2**31 - 1, -(2**31)),
    "long": (0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)),
    "float": (0.0, -1.5, 2.0**127, float("nan"), float("inf")),
    "double": (0.0, -0.1, 1e300, 5e-324, float("nan"), float("-inf")),
    "string": ("", "a", "5", "é", "\U0001f600\0", "x" * 300, "\n"),
    "bytes": (b"", b"a", b"\xff\x00", bytes(20)),
}


def record_of(node: Type, rng: Rng, depth: int = 0) -> tuple[bytes, dict[str, tuple[int, Any]]]:
    """Draw a record."""
    data, value = b"", {}
    for field in node.fields:
        branch, inner = 0, field.type
        if inner.kind == "union":
            branch = rng.randrange(len(inner.branches))
            data += varint(branch)
            inner = inner.branches[branch]
        part, found = value_of(inner, rng, depth)
        data += part
        value[field.name] = (branch, found)
    return data, value


def _blocks(node: Type, rng: Rng, depth: int) -> tuple[bytes, Any]:
    data, entries = b"", []
    for _ in range(rng.randrange(3 if depth < 3 else 2)):
        items, inner = [], node.items or Type("null")
        for _ in range(rng.randint(1, 2)):
            key, name = value_of(Type("string"), rng) if node.kind == "map" else (b"", "")
            branch = rng.randrange(len(inner.branches)) if inner.kind == "union" else 0
            head = varint(branch) if inner.kind == "union" else b""
            part, found = value_of(inner.branches[branch] if head else inner, rng, depth + 1)
            items.append(key + head + part)
            entries.append((name, found))
        block = b"".join(items)
        sized = rng.random() < 0.3  # a negative count, and then the block's size in bytes
        data += (varint(-len(items)) + varint(len(block)) if sized else varint(len(items))) + block
    return data + b"\0", dict(entries) if node.kind == "map" else [found for _, found in entries]


NUMBERS = tuple(varint(number) for number in (-1, 2**31, -(2**31), 2**40, 2**60, -(2**60), 2**63 - 1, -(2**63)))


def damage(data: bytes, rng: Rng) -> bytes:
    """Return the bytes after an accident, or after a visit."""
    at = rng.randint(0, len(data))
    head, tail = data[:at], data[at:]
    return rng.choice(
        (
            head,
            data + rng.randbytes(rng.randint(1, 9)),
            head + rng.randbytes(1) + tail[1:],
            head + rng.choice(NUMBERS) + tail[1:],  # a count, a length or a branch beyond everything
            head + rng.randbytes(rng.randint(1, 4)) + tail,
            head + tail[:20] * 3 + tail[20:],
            rng.randbytes(rng.randint(0, 80)),
            rng.choice((b"\xff", b"\0", b"\x02", b"\x80", b"\x01")) * rng.randint(0, 200),
        )
    )
