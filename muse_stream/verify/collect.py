"""What the independent auditor keeps of the records it has seen: numbers, never payloads.

`EventLog` holds the events of one topic by partition, `AnswerLog` the answers of all output topics by the event topic
they name. A million events must fit and take a second, so everything is an array; a record is decoded, counted,
forgotten. A record in an output topic that cannot be decoded, or stands where it may not, is a finding at once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from muse_stream.kafka import Block, Bounds
from muse_stream.scoring import Categorical
from muse_stream.verify.audit import AuditKeys
from muse_stream.verify.compare import SeenAnswers, SeenEvents, Tally


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

    def events(self, bounds: Mapping[int, Bounds], ends: Mapping[int, int]) -> dict[int, SeenEvents]:
        """Return the events by partition, judged below `ends` where it names the partition."""
        partitions = np.concatenate([np.empty(0, np.int32), *self._partitions])
        order = np.argsort(partitions, kind="stable")
        offsets = np.concatenate([np.empty(0, np.int64), *self._offsets])[order]
        ids = np.concatenate([np.empty(0, "S1"), *self._ids])[order]
        tenants = np.concatenate([np.empty(0, np.int32), *self._tenants])[order]
        found: dict[int, SeenEvents] = {}
        for partition, bound in bounds.items():
            first, last = np.searchsorted(partitions[order], [partition, partition + 1])
            part = slice(int(first), int(last))
            end = min(bound.high, ends.get(partition, bound.high))
            found[partition] = SeenEvents(
                bound.low, end, offsets[part], ids[part], tenants[part] if self._shared else None
            )
        return found


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

    def scores(self, block: Block, keys: ScoreKeys, owners: frozenset[str]) -> None:
        """Keep the scores of a block; `owners` are the tenants whose scores belong into its topic."""
        unread = np.setdiff1d(np.arange(len(block.offsets)), keys.rows, assume_unique=True)
        self._stray("undecodable", block, unread)
        belongs = self._belongs(keys, owners)
        self._stray("foreign", block, keys.rows[~belongs])
        for topic, kept in self._kept.items():
            here = np.flatnonzero(belongs & _is(keys.topics, topic))
            if len(here):
                source = keys.partitions[here].astype(np.int32), keys.offsets[here], np.zeros(len(here), dtype=bool)
                place = self._place(block, keys.rows[here])
                kept.append(SeenAnswers(*source, *place, keys.ids[here], self._codes.column(keys.tenants)[here]))

    def _belongs(self, keys: ScoreKeys, owners: frozenset[str]) -> NDArray[np.bool_]:
        """Return which scores are of a tenant that owns this topic, and from that tenant's own events."""
        index = {topic: code for code, topic in enumerate(keys.topics.values)}
        homes = [self._homes.get(tenant or "") if tenant in owners else None for tenant in keys.tenants.values]
        expected = np.array([index.get(home, -2) if home else -2 for home in homes] + [-2])
        matches: NDArray[np.bool_] = expected[keys.tenants.codes] == keys.topics.codes
        return matches

    def dead(self, block: Block, sources: frozenset[str]) -> None:
        """Keep the dead letters of a block; `sources` are the event topics whose dead letters belong into its topic."""
        found: dict[str, list[tuple[int, int, int]]] = {}
        unread: list[int] = []
        foreign: list[int] = []
        for row, headers in enumerate(block.headers()):
            source = _provenance(headers)
            if source is None:
                unread.append(row)
            elif source[0] not in sources:
                foreign.append(row)
            else:
                found.setdefault(source[0], []).append((row, source[1], source[2]))
        self._stray("undecodable", block, np.array(unread, dtype=np.int64))
        self._stray("foreign", block, np.array(foreign, dtype=np.int64))
        for topic, letters in found.items():
            if topic in self._kept:
                rows, partitions, offsets = (np.array(column, dtype=np.int64) for column in zip(*letters, strict=True))
                place = self._place(block, rows)
                nothing = np.zeros(len(rows), dtype="S1"), np.full(len(rows), -1, dtype=np.int32)
                dead = np.ones(len(rows), dtype=bool)
                self._kept[topic].append(SeenAnswers(partitions.astype(np.int32), offsets, dead, *place, *nothing))

    def answers(self, topic: str) -> SeenAnswers:
        """Return all answers to the events of `topic`."""
        empty = np.empty(0, np.int32)
        longs = np.empty(0, np.int64)
        none = SeenAnswers(empty, longs, np.empty(0, bool), empty, empty, longs, np.empty(0, "S1"), empty)
        kept = [none, *self._kept[topic]]
        return SeenAnswers(*(np.concatenate([getattr(part, name) for part in kept]) for name in SeenAnswers.__slots__))

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


def _provenance(headers: Iterable[tuple[str, bytes | None]]) -> tuple[str, int, int] | None:
    """Return the source topic, partition and offset; a letter that was refused twice names the last place last."""
    named = {name: value for name, value in headers if name.startswith("muse.source.")}
    try:
        topic = (named["muse.source.topic"] or b"").decode()
        return topic, int(named["muse.source.partition"] or b""), int(named["muse.source.offset"] or b"")
    except (KeyError, ValueError):
        return None
