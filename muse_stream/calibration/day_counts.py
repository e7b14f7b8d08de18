"""What is kept of one tenant's scores by one predictor content on one day (UTC), and which offsets it covers.

    sketch     of the aggregates, before the quantile map: what a map is fitted to
    maps       per quantile map that served: events and alerts per quarter of an hour, and per group of entities
    covered    per partition: every record of this tenant, content and day below that offset is in it, and no other

Invariant: a record is counted once, however often it is added: `add` leaves out what `covered` says is in already. So
whoever stores counts and offsets in one step may be stopped anywhere, and two who read the same partition do no harm.
Counts are integers, exact; only the sketch's ranks are estimates.

The stored form is at most LARGEST bytes, for any number of events up to 10^9: where it would be more, the maps that
served longest ago are let go.
"""

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace
from numpy.typing import NDArray

from muse_stream.calibration.piecewise_linear import Floats
from muse_stream.calibration.score_sketch import ScoreSketch, packed_words, unpacked_words

CELLS: Final = 96
"""Quarters of an hour in a day."""
GROUPS: Final = 128
"""Entities (cards, customers) are counted in so many groups: those of one entity are in one."""
MOST_MAPS: Final = 6
"""Maps of one day; of more, those that served longest ago are let go (the sketch keeps their events)."""
LARGEST: Final = 32_000
"""Bytes of the stored form; of several maps, those that served longest ago are let go to keep to it."""
MOST_BYTES: Final = 1 << 24
"""Of any part of it in memory: more is nothing that this module has written."""
_HEAD: Final = struct.Struct("<4sII")
_MAGIC: Final = b"MSC1"

Integers = NDArray[np.int64]


def counts_name(tenant: str, content: str, day: str) -> str:
    """Return the name that the counts of a day have in a store."""
    return f"counts~{tenant}~{content[:16]}~{day}"


class Arrivals(Struct, frozen=True, eq=False):
    """Records of one tenant, content and day, of one partition and one map; every array is [records], by offset."""

    place: str
    """The partition: topic, its id, number."""
    offsets: Integers
    aggregates: Floats
    """Before the map, in [0, 1]."""
    scores: Floats
    """As served."""
    cells: Integers
    """Quarter of an hour in which each was scored."""
    groups: Integers
    """Group of its entity."""
    map_id: str = ""
    """Of the quantile map that served; empty: none did."""
    thresholds: tuple[float, ...] = ()
    """At which alerts are counted."""

    def beyond(self, offset: int) -> "Arrivals":
        """Return those from an offset on."""
        if not len(self.offsets) or self.offsets[0] >= offset:
            return self
        rows = self.offsets >= offset
        return replace(
            self,
            offsets=self.offsets[rows],
            aggregates=self.aggregates[rows],
            scores=self.scores[rows],
            cells=self.cells[rows],
            groups=self.groups[rows],
        )


class MapCounts(Struct, eq=False):
    """What one quantile map has served on one day. Columns: events, then alerts at each threshold."""

    thresholds: tuple[float, ...]
    cells: Integers
    """[CELLS, 1 + thresholds]"""
    groups: Integers
    """[GROUPS, 1 + thresholds]"""

    @classmethod
    def empty(cls, thresholds: Sequence[float]) -> "MapCounts":
        """Return counts of nothing."""
        width = 1 + len(thresholds)
        return cls(
            tuple(thresholds), np.zeros((CELLS, width), dtype=np.int64), np.zeros((GROUPS, width), dtype=np.int64)
        )

    def add(self, arrived: Arrivals) -> None:
        """Count events and alerts."""
        columns = [np.ones(len(arrived.scores)), *(arrived.scores >= one for one in self.thresholds)]
        for at, column in enumerate(columns):
            self.cells[:, at] += np.bincount(arrived.cells, weights=column, minlength=CELLS).astype(np.int64)
            self.groups[:, at] += np.bincount(arrived.groups, weights=column, minlength=GROUPS).astype(np.int64)


