"""Brokers, topics, permissions, settings and clocks: what of them keeps a configuration from being served."""

from collections.abc import Iterator

from muse_stream.commands.doctor_fault import Fault, Patient
from muse_stream.config import Role
from muse_stream.kafka import FORGETFUL_HINT, Needed, allowed, allowed_on_group, broker_settings, newest_stamps, plan

DAY_MS = 86_400_000
AHEAD_MS = 5_000
"""Clocks of one site differ by less."""
WRITES: dict[Role, frozenset[str]] = {"live": frozenset({"scores", "dlq", "unknown"}), "shadow": frozenset({"audit"})}


def brokers(patient: Patient, *, forgetful: bool) -> Iterator[Fault]:
    """Yield brokers that cannot be reached where they say they are, and a release with a fault that matters."""
    for number, reason in sorted(patient.state.unreachable.items()):
        host, port = patient.state.brokers[number]
        yield Fault(
            "address_unreachable",
            f"broker {number} at {host}:{port}",
            f"the address that it advertises takes no connection from here: {reason}",
            "a client is sent there after its first question: what this broker leads can be neither read nor written",
            (
                f"set advertised.listeners of broker {number} to an address that its clients reach, and restart it",
                f"{patient.tool('kafka-broker-api-versions')}",
            ),
        )
    if forgetful:
        yield Fault(
            "broker_forgets_markers",
            patient.settings.bootstrap,
            "Kafka 4.3 or newer: it can drop the end of a transaction when a broker restarts",
            "a transaction then hangs, and readers of committed records stand still; a running worker ends its own",
            (FORGETFUL_HINT,),
        )


def topics(patient: Patient) -> Iterator[Fault]:
    """Yield topics that are missing, too small for what is sent, or of a shape that cannot work."""
    there = {one.name: patient.state.existing(one.name) for one in patient.needs if patient.has(one.name)}
    wanted = {one.name for one in patient.needs}
    for change in plan(patient.document, there):
        if change.topic not in wanted or change.topic in patient.state.denied:
            continue
        if change.action == "create":
            yield Fault(
                "topic_missing",
                change.topic,
                "does not exist",
                "its tenant is paused until it does" if change.kind != "audit" else "no audit record can be written",
                (f"muse-stream topics {patient.config}",),
            )
        elif change.action == "set":
            yield Fault(
                "topic_setting",
                change.topic,
                change.why,
                "records that are larger are refused, and their batch is tried again and again",
                (f"muse-stream topics {patient.config}",),
            )
        else:
            yield Fault(
                "topic_unfit",
                change.topic,
                change.why,
                "only a person can decide it",
                (_describe(patient, change.topic),),
            )


def replicas(patient: Patient) -> Iterator[Fault]:
    """Yield partitions that nobody leads, and those that have too few replicas in sync to be written."""
    for topic, parts in patient.state.topics.items():
        least = int(patient.state.settings.get(topic, {}).get("min.insync.replicas", 1))
        for number, one in sorted(parts.items()):
            if one.leader < 0:
                synced = f", and {_numbers(one.in_sync)} was in sync" if one.in_sync else ""  # 4.0 on: none is told
                yield Fault(
                    "no_leader",
                    f"{topic}[{number}]",
                    f"no broker leads it; it is on {_numbers(one.replicas)}{synced}",
                    f"it can be neither read nor written: {_matters(topic)}",
                    (f"start broker {_numbers(one.in_sync or one.replicas)}", _describe(patient, topic)),
                )
            elif len(one.in_sync) < least:
                yield Fault(
                    "below_min_isr",
                    f"{topic}[{number}]",
                    f"{len(one.in_sync)} of {len(one.replicas)} replicas are in sync, min.insync.replicas is {least}",
                    f"nothing can be written to it: {_matters(topic)}",
                    (
                        f"start broker {_numbers(set(one.replicas) - set(one.in_sync)) or 'with a replica of it'}",
                        _describe(patient, topic),
                    ),
                )


def permissions(patient: Patient, role: Role | None, notes: list[str]) -> Iterator[Fault]:
    """Yield what this principal may not see, and what workers of a role would need of it."""
    for topic in sorted(patient.state.denied):
        if topic.startswith("__"):
            notes.append(f"{topic} was not looked at: this principal may not DESCRIBE it")
            continue
        yield _denied(patient, "topic", topic, "DESCRIBE", "nobody can tell whether it is there")
    hidden = [topic for topic in patient.state.topics if topic not in patient.state.settings]
    notes += [f"settings of {one} were not looked at: this principal may not DESCRIBE_CONFIGS of it" for one in hidden]
    if role is None:
        return
    told = allowed(patient.admin, [one.name for one in patient.needs if patient.has(one.name)])
    for need in patient.needs:
        wanted = _needs(need, role)
        for operation in sorted(wanted - told.get(need.name, wanted)):
            why = f"a {role} worker needs it: its tenants {', '.join(need.tenants)} are paused without it"
            yield _denied(patient, "topic", need.name, operation, why)
    for group, _lane, one in patient.groups():
        operations = allowed_on_group(patient.admin, group) if one == role else None
        if operations is not None and "READ" not in operations:
            yield _denied(patient, "group", group, "READ", f"a {role} worker cannot join its group without it")
    notes.append("transactional ids: whether this principal may use them is told only by using them")


