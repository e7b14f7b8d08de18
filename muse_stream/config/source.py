"""A YAML file as plain data that still knows on which line everything is.

`Source` holds the data (dict, list, str, int, float, bool, None) of one YAML 1.2 document and a line for every path.
Duplicate keys, tags, dates and absurd sizes are refused as problems with their line; no object is ever constructed.
`plain_yaml` reads what is plain, ruamel.yaml the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode

from muse_stream.config.plain_yaml import read_plain
from muse_stream.errors import ConfigError, Problem

YamlKey = str | int
YamlPath = tuple[YamlKey, ...]

MAX_BYTES = 8 << 20
"""Largest file that is parsed: thousands of tenants fit into a tenth of it."""
MAX_NODES = 200_000
"""Most values after aliases are followed: stops a document whose aliases multiply."""


def written(path: YamlPath) -> str:
    """Return a path as people write it: `predictors.cards.experts[1].model`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text or "(document)"


@dataclass(frozen=True)
class Source:
    """One parsed file; everything it says about itself, except what it means."""

    path: Path
    data: bytes
    """The bytes that were parsed: what a generation keeps."""
    tree: Any
    """Plain data."""
    lines: Mapping[YamlPath, int] = field(repr=False)
    """Path to line, counted from 1."""
    problems: tuple[Problem, ...] = ()
    """What this file may not contain, found while it was read."""

    def line(self, path: YamlPath) -> int | None:
        """Return the line of `path`, or of the nearest enclosing thing that has one."""
        for length in range(len(path), -1, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return line
        return None

    def problem(self, path: YamlPath, message: str, hint: str = "") -> Problem:
        """Return a problem at `path`, with its line and this file's name."""
        return Problem(written(path), message, hint, self.line(path), str(self.path))


def parse(path: Path, data: bytes) -> Source:
    """Return `data` parsed; `path` only names it. Raises ConfigError when it is no YAML at all."""

    def refuse(message: str, hint: str = "", line: int | None = None) -> ConfigError:
        return ConfigError([Problem("(document)", message, hint, line, str(path))])

    if len(data) > MAX_BYTES:
        raise refuse(f"the file has {len(data)} bytes", f"at most {MAX_BYTES}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refuse(f"not UTF-8 at byte {error.start}", "save the file as UTF-8") from error
    if (plain := read_plain(text, MAX_NODES)) is not None:
        return Source(path, data, *plain)
    walk = _Walk(path)
    try:
        loaded = _load(text, walk)
    except MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise refuse(f"not YAML: {error.problem or error.context}", "YAML 1.2 is expected", line) from error
    except (YAMLError, ValueError, RecursionError, TypeError, AttributeError, LookupError, AssertionError) as error:
        # ruamel lets constructors fail with whatever they meet: odd numbers, dates, nesting of thousands of levels.
        raise refuse(f"not YAML: {type(error).__name__}", "YAML 1.2 is expected") from error
    tree = walk.plain(loaded, ())
    return Source(path, data, tree, walk.lines, tuple(walk.problems))


def _load(text: str, walk: "_Walk") -> Any:
    try:
        return YAML(typ="rt").load(text)
    except DuplicateKeyError:
        # The exception knows only the first; the nodes show all, and the rest of the file is still worth reading.
        walk.find_duplicates(YAML(typ="rt").compose(text), (), set())
        tolerant = YAML(typ="rt")
        tolerant.allow_duplicate_keys = True
        return tolerant.load(text)


class _Walk:
    """Turns what ruamel built into plain data, and remembers lines on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[YamlPath, int] = {(): 1}
        self.problems: list[Problem] = []
        self.nodes = 0

    def plain(self, value: Any, path: YamlPath) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > 50:
            raise ConfigError(
                [Problem(written(path)[:200], "the document is too large or too deep", "", None, str(self.path))]
            )
        if isinstance(value, CommentedMap | CommentedSeq) and value.tag.value is not None:
            return self.refuse(path, f"the tag {value.tag.value} is not supported", "plain YAML: leave the tag out")
        if isinstance(value, CommentedMap):
            return self._mapping(value, path)
        if isinstance(value, CommentedSeq):
            items = []
            for position, item in enumerate(value):
                self.lines[(*path, position)] = value.lc.item(position)[0] + 1
                items.append(self.plain(item, (*path, position)))
            return items
        return self._scalar(value, path)

    def find_duplicates(self, node: Any, path: YamlPath, seen: set[int]) -> None:
        """Report every key that is twice in one mapping, below a composed YAML node."""
        if id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, MappingNode):
            lines: dict[str, int] = {}
            for key, below in node.value:
                name, line = str(key.value), key.start_mark.line + 1
                if name in lines:
                    message = f"this key is on line {lines[name]} already"
                    problem = Problem(
                        written((*path, name)), message, "remove or rename one of the two", line, str(self.path)
                    )
                    self.problems.append(problem)
                lines.setdefault(name, line)
                self.find_duplicates(below, (*path, name), seen)
        elif isinstance(node, SequenceNode):
            for position, below in enumerate(node.value):
                self.find_duplicates(below, (*path, position), seen)

    def _mapping(self, value: CommentedMap, path: YamlPath) -> dict[Any, Any]:
        plain: dict[Any, Any] = {}
        for key, item in value.items():
            name = self._scalar(key, path)
            step = (*path, name if isinstance(name, str) else str(name))
            # A key that came in by a merge (`<<: *x`) has no place of its own here.
            if value.lc.data is not None and key in value.lc.data:
                self.lines[step] = value.lc.key(key)[0] + 1
            plain[name] = self.plain(item, step)
        return plain

    def _scalar(self, value: Any, path: YamlPath) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if type(value).__name__ == "ScalarBoolean":
            return bool(value)
        for kind in (str, int, float):
            if isinstance(value, kind):
                return kind(value)
        if isinstance(value, date):
            return self.refuse(path, f"{value} is read as a date", "put it in quotes")
        return self.refuse(
            path, "this kind of YAML value is not supported", "mappings, lists, strings, numbers, booleans"
        )

    def refuse(self, path: YamlPath, message: str, hint: str) -> None:
        self.problems.append(Problem(written(path), message, hint, self.line(path), str(self.path)))

    def line(self, path: YamlPath) -> int | None:
        return next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), None)
