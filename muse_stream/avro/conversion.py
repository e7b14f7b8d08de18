"""From what a writer wrote to what a column holds: one `Case` at a time, for both decoders.

An Arrow array of the writer's physical type and a `Case` give an array of the case's domain (int64, bool, double or
string) and the rows it refuses. The text forms of ids, tenants and attributes are made here; docs/avro.md has the
table. No loop runs over events, but over the distinct texts of decimals and over numbers that no double holds.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from muse_stream.avro.bytes_arrays import hexadecimal, integers, uuids
from muse_stream.avro.resolution import Case, Domain, Form
from muse_stream.avro.schema_json import MOST_SCALE
from muse_stream.avro.stand_ins import binary
from muse_stream.avro.strict import Malformed, number_at

Mask = NDArray[np.bool_]

ARROW: dict[Domain, pa.DataType] = {
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "number": pa.float64(),
    "text": pa.string(),
}
PHYSICAL: dict[str, pa.DataType] = {
    "int": pa.int64(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "enum": pa.string(),
    "bytes": pa.binary(),
    "fixed": pa.binary(),
}
"""Arrow's type of what was written, as the batch decoder gives it."""
UNCHANGED: dict[str, Domain] = {
    "long": "integer",
    "double": "number",
    "boolean": "boolean",
    "string": "text",
    "enum": "text",
}
"""The types that stand in a column as they were written."""
INT = 2**31
LONG = 2**63 - 1
EXACT, EXACT_TENS = 2**53, 22
"""Whole numbers, and powers of ten, that a double holds exactly up to."""
MOST_DECIMAL = 512
"""Bytes of a decimal that has a text; a thousand digits, and Python's conversion takes the square of their number."""
NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""As numpy writes them, and as Avro's JSON does."""


def convert(case: Case, array: pa.Array) -> tuple[pa.Array, Mask | None]:
    """Return the array in the case's domain, and the rows refused (None if none are); null stays null."""
    if case.kind in ("int", "long"):
        return _from_integers(case, array)
    if case.kind in ("bytes", "fixed"):
        return _from_bytes(case, binary(array))
    if case.kind == "string":
        return (_by_value(array, lambda text: text.encode().hex()), None) if case.form == "hex" else (array, None)
    if case.kind == "enum":
        return _from_symbols(case, array)
    return _into(case.domain, _as_real(case, array)), None


def unchanged(case: Case) -> bool:
    """Say whether `convert` gives an array that has the type of the case's domain back, whatever its values are."""
    return (
        case.domain == UNCHANGED.get(case.kind)
        and case.form == "value"
        and case.scale_by == (1, 1)
        and case.real in ("", case.kind)
        and case.symbols is None
    )


def refusal(case: Case) -> str:
    """Say why `convert` refuses a value."""
    if case.kind == "enum":
        why = "the reader's enum lacks the symbol written, and has no default"
    elif case.form == "utf8":
        why = "bytes read as a string must be UTF-8"
    elif case.kind in ("bytes", "fixed"):
        why = "the bytes are no number that can be read"
    elif case.scale_by == (1, 1):
        why = "the value is outside the range of an int"
    else:
        why = "the value does not fit into the reader's unit of time"
    return f"{case.path}: {why}"


def _into(domain: Domain, array: pa.Array) -> pa.Array:
    kind = ARROW[domain]
    if array.type == kind:
        return array
    if domain == "text" and pa.types.is_floating(array.type):
        return _real_texts(array)
    return array.cast(kind, safe=False)


def _from_integers(case: Case, array: pa.Array) -> tuple[pa.Array, Mask | None]:
    if pa.types.is_struct(array.type):  # an int beside a long: `stand_ins`
        array = array.field(0)
    refused = _outside(array, -INT, INT - 1) if case.kind == "int" else None
    if case.scale_by != (1, 1):
        array, beyond = _scaled(array, *case.scale_by, saturate=case.saturate)
        refused = beyond if refused is None else refused if beyond is None else refused | beyond
    return _into(case.domain, _as_real(case, array)), refused


def _as_real(case: Case, array: pa.Array) -> pa.Array:
    if not case.real or array.type == PHYSICAL[case.real]:
        return array
    return array.cast(PHYSICAL[case.real], safe=False)


def _from_symbols(case: Case, array: pa.Array) -> tuple[pa.Array, Mask | None]:
    if case.symbols is None:
        return array, None
    strange = pc.and_(array.is_valid(), pc.invert(pc.is_in(array, value_set=pa.array(case.symbols, pa.string()))))
    if case.substitute is None:
        mask: Mask = strange.to_numpy(zero_copy_only=False)
        return array, mask
    return pc.if_else(strange, pa.scalar(case.substitute), array), None


def _from_bytes(case: Case, array: pa.Array) -> tuple[pa.Array, Mask | None]:
    if case.form == "decimal" and case.domain == "number":
        return _decimals(case, array), None
    if case.form == "hex":
        return hexadecimal(array), None
    if case.form == "uuid":
        return uuids(array), None
    if case.form == "utf8":
        text = array.view(pa.string())
        try:
            text.validate(full=True)
            return text, None
        except pa.ArrowInvalid:
            pass  # by value, to find those that are to blame
    return _each(case, array)


