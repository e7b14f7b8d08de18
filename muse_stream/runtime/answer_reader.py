"""Which topics a lane reads and writes under one generation, and which event an answer of it answers.

Needs no model: `offsets` uses it as the workers do.
"""

from collections.abc import Collection, Sequence
from functools import cache
from importlib.resources import as_file, files

from muse_stream.avro import PLACE, Decoder, Fields, SchemaDirectory, origin_decoder
from muse_stream.config import Document, Role
from muse_stream.errors import SchemaPending
from muse_stream.schema_registry import writers
from muse_stream.scoring import Categorical
from muse_stream.worker import Origin, Topology

OUTPUT_SCHEMA = {"live": "score.avsc", "shadow": "audit.avsc"}


class AnswerReader:
    """Reads what workers of one role and lane have written; keeps `worker.Answering`."""

    def __init__(
        self, document: Document, lane: str, role: Role, schemas: SchemaDirectory, earlier: Collection[Document] = ()
    ) -> None:
        """`earlier` are the documents of generations before: their lanes may have read the same topics."""
        self.topology = topology_of(document, lane, role, earlier)
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


def topology_of(document: Document, lane: str, role: Role, earlier: Collection[Document] = ()) -> Topology:
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
    groups = {one.group(other, role) for one in (document, *earlier) for other in one.lanes()}
    return Topology(
        {topic: frozenset(names) for topic, names in outputs.items()},
        dead_letters,
        tenants,
        frozenset(document.tenant_topics(name).events for name, one in document.tenants.items() if one.paused)
        & outputs.keys(),
        elsewhere,
        frozenset(groups - {document.group(lane, role)}),
    )


@cache
def output_schemas() -> SchemaDirectory:
    """Return the schemas of our own records, which are data of this package."""
    with as_file(files("muse_stream") / "schemas") as folder:
        return SchemaDirectory.open(folder)
