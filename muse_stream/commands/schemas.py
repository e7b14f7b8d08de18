"""Schemas in a Schema Registry: those of what workers write are put there, those of events are taken from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from muse_stream.avro import parse_schema
from muse_stream.commands.configuration import Configuration
from muse_stream.config import RegistrySettings, Role
from muse_stream.errors import ConfigError, MuseError, Problem
from muse_stream.runtime.answer_reader import OUTPUT_SCHEMA, answer_subjects, output_schemas
from muse_stream.schema_registry import PATIENT_S, Client, Unknown

State = Literal["registered", "missing", "incompatible"]
ROLES: tuple[Role, ...] = ("live", "shadow")


@dataclass(frozen=True, slots=True)
class Registration:
    """A subject that the registry needs, and how it stands there."""

    subject: str
    record: str
    topics: tuple[str, ...]
    """Topics whose records it is for."""
    state: State
    id: int | None
    compatibility: str | None
    """The level that the subject has of its own."""


def client() -> Client:
    """Return a client of the registry that the environment names; raises ConfigError where it names none."""
    settings = RegistrySettings.from_environment()
    if settings is None:
        hint = "for example https://registry:8081; `muse-stream --help` lists the others"
        raise ConfigError([Problem("MUSE_REGISTRY_URL", "is not set", hint)])
    return Client(settings, PATIENT_S)


def look(configuration: Configuration, registry: Client) -> list[Registration]:
    """Return how the schemas of scores and audit records stand in the registry. Raises RegistryError."""
    document = configuration.loaded.document
    found = []
    for role in ROLES:
        schema = output_schemas().by_file(OUTPUT_SCHEMA[role])
        for subject, topics in answer_subjects(document, role, document.tenants).items():
            number = registry.registered(subject, schema.text)
            taken = number is not None or registry.compatible(subject, schema.text)
            state: State = "registered" if number is not None else "missing" if taken else "incompatible"
            level = registry.level(subject) if registry.versions(subject) else None
            found.append(Registration(subject, schema.name, topics, state, number, level))
    return found


def register(registry: Client, wanted: Sequence[Registration], level: str) -> list[Registration]:
    """Register what is missing, and give every subject that compatibility level; returns how they stand then.

    Raises RegistryError; what was done before that stays, and the same call goes on from there.
    """
    if refused := [one.subject for one in wanted if one.state == "incompatible"]:
        hint = f"the registry takes no other schema for {', '.join(refused)} at the level it has; nothing was done"
        raise MuseError(f"score or audit records cannot be registered: {hint}")
    texts = {one.name: one.text for one in (output_schemas().by_file(OUTPUT_SCHEMA[role]) for role in ROLES)}
    done = []
    for one in wanted:
        number = one.id if one.id is not None else registry.register(one.subject, texts[one.record])
        if one.compatibility != level:
            registry.set_level(one.subject, level)
        done.append(replace(one, state="registered", id=number, compatibility=level))
    return done


@dataclass(frozen=True, slots=True)
class Fetched:
    """A schema that was written to a file."""

    subject: str
    version: int
    id: int
    record: str
    file: str


def fetch(registry: Client, subject: str, version: int | None, file: Path, *, overwrite: bool) -> Fetched:
    """Write a subject's version (None: the latest), with all types that it refers to, as one schema file.

    Raises RegistryError, SchemaError where no decoder would take it, MuseError where the file is there already.
    """
    if file.exists() and not overwrite:
        raise MuseError(f"{file} is there already; --overwrite replaces it")
    try:
        number, found, text = registry.version(subject, version if version is not None else "latest")
    except Unknown:
        raise MuseError(f"{registry.url} has no {subject}, or not this version; {_near(registry, subject)}") from None
    schema = parse_schema(text, file=f"{subject} version {found}")
    file.write_text(text.rstrip() + "\n", encoding="utf-8")
    return Fetched(subject, found, number, schema.name, str(file))


def _near(registry: Client, subject: str) -> str:
    names = registry.subjects()
    shown = ", ".join(sorted(names, key=lambda name: (subject not in name and name not in subject, name))[:8])
    return f"of {len(names)} subjects there are {shown}" if names else "it has no subjects"
