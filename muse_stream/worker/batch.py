"""What passes between the worker loop and the scorer: batches of raw records in, records to send.

Invariant: parallel lists, one entry a record, in the order Kafka gave them; a row number is an index into them. This
module knows no vendor, so a test or `muse-stream replay` makes a batch from plain lists.
"""

import dataclasses
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby
from typing import Generic, Protocol, TypeAlias, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from muse_stream.errors import Reason, Rejected, Stage
from muse_stream.kafka import Message, TopicPartitionKey

Header = tuple[str, bytes | str | None]
Read = TypeVar("Read")
Facts: TypeAlias = Mapping[int, Mapping[str, str | int | Sequence[str]]]
"""Row -> what a trace says of its event and its answer."""
Groups: TypeAlias = "array[int]"
"""32-bit numbers, one a record. Not a numpy array: this room starts without numpy, but numpy reads and writes these."""


class Batch(Struct, frozen=True, eq=False):
    """Records as Kafka gave them. Every list has one entry a record."""

    topics: list[str]
    partitions: list[int]
    offsets: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps: Callable[[], list[int]]
    """Milliseconds since the epoch; read only when asked, since most events carry their own time."""
    headers: Callable[[], list[list[Header]]]
    """Read only when asked: fetching them costs as much as the rest of the record."""

    def __len__(self) -> int:
        return len(self.values)

    def edges(self) -> tuple[dict[TopicPartitionKey, int], dict[TopicPartitionKey, int]]:
        """Return the first and the last row of each partition; its offsets ascend."""
        first: dict[TopicPartitionKey, int] = {}
        last: dict[TopicPartitionKey, int] = {}
        row = 0
        # Kafka gives records of a partition in runs: to compare neighbours costs a fifth of hashing each place
        for place, run in groupby(zip(self.topics, self.partitions, strict=True)):
            first.setdefault(place, row)
            row += len(list(run))
            last[place] = row - 1
        return first, last

    def part(self, start: int, stop: int) -> "Batch":
        """Return the records `[start, stop)`."""
        return Batch(
            self.topics[start:stop],
            self.partitions[start:stop],
            self.offsets[start:stop],
            self.keys[start:stop],
            self.values[start:stop],
            lambda: self.timestamps()[start:stop],
            lambda: self.headers()[start:stop],
        )


class _Once(Generic[Read]):
    """Calls a function once; `functools.cache` takes longer to make than a small batch to read."""

    __slots__ = ("_found", "_read")

    def __init__(self, read: Callable[[], list[Read]]) -> None:
        self._read = read
        self._found: list[Read] | None = None

    def __call__(self) -> list[Read]:
        if self._found is None:
            self._found = self._read()
        return self._found


def raw_batch(messages: list[Message]) -> Batch:
    """Take messages without errors apart into parallel lists.

    One of the two loops over events (the other is in `send_records`), in C as far as Python can; timestamps and headers
    are read when somebody asks, once.
    """
    return Batch(
        # a message without an error has a topic, a partition and an offset
        topics=[message.topic() for message in messages],  # type: ignore[misc]
        partitions=[message.partition() for message in messages],  # type: ignore[misc]
        offsets=[message.offset() for message in messages],  # type: ignore[misc]
        keys=[message.key() for message in messages],
        values=[message.value() for message in messages],
        timestamps=_Once(lambda: [message.timestamp()[1] for message in messages]),
        headers=_Once(lambda: [list(message.headers() or []) for message in messages]),  # type: ignore[arg-type]
    )


class DeadLetter(Struct, frozen=True):
    """One refused record and the topic that takes it."""

    rejected: Rejected
    topic: str
    tenant: str | None = None
    """Whose record it was; None where nobody can say."""


class Records(Struct, frozen=True, eq=False):
    """All that a batch becomes. For a live worker every row stands in exactly one of the two: answers, or dead letters.

    `rows[i]` is the batch row that gives answer `i` its key and partition.
    """

    rows: list[int] = field(default_factory=list)
    topics: list[str] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    groups: Groups = field(default_factory=lambda: array("i"))
    """What each answer counts as once it is committed: numbers that the scorer alone can read; empty: not counted."""
    dead: list[DeadLetter] = field(default_factory=list)
    clipped: Mapping[str, int] = field(default_factory=dict)
    """Model -> its answers that lay outside [0, 1] by float error alone."""
    passed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Event topic -> names of the headers that its answers get from their events."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Stage of scoring -> seconds that it took."""
    about: Callable[[Sequence[int]], Facts] | None = None
    """Tells of some rows, ascending, what a trace says of them."""

    def without(self, rows: Collection[int], letters: list[DeadLetter]) -> "Records":
        """Return the same without what was made of these rows, and with these dead letters besides."""
        kept = [i for i, row in enumerate(self.rows) if row not in rows]
        return Records(
            [self.rows[i] for i in kept],
            [self.topics[i] for i in kept],
            [self.values[i] for i in kept],
            array("i", [self.groups[i] for i in kept] if self.groups else []),
            [letter for letter in self.dead if letter.rejected.row not in rows] + letters,
            self.clipped,
            self.passed,
            self.stages,
            self.about,
        )


