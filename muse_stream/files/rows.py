"""Rows of a file as values an Avro schema can write.

Python values, as JSON, an Avro container or Parquet give them, become *physical* values: logical types turned into the
int, string or bytes that are written. Nothing is rounded, cut or guessed; what does not fit is a SchemaError with the
dotted path of the field.

fastavro does not do this part (1.12): its writer takes `True` for a number and 2**31 for an int, and counts a time
without a zone in the machine's zone; its validation refuses what JSON and Parquet have to give (a timestamp or a
decimal as text or number, 3.0 for 3, a map as pairs), and names no reason that a person could act on.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from muse_stream.avro import Type
from muse_stream.errors import SchemaError

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROS_PER_TICK = {"millis": 1000, "micros": 1}
RANGES = {"int": 2**31, "long": 2**63}


def physical_value(node: Type, value: Any, path: str) -> Any:
    """Return the value in the physical form of `node`; raises SchemaError naming `path` where it is no such value."""
    if node.kind == "union":
        return _union(node, value, path)
    if node.kind == "record":
        return _record(node, value, path)
    if node.kind == "array" and isinstance(value, list | tuple) and node.items:
        return [physical_value(node.items, item, f"{path}[{index}]") for index, item in enumerate(value)]
    if node.kind == "map" and node.items:
        pairs = _pairs(value)
        if pairs is not None:
            return {str(key): physical_value(node.items, item, f"{path}.{key}") for key, item in pairs.items()}
    found = _LEAVES[node.kind](node, value) if node.kind in _LEAVES else None
    if (found is None and node.kind != "null") or (node.kind == "null" and value is not None):
        kind = f"none of {', '.join(node.symbols[:20])}" if node.kind == "enum" else f"not {node.logical or node.kind}"
        raise SchemaError(f"{path}: {repr(value)[:40]} is {kind}")
    return found


def _union(node: Type, value: Any, path: str) -> Any:
    reasons = []
    for branch in node.branches:
        if (branch.kind == "null") != (value is None):
            continue
        try:
            return physical_value(branch, value, path)
        except SchemaError as error:
            reasons.append(str(error))
    kinds = "|".join(branch.logical or branch.kind for branch in node.branches)
    raise SchemaError(reasons[0] if len(reasons) == 1 else f"{path}: {repr(value)[:40]} is not {kinds}")


def _record(node: Type, value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise SchemaError(f"{path or 'the row'}: {repr(value)[:40]} is not a record {node.name}")
    found = {}
    for field in node.fields:
        inner = f"{path}.{field.name}" if path else field.name
        if field.name in value:
            found[field.name] = physical_value(field.type, value[field.name], inner)
        elif field.has_default:
            found[field.name] = default_value(field.type, field.default)
        else:
            raise SchemaError(
                f"{inner}: missing, and the schema gives no default; there is {', '.join(value) or 'nothing'}"
            )
    return found


def _pairs(value: Any) -> dict[Any, Any] | None:
    """Return a map as JSON or Parquet gives it; None where it is no map."""
    try:
        return dict(value) if isinstance(value, Mapping | list) else None  # Parquet gives a map as pairs
    except (TypeError, ValueError):
        return None


def default_value(node: Type, default: Any) -> Any:
    """Return a schema's JSON default as a physical value; bytes are one character a byte there."""
    option = next(iter(node.options))
    if isinstance(default, dict) and option.kind == "record":
        return {
            field.name: default_value(field.type, default.get(field.name, field.default)) for field in option.fields
        }
    if isinstance(default, str) and option.kind in ("bytes", "fixed"):
        return default.encode("latin-1")
    return default


def _integer(node: Type, value: Any) -> int | None:
    logical = node.logical or ""
    if logical.startswith(("timestamp", "local-timestamp")) and isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, dt.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        micros = (aware - EPOCH) // dt.timedelta(microseconds=1)
        value = micros * 1000 if logical.endswith("nanos") else micros // MICROS_PER_TICK[logical.rsplit("-", 1)[-1]]
    elif isinstance(value, dt.date) and logical == "date":
        value = (value - EPOCH.date()).days
    elif isinstance(value, dt.time) and logical.startswith("time-"):
        micros = (dt.datetime.combine(EPOCH.date(), value, dt.UTC) - EPOCH) // dt.timedelta(microseconds=1)
        value = micros // MICROS_PER_TICK[logical.removeprefix("time-")]
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON writers often give 3 as 3.0
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and -RANGES[node.kind] <= value < RANGES[node.kind] else None


def _real(_: Type, value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else None
    except OverflowError:  # a whole number of more than 308 digits
        return None


def _bytes(node: Type, value: Any) -> bytes | None:
    if node.logical == "decimal" and isinstance(value, int | float | str | Decimal):
        return _decimal(node, value)
    if isinstance(value, UUID):
        value = value.bytes
    if not isinstance(value, bytes) or (node.kind == "fixed" and len(value) != node.size):
        return None
    return value


def _decimal(node: Type, value: float | str | Decimal) -> bytes | None:
    try:
        unscaled = Decimal(str(value)).scaleb(node.scale)
        whole = int(unscaled)
    except (InvalidOperation, ValueError, OverflowError):
        return None
    if whole != unscaled:  # more digits than the schema keeps
        return None
    size = node.size if node.kind == "fixed" else (whole + (whole < 0)).bit_length() // 8 + 1
    try:
        return whole.to_bytes(size, "big", signed=True)
    except OverflowError:
        return None


_LEAVES: dict[str, Callable[[Type, Any], Any]] = {
    "boolean": lambda _, value: value if isinstance(value, bool) else None,
    "int": _integer,
    "long": _integer,
    "float": _real,
    "double": _real,
    "string": lambda _, value: str(value) if isinstance(value, str | UUID) else None,
    "enum": lambda node, value: value if value in node.symbols else None,
    "bytes": _bytes,
    "fixed": _bytes,
}
