"""Schema JSON to a tree.

The text of a schema becomes a `Type`, or a SchemaError that says what is wrong. What passes here can be given to any
decoder. Refused, with the reason, is what none can be given safely: recursive schemas (no columns, and a hostile record
could nest without bound), arrays of nothing (no bytes bound their count), schemas of unbounded depth or size, sizes and
defaults that are no such thing.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import fastavro
from fastavro.schema import UnknownType

from muse_stream.avro.types import Field, Type, least_bytes
from muse_stream.errors import SchemaError

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
NAMED = frozenset({"record", "error", "enum", "fixed"})
LOGICAL: dict[str, frozenset[str]] = {
    "date": frozenset({"int"}),
    "time-millis": frozenset({"int"}),
    **dict.fromkeys(
        (
            "time-micros",
            *(f"{local}timestamp-{unit}" for local in ("", "local-") for unit in ("millis", "micros", "nanos")),
        ),
        frozenset({"long"}),
    ),
    "decimal": frozenset({"bytes", "fixed"}),
    "big-decimal": frozenset({"bytes"}),
    "uuid": frozenset({"string", "fixed"}),
}
"""Logical types that mean something here, and what they may annotate; elsewhere Avro wants them ignored."""

NOT_FINITE = ("NaN", *(f"{sign}{name}" for sign in ("", "+", "-") for name in ("Infinity", "INF")))
"""Defaults of float and double for which JSON has no number, as Jackson writes and reads them; so does float()."""

MOST_DEPTH = 64
"""Types inside types, names followed. Decoders go down by recursion; a stack that runs out kills the process."""
MOST_NESTING = 4 * MOST_DEPTH
"""Brackets inside brackets of the JSON text, three or four to a type; held before any parser of schemas sees it."""
TOO_DEEP = f"not supported: types nest more than {MOST_DEPTH} deep"
MOST_TYPES = 20_000
"""Types in a schema, names followed: thirty records that name each other twice are a thousand million."""
UUID_BYTES = 16
MOST_SCALE = 1000
"""Digits after a decimal's point; a float64 ends near 300."""
MOST_BYTES = 1 << 20
"""Of a fixed; `bytes` has no bound but limits.max_event_bytes."""


class NotARecord(SchemaError):
    """An Avro schema, but of no record: of a key, say, or a type that other files use."""


def parse(text: str, where: str = "schema") -> Type:
    """Parse schema JSON; raises SchemaError, naming `where`, for what is malformed, recursive or not a record."""
    try:
        document = read_json(sound(text))
        parsed = fastavro.parse_schema(document)
        if not isinstance(parsed, dict) or parsed.get("type") != "record":
            raise NotARecord("the schema of a Kafka value must be a record")
        if not parsed.get("fields"):
            raise SchemaError("not an Avro schema: the record has no fields")
        return _Reading(parsed.get("__named_schemas", {})).node(parsed, ())
    except SchemaError as error:
        raise type(error)(f"{where}: {error}") from None
    except json.JSONDecodeError as error:
        raise SchemaError(f"{where}: not JSON: {error}") from None
    except Exception as error:  # noqa: BLE001 - fastavro raises whatever it trips over: KeyError, TypeError, ...
        said = {KeyError: f"{error} is missing", UnknownType: f"unknown type {error}"}
        raise SchemaError(f"{where}: not an Avro schema: {said.get(type(error), str(error))}") from None


def sound(text: str) -> str:
    """Return schema JSON without decimals that are none, which Avro wants ignored and fastavro refuses.

    Raises what `read_json` does.
    """
    document = read_json(text)
    return json.dumps(document) if _strip_decimals(document) else text


def _strip_decimals(schema: Any) -> bool:
    """Take the logical type off decimals that are none, in place; say whether there were any."""
    if isinstance(schema, list):
        return any([_strip_decimals(one) for one in schema])  # noqa: C419 - of all, not up to the first
    if not isinstance(schema, dict):
        return False
    inner = any([_strip_decimals(schema.get(key)) for key in ("type", "fields", "items", "values")])  # noqa: C419
    wrong = schema.get("logicalType") == "decimal" and schema.get("type") in ("bytes", "fixed") and not _decimal(schema)
    if wrong:
        del schema["logicalType"]
    return inner or wrong


