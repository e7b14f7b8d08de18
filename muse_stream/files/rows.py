"""Rows of a file as values that an Avro schema writes: the one set of rules for all kinds of files.

A value of a JSON line, a Parquet column or an Avro container becomes a *physical* value: logical types turned into the
int, string or bytes that are written, and in a union of several types `Chosen` says which. Nothing is rounded, cut or
guessed: what a field cannot hold exactly, or what may mean two things, is a SchemaError with the field's dotted path.
docs/event-files.md has the rules as a table.

fastavro does not do this part (1.13): its writer takes `True` for a number and 2**31 for an int, rounds decimals to 28
digits, picks a union's branch by the look of a value, and its reader has no moments after the year 9999.
"""

import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple
from uuid import UUID

from muse_stream.avro import NOT_FINITE, Type
from muse_stream.errors import SchemaError
from muse_stream.files.values import (
    EXACT,
    NANOS,
    Branch,
    Date,
    Half,
    Single,
    TimeOfDay,
    Timestamp,
    parsed_date,
    parsed_time,
    parsed_timestamp,
    scaled,
    shown,
)

Source = Literal["typed", "plain", "avro", "default"]
"""What text and wrappers mean. typed: a Parquet or Avro file, which has bytes and times; plain: JSON as most write it;
avro: the Avro JSON encoding; default: a schema's defaults."""

UNITS = {"millis": NANOS["ms"], "micros": NANOS["us"], "nanos": NANOS["ns"]}
LONGEST = 400
"""Digits before the point of a number that is looked at: a double ends near 309."""
RANGES = {"int": 2**31, "long": 2**63}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NAMES = {Timestamp: "timestamp", Date: "date", TimeOfDay: "time of day"}


class Chosen(NamedTuple):
    """A value of a union of several types."""

    branch: int
    value: Any


class Misfit(Exception):
    """Why a value does not fit a type; `steps` lead to it, innermost first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def under(self, step: str) -> "Misfit":
        """Say where it was met."""
        self.steps.append(step)
        return self

    def __str__(self) -> str:
        path = ""
        for step in reversed(self.steps):
            path += step if step.startswith("[") or not path else f".{step}"
        return f"{path or 'the row'}: {self.reason}"


def physical_value(node: Type, value: Any, source: Source) -> Any:
    """Return the value in the physical form of `node`; raises SchemaError naming the path where it is no such value."""
    try:
        return converted(node, value, source)
    except Misfit as misfit:
        raise SchemaError(str(misfit)) from None


def converted(node: Type, value: Any, source: Source) -> Any:
    """Return what `physical_value` does; raises Misfit."""
    return _CONVERT[node.kind](node, value, source)


def default_of(node: Type, default: Any) -> Any:
    """Return a schema's JSON default as a physical value."""
    return converted(node, default, "default")


def _record(node: Type, value: Any, source: Source) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _is_not(value, f"a record {node.name}")
    found: dict[str, Any] = {}
    for field in node.fields:
        name = field.name
        try:
            if name in value:
                found[name] = converted(field.type, value[name], source)
            elif field.has_default:
                found[name] = default_of(field.type, field.default)
            else:
                there = ", ".join(map(str, value)) or "nothing"
                raise Misfit(f"missing, and the schema gives no default; there is {there}")
        except Misfit as misfit:
            raise misfit.under(name) from None
    return found


def _array(node: Type, value: Any, source: Source) -> list[Any]:
    if not isinstance(value, list):
        raise _is_not(value, "array")
    items, found = node.items or Type("null"), []
    for index, item in enumerate(value):
        try:
            found.append(converted(items, item, source))
        except Misfit as misfit:
            raise misfit.under(f"[{index}]") from None
    return found


def _map(node: Type, value: Any, source: Source) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _is_not(value, "map")
    items, found = node.items or Type("null"), {}
    for key, item in value.items():
        try:
            found[_text(node, key, source)] = converted(items, item, source)
        except Misfit as misfit:
            raise misfit.under(str(key)) from None
    return found


def _null(_: Type, value: Any, _source: Source) -> None:
    if value is not None:
        raise _is_not(value, "null")


