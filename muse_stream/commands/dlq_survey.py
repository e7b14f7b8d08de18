"""Where the dead letters of one tenant stand in their topic, and what became of each: numbers, never payloads.

A letter is

    waiting       its event has not been sent again
    replayed      it has been, to the topic in question
    failed again  the event had been sent again before it was refused this time
    duplicate     an earlier letter is about the same event

The topic is read from its beginning, and later from where that stopped: a receipt stands behind its letter.
"""

from array import array
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal, get_args

from muse_stream.commands.dlq_letters import EventKey, Letter, Owners, Receipt, opened
from muse_stream.config import KafkaSettings
from muse_stream.errors import StreamError
from muse_stream.kafka import About, Block, Bounds, Reading, Record, bounds, names, reader

State = Literal["waiting", "replayed", "failed again", "duplicate"]
STATES: tuple[State, ...] = get_args(State)
SETTLE_S = 20.0
"""How long a transaction may stay open: a worker's timeout, and the broker's next look at it."""
SMALL_QUEUE = {"queued.min.messages": 10_000, "queued.max.messages.kbytes": 16_384}
"""Of records fetched in advance: letters may be large, and there may be many."""
LOST_OFFSET = names(About.LOST_OFFSET)
TOPIC_FAULTS = names(About.TOPIC)

Progress = Callable[[int, int], object]
"""Called with the records read and the records there (at most: offsets are not dense)."""
See = Callable[[Record, Letter], object]


@dataclass(slots=True)
class Columns:
    """One entry a letter, in the order of each partition."""

    partition: "array[int]" = field(default_factory=lambda: array("i"))
    offset: "array[int]" = field(default_factory=lambda: array("q"))
    timestamp: "array[int]" = field(default_factory=lambda: array("q"))
    reason: "array[int]" = field(default_factory=lambda: array("i"))
    """Index in `Survey.reasons`."""
    again: "array[int]" = field(default_factory=lambda: array("b"))
    event: list[EventKey] = field(default_factory=list)


