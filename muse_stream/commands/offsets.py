"""Show, set and copy the committed offsets of one tenant, while its lane runs.

Returns what is (`show`) and what would be done (`plan_set`, `plan_copy`); `carry_out` does it. An offset is only set
where nobody reads the partition: the group has no members, nothing is committed, or the owner has noted that it does
not read it now (a paused tenant). It is set in a transaction, which a group with members takes too; the owner sees the
mark beside it within seconds, goes there, and signs it (docs/exactly-once.md, R23).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from muse_stream.avro import SchemaDirectory
from muse_stream.commands.configuration import Configuration
from muse_stream.config import KafkaSettings, Role
from muse_stream.errors import ConfigError, Fatal, Problem, Retriable
from muse_stream.kafka import (
    RELEASED,
    SET,
    CommittedOffset,
    Consumer,
    Deadline,
    First,
    Message,
    Signature,
    Source,
    TopicPartitionKey,
    Unknown,
    all_offsets_at,
    client,
    committed_offsets,
    has_members,
    open_producer,
    record_at,
    sources,
    span_reader,
    typed,
)
from muse_stream.runtime.answer_reader import AnswerReader
from muse_stream.worker import LastAnswers

ASK_S = 15.0
TAKEN_S = 30.0
"""How long a running owner may take to go to an offset that was set."""
SAME = 5_000
"""Records of another cluster that are compared to find one event again."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One partition of a tenant's event topic."""

    topic: str
    partition: int
    group: str
    committed: int | None
    begin: int
    end: int
    lag: int
    last_answer: int | None
    """Offset of the event that was answered last; None where no answer is found."""
    state: str
    """Who reads it, or that nobody does."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """What is to be done with one partition."""

    topic: str
    partition: int
    group: str
    before: int | None
    after: int
    why: str
    signature: Signature | None = None
    release: str = ""
    """Group that lets the partition go with it."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A tenant's event partitions in one group."""

    settings: KafkaSettings
    group: str
    places: tuple[TopicPartitionKey, ...]
    committed: Mapping[TopicPartitionKey, CommittedOffset]
    sources: Mapping[TopicPartitionKey, Source]
    running: bool

    def free(self, place: TopicPartitionKey) -> bool:
        """Whether nobody reads the partition in this group."""
        one = self.committed[place]
        return not self.running or one.offset is None or (one.signature is not None and one.signature.mark != "")


