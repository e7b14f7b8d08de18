"""Sends dead letters back as the events they were: each once, whatever interrupts it and whoever does it too.

A transaction holds some events and, for each partition of the dead-letter topic that they come from, a receipt that
names them. All replays of one dead-letter topic have one transactional id, so the later one ends the earlier. What has
been sent is learned from the receipts alone, and only after the id has been initialised: then nothing of an earlier
replay is undecided, and nothing of it can still be committed. After any failure, an unknown outcome above all, it is
learned anew. No offsets are committed: those of a group that nobody uses expire, letters and receipts go together.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field

from muse_stream.commands.dlq_letters import EventKey, Header, Letter, Source, marked, opened, receipt
from muse_stream.commands.dlq_survey import SMALL_QUEUE, TOPIC_FAULTS, Survey, record_of
from muse_stream.config import KafkaSettings
from muse_stream.errors import Abortable, Fatal, Fenced, Retriable, StreamError
from muse_stream.kafka import (
    NOT_QUEUED,
    About,
    Bounds,
    Deadline,
    Reading,
    Record,
    TransactionalProducer,
    names,
    open_producer,
    reader,
)

MOST_LETTERS, MOST_BYTES = 1_000, 4 << 20
"""In one transaction."""
BUDGET_S = 4.0
"""For one transaction; the broker ends it after 5 s."""
SLOW_S = 1.0
"""A producer whose transaction took longer is not used again (R11)."""
PATIENCE_S = 60.0
"""How long to try again while nothing gets through."""
OPEN_S = 30.0
RIVAL_S = 4.5
FENCED_LIMIT = 3
"""Whoever is fenced so soon after a transaction began was not fenced by its timeout: by another replay, or by a late
request of its own. After so many times the one who was there first ends."""
ABORT_S = 2.0
AGAIN_AFTER = 10
"""Transactions in a row that must succeed before they take more again."""
BY_KEY = -1
SLOW = "SLOW"
"""What went well, but slowly: its producer is not used again (R11)."""
REFUSED = names(About.RECORD)


def transactional_id(topic: str) -> str:
    """Return the id of all replays from a dead-letter topic."""
    return f"muse-dlq-replay-{topic}"


Wanted = dict[tuple[int, int], EventKey]
"""Partition and offset of each letter that is to be sent, and its event."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where the events go."""

    topic: str
    partitions: int
    keep_time: bool
    """Whether they keep the Kafka timestamp that they had; else they get the present time."""

    def partition(self, source: Source, key: bytes | None) -> int:
        """Return the event's partition: the one it had, where the topic has it, so that the order stays as it was."""
        if source.partition < self.partitions:
            return source.partition
        return BY_KEY if key is not None else source.partition % self.partitions


