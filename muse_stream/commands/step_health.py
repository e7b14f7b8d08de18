"""Is the product well since a promotion began? Dead letters and latency, told from the topics.

    dead letters   the share of a tenant's events that became one, against the share before
    latency        from an event's time to its score, the median, against the median before

Both are read again from the moment at which the promotion began, so nothing need be remembered. What exactly counts
stands in docs/promotion.md.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muse_stream.avro import Decoder, Fields
from muse_stream.commands.live_pairs import LOOK_S, SETTLE_S, Following
from muse_stream.config import Document, KafkaSettings
from muse_stream.kafka import Block, Bounds, Reading, all_offsets_at, bounds, reader
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.worker import dead_letter

BEFORE_MS = 600_000
"""How long before the promotion began is compared with."""
FEWEST_LETTERS = 10
MORE_LETTERS = 0.001
"""Share of events beyond twice the share before."""
LATEST = 2_000
"""Scores of each partition that are looked at, each time and for the time before."""
FEWEST_SCORES = 50
SLOWER_MS = 100
"""Beyond twice the latency before."""
IN_A_ROW = 3
"""A look that finds the latency doubled may have met a swap or a rebalance; so many have not."""
Floats = NDArray[np.float64]
OLDEST_MS = 3_600_000
"""Events that are older than that when they are scored are sent again, or were made up: their age is no latency."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A reason to go back."""

    criterion: str
    """`alert rate`, `dead letters`, `latency`"""
    tenant: str
    message: str
    numbers: Mapping[str, object]


class DeadLetters:
    """Counts the dead letters of some tenants, before a generation and from it on."""

    def __init__(
        self, document: Document, settings: KafkaSettings, tenants: Sequence[str], since_ms: int, began_ms: int
    ) -> None:
        topics = dict.fromkeys(document.tenant_topics(name).dlq for name in tenants)
        self._own = {document.tenant_topics(name).dlq: name for name in tenants}
        self._following = Following(settings, list(topics), since_ms)
        self._began_ms = began_ms
        self.before, self.after = Counter[str](), Counter[str]()

    def close(self) -> None:
        """Let go of the connection."""
        self._following.close()

    def read(self, first: int) -> None:
        """Count what is new; `first` is the generation of the first step."""
        for block in self._following.blocks():
            for found, at in zip(block.headers(), block.timestamps(), strict=True):
                letter = dead_letter.divided(found)
                if letter is None:
                    continue
                tenant = letter[1].get("tenant", self._own[block.topic])
                generation = letter[1].get("generation", "")
                after = int(generation) >= first if generation.isdecimal() else at >= self._began_ms
                (self.after if after else self.before)[tenant] += 1

    def troubles(self, events: Mapping[str, int], events_before: Mapping[str, int]) -> Iterator[Trouble]:
        """Yield tenants whose dead letters have risen."""
        for tenant, count in self.after.items():
            share = count / (count + events.get(tenant, 0))
            was = self.before[tenant] / max(self.before[tenant] + events_before.get(tenant, 0), 1)
            if count >= FEWEST_LETTERS and share > 2 * was + MORE_LETTERS:
                shares = f"{100 * share:.2g} % of the events, {100 * was:.2g} % before"
                message = f"tenant {tenant}: {count:,} dead letters, {shares}"
                yield Trouble("dead letters", tenant, message, {"count": count, "share": share, "before": was})


class Latency:
    """Compares the time from event to score: before the promotion began, and now."""

    def __init__(self, document: Document, settings: KafkaSettings, tenants: Sequence[str], began_ms: int) -> None:
        self._topics = list(dict.fromkeys(document.tenant_topics(name).scores for name in tenants))
        schemas = output_schemas()
        columns = ("event_time", "scored_at", "generation")
        self._decoder = Decoder(schemas, schemas.by_file("score.avsc"), Fields("event_id", columns=columns))
        self._settings, self._began_ms = settings, began_ms
        self._following = Following(settings, self._topics, began_ms)
        self._doubled, self._asked = 0, False
        self.before: float | None = None
        """Median, in milliseconds; None: it cannot be told."""
        self.after: float | None = None

    def close(self) -> None:
        """Let go of the connection."""
        self._following.close()

    def read(self, first: int) -> None:
        """Look at the newest scores; `first` is the generation of the first step."""
        if not self._asked:
            self.before = _median(self._ages(self._latest_before(), lambda made: made < first))
            self._asked = True
        self.after = _median(self._ages(self._following.blocks(LATEST), lambda made: made >= first))
        if self.before is not None and self.after is not None:
            slower = self.after > 2 * self.before and self.after > self.before + SLOWER_MS
            self._doubled = self._doubled + 1 if slower else 0

    def troubles(self) -> Iterator[Trouble]:
        """Yield that it has doubled, and stayed so."""
        if self._doubled >= IN_A_ROW:
            message = f"latency: {self.after:,.0f} ms from event to score, {self.before:,.0f} ms before"
            yield Trouble("latency", "", message, {"median_ms": self.after, "before_ms": self.before})

    def _latest_before(self) -> Iterator[Block]:
        """Yield the last scores of each partition before the promotion began."""
        with closing(reader(self._settings)) as client:
            for topic in self._topics:
                held = bounds(client, topic)
                found = all_offsets_at(client, [(topic, one) for one in held], self._began_ms, LOOK_S) if held else {}
                ends = {p: found[topic, p] if found[topic, p] >= 0 else bound.high for p, bound in held.items()}
                before = {p: Bounds(max(held[p].low, end - LATEST), end) for p, end in ends.items()}
                yield from Reading(client, topic, {p: one for p, one in before.items() if one.low < one.high}, SETTLE_S)

    def _ages(self, blocks: Iterator[Block], wanted: Callable[[Floats], NDArray[np.bool_]]) -> Floats:
        parts: list[Floats] = []
        for block in blocks:
            columns = self._decoder.decode(block.values()).columns
            at, scored, made = (
                np.asarray(columns[name], dtype=np.float64) for name in ("event_time", "scored_at", "generation")
            )
            parts.append((scored - at)[wanted(made)])
        return np.concatenate([*parts, np.zeros(0)])


def _median(ages: Floats) -> float | None:
    fresh = ages[(ages >= 0) & (ages <= OLDEST_MS)]
    if len(fresh) < FEWEST_SCORES or len(fresh) < len(ages) / 2:
        return None
    return float(np.median(fresh))
