"""Rows of scores, kept until they are stored with the offsets they cover (decision 0033).

`starts` says where partitions begin, from what is stored; `take` keeps what was read; `store_all` puts it into the
store: first the counts of each tenant, predictor content and day, then, for each topic, where reading goes on. Stopped
anywhere, a successor begins where that says, and counts nothing twice.
"""

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.calibration import Arrivals, DayCounts, counts_name
from muse_stream.control import Store
from muse_stream.errors import StoreError
from muse_stream.kafka import Bounds, TopicPartitionKey
from muse_stream.runtime.score_reader import KEPT_DAYS, Key, Rows
from muse_stream.telemetry import Log

ROUNDS = 50


@dataclass(slots=True)
class TopicOffsets:
    """Where reading of a topic goes on: everything below is counted. One record of the store for a group and topic."""

    incarnation: int = 0
    """A topic that is deleted and created again gets the next."""
    id: str = ""
    """Kafka's of the topic; empty where it was never told."""
    offsets: dict[int, int] = field(default_factory=dict)
    gaps: dict[str, int] = field(default_factory=dict)
    """Day -> offsets that retention had removed before they were read, when that was noticed."""
    owners: dict[int, str] = field(default_factory=dict)
    """Which process has taken up a partition last (docs/exactly-once.md, R17)."""

    @classmethod
    def read(cls, data: bytes | None) -> "TopicOffsets":
        """Read what `to_bytes` gave, of nothing that nothing was read; raises StoreError for anything else."""
        if data is None:
            return cls()
        try:
            found = json.loads(data)
            offsets = {int(partition): int(offset) for partition, offset in found["offsets"].items()}
            owners = {int(partition): str(owner) for partition, owner in found.get("owners", {}).items()}
            return cls(int(found["incarnation"]), str(found["id"]), offsets, dict(found["gaps"]), owners)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"a record of offsets is not what this store writes: {error}") from None

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        offsets = {str(partition): offset for partition, offset in sorted(self.offsets.items())}
        owners = {str(partition): owner for partition, owner in sorted(self.owners.items())}
        return json.dumps(
            {"incarnation": self.incarnation, "id": self.id, "offsets": offsets, "gaps": self.gaps, "owners": owners}
        ).encode()


def offsets_name(group: str, topic: str) -> str:
    """Return the name of that record."""
    return f"offsets~{group}~{topic}"


