"""The schemas that events of a format were written with: of the schemas folder, or of a Schema Registry.

A Confluent id of a format with `schema_ids: registry` is the registry's, whatever `ids.json` says. A fingerprint is
looked for in the folder first, then among the versions of the format's subjects.
"""

from collections.abc import Iterable, Sequence

from muse_stream.avro import Schema, SchemaDirectory, schema_id_of
from muse_stream.config import Document, SubjectNames
from muse_stream.errors import SchemaError, SchemaPending
from muse_stream.schema_registry.registry import Key, Registry, open_registry

NOT_NAMED = "no Schema Registry is named: set MUSE_REGISTRY_URL"


class RegisteredSchemas(SchemaDirectory):
    """A folder's schemas, and those of a registry."""

    def __init__(self, folder: SchemaDirectory, registry: Registry | None, subjects: Sequence[str]) -> None:
        super().__init__(folder.path, {}, {})
        self._folder, self._registry, self._subjects = folder, registry, tuple(subjects)

    def expect(self, prefixes: Sequence[bytes]) -> None:
        """Ask the registry for the schemas of these frames all at once."""
        if self._registry is None:
            return
        keys: list[Key] = []
        for prefix in prefixes:
            number = schema_id_of(prefix)
            if number is not None:
                keys.append(number)
            elif self._subjects and not self._in_folder(prefix[2:]):
                keys.append((prefix[2:], self._subjects))
        self._registry.expect(keys)

    def by_id(self, schema_id: int) -> Schema:
        """Return the schema of an id of the registry; SchemaPending where it has not answered."""
        return self._asked(schema_id)

    def of_fingerprint(self, fingerprint: bytes) -> tuple[Schema, ...]:
        """Return the schemas with that fingerprint; SchemaPending where the registry has not answered."""
        if not self._subjects:
            return self._folder.of_fingerprint(fingerprint)
        if found := self._in_folder(fingerprint):
            return found
        return (self._asked((fingerprint, self._subjects)),)

    def by_file(self, name: str) -> Schema:
        """Return the schema of a file of the folder."""
        return self._folder.by_file(name)

    def files(self) -> tuple[str, ...]:
        """Names of the folder's files that have the schema of a value."""
        return self._folder.files()

    def holds(self, name: str) -> bool:
        """Say whether the folder has such a file."""
        return self._folder.holds(name)

    def _in_folder(self, fingerprint: bytes) -> tuple[Schema, ...]:
        try:
            return self._folder.of_fingerprint(fingerprint)
        except SchemaError:
            return ()

    def _asked(self, key: Key) -> Schema:
        if self._registry is None:
            raise SchemaPending(NOT_NAMED, lambda: False)
        return self._registry.schema(key)


def writers(schemas: SchemaDirectory, document: Document, event: str) -> SchemaDirectory:
    """Return where the schemas of a format's events are found; `schemas` itself where it does not use the registry."""
    spec = document.events[event]
    if spec.schema_ids == "folder":
        return schemas
    subjects = subjects_of(document, event, schemas.by_file(spec.schema_file).name)
    return RegisteredSchemas(schemas, open_registry(), subjects)


def subjects_of(document: Document, event: str, record: str) -> tuple[str, ...]:
    """Return the registry's subjects of a format, for the topics of its tenants; `record` is the full name."""
    tenants = [name for name, one in document.tenants.items() if one.event == event]
    return subjects(document.events[event].subjects, [document.tenant_topics(name).events for name in tenants], record)


def subjects(names: SubjectNames, topics: Iterable[str], record: str) -> tuple[str, ...]:
    """Return the subjects of a record's schema on some topics, as Confluent's serializers name them."""
    if names == "record_name":
        return (record,)
    ends = "value" if names == "topic_name" else record
    return tuple(dict.fromkeys(f"{topic}-{ends}" for topic in topics))
