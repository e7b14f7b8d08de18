"""Finds the last answer to the events of a partition, in the topics that answers go to (docs/exactly-once.md, R23).

Takes event partitions as they are now. Says of each behind which event to start, or why nobody can say.

  - What counts is the answer that was written last, read from the end of the output partitions backwards, in chunks
    that grow. A dead letter counts like a score. Only committed records do; an open transaction is waited for.
  - Nothing written before the partition's first remaining event can answer one of its events: the search ends there.
    Answers that retention may have deleted from there on are no reason to score again: then nobody can say.
  - Where output and event topic have equally many partitions, an answer stands in its event's. Otherwise, or where none
    stands there (the topics have grown), all partitions are searched.
  - An answer counts when the event that it names stands in the topic. One that does not (the topic was made anew,
    somebody else has written it, the event was compacted away) is passed over, and those before it are looked at.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from muse_stream.kafka import (
    BEGINNING,
    END,
    Consumer,
    Deadline,
    First,
    Message,
    Source,
    TopicPartitionKey,
    Unknown,
    offsets_at,
    partition_counts,
    read_spans,
    record_at,
)
from muse_stream.worker.batch import Origin, Topology
from muse_stream.worker.hanging_transactions import Answered, answered

FIRST_CHUNK, GROWTH, MOST = 256, 8, 200_000
"""Offsets of one partition that are read in the first round; by what that grows; all that one round may read."""
KEPT = 1_000
"""Answers of one event partition that are looked at in a round when the last one does not count."""
SKEW_MS = 2 * 3_600_000
"""How much later than its answer an event may be dated: brokers refuse what is more than an hour ahead."""
NEAR_MS = 60_000
ASK_S, STILL_S, READ_S = 5.0, 10.0, 20.0


class Answering(Protocol):
    """What is asked of a scorer: which topics there are, and what an answer answers."""

    @property
    def topology(self) -> Topology:
        """The topics of this worker's lane."""

    def origins(self, values: Sequence[bytes | None]) -> Sequence[Origin | None]:
        """Say of each answer what it answers; None for what is no answer."""

    def answers(self, topic: str, event: bytes | None, answer: bytes | None) -> bool:
        """Whether a score or an audit record is about this event, by its id; True where nobody can tell."""


OpenReader = Callable[[bool], Consumer]
"""Open a consumer that reads committed records only (True), or all."""
Outputs = dict[TopicPartitionKey, "Tail"]