class ScoreCounter:
    """Keeps what was read, and stores it."""

    def __init__(
        self,
        store: Store,
        group: str,
        instance: str,
        keys: Sequence[Key],
        log: Log,
        failpoint: Callable[[str], None],
    ) -> None:
        self._store, self._group, self._instance, self._keys = store, group, instance, keys
        self._log, self._failpoint = log, failpoint
        self._rows: list[Rows] = []
        self._read: dict[TopicPartitionKey, int] = {}
        """Where reading goes on, of partitions that were read since the last time all was stored."""
        self._names: dict[TopicPartitionKey, str] = {}
        """How counts call a partition."""
        self._places: dict[TopicPartitionKey, int] = {}
        self.waiting = 0
        """Rows that are not stored yet."""
        self.counted = 0
        """Rows that this process has counted, and that are stored."""
        self.stored_at = time.time()

    def place(self, partition: TopicPartitionKey) -> int:
        """Return the number of a partition in `Rows.place`."""
        return self._places.setdefault(partition, len(self._places))

    def starts(
        self, bounds: Mapping[TopicPartitionKey, Bounds], ids: Mapping[str, str]
    ) -> dict[TopicPartitionKey, int]:
        """Return where partitions begin that the group has just given to this process, and note that it has them.

        Raises StoreError.
        """
        found = {}
        for topic in dict.fromkeys(topic for topic, _ in bounds):
            own = {partition: bound for (name, partition), bound in bounds.items() if name == topic}
            known = self._known(topic, own, ids.get(topic, ""))
            self.forget([(topic, partition) for partition in own])
            for partition, bound in own.items():
                place = topic, partition
                self._names[place] = f"{topic}#{known.incarnation}/{partition}"
                found[place] = min(max(known.offsets.get(partition, bound.low), bound.low), bound.high)
        return found

    def owners(self, topics: Iterable[str]) -> dict[TopicPartitionKey, str]:
        """Return which process has taken up each partition last, where one has. Raises StoreError."""
        found: dict[TopicPartitionKey, str] = {}
        for topic in topics:
            known = TopicOffsets.read(self._store.durable(offsets_name(self._group, topic)))
            found |= {(topic, partition): owner for partition, owner in known.owners.items()}
        return found

    def _known(self, topic: str, own: Mapping[int, Bounds], identity: str) -> TopicOffsets:
        """Return where reading of a topic goes on, and note that it is a new one, or what was removed unread."""

        def look(known: TopicOffsets) -> None:
            beyond = any(known.offsets.get(partition, 0) > bound.high for partition, bound in own.items())
            if known.id != identity if known.id and identity else beyond and not identity:
                known.incarnation, known.offsets, known.owners = known.incarnation + 1, {}, {}
                self._log.error("topic_created_again", topic=topic, incarnation=known.incarnation)
            known.id = identity or known.id
            known.owners |= dict.fromkeys(own, self._instance)
            for partition, bound in own.items():
                offset = known.offsets.get(partition)
                if offset is not None and offset < bound.low:
                    today = datetime.now(UTC).date().isoformat()
                    known.gaps[today] = known.gaps.get(today, 0) + bound.low - offset
                    known.offsets[partition] = bound.low
                    self._log.error(
                        "scores_removed_unread", topic=topic, partition=partition, offsets=bound.low - offset
                    )

        return self._change(topic, look)

    def _change(self, topic: str, change: Callable[[TopicOffsets], object]) -> TopicOffsets:
        name = offsets_name(self._group, topic)
        for _ in range(ROUNDS):
            data = self._store.durable(name)
            known = TopicOffsets.read(data)
            change(known)
            if known.to_bytes() == data or self._store.set_durable(name, known.to_bytes(), data):
                return known
        raise StoreError(f"{self._store}: {name} changes again and again")

    def take(self, rows: Rows, ends: Mapping[TopicPartitionKey, int]) -> None:
        """Keep what was read; `ends`: where reading of each of its partitions goes on."""
        self._rows.append(rows)
        self._read |= ends
        self.waiting += len(rows.offset)

    def forget(self, partitions: Collection[TopicPartitionKey]) -> None:
        """Drop what was read of partitions that are another's now: who has them reads it again."""
        gone = [self._places[one] for one in partitions if one in self._places]
        if gone:
            self._rows = [_some(rows, ~np.isin(rows.place, gone)) for rows in self._rows]
            self.waiting = sum(len(rows.offset) for rows in self._rows)
        for one in partitions:
            self._read.pop(one, None)
            self._names.pop(one, None)

    def store_all(self) -> int:
        """Store everything that was read, and return how many rows that were; raises StoreError, and keeps the rest."""
        rows = _joined(self._rows)
        self._rows = [rows] if rows is not None else []
        if rows is not None and len(rows.offset):
            names = {number: self._names[place] for place, number in self._places.items() if place in self._names}
            for name, arrivals in _by_name(rows, self._keys, names).items():
                self.counted += self._add(name, arrivals)
                self._failpoint("counts-stored")
        self._rows, self.waiting = [], 0
        by_topic: dict[str, dict[int, int]] = {}
        for (topic, partition), offset in self._read.items():
            by_topic.setdefault(topic, {})[partition] = offset
        for topic, ends in by_topic.items():
            self._rise(topic, ends)
            self._failpoint("offsets-stored")
            for partition in ends:
                del self._read[topic, partition]
        self.stored_at = time.time()
        return 0 if rows is None else len(rows.offset)

    def _rise(self, topic: str, ends: Mapping[int, int]) -> None:
        def rise(known: TopicOffsets) -> None:
            for partition, offset in ends.items():
                if self._names.get((topic, partition)) == f"{topic}#{known.incarnation}/{partition}":
                    known.offsets[partition] = max(known.offsets.get(partition, 0), offset)

        self._change(topic, rise)

    def _add(self, named: "Named", arrivals: Sequence[Arrivals]) -> int:
        name = counts_name(named.tenant, named.content, named.day)
        for _ in range(ROUNDS):
            data = self._store.durable(name)
            counts = DayCounts(named.tenant, named.content, named.day) if data is None else read_counts(name, data)
            counts.predictor = named.predictor
            fresh = counts.add(arrivals)
            if not fresh or self._store.set_durable(name, counts.to_bytes(), data):
                return fresh
        raise StoreError(f"{self._store}: {name} changes again and again")

    def sweep(self) -> int:
        """Remove the counts of days that are too old; return how many that were."""
        oldest = (datetime.now(UTC).date() - timedelta(days=KEPT_DAYS)).isoformat()
        removed = 0
        for name in self._store.durables("counts~"):
            if name.rpartition("~")[2] <= oldest:
                removed += self._store.set_durable(name, None, self._store.durable(name))
        return removed


@dataclass(frozen=True, slots=True)
class Named:
    """What has counts of its own in the store."""

    tenant: str
    predictor: str
    day: str
    content: str


def read_counts(name: str, data: bytes) -> DayCounts:
    """Return stored counts; raises StoreError for what is none."""
    try:
        return DayCounts.from_bytes(data)
    except ValueError as error:
        raise StoreError(f"{name}: {error}; remove it, and its days are counted no more") from None


def _joined(parts: Sequence[Rows]) -> Rows | None:
    if not parts:
        return None
    names = ("key", "place", "offset", "aggregate", "score", "cell", "group")
    return Rows(*(np.concatenate([getattr(one, name) for one in parts]) for name in names))


def _some(rows: Rows, wanted: NDArray[Any]) -> Rows:
    names = ("key", "place", "offset", "aggregate", "score", "cell", "group")
    return Rows(*(getattr(rows, name)[wanted] for name in names))


def _by_name(rows: Rows, keys: Sequence[Key], places: Mapping[int, str]) -> dict[Named, list[Arrivals]]:
    """Return what belongs to each stored record: by partition and map, in order of offsets."""
    order = np.lexsort((rows.offset, rows.place, rows.key))
    rows = _some(rows, order)
    cuts = np.flatnonzero((np.diff(rows.key) != 0) | (np.diff(rows.place) != 0)) + 1
    found: dict[Named, list[Arrivals]] = {}
    for start, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(rows.key)], strict=True):
        key, part = keys[int(rows.key[start])], slice(start, end)
        arrived = Arrivals(
            places[int(rows.place[start])], rows.offset[part], rows.aggregate[part], rows.score[part],
            rows.cell[part], rows.group[part], key.content.map_id, key.content.thresholds,
        )  # fmt: skip
        named = Named(key.tenant, key.predictor, key.day, key.content.content)
        found.setdefault(named, []).append(arrived)
    return found
