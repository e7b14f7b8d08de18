"""The dead letters of one tenant: count them, look at them, send their events again.

docs/dead-letters.md says how an operator works with them, decisions/0020 how it is remembered what was sent.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

from muse_stream.avro import SchemaDirectory, column_type, decode_records
from muse_stream.commands.configuration import Configuration
from muse_stream.commands.dlq_letters import Letter, Owners, place_and_time, shown
from muse_stream.commands.dlq_replay import Replay, Route, Sent
from muse_stream.commands.dlq_survey import STATES, Filter, Progress, Survey, chosen, named
from muse_stream.config import KafkaSettings
from muse_stream.errors import MuseError, StreamError
from muse_stream.kafka import Record, bounds, client, reader, survey
from muse_stream.schema_registry import writers
from muse_stream.worker import failpoints

Timestamps = Literal["auto", "now", "source"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Whose letters, and which of them."""

    tenant: str
    unknown: bool = False
    """The letters of the tenant's event topic of which nobody can tell whose they are, from its lane's topic."""
    wanted: Filter = field(default_factory=Filter)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a dead-letter topic holds of a tenant."""

    topic: str
    reasons: list[dict[str, Any]]
    """For each reason: how many letters, how many in each state, and the times of the oldest and the newest."""
    foreign: int
    """Records of the topic that are no dead letters."""
    sample: list[dict[str, Any]]
    notes: list[str]


def list_letters(
    configuration: Configuration,
    settings: KafkaSettings,
    selection: Selection,
    sample: int = 3,
    progress: Progress = lambda _done, _total: None,
) -> Counted:
    """Count a tenant's letters by reason, and show the newest few."""
    newest = _Newest(configuration, selection.tenant, sample, selection.wanted)
    found, owners = _surveyed(configuration, settings, selection, None, newest, progress)
    columns, rows = found.letters, list[dict[str, Any]]()
    states = found.states()
    counts = Counter(zip(columns.reason, states, strict=True))
    for code, reason in enumerate(found.reasons):
        times = [t for t, one in zip(columns.timestamp, columns.reason, strict=True) if one == code]
        by_state: dict[str, int] = {state: counts[code, state] for state in STATES}
        rows.append({"reason": reason, "letters": len(times), **by_state, "oldest": min(times), "newest": max(times)})
    rows.sort(key=lambda row: -row["letters"])
    return Counted(
        found.topic, rows, found.foreign, newest.shown(found), _notes(configuration, selection, found, owners)
    )


def show_letters(
    configuration: Configuration,
    settings: KafkaSettings,
    selection: Selection,
    progress: Progress = lambda _done, _total: None,
) -> list[dict[str, Any]]:
    """Return the newest letters that are wanted, the oldest of them first, with all that is known of each."""
    newest = _Newest(configuration, selection.tenant, selection.wanted.limit or 10, selection.wanted)
    found, _ = _surveyed(configuration, settings, selection, None, newest, progress)
    return newest.shown(found)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay would do."""

    topic: str
    route: Route
    rows: list[int]
    """Of the survey's letters: those to be sent."""
    found: Survey
    reasons: dict[str, int]
    """Of those to be sent."""
    places: dict[str, int]
    """Partition of the destination -> events."""
    left: dict[str, int]
    """Letters that are not sent, by their state."""
    notes: list[str] = field(default_factory=list)


