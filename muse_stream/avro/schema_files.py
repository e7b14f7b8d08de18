"""Schemas that name types which other files of their folder define.

Files give the text of one of them with all types in it, each defined where it is first used, as Java's parser makes it
of several files: so it has the fingerprint that Java writes.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from muse_stream.avro.schema_json import NAMED, PRIMITIVES, read_json
from muse_stream.errors import SchemaError

Json = Any
CONTAINERS = {"array": "items", "map": "values"}


class Definition(Struct, frozen=True):
    """A named type in a file."""

    file: str
    schema: Json
    """With its namespace, so that it may stand anywhere."""
    alone: bool
    """It is what the file is about, not a part of that."""


class Library:
    """The types of a folder's files."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._texts: dict[str, str] = {}
        self._faults: dict[str, SchemaError] = {}
        self._documents: dict[str, Json] = {}
        self._definitions: dict[str, list[Definition]] = {}
        for file in files:
            try:
                self._take(file.name, read_text(file))
            except SchemaError as error:
                self._faults[file.name] = error

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> "Library":
        """Make one of texts, by any names."""
        library = cls(())
        for name, text in texts.items():
            library._take(name, text)
        return library

    def complete(self, file: str) -> str:
        """Return a file's schema as one text; raises SchemaError when it cannot be read or a type is ambiguous."""
        if file in self._faults:
            raise self._faults[file]
        if file not in self._documents:
            return self._texts[file]  # not JSON, or no schema: whoever parses it will say so
        own = {full for full, _, _ in _named_types(self._documents[file], "")}
        completing = _Completing(self._definitions, own, file)
        whole = completing.whole(self._documents[file], "")
        return self._texts[file] if whole == self._documents[file] else json.dumps(whole)

    def _take(self, name: str, text: str) -> None:
        self._texts[name] = text
        try:
            document = read_json(text)
            found = list(_named_types(document, ""))
        except (SchemaError, ValueError, TypeError, AttributeError, KeyError):
            return
        self._documents[name] = document
        for full, schema, depth in found:
            self._definitions.setdefault(full, []).append(Definition(name, schema, depth == 0))


class _Completing:
    """Puts the types of other files into one schema."""

    def __init__(self, definitions: dict[str, list[Definition]], own: set[str], file: str) -> None:
        self._definitions, self._own, self._file = definitions, own, file
        self.taken: set[str] = set()
        """Full names of what was put in."""

    def whole(self, schema: Json, namespace: str) -> Json:
        """Return a schema with the definitions that it lacks."""
        if isinstance(schema, str):
            return self._name(schema, namespace)
        if isinstance(schema, list):
            return [self.whole(branch, namespace) for branch in schema]
        return self._complex(schema, namespace) if isinstance(schema, dict) else schema

    def _complex(self, schema: dict[str, Json], namespace: str) -> Json:
        kind = schema.get("type")
        if isinstance(kind, str) and kind in CONTAINERS:
            inner = CONTAINERS[kind]
            return {**schema, inner: self.whole(schema.get(inner), namespace)}
        if not isinstance(kind, str) or kind not in NAMED:
            if isinstance(kind, str) and kind in PRIMITIVES:
                return schema
            return self.whole(kind, namespace)  # a name, or a type in brackets of its own, which fastavro does not know
        if not isinstance(schema.get("fields"), list):
            return schema
        within = _full_name(schema, namespace).rpartition(".")[0]
        return {**schema, "fields": [self._field(field, within) for field in schema["fields"]]}

    def _field(self, field: Json, namespace: str) -> Json:
        if not isinstance(field, dict) or "type" not in field:
            return field
        return {**field, "type": self.whole(field["type"], namespace)}

    def _name(self, name: str, namespace: str) -> Json:
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if name in PRIMITIVES or full in self._own | self.taken:
            return name
        found = self._definitions.get(full)
        if not found:
            return name  # whoever parses it will say that there is no such type
        self.taken.add(full)
        return self.whole(self._only(full, found).schema, "")

    def _only(self, full: str, found: list[Definition]) -> Definition:
        chosen = [one for one in found if one.alone] or found
        other = next((one for one in chosen if _bare(one.schema) != _bare(chosen[0].schema)), None)
        if other is not None:
            raise SchemaError(
                f"{self._file}: uses {full}, which {chosen[0].file} and {other.file} define, each in another way"
            )
        return chosen[0]


def complete(text: str, others: Mapping[str, str], name: str) -> str:
    """Return a schema's text with the types that others define; raises SchemaError naming `name`."""
    return Library.of({**others, name: text}).complete(name) if others else text


def read_text(file: Path) -> str:
    """Return a file's text, without the mark that Windows' tools put before it; raises SchemaError."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"{file}: cannot be read: {error}") from None


def _named_types(schema: Json, namespace: str, depth: int = 0) -> Iterator[tuple[str, Json, int]]:
    """Yield full name, definition and depth of each named type; a list in the file itself is no depth."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _named_types(branch, namespace, depth)
        return
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    if isinstance(kind, str) and kind in NAMED and isinstance(schema.get("name"), str):
        full = _full_name(schema, namespace)
        within, _, short = full.rpartition(".")
        yield full, {**schema, "name": short, "namespace": within}, depth
        for field in schema.get("fields", ()):
            yield from _named_types(field["type"], within, depth + 1)
        return
    inner = schema.get(CONTAINERS[kind]) if isinstance(kind, str) and kind in CONTAINERS else kind
    yield from _named_types(inner, namespace, depth + 1)


def _full_name(schema: Json, namespace: str) -> str:
    name = schema.get("name")
    if not isinstance(name, str) or "." in name:
        return str(name)
    within = schema.get("namespace", namespace)
    return f"{within}.{name}" if within else name


def _bare(schema: Json) -> Json:
    """Return a definition without what is for people alone."""
    if isinstance(schema, list):
        return [_bare(one) for one in schema]
    if isinstance(schema, dict):
        return {key: _bare(value) for key, value in schema.items() if key != "doc"}
    return schema
