"""The independent auditor: did every event get exactly one answer?

Takes what to verify (`Target`s) and functions that decode events and scores (this room knows no Avro). Returns one
`Report` a target, with every broken promise counted (`compare` says which there are).

It shares nothing with the workers but the topics. It reads all partitions from the first offset, or from where a `Span`
says, without a group, and sees committed records only. Ends are fixed before reading: first what the group has
committed (if asked), then the answers, so that every answer that must be there is looked for. An output partition whose
end is not stable yet (a transaction is open) is waited for; if it stays so, that is a finding: nobody can read what is
behind it. So it is when an open transaction hides the group's offsets.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from muse_stream.config import Document, KafkaSettings
from muse_stream.errors import StreamError
from muse_stream.kafka import Block, Bounds, Consumer, Reading, bounds, committed, reader
from muse_stream.verify import advice
from muse_stream.verify.audit import AuditReport, LiveScoreLog, compare_audit
from muse_stream.verify.collect import AnswerLog, AuditDecoder, Codes, EventDecoder, EventLog, ScoreDecoder
from muse_stream.verify.compare import Finding, SeenAnswers, Tally, count_removed, current, judge
from muse_stream.verify.removed import NEVER, Lost
from muse_stream.verify.span import Span

SETTLE_S = 20.0
"""How long a partition may stay unstable: a worker's transaction timeout, and the broker's next look at it."""
Progress = Callable[[str, int, int], object]
"""Called with a topic, the records read, the records there (at most: offsets are not dense)."""


@dataclass(frozen=True, slots=True)
class Target:
    """One event topic with all the tenants on it, and which output topics may hold their answers.

    `scores` maps a topic to the tenants whose scores belong there, `dead` to the event topics whose letters do: over
    the whole configuration, since outputs may be shared.
    """

    topic: str
    tenants: tuple[str, ...]
    scores: Mapping[str, frozenset[str]]
    dead: Mapping[str, frozenset[str]]
    homes: Mapping[str, str]
    """Tenant -> its event topic, over the whole configuration."""
    audit: tuple[str, ...] = ()
    """Audit topics with records of its events."""


@dataclass(frozen=True, slots=True)
class Decoders:
    """How to read the records: events by event topic, scores alike everywhere."""

    events: Mapping[str, EventDecoder]
    scores: ScoreDecoder
    audit: AuditDecoder | None = None
    """None: audit records are not looked at."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found for one target."""

    topic: str
    tenants: tuple[str, ...]
    events: int
    scores: int
    dead_letters: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    audit: AuditReport | None = None
    """How the audit records agree with the published scores; None where none were looked at."""
    topic_id: str | None = None
    """The event topic's id: another one after it was deleted and created again."""
    judged_from: Mapping[int, int] = field(default_factory=dict)
    """Partition -> first offset that was judged."""
    older_answers: int = 0
    """Answers to an older incarnation of the event topic: not judged."""
    moved_answers: int = 0
    """Answers of its tenants to another event topic, which no tenant has now: not judged."""
    unjudged: int = 0
    """Events without an answer whose answer may be gone: not judged."""

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return not self.findings


def targets(document: Document, tenants: Sequence[str] | None = None) -> tuple[Target, ...]:
    """Return what to verify for these tenants (all by default); a shared event topic is verified whole."""
    topics = {name: document.tenant_topics(name) for name in document.tenants}
    unknown = {name: document.unknown_topic(tenant.lane) for name, tenant in document.tenants.items()}
    chosen = dict.fromkeys(topics[name].events for name in (tenants if tenants is not None else document.tenants))
    found: list[Target] = []
    for events in chosen:
        members = tuple(name for name in topics if topics[name].events == events)
        scores = dict.fromkeys(topics[name].scores for name in members)
        dead = dict.fromkeys(place for name in members for place in (topics[name].dlq, unknown[name]))
        found.append(
            Target(
                events,
                members,
                {place: frozenset(name for name in topics if topics[name].scores == place) for place in scores},
                {
                    place: frozenset(
                        topics[name].events for name in topics if place in (topics[name].dlq, unknown[name])
                    )
                    for place in dead
                },
                {name: topics[name].events for name in topics},
                tuple(dict.fromkeys(topics[name].audit for name in members)) if _has_shadows(document) else (),
            )
        )
    return tuple(found)