def plan_replay(
    configuration: Configuration,
    settings: KafkaSettings,
    selection: Selection,
    to_topic: str | None = None,
    timestamps: Timestamps = "auto",
    progress: Progress = lambda _done, _total: None,
) -> Plan:
    """Look what a replay would send, and where; changes nothing. Raises MuseError when it could not be done."""
    document = configuration.loaded.document
    topics = document.tenant_topics(configuration.tenant(selection.tenant))
    destination = to_topic or topics.events
    _refuse_outputs(configuration, destination)
    admin = client.reach(settings)
    partitions = _partitions(settings, destination, default=to_topic is None)
    found, owners = _surveyed(configuration, settings, selection, destination, None, progress)
    keep = timestamps == "source" or (timestamps == "auto" and _reads_kafka_time(configuration, selection.tenant))
    route = Route(destination, partitions, keep)
    rows = chosen(found, selection.wanted)
    notes = _notes(configuration, selection, found, owners)
    sources = [place_and_time(found.letters.event[row]) for row in rows]
    if keep and rows:
        notes += _refuse_expired(admin, destination, [moment for _, _, _, moment in sources])
    states = Counter(found.states())
    reasons = Counter(found.reasons[found.letters.reason[row]] for row in rows)
    places = Counter(_place(route, partition) for _, partition, _, _ in sources)
    left: dict[str, int] = {state: states[state] for state in STATES if state != "waiting" and states[state]}
    codes = {code for code, _, _, _ in sources}
    moved = [name for name, code in found.sources.items() if name != destination and code in codes]
    notes += [f"events of {name} are sent to {destination}" for name in moved]
    return Plan(found.topic, route, rows, found, dict(reasons), dict(sorted(places.items())), left, notes)


def _partitions(settings: KafkaSettings, topic: str, *, default: bool) -> int:
    with closing(reader(settings)) as client:
        try:
            partitions = len(bounds(client, topic))
        except StreamError as error:
            raise named(error, topic) from None
    if not partitions:
        hint = "--to-topic names another" if default else "`muse-stream topics` makes those of a configuration"
        raise StreamError(f"there is no topic {topic} to send to; {hint}")
    return partitions


class Carrying:
    """Carries a plan out; `outcome` says at any time what has been sent."""

    def __init__(
        self, settings: KafkaSettings, plan: Plan, progress: Callable[[int], object] = lambda _sent: None
    ) -> None:
        self._plan = plan
        self._replay = Replay(settings, plan.found, plan.route, failpoints.from_environment(), progress)

    @property
    def outcome(self) -> Sent:
        """What has been sent by now."""
        return self._replay.outcome

    def run(self) -> Sent:
        """Send; raises `StreamError` when Kafka does not let it go on."""
        return self._replay.run(self._plan.rows)


class _Newest:
    """Keeps the newest letters that a filter lets pass, whole."""

    def __init__(self, configuration: Configuration, tenant: str, count: int, wanted: Filter) -> None:
        self._configuration, self._tenant = configuration, tenant
        self._count, self._wanted = count, wanted
        self._kept: list[tuple[int, int, int, Record, Letter]] = []

    def __call__(self, record: Record, letter: Letter) -> None:
        wanted = self._wanted
        if wanted.reasons and letter.reason not in wanted.reasons:
            return
        if self._count and (wanted.since is None or record.timestamp >= wanted.since):
            entry = (record.timestamp, record.partition, record.offset, record, letter)
            if len(self._kept) < self._count:
                heapq.heappush(self._kept, entry)
            else:
                heapq.heappushpop(self._kept, entry)

    def shown(self, found: Survey) -> list[dict[str, Any]]:
        """Return them as `tail` shows them, and what became of each; the oldest first."""
        columns = found.letters
        states = dict(zip(zip(columns.partition, columns.offset, strict=True), found.states(), strict=True))
        schemas = _schemas(self._configuration, self._tenant)
        events = decode_records(schemas, [entry[3].value for entry in sorted(self._kept)])
        shown_ = []
        for (_, partition, offset, record, letter), event in zip(sorted(self._kept), events, strict=True):
            original = [
                (name, None if value is None else value.decode("utf-8", "replace")) for name, value in letter.original
            ]
            value = record.value
            shown_.append(
                {
                    **shown(record, event),
                    "state": states[partition, offset],
                    "headers": original,
                    "key_hex": None if record.key is None else record.key.hex(),
                    "value_hex": None if value is None else value.hex(),
                    "value_text": _text(value),
                    "undecodable": getattr(event, "message", None),
                }
            )
        return shown_


