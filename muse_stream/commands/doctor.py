"""Look for what keeps a cluster from serving a configuration: read only, each fault with the command that cures it.

    doctor_cluster   brokers, topics, permissions, settings, clocks
    doctor_groups    the groups' offsets, and who reads
    doctor_open      open transactions, and quotas that hold back
    doctor_registry  the Schema Registry

Nothing is changed, and no group is joined. What could not be looked at is said.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from muse_stream.commands import doctor_cluster, doctor_groups, doctor_open, doctor_registry
from muse_stream.commands.configuration import Configuration
from muse_stream.commands.doctor_fault import Fault, Patient
from muse_stream.config import KafkaSettings, Role
from muse_stream.kafka import Listening, client, cluster_state, needed, reach

INTERNAL = ("__consumer_offsets", "__transaction_state")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, what was looked at, and what could not be."""

    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    brokers: int
    topics: int
    groups: tuple[str, ...] = field(default=())

    @property
    def well(self) -> bool:
        """True when nothing was found."""
        return not self.faults


@dataclass(frozen=True, slots=True)
class Look:
    """How to look."""

    role: Role | None = None
    """Whether the principal may do what workers of this role do; None: not asked."""
    stands_s: float = doctor_open.STANDS_S
    """How long a transaction has to stay open to be a fault."""
    waiting: Callable[[str], object] = lambda _text: None
    """Is told what is waited for."""


def diagnose(
    configuration: Configuration,
    settings: KafkaSettings,
    tenants: Sequence[str] | None = None,
    look: Look | None = None,
) -> Diagnosis:
    """Look at everything these tenants (all by default) need; raises `Retriable` when no broker answers at all."""
    look = look or Look()
    document = configuration.loaded.document
    chosen = [configuration.tenant(name) for name in tenants] if tenants else list(document.tenants)
    listening = Listening(client.LOG)
    admin = reach(settings, listening=listening, advertised=False)
    needs = needed(document, chosen)
    state = cluster_state(admin, [*(need.name for need in needs), *INTERNAL])
    patient = Patient(document, tuple(chosen), needs, settings, admin, state, configuration.named)
    notes: list[str] = []
    faults = [*doctor_cluster.brokers(patient, forgetful=listening.forgetful)]
    if len(state.unreachable) == len(state.brokers):
        notes.append("topics, groups and transactions were not looked at: no broker can be reached at its address")
    else:
        faults += doctor_cluster.topics(patient)
        faults += doctor_cluster.replicas(patient)
        faults += doctor_cluster.permissions(patient, look.role, notes)
        faults += doctor_cluster.keeping(patient, notes)
        faults += doctor_cluster.clocks(patient, time.time_ns() // 1_000_000, notes)
        faults += doctor_groups.offsets(patient, notes)
        faults += doctor_open.transactions(patient, look.stands_s, notes, look.waiting)
        faults += doctor_open.throttling(patient, notes)
    faults += doctor_registry.answers(configuration, chosen, notes)
    groups = tuple(dict.fromkeys(group for group, _lane, _role in patient.groups()))
    return Diagnosis(tuple(faults), tuple(dict.fromkeys(notes)), len(state.brokers), len(state.topics), groups)
