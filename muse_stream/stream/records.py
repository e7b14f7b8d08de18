"""What passes between the worker loop and whoever scores: batches of raw records in, records to publish out.

In: nothing. Out: the values `RawBatch`, `Outgoing`, `DeadLetter`, `Answer`, `Topology`, `Limits` and the protocol
`Scorer`.
Law: parallel lists, one entry a record, in the order Kafka gave them; a row number is an index into them. This module
knows no vendor, so a test or `muse-stream replay` makes a batch from plain lists.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from muse_stream.errors import Reason, Rejected, Stage

Role = Literal["live", "shadow"]
Header = tuple[str, bytes | str | None]
TopicPartitionKey = tuple[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class RawBatch:
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

    def part(self, start: int, stop: int) -> "RawBatch":
        """Return the records `[start, stop)`."""
        return RawBatch(
            self.topics[start:stop],
            self.partitions[start:stop],
            self.offsets[start:stop],
            self.keys[start:stop],
            self.values[start:stop],
            lambda: self.timestamps()[start:stop],
            lambda: self.headers()[start:stop],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Outgoing:
    """Records to publish: `rows[i]` is the source row that gives record `i` its key and partition."""

    rows: list[int]
    topics: list[str]
    values: list[bytes]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused record and the topic that takes it."""

    rejected: Rejected
    topic: str


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """All that a batch becomes: for a live worker every row stands in exactly one of the two."""

    outgoing: Outgoing
    dead: list[DeadLetter] = field(default_factory=list)


def joined(answers: Sequence[Answer], starts: Sequence[int]) -> Answer:
    """Return the answers of consecutive parts of a batch as one; part `i` begins at row `starts[i]`."""
    outgoing, dead = Outgoing([], [], []), []
    for answer, start in zip(answers, starts, strict=True):
        outgoing.rows.extend(row + start for row in answer.outgoing.rows)
        outgoing.topics.extend(answer.outgoing.topics)
        outgoing.values.extend(answer.outgoing.values)
        for letter in answer.dead:
            moved = replace(letter.rejected, row=letter.rejected.row + start)
            dead.append(DeadLetter(moved, letter.topic))
    return Answer(outgoing, dead)


@dataclass(frozen=True, slots=True)
class Topology:
    """Which topics a lane reads under one generation, and where the answers of each go."""

    outputs: Mapping[str, frozenset[str]]
    """Event topic -> every topic an answer or dead letter of its records may go to."""
    dead_letters: Mapping[str, str]
    """Event topic -> where a record goes that the worker itself has to give up (its tenant may be unknown)."""


def given_up(
    batch: RawBatch, rows: Sequence[int], topology: Topology, reason: Reason, message: str
) -> list[DeadLetter]:
    """Return dead letters for records that the worker itself gives up; none for a role that writes no dead letters."""
    letters = []
    for row in rows:
        topic = topology.dead_letters.get(batch.topics[row])
        if topic is not None and topic in topology.outputs[batch.topics[row]]:
            stage = Stage.SCORE if reason is Reason.PROCESS_DIED else Stage.PUBLISH
            letters.append(DeadLetter(Rejected(row, reason, stage, message), topic))
    return letters


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one transaction may hold, and how long it may collect at least."""

    batch_events: int = 10_000
    linger_s: float = 0.005


class Scorer(Protocol):
    """One compiled generation, ready to score. What `stream` needs from the composition root."""

    @property
    def number(self) -> int:
        """The generation."""

    @property
    def topology(self) -> Topology:
        """The topics of this worker's lane."""

    @property
    def limits(self) -> Limits:
        """What a batch may hold under this generation; a worker asks whenever the generation changes."""

    def score(self, batch: RawBatch, attempt: int) -> Answer:
        """Score a batch; `attempt` is written into every record, so that a torn transaction can be seen."""