class TenantOffsets:
    """For one tenant and role."""

    def __init__(self, configuration: Configuration, settings: KafkaSettings, tenant: str, role: Role) -> None:
        self._configuration, self._settings, self.role = configuration, settings, role
        self.tenant, self._document = configuration.tenant(tenant), configuration.loaded.document
        self.topic = self._document.tenant_topics(tenant).events
        self.sharing = tuple(n for n in self._document.tenants if self._document.tenant_topics(n).events == self.topic)
        """Tenants whose events are in the same topic: what is done is done for all of them."""
        client.reach(settings)

    def show(self) -> list[Standing]:
        """Return how each partition stands."""
        here = self._cluster(self._settings, self._group())
        last = self._last(here)
        return [self._standing(here, place, last.get(place)) for place in here.places if place in here.sources]

    def plan_set(self, to: str, partitions: Sequence[int] = ()) -> list[Move]:
        """Return what `set --to` would do; raises `Fatal` where somebody reads the partitions."""
        here = self._cluster(self._settings, self._group(), partitions)
        self._refuse_read(here)
        targets = self._targets(here, to)
        return [self._move(here, place, offset, why) for place, (offset, why) in sorted(targets.items())]

    def plan_copy(self, from_lane: str, to_lane: str) -> list[Move]:
        """Return how the offsets of one lane become those of another."""
        check_lanes(from_lane, to_lane)
        there = self._cluster(self._settings, self._group(from_lane))
        here = self._cluster(self._settings, self._group(to_lane))
        self._refuse_read(there)
        self._refuse_read(here)
        moves = []
        for place in here.places:
            offset, source = there.committed[place].offset, here.sources.get(place)
            if offset is None or source is None:
                continue
            if not source.low <= offset <= source.high:
                where = f"{source.low}..{source.high}"
                raise Fatal(f"{_named(place)}: group {there.group} has committed {offset}, which is not in {where}")
            moves.append(self._move(here, place, offset, f"what group {there.group} has committed", there.group))
        if not moves:
            raise Fatal(f"group {there.group} has committed nothing of {self.topic}")
        return moves

    def plan_copy_cluster(self, bootstrap: str) -> list[Move]:
        """Return where the events stand here behind which the same group stands on another cluster."""
        elsewhere = self._settings.model_copy(update={"bootstrap": bootstrap})
        client.reach(elsewhere)
        there = self._cluster(elsewhere, self._group())
        here = self._cluster(self._settings, self._group())
        self._refuse_read(there)
        self._refuse_read(here)
        moves = []
        with _readers(elsewhere, there.group) as (_, theirs), _readers(self._settings, here.group) as (_, ours):
            for place in here.places:
                one, source = there.committed.get(place), here.sources.get(place)
                if one is None or one.offset is None or source is None or place not in there.sources:
                    continue
                offset, why = _translated(theirs, ours, place, one.offset, there.sources[place], source)
                moves.append(self._move(here, place, offset, why))
        if not moves:
            raise Fatal(f"group {there.group} has committed nothing of {self.topic} at {bootstrap}")
        return moves

    def carry_out(self, moves: Sequence[Move], waiting: Callable[[str], object] = lambda _text: None) -> list[str]:
        """Set the offsets; returns what a running owner has not taken. Raises `StreamError` when Kafka refuses."""
        group = moves[0].group
        producer = open_producer(self._settings, f"muse-{group}-offsets", Deadline(ASK_S))
        try:
            deadline = Deadline(ASK_S)
            producer.begin()
            for target in {group, *(move.release for move in moves if move.release)}:
                with _readers(self._settings, target) as (reader, _):
                    for move in moves:
                        mark = SET if target == group else RELEASED
                        if mark == SET or move.release == target:
                            signature = str((move.signature or Signature("offsets")).marked(mark))
                            place = (move.topic, move.partition)
                            metadata = reader.consumer_group_metadata()
                            producer.send_offsets({place: move.after}, metadata, deadline, signature)
            producer.commit(deadline)
        finally:
            producer.discard()
        return self._not_taken(moves, waiting)

    def _not_taken(self, moves: Sequence[Move], waiting: Callable[[str], object]) -> list[str]:
        group, places = moves[0].group, {(move.topic, move.partition): move for move in moves}
        if not has_members(self._settings, group):
            return []
        waiting(f"group {group} has members: waiting until they go to the new offsets")
        open_, end = dict(places), time.monotonic() + TAKEN_S
        refused: list[str] = []
        with _readers(self._settings, group) as (_, reader):
            while open_ and time.monotonic() < end:
                for place, one in committed_offsets(reader, open_, ASK_S).items():
                    if one.signature is not None and one.signature.mark == SET:
                        continue
                    move = open_.pop(place)
                    if one.offset is None or one.offset < move.after:
                        refused.append(f"{_named(place)}: its owner has committed {one.offset} since; try again")
                time.sleep(0.1)
        return [*refused, *(f"{_named(place)}: nobody has taken it within {TAKEN_S:g} s" for place in open_)]

    def _group(self, lane: str | None = None) -> str:
        return self._document.group(lane or self._document.tenants[self.tenant].lane, self.role)

    def _cluster(self, settings: KafkaSettings, group: str, partitions: Sequence[int] = ()) -> Cluster:
        with _readers(settings, group) as (stable, every):
            described = every.list_topics(self.topic, timeout=ASK_S).topics[self.topic]
            if described.error is not None:
                raise typed(described.error, self.topic)
            if strange := sorted(set(partitions) - described.partitions.keys()):
                message = f"{self.topic} has no partition {strange[0]}"
                raise ConfigError([Problem("--partition", message, f"it has {len(described.partitions)}, from 0 on")])
            places = tuple((self.topic, number) for number in sorted(set(partitions) or described.partitions))
            found = sources(stable, every, places, dated=True)
            members = has_members(settings, group)  # first: who may not see the group is told so here, at once
            return Cluster(settings, group, places, _committed(stable, places), found, members)

    def _last(self, here: Cluster) -> dict[TopicPartitionKey, First | Unknown]:
        schemas = SchemaDirectory.open(self._configuration.loaded.root / self._document.schemas)
        lane = self._document.tenants[self.tenant].lane
        reader = AnswerReader(self._document, lane, self.role, schemas)
        search = LastAnswers(lambda stable: span_reader(self._settings, here.group, stable), lambda: reader)
        return search({place: one for place, one in here.sources.items() if one.stable > one.low})

    def _standing(self, here: Cluster, place: TopicPartitionKey, last: First | Unknown | None) -> Standing:
        source, one = here.sources[place], here.committed[place]
        signature = one.signature
        if one.offset is None:
            state = "nothing committed"
        elif signature is not None and signature.mark:
            state = {SET: "set, not taken yet"}.get(signature.mark, signature.mark)
        elif here.running and signature is not None:
            state = f"read by {signature.owner}"
        else:
            state = "not read: no worker of the group runs" if not here.running else "read"
        answered = last.offset - 1 if isinstance(last, First) and last.chosen == "answers" else None
        note = "" if last is None else last.why if isinstance(last, Unknown) else last.note
        if one.offset is not None and not source.low <= one.offset <= source.high:
            note = "; ".join(part for part in (f"{one.offset} is not in the topic", note) if part)
        lag = max(0, source.high - (one.offset if one.offset is not None else source.low))
        return Standing(*place, here.group, one.offset, source.low, source.high, lag, answered, state, note)

    def _targets(self, here: Cluster, to: str) -> dict[TopicPartitionKey, tuple[int, str]]:
        held = here.sources
        if lost := [place for place in here.places if place not in held]:
            raise Retriable(f"no leader of {_named(lost[0])} says where it begins and ends")
        if to == "earliest":
            return {place: (one.low, "its first event") for place, one in held.items()}
        if to == "latest":
            return {place: (one.high, "behind its last event") for place, one in held.items()}
        if to == "answers":
            return self._by_answers(here)
        if to.isdecimal():
            return {place: (_within(place, int(to), one), "as asked") for place, one in held.items()}
        moment = _moment(to)
        with _readers(here.settings, here.group) as (_, every):
            found = all_offsets_at(every, list(held), moment, ASK_S)
        return {
            place: (found[place], f"the first event from {to} on")
            if found[place] >= 0
            else (one.high, f"no event from {to} on: behind its last event")
            for place, one in held.items()
        }

    def _by_answers(self, here: Cluster) -> dict[TopicPartitionKey, tuple[int, str]]:
        last, targets = self._last(here), dict[TopicPartitionKey, tuple[int, str]]()
        for place, source in here.sources.items():
            one = last.get(place)
            if isinstance(one, Unknown):
                raise Fatal(f"{_named(place)}: {one.why}. Give --to earliest, latest, an offset or a time")
            if one is None or one.chosen != "answers":
                targets[place] = source.low, "its first event: no answer is there" + (f" ({one.note})" if one else "")
            else:
                targets[place] = one.offset, "behind its last answer"
        return targets

    def _move(self, here: Cluster, place: TopicPartitionKey, after: int, why: str, release: str = "") -> Move:
        one = here.committed[place]
        return Move(*place, here.group, one.offset, after, why, one.signature, release)

    def _refuse_read(self, here: Cluster) -> None:
        for place in here.places:
            if not here.free(place):
                signature = here.committed[place].signature
                owner = signature.owner if signature is not None else "a member"
                raise Fatal(
                    f"{_named(place)} is being read by {owner} of group {here.group}: what is set now would be "
                    "overruled by its next commit. Publish a configuration with "
                    f"`tenants.{self.tenant}.paused: true` first, or stop the lane's runs"
                )


