"""What two predictors say of the same events, as it comes in: the audit topics followed from a moment on.

One is live, or has a share of the live events; the other goes on as a shadow. `LivePairs.read` gives what is new of
each tenant, in arrays. Nothing is committed and no group is joined: whoever begins again at the same moment reads the
same.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muse_stream.commands.evidence import Pairs, Records
from muse_stream.config import Document, KafkaSettings, Replaced
from muse_stream.kafka import Block, Bounds, Reading, all_offsets_at, bounds, reader
from muse_stream.runtime.answer_reader import output_schemas

SETTLE_S = 2.0
LOOK_S = 15.0
BUCKETS = 1 << 16
"""Entities are told apart by a hash of their key, into so many: memory has an end, and a shared bucket only widens the
margin."""

Alike = Callable[[int], bool]
"""Do both predictors answer these tenants under this generation as they do now?"""


class Following:
    """Records of some topics, again and again, each once; from `since_ms` on."""

    def __init__(self, settings: KafkaSettings, topics: Sequence[str], since_ms: int) -> None:
        self._client = reader(settings)
        self._topics, self._since_ms = topics, since_ms
        self._next: dict[tuple[str, int], int] = {}

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Read again what was read in the block, where the block fails."""
        before = dict(self._next)
        try:
            yield
        except BaseException:
            self._next = before
            raise

    def blocks(self, latest: int | None = None) -> Iterator[Block]:
        """Yield what is new; of each partition `latest` at most, the newest. Raises the errors of Kafka."""
        for topic in self._topics:
            held = bounds(self._client, topic)
            self._begin(topic, held)
            ends: dict[int, Bounds] = {}
            for partition, bound in held.items():
                start = max(self._next[topic, partition], bound.low, 0 if latest is None else bound.high - latest)
                if start < bound.high:
                    ends[partition] = Bounds(start, bound.high)
            reading = Reading(self._client, topic, ends, SETTLE_S)
            for block in reading:
                self._next |= {(topic, p): o + 1 for p, o in zip(block.partitions, block.offsets, strict=True)}
                yield block
            self._next |= {(topic, p): bound.high for p, bound in ends.items() if p not in reading.unstable}

    def _begin(self, topic: str, held: Mapping[int, Bounds]) -> None:
        new = [(topic, partition) for partition in held if (topic, partition) not in self._next]
        if not new:
            return
        found = all_offsets_at(self._client, new, self._since_ms, LOOK_S)
        self._next |= {(topic, p): held[p].high if found[topic, p] < 0 else found[topic, p] for _, p in new}


@dataclass(frozen=True, slots=True)
class Scored:
    """New events of one tenant, in the order in which they were scored; every array is [events]."""

    new: NDArray[np.float64]
    """Scores of the predictor that is promoted; NaN where it failed."""
    old: NDArray[np.float64]
    entities: NDArray[np.int64]
    generation: NDArray[np.int64]

    def where(self, rows: NDArray[np.bool_]) -> "Scored":
        """Return some of them."""
        return Scored(self.new[rows], self.old[rows], self.entities[rows], self.generation[rows])

    def sound(self) -> "Scored":
        """Return those that both could score."""
        return self.where(~(np.isnan(self.new) | np.isnan(self.old)))


class LivePairs:
    """Follows the audit topics of some tenants."""

    def __init__(
        self,
        document: Document,
        settings: KafkaSettings,
        predictor: str,
        replaced: Sequence[Replaced],
        since_ms: int,
        alike: Alike,
    ) -> None:
        self.tenants = concerned(document, replaced)
        self._topics: dict[str, list[str]] = {}
        for tenant in self.tenants:
            self._topics.setdefault(document.tenant_topics(tenant).audit, []).append(tenant)
        self._following = Following(settings, list(self._topics), since_ms)
        self._predictor, self._replaced, self._alike = predictor, replaced, alike
        self._schemas, self._known, self._keyless = output_schemas(), dict[int, bool](), 0

    def close(self) -> None:
        """Let go of the connection."""
        self._following.close()

    def read(self) -> dict[str, Scored]:
        """Return what is new, by tenant. Raises the errors of Kafka, and of who is asked for `alike`."""
        kept = {tenant: Records() for tenant in self.tenants}
        pairs = Pairs(self._predictor, self._replaced, kept, self._schemas)
        with self._following.all_or_nothing():
            for block in self._following.blocks():
                pairs.add(block, self._topics[block.topic])
            return {tenant: found for tenant, one in kept.items() if (found := self._scored(one)) is not None}

    def _scored(self, records: Records) -> Scored | None:
        if not sum(map(len, records.at)):
            return None
        generation = np.concatenate(records.generation)
        for number in set(np.unique(generation).tolist()) - self._known.keys():
            self._known[number] = self._alike(number)
        order = np.argsort(np.concatenate(records.at), kind="stable")
        found = Scored(
            np.concatenate(records.candidate)[order],
            np.concatenate(records.live)[order],
            np.array([self._bucket(key) for key in records.keys], dtype=np.int64)[order],
            generation[order],
        )
        counts = [number for number, alike in self._known.items() if alike]
        return found.where(np.isin(found.generation, counts))

    def _bucket(self, key: bytes | None) -> int:
        if key is None:  # an event without a key is an entity of its own
            self._keyless += 1
            return self._keyless % BUCKETS
        return zlib.crc32(key) % BUCKETS


def concerned(document: Document, replaced: Sequence[Replaced]) -> list[str]:
    """Return the tenants whose routes a promotion replaces."""
    return [name for name in document.tenants if any(name in one.when.get("tenant", (name,)) for one in replaced)]
