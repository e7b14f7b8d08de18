"""Rows of a JSON-lines file, and which of the two ways to write Avro values as JSON they follow.

plain   a union's value as it is, a decimal as a number or as text of one
avro    the Avro JSON encoding, as kafka-avro-console-consumer and avro-tools write it: in a union `{"double": 1.5}`,
        a decimal as text of its bytes

Both write other bytes as text, a character a byte. The file decides: the first line that makes sense in one way only
says what all of them are. A line that means two things, in a file where no other tells, is refused, not guessed.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal

from muse_stream.avro import Type
from muse_stream.errors import SchemaError
from muse_stream.files.binary import encoded
from muse_stream.files.rows import Misfit, converted

Encoding = Literal["plain", "avro"]
ENCODINGS: tuple[Encoding, ...] = ("plain", "avro")
Shape = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is not empty."""

    number: int
    """From 1."""
    text: str | None
    """None where it is not UTF-8."""

    def value(self) -> Any:
        """Return what it holds, numbers with a fraction exact; raises SchemaError where it is no JSON."""
        if self.text is None:
            raise SchemaError("not UTF-8 text")
        try:
            return _DECODE(self.text)
        except RecursionError:
            raise SchemaError("not an event: nested too deep") from None
        except ValueError as error:
            whole = self.text.strip() in ("{", "[")
            more = "; one event a line is expected, as `jq -c .` writes them" if whole else ""
            raise SchemaError(f"not JSON: {error}{more}") from None


def lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a file that are not empty."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            data = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw  # Windows' tools put a mark there
            if data.strip():
                try:
                    yield Line(number, data.decode())
                except UnicodeDecodeError:
                    yield Line(number, None)


def encoding_of(path: Path, node: Type, shape: Shape) -> Encoding:
    """Return how a file writes values of `node`; raises SchemaError where a line may mean two things and none tells.

    `shape` gives a line's value the shape of the record.
    """
    if not _differs(node):
        return "plain"
    doubtful = 0
    for line in lines(path):
        try:
            value = shape(line.value())
        except SchemaError:
            continue  # said when it is converted
        plain, avro = (_tried(node, value, encoding) for encoding in ENCODINGS)
        if plain is None and avro is None:
            if not doubtful and _wrapped(node, value):
                return "avro"  # so that what is said of it is of use
        elif plain is None or avro is None:
            return "avro" if plain is None else "plain"
        elif plain != avro:
            doubtful = doubtful or line.number
    if doubtful:
        raise SchemaError(
            f"{path}:{doubtful}: text of a decimal may be a number, or the bytes that the Avro JSON encoding writes, "
            "and no line of the file tells: say --json-encoding plain, or avro"
        )
    return "plain"


def _tried(node: Type, value: Any, encoding: Encoding) -> bytes | None:
    try:
        return encoded(node, converted(node, value, encoding))
    except Misfit:
        return None


def _differs(node: Type) -> bool:
    """Say whether there is a value that the two encodings write differently."""
    if node.kind == "union" or node.logical is not None:
        return True
    return any(_differs(field.type) for field in node.fields) or (node.items is not None and _differs(node.items))


def _wrapped(node: Type, value: Any) -> bool:
    """Say whether some union's value is written `{"double": ...}`."""
    if node.kind == "union":
        names = {branch.full_name or branch.kind for branch in node.branches}
        return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in names
    if not isinstance(value, Mapping):
        return False
    return any(_wrapped(field.type, value[field.name]) for field in node.fields if field.name in value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} is there twice in one object")
    return found


def _fraction(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text[:40]} is no number that can be held") from None


_DECODE = json.JSONDecoder(object_pairs_hook=_object, parse_float=_fraction).decode
