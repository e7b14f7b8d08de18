"""Whether the Schema Registry answers, where a configuration uses one."""

import time
from collections.abc import Iterator, Sequence

from muse_stream.commands.doctor_fault import Fault
from muse_stream.config import Document, RegistrySettings
from muse_stream.errors import RegistryError
from muse_stream.schema_registry import Client

WHY = "events with a schema id that a worker does not know wait, and their tenants with them; others go on"


def answers(document: Document, tenants: Sequence[str], notes: list[str]) -> Iterator[Fault]:
    """Yield what keeps workers from asking the registry; how fast it answers is noted."""
    formats = dict.fromkeys(document.tenants[name].event for name in tenants)
    using = [name for name in formats if document.events[name].schema_ids == "registry"]
    if not using:
        return
    settings = RegistrySettings.from_environment()
    if settings is None:
        what = f"events.{using[0]}.schema_ids is registry, and MUSE_REGISTRY_URL is not set here"
        yield Fault("registry_unnamed", "MUSE_REGISTRY_URL", what, WHY, ("set MUSE_REGISTRY_URL for doctor and `run`",))
        return
    began = time.monotonic()
    try:
        with Client(settings) as client:
            count = len(client.subjects())
    except RegistryError as error:
        cure = ("look at the registry, its certificate, and MUSE_REGISTRY_* (docs/schema-registry.md)",)
        yield Fault("registry_silent", settings.url, str(error), WHY, cure)
    else:
        took = time.monotonic() - began
        notes.append(f"the Schema Registry {settings.url} has {count} subjects, and answered in {took:.2f} s")
