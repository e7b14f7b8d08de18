"""Which topics a lane reads and writes under one generation, and which event an answer of it answers.

Needs no model: `offsets` uses it as the workers do.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import as_file, files

from muse_stream.avro import PLACE, Decoder, Fields, Schema, SchemaDirectory, origin_decoder
from muse_stream.config import Document, Role
from muse_stream.errors import RegistryError, SchemaPending
from muse_stream.schema_registry import RegisteredSchemas, Registry, open_registry, subjects, writers
from muse_stream.scoring import Categorical
from muse_stream.worker import Origin, Topology

OUTPUT_SCHEMA = {"live": "score.avsc", "shadow": "audit.avsc"}


class AnswerReader:
    """Reads what workers of one role and lane have written; keeps `worker.Answering`."""

    def __init__(
        self,
        document: Document,
        lane: str,
        role: Role,
        schemas: SchemaDirectory,
        former_groups: frozenset[str] = frozenset(),
    ) -> None:
        """`former_groups` are those of generations before: they may have read the same topics."""
        self.topology = topology_of(document, lane, role, former_groups)
        self._role: Role = role
        self._schemas, self._document = schemas, document
        self._formats = {
            document.tenant_topics(name).events: document.tenants[name].event for name in document.lanes().get(lane, ())
        }

    def origins(self, values: Sequence[bytes | None]) -> list[Origin | None]:
        """Say of each answer of this role what it answers; None for what is no such answer."""
        decoded = origin_decoder(output_schemas(), OUTPUT_SCHEMA[self._role]).decode(values)
        topics = decoded.columns[PLACE[0]]
        assert isinstance(topics, Categorical)  # noqa: S101  # a string in either schema
        numbers = [decoded.columns[name].tolist() for name in (*PLACE[1:], "attempt")]  # type: ignore[union-attr]
        found: list[Origin | None] = [None] * len(values)
        for row, code, *place in zip(decoded.rows.tolist(), topics.codes.tolist(), *numbers, strict=True):
            found[row] = Origin(topics.values[code] or "", *place)
        return found

    def answers(self, topic: str, event: bytes | None, answer: bytes | None) -> bool:
        """Whether a score or an audit record is about this event of a topic, by its id."""
        name = self._formats.get(topic)
        if name is None:
            return True
        spec = self._document.events[name]
        schemas = writers(self._schemas, self._document, name)
        try:
            asked = Decoder(schemas, schemas.by_file(spec.schema_file), Fields(spec.id)).decode([event])
        except SchemaPending:
            return True
        said = origin_decoder(output_schemas(), OUTPUT_SCHEMA[self._role]).decode([answer])
        if not len(said.rows):
            return True
        return len(asked.rows) == 1 and asked.ids.to_pylist() == said.ids.to_pylist()


def answer_subjects(document: Document, role: Role, tenants: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the registry's subjects of a role's answers, each with the topics that it is for."""
    record = output_schemas().by_file(OUTPUT_SCHEMA[role]).name
    found: dict[str, dict[str, None]] = {}
    for name in tenants:
        topics = document.tenant_topics(name)
        topic = topics.scores if role == "live" else topics.audit
        for subject in subjects(document.topics.subjects, [topic], record):
            found.setdefault(subject, {})[topic] = None
    return {subject: tuple(names) for subject, names in found.items()}


def registered_schema(document: Document, role: Role, tenants: Iterable[str]) -> Schema:
    """Return the schema of a role's answers with its id in the registry.

    Raises RegistryError while it has none there, or is not told which.
    """
    schema, registry = output_schemas().by_file(OUTPUT_SCHEMA[role]), open_registry()
    if registry is None:
        raise RegistryError("topics.frame is confluent, and MUSE_REGISTRY_URL is not set")
    ids: dict[int, str] = {}
    for subject in answer_subjects(document, role, tenants):
        number = registry.registered(subject, schema.text)
        if number is None:
            raise RegistryError(f"{schema.name} is not registered as {subject}: run `muse-stream schemas register`")
        ids[number] = subject
    if len(ids) > 1:
        named = ", ".join(f"{number} ({subject})" for number, subject in ids.items())
        raise RegistryError(f"the registry gives {schema.name} several ids, {named}: answers need one")
    return replace(schema, id=next(iter(ids)))


def groups_of(document: Document, role: Role) -> frozenset[str]:
    """Return the consumer groups of a role, one for each lane."""
    return frozenset(document.group(lane, role) for lane in document.lanes())


def topology_of(document: Document, lane: str, role: Role, former_groups: frozenset[str] = frozenset()) -> Topology:
    """Return the topics of a lane, and which other groups there are, or were."""
    outputs: dict[str, set[str]] = {}
    dead_letters: dict[str, str] = {}
    tenants: dict[str, tuple[str, ...]] = {}
    for name in document.lanes().get(lane, ()):
        topics = document.tenant_topics(name)
        written = {topics.scores, topics.dlq} if role == "live" else {topics.audit}
        shared = topics.events in outputs
        outputs.setdefault(topics.events, set()).update(written)
        tenants[topics.events] = (*tenants.get(topics.events, ()), name)
        # on a shared topic nobody can say whose a broken record is
        dead_letters[topics.events] = document.unknown_topic(lane) if shared else topics.dlq
        if shared and role == "live":
            outputs[topics.events].add(document.unknown_topic(lane))
    elsewhere = {
        document.tenant_topics(name).events: document.group(tenant.lane, role)
        for name, tenant in document.tenants.items()
        if tenant.lane != lane
    }
    return Topology(
        {topic: frozenset(names) for topic, names in outputs.items()},
        dead_letters,
        tenants,
        frozenset(document.tenant_topics(name).events for name, one in document.tenants.items() if one.paused)
        & outputs.keys(),
        elsewhere,
        (groups_of(document, role) | former_groups) - {document.group(lane, role)},
    )


def output_schemas() -> SchemaDirectory:
    """Return the schemas of our own records, which are data of this package.

    Confluent ids are those of the Schema Registry, where the environment names one: `topics.frame`.
    """
    return _with_registry(open_registry())


@cache
def _with_registry(registry: Registry | None) -> SchemaDirectory:
    return _own_schemas() if registry is None else RegisteredSchemas(_own_schemas(), registry, ())


@cache
def _own_schemas() -> SchemaDirectory:
    with as_file(files("muse_stream") / "schemas") as folder:
        return SchemaDirectory.open(folder)