class Survey:
    """The letters of a tenant (`owners`) in `topic`, and which were sent to `destination`."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        owners: Owners,
        destination: str,
        see: See | None = None,
    ) -> None:
        self._settings, self._owners, self._see = settings, owners, see
        self.topic, self.destination = topic, destination
        self.letters = Columns()
        self.reasons: list[str] = []
        self.sources: dict[str, int] = {}
        """Event topic -> its number in the events' keys."""
        self.sent: set[EventKey] = set()
        """Events that were sent to `destination`."""
        self.foreign = 0
        """Records that are nothing of ours."""
        self.read: dict[int, int] = {}
        """Partition -> the offset up to which it has been read."""
        self.low: dict[int, int] = {}
        """Partition -> the first offset that Kafka still has."""
        self.open: dict[int, int] = {}
        """Partition -> where a transaction is open: nothing behind it can be read."""
        self._codes: dict[str, int] = {}

    def read_on(self, progress: Progress = lambda _done, _total: None) -> None:
        """Read what has come since; raises `StreamError`, one that says so when the topic does not exist."""
        while True:
            try:
                return self._read(progress)
            except StreamError as error:
                if error.code not in LOST_OFFSET:  # retention has overtaken the reading: what is left is read
                    raise named(error, self.topic) from None

    def _read(self, progress: Progress) -> None:
        with closing(reader(self._settings, **{"isolation.level": "read_uncommitted"})) as client:
            held = bounds(client, self.topic)
        if not held:
            raise StreamError(f"there is no topic {self.topic}; `muse-stream topics` makes what a configuration needs")
        if any(held.get(partition, Bounds(0, -1)).high < offset for partition, offset in self.read.items()):
            raise StreamError(f"{self.topic} was made anew meanwhile; start again")
        spans = {number: Bounds(max(one.low, self.read.get(number, 0)), one.high) for number, one in held.items()}
        self.low = {number: one.low for number, one in held.items()}
        total, done = sum(one.high - one.low for one in spans.values()), 0
        with closing(reader(self._settings, **SMALL_QUEUE)) as client:
            reading = Reading(client, self.topic, spans, SETTLE_S)
            for block in reading:
                self._take(block)
                done += len(block.offsets)
                progress(done, total)
        self.open = reading.unstable
        self.read |= {number: self.open.get(number, one.high) for number, one in spans.items()}

    def _take(self, block: Block) -> None:
        values, headers, found = block.values(), block.headers(), list[tuple[int, Letter]]()
        for row, named in enumerate(headers):
            record = opened(named, values[row])
            if isinstance(record, Letter):
                found.append((row, record))
            elif record is None:
                self.foreign += 1
            elif record.to == self.destination:
                self._note(record)
        belongs = self._owners.belong([letter for _, letter in found], [values[row] for row, _ in found])
        for (row, letter), ours in zip(found, belongs, strict=True):
            if ours:
                self._add(block, row, letter)
                if self._see is not None:
                    self._see(record_of(block, row, headers[row]), letter)
        self.read |= {p: offset + 1 for p, offset in zip(block.partitions, block.offsets, strict=True)}

    def _note(self, receipt: Receipt) -> None:
        self.sent.update(event.key(self.sources) for event in receipt.events)

    def _add(self, block: Block, row: int, letter: Letter) -> None:
        columns = self.letters
        if letter.reason not in self._codes:
            self._codes[letter.reason] = len(self.reasons)
            self.reasons.append(letter.reason)
        columns.partition.append(block.partitions[row])
        columns.offset.append(block.offsets[row])
        columns.timestamp.append(block.messages[row].timestamp()[1])
        columns.reason.append(self._codes[letter.reason])
        columns.again.append(letter.replays > 0)
        columns.event.append(letter.source.key(self.sources))

    def states(self) -> list[State]:
        """Say what became of each letter."""
        seen, found = set[EventKey](), list[State]()
        for event, again in zip(self.letters.event, self.letters.again, strict=True):
            known = event in seen
            seen.add(event)
            later: State = "failed again" if again else "waiting"
            found.append("replayed" if event in self.sent else "duplicate" if known else later)
        return found


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant."""

    reasons: Sequence[str] = ()
    """Any of these; empty: all."""
    since: int | None = None
    """Letters written at or after this moment, in milliseconds since 1970."""
    limit: int | None = None
    """At most so many, the oldest."""
    again: bool = False
    """Also those whose event has been sent again before."""


def chosen(survey: Survey, wanted: Filter) -> list[int]:
    """Return the rows of the letters that are to be sent, in the order of each partition.

    Of several letters about one event the first one that is meant.
    """
    columns, rows, seen = survey.letters, list[int](), set(survey.sent)
    codes = {code for code, reason in enumerate(survey.reasons) if not wanted.reasons or reason in wanted.reasons}
    for row, event in enumerate(columns.event):
        if (
            event not in seen
            and columns.reason[row] in codes
            and (wanted.again or not columns.again[row])
            and (wanted.since is None or columns.timestamp[row] >= wanted.since)
            and columns.partition[row] not in survey.open
        ):
            seen.add(event)
            rows.append(row)
    if wanted.limit is not None and len(rows) > wanted.limit:
        rows = sorted(sorted(rows, key=lambda row: columns.timestamp[row])[: wanted.limit])
    return rows


def named(error: StreamError, topic: str) -> StreamError:
    """Return an error of a request with the topic it was about, where that is to blame."""
    if error.code not in TOPIC_FAULTS or topic in str(error):
        return error
    acl = "; `muse-stream acl CONFIG --role replayer` prints what `dlq` needs"
    hint = acl if "AUTHORIZATION" in (error.code or "") else ""
    return type(error)(f"{topic}: {error}{hint}", topic=topic, code=error.code)


def record_of(block: Block, row: int, headers: Sequence[tuple[str, bytes | None]]) -> Record:
    """Return one record of a block."""
    message = block.messages[row]
    place = block.partitions[row], block.offsets[row]
    return Record(*place, message.timestamp()[1], message.key(), message.value(), tuple(headers))
