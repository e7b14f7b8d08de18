"""Which texts an attribute of a type can have: the other way round of `conversion`, for those who write conditions.

A `Type` of the reader's schema and a text say whether any value of it has that text. docs/avro.md has the table.
"""

import re
from collections.abc import Callable

import numpy as np

from muse_stream.avro.conversion import NOT_FINITE
from muse_stream.avro.resolution import DECIMALS
from muse_stream.avro.types import Type

BITS = {"int": 32, "long": 64}
WORDS = {
    "boolean": "true or false",
    "int": "its digits, as in 5411",
    "long": "its digits, as in 5411",
    "float": "the shortest text of the number, as in 5411.0",
    "double": "the shortest text of the number, as in 5411.0",
    "bytes": "hexadecimal, lower case, as in 00ff",
    "fixed": "hexadecimal, lower case, as in 00ff",
}
_WHOLE = re.compile(r"-?(0|[1-9]\d*)", re.ASCII)
_HEX = re.compile(r"([0-9a-f]{2})*")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def can_be(node: Type, text: str) -> bool:
    """Say whether some value of the type has this text; of a union, of any of its branches."""
    return any(_CAN_BE[option.kind](option, text) for option in node.options if option.kind in _CAN_BE)


def in_words(node: Type) -> str:
    """Say what texts of a type look like: `an int: its digits, as in 5411`."""
    return "; ".join(f"{option.logical or option.kind}: {_words(option)}" for option in node.options if _words(option))


def _words(option: Type) -> str:
    if option.logical in DECIMALS:
        return f"plain digits, {option.scale} or more after the point" if option.scale else "plain digits, as in 5411"
    return "as in f47ac10b-58cc-4372-a567-0e02b2c3d479" if option.logical == "uuid" else WORDS.get(option.kind, "")


def _whole(option: Type, text: str) -> bool:
    bound = 1 << (BITS[option.kind] - 1)
    digits = len(text) < 24 and _WHOLE.fullmatch(text) and text != "-0"
    return bool(digits) and -bound <= int(text) < bound


def _real(option: Type, text: str) -> bool:
    if text in NOT_FINITE.values():
        return True
    try:
        value = np.array([text], np.float32 if option.kind == "float" else np.float64)
    except ValueError:
        return False
    return bool(np.isfinite(value[0]) and value.astype(str)[0] == text)  # as `conversion` writes it


def _decimal(option: Type, text: str) -> bool:
    whole, point, rest = text.partition(".")
    if not _WHOLE.fullmatch(whole) or (point and not (rest.isascii() and rest.isdigit())):
        return False
    zero = not whole.strip("-0") and not rest.strip("0")
    longer = len(rest) > option.scale and rest.endswith("0")  # more digits than the scale, only where they are not 0
    return len(rest) >= option.scale and not longer and not (zero and whole.startswith("-"))


def _bytes(option: Type, text: str) -> bool:
    if option.logical in DECIMALS:
        return _decimal(option, text)
    if option.logical == "uuid":
        return _UUID.fullmatch(text) is not None
    return _HEX.fullmatch(text) is not None and (option.kind == "bytes" or len(text) == 2 * option.size)


_CAN_BE: dict[str, Callable[[Type, str], bool]] = {
    "string": lambda _, _text: True,
    "enum": lambda option, text: text in option.symbols,
    "boolean": lambda _, text: text in ("true", "false"),
    "int": _whole,
    "long": _whole,
    "float": _real,
    "double": _real,
    "bytes": _bytes,
    "fixed": _bytes,
}
