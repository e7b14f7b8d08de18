"""Find the record that kills the process that scores it, and keep it from doing so forever.

A fault in native code (a decoder, a model runtime) ends the process: nothing in it can catch that. So a worker notes in
memory that it shares with its supervisor which offsets it has in hand, before it scores them. When it dies, the
supervisor reads the note and gives its successor the `Suspects`: those offsets are scored in pieces of a hundredth of
the batch, with a note for each piece, then one by one. A record that a process died of alone, after it had been among
the suspects before, becomes a dead letter without being scored again. So one such record costs three restarts: batch,
piece, record.

A death says less when the process was killed from outside (SIGKILL: an operator, or the kernel for want of memory):
then a record must have been in hand alone three times. The same note tells which generation was being compiled, so
that one whose models kill the process is refused like any other that cannot be compiled.

What kills the process whatever the record (a broken library) must not turn a whole topic into dead letters: after ten
poison records an event topic is paused for a minute between two trials, and its events wait in Kafka.
"""

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import Any

from msgspec import Struct, field

from muse_stream.errors import Reason
from muse_stream.kafka import TopicPartitionKey
from muse_stream.worker.batch import Batch, Records, Scorer, given_up, joined

SIZE = 1 << 18
"""Bytes of a note; a batch over more partitions than fit (some thousands) leaves none."""
PIECES = 100
KILLS = 3
"""How often a record must have been in hand alone when its process was killed by SIGKILL."""
REMEMBERED = 1000
HELD_AFTER = 10
"""An event topic with more poison records than this is paused between two trials: perhaps it is not the records."""
Place = tuple[str, int, int]
"""Topic, partition, offset."""
Range = tuple[str, int, int, int, int]
"""Topic, partition, first offset, offset after the last, how many records a piece of it may hold."""


class Note(Struct, frozen=True):
    """What a process was doing."""

    first: Mapping[TopicPartitionKey, int] = field(default_factory=dict)
    """Partition -> first offset in hand."""
    following: Mapping[TopicPartitionKey, int] = field(default_factory=dict)
    """Partition -> the offset after the last in hand."""
    events: int = 0
    compiling: int | None = None
    """Number of a generation."""


class InHand:
    """Memory shared by a worker, which writes what it does, and its supervisor, which reads it after a death."""

    def __init__(self, context: BaseContext) -> None:
        self._batch = context.RawArray("c", SIZE)
        self._generation = context.RawArray("q", 1)  # written by another thread than the batch

    def hold(self, first: Mapping[TopicPartitionKey, int], following: Mapping[TopicPartitionKey, int], n: int) -> None:
        """Note that these offsets, `n` events, are being scored."""
        ranges = [(topic, partition, at, following[topic, partition]) for (topic, partition), at in first.items()]
        text = json.dumps([n, ranges]).encode()
        self._batch.value = text if len(text) < SIZE else b""

    def release(self) -> None:
        """Note that nothing is being scored. Not for a `finally`: an exception that ends the process is a death too."""
        self._batch.value = b""

    @contextmanager
    def compiling(self, number: int) -> Iterator[None]:
        """Note that a generation is being compiled."""
        self._generation[0] = number
        try:
            yield
        finally:
            self._generation[0] = 0

    def read(self) -> Note:
        """Return what was noted last; an unreadable note (the process died while it wrote) is none."""
        compiling = self._generation[0] or None
        try:
            events, ranges = json.loads(self._batch.value or b"[0, []]")
        except ValueError:
            events, ranges = 0, []
        first = {(topic, partition): start for topic, partition, start, _end in ranges}
        following = {(topic, partition): end for topic, partition, _start, end in ranges}
        return Note(first, following, events, compiling)


def offsets(batch: Batch) -> tuple[dict[TopicPartitionKey, int], dict[TopicPartitionKey, int]]:
    """Return each partition's first offset in a batch, and the offset after its last."""
    first, last = batch.edges()
    following = {place: batch.offsets[row] + 1 for place, row in last.items()}
    return {place: batch.offsets[row] for place, row in first.items()}, following


