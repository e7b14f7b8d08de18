"""Which part of the topics is judged: all of it, or from a moment or an offset on.

`since_ms` bounds both sides: events that were sent, and answers that were written, from then on. `from_offset` says
where events begin, and leaves the answers to `since_ms`. Times are those of Kafka's records: an event's is what its
producer set, unless its topic has `message.timestamp.type=LogAppendTime`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from muse_stream.kafka import Bounds, Consumer, all_offsets_at
from muse_stream.verify.compare import SeenAnswers

LOOK_S = 15.0
EARLIER_MS = 300_000
"""By how much the clock of a worker may be behind that of a producer: answers are read from so much earlier on."""


@dataclass(frozen=True, slots=True)
class Span:
    """From where on events and answers count; from the beginning unless something else is said."""

    since_ms: int | None = None
    from_offset: int | Mapping[int, int] | None = None
    """Of all partitions, or by partition; one that is not named begins where `since_ms` says."""

    @property
    def bounded(self) -> bool:
        """Whether it leaves anything out."""
        return self.since_ms is not None or self.from_offset is not None

    def events(self, client: Consumer, topic: str, held: Mapping[int, Bounds]) -> dict[int, Bounds]:
        """Return what of an event topic is judged."""
        since = {} if self.since_ms is None else _from(client, topic, held, self.since_ms)
        return {
            partition: Bounds(max(bound.low, self._offset(partition, since.get(partition, 0))), bound.high)
            for partition, bound in held.items()
        }

    def answers(self, client: Consumer, topic: str, held: Mapping[int, Bounds]) -> dict[int, Bounds]:
        """Return what of an output topic is read."""
        if self.since_ms is None:
            return dict(held)
        since = _from(client, topic, held, self.since_ms - EARLIER_MS)
        return {
            partition: Bounds(min(max(bound.low, since.get(partition, 0)), bound.high), bound.high)
            for partition, bound in held.items()
        }

    def within(self, answers: SeenAnswers) -> SeenAnswers:
        """Return the answers that count: earlier ones only where their event has no other, as clocks differ."""
        if self.since_ms is None:
            return answers
        early = answers.written < self.since_ms
        places = answers.partition.astype(np.int64) << 48 | answers.offset
        return answers.rows(~(early & np.isin(places, places[~early])))

    def first_removed(self, partition: int, held: Bounds, span: Bounds, answers: SeenAnswers) -> int:
        """Return from which offset on removed events are looked for."""
        wanted = self._offset(partition, 0)
        if self.since_ms is None or wanted:
            return wanted
        if span.low > held.low:  # everything that was sent since then is there
            return held.low
        offsets = answers.offset[(answers.partition == partition) & (answers.written >= self.since_ms)]
        return int(offsets.min()) if len(offsets) else held.low

    def notes(self, topic: str, held: Mapping[int, Bounds], span: Mapping[int, Bounds]) -> list[str]:
        """Say what was left out."""
        left = {partition: bound.low for partition, bound in span.items() if bound.low > held[partition].low}
        if not left:
            return []
        places = ", ".join(f"{partition}: {offset}" for partition, offset in sorted(left.items()))
        notes = [f"{topic}: judged from these offsets on, partition by partition: {places}"]
        if self.since_ms is not None and all(bound.low >= bound.high for bound in span.values()):
            notes.append(
                f"{topic}: no event is stamped {_moment(self.since_ms)} or later, so none was judged. An event's stamp "
                "is what its producer set: where that is the time of an old transaction, use --from-offset"
            )
        return notes

    def _offset(self, partition: int, otherwise: int) -> int:
        if isinstance(self.from_offset, int):
            return self.from_offset
        return (self.from_offset or {}).get(partition, otherwise)


def _from(client: Consumer, topic: str, held: Mapping[int, Bounds], moment_ms: int) -> dict[int, int]:
    found = all_offsets_at(client, [(topic, partition) for partition in held], max(0, moment_ms), LOOK_S)
    return {
        partition: held[partition].high if offset < 0 else min(offset, held[partition].high)
        for (_topic, partition), offset in found.items()
    }


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