class DayCounts(Struct, eq=False):
    """The counts of one day."""

    tenant: str
    content: str
    """Content hash of the predictor up to its map: `fitted_for` of a map that is fitted to these."""
    day: str
    """As 2026-11-26, UTC."""
    predictor: str = ""
    """Its name when it was counted last."""
    covered: dict[str, int] = field(default_factory=dict)
    maps: dict[str, MapCounts] = field(default_factory=dict)
    sketch: ScoreSketch = field(default_factory=ScoreSketch)

    FORMAT: ClassVar[int] = 2

    @property
    def name(self) -> str:
        """The name in a store."""
        return counts_name(self.tenant, self.content, self.day)

    @property
    def events(self) -> int:
        """How many are counted."""
        return self.sketch.events

    @property
    def groups(self) -> Integers:
        """[GROUPS] events of each group of entities, as far as maps served them."""
        return sum((one.groups[:, 0] for one in self.maps.values()), np.zeros(GROUPS, dtype=np.int64))

    def add(self, arrivals: Sequence[Arrivals]) -> int:
        """Count what is not in already; returns how many records that was.

        Of each partition the arrivals must go on from what was read before: `covered` rises to their last offset.
        """
        fresh = [one.beyond(self.covered.get(one.place, 0)) for one in arrivals]
        fresh = [one for one in fresh if len(one.offsets)]
        if not fresh:
            return 0
        self.sketch.add(np.concatenate([one.aggregates for one in fresh]))
        for one in fresh:
            if one.map_id:  # the one that has served last stands last
                served = self.maps.pop(one.map_id, None) or MapCounts.empty(one.thresholds)
                served.add(one)
                self.maps[one.map_id] = served
        for one in fresh:
            self.covered[one.place] = max(self.covered.get(one.place, 0), int(one.offsets[-1]) + 1)
        while len(self.maps) > MOST_MAPS:
            self.maps.pop(next(iter(self.maps)))
        return sum(len(one.offsets) for one in fresh)

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        sketch = self.sketch.to_bytes() if self.events else b""
        kept = list(self.maps)
        while len(data := self._packed(sketch, kept)) > LARGEST and len(kept) > 1:
            kept = kept[1:]
        return data

    def _packed(self, sketch: bytes, kept: Sequence[str]) -> bytes:
        tables = [table for name in kept for table in (self.maps[name].cells, self.maps[name].groups)]
        header = {
            "format": self.FORMAT,
            "tenant": self.tenant,
            "content": self.content,
            "day": self.day,
            "predictor": self.predictor,
            "events": self.events,
            "covered": self.covered,
            "maps": {name: list(self.maps[name].thresholds) for name in kept},
            "sketch": len(sketch),
        }
        text = zlib.compress(json.dumps(header, separators=(",", ":")).encode())
        # column by column: in each, numbers resemble those before them
        body = text + sketch + packed_words(b"".join(table.T.astype("<i4").tobytes() for table in tables))
        return _HEAD.pack(_MAGIC, zlib.crc32(body), len(text)) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> "DayCounts":
        """Read what `to_bytes` gave; raises ValueError for anything else."""
        try:
            magic, check, length = _HEAD.unpack_from(data)
            if magic != _MAGIC or check != zlib.crc32(data[_HEAD.size :]):  # the sketch's library trusts its bytes
                raise ValueError("not the bytes that were stored")
            text, rest = data[_HEAD.size : _HEAD.size + length], data[_HEAD.size + length :]
            if text[:1] != b"{":  # it was not deflated in the first format
                text = zlib.decompress(text)
            return cls._read(json.loads(text), rest)
        except (struct.error, KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
            raise ValueError(f"no counts of a day: {error}") from error

    @classmethod
    def _read(cls, header: Mapping[str, Any], rest: bytes) -> "DayCounts":
        first = header["format"] == 1
        if not first and header["format"] != cls.FORMAT:
            raise ValueError(f"format {header['format']!r}; this muse_stream reads formats up to {cls.FORMAT}")
        size = int(header["sketch"])
        packed, tables = (packed_words(rest[:size]) if first else rest[:size]), rest[size:]
        sketch = ScoreSketch.from_bytes(packed) if size else ScoreSketch()
        if sketch.events != header["events"]:
            raise ValueError(f"{header['events']} events, and the sketch has {sketch.events}")
        words = zlib.decompress(tables) if first else unpacked_words(tables, MOST_BYTES)
        numbers = np.frombuffer(words, dtype="<i4").astype(np.int64)
        maps, at = {}, 0
        for name, thresholds in header["maps"].items():
            width, found = 1 + len(thresholds), []
            for rows in (CELLS, GROUPS):
                part = numbers[at : at + rows * width]
                found.append(part.reshape(rows, width) if first else part.reshape(width, rows).T.copy())
                at += rows * width
            maps[name] = MapCounts(tuple(map(float, thresholds)), *found)
        covered = {str(place): int(offset) for place, offset in header["covered"].items()}
        tenant, content, day, predictor = (str(header[name]) for name in ("tenant", "content", "day", "predictor"))
        return cls(tenant, content, day, predictor, covered, maps, sketch)
