"""What the independent auditor keeps of the records it has seen: numbers, never payloads.

`EventLog` holds the events of one topic by partition, `AnswerLog` the answers of all output topics by the event topic
they name. A million events must fit and take a second, so everything is an array; a record is decoded, counted,
forgotten. A record in an output topic that cannot be decoded, or stands where it may not, is a finding at once.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from muse_stream.kafka import Block, Bounds
from muse_stream.scoring import Categorical
from muse_stream.verify.audit import AuditKeys
from muse_stream.verify.compare import SeenAnswers, SeenEvents, Tally, joined


@dataclass(frozen=True, slots=True, eq=False)
class EventKeys:
    """What identifies the events of a block; `rows` are those that could be decoded, ascending."""

    rows: NDArray[np.int64]
    ids: NDArray[np.bytes_]
    tenants: Categorical | None = None
    """Given for a topic that several tenants share."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreKeys:
    """What identifies the scores of a block; `rows` are those that could be decoded, ascending."""

    rows: NDArray[np.int64]
    ids: NDArray[np.bytes_]
    tenants: Categorical
    topics: Categorical
    partitions: NDArray[np.int64]
    offsets: NDArray[np.int64]
    live: AuditKeys | None = None
    """The scores themselves, where audit records are to be compared with them."""


AuditDecoder = Callable[[Block], AuditKeys]
EventDecoder = Callable[[Block], EventKeys]
ScoreDecoder = Callable[[Block], ScoreKeys]


@dataclass(slots=True)
class Codes:
    """One number for each distinct name, over all blocks."""

    table: dict[str | None, int] = field(default_factory=lambda: {None: -1})

    def code(self, name: str | None) -> int:
        """Return the name's number, a new one if it is new; None is -1."""
        return self.table.setdefault(name, len(self.table) - 1)

    def column(self, column: Categorical) -> NDArray[np.int32]:
        """Return the numbers of a column."""
        table = np.array([self.code(value) for value in column.values] + [-1], dtype=np.int32)
        return table[column.codes]  # code -1, null, takes the last entry


class EventLog:
    """The events of one topic."""

    def __init__(self, codes: Codes) -> None:
        self._codes = codes
        self._partitions: list[NDArray[np.int32]] = []
        self._offsets: list[NDArray[np.int64]] = []
        self._ids: list[NDArray[np.bytes_]] = []
        self._tenants: list[NDArray[np.int32]] = []
        self._stamps: list[NDArray[np.int64]] = []
        self._shared = False

    def add(self, block: Block, keys: EventKeys) -> None:
        """Keep the positions and identities of a block."""
        count = len(block.offsets)
        ids = np.zeros(count, dtype=keys.ids.dtype if keys.ids.dtype.itemsize else "S1")
        ids[keys.rows] = keys.ids
        tenants = np.full(count, -1, dtype=np.int32)
        if keys.tenants is not None:
            self._shared = True
            tenants[keys.rows] = self._codes.column(keys.tenants)
        self._partitions.append(np.array(block.partitions, dtype=np.int32))
        self._offsets.append(np.array(block.offsets, dtype=np.int64))
        self._ids.append(ids)
        self._tenants.append(tenants)
        self._stamps.append(np.array(block.timestamps(), dtype=np.int64))

    def events(self, bounds: Mapping[int, Bounds], ends: Mapping[int, int]) -> dict[int, SeenEvents]:
        """Return the events by partition, judged from where they were read, below `ends` where that names it."""
        partitions = np.concatenate([np.empty(0, np.int32), *self._partitions])
        order = np.argsort(partitions, kind="stable")
        offsets = np.concatenate([np.empty(0, np.int64), *self._offsets])[order]
        ids = np.concatenate([np.empty(0, "S1"), *self._ids])[order]
        tenants = np.concatenate([np.empty(0, np.int32), *self._tenants])[order]
        stamps = np.concatenate([np.empty(0, np.int64), *self._stamps])[order]
        found: dict[int, SeenEvents] = {}
        for partition, bound in bounds.items():
            first, last = np.searchsorted(partitions[order], [partition, partition + 1])
            part = slice(int(first), int(last))
            end = min(bound.high, ends.get(partition, bound.high))
            found[partition] = SeenEvents(
                bound.low, end, offsets[part], ids[part], tenants[part] if self._shared else None, stamps[part]
            )
        return found

    def dense(self, partition: int, span: Bounds) -> bool | None:
        """Return whether every offset of a partition holds an event; None where none is left."""
        if span.high <= span.low:
            return None
        held = sum(int((one == partition).sum()) for one in self._partitions)
        return held == span.high - span.low


