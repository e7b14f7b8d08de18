"""Rows of a JSON-lines file, and which of the two ways to write Avro values as JSON they follow.

plain   a union's value as it is, a decimal as a number or as text of one
avro    the Avro JSON encoding, as kafka-avro-console-consumer and avro-tools write it: in a union `{"double": 1.5}`,
        a decimal as text of its bytes

Both write other bytes as text, a character a byte. The file decides: the first line that makes sense in one way only
says what all of them are. A line that means two things, in a file where no other tells, is refused, not guessed.
"""

import json
import re
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
SURE = 16
"""Characters of a number with a point or an exponent, of which a double keeps all digits (15 at most)..."""
MIDDLE = 1e-290
"""...and not too near 0 or infinity for that."""
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
            more = (
                "; one event a line is expected, as `jq -c .` writes them, or a name that ends in .json"
                if whole
                else ""
            )
            raise SchemaError(f"not JSON: {error}{more}") from None


def lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a file that are not empty; of a `.json` file that is one document, its events."""
    whole = _documents(path) if path.suffix.lower() == ".json" else None
    yield from _split(path) if whole is None else whole


def _documents(path: Path) -> list[Line] | None:
    """Return the objects of a file that has one over several lines, or an array of them; None: it has JSON lines."""
    first = next(_split(path), None)
    if first is None or first.text is None or (first.text.lstrip().startswith("{") and _is_json(first.text)):
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
        at = _BLANK.match(text, 0).end()  # type: ignore[union-attr]
        array = text.startswith("[", at)
        return list(_objects(text, at + array, "]" if array else ""))
    except (ValueError, RecursionError):
        return None


def _objects(text: str, at: int, end: str) -> Iterator[Line]:
    """Yield the objects from a position on, each as it is written; raises ValueError where something else stands."""
    line, counted = 1, 0
    while (at := _BLANK.match(text, at).end()) < len(text) and (not end or text[at] != end):  # type: ignore[union-attr]
        if text[at] != "{":
            raise ValueError("an event is an object")
        stop = _SCAN(text, at)[1]
        line, counted = line + text.count("\n", counted, at), at
        yield Line(line, text[at:stop])
        at = stop
    if end and text[at:].strip() != end:
        raise ValueError("the array does not end, or does not end the file")  # a part of a file is not taken for it


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _split(path: Path) -> Iterator[Line]:
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


def _fraction(text: str) -> float | Decimal:
    if len(text) <= SURE:
        number = float(text)
        if MIDDLE < abs(number) < 1 / MIDDLE:
            return number  # which says its digits, all of them
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text[:40]} is no number that can be held") from None


_BLANK = re.compile(r"[\s,]*")
"""Between two events of one document."""
_SCAN = json.JSONDecoder().raw_decode
_DECODE = json.JSONDecoder(object_pairs_hook=_object, parse_float=_fraction).decode
