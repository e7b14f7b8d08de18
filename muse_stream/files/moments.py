"""What a column of times means: moments in milliseconds since 1970, in UTC.

A column is of times with a zone, of times without (taken as UTC), of dates, of whole numbers (milliseconds), or of text
in ISO 8601. A column that holds text both with and without a zone says two things, and is refused.
"""

import re
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from muse_stream.errors import SchemaError
from muse_stream.files.values import parsed_date, parsed_timestamp

DIGITS: Final = re.compile(r"\d{1,18}", re.ASCII)
MILLISECOND: Final = 1_000_000
DAY_MS: Final = 86_400_000
Moments = NDArray[np.int64]


def moments_of(column: pa.Array) -> tuple[Moments, bool | None]:
    """Return the moments of a column without nulls, and whether they name a zone (None: numbers, which need none).

    Raises SchemaError saying which entry (from 0) is no time, or that zones are mixed.
    """
    kind = column.type
    if column.null_count:
        first = pc.index(column.is_null(), pa.scalar(True)).as_py()
        raise SchemaError(f"entry {first} has no time")
    if pa.types.is_timestamp(kind):
        return _numbers(column.cast(pa.timestamp("ms", kind.tz), safe=False).view(pa.int64())), kind.tz is not None
    if pa.types.is_date(kind):
        return _numbers(column.cast(pa.timestamp("ms")).view(pa.int64())), False
    if pa.types.is_integer(kind):
        return _numbers(column.cast(pa.int64())), None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _texts(column)
    raise SchemaError(f"a column of {kind} holds no times")


def _numbers(column: pa.Array) -> Moments:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)


def _texts(column: pa.Array) -> tuple[Moments, bool | None]:
    found = np.empty(len(column), dtype=np.int64)
    zones: set[bool | None] = set()
    zoned: bool | None
    for place, text in enumerate(column.to_pylist()):
        stamp = parsed_timestamp(text)
        if stamp is None and DIGITS.fullmatch(text):
            found[place], zoned = int(text), None
        elif stamp is not None:
            found[place], zoned = stamp.nanos // MILLISECOND, stamp.zoned
        else:
            date = parsed_date(text)
            if date is None:
                raise SchemaError(f"entry {place}, {text[:40]!r}, is no time in ISO 8601")
            found[place], zoned = date.days * DAY_MS, False
        zones.add(zoned)
        if len(zones) > 1:
            said = "a number" if zoned is None else "with a zone" if zoned else "without a zone"
            raise SchemaError(f"entry {place}, {text[:40]!r}, is a time {said}, and others are not")
    return found, next(iter(zones), None)
