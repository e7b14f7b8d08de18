"""An Avro schema as a tree of values, every name followed.

`schema_json` makes the tree; this module also gives the plain schema (no logical types) that the decoders work on. A
logical type never changes the bytes (Avro specification, "Logical Types"), so both decoders work on the physical types
alone, and the meaning is applied afterwards, to the columns that are wanted, in one place.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

LEAST = {"null": 0, "float": 4, "double": 8}
"""Encoded bytes, where it is not one at least."""


class Field(Struct, frozen=True):
    """One field of a record."""

    name: str
    type: "Type"
    aliases: tuple[str, ...] = ()
    has_default: bool = False
    default: Any = None
    """JSON value, meaningful when `has_default`."""


@dataclass(frozen=True, slots=True)
class Type:
    """One node of a schema; which attributes are used depends on `kind`."""

    kind: str
    """A primitive's name, or record, enum, fixed, array, map, union."""
    name: str = ""
    """Unqualified name of a record, enum or fixed..."""
    full_name: str = ""
    """...and the name with its namespace."""
    aliases: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    branches: tuple["Type", ...] = ()
    """Of a union."""
    items: "Type | None" = None
    """Of an array or a map."""
    symbols: tuple[str, ...] = ()
    default: str | None = None
    """Of an enum."""
    size: int = 0
    """Of a fixed, in bytes."""
    logical: str | None = None
    scale: int = 0
    """Of a decimal."""
    precision: int = field(default=0, compare=False)
    """Of a decimal; 0 where the schema does not say."""
    solid: tuple["Type", ...] = field(default=(), init=False, compare=False, repr=False)
    """Of a record's fields the types that take encoded bytes, all but null and others of no bytes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "solid", tuple(part.type for part in self.fields if least_bytes(part.type)))

    def field(self, name: str) -> Field | None:
        """Return the record's field of that name."""
        return next((field for field in self.fields if field.name == name), None)

    @property
    def options(self) -> tuple["Type", ...]:
        """The branches of a union, or the type itself."""
        return self.branches if self.kind == "union" else (self,)


def least_bytes(node: Type) -> int:
    """Return how many encoded bytes a value of the type takes at least."""
    if node.kind == "record":
        return sum(least_bytes(field.type) for field in node.fields)
    if node.kind == "union":
        return 1 + min(map(least_bytes, node.branches))
    return node.size if node.kind == "fixed" else LEAST.get(node.kind, 1)


def any_type(node: Type, is_such: Callable[[Type], bool]) -> bool:
    """Say whether the type or one inside it is such."""
    inner = [field.type for field in node.fields] + list(node.branches) + ([node.items] if node.items else [])
    return is_such(node) or any(any_type(part, is_such) for part in inner)


def walk(node: Type, path: str = "") -> Iterator[tuple[str, Type]]:
    """Yield every type inside a type with its dotted path; what is in a list or map ends in `[]`."""
    yield path, node
    for part in node.fields:
        yield from walk(part.type, f"{path}.{part.name}" if path else part.name)
    for branch in node.branches:
        yield from walk(branch, path)
    if node.items is not None:
        yield from walk(node.items, f"{path}[]")


def physical(node: Type) -> Any:
    """Return schema JSON of the same wire form with no logical types; every named type gets a name of its own."""
    return _physical(node, iter(range(1 << 30)))


def _physical(node: Type, numbers: Iterator[int]) -> Any:
    if node.kind == "union":
        return [_physical(branch, numbers) for branch in node.branches]
    if node.kind in ("array", "map"):
        key = "items" if node.kind == "array" else "values"
        return {"type": node.kind, key: _physical(node.items or Type("null"), numbers)}
    if node.kind not in ("record", "enum", "fixed"):
        return node.kind
    named: dict[str, Any] = {"type": node.kind, "name": f"T{next(numbers)}"}
    if node.kind == "enum":
        return {**named, "symbols": list(node.symbols)}
    if node.kind == "fixed":
        return {**named, "size": node.size}
    return {**named, "fields": [{"name": part.name, "type": _physical(part.type, numbers)} for part in node.fields]}