def _each(case: Case, array: pa.Array) -> tuple[pa.Array, Mask | None]:
    """Convert each distinct value once."""
    read = (TEXTS if case.domain == "text" else NUMBERS)[case.form]
    encoded = array.dictionary_encode()
    found: list[Any] = []
    refused: list[bool] = []
    for data in encoded.dictionary.to_pylist():
        try:
            found.append(read(case, data))
            refused.append(False)
        except ValueError:
            found.append(None)
            refused.append(True)
    converted = pa.array(found, ARROW[case.domain]).take(encoded.indices)
    if not any(refused):
        return converted, None
    return converted, pa.array(refused).take(encoded.indices).fill_null(False).to_numpy(zero_copy_only=False)


def _decimals(case: Case, array: pa.Array) -> pa.Array:
    """Return the nearest float64 of each: at once where a double holds digits and power of ten."""
    if not 0 <= case.scale <= EXACT_TENS:
        return _each(case, array)[0]
    unscaled, small = integers(array, EXACT)
    numbers = pa.array(unscaled / 10.0**case.scale)
    if not small.all():
        large = pa.array(~small)
        numbers = pc.replace_with_mask(numbers, large, _each(case, array.filter(large))[0])
    return pc.if_else(array.is_valid(), numbers, pa.scalar(None, pa.float64())) if array.null_count else numbers


def _decimal_text(case: Case, data: bytes) -> str:
    return _plain(int.from_bytes(_short(data), "big", signed=True), case.scale, case.digits)


def _plain(unscaled: int, scale: int, least: int) -> str:
    """Return a decimal without an exponent, with `least` digits after the point, or more where they are not 0."""
    digits = tuple(map(int, str(abs(unscaled))))
    whole, _, rest = f"{Decimal((int(unscaled < 0), digits, -scale)):f}".partition(".")
    rest = rest.rstrip("0").ljust(least, "0")
    return f"{whole}.{rest}" if rest else whole


def _short(data: bytes) -> bytes:
    if len(data) > MOST_DECIMAL:
        raise ValueError(f"a decimal of {len(data)} bytes")
    return data


def decimal_number(data: bytes, scale: int) -> float:
    """Value of an Avro decimal: big-endian two's complement, `scale` digits after the point; the nearest float64."""
    return _nearest(int.from_bytes(data, "big", signed=True), scale)


def _nearest(unscaled: int, scale: int) -> float:
    try:
        return unscaled / int(10**scale) if scale >= 0 else float(unscaled * 10**-scale)
    except OverflowError:
        return float("inf") if unscaled > 0 else float("-inf")


def _big_decimal(data: bytes) -> tuple[int, int]:
    """Return unscaled value and scale of Avro's big-decimal: bytes, then the scale as an int."""
    try:
        length, at = number_at(data, 0)
        scale, end = number_at(data, at + length) if length >= 0 else (0, -1)
    except Malformed as error:
        raise ValueError(str(error)) from None
    if end != len(data) or not -MOST_SCALE <= scale <= MOST_SCALE:
        raise ValueError("not a big-decimal")
    return int.from_bytes(data[at : at + length], "big", signed=True), scale


def _utf8(_: Case, data: bytes) -> str:
    return data.decode("utf-8")  # UnicodeDecodeError is a ValueError


NUMBERS: dict[Form, Callable[[Case, bytes], Any]] = {
    "decimal": lambda case, data: decimal_number(data, case.scale),
    "big-decimal": lambda _, data: _nearest(*_big_decimal(data)),
}
"""How bytes become a number, by their form; ValueError refuses them..."""
TEXTS: dict[Form, Callable[[Case, bytes], Any]] = {
    "decimal": _decimal_text,
    "big-decimal": lambda case, data: _plain(*_big_decimal(_short(data)), case.digits),
    "utf8": _utf8,
}
"""...and how they become text."""


def _by_value(array: pa.Array, change: Callable[[Any], str]) -> pa.Array:
    """Change each distinct value once."""
    encoded = array.dictionary_encode()
    changed = pa.array([change(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return changed.take(encoded.indices)


def _real_texts(array: pa.Array) -> pa.Array:
    """Return numbers as the shortest text that reads back as the same float or double: 0.1, 5411.0, 1e+20, NaN."""
    values = array.fill_null(0).to_numpy(zero_copy_only=False)
    texts = pa.array(values.astype(str), pa.string())
    if not np.isfinite(values).all():
        encoded = texts.dictionary_encode()
        named = [NOT_FINITE.get(text, text) for text in encoded.dictionary.to_pylist()]
        texts = pa.array(named, pa.string()).take(encoded.indices)
    return pc.if_else(array.is_valid(), texts, pa.scalar(None, pa.string())) if array.null_count else texts


def _outside(array: pa.Array, low: int, high: int) -> Mask | None:
    """Rows outside [low, high], or None; looks at single rows only if the extremes ask for it."""
    values = _filled(array)
    if not len(values) or (values.min() >= low and values.max() <= high):
        return None
    mask: Mask = (values < low) | (values > high)
    return mask


def _scaled(array: pa.Array, times: int, over: int, *, saturate: bool) -> tuple[pa.Array, Mask | None]:
    most = LONG // times
    beyond = _outside(array, -most, most) if times > 1 else None
    values = _filled(array) if beyond is None else np.clip(_filled(array), -most, most)
    scaled = values * times // over  # floor, as for times before 1970
    mask = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    return pa.array(scaled, mask=mask), None if saturate else beyond


def _filled(array: pa.Array) -> NDArray[Any]:
    values: NDArray[Any] = (array.fill_null(0) if array.null_count else array).to_numpy(zero_copy_only=False)
    return values