def _text(value: bytes | None) -> str | None:
    """Return bytes that are a text; None for others."""
    try:
        text = (value or b"").decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() and text else None


def _schemas(configuration: Configuration, tenant: str) -> SchemaDirectory:
    document = configuration.loaded.document
    folder = SchemaDirectory.open(configuration.loaded.root / document.schemas)
    return writers(folder, document, document.tenants[tenant].event)


def _surveyed(
    configuration: Configuration,
    settings: KafkaSettings,
    selection: Selection,
    destination: str | None,
    see: Callable[[Record, Letter], object] | None,
    progress: Progress,
) -> tuple[Survey, Owners]:
    document = configuration.loaded.document
    tenant = configuration.tenant(selection.tenant)
    topics = document.tenant_topics(tenant)
    topic = document.unknown_topic(document.tenants[tenant].lane) if selection.unknown else topics.dlq
    client.reach(settings)
    owners = Owners(document, _schemas(configuration, tenant), tenant, topic, unknown=selection.unknown)
    found = Survey(settings, topic, owners, destination or topics.events, see)
    found.read_on(progress)
    return found, owners


def _notes(configuration: Configuration, selection: Selection, found: Survey, owners: Owners) -> list[str]:
    document = configuration.loaded.document
    notes = [
        f"{found.topic}[{partition}]: a transaction is open at offset {offset}, and nothing behind it can be read"
        for partition, offset in found.open.items()
    ]
    if found.foreign:
        notes.append(f"{found.foreign:,} records of {found.topic} are no dead letters; they are left alone")
    if owners.shares and not selection.unknown:
        unknown = document.unknown_topic(document.tenants[selection.tenant].lane)
        notes.append(
            f"events of {owners.events} that name no tenant become letters on {unknown}: see them with --unknown"
        )
    return notes


def _refuse_outputs(configuration: Configuration, destination: str) -> None:
    """Refuse a topic that holds something else than events."""
    document = configuration.loaded.document
    for name, tenant in document.tenants.items():
        topics = document.tenant_topics(name)
        others = {"scores": topics.scores, "audit records": topics.audit, "dead letters": topics.dlq}
        others |= {"dead letters of its lane": document.unknown_topic(tenant.lane)}
        for kind, topic in others.items():
            if topic == destination:
                raise MuseError(f"{destination} holds {kind} of tenant '{name}'; --to-topic takes a topic of events")


def _reads_kafka_time(configuration: Configuration, tenant: str) -> bool:
    """Tell whether the Kafka timestamp may count as the time of a tenant's events."""
    document = configuration.loaded.document
    spec = document.events[document.tenants[tenant].event]
    if spec.time is None or spec.time_outside == "kafka_timestamp":
        return True
    return bool(column_type(_schemas(configuration, tenant).by_file(spec.schema_file).type, spec.time, "time")[1])


def _refuse_expired(admin: Any, topic: str, times: list[int]) -> list[str]:
    """Refuse events with times that Kafka would soon remove; says so where that cannot be told."""
    try:
        retention = int(survey(admin, [topic])[topic].config.get("retention.ms") or -1)
    except (StreamError, KeyError, ValueError):
        return [f"the retention of {topic} cannot be read: events keep their times, and Kafka may remove old ones soon"]
    edge = time.time() * 1000 - retention
    old = sum(0 <= one < edge for one in times) if retention >= 0 else 0
    if old:
        raise MuseError(
            f"{old:,} events are older than the retention of {topic}, and would keep their times: Kafka would remove "
            "them, scored or not. Raise its retention.ms first, or give all of them the present time: --timestamps now"
        )
    return []


def _place(route: Route, partition: int) -> str:
    return str(partition) if partition < route.partitions else "by key"
