"""Where writer schemas are found: a folder.

The folder holds `*.avsc` files, each one schema, which may use types that other files define, and optionally
`ids.json`, `{"7": "event.avsc"}`, which gives Confluent ids their schemas. A `Schema` is found by id, by fingerprint or
by file. What is wrong with a file is a SchemaError that names it, for who asks for that file; the others are not
affected. A schema that is no record (of a key, of a type for other files) is well, but no value's.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastavro.schema import fingerprint as crc64
from fastavro.schema import to_parsing_canonical_form

from muse_stream.avro import schema_json
from muse_stream.avro.schema_files import Library, read_text
from muse_stream.avro.schema_json import NotARecord
from muse_stream.avro.types import Type
from muse_stream.errors import SchemaError

IDS_FILE = "ids.json"


@dataclass(frozen=True, slots=True)
class Schema:
    """One Avro record schema."""

    name: str
    """Full name of the record."""
    text: str
    """Schema JSON as it is in the file, with the types that other files define."""
    fingerprint: bytes
    """CRC-64-AVRO of the parsing canonical form, 8 bytes, little endian: as it is in a single-object frame."""
    id: int | None = None
    """Confluent id, if `ids.json` gives one."""
    file: str = ""
    type: Type = field(default_factory=lambda: Type("record"), compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.file} ({self.name})" if self.file else self.name


def parse_schema(text: str, *, file: str = "", schema_id: int | None = None) -> Schema:
    """Make a Schema of JSON text; raises SchemaError naming `file` when it is not a record Avro knows."""
    node = schema_json.parse(text, file or "schema")
    text = schema_json.sound(text)
    document: dict[str, Any] = json.loads(text)
    canonical = to_parsing_canonical_form(document)
    name = json.loads(canonical)["name"]
    return Schema(name, text, bytes.fromhex(crc64(canonical, "CRC-64-AVRO")), schema_id, file, node)


def canonical_form(schema: Schema) -> str:
    """Return the parsing canonical form, of which the fingerprint is."""
    return to_parsing_canonical_form(json.loads(schema.text))


class SchemaDirectory:
    """All schemas of one folder."""

    def __init__(
        self,
        path: Path,
        schemas: Mapping[str, Schema],
        ids: Mapping[int, Schema],
        unusable: Mapping[str, SchemaError] | None = None,
        ids_of_unusable: Mapping[int, str] | None = None,
    ) -> None:
        self.path = path
        self._files = dict(schemas)
        self._ids = dict(ids)
        self._unusable = dict(unusable or {})
        self._ids_of_unusable = dict(ids_of_unusable or {})
        self._fingerprints: dict[bytes, list[Schema]] = {}
        for schema in self._files.values():
            self._fingerprints.setdefault(schema.fingerprint, []).append(schema)

    @classmethod
    def open(cls, path: Path | str) -> "SchemaDirectory":
        """Read a folder; raises SchemaError when it is missing, holds no usable schema, or its `ids.json` is wrong."""
        folder = Path(path)
        if not folder.is_dir():
            raise SchemaError(f"{folder}: no such folder; expected one with *.avsc files")
        files = sorted(folder.glob("*.avsc"))
        if not files:
            raise SchemaError(f"{folder}: holds no *.avsc file")
        ids = _read_ids(folder)
        numbers = {name: number for number, name in sorted(ids.items(), reverse=True)}
        names = [file.name for file in files]
        strangers = sorted(set(ids.values()) - set(names))
        if strangers:
            raise SchemaError(f"{folder / IDS_FILE}: {strangers[0]} is not in the folder; it holds {', '.join(names)}")
        library = Library(files)
        schemas: dict[str, Schema] = {}
        unusable: dict[str, SchemaError] = {}
        for name in names:
            try:
                schemas[name] = parse_schema(library.complete(name), file=name, schema_id=numbers.get(name))
            except SchemaError as error:
                unusable[name] = error
        if not schemas:
            raise next((one for one in unusable.values() if not isinstance(one, NotARecord)), unusable[names[0]])
        known = {number: schemas[name] for number, name in ids.items() if name in schemas}
        others = {number: name for number, name in ids.items() if name in unusable}
        return cls(folder, schemas, known, unusable, others)

    def files(self) -> tuple[str, ...]:
        """Names of the files that have the schema of a value, sorted."""
        return tuple(self._files)

    def holds(self, name: str) -> bool:
        """Say whether there is such a file, usable or not."""
        return name in self._files or name in self._unusable

    def broken(self) -> dict[str, str]:
        """Return the files that cannot be read, and why; not those that hold another schema than a record."""
        return {name: str(error) for name, error in self._unusable.items() if not isinstance(error, NotARecord)}

    def expect(self, prefixes: Sequence[bytes]) -> None:
        """Take in which frames are about to be looked up; a folder knows all that it ever will."""

    def by_id(self, schema_id: int) -> Schema:
        """Return the schema of a Confluent id; SchemaError when `ids.json` does not have it, or it cannot be used."""
        if schema_id in self._ids_of_unusable:
            raise self._unusable[self._ids_of_unusable[schema_id]]
        if schema_id not in self._ids:
            raise SchemaError(f"schema id {schema_id} is not in {self.path / IDS_FILE}; it has {_some(self._ids)}")
        return self._ids[schema_id]

    def by_fingerprint(self, fingerprint: bytes) -> Schema:
        """Return the schema with that fingerprint; SchemaError when none has it, or several of different meaning."""
        found = self.of_fingerprint(fingerprint)
        if len(found) > 1:
            raise SchemaError(ambiguous(found))
        return found[0]

    def of_fingerprint(self, fingerprint: bytes) -> tuple[Schema, ...]:
        """Return the schemas with that fingerprint that do not mean the same, mostly one; SchemaError for none."""
        found = self._fingerprints.get(fingerprint, [])
        if not found:
            unread = f"; not readable: {', '.join(self.broken())}" if self.broken() else ""
            raise SchemaError(f"no schema in {self.path} has the fingerprint {fingerprint.hex()}{unread}")
        return _distinct(found)

    def twins(self) -> list[tuple[Schema, ...]]:
        """Return the schemas that a single-object frame cannot tell apart, though they do not mean the same."""
        return [some for found in self._fingerprints.values() if len(some := _distinct(found)) > 1]

    def by_file(self, name: str) -> Schema:
        """Return the schema of a file of the folder, e.g. `event.avsc`; SchemaError when it has none that is usable."""
        if name in self._unusable:
            raise self._unusable[name]
        if name not in self._files:
            raise SchemaError(f"{self.path} has no {name}; it has {', '.join(self._files)}")
        return self._files[name]


def ambiguous(found: Sequence[Schema]) -> str:
    """Say that schemas have one fingerprint and several meanings."""
    names = ", ".join(schema.file for schema in found)
    return f"{names} have one fingerprint but differ in logical types: a frame cannot tell them apart"


def _distinct(found: Sequence[Schema]) -> tuple[Schema, ...]:
    """Return one schema of each meaning."""
    kept: list[Schema] = []
    for schema in found:
        if all(_meaning(schema.type) != _meaning(other.type) for other in kept):
            kept.append(schema)
    return tuple(kept)


def _read_ids(folder: Path) -> dict[int, str]:
    file = folder / IDS_FILE
    if not file.exists():
        return {}
    try:
        document = json.loads(read_text(file))
        ids = {int(number): name for number, name in document.items()}
    except (ValueError, AttributeError, RecursionError):
        raise SchemaError(f'{file}: expected an object of ids and files, like {{"1": "event.avsc"}}') from None
    if not all(isinstance(name, str) for name in ids.values()):
        raise SchemaError(f"{file}: every id must be given the name of a file in the folder")
    return ids


def _some(ids: Mapping[int, Schema]) -> str:
    return ", ".join(str(number) for number in sorted(ids)[:8]) or "none"


def _meaning(node: Type) -> Any:
    """What a decoder of the encoded form must still know: logical types, in order."""
    inner = [_meaning(part.type) for part in node.fields] + [_meaning(part) for part in node.branches]
    return node.logical, node.scale, inner, _meaning(node.items) if node.items else None
