"""Where writer schemas are found: a folder.

The folder holds `*.avsc` files, each one complete schema, and optionally `ids.json`, `{"7": "event.avsc"}`, which gives
Confluent ids their schemas. A `Schema` is found by id, by fingerprint or by file. The folder is checked whole when it
is opened; whatever is wrong is a SchemaError that names the file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastavro.schema import fingerprint as crc64
from fastavro.schema import to_parsing_canonical_form

from muse_stream.avro import schema_json
from muse_stream.avro.types import Type
from muse_stream.errors import SchemaError

IDS_FILE = "ids.json"


@dataclass(frozen=True, slots=True)
class Schema:
    """One Avro record schema."""

    name: str
    """Full name of the record."""
    text: str
    """Schema JSON as it is in the file."""
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
    document: dict[str, Any] = json.loads(text)
    canonical = to_parsing_canonical_form(document)
    name = json.loads(canonical)["name"]
    return Schema(name, text, bytes.fromhex(crc64(canonical, "CRC-64-AVRO")), schema_id, file, node)


def canonical_form(schema: Schema) -> str:
    """Return the parsing canonical form, of which the fingerprint is."""
    return to_parsing_canonical_form(json.loads(schema.text))


class SchemaDirectory:
    """All schemas of one folder."""

    def __init__(self, path: Path, schemas: Mapping[str, Schema], ids: Mapping[int, Schema]) -> None:
        self.path = path
        self._files = dict(schemas)
        self._ids = dict(ids)
        self._fingerprints: dict[bytes, list[Schema]] = {}
        for schema in self._files.values():
            self._fingerprints.setdefault(schema.fingerprint, []).append(schema)

    @classmethod
    def open(cls, path: Path | str) -> "SchemaDirectory":
        """Read a folder; raises SchemaError when it is missing, holds no schema, or one of its files is wrong."""
        folder = Path(path)
        if not folder.is_dir():
            raise SchemaError(f"{folder}: no such folder; expected one with *.avsc files")
        files = sorted(folder.glob("*.avsc"))
        if not files:
            raise SchemaError(f"{folder}: holds no *.avsc file")
        ids = _read_ids(folder)
        numbers = {name: number for number, name in sorted(ids.items(), reverse=True)}
        schemas = {
            file.name: parse_schema(_text(file), file=file.name, schema_id=numbers.get(file.name)) for file in files
        }
        strangers = sorted(set(ids.values()) - set(schemas))
        if strangers:
            raise SchemaError(
                f"{folder / IDS_FILE}: {strangers[0]} is not in the folder; it holds {', '.join(schemas)}"
            )
        return cls(folder, schemas, {number: schemas[name] for number, name in ids.items()})

    def files(self) -> tuple[str, ...]:
        """Names of the schema files, sorted."""
        return tuple(self._files)

    def by_id(self, schema_id: int) -> Schema:
        """Return the schema of a Confluent id; SchemaError when `ids.json` does not have it."""
        if schema_id not in self._ids:
            raise SchemaError(f"schema id {schema_id} is not in {self.path / IDS_FILE}; it has {_some(self._ids)}")
        return self._ids[schema_id]

    def by_fingerprint(self, fingerprint: bytes) -> Schema:
        """Return the schema with that fingerprint; SchemaError when none has it, or several of different meaning."""
        found = self._fingerprints.get(fingerprint, [])
        if not found:
            raise SchemaError(f"no schema in {self.path} has the fingerprint {fingerprint.hex()}")
        if any(_meaning(other.type) != _meaning(found[0].type) for other in found[1:]):
            names = ", ".join(schema.file for schema in found)
            raise SchemaError(
                f"{names} have one fingerprint but differ in logical types: a frame cannot tell them apart"
            )
        return found[0]

    def by_file(self, name: str) -> Schema:
        """Return the schema of a file of the folder, e.g. `event.avsc`."""
        if name not in self._files:
            raise SchemaError(f"{self.path} has no {name}; it has {', '.join(self._files)}")
        return self._files[name]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"{file}: cannot be read: {error}") from None


def _read_ids(folder: Path) -> dict[int, str]:
    file = folder / IDS_FILE
    if not file.exists():
        return {}
    try:
        document = json.loads(_text(file))
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
