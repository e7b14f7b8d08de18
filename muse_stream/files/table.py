"""A Parquet batch as the columns of an event schema, where that takes no look at single values.

A short cut through the rules of `rows`: it takes columns whose type holds nothing but what the field holds, or that
Arrow's checked casts bring there (a cast that would lose something raises). For anything else, and whenever something
is wrong, there is no table, and the rows are converted one by one; so both ways give the same events.
"""

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from muse_stream.avro import Encoder, Field, Type, arrow_type, is_nullable
from muse_stream.files.rows import Chosen, Misfit, default_of

Arrays = Mapping[str, pa.Array]


class NoTable(Exception):
    """The batch has a column that cannot be taken as a whole."""


def suits_tables(encoder: Encoder) -> bool:
    """Say whether a schema's records can be made of columns."""
    return encoder.batched and _flat(encoder.schema.type)


def _flat(node: Type) -> bool:
    options = [option for option in node.options if option.kind != "null"]
    if len(options) != 1:
        return False
    kind = options[0].kind
    return all(_flat(field.type) for field in options[0].fields) if kind == "record" else kind in _TAKES


def table(record: Type, columns: Arrays, names: Mapping[str, str], rows: int) -> dict[str, pa.Array]:
    """Return an array for each field of `record`; `names` maps dotted fields to columns. Raises NoTable."""
    return {field.name: _field(field, field.name, columns, names, rows) for field in record.fields}


def _field(field: Field, path: str, columns: Arrays, names: Mapping[str, str], rows: int) -> pa.Array:
    name = names.get(path, path)
    dotted = any(one.startswith(f"{path}.") for one in (*columns, *names))
    node = next(option for option in field.type.options if option.kind != "null")
    if name in columns and dotted:
        raise NoTable
    if name in columns:
        return _column(field, node, columns[name])
    if dotted and node.kind == "record":
        inner = [_field(part, f"{path}.{part.name}", columns, names, rows) for part in node.fields]
        return pa.StructArray.from_arrays(inner, fields=list(arrow_type(node, path)))
    if not field.has_default:
        raise NoTable
    return _constant(field, path, rows)


def _constant(field: Field, path: str, rows: int) -> pa.Array:
    try:
        value = default_of(field.type, field.default)
    except Misfit:
        raise NoTable from None
    given = value.value if isinstance(value, Chosen) else value
    return pa.array([given], arrow_type(field.type, path)).take(pa.array([0] * rows, pa.int32()))


def _column(field: Field, node: Type, given: pa.Array) -> pa.Array:
    if given.null_count and (not is_nullable(field.type) or node.kind == "record"):
        raise NoTable
    if node.kind == "record":
        return _struct(node, given)
    try:
        found = _TAKES[node.kind](node, given)
    except pa.ArrowException:
        raise NoTable from None
    if found is None:
        raise NoTable
    return found


def _struct(record: Type, given: pa.Array) -> pa.Array:
    names = [child.name for child in given.type] if pa.types.is_struct(given.type) else []
    if not names or len(set(names)) < len(names) or any("." in name for name in names):
        raise NoTable
    columns = {name: given.field(place) for place, name in enumerate(names)}
    inner = [_field(part, part.name, columns, {}, len(given)) for part in record.fields]
    return pa.StructArray.from_arrays(inner, fields=list(arrow_type(record, record.name)))


def _boolean(_: Type, given: pa.Array) -> pa.Array | None:
    return given if pa.types.is_boolean(given.type) else None


def _integer(node: Type, given: pa.Array) -> pa.Array | None:
    wanted = pa.int32() if node.kind == "int" else pa.int64()
    if pa.types.is_integer(given.type):
        return given.cast(wanted)
    logical = node.logical or ""
    if pa.types.is_timestamp(given.type) and "timestamp-" in logical:
        zone = given.type.tz
        if zone is not None and logical.startswith("local-"):
            return None
        unit = {"millis": "ms", "micros": "us", "nanos": "ns"}[logical.rsplit("-", 1)[-1]]
        return given.cast(pa.timestamp(unit, zone)).cast(wanted)
    if pa.types.is_date32(given.type) and logical == "date":
        return given.cast(wanted)
    return None


def _real(node: Type, given: pa.Array) -> pa.Array | None:
    wanted = pa.float32() if node.kind == "float" else pa.float64()
    if given.type == wanted or given.type == pa.float32():
        return given.cast(wanted)
    return given.cast(wanted) if pa.types.is_integer(given.type) else None


def _text(_: Type, given: pa.Array) -> pa.Array | None:
    if pa.types.is_integer(given.type):
        return given.cast(pa.string())
    return _strings(given)


def _strings(given: pa.Array) -> pa.Array | None:
    if pa.types.is_dictionary(given.type):
        given = given.dictionary_decode()
    if not (pa.types.is_string(given.type) or pa.types.is_large_string(given.type)):
        return None
    found = given.cast(pa.string())
    found.validate(full=True)  # a file may hold text that is not UTF-8
    return found


def _enum(node: Type, given: pa.Array) -> pa.Array | None:
    found = _strings(given)
    if found is None:
        return None
    known = pc.is_in(found, value_set=pa.array(node.symbols, pa.string()))
    return found if pc.all(pc.or_(known, found.is_null())).as_py() in (True, None) else None


_TAKES: dict[str, Callable[[Type, pa.Array], pa.Array | None]] = {
    "boolean": _boolean,
    "int": _integer,
    "long": _integer,
    "float": _real,
    "double": _real,
    "string": _text,
    "enum": _enum,
}