def _union(node: Type, value: Any, source: Source) -> Any:
    options = [(index, branch) for index, branch in enumerate(node.branches) if branch.kind != "null"]
    if value is None:
        if len(options) == len(node.branches):
            raise _is_not(value, kinds(node))
        return None if len(options) < 2 else Chosen(_null_of(node), None)
    if source == "avro":
        return _wrapped(node, value)
    if not options:
        raise _is_not(value, "null")
    if isinstance(value, Branch):
        alike = [(i, one) for i, one in options if one.kind == value.kind]
        same = [(i, one) for i, one in alike if one.full_name == value.name]
        same = same or [(i, one) for i, one in alike if one.name and one.name == value.name.rpartition(".")[2]]
        if same and len(options) > 1:
            return Chosen(same[0][0], converted(same[0][1], value.value, source))
        value = value.value
    if len(options) == 1:
        return converted(options[0][1], value, source)
    return _best(node, options, value, source)


def _null_of(node: Type) -> int:
    return next(index for index, branch in enumerate(node.branches) if branch.kind == "null")


def _wrapped(node: Type, value: Any) -> Any:
    """Read a value as the Avro JSON encoding writes it in a union: `{"double": 1.5}`."""
    names = {branch.full_name or branch.kind: index for index, branch in enumerate(node.branches)}
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, inner),) = value.items()
        if name in names:
            found = converted(node.branches[names[name]], inner, "avro")
            several = sum(branch.kind != "null" for branch in node.branches) > 1
            return Chosen(names[name], found) if several else found
    first = next((name for name in names if name != "null"), "null")
    raise Misfit(f'{shown(value)} is not {kinds(node)} in the Avro JSON encoding, which writes {{"{first}": ...}}')


def _best(node: Type, options: Sequence[tuple[int, Type]], value: Any, source: Source) -> Chosen:
    """Choose the branch that a value means; refused where it may mean two."""
    found: list[tuple[int, int, Any]] = []
    reasons: list[Misfit] = []
    for index, branch in options:
        try:
            found.append((_distance(branch, value, source), index, converted(branch, value, source)))
        except Misfit as misfit:
            reasons.append(misfit)
    if not found:
        deeper = [misfit for misfit in reasons if misfit.steps]  # said by a branch of the right shape
        raise deeper[0] if len(deeper) == 1 else _is_not(value, kinds(node))
    if source == "default":
        return Chosen(*found[0][1:])
    least = min(distance for distance, _, _ in found)
    if (
        isinstance(value, int | float | Decimal)
        and source == "plain"
        and any(_is_time(node.branches[i]) for _, i, _ in found)
    ):
        least = max(distance for distance, _, _ in found)  # a bare number may always be a time
    winners = [(index, physical) for distance, index, physical in found if distance <= least]
    meant = [node.branches[index] for index, _ in winners]
    if len(winners) > 1 and not _alike(meant):
        names = " or ".join(one.logical or one.name or one.kind for one in meant)
        raise Misfit(
            f"{shown(value)} may be {names}; the Avro JSON encoding, an Avro file or text of a time tells them apart"
        )
    return Chosen(*winners[0])


def _alike(branches: Sequence[Type]) -> bool:
    """Say whether a value means the same in all of these branches."""
    plain = all(branch.logical is None for branch in branches)
    return plain and {branch.kind for branch in branches} in ({"int", "long"}, {"string", "enum"})


def _is_time(branch: Type) -> bool:
    return branch.logical not in ("decimal", "uuid", None)


def _distance(branch: Type, value: Any, source: Source) -> int:
    """Say how far a branch is from what a value looks like; equal for those between which nothing tells."""
    kind = type(value)
    if kind is Decimal and source == "plain":
        kind = float  # in JSON a number with many digits is no other kind of number
    order = _ORDER.get(kind, ())
    name = branch.logical if branch.logical == "decimal" or _is_time(branch) else branch.kind
    return next((place for place, kinds in enumerate(order) if name in kinds), len(order))


_ORDER: dict[type, tuple[tuple[str, ...], ...]] = {
    int: (("int", "long"), ("double",), ("float",), ("decimal",), ("string",)),
    float: (("double",), ("float",), ("decimal",), ("int", "long")),
    Single: (("float",), ("double",), ("decimal",), ("int", "long")),
    Half: (("float",), ("double",), ("decimal",), ("int", "long")),
    Decimal: (("double", "decimal"), ("float",), ("int", "long")),
    str: (("string", "enum"), ("bytes", "decimal", "fixed", "float", "double")),
    bytes: (("bytes",), ("fixed",)),
}


