"""Tenants and the topics they read and write.

A tenant's own template wins over the document's; `{namespace}`, `{tenant}` and `{lane}` are all that a template may
contain.
"""

from typing import Literal

from msgspec import Struct

from muse_stream.config.drift import TenantDriftSpec
from muse_stream.config.event import SubjectNames
from muse_stream.config.fields import Flag, LaneTopicTemplate, Name, SpecModel, TopicTemplate
from muse_stream.config.refresh import RefreshPolicy

AnswerFrame = Literal["single-object", "confluent"]


class Topics(SpecModel):
    """Templates of all topics, over `{namespace}`, `{tenant}` and `{lane}`."""

    events: TopicTemplate = "{namespace}.events.{tenant}"
    """Where a tenant's events come from."""
    scores: TopicTemplate = "{namespace}.scores.{tenant}"
    """Where live scores go."""
    audit: TopicTemplate = "{namespace}.audit.{tenant}"
    """Where shadow scores go."""
    dlq: TopicTemplate = "{namespace}.dlq.{tenant}"
    """Where events go that cannot be scored."""
    unknown: LaneTopicTemplate = "{namespace}.dlq.{lane}"
    """Where events of a shared topic go whose tenant is unknown; over `{namespace}` and `{lane}` only."""
    frame: AnswerFrame = "single-object"
    """What stands before scores and audit records: single-object, the schema's fingerprint; or confluent, the id under
    which `muse-stream schemas register` has registered it in the Schema Registry."""
    subjects: SubjectNames = "topic_name"
    """How the subjects of scores and audit records are named there: topic_name, `<topic>-value`; record_name, the
    record's full name; or topic_record_name, `<topic>-<full name>`."""


class TopicOverrides(SpecModel):
    """Templates of one tenant, in place of the document's."""

    events: TopicTemplate | None = None
    """Where the tenant's events come from."""
    scores: TopicTemplate | None = None
    """Where its live scores go."""
    audit: TopicTemplate | None = None
    """Where its shadow scores go."""
    dlq: TopicTemplate | None = None
    """Where its events go that cannot be scored."""


class TenantSpec(SpecModel):
    """One tenant."""

    event: Name
    """The format of its events, under `events`."""
    lane: Name = "main"
    """The group of tenants that shares its workers."""
    topics: TopicOverrides = TopicOverrides()
    """Topic names of its own."""
    drift: TenantDriftSpec = TenantDriftSpec()
    """Windows and limits of drift of its own."""
    refresh: RefreshPolicy = "off"
    """What the role `calibrate` does when its scores have drifted from what was promised: `off`, `propose` a new map,
    or `apply` it where it moves no alert rate further than `refresh.step`."""
    paused: Flag = False
    """Whether its events wait: nothing of its event topic is read, and its offsets may be set."""


class TenantTopics(Struct, frozen=True):
    """The topic names of one tenant."""

    events: str
    scores: str
    audit: str
    dlq: str


TopicKind = Literal["events", "scores", "audit", "dlq", "unknown"]
"""What a topic holds; `unknown` is where events go that no tenant can be told of."""
TOPIC_KINDS: tuple[TopicKind, ...] = ("events", "scores", "audit", "dlq")
"""The topics every tenant has; the names of `TenantTopics`."""
