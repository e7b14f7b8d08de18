"""What a report is made of: score and audit records of tables that `audit` has written, gathered tenant by tenant.

Tables are read in parts. Of each predictor, and of each pair of a live and a shadow predictor, the latest events are
kept as arrays, `MOST` at the most; which events changed most is kept beside them.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muse_stream.errors import MuseError, SchemaError
from muse_stream.files import column_chunks, moments_of, read_columns

MOST: Final = 500_000
CHANGES: Final = 20
COLUMNS: Final = (
    *("record", "event_id", "tenant", "predictor", "predictor_version", "score", "aggregate", "live_predictor"),
    *("live_predictor_version", "live_score", "live_aggregate", "generation", "live_generation", "event_time", "key"),
)
Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Name = tuple[str, int]
"""A predictor and its version."""
Labels = Mapping[str, float]
"""Event id -> 0 or 1."""


class ReportError(MuseError):
    """No report can be made of this."""

    exit_code = 2


@dataclass(slots=True, eq=False)
class Kept:
    """Columns of some events, the latest `MOST` of all that were added."""

    names: Sequence[str]
    parts: list[dict[str, Any]] = field(default_factory=list)
    seen: int = 0

    def add(self, columns: Mapping[str, Any]) -> None:
        """Add events; `time` is among the columns."""
        self.parts.append({name: columns[name] for name in self.names})
        self.seen += len(columns["time"])
        if sum(len(part["time"]) for part in self.parts) > 2 * MOST:
            self._shrink()

    def columns(self) -> dict[str, Any]:
        """Return what is kept."""
        self._shrink()
        return self.parts[0] if self.parts else {name: np.empty(0) for name in self.names}

    def _shrink(self) -> None:
        joined = {name: np.concatenate([part[name] for part in self.parts]) for name in self.names if self.parts}
        if joined and len(joined["time"]) > MOST:
            latest = np.sort(np.argsort(joined["time"], kind="stable")[-MOST:])
            joined = {name: column[latest] for name, column in joined.items()}
        self.parts = [joined] if joined else []


SCORES: Final = ("time", "score", "aggregate", "group", "label", "generation")
PAIRS: Final = (
    "time",
    "live",
    "shadow",
    "live_aggregate",
    "aggregate",
    "group",
    "label",
    "generation",
    "live_generation",
)


@dataclass(slots=True, eq=False)
class PairRecords:
    """What two predictors said of the same events."""

    kept: Kept = field(default_factory=lambda: Kept(PAIRS))
    failed: int = 0
    generations: set[int] = field(default_factory=set)
    largest: list[tuple[float, str, int, float, float]] = field(default_factory=list)
    """Of the events that change sides: by how much the score changes, id, time, live and shadow score."""


@dataclass(slots=True, eq=False)
class TenantRecords:
    """What is known of one tenant."""

    scores: dict[Name, Kept] = field(default_factory=dict)
    pairs: dict[tuple[Name, Name], PairRecords] = field(default_factory=dict)
    """By live and shadow predictor."""
    generations: set[int] = field(default_factory=set)
    score_records: int = 0
    audit_records: int = 0


class Gathering:
    """Reads tables, one after the other."""

    def __init__(self, thresholds: Mapping[str, Sequence[float]], labels: Labels | None) -> None:
        """`thresholds`: of a tenant that is asked for, all that any of its predictors has."""
        self.tenants: dict[str, TenantRecords] = {}
        self.strangers: set[str] = set()
        """Tenants of the tables that are not asked for."""
        self.labelled: set[str] = set()
        """Ids with a label that were met."""
        self._thresholds, self._labels = thresholds, labels
        self._entities: dict[bytes, int] = {}
        self._alone = 0

    def read(self, path: Path) -> None:
        """Add a table. Raises ReportError for what is no such table, and for scores that are none."""
        first = 1
        for chunk in column_chunks(path, COLUMNS):
            count = len(chunk["tenant"])
            try:
                self._add(chunk)
            except (ReportError, SchemaError) as error:
                raise ReportError(f"{path}, rows {first:,} to {first + count - 1:,}: {error}") from None
            first += count

    def _add(self, chunk: Mapping[str, Any]) -> None:
        times, zoned = moments_of(chunk["event_time"])
        if zoned is False:
            raise ReportError("event_time has no time zone; `muse-stream audit` writes times in UTC")
        columns: dict[str, Any] = {"time": times, "group": self._groups(chunk["key"])}
        for name in ("record", "event_id", "tenant", "predictor", "live_predictor"):
            columns[name] = np.array(chunk[name].to_pylist(), dtype=object)
        for name in ("score", "aggregate", "live_score", "live_aggregate"):
            columns[name] = self._shares(chunk[name], name)
        for name in ("predictor_version", "live_predictor_version", "generation", "live_generation"):
            columns[name] = np.asarray(chunk[name].fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)
        columns["label"] = self._label(columns["event_id"])
        for tenant in dict.fromkeys(columns["tenant"].tolist()):
            if tenant not in self._thresholds:
                self.strangers.add(str(tenant))
                continue
            self._tenant(str(tenant), _rows(columns, columns["tenant"] == tenant))

    def _tenant(self, name: str, columns: dict[str, Any]) -> None:
        own = self.tenants.setdefault(name, TenantRecords())
        own.generations.update(np.unique(columns["generation"]).tolist())
        kinds = set(columns["record"].tolist())
        if kinds - {"score", "audit"}:
            raise ReportError(f"record is 'score' or 'audit', not {min(map(repr, kinds - {'score', 'audit'}))}")
        scores = _rows(columns, columns["record"] == "score")
        audit = _rows(columns, columns["record"] == "audit")
        own.score_records += len(scores["time"])
        own.audit_records += len(audit["time"])
        if np.isnan(scores["score"]).any():
            raise ReportError("a score record without a score")
        for predictor, some in _by_predictor(scores, "predictor"):
            own.scores.setdefault(predictor, Kept(SCORES)).add(some)
        for live, of_live in _by_predictor(audit, "live_predictor"):
            for shadow, some in _by_predictor(of_live, "predictor"):
                self._pair(own.pairs.setdefault((live, shadow), PairRecords()), some, self._thresholds[name])

    def _pair(self, pair: PairRecords, columns: dict[str, Any], thresholds: Sequence[float]) -> None:
        sound = ~(np.isnan(columns["score"]) | np.isnan(columns["live_score"]))
        pair.failed += int((~sound).sum())
        some = _rows(columns, sound)
        pair.generations.update(np.unique(some["live_generation"]).tolist())
        pair.kept.add({**some, "live": some["live_score"], "shadow": some["score"]})
        live, shadow = some["live_score"], some["score"]
        sides = [(live >= at) != (shadow >= at) for at in thresholds]
        changing = np.flatnonzero(np.any(sides, axis=0)) if sides else np.empty(0, dtype=np.int64)
        most = changing[np.argsort(-np.abs(live - shadow)[changing], kind="stable")[:CHANGES]]
        found = [
            (abs(float(live[row] - shadow[row])), str(some["event_id"][row]), int(some["time"][row]),
             float(live[row]), float(shadow[row]))
            for row in most.tolist()
        ]  # fmt: skip
        pair.largest = sorted([*pair.largest, *found], key=lambda one: (-one[0], one[1]))[:CHANGES]

    def _groups(self, keys: Any) -> Codes:
        """Return the entity of each event, as a code; one without a key is its own."""
        found = np.empty(len(keys), dtype=np.int64)
        for row, key in enumerate(keys.to_pylist()):
            if key is None:
                self._alone -= 1
                found[row] = self._alone
            else:
                digest = hashlib.blake2b(key if isinstance(key, bytes) else str(key).encode(), digest_size=7).digest()
                found[row] = int.from_bytes(digest, "big")
        return found

    @staticmethod
    def _shares(column: Any, name: str) -> Floats:
        values = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
        there = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
        wrong = np.flatnonzero(there & ~((values >= 0.0) & (values <= 1.0)))
        if len(wrong):
            raise ReportError(f"{name}: {values[wrong[0]]:g} is no score, a number in [0, 1]")
        return values

    def _label(self, ids: NDArray[np.object_]) -> Floats:
        if self._labels is None:
            return np.full(len(ids), np.nan)
        labels = self._labels
        found = np.array([labels.get(one, np.nan) for one in ids.tolist()], dtype=np.float64)
        self.labelled.update(ids[~np.isnan(found)].tolist())
        return found


def _rows(columns: Mapping[str, Any], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    return {name: column[chosen] for name, column in columns.items()}


def _by_predictor(columns: Mapping[str, Any], which: str) -> Iterator[tuple[Name, dict[str, Any]]]:
    versions = columns[f"{which}_version"]
    for name, version in dict.fromkeys(zip(columns[which].tolist(), versions.tolist(), strict=True)):
        yield (str(name), int(version)), _rows(columns, (columns[which] == name) & (versions == version))


def read_labels(path: Path, id_column: str, label_column: str) -> Labels:
    """Return event id -> label of a table: Parquet, CSV, JSON lines, Avro.

    Raises ReportError for labels that are not 0 or 1, of one class only, or two for one event.
    """
    numbers, held = read_columns(path, [id_column, label_column])
    found: dict[str, float] = {}
    for number, name, value in zip(numbers, held[id_column], held[label_column], strict=True):
        label = _flag(value)
        if name is None or label is None:
            wrong = f"label {value!r} is not 0 or 1" if name is not None else f"no id in column {id_column!r}"
            raise ReportError(f"{path}, row {number}: {wrong}")
        if found.setdefault(str(name), label) != label:
            raise ReportError(f"{path}, row {number}: event {str(name)[:60]!r} has another label in a row before")
    if len(set(found.values())) < 2:
        only = f"all {len(found):,} labels are {next(iter(found.values())):g}" if found else "there are no labels"
        raise ReportError(f"{path}: {only}; a calibration curve needs both 0 and 1")
    return found


def _flag(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number in (0.0, 1.0) else None