class _readers:
    """A consumer that reads committed records and one that reads all, which never join the group."""

    def __init__(self, settings: KafkaSettings, group: str) -> None:
        self._both = span_reader(settings, group, True), span_reader(settings, group, False)

    def __enter__(self) -> tuple[Consumer, Consumer]:
        return self._both

    def __exit__(self, *_: object) -> None:
        for one in self._both:
            one.close()


def _committed(reader: Consumer, places: Sequence[TopicPartitionKey]) -> dict[TopicPartitionKey, CommittedOffset]:
    return committed_offsets(reader, places, ASK_S)


def _within(place: TopicPartitionKey, offset: int, source: Source) -> int:
    if not source.low <= offset <= source.high:
        raise Fatal(f"{_named(place)}: {offset} is not in {source.low}..{source.high}; --partition names single ones")
    return offset


def check_target(to: str) -> None:
    """Raise `ConfigError` where this is nothing that `plan_set` takes; asks nobody."""
    if to not in ("earliest", "latest", "answers") and not to.isdecimal():
        _moment(to)


def check_lanes(from_lane: str, to_lane: str) -> None:
    """Raise `ConfigError` where both lanes are one."""
    if from_lane == to_lane:
        raise ConfigError([Problem("--to-lane", "is the lane that is copied from", "name another lane")])


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        hint = "earliest, latest, answers, an offset, or a time with its zone, such as 2026-11-26T00:00:00+00:00"
        raise ConfigError([Problem("--to", f"'{text}' is neither a place nor a time", hint)])
    return int(moment.timestamp() * 1000)