def joined(parts: Sequence[Records], starts: Sequence[int]) -> Records:
    """Return what parts of a batch became as one; part `i` begins at row `starts[i]`."""
    return Records(
        [row + start for part, start in zip(parts, starts, strict=True) for row in part.rows],
        [topic for part in parts for topic in part.topics],
        [value for part in parts for value in part.values],
        array("i", b"".join(part.groups.tobytes() for part in parts)),
        [
            replace(letter, rejected=dataclasses.replace(letter.rejected, row=letter.rejected.row + start))
            for part, start in zip(parts, starts, strict=True)
            for letter in part.dead
        ],
        sum((Counter(part.clipped) for part in parts), Counter()),
        {topic: names for part in parts for topic, names in part.passed.items()},
        {stage: sum(part.stages.get(stage, 0.0) for part in parts) for stage in parts[0].stages} if parts else {},
        lambda rows: _facts(parts, starts, rows),
    )


def _facts(parts: Sequence[Records], starts: Sequence[int], rows: Sequence[int]) -> Facts:
    """Ask each part about the rows that are its own."""
    found: dict[int, Mapping[str, str | int | Sequence[str]]] = {}
    for part, start, end in zip(parts, starts, [*starts[1:], None], strict=True):
        own = [row - start for row in rows if start <= row and (end is None or row < end)]
        if own and part.about is not None:
            found |= {row + start: facts for row, facts in part.about(own).items()}
    return found


class Refusal(Struct, frozen=True):
    """Dead letters of a batch with the same event topic and reason: how many, and the first of them."""

    topic: str
    reason: str
    count: int
    partition: int
    offset: int
    error: str


class Tally(Struct, frozen=True, eq=False):
    """What a batch adds to the counters once it is committed."""

    groups: Groups
    book: object
    """What the groups mean: the scorer's."""
    letters: Mapping[tuple[str | None, str], int]
    """(Tenant, reason) -> dead letters."""
    clipped: Mapping[str, int] = field(default_factory=dict)
    """Model -> answers bounded to [0, 1]."""
    refusals: Sequence[Refusal] = ()
    """The dead letters as they are logged."""

    @classmethod
    def of(cls, records: Records, book: object, refusals: Sequence[Refusal] = ()) -> "Tally":
        """Count what is about to be sent."""
        letters = (
            Counter((letter.tenant, str(letter.rejected.reason)) for letter in records.dead) if records.dead else {}
        )
        return cls(records.groups, book, letters, records.clipped, refusals)


@dataclasses.dataclass(frozen=True, slots=True)
class Topology:
    """Which topics a lane reads under one generation, and where the answers of each go."""

    outputs: Mapping[str, frozenset[str]]
    """Event topic -> every topic an answer or dead letter of its records may go to."""
    dead_letters: Mapping[str, str]
    """Event topic -> where a record goes that the worker itself has to give up (its tenant may be unknown)."""
    tenants: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict, compare=False)
    """Event topic -> the tenants whose events it holds; a change of names alone changes no topic."""
    paused: frozenset[str] = frozenset()
    """Event topics that are not to be read now."""
    elsewhere: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)
    """Event topics of the fleet that other groups read -> which group."""
    groups: frozenset[str] = dataclasses.field(default=frozenset(), compare=False)
    """Groups of this role that have read topics of the fleet under this generation, or those before it."""

    def owner(self, event_topic: str) -> str | None:
        """Return the tenant of a topic that only one uses."""
        tenants = self.tenants.get(event_topic, ())
        return tenants[0] if len(tenants) == 1 else None


def given_up(batch: Batch, rows: Sequence[int], topology: Topology, reason: Reason, message: str) -> list[DeadLetter]:
    """Return dead letters for records that the worker itself gives up; none for a role that writes no dead letters."""
    letters = []
    for row in rows:
        topic = topology.dead_letters.get(batch.topics[row])
        if topic is not None and topic in topology.outputs[batch.topics[row]]:
            stage = Stage.SCORE if reason is Reason.PROCESS_DIED else Stage.PUBLISH
            owner = topology.owner(batch.topics[row])
            letters.append(DeadLetter(Rejected(row, reason, stage, message), topic, owner))
    return letters


class BatchLimits(Struct, frozen=True):
    """How much one transaction may hold, and how soon after the last one it may be, at least."""

    batch_events: int = 10_000
    linger_s: float = 0.005


class Origin(Struct, frozen=True):
    """Which event a record answers, and in which attempt."""

    topic: str
    partition: int
    offset: int
    attempt: int

    @property
    def event(self) -> tuple[str, int, int]:
        """The event's topic, partition and offset."""
        return self.topic, self.partition, self.offset


class Scorer(Protocol):
    """One compiled generation, ready to score; `runtime/batch_scorer.py` implements it."""

    @property
    def number(self) -> int:
        """The generation."""

    @property
    def topology(self) -> Topology:
        """The topics of this worker's lane."""

    @property
    def limits(self) -> BatchLimits:
        """What a batch may hold under this generation; a worker asks whenever the generation changes."""

    @property
    def book(self) -> object:
        """What the group numbers of its records mean; goes with them to the counters."""

    def score(self, batch: Batch, attempt: int) -> Records:
        """Score a batch; `attempt` is written into every record, so that a torn transaction can be seen."""

    def origins(self, values: Sequence[bytes | None]) -> Sequence[Origin | None]:
        """Say of each answer that such a scorer has written what it answers; None for what is no such answer."""

    def answers(self, topic: str, event: bytes | None, answer: bytes | None) -> bool:
        """Whether a score or an audit record is about this event of a topic, by its id; True where nobody can tell."""