def _boolean(node: Type, value: Any, _source: Source) -> bool:
    if not isinstance(value, bool):
        raise _is_not(value, node.kind)
    return value


def _integer(node: Type, value: Any, source: Source) -> int:
    number = value if type(value) is int else _whole(value)
    if number is None and source not in ("avro", "default"):
        number = _time(node, value)
    if number is None:
        raise _is_not(value, _called(node), _hint(node, value))
    bound = RANGES[node.kind]
    if not -bound <= number < bound:
        raise _is_not(value, node.kind, "out of range")
    return number


def _whole(value: Any) -> int | None:
    """Return a number that is whole as an int; None for any other value."""
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None  # JSON writers often give 3 as 3.0
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() < LONGEST:
        return int(value) if value == value.to_integral_value() else None
    return None


def _time(node: Type, value: Any) -> int | None:
    """Return a time, or text of one, in the unit of the field; None when it is none, or the field is none."""
    logical = node.logical or ""
    unit = UNITS.get(logical.rsplit("-", 1)[-1], 0)
    if logical == "date":
        found: Any = parsed_date(value) if isinstance(value, str) else value
        return found.days if isinstance(found, Date) else None
    if logical.startswith("time-"):
        found = parsed_time(value) if isinstance(value, str) else value
        return _counted(found, unit, logical) if isinstance(found, TimeOfDay) else None
    if unit:
        found = parsed_timestamp(value) if isinstance(value, str) else value
        if isinstance(found, Timestamp):
            if found.zoned and logical.startswith("local-"):
                raise Misfit(f"{found} has a zone, and {logical} has none: give the local time")
            return _counted(found, unit, logical)
    return None


def _counted(value: Timestamp | TimeOfDay, unit: int, logical: str) -> int:
    whole, rest = divmod(value.nanos, unit)
    if rest:
        raise Misfit(f"{value} is finer than {logical} can hold: cut it in the file, or use a finer type")
    return whole


def _real(node: Type, value: Any, source: Source) -> float:
    if type(value) is float and node.kind == "double":
        return value
    if isinstance(value, str) and value in NOT_FINITE:
        return float(value)
    if not isinstance(value, int | float | Decimal) or isinstance(value, bool):
        raise _is_not(value, node.kind, _hint(node, value))
    if isinstance(value, float) and math.isnan(value):
        return value
    found = _nearest(node.kind, value)
    if source != "default" and not _stands_for(found, value):
        near = f"; the nearest is {found:.9g}" if node.kind == "float" else f"; the nearest is {found!r}"
        raise _is_not(value, node.kind, f"it would be rounded{near if abs(found) < float('inf') else ''}")
    return found


def _nearest(kind: str, value: float | Decimal) -> float:
    try:
        found = float(value)
        return float(struct.unpack("<f", struct.pack("<f", found))[0]) if kind == "float" else found
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _stands_for(found: float, value: float | Decimal) -> bool:
    """Say whether `value` is `found` as somebody wrote it: less than one unit of its own last digit away."""
    if found == value:
        return True
    digits = value if isinstance(value, Decimal) else Decimal(repr(value))
    _, coefficient, exponent = digits.as_tuple()
    if (
        math.isinf(found)
        or not isinstance(exponent, int)
        or len(coefficient) > LONGEST
        or abs(digits.adjusted()) > LONGEST
    ):
        return False
    return abs(EXACT.subtract(Decimal(found), digits)) < Decimal((0, (1,), exponent))


def _text(node: Type, value: Any, source: Source) -> str:
    if source == "typed" and isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        return str(value)  # a column of whole numbers, as databases have them
    if isinstance(value, UUID) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    if not isinstance(value, str):
        raise _is_not(value, "string", _hint(node, value))
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Misfit("text with half a surrogate pair, which UTF-8 cannot write") from None
    return value


def _enum(node: Type, value: Any, _source: Source) -> str:
    if not isinstance(value, str) or value not in node.symbols:
        more = ", ..." if len(node.symbols) > 20 else ""
        raise Misfit(f"{shown(value)} is none of {', '.join(node.symbols[:20])}{more}")
    return value