def _decimal(schema: dict[str, Any]) -> bool:
    """Say whether a decimal is one (Avro 1.12, "Decimal"); one without a precision may be."""
    scale: Any = schema.get("scale", 0)
    precision: Any = schema.get("precision")
    size: Any = schema.get("size")
    if not _whole(scale, 2**31) or scale < 0:
        return False
    if "precision" not in schema:
        return True
    if not _whole(precision, 2**31) or precision < max(1, scale):
        return False
    bits = 8 * size - 1 if _whole(size, MOST_BYTES + 1) else 0
    return schema["type"] == "bytes" or bool(precision <= math.floor(math.log10(2) * bits))


def read_json(text: str) -> Any:
    """Return a schema's JSON; raises SchemaError, or JSONDecodeError, for what no parser of schemas should see."""
    try:
        document = json.loads(text)
    except RecursionError:
        raise SchemaError(TOO_DEEP) from None
    level, nesting = [document], 0
    while level := [inner for outer in level for inner in _inside(outer)]:
        nesting += 1
        if nesting > MOST_NESTING:
            raise SchemaError(TOO_DEEP)
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise SchemaError(
            "not an Avro schema: it has half a surrogate pair (\\ud800 to \\udfff), which is not text"
        ) from None
    return document


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class _Reading:
    """Follows the names of one parsed schema."""

    def __init__(self, named: dict[str, Any]) -> None:
        self._named = named
        self._depth = self._types = 0

    def node(self, schema: Any, above: tuple[str, ...]) -> Type:
        self._depth += 1
        self._types += 1
        if self._depth > MOST_DEPTH:
            raise SchemaError(TOO_DEEP)
        if self._types > MOST_TYPES:
            raise SchemaError(f"not supported: more than {MOST_TYPES:,} types, each name followed")
        try:
            return self._node(schema, above)
        finally:
            self._depth -= 1

    def _node(self, schema: Any, above: tuple[str, ...]) -> Type:
        if isinstance(schema, list):
            return self._union(schema, above)
        if isinstance(schema, str):
            return Type(schema) if schema in PRIMITIVES else self._complex(self._named[schema], above)
        return self._complex(schema, above)

    def _union(self, schema: list[Any], above: tuple[str, ...]) -> Type:
        branches = tuple(self.node(branch, above) for branch in schema)
        if not branches:
            raise SchemaError("not an Avro schema: a union has no types")
        if any(branch.kind == "union" for branch in branches):
            raise SchemaError("not an Avro schema: a union is directly in a union")
        unnamed = Counter(branch.kind for branch in branches if branch.kind not in ("record", "enum", "fixed"))
        named = Counter(branch for branch in schema if isinstance(branch, str) and branch not in PRIMITIVES)
        for twice, times in (unnamed | named).items():
            if times > 1:
                # Avro specification, "Unions": a type once, named types by their names; Java refuses it as well
                raise SchemaError(f"not an Avro schema: a union has '{twice}' twice")
        return Type("union", branches=branches)

    def _complex(self, schema: dict[str, Any], above: tuple[str, ...]) -> Type:
        kind = schema["type"]
        if isinstance(kind, str) and kind in PRIMITIVES:
            return Type(kind, **_logical(schema, kind))
        if kind in ("array", "map"):
            items = self.node(schema["items" if kind == "array" else "values"], above)
            if kind == "array" and not least_bytes(items):
                raise SchemaError(f"an array of {items.kind} takes no bytes, so its length has no bound")
            return Type(kind, items=items)
        if not isinstance(kind, str) or kind not in NAMED:  # {"type": {"type": ...}}
            return self.node(kind, above)
        return self._named_type(schema, above)

    def _named_type(self, schema: dict[str, Any], above: tuple[str, ...]) -> Type:
        kind, full = schema["type"], schema["name"]
        if full in above:
            raise SchemaError(f"{full} contains itself; recursive schemas are not supported")
        name, aliases = _short(_named(full)), tuple(map(_short, schema.get("aliases", ())))
        if kind == "enum":
            symbols = tuple(schema["symbols"])
            if not symbols:
                raise SchemaError(f"not an Avro schema: the enum {name} has no symbols")
            return Type("enum", name, full, aliases, symbols=symbols, default=schema.get("default"))
        if kind == "fixed":
            size = schema["size"]
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MOST_BYTES:
                raise SchemaError(
                    f"not an Avro schema: the size of {name} is {size!r}; a number from 0 to {MOST_BYTES:,}"
                )
            return Type("fixed", name, full, aliases, size=size, **_logical(schema, kind))
        fields = tuple(self._field(field, (*above, full)) for field in schema["fields"])
        twice = [one for one, count in Counter(field.name for field in fields).items() if count > 1]
        if twice:
            raise SchemaError(f"not an Avro schema: {name} has two fields {twice[0]!r}")
        return Type("record", name, full, aliases, fields)

    def _field(self, field: dict[str, Any], above: tuple[str, ...]) -> Field:
        node, default = self.node(field["type"], above), field.get("default")
        if "default" in field and not allows(node, default):
            kinds = "|".join(option.kind for option in node.options)
            raise SchemaError(f"not an Avro schema: the default of {field['name']!r}, {default!r:.60}, is not {kinds}")
        return Field(_named(field["name"]), node, tuple(field.get("aliases", ())), "default" in field, default)