def _has_shadows(document: Document) -> bool:
    return any(route.shadow for route in document.routes)


@dataclass(slots=True)
class _Seen:
    """What one run has read."""

    answers: AnswerLog
    codes: Codes
    bounds: dict[str, dict[int, Bounds]]
    """What event topics hold."""
    spans: dict[str, dict[int, Bounds]]
    """What of it is judged."""
    outputs: dict[str, dict[int, Bounds]] = field(default_factory=dict)
    """What output topics hold."""
    cut: set[tuple[str, int]] = field(default_factory=set)
    """Partitions of output topics whose beginning was left out, though it is there."""
    ends: dict[str, dict[int, int]] = field(default_factory=dict)
    """Where event topics end after everything was read, open transactions included."""
    events: dict[str, EventLog] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Topic -> what a person should know about the reading of it."""
    hanging: dict[str, Tally] = field(default_factory=dict)
    """Topic -> its partitions that stand still."""
    published: LiveScoreLog = field(default_factory=LiveScoreLog)
    computed: LiveScoreLog = field(default_factory=LiveScoreLog)
    """By shadow workers."""


@dataclass(frozen=True, slots=True)
class Known:
    """What only a look at the topics' settings tells; nothing of it is needed."""

    compacted: frozenset[str] = frozenset()
    """Topics that may have lost records whose key came again."""
    retention_ms: Mapping[str, int] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
    """Topics whose settings this principal may not read."""


