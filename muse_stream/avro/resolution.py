"""How one field of the reader's schema is found in what a writer wrote.

Reader and writer `Type` and a dotted path give a `Route`: the way through the writer's records, then one `Case` for
each type the writer may have put there.

Schema resolution as the Avro specification defines it (1.12, "Schema Resolution"), applied to the fields that are asked
for: by name or reader alias, promotions, defaults, enum defaults, unions on either side. Where only the value can tell
(a null for a reader that has none) the row is refused, not the writer. Times become milliseconds, by the writer's unit
where it states one; decimals become numbers.
"""

from dataclasses import dataclass
from typing import Any, Literal

from muse_stream.avro.types import Field, Type
from muse_stream.errors import SchemaError

Domain = Literal["integer", "boolean", "number", "text"]
"""What a column holds: int64, bool, float64, or a Categorical."""

NUMERIC = ("int", "long", "float", "double")
TEXT = ("string", "bytes", "enum", "fixed")

MILLISECONDS: dict[str, tuple[int, int]] = {
    "timestamp-millis": (1, 1),
    "timestamp-micros": (1, 1000),
    "timestamp-nanos": (1, 1_000_000),
    "local-timestamp-millis": (1, 1),
    "local-timestamp-micros": (1, 1000),
    "local-timestamp-nanos": (1, 1_000_000),
    "time-millis": (1, 1),
    "time-micros": (1, 1000),
    "date": (86_400_000, 1),
}
"""Logical type of an int or long -> (multiply by, then floor-divide by) to get milliseconds."""


@dataclass(frozen=True, slots=True)
class Case:
    """What to do with a value that the writer wrote as `kind`."""

    kind: str
    """Writer's type."""
    scale_by: tuple[int, int] = (1, 1)
    decimal: int | None = None
    """Digits after the point, for bytes and fixed that hold a decimal."""
    limit: int | None = None
    """An int must lie in [-limit, limit): the decoders read it as a long."""
    symbols: tuple[str, ...] | None = None
    """Reader's enum symbols, when a writer's symbol may be missing from them..."""
    substitute: str | None = None
    """...and the reader's enum default for it; None refuses the row."""


@dataclass(frozen=True, slots=True)
class FieldAccess:
    """One record on the way down."""

    field: str
    """Name in the writer's record."""
    required: bool
    """The reader has no null here: null refuses the row."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a column comes from."""

    path: str
    domain: Domain
    nullable: bool
    """The column may hold nulls; an integer or boolean column is then float64."""
    steps: tuple[FieldAccess, ...] = ()
    name: str = ""
    """Writer's field, in the record that the way leads to; empty when the writer does not have it."""
    cases: tuple[Case | None, ...] = ()
    """One for each of the writer's branches (one if it is no union); None: such a value cannot be resolved."""
    wrote: tuple[str, ...] = ()
    """The writer's types, in the same order."""
    binary: bool = False
    """The reader says bytes or fixed: text that is not UTF-8 is no error."""
    constant: Any = None
    """The reader's default, when the writer lacks the field."""


def column_type(reader: Type, path: str) -> tuple[Domain, bool, Type]:
    """Return domain, nullability and leaf type of a dotted path in the reader's schema; SchemaError if it is none."""
    node, nullable = reader, False
    names = path.split(".")
    for depth, name in enumerate(names):
        record, maybe = _record(node, ".".join(names[:depth]) or reader.name)
        nullable |= maybe
        field = record.field(name)
        if field is None:
            known = ", ".join(other.name for other in record.fields)
            raise SchemaError(f"{path}: {record.name} has no field {name!r}; it has {known}")
        node = field.type
    domain, maybe = _domain(node, path)
    return domain, nullable or maybe, node


def _record(node: Type, path: str) -> tuple[Type, bool]:
    records = [option for option in node.options if option.kind != "null"]
    if len(records) != 1 or records[0].kind != "record":
        kinds = "|".join(option.kind for option in node.options)
        raise SchemaError(f"{path} is {kinds}, not a record: it has no fields to name")
    return records[0], len(records) < len(node.options)


def _domain(node: Type, path: str) -> tuple[Domain, bool]:
    found: set[Domain] = set()
    for option in node.options:
        if option.kind in NUMERIC:
            found.add("integer" if option.kind in ("int", "long") else "number")
        elif option.kind == "boolean":
            found.add("boolean")
        elif option.kind in TEXT:
            found.add("number" if option.logical == "decimal" else "text")
        elif option.kind != "null":
            hint = "; name one of its fields" if option.kind == "record" else ""
            raise SchemaError(f"{path} is of type {option.kind}, which makes no column{hint}")
    nullable = any(option.kind == "null" for option in node.options)
    if len(found) == 1:
        return found.pop(), nullable
    if "text" in found:
        raise SchemaError(f"{path} is text for one event and a number for another: it makes no column")
    return "number", nullable


