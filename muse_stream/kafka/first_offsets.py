"""Where a partition starts of which its group has committed nothing (docs/exactly-once.md, R23).

Behind what another group of the same fleet has committed (a tenant was moved to another lane); else behind the last
answer to its events, or where `run --start` says. While another group may have the partition, or answers to it still
come, it is held: nothing of it is read.

Looking may take long (the answers of a partition are searched for in its output topics), so it is done in a thread, by
consumers that never join a group. `decide` waits a little for it, inside the rebalance callback; what is not decided by
then is held, and `changed` says when to ask again.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal, Protocol

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException
from msgspec import Struct

from muse_stream.errors import StreamError
from muse_stream.kafka.errors import typed
from muse_stream.kafka.lag_reader import read_first
from muse_stream.kafka.offsets import CommittedOffset, offsets_at
from muse_stream.kafka.other_groups import Carried, OpenReader, OtherGroups
from muse_stream.kafka.partition import TopicPartitionKey
from muse_stream.kafka.signature import RELEASED
from muse_stream.telemetry import Log

StartAt = Literal["answers", "earliest", "latest"]
"""Where a partition without a committed offset starts: behind its last answer (at its first event where there is none),
at its first event, behind its last event."""

ASK_S = 3.0
AGAIN_S = 1.0
"""How soon to look again at what is held."""
HANDOVER_S = 20.0
"""A partition that another group may still read is taken when nothing of it has moved for so long: longer than a worker
needs to see and load a new generation and to commit what it has in hand, and longer than 5 s and its session together:
one that stood still when the generation came can commit nothing by then."""
SHOWN = 20
"""Partitions and topics of one log line, and lines of one look."""


class Source(Struct, frozen=True):
    """An event partition as it is now."""

    low: int
    stable: int
    """The end for readers of committed records."""
    high: int
    since_ms: int | None = None
    """When its first record was written; None: it has none, or nobody told."""


class First(Struct, frozen=True):
    """Where a partition starts, and why there."""

    offset: int
    chosen: str
    """For the log: `answers`, `earliest`, `latest`, or the group whose offset is taken over."""
    note: str = ""
    written_ms: int | None = None
    """When the last answer was written by another slot; None: there is none, or it is this slot's own."""


class Unknown(Struct, frozen=True):
    """Why nobody can say where a partition starts."""

    why: str
    cure: str = ""
    """What a person has to do; empty where it passes by itself."""


class Search(Protocol):
    """Finds the last answers."""

    def __call__(self, sources: Mapping[TopicPartitionKey, Source]) -> Mapping[TopicPartitionKey, First | Unknown]:
        """Return where each of these starts behind its last answer; those without an answer at their first event."""


class _Asked(Struct):
    own: CommittedOffset
    evidence: object = None
    """What was seen last of others' work on the partition."""
    since: float = 0.0
    found: First | None = None
    unknown: Unknown | None = None