@dataclass(slots=True)
class Sent:
    """What became of a replay."""

    wanted: int
    sent: int = 0
    elsewhere: int = 0
    """Events that another replay has sent meanwhile."""
    gone: int = 0
    """Letters that Kafka removed before they could be read."""
    doubtful: int = 0
    """Events of a transaction whose outcome could not be told when the replay ended."""
    refused: list[str] = field(default_factory=list)
    """Letters whose event Kafka does not take, and why."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """One letter in hand."""

    record: Record
    letter: Letter

    @property
    def place(self) -> tuple[int, int]:
        return self.record.partition, self.record.offset


class Replay:
    """One replay of letters of a survey; use once."""

    def __init__(
        self,
        settings: KafkaSettings,
        survey: Survey,
        route: Route,
        failpoint: Callable[[str], None] = lambda _step: None,
        progress: Callable[[int], object] = lambda _sent: None,
    ) -> None:
        self._settings, self._survey, self._route = settings, survey, route
        self._failpoint, self._progress = failpoint, progress
        self._run = uuid.uuid4().hex
        self._most = MOST_LETTERS
        self._in_a_row = 0
        self._open = False
        """Whether a transaction may be open."""
        self._producer: TransactionalProducer | None = None
        self._refused: set[tuple[int, int]] = set()
        self._doubtful: set[tuple[int, int]] = set()
        """Letters of transactions that failed: they may have been committed all the same."""
        self._fenced = 0
        self._began = 0.0
        self.outcome = Sent(0)

    def run(self, rows: list[int]) -> Sent:
        """Send the events of these letters.

        Raises `StreamError` when Kafka does not let it go on, and lets KeyboardInterrupt go on to the caller; either
        way `outcome` says what has been sent, and the open transaction is given up.
        """
        outcome, columns = self.outcome, self._survey.letters
        wanted = {(columns.partition[row], columns.offset[row]): columns.event[row] for row in rows}
        outcome.wanted = len(wanted)
        progressed = time.monotonic()
        try:
            while True:
                before = outcome.sent + len(outcome.refused)
                try:
                    self._begin(wanted)
                    self._send_all(wanted)
                    return outcome
                except StreamError as error:
                    if outcome.sent + len(outcome.refused) > before:
                        progressed = time.monotonic()
                    self._judge(error, time.monotonic() - progressed)
        finally:
            self._give_up()

    def _begin(self, wanted: Wanted) -> None:
        """Take the id, then look which of the letters are still to be sent."""
        survey, outcome = self._survey, self.outcome
        self._began = time.monotonic()
        self._producer = open_producer(self._settings, transactional_id(survey.topic), Deadline(OPEN_S))
        self._began = time.monotonic()
        survey.read_on()
        outcome.doubtful = 0
        for place in [place for place, event in wanted.items() if event in survey.sent]:
            del wanted[place]
            if place in self._doubtful:  # what came of its transaction could not be told then
                outcome.sent += 1
            else:
                outcome.elsewhere += 1
        for place in [place for place in wanted if place[1] < survey.low.get(place[0], 0)]:
            del wanted[place]
            outcome.gone += 1
        if unread := sorted({partition for partition, _ in wanted} & survey.open.keys()):
            where = ", ".join(f"{survey.topic}[{number}]@{survey.open[number]}" for number in unread)
            raise StreamError(
                f"a transaction is open at {where}; what was sent of the letters there cannot be told yet"
            )

    def _send_all(self, wanted: Wanted) -> None:
        for pieces in self._batches(wanted):
            self._send(pieces)
            self._survey.sent.update(wanted.pop(piece.place) for piece in pieces)
            self._progress(self.outcome.sent)
            if wanted and time.monotonic() - self._began > SLOW_S:
                raise Abortable("a transaction took long", code=SLOW)
        self.outcome.gone += sum(place not in self._refused for place in wanted)

    def _batches(self, wanted: Wanted) -> Iterator[list[_Piece]]:
        """Read the letters and yield them in pieces of what one transaction may hold."""
        pieces, size = list[_Piece](), 0
        for piece in self._pieces(wanted):
            pieces.append(piece)
            size += len(piece.record.value or b"") + len(piece.record.key or b"")
            if len(pieces) >= self._most or size >= MOST_BYTES:
                yield pieces
                pieces, size = [], 0
        if pieces:
            yield pieces

    def _pieces(self, wanted: Wanted) -> Iterator[_Piece]:
        spans: dict[int, Bounds] = {}
        for partition, offset in wanted:
            one = spans.get(partition, Bounds(offset, offset + 1))
            spans[partition] = Bounds(min(one.low, offset), max(one.high, offset + 1))
        if not spans:
            return
        with closing(reader(self._settings, **SMALL_QUEUE)) as client:
            reading = Reading(client, self._survey.topic, spans, BUDGET_S)
            for block in reading:
                headers = block.headers()
                for row, place in enumerate(zip(block.partitions, block.offsets, strict=True)):
                    if place in wanted and place not in self._refused:
                        record = record_of(block, row, headers[row])
                        letter = opened(record.headers, record.value)
                        if isinstance(letter, Letter):
                            yield _Piece(record, letter)
            if reading.unstable:
                raise Retriable(f"{self._survey.topic} could be read to its end before, and now cannot", code=SLOW)

    def _send(self, pieces: list[_Piece]) -> None:
        producer = self._producer
        assert producer is not None  # noqa: S101  # `_begin` comes first
        deadline = Deadline(BUDGET_S)
        self._began = time.monotonic()
        self.outcome.doubtful = len(pieces)
        try:
            producer.begin()
            self._open = True
            self._produce_all(producer, pieces)
            self._failpoint("after-produce")
            producer.flush(deadline)
            self._failpoint("after-flush")
            self._failpoint("before-commit")
            producer.commit(deadline)
            self._open = False
            self.outcome.doubtful = 0
            self.outcome.sent += len(pieces)
            self._failpoint("after-commit")
        except StreamError as error:
            self._shrink(error, pieces)
            raise
        self._grow()

    def _produce_all(self, producer: TransactionalProducer, pieces: list[_Piece]) -> None:
        for piece in pieces:
            record, source = piece.record, piece.letter.source
            place = f"{self._survey.topic}[{record.partition}]@{record.offset}"
            partition = self._route.partition(source, record.key)
            headers = marked(piece.letter, place)
            timestamp = max(source.timestamp, 0) if self._route.keep_time else 0  # 0: now
            _produce(producer, self._route.topic, record.value, record.key, partition, headers, timestamp)
        for partition in sorted({piece.record.partition for piece in pieces}):
            events = [piece.letter.source for piece in pieces if piece.record.partition == partition]
            value, headers = receipt(self._route.topic, events, self._run)
            key = f"muse.receipt {self._run} {pieces[0].record.offset}".encode()  # a compacted topic keeps each
            _produce(producer, self._survey.topic, value, key, partition, headers, 0)

    def _shrink(self, error: StreamError, pieces: list[_Piece]) -> None:
        """Take less into one transaction; a letter that Kafka refuses alone is left out."""
        self._doubtful.update(piece.place for piece in pieces)
        self._in_a_row = 0
        self._most = max(1, len(pieces) // 2)
        if error.code in REFUSED and len(pieces) == 1 and error.topic == self._route.topic:
            self._refused.add(pieces[0].place)
            partition, offset = pieces[0].place
            self.outcome.refused.append(f"{self._survey.topic}[{partition}]@{offset}: {error}")
        elif error.code in REFUSED and len(pieces) == 1:
            raise Fatal(f"{error}; a receipt of one letter must fit into its topic") from error

    def _grow(self) -> None:
        self._in_a_row += 1
        if self._in_a_row >= AGAIN_AFTER and self._most < MOST_LETTERS:
            self._most, self._in_a_row = min(MOST_LETTERS, 2 * self._most), 0

    def _judge(self, error: StreamError, idle_s: float) -> None:
        """Return when it is worth another try; raises what a person should know otherwise."""
        took_s = time.monotonic() - self._began
        self._give_up()
        topic = self._survey.topic
        self._fenced += isinstance(error, Fenced) and took_s < RIVAL_S
        if self._fenced >= FENCED_LIMIT:
            raise Fatal(
                f"another replay from {topic} has begun; it goes on, and this one ends", code=error.code
            ) from error
        code = error.code or ("" if isinstance(error, Retriable) else "AUTHORIZATION_FAILED")
        if code in TOPIC_FAULTS or code.endswith("AUTHORIZATION_FAILED") or idle_s > PATIENCE_S:
            raise error

    def _give_up(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        if self._open:
            self._open = False
            with suppress(StreamError):  # nobody waits for the broker to end it, then
                producer.abort(Deadline(ABORT_S))
                self.outcome.doubtful = 0
        producer.discard()


def _produce(
    producer: TransactionalProducer,
    topic: str,
    value: bytes | None,
    key: bytes | None,
    partition: int,
    headers: Sequence[Header],
    timestamp: int,
) -> None:
    try:
        producer.produce(topic, value, key, partition, timestamp=timestamp, headers=list(headers))
    except NOT_QUEUED as error:
        producer.retry(error, topic, value, key, partition, headers, timestamp)
