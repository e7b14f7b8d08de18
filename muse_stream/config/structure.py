"""First pass: does every field hold what it may hold?

A parsed `Source` gives a `Draft` (the document, or the part of it that is sound) and a problem for every broken field.
One broken field hides nothing else: what is broken is left out of the draft, but its name stays declared, so the second
pass (`check_names` and its siblings) still finds every other mistake and invents none.
"""

import copy
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Struct
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from muse_stream.config.document import Document
from muse_stream.config.event import EventSpec
from muse_stream.config.expected import Expected
from muse_stream.config.fields import Name
from muse_stream.config.model import ModelSpec
from muse_stream.config.predictor import PredictorSpec
from muse_stream.config.route import RouteSpec
from muse_stream.config.source import Source, YamlKey, YamlPath
from muse_stream.config.tenant import TenantSpec
from muse_stream.errors import Problem

_GONE = object()
"""Stands for a route that was left out, until all of them are known."""

SECTIONS = ("categories", "models", "references", "maps", "recalibrations", "predictors", "events", "tenants")
"""Mappings from a name to an entry."""


class _Sound(Document):
    """A document of which any part may have been left out."""

    version: Annotated[Any, "pruned"] = 1
    models: dict[Name, ModelSpec] = Field(default_factory=dict)
    predictors: dict[Name, PredictorSpec] = Field(default_factory=dict)
    events: dict[Name, EventSpec] = Field(default_factory=dict)
    routes: tuple[RouteSpec, ...] = ()
    tenants: dict[Name, TenantSpec] = Field(default_factory=dict)


class Draft(Struct, frozen=True):
    """What the second pass works on."""

    document: Document
    source: Source
    declared: Mapping[str, frozenset[str]]
    """Section to all names that stand there, sound or not."""
    route_positions: tuple[int, ...]
    """Position in the file of each route of `document`."""

    def problem(self, path: YamlPath, message: str, hint: str = "") -> Problem:
        """Return a problem at `path` (route positions as in `document`), trimmed to what is in the file."""
        if path[0] == "routes" and len(path) > 1 and isinstance(path[1], int):
            path = ("routes", self.route_positions[path[1]], *path[2:])
        return self.source.problem(_existing(self.source.tree, path), message, hint)


def read_structure(source: Source) -> tuple[Draft, list[Problem]]:
    """Return the sound part of a document and the problems of the rest."""
    declared = {section: _keys(source.tree, section) for section in SECTIONS}
    try:
        document = Document.model_validate(source.tree)
    except ValidationError as error:
        problems = _problems(source, error)
        sound, positions = _sound_part(source.tree, error)
        return Draft(sound, source, declared, positions), problems
    return Draft(document, source, declared, tuple(range(len(document.routes)))), []


def _keys(tree: Any, section: str) -> frozenset[str]:
    entries = tree.get(section) if isinstance(tree, dict) else None
    return frozenset(str(name) for name in entries) if isinstance(entries, dict) else frozenset()


def _problems(source: Source, error: ValidationError) -> list[Problem]:
    expected = Expected()
    problems: dict[YamlPath, Problem] = {}
    short: set[YamlPath] = set()
    for detail in error.errors(include_url=False):
        path = _yaml_path(source.tree, detail)
        message, hint = expected.explain(path, detail)
        short |= {path} if detail["type"] == "too_short" else set()
        problems.setdefault(path, source.problem(path, message, hint))
    # A list that is "too short" once its broken elements are left out is no second mistake.
    return [
        problem
        for path, problem in problems.items()
        if not (path in short and any(other != path and other[: len(path)] == path for other in problems))
    ]


def _yaml_path(tree: Any, detail: ErrorDetails) -> YamlPath:
    """Return pydantic's location as a YAML path: without union tags and `[key]`, which stand in no file."""
    steps: list[YamlKey] = []
    node = tree
    for position, step in enumerate(detail["loc"]):
        found, below = _descend(node, step)
        if found:
            node = below
            steps.append(step)
        elif detail["type"] == "missing" and position == len(detail["loc"]) - 1:
            steps.append(step)
    return tuple(steps)


def _descend(node: Any, step: YamlKey) -> tuple[bool, Any]:
    if isinstance(node, dict):
        for key, below in node.items():
            if key == step or str(key) == str(step):
                return True, below
    elif isinstance(node, list) and isinstance(step, int) and 0 <= step < len(node):
        return True, node[step]
    return False, None


def _existing(tree: Any, path: YamlPath) -> YamlPath:
    node = tree
    for length, step in enumerate(path):
        found, node = _descend(node, step)
        if not found:
            return path[:length]
    return path


def _sound_part(tree: Any, error: ValidationError) -> tuple[Document, tuple[int, ...]]:
    """Return the document without its broken entries, and which routes are left."""
    tree = copy.deepcopy(tree) if isinstance(tree, dict) else {}
    positions = list(range(len(tree["routes"]))) if isinstance(tree.get("routes"), list) else []
    while True:
        details = error.errors(include_url=False, include_context=False)
        # All paths first: once something is removed, the others would lead to what encloses them.
        paths = {_yaml_path(tree, detail): detail["type"] == "extra_forbidden" for detail in details}
        removed = [_remove(tree, path if extra else path[:2]) for path, extra in paths.items()]
        if not any(removed):
            tree.clear()
        routes = tree.get("routes")
        if isinstance(routes, list):
            positions = [position for position, route in zip(positions, routes, strict=True) if route is not _GONE]
            tree["routes"] = [route for route in routes if route is not _GONE]
        try:
            return _Sound.model_validate(tree), tuple(positions)
        except ValidationError as again:
            error = again


def _remove(tree: Any, path: YamlPath) -> bool:
    """Remove what is at `path`; return whether it was there."""
    if not path:
        tree.clear()
        return True
    node = tree
    for step in path:
        parent = node
        found, node = _descend(node, step)
        if not found:
            return False
    if isinstance(parent, list):
        parent[int(path[-1])] = _GONE
    else:
        for key in [key for key in parent if str(key) == str(path[-1])]:
            del parent[key]
    return True
