"""The offsets of the lanes' groups against what the event topics hold, and whether anybody reads them."""

from collections.abc import Iterator

from muse_stream.commands.doctor_fault import Fault, Patient
from muse_stream.config import Role
from muse_stream.errors import StreamError
from muse_stream.kafka import Bounds, GroupState, bounds, group_state, reader


def offsets(patient: Patient, notes: list[str]) -> Iterator[Fault]:
    """Yield groups without offsets, offsets that the topics no longer or not yet have, and groups that nobody is in."""
    # the groups before the topics: while a lane works, its offsets pass an end that was asked for first
    states = [(group, lane, role, _state(patient, group)) for group, lane, role in patient.groups()]
    held = _held(patient, notes)
    for group, lane, role, state in states:
        notes += [f"not looked at: {one}" for one in state.unknown]
        if state.offsets is None:
            continue
        waiting = 0
        for topic in patient.events(lane):
            for partition, bound in held.get(topic, {}).items():
                offset = state.offsets.get((topic, partition))
                waiting += bound.high - max(bound.low, offset or 0)
                yield from _judged(patient, group, f"{topic}[{partition}]", bound, offset)
        if waiting > 0 and state.members == 0:
            yield _nobody(patient, group, lane, role, waiting)
        notes += _of_no_tenant(patient, group, state)


def _state(patient: Patient, group: str) -> GroupState:
    member = reader(patient.settings, **{"group.id": group, "isolation.level": "read_uncommitted"})
    try:
        return group_state(patient.admin, member, group)
    finally:
        member.close()


def _held(patient: Patient, notes: list[str]) -> dict[str, dict[int, Bounds]]:
    client = reader(patient.settings)
    found: dict[str, dict[int, Bounds]] = {}
    try:
        for need in patient.needs:
            if need.kind == "events" and patient.has(need.name):
                if any(one.leader < 0 for one in patient.state.topics[need.name].values()):
                    notes.append(f"offsets of {need.name} were not looked at: a partition of it has no leader")
                    continue
                try:
                    found[need.name] = bounds(client, need.name)
                except StreamError as error:
                    notes.append(f"offsets of {need.name} were not looked at: {error}")
    finally:
        client.close()
    return found


def _judged(patient: Patient, group: str, place: str, bound: Bounds, offset: int | None) -> Iterator[Fault]:
    shown = f"{patient.tool('kafka-consumer-groups')} --describe --offsets --group {group}"
    verified = f"muse-stream verify {patient.config}"
    if offset is None:
        if bound.high > bound.low:
            yield Fault(
                "offsets_missing",
                f"group {group}, {place}",
                f"the group has no offset, and the partition holds {bound.high - bound.low:,} offsets",
                "either it was never read, or its offsets have expired or belong to another group: what was answered "
                "before must not be answered again",
                (shown, verified),
            )
    elif offset < bound.low:
        yield Fault(
            "offsets_removed",
            f"group {group}, {place}",
            f"the group goes on at {offset:,}, and the partition begins at {bound.low:,}",
            f"{bound.low - offset:,} offsets were removed unread; its tenants are paused",
            (verified, shown),
        )
    elif offset > bound.high:
        yield Fault(
            "offsets_beyond_end",
            f"group {group}, {place}",
            f"the group goes on at {offset:,}, and the partition ends at {bound.high:,}",
            "the topic was created again, or lost records: new events would be passed over; its tenants are paused",
            (shown, verified),
        )


def _nobody(patient: Patient, group: str, lane: str, role: Role, waiting: int) -> Fault:
    return Fault(
        "nobody_reads",
        f"group {group}",
        f"no worker is in the group, and up to {waiting:,} events wait",
        "they are not scored",
        (f"muse-stream run --role {role} --lane {lane} --store {patient.config} --name NAME",),
    )


def _of_no_tenant(patient: Patient, group: str, state: GroupState) -> Iterator[str]:
    """Say which topics the group has offsets of that no tenant has: left over, or another lane's."""
    known = {patient.document.tenant_topics(name).events for name in patient.document.tenants}
    others = sorted({topic for topic, _partition in state.offsets or {} if topic not in known})
    if others:
        yield f"group {group} has offsets of topics that no tenant has: {', '.join(others)}"
