"""What a person does about a paused tenant, as commands; stands in the log beside every `tenant_paused`."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from muse_stream.config import Role
from muse_stream.kafka import Position, TopicPartitionKey

SHOWN = 20
"""Partitions of one log line."""


class Cures(Struct, frozen=True):
    """For one worker: `config` is what its commands name, the store it serves from."""

    config: str = "CONFIG"
    role: Role = "live"

    def _offsets(self, what: str, tenants: Sequence[str]) -> str:
        role = "" if self.role == "live" else f" --role {self.role}"
        return f"muse-stream offsets {what} {self.config} {tenants[0] if tenants else 'TENANT'}{role}"

    def lost(self, tenants: Sequence[str]) -> str:
        """The committed offset is no longer in the topic."""
        return f"`{self._offsets('set', tenants)} --to answers` (or earliest, latest), while the lane runs"

    def unknown_start(self, tenants: Sequence[str], what: str) -> str:
        """Nobody can say where to start; `what` is what would help besides saying it."""
        said = f"`{self._offsets('set', tenants)} --to earliest` (or latest, an offset, a time), while the lane runs"
        return f"{what}; or say where to start: {said}" if what else said

    def missing(self) -> str:
        """A topic is not there, or may not be seen."""
        return (
            f"`muse-stream topics {self.config} --dry-run` says which topic is missing, `muse-stream acl {self.config} "
            f"--role {self.role}` which permissions it needs; the tenant goes on by itself"
        )

    def schema(self) -> str:
        """A Schema Registry has not said what events were written with."""
        return f"`muse-stream doctor {self.config}` says how the registry answers; it goes on by itself once it is told"

    def refused(self, tenants: Sequence[str]) -> str:
        """A topic takes no records, or not this one."""
        shown = self._offsets("show", tenants)
        acl = f"`muse-stream acl {self.config} --role {self.role}`"
        return f"`muse-stream topics {self.config} --dry-run`, and {acl}; `{shown}` says where it stands"

    def deadly(self, tenants: Sequence[str]) -> str:
        """Processes died of its records."""
        return f"see the dead letters, then publish a model that takes them; `{self._offsets('show', tenants)}`"

    def asked(self, tenants: Sequence[str]) -> str:
        """It is paused in the configuration."""
        named = tenants[0] if tenants else "TENANT"
        store = f" --store {self.config}" if self.config != "CONFIG" else ""
        return f"`muse-stream resume {named}{store}`, when it may go on"


class About(Struct, frozen=True):
    """What is said of every paused tenant: whose group it is, and what would help."""

    group: str = ""
    cures: Cures = Cures()

    def offsets(self, topic: str, positions: Mapping[TopicPartitionKey, Position]) -> dict[str, dict[str, int | None]]:
        """Return what is known of a topic's partitions here, at most so many; None: not known, or nothing committed."""
        mine = sorted((partition, one) for (name, partition), one in positions.items() if name == topic)
        return {
            str(partition): {
                "committed": one.answered,
                "begin": one.low if one.low >= 0 else None,
                "end": one.high if one.high >= 0 else None,
            }
            for partition, one in mine[:SHOWN]
        }
