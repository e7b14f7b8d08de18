"""The worker loop: collect, score, send, hand over for committing.

Invariant: a batch's answers, dead letters and offsets are one transaction. Whatever goes wrong with Kafka ends in one
place, `_recover`: new producers (which end what the old ones left open), then back to the committed offsets. A fault
that follows the data is isolated by halving the batch until it stands alone; then it is a dead letter, or its topic
waits.

    run: _turn ... _turn          collect -> score -> begin -> send -> submit         (the last batch commits meanwhile)
           `- Abortable -> _recover                       Fatal -> out of the process; the supervisor starts another
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec.structs import replace

from muse_stream.errors import Abortable, Fatal, Fenced, Retriable, SchemaPending, StreamError
from muse_stream.kafka import Blocked, Deadline, Free, GroupConsumer, Message, TopicPartitionKey, Undelivered
from muse_stream.telemetry import BoundedLog, Log
from muse_stream.worker.backlog import Backlog
from muse_stream.worker.batch import Batch, Records, Scorer, Tally, raw_batch
from muse_stream.worker.commit import Committed, Committer, Pending
from muse_stream.worker.cures import SHOWN, About
from muse_stream.worker.dead_letter import refusals
from muse_stream.worker.failpoints import Failpoint, nothing
from muse_stream.worker.hanging_transactions import answered
from muse_stream.worker.id_pairs import IdPairs
from muse_stream.worker.isolate import RECORD_FAULTS, TOPIC_FAULTS, Isolation
from muse_stream.worker.latency import sample
from muse_stream.worker.linger import AdaptiveLinger
from muse_stream.worker.meter import Meter
from muse_stream.worker.pace import Pace
from muse_stream.worker.paused_topics import LONGEST_S, RETRY_S, PausedTopics, named
from muse_stream.worker.poison import Guard
from muse_stream.worker.progress import Accounts
from muse_stream.worker.readiness import Readiness
from muse_stream.worker.recovery import Recovery
from muse_stream.worker.send_records import send_records, written_to
from muse_stream.worker.stalled import Stalled
from muse_stream.worker.tracer import Tracer
from muse_stream.worker.unread import Unread

DRAIN_S = 8.0
SETTLE_S = 6.0
REOPEN_S = 30.0
REFUSED_RETRY_S = 30.0
"""A record whose dead letter is refused too: every retry aborts a batch of all tenants."""
HELD_RETRY_S = 60.0
LOST_RETRY_S = 60.0
"""Nobody can set a running group's offsets: to try again often would only disturb the other tenants."""
UNASSIGNED_S = 30.0
"""A rebalance waits 9 s at most, for the session of a dead member. After that another process takes the place: it is
better than a client that does not join again, and no worse where no broker answers."""
TOPICS_CHANGED = (
    "joins the group again, which gave it what its last process read. If it did not read other topics before: another"
    " fleet has this lane and --name; give each a `namespace` of its own"
)
NO_TENANTS = "no tenant belongs to this lane any more: it reads nothing until one does; the run may be stopped"
ELSEWHERE = (
    "another lane answers these tenants, and with a later generation (or this worker is behind); nothing of them is"
    " read here until it stands still. Do the workers of both lanes see the current generation?"
)
STALLED = (
    "another client reads what waits there, and this consumer does not: a topic was made anew and its leaders are not"
    " found, as a rule; the consumer is opened anew"
)
NO_LEADER = "LEADER_NOT_AVAILABLE"
FENCED_LIMIT, FENCED_WINDOW_S = 3, 60.0
"""An orphan and its restarted twin would fence each other forever (R8): after so many in a minute, one leaves."""


Late: TypeAlias = Mapping[str, frozenset[TopicPartitionKey]]
"""Event topic -> partitions of its outputs where records were not acknowledged in time."""


