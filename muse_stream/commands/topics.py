"""Make and check the topics a configuration needs.

A configuration and an operator's options give the plan, and what of it was done. The plan is made before anything is
touched, and a dry run ends there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from muse_stream.commands.configuration import Configuration
from muse_stream.config import KafkaSettings
from muse_stream.kafka import Change, Existing, Needed, Options, carry_out, client, needed, plan, survey


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a configuration needs, what there was, what was to be done and what was done."""

    needed: tuple[Needed, ...]
    existing: dict[str, Existing]
    plan: tuple[Change, ...]
    done: tuple[Change, ...]

    @property
    def pending(self) -> tuple[Change, ...]:
        """What stands between the cluster and the configuration now, warnings included."""
        return tuple(change for change in self.plan if change not in self.done)


def prepare_topics(
    configuration: Configuration, settings: KafkaSettings, options: Options | None = None, *, dry_run: bool = False
) -> Prepared:
    """Plan the configuration's topics and, unless it is a dry run, carry the plan out. Raises `StreamError`."""
    options = options or Options()
    document = configuration.loaded.document
    admin = client.reach(settings)
    needs = needed(document)
    existing = survey(admin, [need.name for need in needs])
    changes = plan(document, existing, options)
    done: Sequence[Change] = () if dry_run else carry_out(admin, changes, options)
    return Prepared(needs, existing, tuple(changes), tuple(done))
