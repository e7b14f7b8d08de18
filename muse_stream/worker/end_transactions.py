"""How a transaction is ended that a broker has left open (docs/exactly-once.md, R18).

Takes the freshly initialised producers of a slot, and the partitions where something is undecided. Afterwards no
transaction of that slot hangs there any more, nor in the group's offsets; every answer that must appear does, once.

  - A hanging transaction is ended by an aborted transaction of the same producer over the same partitions.
  - What had been committed elsewhere must not be lost by that: such answers are first written again by a producer that
    is used for nothing else. Until the abort nobody sees the copies, so a crash at any point leaves a state from which
    the next run does the rest: an answer whose copy stands there is not copied again.
  - The outcome is read from what readers see (answers of the same attempt, committed offsets), never guessed; where
    nobody has seen anything of a transaction, it counts as aborted.
  - Behind a hanging transaction nobody sees whether earlier copies were committed. So once it is ended it is looked
    which answers readers see there, and what they do not see is written again.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from muse_stream.errors import Retriable, StreamError
from muse_stream.kafka import Deadline, End, Ends, Records, TopicPartitionKey, TransactionalProducer
from muse_stream.telemetry import Log
from muse_stream.worker import attempts
from muse_stream.worker.batch import Scorer
from muse_stream.worker.commit import Pending
from muse_stream.worker.hanging_transactions import COPIED_BY, Answered, answered, hung, kept
from muse_stream.worker.meter import Meter

END_S = 6.0
STABLE_S, RESOLVED_S = 0.5, 3.0
"""How long the group's offsets may be hidden before they count as hanging, and how long they may take afterwards."""
LATEST = 10_000
"""How far back the last visible answers to an event partition are looked for."""
EARLIER_MS = 60_000
"""How much clocks of two workers may differ."""
NEAR_MS = 10_000
"""Longer than a transaction takes from its first record to its last."""
SURE_S = 0.2
AGAIN_S = 0.05
COPIERS = (2, 3)
"""Producers for copies only; the second writes those that the first left hanging."""

Counts = Callable[[str], int]
"""Topic -> partitions, 0 when unknown."""
Tails = dict[TopicPartitionKey, list[Answered]]
Owed = dict[TopicPartitionKey, dict[tuple[str, int, int], Answered]]
"""Partition -> event -> its answer, which readers must see there and may not."""


class Tools(Struct, frozen=True):
    """What a run works with."""

    ends: Ends
    scorer: Scorer
    counts: Counts
    meter: Meter
    log: Log


