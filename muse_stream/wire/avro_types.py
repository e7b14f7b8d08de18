"""An Avro schema as a tree of values, every name followed.

In: schema JSON. Out: `Type`, and the plain schema (no logical types) that the wire decoders are given.
Law: a logical type never changes the wire form (Avro specification, "Logical Types"), so both decoders work on the
physical types alone and the meaning is applied afterwards, to the columns that are wanted, in one place.
Recursive schemas are refused: they have no columns, and a hostile record could nest without bound.
"""

import json
from dataclasses import dataclass
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from muse_stream.errors import SchemaError

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
NAMED = frozenset({"record", "error", "enum", "fixed"})


@dataclass(frozen=True, slots=True)
class Field:
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
    """Unqualified name of a record, enum or fixed."""
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

    def field(self, name: str) -> Field | None:
        """Return the record's field of that name."""
        return next((field for field in self.fields if field.name == name), None)

    @property
    def options(self) -> tuple["Type", ...]:
        """The branches of a union, or the type itself."""
        return self.branches if self.kind == "union" else (self,)


def parse(text: str, where: str = "schema") -> Type:
    """Parse schema JSON; raises SchemaError, naming `where`, for what is malformed, recursive or not a record."""
    try:
        document = json.loads(text)
        parsed = fastavro.parse_schema(document)
    except (ValueError, TypeError, KeyError, AttributeError, SchemaParseException, UnknownType) as error:
        kind = "not JSON" if isinstance(error, json.JSONDecodeError) else "not an Avro schema"
        raise SchemaError(f"{where}: {kind}: {error}") from None
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise SchemaError(f"{where}: the schema of a Kafka value must be a record")
    if not parsed.get("fields"):
        raise SchemaError(f"{where}: not an Avro schema: the record has no fields")
    return _Reading(where, parsed.get("__named_schemas", {})).node(parsed, ())


class _Reading:
    """Follows the names of one parsed schema."""

    def __init__(self, where: str, named: dict[str, Any]) -> None:
        self._where = where
        self._named = named

    def node(self, schema: Any, above: tuple[str, ...]) -> Type:
        if isinstance(schema, list):
            return Type("union", branches=tuple(self.node(branch, above) for branch in schema))
        if isinstance(schema, str):
            return Type(schema) if schema in PRIMITIVES else self._complex(self._named[schema], above)
        return self._complex(schema, above)

    def _complex(self, schema: dict[str, Any], above: tuple[str, ...]) -> Type:
        kind = schema["type"]
        logical, scale = schema.get("logicalType"), int(schema.get("scale", 0) or 0)
        if isinstance(kind, str) and kind in PRIMITIVES:
            return Type(kind, logical=logical, scale=scale)
        if kind in ("array", "map"):
            items = self.node(schema["items" if kind == "array" else "values"], above)
            if kind == "array" and not can_hold_bytes(items):
                raise SchemaError(f"{self._where}: an array of {items.kind} takes no bytes, so its length has no bound")
            return Type(kind, items=items)
        if not isinstance(kind, str) or kind not in NAMED:  # {"type": {"type": ...}}
            return self.node(kind, above)
        return self._named_type(schema, above, logical, scale)

    def _named_type(self, schema: dict[str, Any], above: tuple[str, ...], logical: str | None, scale: int) -> Type:
        kind, full = schema["type"], schema["name"]
        if full in above:
            raise SchemaError(f"{self._where}: {full} contains itself; recursive schemas are not supported")
        name, aliases = _short(full), tuple(_short(alias) for alias in schema.get("aliases", ()))
        if kind == "enum":
            symbols = tuple(schema["symbols"])
            return Type("enum", name, aliases, symbols=symbols, default=schema.get("default"))
        if kind == "fixed":
            return Type("fixed", name, aliases, size=int(schema["size"]), logical=logical, scale=scale)
        fields = tuple(self._field(field, (*above, full)) for field in schema["fields"])
        return Type("record", name, aliases, fields)

    def _field(self, field: dict[str, Any], above: tuple[str, ...]) -> Field:
        aliases = tuple(field.get("aliases", ()))
        return Field(field["name"], self.node(field["type"], above), aliases, "default" in field, field.get("default"))


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def can_hold_bytes(node: Type) -> bool:
    """Say whether every value of the type takes at least one byte on the wire."""
    if node.kind == "record":
        return any(can_hold_bytes(field.type) for field in node.fields)
    return node.kind != "null" and not (node.kind == "fixed" and node.size == 0)


def mentions(node: Type, kinds: frozenset[str]) -> bool:
    """Say whether one of the kinds occurs anywhere in the type."""
    inner = [field.type for field in node.fields] + list(node.branches) + ([node.items] if node.items else [])
    return node.kind in kinds or any(mentions(part, kinds) for part in inner)


def physical(node: Type, *, widen: bool = False) -> Any:
    """Return schema JSON of the same wire form with no logical types; every named type gets a name of its own.

    With `widen`, int is given as long: same bytes, but a decoder then shows a value out of int's range instead of
    cutting it off.
    """
    return _physical(node, widen, iter(range(1 << 30)))


def _physical(node: Type, widen: bool, numbers: Any) -> Any:
    if node.kind == "union":
        return [_physical(branch, widen, numbers) for branch in node.branches]
    if node.kind in ("array", "map"):
        key = "items" if node.kind == "array" else "values"
        return {"type": node.kind, key: _physical(node.items or Type("null"), widen, numbers)}
    if node.kind in ("record", "enum", "fixed"):
        named: dict[str, Any] = {"type": node.kind, "name": f"T{next(numbers)}"}
        if node.kind == "enum":
            return {**named, "symbols": list(node.symbols)}
        if node.kind == "fixed":
            return {**named, "size": node.size}
        fields = [{"name": field.name, "type": _physical(field.type, widen, numbers)} for field in node.fields]
        return {**named, "fields": fields}
    return "long" if widen and node.kind == "int" else node.kind