def _translated(
    theirs: Consumer, ours: Consumer, place: TopicPartitionKey, offset: int, there: Source, here: Source
) -> tuple[int, str]:
    """Return where the first event that was not answered elsewhere stands here."""
    if offset <= there.low:
        return here.low, "nothing was answered there of what is here"
    last = record_at(theirs, place, offset - 1, ASK_S)
    before = last if last is not None and (last.offset() or 0) < offset else None
    follows = record_at(theirs, place, offset, ASK_S) if offset < there.high else None
    for event, step, why in ((before, 1, "behind the event that was answered last"), (follows, 0, "the next event")):
        if event is not None and (found := _found(ours, place, event, here)) is not None:
            return found + step, f"{why} there, found here by its time, key and content"
    if follows is None and before is None:
        raise Fatal(f"{_named(place)}: the events around offset {offset} cannot be read there")
    event = follows or before
    assert event is not None  # noqa: S101
    at = all_offsets_at(ours, [place], event.timestamp()[1], ASK_S)[place]
    why = "by the time of the next event alone, which is not here: see `offsets show`, events may be answered twice"
    return (at if at >= 0 else here.high), why


def _found(ours: Consumer, place: TopicPartitionKey, event: Message, here: Source) -> int | None:
    """Return where the same event stands here."""
    at = all_offsets_at(ours, [place], event.timestamp()[1], ASK_S)[place]
    for offset in range(max(at, here.low), min(here.high, max(at, 0) + SAME)) if at >= 0 else ():
        one = record_at(ours, place, offset, ASK_S)
        if one is None:
            return None
        if (one.key(), one.value()) == (event.key(), event.value()):
            return one.offset()
        if one.timestamp()[1] > event.timestamp()[1]:
            return None
    return None


def _named(place: TopicPartitionKey) -> str:
    return f"{place[0]}[{place[1]}]"
