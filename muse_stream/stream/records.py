"""What passes between the worker loop and whoever scores: batches of raw records in, records to publish out.

In: nothing. Out: the values `RawBatch`, `Outgoing`, `DeadLetter`, `Answer`, `Topology` and the protocol `Scorer`.
Law: parallel lists, one entry a record, in the order Kafka gave them; a row number is an index into them. This module
knows no vendor, so a test or `muse-stream replay` makes a batch from plain lists.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from muse_stream.errors import Rejected

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


@dataclass(frozen=True, slots=True)
class Origin:
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
    """One compiled generation, ready to score. What `stream` needs from the composition root."""

    @property
    def number(self) -> int:
        """The generation."""

    @property
    def topology(self) -> Topology:
        """The topics of this worker's lane."""

    def score(self, batch: RawBatch, attempt: int) -> Answer:
        """Score a batch; `attempt` is written into every record, so that a torn transaction can be seen."""

    def origins(self, values: Sequence[bytes | None]) -> Sequence[Origin | None]:
        """Say of each answer that such a scorer has written what it answers; None for what is no such answer."""
