"""Made-up events of a schema: small, valid, and together in every shape that the schema allows at first sight.

The writer's schema, the reader's, and what some fields must hold give framed values, as a producer sends them. Each is
a record of the writer's schema. Over all of them every branch of every union is taken, every number is 0 and 1, and
every part that may be left out (a null, an empty array or map) is left out once while what stands above it is there.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from msgspec import Struct, field

from muse_stream.avro.encoder import prefix_for
from muse_stream.avro.resolution import NULL, Access, Outcome, column_type, route
from muse_stream.avro.samples import counted, varint
from muse_stream.avro.schemas import Schema
from muse_stream.avro.times import INSTANTS, UNITS, TimeUnit
from muse_stream.avro.types import Type

MOST = 64
"""Of complete records, and as many of others; a union of more branches is not tried to its end."""

Texts = Mapping[str, Sequence[Sequence[str]]]


class Demands(Struct, frozen=True):
    """What some fields of the reader's schema must hold, by dotted path."""

    present: frozenset[str] = frozenset()
    """Fields that a second record of each shape has where the first leaves them out."""
    texts: Texts = field(default_factory=dict)
    """Text fields and the sets of strings they take one of, set after set."""
    times: Mapping[str, int] = field(default_factory=dict)
    """Times and what they say, in nanoseconds since 1970."""
    time_unit: TimeUnit = "ms"
    """What a time without a logical type counts."""


class _Shape(Struct, frozen=True):
    number: int
    """Chooses among branches, symbols and texts; its last bit is what numbers are."""
    missing: int = -1
    """Parts that may be left out are, at this depth of such parts; -1: none is."""
    whole: bool = False
    """Whether fields that must be present are, all the same."""


def made_up(reader: Schema, writer: Schema, paths: Iterable[str], demands: Demands) -> list[bytes]:
    """Return records of `writer`, the complete ones first; raises SchemaError if it cannot be read as `reader`."""
    written = {path: place for path in paths if (place := _written(reader.type, writer.type, path))}
    texts = {written[path]: sets for path, sets in demands.texts.items() if path in written}
    present = {place for path in demands.present if path in written for place in _above(written[path])}
    times = {written[path]: _counted(reader.type, path, demands) for path in demands.times if path in written}
    prefix = prefix_for(writer, "single-object" if writer.id is None else "confluent")
    maker = _Maker(present, texts, times)
    shapes = _shapes(writer.type, max((len(sets) for sets in texts.values()), default=1))
    return list(dict.fromkeys(prefix + maker.value(writer.type, "", shape, 0) for shape in shapes))


def _written(reader: Type, writer: Type, path: str) -> str:
    """Return the path of a field in the writer's schema, or nothing where the writer does not have it."""
    outcome: Outcome = route(reader, writer, path, "text").root
    names: list[str] = []
    while isinstance(outcome, Access):
        names.append(outcome.field)
        deeper = [branch for branch in outcome.branches if isinstance(branch, Access)]
        outcome = deeper[0] if deeper else NULL
    return ".".join(names)


def _counted(reader: Type, path: str, demands: Demands) -> tuple[int, int]:
    """Return a time's nanoseconds, and the unit that its number counts where the writer states none."""
    options = column_type(reader, path, "time")[2].options
    stated = [INSTANTS[option.logical] for option in options if option.logical in INSTANTS]
    return demands.times[path], stated[0] if stated else UNITS[demands.time_unit]


def _above(path: str) -> list[str]:
    names = path.split(".")
    return [".".join(names[: depth + 1]) for depth in range(len(names))]


def _shapes(node: Type, sets: int) -> Iterator[_Shape]:
    branches = max(1, _widest(node))
    yield from map(_Shape, range(min(max(2, branches, sets), MOST)))
    left_out = (
        _Shape(number, depth, whole)
        for depth in range(_depth(node))
        for number in range(branches)
        for whole in (False, True)
    )
    yield from islice(left_out, MOST)


def _parts(node: Type) -> list[Type]:
    return [*(one.type for one in node.fields), *node.branches, *([node.items] if node.items else [])]


def _widest(node: Type) -> int:
    """Return the most branches that any union has, null aside."""
    own = sum(branch.kind != "null" for branch in node.branches)
    return max([own, *map(_widest, _parts(node))])


def _optional(node: Type) -> bool:
    return node.kind in ("array", "map") or any(branch.kind == "null" for branch in node.branches)


def _depth(node: Type) -> int:
    """Return how many parts that may be left out stand inside each other at most."""
    return int(_optional(node)) + max(map(_depth, _parts(node)), default=0)


class _Maker:
    """Writes values in Avro's binary form: a library would choose a union's branch by the look of the value."""

    def __init__(self, present: set[str], texts: Texts, times: Mapping[str, tuple[int, int]]) -> None:
        """`times`: by the writer's path, nanoseconds and the unit of a number that states none."""
        self._present, self._texts, self._times = present, texts, times

    def value(self, node: Type, path: str, shape: _Shape, depth: int) -> bytes:
        """Return one value; `depth` counts the parts above it that may be left out."""
        below = depth + _optional(node)
        if node.kind == "record":
            parts = ((one.type, f"{path}.{one.name}" if path else one.name) for one in node.fields)
            return b"".join(self.value(part, name, shape, depth) for part, name in parts)
        if node.kind == "union":
            index = self._branch(node, path, shape, depth)
            return varint(index) + self.value(node.branches[index], path, shape, below)
        if node.kind in ("array", "map"):
            if depth == shape.missing or node.items is None:
                return varint(0)
            key = counted(b"k") if node.kind == "map" else b""
            return varint(1) + key + self.value(node.items, f"{path}[]", shape, below) + varint(0)
        return self._leaf(node, path, shape)

    def _branch(self, node: Type, path: str, shape: _Shape, depth: int) -> int:
        others = [index for index, branch in enumerate(node.branches) if branch.kind != "null"]
        nulls = [index for index, branch in enumerate(node.branches) if branch.kind == "null"]
        left_out = depth == shape.missing and not (shape.whole and path in self._present)
        if nulls and (left_out or not others):
            return nulls[0]
        return others[shape.number % len(others)]

    def _leaf(self, node: Type, path: str, shape: _Shape) -> bytes:
        if path in self._times and node.kind in ("int", "long"):
            nanoseconds, unit = self._times[path]
            most = 2 ** (31 if node.kind == "int" else 63) - 1
            return varint(max(-most, min(most, nanoseconds // INSTANTS.get(node.logical or "", unit))))
        number = 1 - shape.number % 2
        sets = self._texts.get(path)
        chosen = sets[shape.number % len(sets)] if sets else ()
        if node.kind in ("string", "bytes"):
            return counted((chosen[0] if chosen else str(number)).encode())
        if node.kind == "enum":
            known = [index for index, symbol in enumerate(node.symbols) if symbol in chosen]
            return varint(known[0] if known else shape.number % len(node.symbols))
        if node.kind == "fixed":
            return number.to_bytes(node.size, "big") if node.size else b""
        if chosen and node.kind in ("int", "long") and chosen[0].lstrip("-").isdigit():
            return varint(int(chosen[0]))
        return NUMBERS[node.kind](number)


NUMBERS: dict[str, Callable[[int], bytes]] = {
    "null": lambda _number: b"",
    "boolean": lambda number: bytes([number]),
    "int": varint,
    "long": varint,
    "float": struct.Struct("<f").pack,
    "double": struct.Struct("<d").pack,
}
"""How a number is written, by the type that holds it."""
