"""The account of an independent reader: every event that the broker has taken, and every answer that is committed."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from muse_stream.testing import CommittedReader
from tests.faults.run import disorder
from tests.integration.witness import Decoding, Seen

PATIENCE_S = 90.0
"""How long nothing new may come before what is missing counts as lost."""
Source = tuple[str, int, int]


@dataclass
class Account:
    """What was found."""

    events: int = 0
    lost: list[Source] = field(default_factory=list)
    doubled: list[Source] = field(default_factory=list)
    disorder: list[Source] = field(default_factory=list)
    foreign: list[Source] = field(default_factory=list)
    dead: int = 0
    """Events that became dead letters; they count as answered."""
    waited_s: dict[str, list[float]] = field(default_factory=dict)
    """Event topic -> how long each of its events has waited for its answer, by Kafka's timestamps, in seconds."""

    @property
    def kept(self) -> bool:
        """Whether nothing is lost, doubled, out of order or an answer to nothing."""
        return not (self.lost or self.doubled or self.disorder or self.foreign)


class Reader:
    """Reads answers of one kind from their first: scores and dead letters, or audit records."""

    def __init__(
        self, connection: Mapping[str, Any], topics: Sequence[str], dead: Sequence[str], schema: str, partitions: int
    ) -> None:
        settings = {"log_level": 0, "auto.offset.reset": "earliest", **connection}
        names = dict.fromkeys([*topics, *dead], partitions)
        self._reader = CommittedReader(settings.pop("bootstrap.servers"), names, settings, tolerant=True)
        self._decode = Decoding(dead, schema)
        self.seen: list[Seen] = []
        self.written: list[int] = []
        """Kafka timestamps of the answers."""

    def read(self, timeout_s: float = 0.5) -> None:
        """Take in what is new."""
        self._take(self._reader.read(timeout_s))

    def close(self) -> None:
        """Read what there is to the end, and close."""
        self._take(self._reader.read_to_end(self._reader.ends(60.0), timeout_s=120))
        self._reader.close()

    def _take(self, messages: Iterable[Any]) -> None:
        for message in messages:
            self.seen.append(self._decode(message))
            self.written.append(message.timestamp()[1])


def await_answers(readers: Sequence[Reader], wanted: int) -> None:
    """Return when each reader has seen so many answers, or nothing has come for long."""
    moved, last = time.monotonic(), -1
    while any(len(one.seen) < wanted for one in readers) and time.monotonic() - moved < PATIENCE_S:
        for reader in readers:
            reader.read()
        if (now := sum(len(one.seen) for one in readers)) != last:
            moved, last = time.monotonic(), now


def account(
    seen: Sequence[Seen], sent: Mapping[tuple[str, int], int], written: Sequence[int], stamps: Mapping[Source, int]
) -> Account:
    """Judge; `sent` has how many events each event partition has: their offsets begin with 0 and have no gaps."""
    there = {(topic, partition, offset) for (topic, partition), count in sent.items() for offset in range(count)}
    counts = Counter(one.source for one in seen)
    found = Account(
        events=len(there),
        lost=sorted(there - counts.keys()),
        doubled=sorted(source for source, count in counts.items() if count > 1),
        disorder=disorder(seen),
        foreign=sorted(counts.keys() - there),
        dead=sum("muse.reason" in one.body for one in seen),
    )
    for one, at in zip(seen, written, strict=True):
        if one.source in stamps:
            found.waited_s.setdefault(one.source[0], []).append((at - stamps[one.source]) / 1_000)
    return found
