"""Labelled history as chunks of one period each: times that rise, labels of 0 and 1, tenants that are known.

What is wrong in a file is a MuseError that names file, row (from 1) and column, and what would be right.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from muse_stream.errors import MuseError, SchemaError
from muse_stream.files.columns import column_chunks
from muse_stream.files.moments import DAY_MS, moments_of

CHUNK: Final = 100_000
Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class History:
    """What the columns of a file mean."""

    label: str
    time: str
    tenant: str
    period_ms: int
    allow_gaps: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Some rows of one period, of the tenants that were asked for."""

    period: int
    """From 0, counted from the midnight (UTC) before the first row."""
    columns: Mapping[str, Any]
    """As Arrow has them."""
    tenant: Codes
    """Place of each row's tenant among those asked for."""
    labels: NDArray[np.bool_]
    rows: Codes
    """Number of each in the file, from 1."""


class LabelledRows:
    """Reads a file once, from front to back."""

    def __init__(self, path: Path, question: History, known: Sequence[str], tenants: Sequence[str]) -> None:
        """`known` are all tenants of the configuration, `tenants` those to read."""
        self.path = path
        self.read = 0
        """Rows so far."""
        self.notes: list[str] = []
        self._question, self._known, self._tenants = question, frozenset(known), list(tenants)
        self._origin: int | None = None
        self._last: int | None = None
        self._zoned: bool | None = None

    def begins(self, period: int) -> int:
        """Return when a period begins, in milliseconds since 1970."""
        return (self._origin or 0) + period * self._question.period_ms

    def chunks(self, features: Sequence[str]) -> Iterator[Chunk]:
        """Yield the rows in order, with these columns beside those that are asked for. Raises MuseError."""
        asked = self._question
        wanted = [asked.label, asked.time, asked.tenant, *features]
        for columns in column_chunks(self.path, wanted, CHUNK, texts=[asked.time]):
            first = self.read + 1
            moments = self._moments(columns[asked.time], first)
            labels = self._labels(columns[asked.label], first)
            tenant = self._codes(columns[asked.tenant], first)
            if self._origin is None:
                self._origin = int(moments[0]) // DAY_MS * DAY_MS
            self._watch_gaps(moments)
            periods = (moments - self._origin) // asked.period_ms
            cuts = (np.flatnonzero(np.diff(periods)) + 1).tolist()
            for start, end in zip([0, *cuts], [*cuts, len(periods)], strict=True):
                self.read += end - start
                mine = np.flatnonzero(tenant[start:end] >= 0) + start
                if len(mine):
                    some = {name: column.take(pa.array(mine)) for name, column in columns.items()}
                    yield Chunk(int(periods[start]), some, tenant[mine], labels[mine], first + mine)

    def wrong(self, row: int, column: str, what: str) -> MuseError:
        """Return the error that says what is wrong with an entry of the file."""
        return MuseError(f"{self.path}, row {row}: {column} {what}")

    def _moments(self, column: pa.Array, first: int) -> NDArray[np.int64]:
        name = self._question.time
        try:
            moments, zoned = moments_of(column)
        except SchemaError as error:
            raise MuseError(f"{self.path}, rows from {first} on: {name}: {error}") from None
        if self._last is not None and zoned != self._zoned:
            said = "with a zone, and before without" if zoned else "without a zone, and before with one"
            raise self.wrong(first, name, f"is a time {said}: give all times one form")
        self._zoned = zoned
        before = moments[0] if self._last is None else self._last
        falls = np.flatnonzero(np.diff(np.concatenate([[before], moments])) < 0)
        if len(falls):
            raise self.wrong(first + int(falls[0]), name, "is earlier than the row before it: sort the file by time")
        return moments

    def _watch_gaps(self, moments: NDArray[np.int64]) -> None:
        times = moments if self._last is None else np.concatenate([[self._last], moments])
        self._last = int(moments[-1])
        steps = np.diff(times)
        if not len(steps) or int(steps.max()) <= self._question.period_ms // 2:
            return
        at = int(steps.argmax())
        said = f"no events between {moment(times[at])} and {moment(times[at + 1])}, more than half a period"
        if not self._question.allow_gaps:
            hint = "its window would hold a part of one; --allow-gaps takes it as it is"
            raise MuseError(f"{self.path}: {said}: {hint}")
        self.notes.append(said)

    def _labels(self, column: pa.Array, first: int) -> NDArray[np.bool_]:
        name, kind = self._question.label, column.type
        if column.null_count:
            raise self.wrong(first + _first(column.is_null()), name, "is null; a label is 0 or 1")
        if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise MuseError(f"{self.path}: {name} is a column of {kind}; a label is 0 or 1")
        labels = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
        wrong = np.flatnonzero((labels != 0.0) & (labels != 1.0))
        if len(wrong):
            raise self.wrong(first + int(wrong[0]), name, f"is {labels[wrong[0]]:g}; a label is 0 or 1")
        return np.asarray(labels == 1.0)

    def _codes(self, column: pa.Array, first: int) -> Codes:
        """Return each row's tenant as a number; -1: one that was not asked for."""
        name = self._question.tenant
        if column.null_count:
            raise self.wrong(first + _first(column.is_null()), name, "is null; every event has a tenant")
        texts = column.cast(pa.string())
        coded = texts.dictionary_encode()
        codes = []
        for tenant in coded.dictionary.to_pylist():
            if tenant not in self._known:
                some = ", ".join(sorted(self._known)[:20])
                what = f"is {tenant!r}, no tenant of the configuration; there is: {some}"
                raise self.wrong(first + _first(pc.equal(texts, tenant)), name, what)
            codes.append(self._tenants.index(tenant) if tenant in self._tenants else -1)
        return np.asarray(np.array(codes, dtype=np.int64)[coded.indices.to_numpy(zero_copy_only=False)])


def _first(mask: pa.Array) -> int:
    return int(pc.index(mask, pa.scalar(True)).as_py())


def moment(milliseconds: int) -> str:
    """Return a time as text."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).isoformat(timespec="seconds")
