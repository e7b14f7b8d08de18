"""Values of a file that Python has no exact type for: moments beyond the year 9999, or with nanoseconds, and branches.

A Parquet or Avro file and ISO 8601 text give these; `rows` turns them into what an Avro schema writes.
"""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from itertools import islice
from math import isfinite
from typing import Any

import numpy as np

EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - without a zone: what is counted from it may have one or not
NANOS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Nanoseconds of Arrow's units of time."""
DAY = 86_400 * NANOS["s"]
EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""Decimal arithmetic that rounds nothing; the default context keeps 28 digits."""
SHOWN = 60
"""Characters of a value in a message."""
_CLOCK = r"(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,30}))?)?"
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_TIME = re.compile(_CLOCK, re.ASCII)
_TIMESTAMP = re.compile(rf"(\d{{4}}-\d\d-\d\d)[T ]({_CLOCK})(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A moment (`zoned`), or a date with a time of day that names no zone."""

    nanos: int
    """Since 1970-01-01."""
    zoned: bool

    def __str__(self) -> str:
        seconds, rest = divmod(self.nanos, NANOS["s"])
        try:
            text = (EPOCH + dt.timedelta(seconds=seconds)).isoformat()
        except OverflowError:
            return f"the moment {self.nanos} ns after 1970"
        return text + (f".{rest:09d}".rstrip("0") if rest else "") + ("Z" if self.zoned else "")


@dataclass(frozen=True, slots=True)
class Date:
    """A day."""

    days: int
    """Since 1970-01-01."""

    def __str__(self) -> str:
        try:
            return (EPOCH + dt.timedelta(days=self.days)).date().isoformat()
        except OverflowError:
            return f"day {self.days} after 1970-01-01"


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """A time of day."""

    nanos: int
    """Since midnight."""

    def __str__(self) -> str:
        seconds, rest = divmod(self.nanos, NANOS["s"])
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        return clock + (f".{rest:09d}".rstrip("0") if rest else "")


class Single(float):
    """A float of 32 bits, written with the fewest digits that tell it: 0.1, not 0.10000000149011612."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(np.float32(self))


class Half(float):
    """A float of 16 bits, likewise."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(np.float16(self))


@dataclass(frozen=True, slots=True)
class Branch:
    """A value whose file says which branch of a union it is."""

    kind: str
    name: str
    """Full name of a record, enum or fixed."""
    value: Any


def parsed_date(text: str) -> Date | None:
    """Return the day that `2026-01-02` means; None for other text."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    try:
        return Date(dt.date(*map(int, found.groups())).toordinal() - EPOCH.toordinal())
    except ValueError:
        return None


def parsed_time(text: str) -> TimeOfDay | None:
    """Return the time of day that `03:04:05.123` means; None for other text."""
    found = _TIME.fullmatch(text)
    nanos = None if found is None else _nanos(*found.groups())
    return None if nanos is None else TimeOfDay(nanos)


def parsed_timestamp(text: str) -> Timestamp | None:
    """Return the moment that ISO 8601 text means, to the nanosecond; None for other text, or a date alone."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return None
    day, _, *clock, zone = found.groups()
    date, nanos = parsed_date(day), _nanos(*clock)
    if date is None or nanos is None:
        return None
    ahead = 0
    if zone is not None and zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[-2:]) if len(zone) > 3 else 0
        if hours > 18 or minutes > 59:
            return None
        ahead = (hours * 60 + minutes) * 60 * NANOS["s"] * (-1 if zone[0] == "-" else 1)
    return Timestamp(date.days * DAY + nanos - ahead, zone is not None)


def _nanos(hours: str, minutes: str, seconds: str | None, fraction: str | None) -> int | None:
    """Return nanoseconds since midnight; None when it is no time of day, or finer than nanoseconds."""
    digits = (fraction or "").ljust(9, "0")
    if int(hours) > 23 or int(minutes) > 59 or int(seconds or 0) > 59 or digits[9:].strip("0"):
        return None
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds or 0)) * NANOS["s"] + int(digits[:9])


def shown(value: Any) -> str:
    """Return a value for a message: as JSON has it, cut where it is long."""
    return _cut(_text(value))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _text(value: Any) -> str:
    if isinstance(value, Branch):
        return _text(value.value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(key)}: {_text(one)}" for key, one in islice(value.items(), 8)) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value[:8]))}]"
    return repr(_cut(value)) if isinstance(value, str) else _number(value)


def _number(value: Any) -> str:
    """Return a number, a time or bytes as text."""
    if isinstance(value, int) and abs(value) >= 1 << 4096:  # Python refuses to write the digits of more than 4,300
        return "a number of more than a thousand digits"
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def scaled(value: Decimal, digits: int) -> Decimal:
    """Return `value * 10**digits`, exactly."""
    return value.scaleb(digits, EXACT)


def plain(value: Any) -> Any:
    """Return a value as JSON has it: times, decimals and UUIDs as text, bytes a character a byte, NaN as text."""
    if isinstance(value, Branch):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
