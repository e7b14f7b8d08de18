"""Whether the Schema Registry answers and has what workers need, where a configuration uses one."""

import time
from collections.abc import Iterator, Sequence

from muse_stream.avro import SchemaDirectory
from muse_stream.commands.configuration import Configuration
from muse_stream.commands.doctor_fault import ROLES, Fault
from muse_stream.config import Document, RegistrySettings
from muse_stream.errors import RegistryError
from muse_stream.runtime.answer_reader import OUTPUT_SCHEMA, answer_subjects, output_schemas
from muse_stream.schema_registry import Client, Denied, subjects_of

WHY = "events with a schema id that a worker does not know wait, and their tenants with them; others go on"
WAITS = "workers do not take this generation: the one before goes on, and without one nothing is scored"


def answers(configuration: Configuration, tenants: Sequence[str], notes: list[str]) -> Iterator[Fault]:
    """Yield what keeps workers from asking the registry, or from writing; how fast it answers is noted."""
    document = configuration.loaded.document
    formats = dict.fromkeys(document.tenants[name].event for name in tenants)
    using = [name for name in formats if document.events[name].schema_ids == "registry"]
    writing = document.topics.frame == "confluent"
    if not using and not writing:
        return
    settings = RegistrySettings.from_environment()
    if settings is None:
        which = f"events.{using[0]}.schema_ids is registry" if using else "topics.frame is confluent"
        what = f"{which}, and MUSE_REGISTRY_URL is not set here"
        why = WHY if using else WAITS
        yield Fault("registry_unnamed", "MUSE_REGISTRY_URL", what, why, ("set MUSE_REGISTRY_URL for doctor and `run`",))
        return
    began = time.monotonic()
    try:
        with Client(settings) as client:
            known = client.subjects()
            took = time.monotonic() - began
            notes.append(f"the Schema Registry {settings.url} has {len(known)} subjects, and answered in {took:.2f} s")
            notes += _unheard(configuration, using, known)
            if writing:
                yield from _unregistered(document, tenants, client, configuration.named)
    except Denied as error:
        cure = ("look at MUSE_REGISTRY_USERNAME and its password, or MUSE_REGISTRY_OAUTH_*",)
        yield Fault("registry_denied", settings.url, str(error), WHY, (*cure, "let this user read all subjects"))
    except RegistryError as error:
        cure = ("look at the registry, its certificate, and MUSE_REGISTRY_* (docs/schema-registry.md)",)
        yield Fault("registry_silent", settings.url, str(error), WHY, cure)


def _unheard(configuration: Configuration, formats: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    """Yield the subjects of events that the registry does not have: of a new tenant, or producers name them otherwise.

    Ids are found all the same, and fingerprints are not.
    """
    document = configuration.loaded.document
    schemas = SchemaDirectory.open(configuration.loaded.root / document.schemas)
    for name in formats:
        record = schemas.by_file(document.events[name].schema_file).name
        if missing := [one for one in subjects_of(document, name, record) if one not in known]:
            named = f"events.{name}.subjects is {document.events[name].subjects}"
            yield f"the Schema Registry has no subject {', '.join(missing)}; {named}: do producers name them so?"


def _unregistered(document: Document, tenants: Sequence[str], client: Client, config: str) -> Iterator[Fault]:
    """Yield the subjects that answers need in a Confluent frame and that lack our schema."""
    for role in ROLES if any(route.shadow for route in document.routes) else ROLES[:1]:
        schema = output_schemas().by_file(OUTPUT_SCHEMA[role])
        for subject in answer_subjects(document, role, tenants):
            if client.registered(subject, schema.text) is None:
                what = f"topics.frame is confluent, and {schema.name} is not registered there"
                cure = (f"muse-stream schemas register {config}",)
                yield Fault("subject_missing", subject, what, WAITS, cure)
