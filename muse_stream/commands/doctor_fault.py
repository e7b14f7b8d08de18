"""What `doctor` finds, and what it looks at."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from muse_stream.config import Document, KafkaSettings, Role
from muse_stream.kafka import AdminClient, ClusterState, Needed
from muse_stream.worker import SlotName

Kind = Literal[
    "address_unreachable",
    "broker_forgets_markers",
    "topic_missing",
    "topic_setting",
    "topic_unfit",
    "no_leader",
    "below_min_isr",
    "not_allowed",
    "retention_short",
    "clock_ahead",
    "offsets_missing",
    "offsets_removed",
    "offsets_beyond_end",
    "nobody_reads",
    "transaction_open",
    "offsets_hidden",
    "throttled",
    "registry_unnamed",
    "registry_denied",
    "registry_silent",
    "subject_missing",
]
ROLES: tuple[Role, ...] = ("live", "shadow")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: what, where, why it matters, and what cures it."""

    kind: Kind
    where: str
    what: str
    why: str
    cure: tuple[str, ...]
    """Commands, and sentences where no command cures it."""


@dataclass(frozen=True, slots=True)
class Patient:
    """A configuration and the cluster it is to run on."""

    document: Document
    tenants: tuple[str, ...]
    needs: tuple[Needed, ...]
    settings: KafkaSettings
    admin: AdminClient
    state: ClusterState
    config: str
    """What the operator calls it."""

    def groups(self) -> Iterator[tuple[str, str, Role]]:
        """Yield group, lane and role of the workers that these tenants need."""
        lanes = dict.fromkeys(self.document.tenants[name].lane for name in self.tenants)
        shadows = any(route.shadow for route in self.document.routes)
        for lane in lanes:
            for role in ROLES if shadows else ROLES[:1]:
                yield SlotName(role, lane, "", 0).group, lane, role

    def events(self, lane: str) -> list[str]:
        """Return the event topics of a lane that are there."""
        return [one.name for one in self.needs if one.kind == "events" and one.lane == lane and self.has(one.name)]

    def has(self, topic: str) -> bool:
        """Whether a topic is there."""
        return topic in self.state.topics

    def tool(self, name: str) -> str:
        """Return how one of Kafka's tools is called on this cluster."""
        secured = "" if self.settings.security_protocol == "PLAINTEXT" else " --command-config client.properties"
        return f"{name}.sh --bootstrap-server {self.settings.bootstrap}{secured}"