class Verification:
    """One look at the topics of some targets; use once.

    `group` bounds the look by the offsets that group has committed; None looks at every event there is.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        decoders: Decoders,
        *,
        group: str | None = None,
        known: Known | None = None,
        span: Span | None = None,
        settle_s: float = SETTLE_S,
        progress: Progress = lambda _topic, _done, _total: None,
    ) -> None:
        self._settings = settings
        self._decoders = decoders
        self._group = group
        self._known = known or Known()
        self._span = span or Span()
        self._settle_s = settle_s
        self._progress = progress

    def run(self, wanted: Sequence[Target]) -> list[Report]:
        """Read everything once and judge each target; raises `StreamError` when Kafka does not answer."""
        topics = [target.topic for target in wanted]
        client = reader(self._settings)
        unstable = reader(self._settings, **{"isolation.level": "read_uncommitted"})
        try:
            held = {topic: bounds(client, topic) for topic in topics}
            ends, hidden = self._committed(held)
            codes = Codes()
            homes = {name: topic for target in wanted for name, topic in target.homes.items()}
            spans = {topic: self._span.events(client, topic, one) for topic, one in held.items()}
            seen = _Seen(AnswerLog(topics, homes, codes), codes, held, spans)
            for topic, partition in sorted(hidden):
                self._hang(seen, topic, f"group {self._group}, offset of {topic}[{partition}]")
            # What was committed before we look stands below the unstable end, even behind another's transaction.
            names = dict.fromkeys(name for target in wanted for name in (*target.scores, *target.dead))
            seen.outputs = {name: bounds(unstable, name) for name in names}
            for topic in topics:
                self._upstream(unstable, topic, seen)
                self._events(client, topic, seen)
            for name, owners in _merged(target.scores for target in wanted).items():
                for block in self._blocks(client, name, self._wanted(client, name, seen), seen):
                    keys = self._decoders.scores(block)
                    seen.answers.note_beginning(block)
                    seen.answers.scores(block, keys, owners)
                    if keys.live is not None:
                        seen.published.add(keys.live, np.array(block.timestamps(), dtype=np.int64))
            for name, sources in _merged(target.dead for target in wanted).items():
                for block in self._blocks(client, name, self._wanted(client, name, seen), seen):
                    seen.answers.note_beginning(block)
                    seen.answers.dead(block, sources)
            self._audit(client, wanted, seen)
            for topic in topics:
                seen.ends[topic] = {partition: bound.high for partition, bound in bounds(unstable, topic).items()}
            after, hidden_after = self._committed(held)
        finally:
            client.close()
            unstable.close()
        for topic, partition in hidden | hidden_after:  # how far it has come is not known: nothing lies beyond it
            after.get(topic, {}).pop(partition, None)
        return [self._report(target, seen, ends, after) for target in wanted]

    def _committed(
        self, held: Mapping[str, Mapping[int, Bounds]]
    ) -> tuple[dict[str, dict[int, int]], set[tuple[str, int]]]:
        if self._group is None:
            return {}, set()
        return committed(self._settings, self._group, held, self._settle_s)

    def _hang(self, seen: _Seen, topic: str, place: str) -> None:
        seen.hanging.setdefault(topic, Tally()).add("hanging", iter((place,)), 1)

    def _wanted(self, client: Consumer, output: str, seen: _Seen) -> dict[int, Bounds]:
        """Return what of an output topic is read."""
        held = seen.outputs[output]
        wanted = self._span.answers(client, output, held)
        seen.cut |= {(output, partition) for partition, bound in wanted.items() if bound.low > held[partition].low}
        return wanted

    def _upstream(self, unstable: Consumer, topic: str, seen: _Seen) -> None:
        """Say where events stand behind a transaction of whoever sends them: they are not judged."""
        for partition, bound in bounds(unstable, topic).items():
            held = seen.bounds[topic].get(partition)
            if held is not None and bound.high > held.high:
                seen.notes.setdefault(topic, []).append(
                    f"{topic}[{partition}]: from offset {held.high} on, events are not judged: nobody can read them "
                    "while a transaction of their producer is open; `muse-stream doctor` says whether it hangs"
                )

    def _events(self, client: Consumer, topic: str, seen: _Seen) -> None:
        log = seen.events[topic] = EventLog(seen.codes)
        for block in self._blocks(client, topic, seen.spans[topic], seen):
            log.add(block, self._decoders.events[topic](block))

    def _audit(self, client: Consumer, wanted: Sequence[Target], seen: _Seen) -> None:
        """Read the audit topics as far as they can be read; that they cannot is no broken promise."""
        decode = self._decoders.audit
        if decode is None:
            return
        for topic in dict.fromkeys(name for target in wanted for name in target.audit):
            try:
                ends = bounds(client, topic)
                spans = self._span.answers(client, topic, ends)
                for block in self._blocks(client, topic, spans, seen) if ends else ():
                    seen.computed.add(decode(block), np.array(block.timestamps(), dtype=np.int64))
            except StreamError as error:
                seen.notes.setdefault(topic, []).append(f"{topic} was not compared with the scores: {error}")

    def _blocks(self, client: Consumer, topic: str, ends: Mapping[int, Bounds], seen: _Seen) -> Iterator[Block]:
        notes = seen.notes.setdefault(topic, [])
        total = sum(bound.high - bound.low for bound in ends.values())
        if not ends:
            notes += advice.absent(topic)
        gone = [partition for partition, bound in ends.items() if bound.low > 0]
        if gone and not self._span.bounded:
            notes.append(f"{topic}: older records are gone from partitions {', '.join(map(str, gone))}")
        reading = Reading(client, topic, ends, self._settle_s)
        done = 0
        for block in reading:
            yield block
            done += len(block.offsets)
            self._progress(topic, done, total)
        self._progress(topic, total, total)
        for partition, offset in reading.unstable.items():
            high = ends[partition].high
            self._hang(seen, topic, f"{topic}[{partition}]@{offset}")
            notes.append(
                f"{topic}[{partition}]: offsets {offset} to {high} cannot be read, a transaction is still open. If its "
                f"worker does not run, start it: that ends it. If the worker is gone for good: kafka-transactions.sh "
                f"--bootstrap-server ... abort --topic {topic} --partition {partition} --start-offset {offset}"
            )

    def _report(
        self, target: Target, seen: _Seen, ends: Mapping[str, Mapping[int, int]], after: Mapping[str, Mapping[int, int]]
    ) -> Report:
        topic, now_ms = target.topic, time.time_ns() // 1_000_000
        every = self._span.within(seen.answers.answers(topic))
        events = seen.events[topic].events(seen.spans[topic], ends.get(topic, {}))
        answers, older = current(events, every, seen.ends[topic])
        lost = self._lost(target, seen, now_ms)
        compacted = topic in self._known.compacted
        tally = judge(topic, events, answers, compacted=compacted, lost=lost, now_ms=now_ms)
        vague = not compacted and self._removed(topic, seen, answers, lost, tally)
        _ahead(topic, answers, after.get(topic, {}), tally)
        audit = self._compared(target, seen, older, tally)
        if not seen.bounds[topic]:  # another cluster, or a mistyped template: nothing was verified
            tally.add("absent", iter((topic,)), 1)
        places = (*target.scores, *target.dead)
        for place in (topic, *places):
            tally.merge(seen.answers.strays.get(place, Tally()))
            tally.merge(seen.hanging.get(place, Tally()))
        moved = {place: seen.answers.moved[place] for place in places if place in seen.answers.moved}
        notes = [note for place in (topic, *places, *target.audit) for note in seen.notes.get(place, ())]
        notes += advice.of_denied([place for place in (topic, *places) if place in self._known.denied])
        notes += advice.of_older(topic, self._known.ids.get(topic), len(older.offset))
        notes += advice.of_moved(moved)
        notes += advice.of_unjudged(topic, tally.unjudged, places)
        notes += advice.of_removed(topic, tally.counts.get("not_answerable", 0), at_most=vague)
        notes += advice.of_missing(topic, tally, events, answers)
        notes += self._span.notes(topic, seen.bounds[topic], seen.spans[topic])
        return Report(
            topic=topic,
            tenants=target.tenants,
            events=sum(int((part.offsets < part.end).sum()) for part in events.values()),
            scores=int((~answers.dead).sum()),
            dead_letters=int(answers.dead.sum()),
            findings=tally.findings(),
            notes=tuple(notes),
            audit=audit,
            topic_id=self._known.ids.get(topic),
            judged_from={partition: bound.low for partition, bound in seen.spans[topic].items()},
            older_answers=len(older.offset),
            moved_answers=sum(sum(one.values()) for one in moved.values()),
            unjudged=tally.unjudged,
        )

    def _lost(self, target: Target, seen: _Seen, now_ms: int) -> list[Lost]:
        """Return where answers may be gone that are asked for."""
        found: list[Lost] = []
        for name in dict.fromkeys((*target.scores, *target.dead)):
            held, code = seen.outputs[name], seen.answers.code(name)
            anywhere = len(held) != len(seen.bounds[target.topic])
            for partition, bound in held.items():
                if name in self._known.compacted:
                    found.append(Lost(code, partition, NEVER, anywhere, compacted=True))
                elif bound.low > 0 and (name, partition) not in seen.cut:
                    before = seen.answers.began(name, partition)
                    kept_ms = max(0, self._known.retention_ms.get(name, 0))
                    found.append(Lost(code, partition, now_ms - kept_ms if before is None else before, anywhere))
        return found

    def _removed(self, topic: str, seen: _Seen, answers: SeenAnswers, lost: Sequence[Lost], tally: Tally) -> bool:
        """Count what was removed unanswered; whether some of it may be no events."""
        vague = False
        for partition, bound in seen.bounds[topic].items():
            span = seen.spans[topic][partition]
            first = self._span.first_removed(partition, bound, span, answers)
            if first < bound.low:
                dense = seen.events[topic].dense(partition, span)
                one = count_removed(topic, partition, (first, bound.low), answers, lost, tally, dense=dense)
                vague = vague or one
        return vague

    def _compared(self, target: Target, seen: _Seen, older: SeenAnswers, tally: Tally) -> AuditReport | None:
        if self._decoders.audit is None or not target.audit:
            return None
        latest = {one: int(older.written[older.partition == one].max()) for one in np.unique(older.partition).tolist()}
        published, computed = (log.of(target.topic).after(latest) for log in (seen.published, seen.computed))
        return compare_audit(target.topic, published, computed, tally)


def _ahead(topic: str, answers: SeenAnswers, after: Mapping[int, int], tally: Tally) -> None:
    """An answer is visible only together with its offset: nothing read may lie beyond what is committed by now."""
    for partition, end in after.items():
        early = answers.offset[(answers.partition == partition) & (answers.offset >= end)]
        tally.add("ahead", (f"{topic}[{partition}]@{offset}" for offset in early), len(early))


def _merged(parts: Iterable[Mapping[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    return {name: owners for part in parts for name, owners in part.items()}
