"""Units of Avro's dates and times.

A logical type, or a unit's name, gives nanoseconds; two types give the ratio that takes a number of the one to the
other, exactly where the unit gets finer, rounded down where it gets coarser.
"""

from math import gcd
from typing import Literal

from muse_stream.avro.types import Type

TimeUnit = Literal["s", "ms", "us", "ns"]
"""What a long without a logical type may count, since 1970."""

UNITS: dict[TimeUnit, int] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""In nanoseconds."""
INSTANTS: dict[str, int] = {
    "date": 86_400 * 10**9,
    **{f"{local}timestamp-millis": 10**6 for local in ("", "local-")},
    **{f"{local}timestamp-micros": 10**3 for local in ("", "local-")},
    **{f"{local}timestamp-nanos": 1 for local in ("", "local-")},
}
"""Logical types that count from 1970, in nanoseconds."""
OF_DAY: dict[str, int] = {"time-millis": 10**6, "time-micros": 10**3}
"""Logical types that count from midnight, in nanoseconds."""
YEAR = 31_556_952 * 10**9
"""365.2425 days, in nanoseconds."""
IN_WORDS: dict[str, str] = {
    "date": "days since 1970-01-01",
    "time-millis": "milliseconds since midnight",
    "time-micros": "microseconds since midnight",
    **{
        f"{local}timestamp-{unit}": f"{unit[:-1]}seconds since 1970-01-01"
        for local in ("", "local-")
        for unit in ("millis", "micros", "nanos")
    },
}
"""What the number of a logical type counts."""


def ratio(reader: Type, wrote: Type) -> tuple[int, int]:
    """Return (times, over) that takes a writer's number to the reader's unit; (1, 1) unless both state one."""
    for family in (INSTANTS, OF_DAY):
        written, read = family.get(wrote.logical or ""), family.get(reader.logical or "")
        if written and read:
            return _reduced(written, read)
    return 1, 1


def ratio_to_ms(reader: Type, wrote: Type, plain: TimeUnit) -> tuple[int, int]:
    """Return (times, over) to milliseconds: the writer's unit, else the reader's, else `plain`."""
    unit = INSTANTS.get(wrote.logical or "") or INSTANTS.get(reader.logical or "") or UNITS[plain]
    return _reduced(unit, UNITS["ms"])


def last_year(node: Type, plain: TimeUnit) -> int:
    """Return the last year that an int or long reaches as a time; 9999 where that is later."""
    bound = 1 << (31 if node.kind == "int" else 63)
    return min(1970 + bound * INSTANTS.get(node.logical or "", UNITS[plain]) // YEAR, 9999)


def _reduced(times: int, over: int) -> tuple[int, int]:
    common = gcd(times, over)
    return times // common, over // common