def route(reader: Type, writer: Type, path: str) -> Route:
    """Resolve one dotted path; raises SchemaError when no value of this writer could ever be read."""
    domain, nullable, leaf = column_type(reader, path)
    _same_name(reader, writer)
    steps: list[FieldAccess] = []
    read, wrote = reader, writer
    names = path.split(".")
    for depth, name in enumerate(names):
        expected = read.field(name)
        if expected is None:
            raise SchemaError(f"{path}: {read.name} has no field {name!r}")
        found = _writers_field(expected, wrote)
        if found is None:
            constant = _default(expected, names[depth + 1 :], path, writer)
            return Route(path, domain, nullable, tuple(steps), constant=constant)
        if depth == len(names) - 1:
            cases = tuple(_case(leaf, option) for option in found.type.options)
            if not any(cases):
                kinds = "|".join(option.kind for option in found.type.options)
                want = "|".join(option.kind for option in leaf.options)
                raise SchemaError(f"{path}: written as {kinds}, which cannot be read as {want}")
            wrote_kinds = tuple(option.kind for option in found.type.options)
            binary = any(option.kind in ("bytes", "fixed") for option in leaf.options)
            return Route(path, domain, nullable, tuple(steps), found.name, cases, wrote_kinds, binary)
        read, read_null = _record(expected.type, path)
        wrote, _ = _record(found.type, path)
        _same_name(read, wrote)
        steps.append(FieldAccess(found.name, not read_null))
    raise SchemaError(f"{path!r} names no field")


def _same_name(reader: Type, writer: Type) -> None:
    if writer.name != reader.name and writer.name not in reader.aliases:
        hint = f"give {reader.name} the alias {writer.name} if they are the same"
        raise SchemaError(f"a {writer.name} was written where a {reader.name} is read ({hint})")


def _writers_field(expected: Field, wrote: Type) -> Field | None:
    for name in (expected.name, *expected.aliases):
        found = wrote.field(name)
        if found is not None:
            return found
    return None


def _default(expected: Field, below: list[str], path: str, writer: Type) -> Any:
    """Return the reader's default as the column wants it: None, number, bool or text."""
    if not expected.has_default:
        raise SchemaError(f"{path}: {writer.name} was written without {expected.name!r}, which has no default")
    value, node = expected.default, expected.type
    for name in below:
        if value is None:
            return None
        record, _ = _record(node, path)
        inner = record.field(name)
        if inner is None or (name not in value and not inner.has_default):
            raise SchemaError(f"{path}: the default of {expected.name!r} does not give {name!r}")
        value, node = value.get(name, inner.default), inner.type
    if value is None or isinstance(value, bool):
        return value
    option = next(option for option in node.options if option.kind != "null")
    if isinstance(value, str) and option.logical == "decimal":  # bytes in JSON: one character a byte
        return decimal_number(value.encode("latin-1"), option.scale)
    if isinstance(value, str) and any(one.kind in ("float", "double") for one in node.options):  # "NaN"
        return float(value)
    if isinstance(value, int) and option.logical in MILLISECONDS:
        times, over = MILLISECONDS[option.logical]
        return value * times // over
    return value


def _case(reader: Type, wrote: Type) -> Case | None:
    """Match one type of the writer with the reader's type, or with its branch of that kind, or the first that fits."""
    for option in sorted(reader.options, key=lambda option: option.kind != wrote.kind):
        if _fits(option, wrote):
            limit = 2**31 if wrote.kind == "int" else None
            logical = wrote.logical or option.logical
            if wrote.kind in ("bytes", "fixed") and option.logical == "decimal":
                return Case(wrote.kind, decimal=wrote.scale if wrote.logical == "decimal" else option.scale)
            if wrote.kind == "enum" and not set(wrote.symbols) <= set(option.symbols):
                return Case("enum", symbols=option.symbols, substitute=option.default)
            times = MILLISECONDS.get(logical or "", (1, 1)) if option.kind in ("int", "long") else (1, 1)
            return Case(wrote.kind, scale_by=times, limit=limit)
    return None


def _fits(reader: Type, wrote: Type) -> bool:
    if wrote.kind in ("enum", "fixed"):
        named = wrote.kind == reader.kind and (wrote.name == reader.name or wrote.name in reader.aliases)
        return named and wrote.size == reader.size
    if wrote.kind in NUMERIC and reader.kind in NUMERIC:
        return NUMERIC.index(wrote.kind) <= NUMERIC.index(reader.kind)
    if wrote.kind in ("string", "bytes") and reader.kind in ("string", "bytes"):
        return wrote.kind == reader.kind or reader.logical != "decimal"
    return wrote.kind == reader.kind


def decimal_number(data: bytes, scale: int) -> float:
    """Value of an Avro decimal: big-endian two's complement, `scale` digits after the point; the nearest float64."""
    unscaled = int.from_bytes(data, "big", signed=True)
    try:
        return unscaled / int(10**scale)
    except OverflowError:
        return float("inf") if unscaled > 0 else float("-inf")
