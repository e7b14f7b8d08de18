"""The independent auditor: did every event get exactly one answer?

Takes what to verify (`Target`s) and functions that decode events and scores (this room knows no Avro). Returns one
`Report` a target, with every broken promise counted (`compare` says which there are).

It shares nothing with the workers but the topics. It reads all partitions from the first offset, without a group, and
sees committed records only. Ends are fixed before reading: first what the group has committed (if asked), then the
answers, so that every answer that must be there is looked for. An output partition whose end is not stable yet (a
transaction is open) is waited for; if it stays so, that is a finding: nobody can read what is behind it. So it is
when an open transaction hides the group's offsets.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from muse_stream.config import Document, KafkaSettings
from muse_stream.errors import StreamError
from muse_stream.kafka import Block, Bounds, Consumer, Reading, bounds, committed, reader
from muse_stream.verify.audit import AuditReport, LiveScoreLog, compare_audit
from muse_stream.verify.collect import AnswerLog, AuditDecoder, Codes, EventDecoder, EventLog, ScoreDecoder
from muse_stream.verify.compare import Finding, SeenAnswers, Tally, judge

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
    events: dict[str, EventLog] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Topic -> what a person should know about the reading of it."""
    hanging: dict[str, Tally] = field(default_factory=dict)
    """Topic -> its partitions that stand still."""
    published: LiveScoreLog = field(default_factory=LiveScoreLog)
    computed: LiveScoreLog = field(default_factory=LiveScoreLog)
    """By shadow workers."""


class Verification:
    """One look at the topics of some targets; use once.

    `group` bounds the look by the offsets that group has committed; None looks at every event there is. `compacted`
    names event topics that may have lost answered events.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        decoders: Decoders,
        *,
        group: str | None = None,
        compacted: frozenset[str] = frozenset(),
        settle_s: float = SETTLE_S,
        progress: Progress = lambda _topic, _done, _total: None,
    ) -> None:
        self._settings = settings
        self._decoders = decoders
        self._group = group
        self._compacted = compacted
        self._settle_s = settle_s
        self._progress = progress

    def run(self, wanted: Sequence[Target]) -> list[Report]:
        """Read everything once and judge each target; raises `StreamError` when Kafka does not answer."""
        topics = [target.topic for target in wanted]
        client = reader(self._settings)
        try:
            held = {topic: bounds(client, topic) for topic in topics}
            ends, hidden = self._committed(held)
            codes = Codes()
            homes = {name: topic for target in wanted for name, topic in target.homes.items()}
            seen = _Seen(AnswerLog(topics, homes, codes), codes, held)
            for topic, partition in sorted(hidden):
                self._hang(seen, topic, f"group {self._group}, offset of {topic}[{partition}]")
            outputs = self._unstable_ends(wanted)
            for topic in topics:
                self._events(client, topic, seen)
            for name, owners in _merged(target.scores for target in wanted).items():
                for block in self._blocks(client, name, outputs[name], seen):
                    keys = self._decoders.scores(block)
                    seen.answers.scores(block, keys, owners)
                    if keys.live is not None:
                        seen.published.add(keys.live)
            for name, sources in _merged(target.dead for target in wanted).items():
                for block in self._blocks(client, name, outputs[name], seen):
                    seen.answers.dead(block, sources)
            self._audit(client, wanted, seen)
            after, hidden_after = self._committed(held)
        finally:
            client.close()
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

    def _unstable_ends(self, wanted: Sequence[Target]) -> dict[str, dict[int, Bounds]]:
        # What was committed before we look stands below the unstable end, even behind another worker's transaction.
        client = reader(self._settings, **{"isolation.level": "read_uncommitted"})
        try:
            names = dict.fromkeys(name for target in wanted for name in (*target.scores, *target.dead))
            return {name: bounds(client, name) for name in names}
        finally:
            client.close()

    def _events(self, client: Consumer, topic: str, seen: _Seen) -> None:
        log = seen.events[topic] = EventLog(seen.codes)
        for block in self._blocks(client, topic, seen.bounds[topic], seen):
            log.add(block, self._decoders.events[topic](block))

    def _audit(self, client: Consumer, wanted: Sequence[Target], seen: _Seen) -> None:
        """Read the audit topics as far as they can be read; that they cannot is no broken promise."""
        decode = self._decoders.audit
        if decode is None:
            return
        for topic in dict.fromkeys(name for target in wanted for name in target.audit):
            try:
                ends = bounds(client, topic)
                for block in self._blocks(client, topic, ends, seen) if ends else ():
                    seen.computed.add(decode(block))
            except StreamError as error:
                seen.notes.setdefault(topic, []).append(f"{topic} was not compared with the scores: {error}")

    def _blocks(self, client: Consumer, topic: str, ends: Mapping[int, Bounds], seen: _Seen) -> Iterator[Block]:
        notes = seen.notes.setdefault(topic, [])
        total = sum(bound.high - bound.low for bound in ends.values())
        if not ends:
            notes.append(f"{topic} does not exist")
        gone = [partition for partition, bound in ends.items() if bound.low > 0]
        if gone:
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
        answers = seen.answers.answers(target.topic)
        events = seen.events[target.topic].events(seen.bounds[target.topic], ends.get(target.topic, {}))
        tally = judge(target.topic, events, answers, compacted=target.topic in self._compacted)
        _ahead(target.topic, answers, after.get(target.topic, {}), tally)
        audit = self._compared(target, seen, tally)
        if not seen.bounds[target.topic]:  # another cluster, or a mistyped template: nothing was verified
            tally.add("absent", iter((target.topic,)), 1)
        places = (*target.scores, *target.dead)
        for place in (target.topic, *places):
            tally.merge(seen.answers.strays.get(place, Tally()))
            tally.merge(seen.hanging.get(place, Tally()))
        return Report(
            topic=target.topic,
            tenants=target.tenants,
            events=sum(int((part.offsets < part.end).sum()) for part in events.values()),
            scores=int((~answers.dead).sum()),
            dead_letters=int(answers.dead.sum()),
            findings=tally.findings(),
            notes=tuple(note for place in (target.topic, *places, *target.audit) for note in seen.notes.get(place, ())),
            audit=audit,
        )

    def _compared(self, target: Target, seen: _Seen, tally: Tally) -> AuditReport | None:
        if self._decoders.audit is None or not target.audit:
            return None
        return compare_audit(target.topic, seen.published.of(target.topic), seen.computed.of(target.topic), tally)


def _ahead(topic: str, answers: SeenAnswers, after: Mapping[int, int], tally: Tally) -> None:
    """An answer is visible only together with its offset: nothing read may lie beyond what is committed by now."""
    for partition, end in after.items():
        early = answers.offset[(answers.partition == partition) & (answers.offset >= end)]
        tally.add("ahead", (f"{topic}[{partition}]@{offset}" for offset in early), len(early))


def _merged(parts: Iterable[Mapping[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    return {name: owners for part in parts for name, owners in part.items()}