class AnswerLog:
    """The answers to the events of `topics`, whichever output topic they stand in.

    `homes` is tenant -> its event topic, over the whole configuration.
    """

    def __init__(self, topics: Iterable[str], homes: Mapping[str, str], codes: Codes) -> None:
        self._homes = homes
        self._codes = codes
        self._outputs = Codes()
        self._kept: dict[str, list[SeenAnswers]] = {topic: [] for topic in topics}
        self.strays: dict[str, Tally] = {}
        """Output topic -> what is wrong with records of it that cannot be assigned to an event topic."""
        self.moved: dict[str, Counter[str]] = {}
        """Output topic -> answers of its own tenants to event topics that no tenant has now, by event topic."""
        self._began: dict[tuple[int, int], int] = {}
        """Output topic, as a code, and partition -> when the first record that was read there was written."""

    def scores(self, block: Block, keys: ScoreKeys, owners: frozenset[str]) -> None:
        """Keep the scores of a block; `owners` are the tenants whose scores belong into its topic."""
        unread = np.setdiff1d(np.arange(len(block.offsets)), keys.rows, assume_unique=True)
        self._stray("undecodable", block, unread)
        belongs = self._belongs(keys, owners)
        moved = ~belongs & self._moved(keys, owners)
        for topic in keys.topics.values if moved.any() else ():
            self._count_moved(block.topic, topic or "", int((moved & _is(keys.topics, topic or "")).sum()))
        self._stray("foreign", block, keys.rows[~belongs & ~moved])
        written = np.array(block.timestamps(), dtype=np.int64)
        for topic, kept in self._kept.items():
            here = np.flatnonzero(belongs & _is(keys.topics, topic))
            if len(here):
                source = keys.partitions[here].astype(np.int32), keys.offsets[here], np.zeros(len(here), dtype=bool)
                place = self._place(block, keys.rows[here])
                identity = keys.ids[here], self._codes.column(keys.tenants)[here]
                unknown = np.full(len(here), -1, dtype=np.int64)
                kept.append(SeenAnswers(*source, *place, *identity, written[keys.rows[here]], unknown))

    def _belongs(self, keys: ScoreKeys, owners: frozenset[str]) -> NDArray[np.bool_]:
        """Return which scores are of a tenant that owns this topic, and from that tenant's own events."""
        index = {topic: code for code, topic in enumerate(keys.topics.values)}
        homes = [self._homes.get(tenant or "") if tenant in owners else None for tenant in keys.tenants.values]
        expected = np.array([index.get(home, -2) if home else -2 for home in homes] + [-2])
        matches: NDArray[np.bool_] = expected[keys.tenants.codes] == keys.topics.codes
        return matches

    def _moved(self, keys: ScoreKeys, owners: frozenset[str]) -> NDArray[np.bool_]:
        """Return which scores are of a tenant that owns this topic, from an event topic that no tenant has now."""
        homes = set(self._homes.values())
        gone = np.array([topic is not None and topic not in homes for topic in keys.topics.values] + [False])
        own = np.array([tenant in owners for tenant in keys.tenants.values] + [False])
        found: NDArray[np.bool_] = gone[keys.topics.codes] & own[keys.tenants.codes]
        return found

    def _count_moved(self, output: str, topic: str, count: int) -> None:
        if count:
            self.moved.setdefault(output, Counter())[topic] += count

    def dead(self, block: Block, sources: frozenset[str]) -> None:
        """Keep the dead letters of a block; `sources` are the event topics whose dead letters belong into its topic."""
        found: dict[str, list[tuple[int, int, int, int]]] = {}
        homes = set(self._homes.values())
        unread: list[int] = []
        foreign: list[int] = []
        for row, headers in enumerate(block.headers()):
            source = _provenance(headers)
            if source is None:
                if not _is_receipt(headers):
                    unread.append(row)
            elif source[0] in sources:
                found.setdefault(source[0], []).append((row, *source[1:]))
            elif source[0] in homes:
                foreign.append(row)
            else:
                self._count_moved(block.topic, source[0], 1)
        self._stray("undecodable", block, np.array(unread, dtype=np.int64))
        self._stray("foreign", block, np.array(foreign, dtype=np.int64))
        written = np.array(block.timestamps(), dtype=np.int64)
        for topic, letters in found.items():
            if topic in self._kept:
                columns = (np.array(column, dtype=np.int64) for column in zip(*letters, strict=True))
                rows, partitions, offsets, stamps = columns
                place = self._place(block, rows)
                nothing = np.zeros(len(rows), dtype="S1"), np.full(len(rows), -1, dtype=np.int32)
                dead = np.ones(len(rows), dtype=bool)
                where = partitions.astype(np.int32), offsets, dead
                self._kept[topic].append(SeenAnswers(*where, *place, *nothing, written[rows], stamps))

    def answers(self, topic: str) -> SeenAnswers:
        """Return all answers to the events of `topic`."""
        empty = np.empty(0, np.int32)
        longs = np.empty(0, np.int64)
        flags, texts = np.empty(0, bool), np.empty(0, "S1")
        none = SeenAnswers(empty, longs, flags, empty, empty, longs, texts, empty, longs, longs)
        return joined(self._kept[topic], none)

    def code(self, output: str) -> int:
        """Return the code that an output topic has in `SeenAnswers`."""
        return self._outputs.code(output)

    def began(self, output: str, partition: int) -> int | None:
        """Return when the first record that was read of this partition was written; None: there was none."""
        return self._began.get((self.code(output), partition))

    def note_beginning(self, block: Block) -> None:
        """Remember when the first records of its partitions were written."""
        code = self.code(block.topic)
        for partition in sorted(set(block.partitions)):
            if (code, partition) not in self._began:
                first = block.messages[block.partitions.index(partition)]
                self._began[code, partition] = first.timestamp()[1]

    def _place(
        self, block: Block, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        output = np.full(len(rows), self._outputs.code(block.topic), dtype=np.int32)
        return output, np.array(block.partitions, dtype=np.int32)[rows], np.array(block.offsets, dtype=np.int64)[rows]

    def _stray(self, kind: str, block: Block, rows: NDArray[np.int64]) -> None:
        places = (f"{block.topic}[{block.partitions[row]}]@{block.offsets[row]}" for row in rows)
        self.strays.setdefault(block.topic, Tally()).add(kind, places, len(rows))


def _is(column: Categorical, value: str) -> NDArray[np.bool_]:
    matches = np.array([known == value for known in column.values] + [False])
    return matches[column.codes]


def _is_receipt(headers: Collection[tuple[str, bytes | None]]) -> bool:
    """Tell a receipt of `dlq replay` (docs/dead-letters.md): it answers nothing."""
    return ("muse.receipt", b"replay") in headers


def _provenance(headers: Iterable[tuple[str, bytes | None]]) -> tuple[str, int, int, int] | None:
    """Return the source topic, partition, offset and timestamp (-1: not said).

    A letter that was refused twice names the last place last.
    """
    named = {name: value or b"" for name, value in headers if name.startswith("muse.source.")}
    try:
        topic = named["muse.source.topic"].decode()
        place = int(named["muse.source.partition"]), int(named["muse.source.offset"])
        return topic, *place, int(named.get("muse.source.timestamp", b"-1"))
    except (KeyError, ValueError):
        return None