def _needs(need: Needed, role: Role) -> frozenset[str]:
    if need.kind == "events":
        return frozenset({"READ"})
    return frozenset({"READ", "WRITE"}) if need.kind in WRITES[role] else frozenset()


def keeping(patient: Patient, notes: list[str]) -> Iterator[Fault]:
    """Yield where what is kept is kept for too short a time to survive a pause."""
    offsets_ms = _offsets_kept_ms(patient, notes)
    for need in patient.needs:
        kept = patient.state.settings.get(need.name, {}).get("retention.ms")
        if need.kind != "events" or kept is None:
            continue
        kept_ms = int(kept)
        if 0 <= kept_ms < DAY_MS:
            yield Fault(
                "retention_short",
                need.name,
                f"events are kept for {_long(kept_ms)} (retention.ms)",
                f"a pause that is longer loses events of {', '.join(need.tenants)} unscored",
                (
                    f"{patient.tool('kafka-configs')} --alter --entity-type topics --entity-name {need.name} "
                    f"--add-config retention.ms={7 * DAY_MS}",
                ),
            )
        if offsets_ms is not None and (kept_ms < 0 or kept_ms > offsets_ms):
            notes.append(
                f"events of {need.name} are kept for {_long(kept_ms)}, the offsets of a group without members for "
                f"{_long(offsets_ms)}: after a longer pause offsets are gone while events are there; raise "
                "offsets.retention.minutes of the brokers where pauses may be so long"
            )


def _offsets_kept_ms(patient: Patient, notes: list[str]) -> int | None:
    told = broker_settings(patient.admin, next(iter(patient.state.brokers), 0))
    minutes = told.get("offsets.retention.minutes")
    if minutes is None:
        notes.append(
            "how long brokers keep offsets was not looked at: DESCRIBE_CONFIGS on the cluster is needed; "
            "offsets.retention.minutes must be above the retention of the event topics"
        )
    return None if minutes is None else 60_000 * int(minutes)


def clocks(patient: Patient, now_ms: int, notes: list[str]) -> Iterator[Fault]:
    """Yield topics whose newest record is stamped later than this machine's clock.

    Kafka tells nobody its time. A record from the future shows a clock that is ahead; one that is behind cannot be
    told from a record that is old.
    """
    places = [
        (one, number) for one in patient.needs if patient.has(one.name) for number in patient.state.topics[one.name]
    ]
    stamps = newest_stamps(patient.admin, [(one.name, number) for one, number in places])
    ahead: dict[str, int] = {}
    for (topic, _number), stamp in stamps.items():
        ahead[topic] = max(stamp - now_ms, ahead.get(topic, 0))
    kinds = {one.name: one.kind for one, _number in places}
    for topic, by_ms in ahead.items():
        if by_ms > AHEAD_MS:
            appended = patient.state.settings.get(topic, {}).get("message.timestamp.type") == "LogAppendTime"
            whose = "a broker" if appended else "a producer of events" if kinds[topic] == "events" else "a worker"
            yield Fault(
                "clock_ahead",
                topic,
                f"its newest record is stamped {_long(by_ms)} after this machine's time",
                f"the clock of {whose} is ahead, or this machine's is behind: lag in time, retention and `verify "
                "--since` go by these stamps",
                ("chronyc tracking", "compare the clocks of brokers, producers and workers"),
            )
    notes.append("clocks: only one that is ahead of this machine's shows, by the stamps of the newest records")


def _denied(patient: Patient, kind: str, name: str, operation: str, why: str) -> Fault:
    option = "--group" if kind == "group" else "--topic"
    return Fault(
        "not_allowed",
        f"{kind} {name}",
        f"this principal lacks {operation}",
        why,
        (
            f"{patient.tool('kafka-acls')} --add --allow-principal User:NAME --operation {operation.title()} "
            f"{option} {name}",
        ),
    )


def _describe(patient: Patient, topic: str) -> str:
    return f"{patient.tool('kafka-topics')} --describe --topic {topic}"


def _matters(topic: str) -> str:
    if topic == "__consumer_offsets":
        return "groups whose offsets stand in it cannot commit"
    if topic == "__transaction_state":
        return "workers whose transactions it keeps cannot begin or end one"
    return "its tenants wait"


def _numbers(given: object) -> str:
    return ", ".join(str(one) for one in sorted(given))  # type: ignore[call-overload]


def _long(ms: int) -> str:
    if ms < 0:
        return "ever"
    for unit, size in (("days", DAY_MS), ("hours", 3_600_000), ("minutes", 60_000)):
        if ms >= 2 * size:
            return f"{ms / size:.4g} {unit}"
    return f"{ms / 1000:.4g} s"
