"""Everything that talks to a Schema Registry.

An id gives the text of a schema with all types in it that it refers to. What the registry does not have is `Unknown`;
whatever else goes wrong is a `RegistryError` that may pass: no connection, no permission, an answer that is none.

Confluent's client takes 0.4 s of CPU to import, so that is left until the first question.
"""

from collections.abc import Mapping
from typing import Any, Self

from muse_stream.avro import Schema, complete, parse_schema
from muse_stream.config import RegistrySettings
from muse_stream.errors import RegistryError, SchemaError

TIMEOUT_S = 5.0
PATIENT_S = 30.0
"""For a person who waits for a command, and asks for what may take a registry longer."""
MOST_REFERENCES = 200
"""Schemas that one schema may refer to, directly or not."""
NOT_FOUND = frozenset({40401, 40402, 40403})
"""Confluent's codes: no such subject, version, schema. A 404 without one is of something else than a registry."""
DENIED = (401, 403)


class Unknown(RegistryError):
    """The registry answered that it does not have that."""


class Denied(RegistryError):
    """The registry does not let us in, or not do that."""


class Client:
    """One registry. Safe in several threads. A connection, or an answer, is waited for at most `timeout_s`."""

    def __init__(self, settings: RegistrySettings, timeout_s: float = TIMEOUT_S) -> None:
        self._settings, self._timeout_s = settings, timeout_s
        self._made: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections; the next question opens others."""
        made, self._made = self._made, None
        if made is not None:
            made.close()

    @property
    def url(self) -> str:
        """Where it is."""
        return self._settings.url

    def text(self, schema_id: int) -> str:
        """Return a schema's text, complete. Raises Unknown, RegistryError; SchemaError where it cannot be used."""
        return self._complete(self._call("get_schema", schema_id), f"schema id {schema_id}")

    def versions(self, subject: str) -> list[int]:
        """Return the versions of a subject, none where there is no such subject. Raises RegistryError."""
        try:
            return list(self._call("get_versions", subject))
        except Unknown:
            return []

    def version(self, subject: str, version: int | str) -> tuple[int, int, str]:
        """Return id, version and complete text of a subject's version; errors as of `text`."""
        found = self._call("get_version", subject, version)
        return found.schema_id, found.version, self._complete(found.schema, f"{subject} version {version}")

    def subjects(self) -> list[str]:
        """Return the names of all subjects. Raises RegistryError."""
        return list(self._call("get_subjects"))

    def register(self, subject: str, text: str) -> int:
        """Register a schema under a subject, unless it is there already; returns its id. Raises RegistryError."""
        return int(self._call("register_schema", subject, self._schema(text)))

    def registered(self, subject: str, text: str) -> int | None:
        """Return the id of a schema under a subject; None where it is not registered. Raises RegistryError."""
        try:
            return int(self._call("lookup_schema", subject, self._schema(text)).schema_id)
        except Unknown:
            return None

    def id_of(self, subject: str, schema: Schema) -> int | None:
        """Return an id that the subject has for what a schema says, be it written in other words, or with references.

        None where no version of it says the same. Raises RegistryError.
        """
        if (found := self.registered(subject, schema.text)) is not None:
            return found
        for version in reversed(self.versions(subject)):
            try:
                number, _, text = self.version(subject, version)
                same = parse_schema(text)
            except (Unknown, SchemaError):
                continue  # removed meanwhile, or no Avro
            if (same.name, same.type) == (schema.name, schema.type):
                return number
        return None

    def compatible(self, subject: str, text: str) -> bool:
        """Whether the registry would take a schema as the subject's next version. Raises RegistryError."""
        try:
            return bool(self._call("test_compatibility", subject, self._schema(text)))
        except Unknown:
            return True

    def level(self, subject: str) -> str | None:
        """Return the compatibility level that a subject has of its own, None where it has none."""
        try:
            return str(self._call("get_compatibility", subject))
        except Unknown:
            return None

    def set_level(self, subject: str, level: str) -> None:
        """Give a subject a compatibility level. Raises RegistryError."""
        self._call("set_compatibility", subject, level)

    def _complete(self, schema: Any, name: str) -> str:
        if schema.schema_type not in (None, "AVRO"):
            raise SchemaError(f"{name} is no Avro schema: {schema.schema_type}")
        texts: dict[str, str] = {}
        waiting = list(schema.references or ())
        while waiting:
            one = waiting.pop()
            key = f"{one.subject} version {one.version}"
            if key in texts:
                continue
            if len(texts) == MOST_REFERENCES:
                raise SchemaError(f"{name} refers to more than {MOST_REFERENCES} other schemas")
            try:
                found = self._call("get_version", one.subject, one.version, deleted=True).schema
            except Unknown:
                raise SchemaError(f"{name} refers to {key}, which the registry does not have") from None
            texts[key] = found.schema_str
            waiting += found.references or ()
        return complete(schema.schema_str, texts, name)

    @staticmethod
    def _schema(text: str) -> Any:
        from confluent_kafka.schema_registry import Schema  # noqa: PLC0415 - an extra

        return Schema(text, "AVRO")

    def _client(self) -> Any:
        if self._made is None:
            from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - an extra

            over: Mapping[str, object] = {"timeout": self._timeout_s, "max.retries": 0}  # whoever asks asks again
            try:
                connection = self._settings.connection()
            except ValueError as error:  # a file with a secret is being replaced
                raise RegistryError(f"{self.url} is not asked: {error}") from None
            self._made = SchemaRegistryClient({**connection, **over})
        return self._made

    def _call(self, method: str, *arguments: object, **named: object) -> Any:
        try:
            return getattr(self._client(), method)(*arguments, **named)
        except RegistryError:
            raise
        except ModuleNotFoundError as error:
            raise RegistryError(f"{error.name} is not installed: pip install 'muse-stream[registry]'") from None
        except Exception as error:
            raise self._typed(error) from error

    def _typed(self, error: Exception) -> RegistryError:
        """Return what an exception of Confluent's client, of its HTTP library or of TLS means; it has no secrets."""
        status, code = getattr(error, "http_status_code", None), getattr(error, "error_code", None)
        said = str(getattr(error, "error_message", "") or error or type(error).__name__)[:300]
        if status == 404 and code in NOT_FOUND:
            return Unknown(f"{self.url}: {said}")
        if status is None or status in DENIED:
            self.close()  # its password or certificate may have been changed in its file meanwhile
        if status in DENIED:
            return Denied(f"{self.url} denies access ({status}): see MUSE_REGISTRY_USERNAME, MUSE_REGISTRY_OAUTH_*")
        if status == 404:
            return RegistryError(f"{self.url}: nothing of a Schema Registry there (404); its path belongs to the URL")
        if status is not None:
            return RegistryError(f"{self.url} answers {status}: {said}")
        return RegistryError(f"{self.url} does not answer: {type(error).__name__}: {said}")