class Worker:
    """One worker slot. `run` returns after `stop`; `busy_since` tells a watchdog when it last went on."""

    def __init__(
        self,
        name: str,
        open_group_consumer: Callable[[Callable[[bool], None], Free], GroupConsumer],
        open_committer: Callable[[Callable[[Committed], None], int], Committer],
        ids: IdPairs,
        next_scorer: Callable[[], Scorer | None],
        recovery: Recovery,
        meter: Meter,
        log: Log,
        guard: Guard,
        backlog: Backlog,
        pace: Pace,
        about: About,
        failpoint: Failpoint = nothing,
        tracer: Tracer | None = None,
    ) -> None:
        self.name = name
        self.busy_since: float | None = None
        self._readiness = Readiness()
        self._open_committer, self._next_scorer, self._recovery = open_committer, next_scorer, recovery
        self._meter, self._log, self._failpoint, self._guard, self._tracer = meter, log, failpoint, guard, tracer
        self._fenced: list[float] = []
        self._stopping = threading.Event()
        self._scorer = _wanted(next_scorer())
        self._linger = AdaptiveLinger(self._scorer.limits.linger_s)
        self._isolation, self._pace = Isolation(self._scorer.limits.batch_events), pace
        pace.limit(self._scorer.limits.batch_events)
        # the group answers while the transactional ids are initialised; the first poll comes after both
        self._open_group_consumer, self._stalled = open_group_consumer, Stalled()
        self._group_consumer = self._join()
        self._ids = ids
        self._late_before = self._late_twice = frozenset[TopicPartitionKey]()
        self._about, self._cures = about, about.cures
        self._committer = self._opened()
        self._paused_topics = PausedTopics(lambda: self._committer.topics(5.0), log, self._cures, self._facts)
        for topic in guard.held:
            why = "worker processes died of many of its records; tried again later"
            self._paused_topics.pause(topic, why, HELD_RETRY_S, self._cures.deadly(self._tenants(topic)))
        unread, letters = Unread(log), BoundedLog(log.warning)
        self._accounts = Accounts(meter, backlog, self._paused_topics, self._readiness, unread, letters)
        self._awaited: dict[str, Callable[[], bool]] = {}  # event topic that waits for a schema -> is it known by now?
        self._committed: deque[Committed] = deque()
        self._moved = False
        """Whether partitions came or went: an event topic may have more of them than were counted."""

    @property
    def scorer(self) -> Scorer:
        """The generation that is served now."""
        return self._scorer

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ask the loop to end after the batch in hand; safe in a signal handler."""
        self._stopping.set()

    def why_unready(self) -> str:
        """Return why this worker does not do its work; empty when it does: assigned, and caught up or committing."""
        return "draining" if self._stopping.is_set() else self._readiness.why_not()

    def run(self, *, leave: Callable[[], bool] = lambda: False, serving: Callable[[], object] = lambda: None) -> None:
        """Work until `stop`, then commit what is in flight; leave the group at once if `leave()` says so.

        `serving` is called once: when the group has assigned something, be it no partition.
        """
        self._paused_topics.ids_blocked = self._ids.blocked
        self._review(at_once=True)
        self._begin()
        self._log.info("generation", number=self._scorer.number, before=None)
        self._meter.serving(self._scorer)
        told = False
        while not self._stopping.is_set():
            if not told and self._group_consumer.assigned:
                told = True
                serving()
            self._progress()
            self._swap()
            self._review()
            self._claim()
            self._return()
            self._account()
            self._accounts.count_doubtful(self._group_consumer)
            self._accounts.measure(self._group_consumer, self._scorer.topology)
            self._unstick()
            if self._pace.review():
                self._pause_topics()
            try:
                self._turn()
            except (Abortable, Retriable) as error:
                if self._committer.failure is not None or not self.stopping:
                    self._recover(error)
            except Fenced as error:
                self._tolerate(error)
                self._recover(error)
        self._close(leave())

    def _turn(self) -> None:
        self._committer.raise_failure()
        self._recovery.check()
        collected = self._group_consumer.collect(self._most, self._linger.seconds, self._hurry)
        if collected is None:
            return
        self._progress()
        messages, metadata = collected
        batch = raw_batch(messages)
        pending = self._pending(batch, messages, metadata)
        self._accounts.took(pending)
        self._failpoint("after-poll")
        try:
            self._answer(batch, messages, pending)
        except SchemaPending as error:
            self._await_schemas(error)
        except (Abortable, Retriable) as error:
            if self._committer.failure is None:
                self._blame(error, pending)
            raise

    def _answer(self, batch: Batch, messages: list[Message], pending: Pending) -> None:
        scorer, began, began_ns = self._scorer, time.monotonic(), time.time_ns()
        first, following = pending.first, pending.following
        answer = self._guard.score(scorer, batch, first, following, pending.attempt, self._progress)
        answer = self._isolation.reject(batch, answer, scorer.topology)
        scored = time.monotonic()
        self._meter.scored(len(batch), scored - began)
        traced = None
        if self._tracer is not None:
            which = {"generation": scorer.number, "attempt": pending.attempt, "began_ns": began_ns}
            traced = self._tracer.begin(batch, messages, answer, **which)
        producer = self._committer.begin()
        self._recovery.check()  # the last transaction of this producer may have been answered since
        written = self._written(batch, answer)
        begun = time.monotonic()
        send_records(
            producer,
            batch,
            answer,
            self._paused_topics.partitions,
            generation=scorer.number,
            attempt=pending.attempt,
            worker=self.name,
            traceparents=traced.traceparents if traced is not None else None,
        )
        self._failpoint("after-produce")
        stages = {**answer.stages, "wait": begun - scored, "send": time.monotonic() - begun}
        self._meter.stages(stages)
        if traced is not None:
            traced.stages(stages)
        sent, size = len(answer.rows) + len(answer.dead), sum(map(len, answer.values))
        tally = Tally.of(answer, scorer.book, refusals(batch, answer))
        sent_off = replace(pending, tally=tally, records=sent, size=size, traced=traced, written=written)
        self._committer.submit(self._accounts.submitted(sent_off))

    def _written(self, batch: Batch, answer: Records) -> frozenset[TopicPartitionKey]:
        """Return where an answer goes, if somebody needs to know (R18).

        What would be written where nobody can look whether a transaction of ours hangs is paused.
        """
        if not self._recovery.tracks_outputs:
            return frozenset()
        written = written_to(batch, answer, self._paused_topics.partitions)
        places = frozenset[TopicPartitionKey]().union(*written.values())
        unseen = self._recovery.look_at(places)
        if not unseen:
            return places
        for event_topic, its in written.items():
            if mine := unseen & its:
                self._paused_topics.pause_unwritable(event_topic, mine, f"{named(mine)}: no leader")
        raise Abortable(f"answers cannot be written to {named(unseen)}: no leader", code=NO_LEADER)

    def _await_schemas(self, error: SchemaPending) -> None:
        """Pause the topics whose records nobody can read yet, and go back: nothing was begun for this batch."""
        self._guard.put_back()
        for topic, why in error.topics.items():
            self._awaited[topic] = error.ready
            self._paused_topics.pause(topic, why, LONGEST_S, self._cures.schema())
        self._settle(False)
        self._group_consumer.rewind()
        self._review(at_once=True)

    @property
    def _most(self) -> int:
        return min(self._isolation.most, self._pace.most)

    def _hurry(self) -> bool:
        self._progress()
        return self._stopping.is_set()

    def _progress(self) -> None:
        self.busy_since = time.monotonic()

    def _pending(self, batch: Batch, messages: list[Message], metadata: Any) -> Pending:
        first, last = batch.edges()
        offsets = batch.offsets
        return Pending(
            {place: offsets[row] for place, row in first.items()},
            {place: offsets[row] + 1 for place, row in last.items()},
            metadata,
            self._recovery.attempts.next(self._committer.half),
            len(batch),
            self._group_consumer.signature,
            {
                place: (offsets[row], messages[row].timestamp()[1], messages[last[place]].timestamp()[1])
                for place, row in first.items()
            },
            sample=sample(messages),
        )

    def _on_committed(self, committed: Committed) -> None:
        self._committed.append(committed)  # from the committing thread; a deque may be filled and emptied by two
        self._recovery.committed(committed)

    def _account(self) -> None:
        """Take in what the committing thread has done since the last turn."""
        while self._committed:
            committed = self._committed.popleft()
            self._group_consumer.committed(committed.pending.following)
            self._linger.observe(committed.cost_s, committed.pending.events)
            self._isolation.committed(committed.pending)
            self._late_before = frozenset()
            self._pace.committed(committed)
            self._accounts.committed(committed)
            self._log.debug("committed", attempt=committed.pending.attempt, events=committed.pending.events)

    def _settle(self, lost: bool) -> None:
        """Leave nothing in flight (inside a rebalance callback, and before a rewind)."""
        if lost or not self._committer.drain(Deadline(SETTLE_S)):
            self._replace_committer("lost" if lost else "rebalance")
        self._account()
        self._isolation.release()
        self._moved = True

    def _recover(self, error: StreamError) -> None:
        failure = self._committer.failure
        self._log.warning("aborted", error=str(error), code=error.code, attempt=failure[1].attempt if failure else None)
        late: Late = {}
        if failure is not None:
            self._blame(*failure)  # not `error`: that may be a later batch's
            late = self._late(*failure)
        self._replace_committer(error.code or "unknown", late)
        self._pause_late(late, blocked=False)
        if failure is not None and not frozenset().union(*late.values()) & self._paused_topics.unwritable:
            self._pace.late(*failure)
        cause = failure[0] if failure is not None else error
        if not late and cause.code not in RECORD_FAULTS | TOPIC_FAULTS:
            self._pace.failed(cause)
        self._account()
        self._paused_topics.review(self._scorer.topology, at_once=bool(late) or error.code in TOPIC_FAULTS)
        self._progress()
        if not self.stopping:
            self._group_consumer.rewind()
            self._pace.review()
            self._pause_topics()

    def _replace_committer(self, code: str, late: Late | None = None) -> None:
        self._accounts.given_up(code)
        self._reopen(late)

    def _reopen(self, late: Late | None = None) -> None:
        """Open new producers; `late` are partitions that may be why the old ones' transaction cannot be ended."""
        self._committer.close()
        for last in Deadline(REOPEN_S).tries():
            self._progress()
            try:
                self._committer = self._opened(late)
                self._begin()
                return
            except Retriable as error:
                self._committer.close()
                self._log.warning("reopening", error=str(error))
                if last or self._stopping.is_set():
                    raise Fatal(f"no transactional producer within {REOPEN_S:g} s: {error}", code=error.code) from error

    def _opened(self, late: Late | None = None) -> Committer:
        while True:
            try:
                return self._open_committer(self._on_committed, self._isolation.batch_bytes)
            except Blocked as error:
                self._ids.next(error)
                self._progress()
                self._pause_late(late or {}, blocked=True)

    def _begin(self) -> None:
        """Have the producers, just opened, end what hangs under their ids."""
        self._paused_topics.ids_blocked = self._ids.blocked
        self._recovery.unwritable = self._paused_topics.unwritable
        self._recovery.hold(self._ids.holder, self._ids.others)
        self._recovery.begin(self._committer.producers, self._scorer, self._paused_topics.partitions)

    def _return(self) -> None:
        """Go back to the first pair of ids once it is free: whoever takes this slot over begins with it."""
        if self._ids.free():
            self._settle(False)
            self._reopen()
            self._review(at_once=True)

    def _late(self, error: StreamError, failed: Pending) -> Late:
        """Say which event topics' answers were not acknowledged in time, and where; pause those that nobody leads.

        Where all records of several tenants are late nobody can say whose fault it is: no broker answered, or an older
        transaction was still being ended. What is late twice in a row is to blame.
        """
        if not isinstance(error, Undelivered) or error.code != "_TIMED_OUT" or self._pace.throttled:
            return {}
        sources = self._sources(error, failed)
        leaderless, again = self._paused_topics.leaderless(), error.places & self._late_before
        self._late_before, self._late_twice = error.places, again
        for event_topic, places in sources.items():
            if unled := places & leaderless:
                self._paused_topics.pause_unwritable(event_topic, unled, f"{named(unled)}: no leader")
        told = len(error.records) < failed.records or len(sources) == 1
        return {topic: places if told else places & again for topic, places in sources.items()}

    def _pause_late(self, late: Late, *, blocked: bool) -> None:
        """Pause whose records were late, when their transaction cannot be ended for it, or it is so again and again."""
        for event_topic, places in late.items():
            if not places or places & self._paused_topics.unwritable:
                continue  # nobody's fault, or said already
            if blocked:
                why = "records are not acknowledged, and a transaction cannot be ended (too few in-sync replicas?)"
                self._paused_topics.pause_unwritable(event_topic, places, f"{named(places)}: {why}")
            elif places & self._late_twice:
                self._paused_topics.pause(event_topic, f"{named(places)}: records are not acknowledged in time")

    def _sources(self, error: Undelivered, failed: Pending) -> Late:
        """Return event topic -> partitions of its answers that were not written."""
        by_place: dict[TopicPartitionKey, list[Message]] = {}
        for record in error.records:
            by_place.setdefault((record.topic() or "", record.partition() or 0), []).append(record)
        sources: dict[str, set[TopicPartitionKey]] = {}
        for place, records in by_place.items():
            for one in answered(place, records, self._scorer.origins):
                # reports come without headers, which is where a dead letter says what it is about
                for topic in [one.origin.topic] if one.origin else self._lettered(place[0], failed):
                    sources.setdefault(topic, set()).add(place)
        return {topic: frozenset(places) for topic, places in sources.items()}

    def _lettered(self, dead_letters: str, failed: Pending) -> list[str]:
        """Return the event topics of a batch that had dead letters for this topic."""
        topology = self._scorer.topology
        tenants = {tenant for tenant, _reason in failed.tally.letters} if failed.tally else set()
        return [
            topic
            for topic in {topic for topic, _ in failed.first}
            if dead_letters in topology.outputs.get(topic, ())
            and (None in tenants or tenants.intersection(topology.tenants.get(topic, ())))
        ]

    def _free_offsets(self, places: Sequence[TopicPartitionKey]) -> None:
        """End a transaction of ours that hides the group's offsets (inside a rebalance callback, and in a rewind)."""
        try:
            if self._committer.drain(Deadline(SETTLE_S)):
                self._recovery.free_offsets(places, self._committer.producers)
        except StreamError as error:  # the look-up goes on asking for the offsets
            self._log.warning("offsets_hidden", error=str(error))

    def _blame(self, error: StreamError, failed: Pending) -> None:
        values = [record.value() for record in error.records] if isinstance(error, Undelivered) else []
        origins = self._scorer.origins(values) if error.code in RECORD_FAULTS and values else []
        for event_topic in self._isolation.suspect(error, failed, self._scorer.topology, origins):
            again_s = RETRY_S if error.code in TOPIC_FAULTS else REFUSED_RETRY_S
            cure = self._cures.refused(self._tenants(event_topic))
            self._paused_topics.pause(event_topic, self._isolation.why(error), again_s, cure)

    def _tolerate(self, error: Fenced) -> None:
        """Being fenced is survived a few times: a transaction that timed out looks the same."""
        now = time.monotonic()
        self._fenced = [*(at for at in self._fenced if now - at < FENCED_WINDOW_S), now]
        if len(self._fenced) >= FENCED_LIMIT:
            raise Fatal(
                f"fenced {FENCED_LIMIT} times within {FENCED_WINDOW_S:g} s: another run with this --name, if no broker "
                f"was restarted meanwhile; {error}",
                code=error.code,
            )

    def _swap(self) -> None:
        scorer = self._next_scorer()
        if scorer is None:
            return
        if moved := self._scorer.topology.outputs.keys() & scorer.topology.elsewhere.keys():
            self._let_go(moved, released=True)
        began = time.monotonic()
        before, self._scorer = self._scorer, scorer
        self._group_consumer.generation = scorer.number
        self._log.info("generation", number=scorer.number, before=before.number)
        if not scorer.topology.outputs:
            self._log.warning("no_tenants", generation=scorer.number, hint=NO_TENANTS)
        self._meter.serving(scorer)
        self._linger.floor(scorer.limits.linger_s)
        self._isolation.limit(scorer.limits.batch_events)
        self._pace.limit(scorer.limits.batch_events)
        if scorer.topology != before.topology:
            self._review(at_once=True)
            self._recovery.cover(scorer, self._paused_topics.partitions)
            self._group_consumer.subscribe(scorer.topology.outputs)
        self._meter.swapped(time.monotonic() - began)

    def _review(self, *, at_once: bool = False) -> None:
        lost = bool(self._group_consumer.lost_offsets)
        for topic in self._group_consumer.lost_offsets:
            why = f"the offset that group {self._about.group} has committed is no longer in the topic"
            self._paused_topics.pause(topic, why, LOST_RETRY_S, self._cures.lost(self._tenants(topic)))
            at_once = True
        self._group_consumer.lost_offsets.clear()
        for (topic, partition), unknown in self._group_consumer.unknown_starts.items():
            if unknown.cure and topic not in self._paused_topics.paused_now:
                why = f"group {self._about.group} has committed nothing of partition {partition}: {unknown.why}"
                cure = self._cures.unknown_start(self._tenants(topic), unknown.cure)
                self._paused_topics.pause(topic, why, RETRY_S, cure)
                at_once = True
        for topic in self._group_consumer.restarted:
            self._paused_topics.retry(topic)
        self._group_consumer.restarted.clear()
        for topic in [topic for topic, ready in self._awaited.items() if ready()]:
            del self._awaited[topic]
            self._paused_topics.retry(topic)
        at_once, self._moved = at_once or self._moved, False
        if self._paused_topics.review(self._scorer.topology, at_once=at_once):
            self._pause_topics()
        if lost:  # it may be gone with its topic, which was made anew: then nothing is committed any more
            self._settle(False)
            self._group_consumer.rewind()
        if unmarked := self._paused_topics.paused_now - self._group_consumer.marked:
            self._let_go(unmarked, released=False)
        unwritable = self._paused_topics.unwritable
        if self._recovery.unwritable - unwritable:
            self._recovery.look_again()  # what may hang there can be seen now
        self._recovery.unwritable = unwritable

    def _claim(self) -> None:
        """Have the group assign again when partitions are with nobody; leave when it assigns nothing to this member.

        Go to offsets that somebody else has set.
        """
        taken = self._group_consumer.taken_since
        if taken is not None and time.monotonic() - taken > UNASSIGNED_S:
            raise Fatal(f"the group took partitions {UNASSIGNED_S:g} s ago and has assigned nothing since")
        if self._group_consumer.outdated:
            self._log.info("topics_changed", group=self._about.group, hint=TOPICS_CHANGED)
            self._settle(False)
            self._group_consumer.rejoin()
            return
        if news := self._recovery.ownership.news(self._group_consumer.unknown_starts):
            self._settle(False)
            self._group_consumer.take_set(news)
            for topic in {topic for topic, _ in news}:
                self._paused_topics.retry(topic)
            self._log.info("offsets_taken", partitions=[f"{t}[{p}]" for t, p in sorted(news)][:SHOWN], of=len(news))
        if others := self._group_consumer.worked_on():
            self._settle(False)
            self._group_consumer.give_way(others)
            names = [f"{topic}[{partition}]" for topic, partition in sorted(others)]
            groups = sorted(set(others.values()))
            self._log.warning("answered_elsewhere", partitions=names[:SHOWN], of=len(names), by=groups, hint=ELSEWHERE)
        unowned = self._recovery.ownership.unowned(self._group_consumer.held)
        if unowned:
            names = [f"{topic}[{partition}]" for topic, partition in sorted(unowned)]
            self._log.warning("partitions_unowned", partitions=names, hint="joins the group again")
            self._settle(False)
            self._group_consumer.rejoin()

    def _join(self) -> GroupConsumer:
        consumer = self._open_group_consumer(self._settle, self._free_offsets)
        consumer.generation = self._scorer.number
        consumer.subscribe(self._scorer.topology.outputs)
        return consumer

    def _unstick(self) -> None:
        """Open the consumer anew when it reads nothing of partitions where another client finds records (R25)."""
        if self._pace.reading.left_s:
            return
        if stalled := self._stalled.found(self._accounts.unread(), self._group_consumer.empty_s):
            names = [f"{topic}[{partition}]" for topic, partition in stalled]
            self._log.warning("reading_stalled", partitions=names[:SHOWN], of=len(names), hint=STALLED)
            self._settle(False)
            self._group_consumer.close()
            self._group_consumer = self._join()
            self._pause_topics()

    def _pause_topics(self) -> None:
        held = frozenset(self._scorer.topology.outputs) if self._pace.held_back else self._paused_topics.paused_now
        self._group_consumer.pause(held)
        self._isolation.forget(self._paused_topics.paused_now)

    def _let_go(self, topics: Iterable[str], *, released: bool) -> None:
        """Commit what is in flight, then note beside the offsets of these topics that this group does not read them.

        When it cannot be committed now nothing is noted.
        """
        drained = self._committer.drain(Deadline(SETTLE_S))
        self._account()
        if drained:
            self._group_consumer.let_go(topics, released=released)

    def _tenants(self, event_topic: str) -> tuple[str, ...]:
        return self._scorer.topology.tenants.get(event_topic, ())

    def _facts(self, event_topic: str) -> dict[str, Any]:
        """What is said of a paused topic beside the reason."""
        offsets = self._about.offsets(event_topic, self._group_consumer.positions())
        return {"tenants": self._tenants(event_topic)[:SHOWN], "group": self._about.group, "offsets": offsets}

    def _close(self, leave: bool) -> None:
        drained = self._committer.drain(Deadline(DRAIN_S))
        self._account()
        self._log.info("stopped", drained=drained, leave=leave)
        if leave:
            self._group_consumer.leave()
        self._ids.close()
        self._recovery.close()
        self._group_consumer.close()
        self._committer.close()
        self._accounts.close()


def _wanted(scorer: Scorer | None) -> Scorer:
    if scorer is None:
        raise Fatal("no generation to serve")
    return scorer