class Tail(Struct):
    """How far an output partition was searched, and for what."""

    low: int
    end: int
    """Where it ends for readers of committed records."""
    reached: int
    """Everything from here on was searched."""
    until: int = 0
    """Nothing below this offset is of interest."""
    wanted: set[TopicPartitionKey] = field(default_factory=set)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to search."""
        return not self.wanted or self.reached <= max(self.low, self.until)


class LastAnswers:
    """For one slot (`tag` is its tag in attempts), or for a command (None). Implements `kafka.Search`."""

    def __init__(self, open_reader: OpenReader, answering: Callable[[], Answering], tag: int | None = None) -> None:
        self._open_reader, self._answering, self._tag = open_reader, answering, tag

    def __call__(self, sources: Mapping[TopicPartitionKey, Source]) -> dict[TopicPartitionKey, First | Unknown]:
        """Return where each starts; raises `Retriable` when Kafka does not answer."""
        if not sources:
            return {}
        committed, every = self._open_reader(True), self._open_reader(False)
        try:
            return _Run(self._answering(), committed, every, sources, self._tag).outcome()
        finally:
            committed.close()
            every.close()


class _Run:
    """One search."""

    def __init__(
        self,
        answering: Answering,
        committed: Consumer,
        every: Consumer,
        sources: Mapping[TopicPartitionKey, Source],
        tag: int | None,
    ) -> None:
        self._answering, self._topology = answering, answering.topology
        self._committed, self._every, self._sources, self._tag = committed, every, sources, tag
        self._last: dict[TopicPartitionKey, dict[TopicPartitionKey, Answered]] = {place: {} for place in sources}
        """Event partition -> output partition -> the last answer there."""
        self._unknown: dict[TopicPartitionKey, Unknown] = {}
        self._passed: dict[TopicPartitionKey, int] = {}
        """Event partition -> the greatest offset that an answer named which does not count."""
        self._uncovered: dict[TopicPartitionKey, TopicPartitionKey] = {}
        """Event partition -> an output partition from which answers to it may have been deleted."""

    def outcome(self) -> dict[TopicPartitionKey, First | Unknown]:
        """Search, and say where each event partition starts."""
        counts = partition_counts(self._every)
        for place in self._sources:
            if missing := sorted(t for t in self._topology.outputs.get(place[0], ()) if not counts.get(t)):
                self._unknown[place] = Unknown(f"no topic {', '.join(missing)}, or no permission to see it")
        letters = {*self._topology.dead_letters.values()}
        for dead in (False, True):  # the dead letters last: how far back is known by then
            self._search(self._homes(counts, letters if dead else None, dead=dead))
            absent = [place for place in self._left() if not self._last[place]]
            self._search(self._others(counts, absent, letters, dead=dead))
        found: dict[TopicPartitionKey, First | Unknown] = {place: self._first(place) for place in self._left()}
        return found | self._unknown

    def _left(self) -> list[TopicPartitionKey]:
        return [place for place in self._sources if place not in self._unknown]

    def _topics(self, place: TopicPartitionKey, letters: Collection[str], *, dead: bool) -> list[str]:
        return [topic for topic in self._topology.outputs.get(place[0], ()) if (topic in letters) == dead]

    def _homes(
        self, counts: Mapping[str, int], letters: Collection[str] | None, *, dead: bool
    ) -> dict[TopicPartitionKey, set[TopicPartitionKey]]:
        """Return the output partitions where answers to each event partition belong."""
        names = letters if letters is not None else {*self._topology.dead_letters.values()}
        found: dict[TopicPartitionKey, set[TopicPartitionKey]] = {}
        for place in self._left():
            for topic in self._topics(place, names, dead=dead):
                equal = counts[topic] == counts.get(place[0])
                for number in (place[1],) if equal else range(counts[topic]):
                    found.setdefault((topic, number), set()).add(place)
        return found

    def _others(
        self, counts: Mapping[str, int], absent: Iterable[TopicPartitionKey], letters: Collection[str], *, dead: bool
    ) -> dict[TopicPartitionKey, set[TopicPartitionKey]]:
        """Return the partitions where answers stand only if the topics had other numbers of partitions before."""
        found: dict[TopicPartitionKey, set[TopicPartitionKey]] = {}
        for place in absent:
            for topic in self._topics(place, letters, dead=dead):
                if counts[topic] == counts.get(place[0]):
                    for number in set(range(counts[topic])) - {place[1]}:
                        found.setdefault((topic, number), set()).add(place)
        return found

    def _search(self, wanted: Mapping[TopicPartitionKey, set[TopicPartitionKey]]) -> None:
        """Search these output partitions backwards until every event partition is found or their beginning reached."""
        tails = self._tails(wanted)
        chunk = FIRST_CHUNK
        while spans := {
            place: (max(tail.low, tail.until, tail.reached - min(chunk, MOST // len(tails))), tail.reached)
            for place, tail in tails.items()
            if not tail.over
        }:
            written: defaultdict[tuple[TopicPartitionKey, TopicPartitionKey], deque[Answered]]
            written = defaultdict(lambda: deque(maxlen=KEPT))
            for place, messages in read_spans(self._committed, spans, lambda topic: self._refused(topic, tails)):
                for one in answered(place, messages, self._answering.origins):
                    if one.origin is not None:
                        written[place, (one.origin.topic, one.origin.partition)].append(one)
            reached = {place: spans[place][0] for place in spans.keys() & tails.keys()}
            for (place, source), answers in written.items():
                if place in tails and source in tails[place].wanted:
                    if (last := self._last_genuine(source, answers)) is not None:
                        self._last[source][place] = last
                        tails[place].wanted.discard(source)
                    elif len(answers) == KEPT:  # those before them were not kept
                        reached[place] = max(reached[place], answers[0].message.offset() or 0)
            for place, offset in reached.items():
                tails[place].reached = offset
            chunk = min(chunk * GROWTH, KEPT * GROWTH if self._passed else MOST)

    def _last_genuine(self, place: TopicPartitionKey, written: Sequence[Answered]) -> Answered | None:
        """Return the last of these answers whose event stands there; asks for that one alone first."""
        for some in ([written[-1]], [*written][-2::-1]):
            events = self._events(place, [one.origin.offset for one in some if one.origin is not None])
            for one in some:
                if self._same(place, one, events):
                    return one
        offsets = [one.origin.offset for one in written if one.origin is not None]
        self._passed[place] = max([*offsets, self._passed.get(place, -1)])
        return None

    def _events(self, place: TopicPartitionKey, offsets: Iterable[int]) -> dict[int, Message]:
        """Return the events that have these offsets now."""
        source = self._sources[place]
        asked = sorted({one for one in offsets if source.low <= one < source.high})
        if not asked:
            return {}
        if len(asked) > 1 and asked[-1] - asked[0] < KEPT * GROWTH:
            spans = {place: (asked[0], asked[-1] + 1)}
            found = [one for _, block in read_spans(self._every, spans, lambda _topic: None) for one in block]
        else:
            found = [one for at in asked if (one := record_at(self._every, place, at, READ_S)) is not None]
        return {one.offset() or 0: one for one in found}

    def _tails(self, wanted: Mapping[TopicPartitionKey, set[TopicPartitionKey]]) -> Outputs:
        """Return these output partitions as they are, once everything that stands in them is decided."""
        places = sorted(wanted)
        if not places:
            return {}
        high = offsets_at(self._every, places, END, ASK_S)
        low = offsets_at(self._every, places, BEGINNING, ASK_S)
        deadline, stable = Deadline(STILL_S), dict[TopicPartitionKey, int]()
        for _last in deadline.tries(0.05):
            waiting = [place for place in places if stable.get(place, -1) < high.get(place, 0)]
            if not waiting:
                break
            stable |= offsets_at(self._committed, waiting, END, ASK_S)
        since = self._since(wanted)
        starts: dict[TopicPartitionKey, int] = {}
        for moment in set(since.values()):
            starts |= offsets_at(self._every, [p for p in places if since[p] == moment], moment, ASK_S)
        tails: Outputs = {}
        for place in places:
            if place not in high or place not in low or stable.get(place, -1) < high[place]:
                why = f"a transaction is open in {_named(place)} from offset {stable.get(place, 0)} on"
                if place not in high or place not in low:
                    why = f"no leader of {_named(place)} says where it begins and ends"
                self._unknown |= dict.fromkeys(wanted[place], Unknown(why))
                continue
            until = starts.get(place, 0)
            tail = Tail(low[place], high[place], high[place], until if until >= 0 else high[place], set(wanted[place]))
            tails[place] = tail
            self._uncovered |= {source: place for source in tail.wanted if not self._covers(place, tail, source)}
        return tails

    def _covers(self, place: TopicPartitionKey, tail: Tail, source: TopicPartitionKey) -> bool:
        """Whether no answer can have been deleted that was written after the first event that remains."""
        if tail.low == 0:
            return True
        first_ms = self._sources[source].since_ms
        if tail.low >= tail.end or first_ms is None:
            return False
        at = offsets_at(self._every, [place], first_ms, ASK_S).get(place, 0)
        return at < 0 or at > tail.low  # the first record that is left there is older

    def _since(self, wanted: Mapping[TopicPartitionKey, set[TopicPartitionKey]]) -> dict[TopicPartitionKey, int]:
        """Return before which moment nothing in an output partition is of interest, in milliseconds since 1970."""
        moments: dict[TopicPartitionKey, int] = {}
        for place, sources in wanted.items():
            each = []
            for source in sources:
                first_ms = self._sources[source].since_ms
                known = [one.message.timestamp()[1] - NEAR_MS for one in self._last[source].values()]
                each.append(max([*known, (first_ms or SKEW_MS) - SKEW_MS, 0]))
            moments[place] = min(each)
        return moments

    def _refused(self, topic: str, tails: Outputs) -> None:
        """Take in that a topic may not be read."""
        for place in [one for one in tails if one[0] == topic]:
            unknown = Unknown(f"its last answer cannot be looked for: no permission to READ {topic}", READ_CURE)
            self._unknown |= dict.fromkeys(tails.pop(place).wanted, unknown)

    def _first(self, place: TopicPartitionKey) -> First | Unknown:
        """Return behind which event a partition starts."""
        source = self._sources[place]
        best: tuple[int, Answered] | None = None
        for one in self._last[place].values():
            if one.origin is not None and (best is None or one.origin.offset > best[0]):
                best = one.origin.offset, one
        if best is not None:
            offset, one = best
            own = self._tag is not None and one.of(self._tag)
            return First(offset + 1, "answers", written_ms=None if own else one.message.timestamp()[1])
        passed = self._passed.get(place, -1)
        if 0 <= passed < source.low:  # what was answered last is removed, and nothing behind it has an answer
            return First(source.low, "answers")
        if place in self._uncovered:
            where = _named(self._uncovered[place])
            return Unknown(f"{where} no longer has all answers since the first event was written", GONE_CURE)
        if passed >= 0:
            note = f"the last answer is to offset {passed} of an earlier topic of this name: not used"
            return First(source.low, "earliest", note)
        return First(source.low, "earliest")

    def _same(self, place: TopicPartitionKey, one: Answered, events: Mapping[int, Message]) -> bool:
        """Whether an answer is about the event that has this offset now."""
        event = events.get(one.origin.offset) if one.origin is not None else None
        if event is None or event.key() != one.message.key():
            return False
        if one.letter:
            return event.value() == one.message.value()
        return self._answering.answers(place[0], event.value(), one.message.value())


READ_CURE = "grant READ on it, or say where to start: `muse-stream offsets set`, or `run --start earliest|latest`"
GONE_CURE = "say where to start: `muse-stream offsets set`, or `run --start earliest|latest`"


def _named(place: TopicPartitionKey) -> str:
    return f"{place[0]}[{place[1]}]"