def _logical(schema: dict[str, Any], kind: str) -> dict[str, Any]:
    logical = schema.get("logicalType")
    if not isinstance(logical, str) or kind not in LOGICAL.get(logical, ()):
        return {}
    if logical == "uuid" and kind == "fixed" and schema["size"] != UUID_BYTES:
        return {}
    scale = int(schema.get("scale", 0) or 0)
    if not 0 <= scale <= MOST_SCALE:
        raise SchemaError(f"not supported: a decimal's scale of {scale}; 0 to {MOST_SCALE}")
    precision = schema.get("precision", 0)
    known = isinstance(precision, int) and not isinstance(precision, bool) and precision > 0
    return {"logical": logical, "scale": scale, "precision": precision if known else 0}


def allows(node: Type, value: Any) -> bool:
    """Say whether a JSON value can be the default of a type (of any of its branches, as Avro 1.12 has it)."""
    if node.kind == "union":
        return any(allows(branch, value) for branch in node.branches)
    if node.kind == "record":
        return isinstance(value, dict) and all(
            allows(field.type, value[field.name]) if field.name in value else field.has_default for field in node.fields
        )
    if node.items is not None:
        right = isinstance(value, list if node.kind == "array" else dict)
        return right and all(allows(node.items, one) for one in _inside(value))
    return _ALLOWS[node.kind](node, value)


def _whole(value: Any, bound: float) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -bound <= value < bound


def _real(_: Type, value: Any) -> bool:
    return isinstance(value, float) or value in NOT_FINITE or _whole(value, sys.float_info.max)


def _bytes(node: Type, value: Any) -> bool:
    """Bytes in JSON are one character each."""
    fits = isinstance(value, str) and all(ord(one) < 256 for one in value)
    return fits and (node.kind == "bytes" or len(value) == node.size)


_ALLOWS: dict[str, Callable[[Type, Any], bool]] = {
    "null": lambda _, value: value is None,
    "boolean": lambda _, value: isinstance(value, bool),
    "int": lambda _, value: _whole(value, 2**31),
    "long": lambda _, value: _whole(value, 2**63),
    "float": _real,
    "double": _real,
    "string": lambda _, value: isinstance(value, str),
    "bytes": _bytes,
    "fixed": _bytes,
    "enum": lambda node, value: value in node.symbols,
}


def _named(name: Any) -> str:
    """Return what can be a name: fastavro takes anything, and writes it into the canonical form as it is."""
    if not isinstance(name, str) or not name.isprintable() or not name or "\\" in name or '"' in name:
        raise SchemaError(f"not an Avro schema: {name!r:.60} is not a name")
    return name


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1]
