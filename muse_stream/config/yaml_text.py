"""Where everything stands in the text of a YAML file, so that a part of it can be changed and the rest keeps its bytes.

`outline` gives a tree of `Item`s with their places; `edited` replaces some places by other text; `flow` writes plain
data as one line of YAML. An alias is a leaf here: what it stands for is somebody else's text.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct, field
from ruamel.yaml import YAML

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*(-[A-Za-z0-9_.]+)*")
"""Texts that need no quotes, but for the words that YAML, or YAML 1.1, reads as something else."""
WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
MERGE = "<<"


class Item(Struct):
    """A mapping, a list, a scalar or an alias, and its place in the text."""

    kind: Literal["mapping", "list", "scalar", "alias"]
    start: int
    end: int
    """Behind its last character, for a block behind the last character of the last thing in it."""
    anchor: str | None = None
    """The name it is given, of an alias the name that it stands for."""
    flow: bool = False
    """Written in brackets."""
    text: str = ""
    """Of a scalar."""
    keys: "list[Item]" = field(default_factory=list)
    items: "list[Item]" = field(default_factory=list)

    def value(self, name: str) -> "Item | None":
        """Return what stands under a key of a mapping; None where it does not stand there itself."""
        found = self.key(name)
        return None if found is None else self.items[self.keys.index(found)]

    def key(self, name: str) -> "Item | None":
        """Return a key of a mapping."""
        return next((key for key in self.keys if key.text == name), None)

    def below(self) -> "Iterator[Item]":
        """Yield this and everything in it, in the order of the text."""
        yield self
        for position, item in enumerate(self.items):
            if self.keys:
                yield from self.keys[position].below()
            yield from item.below()


def outline(text: str) -> Item:
    """Return the outline of a text that is known to be one YAML document."""
    events = iter(YAML(typ="rt").parse(text))
    for event in events:
        if type(event).__name__ == "DocumentStartEvent":
            return _item(next(events), events)
    raise ValueError("no YAML document")


def _item(event: Any, events: Iterator[Any]) -> Item:
    name = type(event).__name__
    start, end, anchor = event.start_mark.index, event.end_mark.index, event.anchor
    if name == "AliasEvent":
        return Item("alias", start, end, anchor)
    if name == "ScalarEvent":
        return Item("scalar", start, end, anchor, text=str(event.value))
    mapping = name == "MappingStartEvent"
    item = Item("mapping" if mapping else "list", start, end, anchor, flow=bool(event.flow_style))
    for below in events:
        if type(below).__name__ in {"MappingEndEvent", "SequenceEndEvent"}:
            item.end = below.end_mark.index if item.flow else max([item.end, *(one.end for one in item.items[-1:])])
            return item
        if mapping:
            item.keys.append(_item(below, events))
            item.items.append(_item(next(events), events))
        else:
            item.items.append(_item(below, events))
    raise ValueError("the YAML document does not end")


class Edit(Struct, frozen=True, order=True):
    """`text` in place of what stands from `start` to `end`; nothing is replaced where they are equal."""

    start: int
    end: int
    text: str


def edited(text: str, edits: Iterable[Edit]) -> str:
    """Return a text with all edits made; they do not overlap, and insertions at one place stay in order."""
    parts: list[str] = []
    done = 0
    for edit in sorted(edits, key=lambda one: (one.start, one.end)):
        if edit.start < done:
            raise ValueError(f"two edits of one place: {edit}")
        parts += [text[done : edit.start], edit.text]
        done = edit.end
    return "".join([*parts, text[done:]])


def flow(value: Any) -> str:
    """Return plain data as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def comments(text: str, item: Item) -> list[str]:
    """Return the comments inside an item, from their `#` on."""
    leaves = [one for one in item.below() if one.kind in {"scalar", "alias"}]
    ends = [item.start, *(leaf.end for leaf in leaves)]
    starts = [*(leaf.start for leaf in leaves), item.end]
    found: list[str] = []
    for end, start in zip(ends, starts, strict=True):
        found += re.findall(r"#[^\r\n]*", text[end:start])
    return [comment.rstrip() for comment in found]


def column(text: str, place: int) -> int:
    """Return how far a place is from the beginning of its line."""
    return place - line_start(text, place)


def line_start(text: str, place: int) -> int:
    """Return where the line of a place begins; a byte order mark belongs to no line."""
    start = text.rfind("\n", 0, place) + 1
    return start + text.startswith("\ufeff", start)


def line_end(text: str, place: int) -> int:
    """Return where the line of a place ends, before the characters that end it."""
    end = text.find("\n", place)
    end = len(text) if end < 0 else end
    return end - (end > place and text[end - 1] == "\r")


def newline(text: str) -> str:
    """Return what ends the lines of a text."""
    return "\r\n" if "\r\n" in text else "\n"