class Ending:
    """One run for one slot: `owner` is its tag in attempts, `known` the transactions it was told are committed.

    `owed` is what an earlier run has left, and what this one leaves when it fails.
    """

    def __init__(
        self,
        tools: Tools,
        owner: int,
        producers: Sequence[TransactionalProducer],
        open_producer: Callable[[int], TransactionalProducer],
        known: Sequence[Pending],
        owed: Owed,
    ) -> None:
        self._tools, self._owner, self._open_producer, self._known = tools, owner, open_producer, known
        self._owed = owed
        self._ends, self._scorer, self._counts = tools.ends, tools.scorer, tools.counts
        self._producers: dict[int, TransactionalProducer] = dict(enumerate(producers))

    def __enter__(self) -> "Ending":
        return self

    def __exit__(self, *_: object) -> None:
        for half in COPIERS:
            if half in self._producers:
                self._producers.pop(half).discard()

    def run(self, looking: dict[TopicPartitionKey, End]) -> set[TopicPartitionKey]:
        """End what hangs there, and have every answer seen that must be.

        Returns partitions that have lost their leader meanwhile: what hangs there is not known.
        """
        unseen = self._end_all(looking)
        for last in Deadline(END_S).tries(AGAIN_S):
            if last or not self._write_owed():
                break
            unseen |= self._end_all(self._ends.wait_decided(self._owed, SURE_S)[1])
        return unseen

    def _write_owed(self) -> bool:
        """Look which owed answers readers see; write those again that they do not. Says whether there were any."""
        if not self._owed:
            return False
        seen, waiting = self._ends.wait_decided(self._owed, SURE_S)
        ends = self._ends.look(seen - waiting.keys())
        first = {p: min(one.message.offset() or 0 for one in owed.values()) for p, owed in self._owed.items()}
        for place in [place for place, end in ends.items() if end.stable <= first[place]]:  # another topic by now
            self._tools.log.error("answers_missing", topic=place[0], partition=place[1], records=len(self._owed[place]))
            self._owed.pop(place)
            ends.pop(place)
        spans = {place: (first[place], end.stable) for place, end in ends.items()}
        missing: list[Answered] = []
        for place, messages in self._ends.between(spans).items():
            for one in answered(place, messages, self._scorer.origins):
                if one.origin is not None:
                    self._owed[place].pop(one.origin.event, None)
            if not self._owed[place]:
                del self._owed[place]
                continue
            topic, partition = place
            lost = [self._owed[place][event] for event in sorted(self._owed[place])]
            self._tools.log.warning("answers_written_again", topic=topic, partition=partition, records=len(lost))
            missing += lost
        if missing:
            self._copy(COPIERS[0], missing)
        return bool(missing)

    def _end_all(self, looking: dict[TopicPartitionKey, End]) -> set[TopicPartitionKey]:
        """End one producer's transactions after the other's, as they come to stand at a last stable offset.

        Behind another slot's transaction nobody can tell whether one of ours hangs: that is waited for a little.
        Returns partitions that have lost their leader meanwhile.
        """
        deadline = Deadline(END_S)
        ended: set[tuple[TopicPartitionKey, int]] = set()
        unseen: set[TopicPartitionKey] = set()
        while looking:
            tails = self._tails(looking)
            mine = {place: records for place, tail in tails.items() if (records := hung(tail, self._owner))}
            ours = {(one.place, one.half) for tail in tails.values() for one in tail if one.of(self._owner)}
            if not mine and ours <= ended:
                break
            if deadline.over:
                self._give_up(mine, looking)
                break
            if mine:
                half = next(iter(mine.values()))[0].half
                chosen = {place: records for place, records in mine.items() if records[0].half == half}
                if half in COPIERS and half not in self._producers:
                    self._producer(half)  # once it is initialised, what it still has open hangs
                elif self._end(half, chosen, tails):
                    ended |= {(place, half) for place in chosen}
            seen, waiting = self._ends.wait_decided(looking, SURE_S)
            unseen |= looking.keys() - seen
            looking = waiting
        return unseen

    def _give_up(self, mine: Tails, looking: Mapping[TopicPartitionKey, End]) -> None:
        if mine:
            raise Retriable(f"transactions of this slot still hang, e.g. at {next(iter(mine))}")
        self._tools.log.warning("transactions_undecided", partitions=[f"{topic}[{n}]" for topic, n in looking])

    def _tails(self, looking: Mapping[TopicPartitionKey, End]) -> Tails:
        found = self._ends.undecided(looking)
        return {place: answered(place, tail, self._scorer.origins) for place, tail in found.items()}

    def _end(self, half: int, mine: Tails, tails: Tails) -> bool:
        ours = [one for tail in tails.values() for one in tail if one.of(self._owner)]
        committed = self._committed({(o.topic, o.partition) for one in ours if (o := one.origin)}, ours)
        keep: list[Answered] = []
        for place, records in mine.items():
            if candidates := kept(records, committed, ()):
                hanging = {one.message.offset() for one in records}
                others = (one for one in tails[place] if one.message.offset() not in hanging)
                since = {one.origin.event for one in others if one.origin}
                elsewhere = self._answered_elsewhere(place, candidates)
                keep += kept(records, committed, since | elsewhere)
                if owed := {one.origin.event: one for one in kept(records, committed, elsewhere) if one.origin}:
                    self._owed[place] = self._owed.get(place, {}) | owed
        if keep:
            if not self._still(mine):
                return False
            self._copy(next(copier for copier in COPIERS if copier != half), keep)
        self._abort(half, [(place, records[0].message.key()) for place, records in mine.items()])
        for (topic, partition), records in mine.items():
            copied = sum(one.place == (topic, partition) for one in keep)
            self._tools.meter.hanging_ended(len(records), copied)
            self._tools.log.warning(
                "transaction_ended",
                topic=topic,
                partition=partition,
                offset=records[0].message.offset(),
                records=len(records),
                copied=copied,
                producer=half,
            )
        return True

    def _still(self, mine: Tails) -> bool:
        """Whether these still hang after a moment: to copy what becomes visible by itself would double it."""
        looking = self._ends.wait_decided(list(mine), SURE_S)[1]
        return all(p in looking and looking[p].stable == records[0].message.offset() for p, records in mine.items())

    def _answered_elsewhere(
        self, place: TopicPartitionKey, candidates: Sequence[Answered]
    ) -> set[tuple[str, int, int]]:
        """Events whose answer is seen in another output topic: a dead letter, say, where this attempt had a score."""
        topics = {one.origin.topic for one in candidates if one.origin}
        siblings = {other for topic in topics for other in self._scorer.topology.outputs.get(topic, ())} - {place[0]}
        ends = self._ends.look((topic, n) for topic in siblings for n in range(self._counts(topic)))
        moment = min(one.message.timestamp()[1] for one in candidates) - EARLIER_MS
        return {one.origin.event for one in self._answered(self._ends.since(ends, moment)) if one.origin}

    def _committed(
        self, sources: Collection[TopicPartitionKey], records: Sequence[Answered]
    ) -> dict[TopicPartitionKey, int]:
        found = self._ends.group_offsets(sources, STABLE_S)
        if found is None:
            self.free_offsets(frozenset(sources), records)
            found = self._ends.group_offsets(sources, RESOLVED_S)
        if found is None:
            raise Retriable(f"the group's offsets stay hidden behind an open transaction: {next(iter(sources))}")
        return found

    def free_offsets(self, partitions: frozenset[TopicPartitionKey], records: Sequence[Answered]) -> None:
        """Commit or abort the offsets that this slot's producers have left pending.

        Committed are those of transactions that somebody has seen committed, and with the very offsets they had:
        where two decide over one partition, the one with the later attempt comes last and holds.
        """
        last = self._ends.group_offsets(partitions, RESOLVED_S, stable=False)
        if last is None:
            raise Retriable("the group's offsets cannot be read")
        done = self._done(last, records)
        latest = {half: max((a for a in done if attempts.half_of(a) == half), default=0) for half in (0, 1)}
        for half in sorted(latest, key=lambda one: latest[one]):
            offsets: dict[TopicPartitionKey, int] = {}
            for attempt in sorted(done):
                if attempts.half_of(attempt) == half:
                    offsets |= done[attempt]
            self._end_offsets(half, offsets or dict([next(iter(last.items()))]), commit=bool(offsets))
        self._tools.log.warning("offsets_ended", partitions=len(partitions), committed=sum(map(len, done.values())))

    def _done(
        self, last: Mapping[TopicPartitionKey, int], records: Sequence[Answered]
    ) -> dict[int, dict[TopicPartitionKey, int]]:
        """Return attempt -> following offsets of this slot's transactions that are committed, but for these offsets."""
        done: dict[int, dict[TopicPartitionKey, int]] = {}
        for pending in self._known:
            ahead = {place: end for place, end in pending.following.items() if end > last.get(place, end)}
            if ahead:
                done[pending.attempt] = ahead
        near = [one for one in self._visible(last) if _ahead(one, last) and one.of(self._owner)]
        hanging = {one.origin.attempt for one in records if one.origin}
        same = [one for one in self._visible_since(records) if one.origin and one.origin.attempt in hanging]
        sure = {one.origin.attempt for one in [*near, *same] if one.origin} | done.keys()
        for one in [*near, *same, *records]:
            if (origin := one.origin) and origin.attempt in sure and _ahead(one, last):
                ends = done.setdefault(origin.attempt, {})
                place = origin.topic, origin.partition
                ends[place] = max(origin.offset + 1, ends.get(place, 0))
        return done

    def _visible(self, sources: Iterable[TopicPartitionKey]) -> list[Answered]:
        """Return the last visible answers on all partitions that may hold answers to events of these."""
        places = places_for(self._scorer, self._counts, sources)
        return self._answered(self._ends.latest(self._ends.look(places), LATEST))

    def _visible_since(self, records: Sequence[Answered]) -> list[Answered]:
        """Return what is visible anywhere and was written at about the time of these records, or later."""
        if not records:
            return []
        moment = min(one.message.timestamp()[1] for one in records) - NEAR_MS
        return self._answered(self._ends.since(self._ends.look(output_places(self._scorer, self._counts)), moment))

    def _answered(self, found: Records) -> list[Answered]:
        return [one for at, messages in found.items() for one in answered(at, messages, self._scorer.origins)]

    def _end_offsets(self, half: int, offsets: Mapping[TopicPartitionKey, int], *, commit: bool) -> None:
        def act(producer: TransactionalProducer, deadline: Deadline) -> None:
            producer.send_offsets(offsets, self._ends.metadata(), deadline)

        self._transaction(half, act, commit=commit)

    def _copy(self, half: int, records: Sequence[Answered]) -> None:
        def act(producer: TransactionalProducer, deadline: Deadline) -> None:
            for one in records:
                headers: list[Any] = [*(one.message.headers() or []), (COPIED_BY, str(half).encode())]
                topic, partition = one.place
                producer.produce(topic, one.message.value(), one.message.key(), partition, headers=headers)
            producer.flush(deadline)

        self._transaction(half, act, commit=True)

    def _abort(self, half: int, places: Sequence[tuple[TopicPartitionKey, Any]]) -> None:
        def act(producer: TransactionalProducer, deadline: Deadline) -> None:
            for (topic, partition), key in places:
                producer.produce(topic, None, key, partition)  # a compacted topic refuses a record without a key
            producer.flush(deadline)

        self._transaction(half, act, commit=False)

    def _transaction(self, half: int, act: Callable[[TransactionalProducer, Deadline], None], *, commit: bool) -> None:
        producer, deadline = self._producer(half), Deadline(END_S)
        try:
            producer.begin()
            act(producer, deadline)
            (producer.commit if commit else producer.abort)(deadline)
        except Retriable:
            raise
        except StreamError as error:
            raise Retriable(f"a hanging transaction could not be ended: {error}", code=error.code) from error

    def _producer(self, half: int) -> TransactionalProducer:
        if half not in self._producers:
            self._producers[half] = self._open_producer(half)
        return self._producers[half]


def output_places(scorer: Scorer, counts: Counts) -> list[TopicPartitionKey]:
    """Return all partitions that a scorer's answers may go to."""
    topics = {topic for outputs in scorer.topology.outputs.values() for topic in outputs}
    return [(topic, partition) for topic in sorted(topics) for partition in range(counts(topic))]


def places_for(scorer: Scorer, counts: Counts, sources: Iterable[TopicPartitionKey]) -> set[TopicPartitionKey]:
    """Return all partitions that may hold answers to events of these."""
    places: set[TopicPartitionKey] = set()
    for topic, partition in sources:
        for output in scorer.topology.outputs.get(topic, ()):
            count = counts(output)
            places |= {(output, partition)} if count == counts(topic) else {(output, n) for n in range(count)}
    return places


def _ahead(one: Answered, last: Mapping[TopicPartitionKey, int]) -> bool:
    origin = one.origin
    return origin is not None and origin.offset >= last.get((origin.topic, origin.partition), origin.offset + 1)
