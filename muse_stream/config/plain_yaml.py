"""Plain YAML, read by libyaml: ten times as fast, for a configuration of hundreds of predictors.

`read_plain` returns what `source.parse` would make of a text, with the same lines; or None for whatever the two parsers
might read differently, or that has to be refused in words: then ruamel.yaml reads it. So a text means the same either
way (tests/config/test_plain_yaml.py compares them), and is never accepted here alone. PyYAML is imported here only.
"""

import copy
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.resolver import VersionedResolver

try:
    from yaml import CBaseLoader as _Loader
except ImportError:  # a PyYAML that was built without libyaml
    _Loader = None

Step = str | int
Lines = dict[tuple[Step, ...], int]
DEEPEST = 40
"""Levels; deeper documents are left to the other parser, which refuses them."""
UNUSUAL = re.compile(r"[\\\t\x85\u2028\u2029\ufeff\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|^%", re.MULTILINE)
"""Escapes, and characters that YAML 1.1 and 1.2 take for different things."""
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+(e[-+]?[0-9]+)?|e[-+]?[0-9]+)")
FIRST = frozenset("-+.<=~0123456789tTfFnN")
"""With one of these begins whatever YAML 1.2 reads as something else than a text."""
NEVER_PLAIN = re.compile(r"[#?&*!|>'\"%@`]|[:-]$")
IN_BRACKETS = re.compile(r"[{}\[\],]|:(?!//)")
_TEXT = "tag:yaml.org,2002:str"
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}


class _Unsure(Exception):
    """Something that is better read by the other parser."""


def read_plain(text: str, most_nodes: int) -> tuple[Any, Lines] | None:
    """Return the data of a text and the line of every path in it; None where the other parser must look."""
    if _Loader is None or UNUSUAL.search(text):
        return None
    reader = _Reader(most_nodes)
    try:
        return reader.document(yaml.parse(text, Loader=_Loader)), reader.lines
    except (yaml.YAMLError, _Unsure, ValueError, StopIteration):
        return None


class _Reader:
    def __init__(self, most_nodes: int) -> None:
        self.lines: Lines = {(): 1}
        self._left = most_nodes
        self._anchors: dict[str, tuple[Any, Lines]] = {}

    def document(self, events: Iterator[Any]) -> Any:
        next(events)
        start = next(events)
        if not isinstance(start, yaml.DocumentStartEvent) or start.version or start.tags:
            raise _Unsure
        first = next(events)
        if not isinstance(first, yaml.MappingStartEvent):
            raise _Unsure
        data = self._value(first, events, (), brackets=False)
        end = [next(events), next(events)]
        if not isinstance(end[0], yaml.DocumentEndEvent) or not isinstance(end[1], yaml.StreamEndEvent):
            raise _Unsure
        return data

    def _value(self, event: Any, events: Iterator[Any], path: tuple[Step, ...], *, brackets: bool) -> Any:
        self._left -= 1
        if self._left < 0 or len(path) > DEEPEST:
            raise _Unsure
        if isinstance(event, yaml.AliasEvent):
            return self._again(event.anchor, path)
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event, brackets)
        elif event.tag is not None:
            raise _Unsure
        elif isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(events, path, brackets or event.flow_style)
        else:
            value = self._list(events, path, brackets or event.flow_style)
        if event.anchor is not None:
            self._remember(event.anchor, value, path)
        return value

    def _remember(self, anchor: str, value: Any, path: tuple[Step, ...]) -> None:
        if anchor in self._anchors:
            raise _Unsure
        depth = len(path)
        below = {place[depth:]: line for place, line in self.lines.items() if place[:depth] == path and place != path}
        self._anchors[anchor] = value, below

    def _again(self, anchor: str, path: tuple[Step, ...]) -> Any:
        """Return what an alias stands for; its parts are where they were written."""
        if anchor not in self._anchors:  # unknown, or around the alias
            raise _Unsure
        value, below = self._anchors[anchor]
        self._left -= len(below)
        if self._left < 0 or any(len(path) + len(place) > DEEPEST for place in below):
            raise _Unsure
        self.lines |= {(*path, *place): line for place, line in below.items()}
        return copy.deepcopy(value)

    def _list(self, events: Iterator[Any], path: tuple[Step, ...], brackets: bool) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            place = (*path, len(items))
            self.lines[place] = event.start_mark.line + 1
            items.append(self._value(event, events, place, brackets=brackets))
        return items

    def _mapping(self, events: Iterator[Any], path: tuple[Step, ...], brackets: bool) -> dict[Any, Any]:
        plain: dict[Any, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.anchor:
                raise _Unsure
            key = _scalar(event, brackets)
            if key in plain:  # refused, in words
                raise _Unsure
            place = (*path, key if isinstance(key, str) else str(key))
            self.lines[place] = event.start_mark.line + 1
            plain[key] = self._value(next(events), events, place, brackets=brackets)
        return plain


def _scalar(event: Any, brackets: bool) -> Any:
    if event.tag is not None or event.start_mark.line != event.end_mark.line:
        raise _Unsure
    text: str = event.value
    if event.style in ("'", '"'):
        return text
    if event.style or NEVER_PLAIN.search(text) or (brackets and IN_BRACKETS.search(text)):
        raise _Unsure
    return text if text and text[0] not in FIRST else _resolved(text)


@lru_cache(maxsize=4096)
def _resolved(text: str) -> Any:
    """Return what YAML 1.2 makes of a plain scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if INTEGER.fullmatch(text):
        return int(text)
    if FLOAT.fullmatch(text):
        return float(text)
    if _resolver.resolve(ScalarNode, text, (True, False)) != _TEXT:
        raise _Unsure
    return text


_resolver = VersionedResolver()