def _bytes(node: Type, value: Any, source: Source) -> bytes:
    if node.logical == "decimal" and not (isinstance(value, str) and source in ("avro", "default")):
        return _decimal(node, value)
    if node.logical == "uuid":
        value = _uuid(value, source)
    if isinstance(value, UUID):
        value = value.bytes
    if isinstance(value, str) and source != "typed":
        value = _characters(value, node)
    if not isinstance(value, bytes):
        raise _is_not(value, _called(node), _hint(node, value))
    if node.kind == "fixed" and len(value) != node.size:
        raise Misfit(f"{len(value)} bytes are not the {node.size} of {node.name}")
    if node.logical == "decimal" and source != "default":
        _check_precision(node, int.from_bytes(value, "big", signed=True), value)
    return value


def _uuid(value: Any, source: Source) -> Any:
    if isinstance(value, str) and source != "avro" and len(value) > 16:
        try:
            return UUID(value)
        except ValueError:
            return value
    return value


def _characters(text: str, node: Type) -> bytes:
    """Return bytes as Avro writes them in JSON: a character a byte."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise _is_not(text, node.kind, "JSON has bytes as text of the characters 0 to 255, one a byte") from None


def _decimal(node: Type, value: Any) -> bytes:
    number = _number(value)
    if number is None or not number.is_finite():
        raise _is_not(value, "a decimal", _hint(node, value))
    if number and number.adjusted() + node.scale > max(node.precision, LONGEST):
        raise _is_not(value, _called(node), "out of range")
    moved = scaled(number, node.scale)
    if moved != moved.to_integral_value():
        raise _is_not(value, _called(node), f"it would be rounded to {node.scale} digits after the point")
    unscaled = int(moved)
    _check_precision(node, unscaled, value)
    try:
        size = node.size if node.kind == "fixed" else (unscaled + (unscaled < 0)).bit_length() // 8 + 1
        return unscaled.to_bytes(size, "big", signed=True)
    except OverflowError:
        raise _is_not(value, _called(node), f"out of the range of {node.size} bytes") from None


def _number(value: Any) -> Decimal | None:
    """Return a number as a decimal: a float by its shortest digits, as JSON has it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None  # Decimal would take " 5", 1_0 and digits of other scripts
    try:
        return value if isinstance(value, Decimal) else Decimal(value if isinstance(value, int | str) else repr(value))
    except InvalidOperation:
        return None


def _check_precision(node: Type, unscaled: int, value: Any) -> None:
    if node.precision and abs(unscaled) >= 10**node.precision:
        raise _is_not(value, _called(node), f"more than {node.precision} digits")


def _called(node: Type) -> str:
    if node.logical == "decimal":
        return f"decimal({node.precision}, {node.scale})" if node.precision else "decimal"
    return node.logical or node.kind


def kinds(node: Type) -> str:
    """Return the names of a type or of a union's branches, for a message."""
    return "|".join(option.logical or option.name or option.kind for option in node.options)


def _is_not(value: Any, what: str, hint: str = "") -> Misfit:
    return Misfit(f"{shown(value)} is not {what}" + (f" ({hint})" if hint else ""))


def _hint(node: Type, value: Any) -> str:
    """Say what would be right, where that is not plain."""
    if isinstance(value, Timestamp | Date | TimeOfDay) and node.kind in ("int", "long"):
        return f"a {_NAMES[type(value)]}, and {_called(node)} is counted otherwise: give the number itself"
    if isinstance(value, str) and node.logical and node.kind in ("int", "long"):
        return "text of a time is ISO 8601, as in 2026-01-02T03:04:05Z, 2026-01-02 or 03:04:05"
    if isinstance(value, float) and node.kind == "string":
        return "a whole number or text; 1.0 and 1 would be two texts"
    if isinstance(value, Mapping) and len(value) == 1:
        return "an object with one key looks like a union's value in the Avro JSON encoding, which this field is not"
    return ""


_CONVERT: dict[str, Callable[[Type, Any, Source], Any]] = {
    "null": _null,
    "boolean": _boolean,
    "int": _integer,
    "long": _integer,
    "float": _real,
    "double": _real,
    "string": _text,
    "enum": _enum,
    "bytes": _bytes,
    "fixed": _bytes,
    "record": _record,
    "array": _array,
    "map": _map,
    "union": _union,
}
