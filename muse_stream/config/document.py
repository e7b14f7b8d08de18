"""The whole document that an operator writes: `Document`, frozen, with the few look-ups that its readers share.

These classes say what a single field may be. What fields mean to each other is checked by `load_document`, so a
`Document` that did not come from there may still name things that do not exist.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from muse_stream.config.drift import DriftSpec
from muse_stream.config.event import EventSpec
from muse_stream.config.fields import AttributeName, Integer, Name, Namespace, Number, SpecModel, Text, fault
from muse_stream.config.graph import PredictorGraph
from muse_stream.config.model import ModelSpec
from muse_stream.config.predictor import PredictorSpec
from muse_stream.config.recalibration import RecalibrationSpec
from muse_stream.config.reference import MapSpec, ReferenceSpec
from muse_stream.config.refresh import RefreshSpec
from muse_stream.config.route import Role, RouteSpec
from muse_stream.config.tenant import TenantSpec, TenantTopics, Topics

_PLACEHOLDER = re.compile(r"\{(namespace|tenant|lane)\}")
ANY_OTHER = "*"
"""In a category table: every string that is not listed."""


def _texts(table: object) -> object:
    """Return a table whose keys are texts: YAML reads `5411:` as an integer and `true:` as a boolean."""
    if not isinstance(table, dict):
        return table
    keys = [json.dumps(key) if isinstance(key, int) else key for key in table]
    twice = sorted({str(key) for key in keys if keys.count(key) > 1})
    if twice:
        raise fault(f"{', '.join(twice)} stands in it twice, as a text and as a number", "keep one of the two")
    return dict(zip(keys, table.values(), strict=True))


CategoryTable = Annotated[dict[str, Number], Field(min_length=1), BeforeValidator(_texts)]


class Limits(SpecModel):
    """Bounds that protect the workers."""

    max_event_bytes: Annotated[Integer, Field(ge=1, le=1 << 30)] = 1 << 20
    """Largest event that is decoded; a larger one becomes a dead letter."""
    max_batch: Annotated[Integer, Field(ge=1, le=1_000_000)] = 10_000
    """Most events in one batch, hence in one transaction."""
    linger_ms: Annotated[Number, Field(ge=0, le=10_000)] = 5.0
    """Least time between two batches, in milliseconds; grows with what transactions cost and, unless it is 0, at low
    rates, to 15. Before it an event waits up to 10 ms to be fetched (`fetch.min.bytes` in the properties file)."""
    model_bytes: Annotated[Integer, Field(ge=1, le=1 << 34)] = 1 << 28
    """Largest model file that is loaded."""


class Document(SpecModel):
    """A muse_stream configuration."""

    version: Literal[1]
    """Version of this format: 1."""
    namespace: Namespace = "muse"
    """Name of the fleet: its consumer groups, transactional ids and default topic names begin with it, so that fleets
    with other namespaces never meet on one cluster. A change is a move: docs/operations.md."""
    schemas: Text = "schemas"
    """Folder with the Avro schemas (.avsc) and `ids.json` (Confluent id to file), relative to this document."""
    categories: dict[Name, CategoryTable] = Field(default_factory=dict)
    """Tables that turn strings, integers and booleans into numbers. `"*"` is any other value; without it, an unknown
    value is missing."""
    models: Annotated[dict[Name, ModelSpec], Field(min_length=1)]
    """ONNX models by name."""
    references: dict[Name, ReferenceSpec] = Field(default_factory=dict)
    """Reference distributions by name."""
    maps: dict[Name, MapSpec] = Field(default_factory=dict)
    """Fitted quantile maps by name."""
    recalibrations: dict[Name, RecalibrationSpec] = Field(default_factory=dict)
    """Curves from scores to probabilities, fitted to labelled events, by name."""
    predictors: Annotated[dict[Name, PredictorSpec], Field(min_length=1)]
    """Predictors by name, each in the short or the general form."""
    events: Annotated[dict[Name, EventSpec], Field(min_length=1)]
    """Event formats by name."""
    routes: Annotated[tuple[RouteSpec, ...], Field(min_length=1)]
    """Rules from intent to predictors; the first that matches decides."""
    tenants: Annotated[dict[Name, TenantSpec], Field(min_length=1)]
    """Tenants by name."""
    drift: DriftSpec = DriftSpec()
    """What is looked at for drift, and how far scores may leave what was promised."""
    topics: Topics = Topics()
    """Templates of topic names."""
    refresh: RefreshSpec = RefreshSpec()
    """What is asked of events before a map is fitted to them anew, and how far it may move by itself."""
    limits: Limits = Limits()
    """Largest event, batch and model, and how long a batch waits."""

    def tenant_topics(self, name: str) -> TenantTopics:
        """Return the topic names of tenant `name`, templates resolved. Raises KeyError for an unknown tenant."""
        tenant = self.tenants[name]

        def resolved(own: str | None, common: str) -> str:
            return self._fill(own if own is not None else common, name, tenant.lane)

        own = tenant.topics
        return TenantTopics(
            events=resolved(own.events, self.topics.events),
            scores=resolved(own.scores, self.topics.scores),
            audit=resolved(own.audit, self.topics.audit),
            dlq=resolved(own.dlq, self.topics.dlq),
        )

    def unknown_topic(self, lane: str) -> str:
        """Return the dead-letter topic of `lane` for events whose tenant is unknown."""
        return self._fill(self.topics.unknown, "", lane)

    def group(self, lane: str, role: Role) -> str:
        """Return the consumer group of a lane's workers: live and shadow ones have offsets of their own."""
        return consumer_group(self.namespace, lane, role)

    def lanes(self) -> dict[str, tuple[str, ...]]:
        """Return lane to its tenants, in the order of the document."""
        lanes: dict[str, tuple[str, ...]] = {}
        for name, tenant in self.tenants.items():
            lanes[tenant.lane] = (*lanes.get(tenant.lane, ()), name)
        return lanes

    def drift_of(self, tenant: str) -> DriftSpec:
        """Return the windows and limits of drift of a tenant: its own, else the document's."""
        return self.drift.model_copy(update=self.tenants[tenant].drift.model_dump(exclude_none=True))

    def graphs(self) -> Mapping[str, PredictorGraph]:
        """Return every predictor as a graph, by name."""
        return {name: predictor.graph() for name, predictor in self.predictors.items()}

    def meta_models(self) -> frozenset[str]:
        """Return the names of models that aggregate scores: their features are no event fields."""
        return frozenset(name for graph in self.graphs().values() for name in graph.meta_models())

    def attributes(self, tenant: str) -> frozenset[str]:
        """Return the intent attributes that events of `tenant` have, `tenant` included."""
        return frozenset(self.events[self.tenants[tenant].event].intent) | {"tenant"}

    def _fill(self, template: str, tenant: str, lane: str) -> str:
        names = {"{namespace}": self.namespace, "{tenant}": tenant, "{lane}": lane}
        return _PLACEHOLDER.sub(lambda found: names[found[0]], template)


def consumer_group(namespace: str, lane: str, role: Role | Literal["calibrate"]) -> str:
    """Return the consumer group of a fleet's lane and role; `calibrate` counts what the others write."""
    return f"{namespace}.{lane}.{role}"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the document, for editors; every field carries its description."""
    schema = Document.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "muse_stream configuration"}


__all__ = ["ANY_OTHER", "AttributeName", "Document", "Limits", "json_schema"]
