"""A Schema Registry with Confluent's API: what schemas events were written with, and where ours are registered.

Invariant: nobody who scores waits for the network longer than a moment (`WAIT_S`), and nothing is given up because a
registry does not answer.

    client     everything that talks to a registry (Confluent's client, imported when it is first needed)
    cache      schemas that were told once, on this machine's disk
    registry   ids and fingerprints -> schemas: from memory, from disk, or asked for in a thread of its own
    writers    a `SchemaDirectory` whose Confluent ids are the registry's
"""

from muse_stream.schema_registry.client import PATIENT_S, Client, Denied, Unknown
from muse_stream.schema_registry.registry import Registry, open_registry
from muse_stream.schema_registry.writers import RegisteredSchemas, subjects, subjects_of, writers

__all__ = [
    "PATIENT_S",
    "Client",
    "Denied",
    "RegisteredSchemas",
    "Registry",
    "Unknown",
    "open_registry",
    "subjects",
    "subjects_of",
    "writers",
]