class FirstOffsets:
    """For one slot. `open_reader(group, committed)` opens a consumer that reads committed records only, or all."""

    def __init__(
        self,
        open_reader: OpenReader,
        group: str,
        start_at: StartAt,
        search: Search,
        log: Log,
        others: Callable[[], Iterable[str]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`others` are the groups of the same fleet that may have read the partitions before."""
        self._open_reader, self._group, self._start_at = open_reader, group, start_at
        self._search, self._log, self._clock = search, log, clock
        self.others = OtherGroups(open_reader, group, others, log, clock)
        self._lock = threading.Condition()
        self._asked: dict[TopicPartitionKey, _Asked] = {}
        self._running, self._closing, self._due = False, False, 0.0
        self._said: dict[str, str] = {}

    def decide(
        self, places: Mapping[TopicPartitionKey, CommittedOffset], patience_s: float
    ) -> tuple[dict[TopicPartitionKey, First], dict[TopicPartitionKey, Unknown]]:
        """Return where these start, and which cannot be said within `patience_s`.

        `places` are with what the group has committed of them, which does not count (a mark, or overtaken).
        """
        with self._lock:
            for gone in self._asked.keys() - places.keys():
                del self._asked[gone]
            if places.keys() - self._asked.keys():
                self._due = 0.0
                self._asked |= {place: _Asked(own) for place, own in places.items() if place not in self._asked}
                self._lock.wait_for(lambda: not self._running, patience_s)  # a look that knows nothing of these
                self._start()
                self._lock.wait_for(lambda: not self._running, patience_s)
            found = {place: one.found for place, one in self._asked.items() if one.found is not None}
            waiting = Unknown("its last answer is searched for")
            held = {p: one.unknown or waiting for p, one in self._asked.items() if one.found is None}
        self._tell(found, held)
        return found, held

    def say_unused(self, places: Collection[TopicPartitionKey]) -> None:
        """Say that `--start` was given and that it changes nothing where offsets are committed."""
        if self._start_at != "answers" and places:
            topics = sorted({topic for topic, _ in places})
            facts = {"start": self._start_at, "group": self._group, "topics": topics[:SHOWN], "of": len(topics)}
            why = "--start says where to begin without offsets; the group has some of these, and goes on there"
            hint = f"pause the tenant, then `muse-stream offsets set CONFIG TENANT --to {self._start_at}`"
            self._log.warning("start_unused", error=why, **facts, hint=hint)

    def changed(self) -> bool:
        """Whether something that was held is decided by now; looks again from time to time."""
        with self._lock:
            if not self._running:
                self._start()
            return any(one.found is not None for one in self._asked.values())

    def forget(self, places: Collection[TopicPartitionKey]) -> None:
        """These are committed by now, or somebody else's."""
        with self._lock:
            for place in places:
                self._asked.pop(place, None)

    def close(self) -> None:
        """Look no more; does not wait for a look under way."""
        self.others.close()
        with self._lock:
            self._closing = True

    def _start(self) -> None:
        """Look in a thread, when something is not known and it is time; the lock is held."""
        unknown = any(one.found is None for one in self._asked.values())
        if unknown and not self._running and not self._closing and self._clock() >= self._due:
            self._running = True
            threading.Thread(target=self._run, name="first-offsets", daemon=True).start()

    def _run(self) -> None:
        with self._lock:
            asked = {place: one.own for place, one in self._asked.items() if one.found is None}
        outcome: Mapping[TopicPartitionKey, First | Unknown] = {}
        try:
            outcome = self._look(asked)
        except (StreamError, KafkaException) as error:
            why = str(error) if isinstance(error, StreamError) else str(typed(error))
            outcome = dict.fromkeys(asked, Unknown(why))
        finally:
            with self._lock:
                for place, one in outcome.items():
                    if place in self._asked:
                        self._note(self._asked[place], one)
                self._running, self._due = False, self._clock() + AGAIN_S
                self._lock.notify_all()

    def _note(self, asked: _Asked, one: First | Unknown) -> None:
        asked.found, asked.unknown = (one, None) if isinstance(one, First) else (None, one)

    def _look(self, asked: Mapping[TopicPartitionKey, CommittedOffset]) -> dict[TopicPartitionKey, First | Unknown]:
        sources = self._sources(sorted(asked))
        outcome: dict[TopicPartitionKey, First | Unknown] = {
            place: Unknown(f"no leader of {place[0]}[{place[1]}] says where it begins and ends")
            for place in asked.keys() - sources.keys()
        }
        carried = self.others.carried(asked)
        searched: Mapping[TopicPartitionKey, First | Unknown] = {}
        if self._start_at == "answers":
            searched = self._search({place: one for place, one in sources.items() if one.stable > one.low})
        for place, source in sources.items():
            chosen = searched.get(place) or self._plain(source)
            if isinstance(chosen, Unknown) and place not in carried:
                outcome[place] = chosen
                continue
            outcome[place] = self._settled(place, chosen, asked[place], carried.get(place), source)
        return outcome

    def _plain(self, source: Source) -> First:
        if self._start_at == "latest":
            return First(source.stable, "latest")
        return First(source.low, "earliest")

    def _settled(
        self,
        place: TopicPartitionKey,
        chosen: First | Unknown,
        own: CommittedOffset,
        carried: Carried | None,
        source: Source,
    ) -> First | Unknown:
        """Return the choice once nobody else works on the partition any more, as far as can be seen."""
        first = chosen if isinstance(chosen, First) else None
        group, free = self._group, True
        if carried is not None:
            offset, group, free = carried.offset, carried.group, carried.released
            if first is None or offset > first.offset or first.chosen != "answers":
                if not source.low <= offset <= source.high:
                    return Unknown(f"group {group} has committed {offset}, which is not in {source.low}..{source.high}")
                first = First(offset, f"group {group}", written_ms=first.written_ms if first else None)
            if free and first.offset == offset and offset >= (own.offset or 0):
                return first  # whoever had it last has let it go, and nobody has answered since
        assert first is not None  # noqa: S101  # one of the two is there
        released = own.signature is not None and own.signature.mark == RELEASED
        if own.offset is not None and source.low <= own.offset <= source.high:
            first = first if first.offset >= own.offset else First(own.offset, f"group {self._group}")
        recent = first.written_ms is not None and time.time() * 1000 - first.written_ms < HANDOVER_S * 1000
        if free and not released and not recent:
            return first
        evidence = first.offset, carried
        known = self._asked.get(place)
        if known is None:
            return first
        if known.evidence != evidence:
            known.evidence, known.since = evidence, self._clock()
        if self._clock() - known.since >= HANDOVER_S:
            return first
        who = f"group {group}" if not free else "another worker"
        return Unknown(f"{who} may still read it; taken when nothing of it has moved for {HANDOVER_S:g} s")

    def _sources(self, places: list[TopicPartitionKey]) -> dict[TopicPartitionKey, Source]:
        committed, every = self._open_reader(self._group, True), self._open_reader(self._group, False)
        try:
            dated = self._start_at == "answers"
            return sources(committed, every, places, dated=dated, given_up=lambda: self._closing)
        finally:
            committed.close()
            every.close()

    def _tell(self, found: Mapping[TopicPartitionKey, First], held: Mapping[TopicPartitionKey, Unknown]) -> None:
        """Log what was chosen: a line for each topic and reason."""
        chosen: dict[tuple[str, str, str], dict[int, int]] = {}
        for (topic, partition), one in sorted(found.items()):
            chosen.setdefault((topic, one.chosen, one.note), {})[partition] = one.offset
        for number, ((topic, why, note), offsets) in enumerate(chosen.items()):
            if number == SHOWN:
                self._log.info("starting_offsets_more", topics=len(chosen) - SHOWN, group=self._group)
                break
            shown = {str(partition): offset for partition, offset in list(offsets.items())[:SHOWN]}
            more = {"more_partitions": len(offsets) - SHOWN} if len(offsets) > SHOWN else {}
            facts = {"topic": topic, "group": self._group, "chosen": why, "offsets": shown, **more}
            say = self._log.warning if note else self._log.info
            say("starting_offsets", **facts, **({"note": note} if note else {}))
        topics: dict[str, tuple[Unknown, list[int]]] = {}
        for (topic, partition), unknown in sorted(held.items()):
            topics.setdefault(topic, (unknown, []))[1].append(partition)
        for topic, (unknown, partitions) in list(topics.items())[:SHOWN]:
            if self._said.get(topic) != unknown.why:
                self._said[topic] = unknown.why
                facts = {"topic": topic, "group": self._group, "partitions": partitions[:SHOWN]}
                self._log.warning("starting_offsets_unknown", **facts, error=unknown.why, hint=unknown.cure)


def sources(
    committed: Consumer,
    every: Consumer,
    places: Collection[TopicPartitionKey],
    *,
    dated: bool,
    given_up: Callable[[], bool] = lambda: False,
) -> dict[TopicPartitionKey, Source]:
    """Return these event partitions as they are now; those without a leader are left out.

    `committed` reads committed records only, `every` all; `dated`: with the time of the first record.
    """
    low = offsets_at(every, places, OFFSET_BEGINNING, ASK_S)
    high = offsets_at(every, places, OFFSET_END, ASK_S)
    stable = offsets_at(committed, places, OFFSET_END, ASK_S)
    known = [place for place in places if min(one.get(place, -1) for one in (low, high, stable)) >= 0]
    wanted = {place: low[place] for place in known if dated and high[place] > low[place]}
    first = read_first(committed, wanted, ASK_S, given_up)
    stamps = {place: one.timestamp()[1] for place, one in first.items() if one is not None}
    return {
        place: Source(low[place], stable[place], high[place], stamps.get(place) if stamps.get(place, 0) > 0 else None)
        for place in known
    }
