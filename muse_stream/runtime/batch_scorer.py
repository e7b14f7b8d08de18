"""Raw batches in, records to publish out: one generation, one role, one lane.

This is what the worker loop calls `Scorer`, and what `replay` drives without Kafka.

Invariant: every live row becomes exactly one score or one dead letter. A shadow scorer writes audit records only: what
the live worker refuses, the live worker dead-letters, once. A fault nobody foresaw costs the records that cause it,
found by halving.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

from msgspec.structs import replace

from muse_stream import telemetry
from muse_stream.avro import Encoder
from muse_stream.config import Loaded, Role
from muse_stream.errors import ConfigError, Problem, Reason, Rejected, SchemaError, SchemaPending, Stage
from muse_stream.models import ModelCache
from muse_stream.runtime.answer_reader import OUTPUT_SCHEMA, AnswerReader, output_schemas, registered_schema
from muse_stream.runtime.compile import Compiled, compile_generation
from muse_stream.runtime.event_facts import event_facts
from muse_stream.runtime.event_reader import EventReader
from muse_stream.runtime.record_writer import Writer
from muse_stream.runtime.score_counts import ScoreGroups
from muse_stream.runtime.stage_times import StageTimes
from muse_stream.runtime.warmup import Candidate, warm_up
from muse_stream.scoring import described, halved
from muse_stream.worker import Batch, BatchLimits, DeadLetter, Origin, Records, joined


def now_ms() -> int:
    """Return the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class GenerationScorer:
    """A compiled generation that keeps the protocol `worker.batch.Scorer`."""

    def __init__(
        self,
        compiled: Compiled,
        role: Role,
        lane: str,
        clock: Callable[[], int] = now_ms,
        former_groups: frozenset[str] = frozenset(),
        *,
        serving: bool = False,
    ) -> None:
        """`former_groups` are the consumer groups of generations before.

        `serving`: its answers go to topics, so that a Confluent frame must have the registry's id.
        """
        document, snapshot = compiled.document, compiled.snapshot
        self.number = snapshot.number
        self.cache = compiled.cache
        self.backends = compiled.backends
        self.limits = BatchLimits(document.limits.max_batch, document.limits.linger_ms / 1000)
        self._role, self._clock, self._snapshot = role, clock, snapshot
        needed = {name: snapshot.needs(name).fields for name in document.events}
        self._reader = EventReader(document, lane, compiled.schemas, needed, snapshot.texts)
        topics = {name: document.tenant_topics(name) for name in self._reader.tenants}
        outputs = {name: one.scores if role == "live" else one.audit for name, one in topics.items()}
        encoder = Encoder(output_schemas().by_file(OUTPUT_SCHEMA[role]))
        if serving and document.topics.frame == "confluent" and topics:
            encoder = Encoder(registered_schema(document, role, topics), "confluent")
        self.book = ScoreGroups(document, lane, role)
        self._writer = Writer(encoder, outputs, self.number, self.book)
        self._candidate = Candidate(document, role, compiled.schemas, snapshot, self._reader, self._writer)
        self._failures = telemetry.BoundedLog(telemetry.logger("scorer").error)
        self._dead_letters = {name: one.dlq for name, one in topics.items()}
        self._passed = {
            topics[name].events: frozenset(found)
            for name in topics
            if (found := document.events[document.tenants[name].event].headers)
        }
        self._answers = AnswerReader(document, lane, role, compiled.schemas, former_groups)
        self.topology = self._answers.topology
        self.namespace = document.namespace
        self.load_s: float | None = None
        """How long it took to load, compile and warm up."""

    def score(self, batch: Batch, attempt: int) -> Records:
        """Answer a batch; never raises for what a record contains, but SchemaPending while a schema is awaited."""

        def some(start: int, end: int) -> Records:
            try:
                return self._score(batch if end - start == len(batch) else batch.part(start, end), attempt)
            except SchemaPending:
                raise
            except Exception as error:  # whatever it is, it must cost only the records that cause it
                self._failures.note("batch_failed", (type(error), str(error)), end - start, error=repr(error))
                raise

        parts = halved(len(batch), some, lambda row, error: self._given_up(batch.topics[row], error))
        return parts[0][1] if len(parts) == 1 else joined([part for _, part in parts], [start for start, _ in parts])

    def origins(self, values: Sequence[bytes | None]) -> list[Origin | None]:
        """Say of each answer of this role what it answers; None for what is no such answer."""
        return self._answers.origins(values)

    def answers(self, topic: str, event: bytes | None, answer: bytes | None) -> bool:
        """Whether a score or an audit record is about this event of a topic, by its id."""
        return self._answers.answers(topic, event, answer)

    def warm(self) -> None:
        """Take made-up events of every format the whole way, so that the first real batch finds everything loaded.

        Raises ConfigError naming each event format or predictor that fails; leaves no trace in log or metrics.
        """
        warm_up(self._candidate, lambda batch: self._score(batch, 0))

    def _score(self, batch: Batch, attempt: int) -> Records:
        times = StageTimes()
        events = self._reader.read(batch, ids=self._snapshot.needs_ids)
        times.done("decode")
        scored = self._snapshot.execute(events)
        times.done("score")
        about = partial(event_facts, events, scored)
        if self._role == "shadow":
            audit = self._writer.audit(batch, events, scored.live, scored.shadow, self._clock(), attempt)
            return replace(audit, clipped=scored.clipped, passed=self._passed, stages=times.done("encode"), about=about)
        answers = self._writer.scores(batch, events, scored.live, self._clock(), attempt)
        of_table = events.tenant
        dead = [self._letter(one, batch.topics[one.row]) for one in events.rejected]
        for one in scored.rejected:
            tenant = of_table.values[of_table.codes[one.row]] or ""
            moved = Rejected(int(events.rows[one.row]), one.reason, one.stage, one.message)
            dead.append(DeadLetter(moved, self._dead_letters[tenant], tenant))
        dead.sort(key=lambda letter: letter.rejected.row)
        stages = times.done("encode")
        return replace(answers, dead=dead, clipped=scored.clipped, passed=self._passed, stages=stages, about=about)

    def _given_up(self, event_topic: str, error: Exception) -> Records:
        """Return what becomes of a record that cannot be scored even alone."""
        if self._role == "shadow":
            return Records()
        rejected = Rejected(0, Reason.SCORING_ERROR, Stage.SCORE, described(error))
        return Records(dead=[self._letter(rejected, event_topic)])

    def _letter(self, rejected: Rejected, event_topic: str) -> DeadLetter:
        """Return the dead letter of a record whose event topic is all that is known of its tenant."""
        return DeadLetter(rejected, self.topology.dead_letters[event_topic], self.topology.owner(event_topic))


def build_scorer(
    loaded: Loaded,
    number: int,
    role: Role,
    lane: str,
    models: ModelCache | None = None,
    clock: Callable[[], int] = now_ms,
    former_groups: frozenset[str] = frozenset(),
    *,
    serving: bool = False,
) -> GenerationScorer:
    """Compile a document and make it ready to score a lane. Raises ConfigError with every problem."""
    return scorer_of(
        compile_generation(loaded, number, role, models), role, lane, clock, former_groups, serving=serving
    )


def scorer_of(
    compiled: Compiled,
    role: Role,
    lane: str,
    clock: Callable[[], int] = now_ms,
    former_groups: frozenset[str] = frozenset(),
    *,
    serving: bool = False,
) -> GenerationScorer:
    """Make a compiled generation ready to score a lane. Raises ConfigError.

    A lane that has no tenant any more is no mistake: its workers must let go of those that it had.
    """
    file = str(compiled.loaded.source.path)
    try:
        return GenerationScorer(compiled, role, lane, clock, former_groups, serving=serving)
    except SchemaError as error:
        raise ConfigError([Problem("events", str(error), "check the field paths", file=file)]) from error
