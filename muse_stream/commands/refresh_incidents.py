"""What went on while the events of a window came, beside what their counts tell: no map is fitted to an incident.

    heartbeats       a tenant that waits or is paused now, or did at an earlier look; scores that are not counted yet
    Kafka            dead letters, by hour
    generations      who answers the tenant was changed in the window
    `watch`          a promotion whose alert rates are not kept

What cannot be found out speaks against a fit as well: nobody knows then that there was none.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from muse_stream.calibration import Incident, RefreshWindow
from muse_stream.commands.difference import changes
from muse_stream.commands.gradual import LEASE as STEPS_LEASE
from muse_stream.commands.verdicts import Watched, in_trouble
from muse_stream.config import Document, KafkaSettings, Loaded, consumer_group, load_document
from muse_stream.control import SILENT_S, Heartbeat, Store, TenantBeat
from muse_stream.errors import MuseError, StoreError
from muse_stream.kafka import all_offsets_at, bounds, reader
from muse_stream.runtime.score_counter import TopicOffsets, offsets_name

FEW_LETTERS: Final = 20
"""Dead letters that are no burst, of however few events."""
LETTERS_S: Final = 15.0
BEHIND: Final = 100_000
"""Records of a lane that may wait to be counted: what is worked off in a second, and markers of transactions."""
MOVED_S: Final = 60.0
"""A generation that became current so long after it was published was gone back to."""
WAITS: Final = "refresh-waits"
REFIT = re.compile(r"[^:]+: map (.+, )?(re)?fitted on [\d,]+ events")


@dataclass(frozen=True, slots=True)
class Waiting:
    """Which tenants of a lane wait too long to be scored."""

    tenants: Mapping[str, str]
    """Tenant -> why."""
    unknown: Mapping[str, str]
    """Tenant -> why nobody can tell."""


def waits(store: Store, document: Document, lane: str) -> Waiting:
    """Return who waits now, as the live workers of a lane tell."""
    tenants = document.lanes().get(lane, ())
    limit = document.refresh.longest_wait_s
    found = {name: "it is paused in the configuration" for name in tenants if document.tenants[name].paused}
    lost = "no live worker of the lane tells of itself"
    beats: dict[str, list[TenantBeat]] = {}
    try:
        for told in _heard(store, lane, "live"):
            lost = ""
            for tenant, one in told.tenants.items():
                beats.setdefault(tenant, []).append(one)
    except StoreError as error:
        lost = str(error)
    unknown = dict.fromkeys(tenants, f"what waits to be scored is not known: {lost}") if lost else {}
    for tenant in tenants:
        told_of = beats.get(tenant, [])  # none: nothing is to be told of it
        paused = [one.paused for one in told_of if one.paused]
        ages = [one.age_s for one in told_of if one.age_s is not None]
        if paused:
            found.setdefault(tenant, f"it is paused: {paused[0]}")
        elif ages and max(ages) > limit:
            found[tenant] = f"its oldest event waited for {max(ages):.0f} s; at most {limit:g} s are allowed"
        elif told_of and not ages:
            unknown[tenant] = "what waits to be scored is not known: no worker can tell"
    return Waiting(found, unknown)


def _heard(store: Store, lane: str, role: str) -> Iterator[Heartbeat]:
    """Yield what the workers of a lane and role have told lately."""
    for beat in store.beats():
        with suppress(StoreError):
            told = Heartbeat.read(beat.data, beat.name)
            if (told.role, told.lane) == (role, lane) and beat.age_s <= SILENT_S:
                yield told


def remember_waits(store: Store, lane: str, found: Mapping[str, str], now: datetime) -> None:
    """Note who waits now, for later windows. Raises StoreError."""
    if not found:
        return
    name = f"{WAITS}~{lane}"
    data = store.durable(name)
    known = _known_waits(data)
    known |= {tenant: [now.isoformat(timespec="seconds"), why] for tenant, why in found.items()}
    store.set_durable(name, json.dumps(known).encode(), data)  # another process that looks notes the same


def _known_waits(data: bytes | None) -> dict[str, list[str]]:
    try:
        found = json.loads(data or b"{}")
        return {str(tenant): [str(at), str(why)] for tenant, (at, why) in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def waited(store: Store, lane: str, tenant: str, window: RefreshWindow) -> Iterator[Incident]:
    """Yield that a tenant waited within a window, at any look. Raises StoreError."""
    at, why = _known_waits(store.durable(f"{WAITS}~{lane}")).get(tenant, ("", ""))
    if at >= window.begins.isoformat(timespec="seconds"):
        yield Incident("lag", f"at {at}: {why}")


def not_counted(store: Store, document: Document, lane: str, tenant: str, window: RefreshWindow) -> Iterator[Incident]:
    """Yield what is missing in the counts: what is not counted yet, and what retention has removed before it was."""
    behind = 0
    for told in _heard(store, lane, "calibrate"):
        if told.lag is None:
            yield Incident("counting", "nobody knows how many records are not counted yet")
            return
        behind += told.lag
    if behind > BEHIND:
        yield Incident("counting", f"{behind:,} records of the lane are not counted yet; at most {BEHIND:,} may wait")
    group = consumer_group(document.namespace, lane, "calibrate")
    first = window.begins.date().isoformat()
    for topic in {document.tenant_topics(tenant).scores, document.tenant_topics(tenant).audit}:
        gaps = TopicOffsets.read(store.durable(offsets_name(group, topic))).gaps
        lost = sum(count for day, count in gaps.items() if day >= first)
        if lost:
            yield Incident("counting", f"retention removed {lost:,} records of {topic} before they were counted")


def dead_letters(
    settings: KafkaSettings, document: Document, tenant: str, window: RefreshWindow, most: float
) -> Iterator[Incident]:
    """Yield the hour in which the largest share of events became dead letters, where that is too large."""
    topic = document.tenant_topics(tenant).dlq
    try:
        letters = letters_by_hour(settings, topic, window.begins, len(window.by_hour()))
    except MuseError as error:
        yield Incident("dead_letters", f"dead letters are not known: {error}")
        return
    by_hour = [*window.by_hour().tolist(), 0]
    worst, where = 0.0, 0
    for hour, (count, events) in enumerate(zip(letters, by_hour, strict=True)):
        share = count / (count + events) if count >= FEW_LETTERS else 0.0
        worst, where = max((worst, where), (share, hour))
    if worst > most:
        begins = window.begins + timedelta(hours=where)
        when = f"in the hour from {begins:%Y-%m-%d %H:%M} on" if where + 1 < len(by_hour) else "since the window"
        text = f"{when}, {letters[where]:,} events became dead letters in {topic}, {worst:.0%} of what came"
        yield Incident("dead_letters", f"{text}; at most {most:.0%} may")


def letters_by_hour(settings: KafkaSettings, topic: str, begins: datetime, hours: int) -> list[int]:
    """Return how many records of a topic were written in each hour, and at last since then. Raises MuseError.

    Counted by offsets: a transaction's marker counts as a record.
    """
    with closing(reader(settings)) as client:
        held = bounds(client, topic)
        places = [(topic, partition) for partition in held]

        def behind(hour: int) -> int:
            """Return how many records were written after an hour began."""
            moment = int(begins.timestamp() * 1000) + hour * 3_600_000
            answer = all_offsets_at(client, places, moment, LETTERS_S)
            return sum(held[p].high - max(offset, held[p].low) for (_, p), offset in answer.items() if offset >= 0)

        if not held or behind(0) < FEW_LETTERS:
            return [0] * (hours + 1)
        ends = [*(behind(hour) for hour in range(hours + 1)), 0]
    return [max(one - other, 0) for one, other in pairwise(ends)]


def watched(store: Store, tenant: str) -> Iterator[Incident]:
    """Yield what `watch` has found of a tenant, and a promotion step by step that goes on. Raises StoreError."""
    found = Watched.read(store)
    for one in in_trouble(found.verdicts) if found is not None else ():
        if one.tenant == tenant:
            yield Incident("watch", str(one))
    if store.ephemeral(STEPS_LEASE) is not None:
        yield Incident("promotion", "a promotion goes on step by step (`promote --steps`)")


def promoted(store: Store, tenant: str, predictor: str, window: RefreshWindow) -> Iterator[Incident]:
    """Yield the changes of who answers a tenant, by generations that became current within a window.

    Raises StoreError, ConfigError.
    """
    head = store.head()
    if head is None:
        return
    line = (head.number, *store.former())
    entries = {one.number: one for one in store.list()}
    created = {number: entries[number].created for number in line if number in entries}
    published = created.get(head.number)
    if head.moved and head.moved >= window.begins and published and (head.moved - published).total_seconds() > MOVED_S:
        yield Incident("promotion", f"generation {head.number} became current again at {_moment(head.moved)}")
    for number, before in pairwise(line):
        at = created.get(number)
        if at is None or at < window.begins:
            return
        if "refreshed" in (entries[number].evidence or {}) or before not in entries:
            continue
        then, now = (load_document(store.open(one).path) for one in (before, number))
        found = answered_otherwise(then, now, tenant, predictor)
        if found:
            yield Incident("promotion", f"generation {number}, published at {_moment(at)}: {'; '.join(found)}")
            return


def answered_otherwise(old: Loaded, new: Loaded, tenant: str, predictor: str) -> list[str]:
    """Return what two generations differ in for a tenant, as far as it changes which events a predictor scores.

    Other maps do not: what is counted is counted before them. Other shadows do not, unless it is one of them.
    """
    mine = [one for one in changes(old, new) if one.area == "tenant" and tenant in one.names]
    return [str(one) for one in mine if any(_matters(part, predictor) for part in one.text.split("; "))]


def _matters(part: str, predictor: str) -> bool:
    words = part.removeprefix("otherwise ").replace(",", "").split()
    if words[0] == "shadow":
        return predictor in words
    return not REFIT.fullmatch(part) and not part.startswith(("refresh of", "drift "))


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(sep=" ", timespec="minutes")
