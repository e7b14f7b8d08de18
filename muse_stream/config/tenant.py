"""Tenants and the topics they read and write.

A tenant's own template wins over the document's; `{tenant}` and `{lane}` are all that a template may contain.
"""

from dataclasses import dataclass
from typing import Literal

from muse_stream.config.fields import LaneTopicTemplate, Name, SpecModel, TopicTemplate


class Topics(SpecModel):
    """Templates of all topics, over `{tenant}` and `{lane}`."""

    events: TopicTemplate = "muse.events.{tenant}"
    """Where a tenant's events come from."""
    scores: TopicTemplate = "muse.scores.{tenant}"
    """Where live scores go."""
    audit: TopicTemplate = "muse.audit.{tenant}"
    """Where shadow scores go."""
    dlq: TopicTemplate = "muse.dlq.{tenant}"
    """Where events go that cannot be scored."""
    unknown: LaneTopicTemplate = "muse.dlq.{lane}"
    """Where events of a shared topic go whose tenant is unknown; over `{lane}` only."""


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


@dataclass(frozen=True, slots=True)
class TenantTopics:
    """The topic names of one tenant."""

    events: str
    scores: str
    audit: str
    dlq: str


TopicKind = Literal["events", "scores", "audit", "dlq", "unknown"]
"""What a topic holds; `unknown` is where events go that no tenant can be told of."""
TOPIC_KINDS: tuple[TopicKind, ...] = ("events", "scores", "audit", "dlq")
"""The topics every tenant has; the names of `TenantTopics`."""