class Suspects(Struct, frozen=True):
    """What a worker must know of those that died before it."""

    ranges: tuple[Range, ...] = ()
    """To be scored in pieces; where several hold a record, the smallest piece counts."""
    poison: frozenset[Place] = frozenset()
    """Records that must not be scored."""
    held: tuple[str, ...] = ()
    """Event topics to pause for a while."""

    def pieces(self, batch: Batch) -> list[tuple[int, int]]:
        """Return the parts `[start, stop)` to score one after the other.

        Suspects stand in parts no larger than their piece, a poison record in one of its own; what lies between them
        is not cut.
        """
        parts: list[tuple[int, int]] = []
        last = 0
        for row, place in enumerate(zip(batch.topics, batch.partitions, batch.offsets, strict=True)):
            most = 1 if place in self.poison else self._piece(place) or len(batch)
            start, stop = parts[-1] if parts else (0, 0)
            if most != last or stop - start >= most:
                parts.append((row, row + 1))
            else:
                parts[-1] = (start, row + 1)
            last = most
        return parts

    def touch(self, first: Mapping[TopicPartitionKey, int], following: Mapping[TopicPartitionKey, int]) -> bool:
        """Whether a batch of these offsets may hold a suspect."""
        return any(
            (topic, partition) in first and first[topic, partition] < end and start < following[topic, partition]
            for topic, partition, start, end, _ in (*self.ranges, *((t, p, o, o + 1, 1) for t, p, o in self.poison))
        )

    def is_poison(self, part: Batch) -> bool:
        """Whether a part is one record that must not be scored."""
        return len(part) == 1 and (part.topics[0], part.partitions[0], part.offsets[0]) in self.poison

    def _piece(self, place: Place) -> int:
        topic, partition, offset = place
        found = [
            piece for t, p, start, end, piece in self.ranges if (topic, partition) == (t, p) and start <= offset < end
        ]
        return min(found, default=0)


class Guard:
    """Scores batches for a worker, with a note of what is in hand; suspects in pieces, poison records not at all."""

    def __init__(self, in_hand: InHand, suspects: Suspects) -> None:
        self._in_hand, self._suspects = in_hand, suspects
        self.held = suspects.held

    def score(
        self,
        scorer: Scorer,
        batch: Batch,
        first: Mapping[TopicPartitionKey, int],
        following: Mapping[TopicPartitionKey, int],
        attempt: int,
        progress: Callable[[], None],
    ) -> Records:
        """Return the answer of a batch of these `offsets`; `progress` is called before each piece, for the watchdog."""
        parts = self._suspects.pieces(batch) if self._suspects.touch(first, following) else None
        if parts is None:
            self._in_hand.hold(first, following, len(batch))
            answer = scorer.score(batch, attempt)
        else:
            answers = []
            for start, stop in parts:
                progress()
                answers.append(self._score(scorer, batch.part(start, stop), attempt))
            answer = joined(answers, [start for start, _stop in parts])
        self._in_hand.release()
        return answer

    def put_back(self) -> None:
        """Note that the batch in hand was not scored, and is read again later."""
        self._in_hand.release()

    def _score(self, scorer: Scorer, part: Batch, attempt: int) -> Records:
        if self._suspects.is_poison(part):
            message = "worker processes died while they scored this record alone"
            return Records(dead=given_up(part, [0], scorer.topology, Reason.PROCESS_DIED, message))
        self._in_hand.hold(*offsets(part), len(part))
        return scorer.score(part, attempt)


class PoisonSearch:
    """The supervisor's memory of what its dead workers had in hand."""

    def __init__(self) -> None:
        self._ranges: list[Range] = []
        """Never narrowed: of two poison records one must not be forgotten while the other is found."""
        self._alone: Counter[Place] = Counter()
        self._poison: dict[Place, None] = {}
        self._compiling: Counter[int] = Counter()
        self.refused: frozenset[int] = frozenset()
        """Generations that are not to be compiled: a process died of each."""

    @property
    def suspects(self) -> Suspects:
        """What the next worker must know."""
        counts = Counter(topic for topic, _partition, _offset in self._poison)
        held = tuple(topic for topic, count in counts.items() if count > HELD_AFTER)
        return Suspects(tuple(self._ranges), frozenset(self._poison), held)

    def died(self, note: Note, code: int | None) -> dict[str, Any] | None:
        """Take in what a process had in hand when it died; return what that says, as facts for the log.

        None when it says nothing, so that the death is no step towards an end.
        """
        outside = code == -signal.SIGKILL
        if note.compiling is not None:
            self._compiling[note.compiling] += 1
            if self._compiling[note.compiling] >= (2 if outside else 1):
                self.refused |= {note.compiling}
            return {"compiling": note.compiling, "refused": note.compiling in self.refused}
        if not note.events:
            return None
        if note.events > 1:
            piece = max(1, note.events // PIECES)
            self._suspect([(*place, start, note.following[place], piece) for place, start in note.first.items()])
            return {"events_in_hand": note.events, "next_in_pieces_of": piece}
        (((topic, partition), offset),) = note.first.items()
        place = (topic, partition, offset)
        suspected = any((topic, partition) == (t, p) and start <= offset < end for t, p, start, end, _ in self._ranges)
        self._suspect([(topic, partition, offset, offset + 1, 1)])
        self._alone[place] += 1
        proven = suspected and (not outside or self._alone[place] >= KILLS)
        if proven:
            self._poison = dict(list({**self._poison, place: None}.items())[-REMEMBERED:])
        return {"topic": topic, "partition": partition, "offset": offset, "dead_letter": proven}

    def _suspect(self, ranges: list[Range]) -> None:
        self._ranges = [*self._ranges, *(one for one in ranges if one not in self._ranges)][-REMEMBERED:]
