"""What would have been right: turns pydantic's findings into sentences with a hint.

Hints come from the JSON Schema (so from the docstring under the field), from the validator that refused, or from the
nearest name that exists. Values that look like secrets are never repeated.
"""

import json
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic_core import ErrorDetails

from muse_stream.config.document import json_schema
from muse_stream.config.source import YamlPath

_NAME_RULE = "letters, digits, '.', '_' and '-', starting with a letter or digit, at most 200"
_SHORT = 60
_NOT_A_MAPPING = frozenset({"model_type", "dict_type", "model_attributes_type"})


def nearest(name: str, names: Collection[str]) -> str:
    """Return "did you mean ...?" for the closest of `names`, or a list of the few there are, or nothing."""
    close = get_close_matches(name, list(names), n=1, cutoff=0.6) or [
        known for known in names if known.lower() == name.lower()
    ]
    if close:
        return f"did you mean '{close[0]}'?"
    if names:
        known = sorted(names)
        return f"known: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}"
    return ""


@cache
def _schema() -> dict[str, Any]:
    """Return the JSON Schema, made once: that takes 0.1 s of CPU, and who watches a store may meet many findings."""
    return json_schema()


class Expected:
    """Looks up in the JSON Schema what is at a path."""

    def __init__(self) -> None:
        self._schema = _schema()

    def explain(self, path: YamlPath, detail: ErrorDetails) -> tuple[str, str]:
        """Return message and hint for one finding."""
        context: Mapping[str, Any] = detail.get("ctx", {})
        if detail["type"] == "muse":
            return str(context["text"]), str(context["hint"])
        if detail["loc"] and detail["loc"][-1] == "[key]":
            return _wrong_name(detail["input"])
        keys = self._keys(path)
        if detail["type"] in _NOT_A_MAPPING:
            return "should be a mapping of keys to values", f"keys: {', '.join(keys)}" if keys else self._description(
                path
            )
        match detail["type"]:
            case "extra_forbidden":
                return "this key is not known here", nearest(str(path[-1]), self._keys(path[:-1]))
            case "missing":
                return "is missing", self._description(path)
            case _:
                return self._wrong_value(path, detail)

    def _wrong_value(self, path: YamlPath, detail: ErrorDetails) -> tuple[str, str]:
        given = detail["input"]
        message = detail["msg"].replace("Input should", "should").replace("String should", "should")
        if detail["type"] == "string_pattern_mismatch":
            message = "is not of the right form"
        if detail["type"] in {"tuple_type", "list_type"}:
            message = "should be a list"
        shown = isinstance(given, str | int | float) and len(str(given)) <= _SHORT
        text = f"{json.dumps(given)} {message}" if shown else message
        if detail["type"] == "string_type" and isinstance(given, int | float):
            return text, "put it in quotes"
        return text, self._description(path)

    def _keys(self, path: YamlPath) -> list[str]:
        return list(dict.fromkeys(key for node in self._at(path) for key in node.get("properties", {})))

    def _description(self, path: YamlPath) -> str:
        """Return the first sentence of the field's description, or of the nearest field around it."""
        for length in range(len(path), 0, -1):
            if isinstance(path[length - 1], int):
                continue
            for owner in self._at(path[: length - 1]):
                found = owner.get("properties", {}).get(str(path[length - 1]), {}).get("description")
                if found:
                    return str(found).partition("\n")[0].rstrip(".")
        return ""

    def _at(self, path: YamlPath) -> list[dict[str, Any]]:
        """Return the schemas that may describe what is at `path`."""
        nodes = self._expand(self._schema)
        for step in path:
            below: list[dict[str, Any]] = []
            for node in nodes:
                if isinstance(step, int):
                    found = node.get("items")
                else:
                    # A mapping from names to entries describes its entries by the pattern of the names.
                    entries = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties"))
                    found = node.get("properties", {}).get(step, entries)
                if isinstance(found, dict):
                    below.extend(self._expand(found))
            nodes = below
        return nodes

    def _expand(self, node: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the alternatives of a schema, references followed."""
        if "$ref" in node:
            return self._expand(self._schema["$defs"][node["$ref"].rpartition("/")[2]])
        choices = [choice for key in ("anyOf", "oneOf", "allOf") for choice in node.get(key, [])]
        return [node] if not choices else [found for choice in choices for found in self._expand(choice)]


def _wrong_name(given: object) -> tuple[str, str]:
    rule = "put it in quotes" if not isinstance(given, str) else _NAME_RULE
    return f"'{str(given)[:_SHORT]}' cannot be a name", rule
